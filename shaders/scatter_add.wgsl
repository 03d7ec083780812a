// result[r, :] = sum of values[p, :] over the positions p whose index is r, in increasing order of p: deterministic,
// without atomics. The chains first and next come from scatter_links.

alias F = vec4<f32>;
const W: u32 = 4u;
const WG: u32 = 64u;

struct Params {
    rows: u32,
    cols: u32,
    block: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> first: array<i32>;
@group(0) @binding(2) var<storage, read> next: array<i32>;
@group(0) @binding(3) var<storage, read> values: array<F>;
@group(0) @binding(4) var<storage, read_write> result: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: F) {
    result[(row * params.cols + col) / W] = value;
}

// ---- body
fn scatter_add_row(row: u32, lane: u32) {
    let chunks = params.cols / W;
    for (var i = lane; i < chunks; i += WG) {
        var sum = F(0.0);
        var at = first[row];
        while (at >= 0) {
            sum += values[u32(at) * chunks + i];
            at = next[at];
        }
        store(0u, row, i * W, sum);
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
        scatter_add_row(row, lane);
    }
}
