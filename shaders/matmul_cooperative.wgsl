// matmul_cooperative: written by src/kernels/matmul, kept here to be read; a test compares the two.

enable f16;
enable wgpu_cooperative_matrix;
alias F = vec4<f32>;
const W = 4u;
const WG = 128u;

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
@group(0) @binding(1) var<storage, read> a: array<vec4<f16>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f16>>;
@group(0) @binding(3) var<storage, read_write> c: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: F) {
    c[((batch * params.m + row) * params.n + col) / W] = value;
}

// ---- body
fn b_packed(i: u32) -> vec4<f32> {
    return vec4<f32>(b[i]);
}

fn a_packed(i: u32) -> vec4<f32> {
    return vec4<f32>(a[i]);
}

const AREA: u32 = 64u;
var<workgroup> tile_a: array<vec4<f16>, 640>;
var<workgroup> tile_b: array<vec4<f16>, 576>;
var<workgroup> tile_c: array<vec4<f32>, 256>;

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
    @builtin(subgroup_id) subgroup_index: u32,
) {
    let group = wid.x + wid.y * nwg.x;
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
    let subgroup = min(subgroup_index, 3u);
    let sub_m = subgroup / 2u * 32u;
    let sub_n = subgroup % 2u * 32u;
    let a_base = (params.a_offset + batch_outer * params.a_batch_outer + batch_inner * params.a_batch_inner) >> 2u;
    let a_stride = params.a_row >> 2u;
    let a_last = params.m - 1u;
    let b_base = (params.b_offset + batch_outer * params.b_batch_outer + batch_inner * params.b_batch_inner) >> 2u;
    let b_stride = params.b_row >> 2u;
    let b_last = (params.n >> 2u) - 1u;
    let k_end = params.k;
    for (var i = lane; i < 4u * AREA; i += WG) {
        tile_c[i] = vec4<f32>(0.0);
    }
    workgroupBarrier();
    var c0_0 = coopLoadT<coop_mat16x16<f32, C>>(&tile_c[subgroup * AREA], 4u);
    var c0_1 = coopLoadT<coop_mat16x16<f32, C>>(&tile_c[subgroup * AREA], 4u);
    var c1_0 = coopLoadT<coop_mat16x16<f32, C>>(&tile_c[subgroup * AREA], 4u);
    var c1_1 = coopLoadT<coop_mat16x16<f32, C>>(&tile_c[subgroup * AREA], 4u);
    for (var k0 = 0u; k0 < k_end; k0 += 32u) {
        for (var block = lane; block < 128u; block += WG) {
            let inner = block % 8u * 4u;
            let outer = block / 8u * 4u;
            let k = k0 + inner;
            let a0_at0 = a_base + min(row0 + outer + 0u, a_last) * a_stride;
            let a0_at1 = a_base + min(row0 + outer + 1u, a_last) * a_stride;
            let a0_at2 = a_base + min(row0 + outer + 2u, a_last) * a_stride;
            let a0_at3 = a_base + min(row0 + outer + 3u, a_last) * a_stride;
            let a_k0 = (k + 0u) >> 2u;
            let a0_0 = a_packed(a0_at0 + a_k0);
            let a0_1 = a_packed(a0_at1 + a_k0);
            let a0_2 = a_packed(a0_at2 + a_k0);
            let a0_3 = a_packed(a0_at3 + a_k0);
            tile_a[(outer + 0u) * 10u + inner / 4u] = vec4<f16>(a0_0);
            tile_a[(outer + 1u) * 10u + inner / 4u] = vec4<f16>(a0_1);
            tile_a[(outer + 2u) * 10u + inner / 4u] = vec4<f16>(a0_2);
            tile_a[(outer + 3u) * 10u + inner / 4u] = vec4<f16>(a0_3);
        }
        for (var block = lane; block < 128u; block += WG) {
            let inner = block % 16u * 4u;
            let outer = block / 16u * 4u;
            let k = k0 + outer;
            let b0_at = b_base + min((col0 + inner) >> 2u, b_last);
            let b_k0 = (k + 0u) * b_stride;
            let b_k1 = (k + 1u) * b_stride;
            let b_k2 = (k + 2u) * b_stride;
            let b_k3 = (k + 3u) * b_stride;
            let b0_0 = b_packed(b0_at + b_k0);
            let b0_1 = b_packed(b0_at + b_k1);
            let b0_2 = b_packed(b0_at + b_k2);
            let b0_3 = b_packed(b0_at + b_k3);
            tile_b[(outer + 0u) * 18u + inner / 4u] = vec4<f16>(b0_0);
            tile_b[(outer + 1u) * 18u + inner / 4u] = vec4<f16>(b0_1);
            tile_b[(outer + 2u) * 18u + inner / 4u] = vec4<f16>(b0_2);
            tile_b[(outer + 3u) * 18u + inner / 4u] = vec4<f16>(b0_3);
        }
        workgroupBarrier();
        for (var kk = 0u; kk < 32u; kk += 16u) {
            let a0 = coopLoadT<coop_mat16x16<f16, A>>(&tile_a[(sub_m + 0u) * 10u + (kk) / 4u], 10u);
            let a1 = coopLoadT<coop_mat16x16<f16, A>>(&tile_a[(sub_m + 16u) * 10u + (kk) / 4u], 10u);
            let b0 = coopLoadT<coop_mat16x16<f16, B>>(&tile_b[kk * 18u + (sub_n + 0u) / 4u], 18u);
            let b1 = coopLoadT<coop_mat16x16<f16, B>>(&tile_b[kk * 18u + (sub_n + 16u) / 4u], 18u);
            c0_0 = coopMultiplyAdd(a0, b0, c0_0);
            c0_1 = coopMultiplyAdd(a0, b1, c0_1);
            c1_0 = coopMultiplyAdd(a1, b0, c1_0);
            c1_1 = coopMultiplyAdd(a1, b1, c1_1);
        }
        workgroupBarrier();
    }
    coopStoreT(c0_0, &tile_c[subgroup * AREA], 4u);
    workgroupBarrier();
    for (var quad = lane; quad < 256u; quad += WG) {
        let owner = quad / 64u;
        store_quad(batch, row0 + owner / 2u * 32u + quad % 64u / 4u + 0u, col0 + owner % 2u * 32u + quad % 4u * 4u + 0u, tile_c[quad]);
    }
    workgroupBarrier();
    coopStoreT(c0_1, &tile_c[subgroup * AREA], 4u);
    workgroupBarrier();
    for (var quad = lane; quad < 256u; quad += WG) {
        let owner = quad / 64u;
        store_quad(batch, row0 + owner / 2u * 32u + quad % 64u / 4u + 0u, col0 + owner % 2u * 32u + quad % 4u * 4u + 16u, tile_c[quad]);
    }
    workgroupBarrier();
    coopStoreT(c1_0, &tile_c[subgroup * AREA], 4u);
    workgroupBarrier();
    for (var quad = lane; quad < 256u; quad += WG) {
        let owner = quad / 64u;
        store_quad(batch, row0 + owner / 2u * 32u + quad % 64u / 4u + 16u, col0 + owner % 2u * 32u + quad % 4u * 4u + 0u, tile_c[quad]);
    }
    workgroupBarrier();
    coopStoreT(c1_1, &tile_c[subgroup * AREA], 4u);
    workgroupBarrier();
    for (var quad = lane; quad < 256u; quad += WG) {
        let owner = quad / 64u;
        store_quad(batch, row0 + owner / 2u * 32u + quad % 64u / 4u + 16u, col0 + owner % 2u * 32u + quad % 4u * 4u + 16u, tile_c[quad]);
    }
    workgroupBarrier();
}
