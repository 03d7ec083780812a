// Copies vec4s, PER a lane: what the memory of an adapter can do.

const WG: u32 = 64u;
const PER: u32 = 8u;

struct Params {
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// ---- body
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (wid.x + wid.y * nwg.x) * WG * PER + lane;
    for (var i = 0u; i < PER; i++) {
        let at = first + i * WG;
        if (at < params.count) {
            y[at] = x[at];
        }
    }
}
