// Sum of squares of a run of elements: one partial sum a workgroup, in a fixed order.

// parts: reduce_workgroup
const WG: u32 = 64u;

struct Params {
    elements: u32,
    len: u32,
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
    let start = group * params.chunk;
    let end = min(params.len, start + params.chunk);
    var total = vec4<f32>(0.0);
    for (var i = start + lane; i < end; i += WG) {
        // The last vector may not be full.
        let inside = vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.elements);
        let v = select(vec4<f32>(0.0), x[i], inside);
        total += v * v;
    }
    let all = row_sum(total.x + total.y + total.z + total.w, lane);
    if (lane == 0u) {
        partials[params.base + group] = all;
    }
}
