// The sums of several tensors' partial sums: one workgroup a tensor, in a fixed order.
// Hook: `partials_of` gives, for a tensor, its first partial sum and how many it has.

// parts: reduce_workgroup
alias F = f32;
const WG: u32 = 64u;

struct Params {
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: F) {
    result[col] = value;
}

fn partials_of(index: u32) -> vec3<u32> {
    var row = vec3<u32>(0u, 1u, 0u);
    if (index >= 1u) { row = vec3<u32>(1u, 2u, 0u); }
    return row;
}

// ---- body
@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tensor = workgroup_index(wid, nwg);
    if (tensor >= params.groups) {
        return;
    }
    let own = partials_of(tensor);
    var total = 0.0;
    for (var i = lane; i < own.y; i += WG) {
        total += partials[own.x + i];
    }
    let all = row_sum(total, lane);
    if (lane == 0u) {
        store(0u, 0u, tensor, all);
    }
}
