// The index of the first largest element of each row.

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
@group(0) @binding(2) var<storage, read_write> index: array<i32>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

// ---- body
fn argmax_row(row: u32, lane: u32) {
    let chunks = params.cols / W;
    let first = row * chunks;
    var best = LOWEST;
    var best_at = 0u;
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            let v = x[first + i];
            let top = fmax(v);
            if (top > best) {
                best = top;
                best_at = i * W + ffind(v, top);
            }
        }
    }
    // The smallest index among the lanes that hold the largest value, by halves: f32 is exact to 24 bits only.
    let peak = row_max(best, lane);
    let high = f32(best_at >> 16u);
    let first_high = -row_max(select(LOWEST, -high, best == peak), lane);
    let low = f32(best_at & 0xffffu);
    let first_low = -row_max(select(LOWEST, -low, best == peak && high == first_high), lane);
    if (lane == 0u) {
        index[row] = i32((u32(first_high) << 16u) | u32(first_low));
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
        argmax_row(row, lane);
    }
}
