// Cross-entropy of logits [rows, classes] with class indices, gradient: dlogits = (softmax(x) - onehot(target)) * g.
// A target outside 0..classes gives 0.

// parts: wide4 reduce_workgroup
alias F = vec4<f32>;
const W: u32 = 4u;
const WG: u32 = 64u;
const STEPS: u32 = 2u;
const SLOTS: u32 = 2u;
const EXACT: u32 = 0u;

struct Params {
    rows: u32,
    cols: u32,
    block: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<F>;
@group(0) @binding(2) var<storage, read> targets: array<i32>;
@group(0) @binding(3) var<storage, read> g: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: F) {
    result[(row * params.cols + col) / W] = value;
}

// ---- body
// A lane's share of the row stays in registers between the sweeps if it is small; else it is read again.
const KEEP: bool = SLOTS >= STEPS;
var<private> kept: array<F, SLOTS>;

fn again(j: u32, at: u32) -> F {
    if (KEEP) {
        return kept[j];
    }
    return logits[at];
}

fn cross_entropy_grad_row(row: u32, lane: u32) {
    let chunks = params.cols / W;
    let first = row * chunks;
    var top = F(LOWEST);
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            let v = logits[first + i];
            if (KEEP) {
                kept[j] = v;
            }
            top = max(top, v);
        }
    }
    let peak = row_max(fmax(top), lane);
    var sum = F(0.0);
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            let e = exp(again(j, first + i) - peak);
            if (KEEP) {
                kept[j] = e;
            }
            sum += e;
        }
    }
    let total = row_sum(fsum(sum), lane);
    // A negative class becomes a large one: one comparison finds both kinds of ignored targets.
    let class_index = u32(targets[row]);
    let valid = class_index < params.cols;
    let weight = select(0.0, g[row], valid);
    let scale = weight / total;
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            var e = again(j, first + i);
            if (!KEEP) {
                e = exp(e - peak);
            }
            store(0u, row, i * W, select(F(0.0), e * scale - fhot(i * W, class_index) * weight, valid));
        }
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = workgroup_index(wid, nwg);
    if (group >= params.groups) {
        return;
    }
    let end = min(params.rows, (group + 1u) * params.block);
    for (var row = group * params.block; row < end; row++) {
        cross_entropy_grad_row(row, lane);
    }
}
