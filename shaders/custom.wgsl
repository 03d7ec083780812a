// A user's own operation: its text stands before this body and gives `element`, the value of
// output element i.

const WG: u32 = 64u;

struct Params {
    len: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: f32) {
    result[col] = value;
}

fn element(i: u32) -> f32 {
    return f32(i);
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
    let i = group * WG + lane;
    if (i < params.len) {
        store(0u, 0u, i, element(i));
    }
}
