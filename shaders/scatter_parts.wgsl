// The sums of the parts behind scatter_sorted, [parts, rows, cols], added up in order.

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
@group(0) @binding(1) var<storage, read> partials: array<E>;
@group(0) @binding(2) var<storage, read_write> result: array<E>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: E) {
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
    var sum = E(0);
    for (var part = 0u; part < params.parts; part++) {
        sum += partials[part * params.len + at];
    }
    store(0u, at / chunks, at % chunks * W, sum);
}
