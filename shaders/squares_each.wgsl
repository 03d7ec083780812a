// Sums of squares of several tensors of a run, each by itself: one partial sum a workgroup, in a fixed order.
// Hook: `tensor_of` gives, for a workgroup, the first workgroup, the first vector and the elements of its tensor.

// parts: reduce_workgroup
const WG: u32 = 64u;

struct Params {
    chunk: u32,
    base: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn tensor_of(index: u32) -> vec3<u32> {
    var row = vec3<u32>(0u, 0u, 6u);
    if (index >= 1u) { row = vec3<u32>(1u, 16u, 20000u); }
    return row;
}

// ---- body
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
    let tensor = tensor_of(group);
    let start = (group - tensor.x) * params.chunk;
    let end = min((tensor.z + 3u) / 4u, start + params.chunk);
    var total = vec4<f32>(0.0);
    for (var i = start + lane; i < end; i += WG) {
        // The last vector may not be full.
        let inside = vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(tensor.z);
        let v = select(vec4<f32>(0.0), x[tensor.y + i], inside);
        total += v * v;
    }
    let all = row_sum(total.x + total.y + total.z + total.w, lane);
    if (lane == 0u) {
        partials[params.base + group] = all;
    }
}
