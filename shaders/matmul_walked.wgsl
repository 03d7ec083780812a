// matmul_walked: written by src/kernels/matmul, kept here to be read; a test compares the two.

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
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: F) {
    c[((batch * params.m + row) * params.n + col) / W] = value;
}

// ---- body
fn b_x(i: u32) -> u32 {
    return (i / 14u) * 14u + i % 14u;
}

fn b_k(i: u32) -> u32 {
    return (i / 9u) * 196u + (i / 3u % 3u) * 14u + i % 3u;
}

fn b_x_along0(i: u32) -> u32 {
    return i / 14u + 4294967295u;
}

fn b_k_along0(i: u32) -> u32 {
    return i / 3u % 3u;
}

fn b_x_along1(i: u32) -> u32 {
    return i % 14u + 4294967295u;
}

fn b_k_along1(i: u32) -> u32 {
    return i % 3u;
}

fn b_load(at: u32, inside: bool) -> f32 {
    return select(0.0, b[select(0u, at, inside)], inside);
}

var<workgroup> tile_a: array<vec4<f32>, 144>;
var<workgroup> tile_b: array<vec4<f32>, 144>;

fn store_quad(batch: u32, row: u32, col: u32, value: vec4<f32>) {
    if (row < params.m) {
        if (col < params.n) {
            store(batch, row, col, value);
        }
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
    let tiles = params.tiles_m * params.tiles_n;
    let batch = group / tiles;
    let tile = group % tiles;
    let first = tile / (16u * params.tiles_n) * 16u;
    let within = tile % (16u * params.tiles_n);
    let band = min(16u, params.tiles_m - first);
    let row0 = (first + within % band) * 32u;
    let col0 = within / band * 32u;
    let batch_outer = batch / params.batch_inner;
    let batch_inner = batch % params.batch_inner;
    let quad_m = lane / 8u;
    let quad_n = lane % 8u;
    let a_base = (params.a_offset + batch_outer * params.a_batch_outer + batch_inner * params.a_batch_inner) >> 2u;
    let a_stride = params.a_row >> 2u;
    let a_last = params.m - 1u;
    let b_base = (params.b_offset + batch_outer * params.b_batch_outer + batch_inner * params.b_batch_inner);
    let b_stride = params.b_row;
    let b_last = params.n - 1u;
    let k_end = params.k;
    var c0_0 = vec4<f32>(0.0);
    var c1_0 = vec4<f32>(0.0);
    var c2_0 = vec4<f32>(0.0);
    var c3_0 = vec4<f32>(0.0);
    for (var k0 = 0u; k0 < k_end; k0 += 16u) {
        for (var block = lane; block < 32u; block += 64u) {
            let block_k = block % 4u * 4u;
            let block_x = block / 4u;
            let k = k0 + block_k;
            let a0_at0 = a_base + min(row0 + block_x * 4u + 0u, a_last) * a_stride;
            let a0_at1 = a_base + min(row0 + block_x * 4u + 1u, a_last) * a_stride;
            let a0_at2 = a_base + min(row0 + block_x * 4u + 2u, a_last) * a_stride;
            let a0_at3 = a_base + min(row0 + block_x * 4u + 3u, a_last) * a_stride;
            let a_k0 = (k + 0u) >> 2u;
            let a0_0 = a[a0_at0 + a_k0];
            let a0_1 = a[a0_at1 + a_k0];
            let a0_2 = a[a0_at2 + a_k0];
            let a0_3 = a[a0_at3 + a_k0];
            tile_a[(block_k + 0u) * 9u + block_x] = vec4<f32>(a0_0.x, a0_1.x, a0_2.x, a0_3.x);
            tile_a[(block_k + 1u) * 9u + block_x] = vec4<f32>(a0_0.y, a0_1.y, a0_2.y, a0_3.y);
            tile_a[(block_k + 2u) * 9u + block_x] = vec4<f32>(a0_0.z, a0_1.z, a0_2.z, a0_3.z);
            tile_a[(block_k + 3u) * 9u + block_x] = vec4<f32>(a0_0.w, a0_1.w, a0_2.w, a0_3.w);
        }
        for (var block = lane; block < 32u; block += 64u) {
            let block_k = block / 8u * 4u;
            let block_x = block % 8u;
            let k = k0 + block_k;
            let b0_at0 = b_base + b_x(min(col0 + block_x * 4u + 0u, b_last));
            let b0_at0_0 = b_x_along0(min(col0 + block_x * 4u + 0u, b_last));
            let b0_at0_1 = b_x_along1(min(col0 + block_x * 4u + 0u, b_last));
            let b0_at1 = b_base + b_x(min(col0 + block_x * 4u + 1u, b_last));
            let b0_at1_0 = b_x_along0(min(col0 + block_x * 4u + 1u, b_last));
            let b0_at1_1 = b_x_along1(min(col0 + block_x * 4u + 1u, b_last));
            let b0_at2 = b_base + b_x(min(col0 + block_x * 4u + 2u, b_last));
            let b0_at2_0 = b_x_along0(min(col0 + block_x * 4u + 2u, b_last));
            let b0_at2_1 = b_x_along1(min(col0 + block_x * 4u + 2u, b_last));
            let b0_at3 = b_base + b_x(min(col0 + block_x * 4u + 3u, b_last));
            let b0_at3_0 = b_x_along0(min(col0 + block_x * 4u + 3u, b_last));
            let b0_at3_1 = b_x_along1(min(col0 + block_x * 4u + 3u, b_last));
            let b_k0 = b_k((k + 0u));
            let b_k0_0 = b_k_along0((k + 0u));
            let b_k0_1 = b_k_along1((k + 0u));
            let b_k1 = b_k((k + 1u));
            let b_k1_0 = b_k_along0((k + 1u));
            let b_k1_1 = b_k_along1((k + 1u));
            let b_k2 = b_k((k + 2u));
            let b_k2_0 = b_k_along0((k + 2u));
            let b_k2_1 = b_k_along1((k + 2u));
            let b_k3 = b_k((k + 3u));
            let b_k3_0 = b_k_along0((k + 3u));
            let b_k3_1 = b_k_along1((k + 3u));
            let b0_0 = vec4<f32>(b_load(b0_at0 + b_k0, b0_at0_0 + b_k0_0 < 14u && b0_at0_1 + b_k0_1 < 14u), b_load(b0_at1 + b_k0, b0_at1_0 + b_k0_0 < 14u && b0_at1_1 + b_k0_1 < 14u), b_load(b0_at2 + b_k0, b0_at2_0 + b_k0_0 < 14u && b0_at2_1 + b_k0_1 < 14u), b_load(b0_at3 + b_k0, b0_at3_0 + b_k0_0 < 14u && b0_at3_1 + b_k0_1 < 14u));
            let b0_1 = vec4<f32>(b_load(b0_at0 + b_k1, b0_at0_0 + b_k1_0 < 14u && b0_at0_1 + b_k1_1 < 14u), b_load(b0_at1 + b_k1, b0_at1_0 + b_k1_0 < 14u && b0_at1_1 + b_k1_1 < 14u), b_load(b0_at2 + b_k1, b0_at2_0 + b_k1_0 < 14u && b0_at2_1 + b_k1_1 < 14u), b_load(b0_at3 + b_k1, b0_at3_0 + b_k1_0 < 14u && b0_at3_1 + b_k1_1 < 14u));
            let b0_2 = vec4<f32>(b_load(b0_at0 + b_k2, b0_at0_0 + b_k2_0 < 14u && b0_at0_1 + b_k2_1 < 14u), b_load(b0_at1 + b_k2, b0_at1_0 + b_k2_0 < 14u && b0_at1_1 + b_k2_1 < 14u), b_load(b0_at2 + b_k2, b0_at2_0 + b_k2_0 < 14u && b0_at2_1 + b_k2_1 < 14u), b_load(b0_at3 + b_k2, b0_at3_0 + b_k2_0 < 14u && b0_at3_1 + b_k2_1 < 14u));
            let b0_3 = vec4<f32>(b_load(b0_at0 + b_k3, b0_at0_0 + b_k3_0 < 14u && b0_at0_1 + b_k3_1 < 14u), b_load(b0_at1 + b_k3, b0_at1_0 + b_k3_0 < 14u && b0_at1_1 + b_k3_1 < 14u), b_load(b0_at2 + b_k3, b0_at2_0 + b_k3_0 < 14u && b0_at2_1 + b_k3_1 < 14u), b_load(b0_at3 + b_k3, b0_at3_0 + b_k3_0 < 14u && b0_at3_1 + b_k3_1 < 14u));
            tile_b[(block_k + 0u) * 9u + block_x] = b0_0;
            tile_b[(block_k + 1u) * 9u + block_x] = b0_1;
            tile_b[(block_k + 2u) * 9u + block_x] = b0_2;
            tile_b[(block_k + 3u) * 9u + block_x] = b0_3;
        }
        workgroupBarrier();
        for (var kk = 0u; kk < 16u; kk += 1u) {
            let a0 = tile_a[kk * 9u + quad_m + 0u];
            let b0 = tile_b[kk * 9u + quad_n + 0u];
            let y0_0 = b0;
            c0_0 += a0.x * y0_0;
            c1_0 += a0.y * y0_0;
            c2_0 += a0.z * y0_0;
            c3_0 += a0.w * y0_0;
        }
        workgroupBarrier();
    }
    store_quad(batch, row0 + (quad_m + 0u) * 4u + 0u, col0 + (quad_n + 0u) * 4u, c0_0);
    store_quad(batch, row0 + (quad_m + 0u) * 4u + 1u, col0 + (quad_n + 0u) * 4u, c1_0);
    store_quad(batch, row0 + (quad_m + 0u) * 4u + 2u, col0 + (quad_n + 0u) * 4u, c2_0);
    store_quad(batch, row0 + (quad_m + 0u) * 4u + 3u, col0 + (quad_n + 0u) * 4u, c3_0);
}
