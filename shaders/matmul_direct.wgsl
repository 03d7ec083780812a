// matmul_direct: written by src/kernels/matmul, kept here to be read; a test compares the two.

alias F = vec4<f32>;
const W = 4u;
const WG = 64u;

struct Params {
    m: u32,
    n: u32,
    k: u32,
    batch_outer: u32,
    batch_inner: u32,
    tiles_m: u32,
    tiles_n: u32,
    a_offset: u32,
    a_row: u32,
    a_col: u32,
    a_batch_outer: u32,
    a_batch_inner: u32,
    b_offset: u32,
    b_row: u32,
    b_col: u32,
    b_batch_outer: u32,
    b_batch_inner: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> c: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: F) {
    c[((batch * params.m + row) * params.n + col) / W] = value;
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
    let cols = params.n / W;
    let index = group * WG + lane;
    let batch = index / (cols * params.m);
    if (batch >= params.batch_outer * params.batch_inner) {
        return;
    }
    let row = index / cols % params.m;
    let col = index % cols * W;
    let batch_outer = batch / params.batch_inner;
    let batch_inner = batch % params.batch_inner;
    let a_base = params.a_offset + batch_outer * params.a_batch_outer + batch_inner * params.a_batch_inner;
    let b_base = params.b_offset + batch_outer * params.b_batch_outer + batch_inner * params.b_batch_inner;
    let a_at = a_base + row * params.a_row;
    let b_at = b_base + col * params.b_col;
    let k_end = params.k;
    var sum = F(0.0);
    for (var k = 0u; k < k_end; k += 1u) {
        let b_value = b[(b_at + k * params.b_row) >> 2u];
        sum += a[a_at + k * params.a_col] * b_value;
    }
    store(batch, row, col, sum);
}
