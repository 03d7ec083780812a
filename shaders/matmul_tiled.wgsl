// matmul_tiled: written by src/kernels/matmul, kept here to be read; a test compares the two.

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
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> c: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: F) {
    c[((batch * params.m + row) * params.n + col) / W] = value;
}

// ---- body
var<workgroup> tile_a: array<vec4<f32>, 272>;
var<workgroup> tile_b: array<vec4<f32>, 272>;

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
    let row0 = (first + within % band) * 64u;
    let col0 = within / band * 64u;
    let batch_outer = batch / params.batch_inner;
    let batch_inner = batch % params.batch_inner;
    let quad_m = lane / 8u;
    let quad_n = lane % 8u;
    let a_base = (params.a_offset + batch_outer * params.a_batch_outer + batch_inner * params.a_batch_inner) >> 2u;
    let a_stride = params.a_row >> 2u;
    let a_last = params.m - 1u;
    let b_base = (params.b_offset + batch_outer * params.b_batch_outer + batch_inner * params.b_batch_inner) >> 2u;
    let b_stride = params.b_row >> 2u;
    let b_last = (params.n >> 2u) - 1u;
    let k_end = params.k;
    var c0_0 = vec4<f32>(0.0);
    var c1_0 = vec4<f32>(0.0);
    var c2_0 = vec4<f32>(0.0);
    var c3_0 = vec4<f32>(0.0);
    var c4_0 = vec4<f32>(0.0);
    var c5_0 = vec4<f32>(0.0);
    var c6_0 = vec4<f32>(0.0);
    var c7_0 = vec4<f32>(0.0);
    var c0_1 = vec4<f32>(0.0);
    var c1_1 = vec4<f32>(0.0);
    var c2_1 = vec4<f32>(0.0);
    var c3_1 = vec4<f32>(0.0);
    var c4_1 = vec4<f32>(0.0);
    var c5_1 = vec4<f32>(0.0);
    var c6_1 = vec4<f32>(0.0);
    var c7_1 = vec4<f32>(0.0);
    for (var k0 = 0u; k0 < k_end; k0 += 16u) {
        for (var block = lane; block < 64u; block += 64u) {
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
            tile_a[(block_k + 0u) * 17u + block_x] = vec4<f32>(a0_0.x, a0_1.x, a0_2.x, a0_3.x);
            tile_a[(block_k + 1u) * 17u + block_x] = vec4<f32>(a0_0.y, a0_1.y, a0_2.y, a0_3.y);
            tile_a[(block_k + 2u) * 17u + block_x] = vec4<f32>(a0_0.z, a0_1.z, a0_2.z, a0_3.z);
            tile_a[(block_k + 3u) * 17u + block_x] = vec4<f32>(a0_0.w, a0_1.w, a0_2.w, a0_3.w);
        }
        for (var block = lane; block < 64u; block += 64u) {
            let block_k = block / 16u * 4u;
            let block_x = block % 16u;
            let k = k0 + block_k;
            let b0_at = b_base + min((col0 + block_x * 4u) >> 2u, b_last);
            let b_k0 = (k + 0u) * b_stride;
            let b_k1 = (k + 1u) * b_stride;
            let b_k2 = (k + 2u) * b_stride;
            let b_k3 = (k + 3u) * b_stride;
            let b0_0 = b[b0_at + b_k0];
            let b0_1 = b[b0_at + b_k1];
            let b0_2 = b[b0_at + b_k2];
            let b0_3 = b[b0_at + b_k3];
            tile_b[(block_k + 0u) * 17u + block_x] = b0_0;
            tile_b[(block_k + 1u) * 17u + block_x] = b0_1;
            tile_b[(block_k + 2u) * 17u + block_x] = b0_2;
            tile_b[(block_k + 3u) * 17u + block_x] = b0_3;
        }
        workgroupBarrier();
        for (var kk = 0u; kk < 16u; kk += 1u) {
            let a0 = tile_a[kk * 17u + quad_m + 0u];
            let a1 = tile_a[kk * 17u + quad_m + 8u];
            let b0 = tile_b[kk * 17u + quad_n + 0u];
            let b1 = tile_b[kk * 17u + quad_n + 8u];
            let y0_0 = b0;
            c0_0 += a0.x * y0_0;
            c1_0 += a0.y * y0_0;
            c2_0 += a0.z * y0_0;
            c3_0 += a0.w * y0_0;
            c4_0 += a1.x * y0_0;
            c5_0 += a1.y * y0_0;
            c6_0 += a1.z * y0_0;
            c7_0 += a1.w * y0_0;
            let y1_0 = b1;
            c0_1 += a0.x * y1_0;
            c1_1 += a0.y * y1_0;
            c2_1 += a0.z * y1_0;
            c3_1 += a0.w * y1_0;
            c4_1 += a1.x * y1_0;
            c5_1 += a1.y * y1_0;
            c6_1 += a1.z * y1_0;
            c7_1 += a1.w * y1_0;
        }
        workgroupBarrier();
    }
    store_quad(batch, row0 + (quad_m + 0u) * 4u + 0u, col0 + (quad_n + 0u) * 4u, c0_0);
    store_quad(batch, row0 + (quad_m + 0u) * 4u + 1u, col0 + (quad_n + 0u) * 4u, c1_0);
    store_quad(batch, row0 + (quad_m + 0u) * 4u + 2u, col0 + (quad_n + 0u) * 4u, c2_0);
    store_quad(batch, row0 + (quad_m + 0u) * 4u + 3u, col0 + (quad_n + 0u) * 4u, c3_0);
    store_quad(batch, row0 + (quad_m + 8u) * 4u + 0u, col0 + (quad_n + 0u) * 4u, c4_0);
    store_quad(batch, row0 + (quad_m + 8u) * 4u + 1u, col0 + (quad_n + 0u) * 4u, c5_0);
    store_quad(batch, row0 + (quad_m + 8u) * 4u + 2u, col0 + (quad_n + 0u) * 4u, c6_0);
    store_quad(batch, row0 + (quad_m + 8u) * 4u + 3u, col0 + (quad_n + 0u) * 4u, c7_0);
    store_quad(batch, row0 + (quad_m + 0u) * 4u + 0u, col0 + (quad_n + 8u) * 4u, c0_1);
    store_quad(batch, row0 + (quad_m + 0u) * 4u + 1u, col0 + (quad_n + 8u) * 4u, c1_1);
    store_quad(batch, row0 + (quad_m + 0u) * 4u + 2u, col0 + (quad_n + 8u) * 4u, c2_1);
    store_quad(batch, row0 + (quad_m + 0u) * 4u + 3u, col0 + (quad_n + 8u) * 4u, c3_1);
    store_quad(batch, row0 + (quad_m + 8u) * 4u + 0u, col0 + (quad_n + 8u) * 4u, c4_1);
    store_quad(batch, row0 + (quad_m + 8u) * 4u + 1u, col0 + (quad_n + 8u) * 4u, c5_1);
    store_quad(batch, row0 + (quad_m + 8u) * 4u + 2u, col0 + (quad_n + 8u) * 4u, c6_1);
    store_quad(batch, row0 + (quad_m + 8u) * 4u + 3u, col0 + (quad_n + 8u) * 4u, c7_1);
}
