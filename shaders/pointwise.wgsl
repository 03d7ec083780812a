// Fused elementwise code: each invocation computes W consecutive elements of a grid.
// The host replaces the prelude and splices the fused operations into `element`.

alias F = vec4<f32>;
const W: u32 = 4u;
const WG: u32 = 256u;

struct Params {
    len: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<F>;
@group(0) @binding(2) var<storage, read_write> result: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn element(e: u32) {
    result[e / W] = source[e / W];
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
    let e = (group * WG + lane) * W;
    if (e < params.len) {
        element(e);
    }
}
