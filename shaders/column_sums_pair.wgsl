// Adds up partials [2, blocks, cols] over the blocks: the first half to dgain, the second to dbias.

alias F = vec4<f32>;
const W: u32 = 4u;
const WG: u32 = 64u;

struct Params {
    cols: u32,
    blocks: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<F>;
@group(0) @binding(2) var<storage, read_write> dgain: array<F>;
@group(0) @binding(3) var<storage, read_write> dbias: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

// ---- body
// The sum of one column chunk over the blocks of one half, four chains side by side, in a fixed order.
fn column_sum(which: u32, i: u32) -> F {
    let chunks = params.cols / W;
    let first = which * params.blocks * chunks + i;
    var a = F(0.0);
    var b = F(0.0);
    var c = F(0.0);
    var d = F(0.0);
    let whole = params.blocks / 4u * 4u;
    for (var block = 0u; block < whole; block += 4u) {
        let at = first + block * chunks;
        a += partials[at];
        b += partials[at + chunks];
        c += partials[at + 2u * chunks];
        d += partials[at + 3u * chunks];
    }
    for (var block = whole; block < params.blocks; block++) {
        a += partials[first + block * chunks];
    }
    return (a + b) + (c + d);
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
    let i = group * WG + lane;
    if (i < params.cols / W) {
        dgain[i] = column_sum(0u, i);
        dbias[i] = column_sum(1u, i);
    }
}
