// result[r, :] = sum of values[p, :] over the positions p whose index is r, in increasing order of p: deterministic,
// without atomics. order and starts come from argsort and scatter_bounds. Where there is little to do side by side, the
// positions of a row are cut into parts, whose sums scatter_parts adds up.
// Hook: `put` takes the sum of a part.

alias F = vec4<f32>;
alias E = F;
const W: u32 = 4u;
const WG: u32 = 64u;

struct Params {
    rows: u32,
    cols: u32,
    parts: u32,
    len: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read> order: array<i32>;
@group(0) @binding(3) var<storage, read> values: array<E>;
@group(0) @binding(4) var<storage, read_write> result: array<E>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn put(part: u32, row: u32, col: u32, value: E) {
    result[(row * params.cols + col) / W] = value;
}

// ---- body
@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = workgroup_index(wid, nwg) * WG + lane;
    if (at >= params.len) {
        return;
    }
    let chunks = params.cols / W;
    let col = at % chunks;
    let row = at / chunks % params.rows;
    let part = at / chunks / params.rows;
    let start = starts[row];
    let share = (starts[row + 1u] - start + params.parts - 1u) / params.parts;
    let end = min(starts[row + 1u], start + (part + 1u) * share);
    var i = start + part * share;
    var sum = E(0);
    // Four loads under way at a time, added in order.
    for (; i + 4u <= end; i += 4u) {
        let a = values[u32(order[i]) * chunks + col];
        let b = values[u32(order[i + 1u]) * chunks + col];
        let c = values[u32(order[i + 2u]) * chunks + col];
        let d = values[u32(order[i + 3u]) * chunks + col];
        sum = (((sum + a) + b) + c) + d;
    }
    for (; i < end; i++) {
        sum += values[u32(order[i]) * chunks + col];
    }
    put(part, row, col * W, sum);
}
