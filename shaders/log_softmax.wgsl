// log_softmax over the last axis: x - max - log(sum(exp(x - max))).
// One workgroup takes `block` rows, one after the other; lane l holds columns l, l + WG, ... (in units of W).

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
@group(0) @binding(1) var<storage, read> x: array<F>;
@group(0) @binding(2) var<storage, read_write> result: array<F>;

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
    return x[at];
}

fn log_softmax_row(row: u32, lane: u32) {
    let chunks = params.cols / W;
    let first = row * chunks;
    var top = F(LOWEST);
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            let v = x[first + i];
            if (KEEP) {
                kept[j] = v;
            }
            top = max(top, v);
        }
    }
    let peak = row_max(fmax(top), lane);
    var total = F(0.0);
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            total += exp(again(j, first + i) - peak);
        }
    }
    let shift = peak + log(row_sum(fsum(total), lane));
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            store(0u, row, i * W, again(j, first + i) - shift);
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
        log_softmax_row(row, lane);
    }
}
