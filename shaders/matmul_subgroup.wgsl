// matmul_subgroup: written by src/kernels/matmul, kept here to be read; a test compares the two.

alias F = vec4<f32>;
const W = 4u;
const WG = 8u;

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
    @builtin(subgroup_invocation_id) lane: u32,
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
    let col_q0 = col0 + (lane + 0u) * 4u;
    let a_base = (params.a_offset + batch_outer * params.a_batch_outer + batch_inner * params.a_batch_inner) >> 2u;
    let a_stride = params.a_row >> 2u;
    let a_last = params.m - 1u;
    let b_base = (params.b_offset + batch_outer * params.b_batch_outer + batch_inner * params.b_batch_inner) >> 2u;
    let b_stride = params.b_row >> 2u;
    let b_last = (params.n >> 2u) - 1u;
    let v0 = min(lane + 0u, 31u);
    let v0_at = a_base + min(row0 + v0, a_last) * a_stride;
    let v1 = min(lane + 8u, 31u);
    let v1_at = a_base + min(row0 + v1, a_last) * a_stride;
    let v2 = min(lane + 16u, 31u);
    let v2_at = a_base + min(row0 + v2, a_last) * a_stride;
    let v3 = min(lane + 24u, 31u);
    let v3_at = a_base + min(row0 + v3, a_last) * a_stride;
    let b0_at = b_base + min((col_q0) >> 2u, b_last);
    let k_end = select(params.k, 0u, arrayLength(&a) == 0u);
    var c0_0 = vec4<f32>(0.0);
    var c1_0 = vec4<f32>(0.0);
    var c2_0 = vec4<f32>(0.0);
    var c3_0 = vec4<f32>(0.0);
    var c4_0 = vec4<f32>(0.0);
    var c5_0 = vec4<f32>(0.0);
    var c6_0 = vec4<f32>(0.0);
    var c7_0 = vec4<f32>(0.0);
    var c8_0 = vec4<f32>(0.0);
    var c9_0 = vec4<f32>(0.0);
    var c10_0 = vec4<f32>(0.0);
    var c11_0 = vec4<f32>(0.0);
    var c12_0 = vec4<f32>(0.0);
    var c13_0 = vec4<f32>(0.0);
    var c14_0 = vec4<f32>(0.0);
    var c15_0 = vec4<f32>(0.0);
    var c16_0 = vec4<f32>(0.0);
    var c17_0 = vec4<f32>(0.0);
    var c18_0 = vec4<f32>(0.0);
    var c19_0 = vec4<f32>(0.0);
    var c20_0 = vec4<f32>(0.0);
    var c21_0 = vec4<f32>(0.0);
    var c22_0 = vec4<f32>(0.0);
    var c23_0 = vec4<f32>(0.0);
    var c24_0 = vec4<f32>(0.0);
    var c25_0 = vec4<f32>(0.0);
    var c26_0 = vec4<f32>(0.0);
    var c27_0 = vec4<f32>(0.0);
    var c28_0 = vec4<f32>(0.0);
    var c29_0 = vec4<f32>(0.0);
    var c30_0 = vec4<f32>(0.0);
    var c31_0 = vec4<f32>(0.0);
    for (var k = 0u; k < k_end; k += 4u) {
        let b_k0 = (k + 0u) * b_stride;
        let b_k1 = (k + 1u) * b_stride;
        let b_k2 = (k + 2u) * b_stride;
        let b_k3 = (k + 3u) * b_stride;
        let a_k0 = (k + 0u) >> 2u;
        let a0 = a[v0_at + a_k0];
        let a1 = a[v1_at + a_k0];
        let a2 = a[v2_at + a_k0];
        let a3 = a[v3_at + a_k0];
        let r0 = subgroupBroadcast(a0, 0u);
        let r1 = subgroupBroadcast(a0, 1u);
        let r2 = subgroupBroadcast(a0, 2u);
        let r3 = subgroupBroadcast(a0, 3u);
        let r4 = subgroupBroadcast(a0, 4u);
        let r5 = subgroupBroadcast(a0, 5u);
        let r6 = subgroupBroadcast(a0, 6u);
        let r7 = subgroupBroadcast(a0, 7u);
        let r8 = subgroupBroadcast(a1, 0u);
        let r9 = subgroupBroadcast(a1, 1u);
        let r10 = subgroupBroadcast(a1, 2u);
        let r11 = subgroupBroadcast(a1, 3u);
        let r12 = subgroupBroadcast(a1, 4u);
        let r13 = subgroupBroadcast(a1, 5u);
        let r14 = subgroupBroadcast(a1, 6u);
        let r15 = subgroupBroadcast(a1, 7u);
        let r16 = subgroupBroadcast(a2, 0u);
        let r17 = subgroupBroadcast(a2, 1u);
        let r18 = subgroupBroadcast(a2, 2u);
        let r19 = subgroupBroadcast(a2, 3u);
        let r20 = subgroupBroadcast(a2, 4u);
        let r21 = subgroupBroadcast(a2, 5u);
        let r22 = subgroupBroadcast(a2, 6u);
        let r23 = subgroupBroadcast(a2, 7u);
        let r24 = subgroupBroadcast(a3, 0u);
        let r25 = subgroupBroadcast(a3, 1u);
        let r26 = subgroupBroadcast(a3, 2u);
        let r27 = subgroupBroadcast(a3, 3u);
        let r28 = subgroupBroadcast(a3, 4u);
        let r29 = subgroupBroadcast(a3, 5u);
        let r30 = subgroupBroadcast(a3, 6u);
        let r31 = subgroupBroadcast(a3, 7u);
        let b0_0 = b[b0_at + b_k0];
        let b0_1 = b[b0_at + b_k1];
        let b0_2 = b[b0_at + b_k2];
        let b0_3 = b[b0_at + b_k3];
        let y0_0 = b0_0;
        let y0_1 = b0_1;
        let y0_2 = b0_2;
        let y0_3 = b0_3;
        c0_0 += r0.x * y0_0;
        c0_0 += r0.y * y0_1;
        c0_0 += r0.z * y0_2;
        c0_0 += r0.w * y0_3;
        c1_0 += r1.x * y0_0;
        c1_0 += r1.y * y0_1;
        c1_0 += r1.z * y0_2;
        c1_0 += r1.w * y0_3;
        c2_0 += r2.x * y0_0;
        c2_0 += r2.y * y0_1;
        c2_0 += r2.z * y0_2;
        c2_0 += r2.w * y0_3;
        c3_0 += r3.x * y0_0;
        c3_0 += r3.y * y0_1;
        c3_0 += r3.z * y0_2;
        c3_0 += r3.w * y0_3;
        c4_0 += r4.x * y0_0;
        c4_0 += r4.y * y0_1;
        c4_0 += r4.z * y0_2;
        c4_0 += r4.w * y0_3;
        c5_0 += r5.x * y0_0;
        c5_0 += r5.y * y0_1;
        c5_0 += r5.z * y0_2;
        c5_0 += r5.w * y0_3;
        c6_0 += r6.x * y0_0;
        c6_0 += r6.y * y0_1;
        c6_0 += r6.z * y0_2;
        c6_0 += r6.w * y0_3;
        c7_0 += r7.x * y0_0;
        c7_0 += r7.y * y0_1;
        c7_0 += r7.z * y0_2;
        c7_0 += r7.w * y0_3;
        c8_0 += r8.x * y0_0;
        c8_0 += r8.y * y0_1;
        c8_0 += r8.z * y0_2;
        c8_0 += r8.w * y0_3;
        c9_0 += r9.x * y0_0;
        c9_0 += r9.y * y0_1;
        c9_0 += r9.z * y0_2;
        c9_0 += r9.w * y0_3;
        c10_0 += r10.x * y0_0;
        c10_0 += r10.y * y0_1;
        c10_0 += r10.z * y0_2;
        c10_0 += r10.w * y0_3;
        c11_0 += r11.x * y0_0;
        c11_0 += r11.y * y0_1;
        c11_0 += r11.z * y0_2;
        c11_0 += r11.w * y0_3;
        c12_0 += r12.x * y0_0;
        c12_0 += r12.y * y0_1;
        c12_0 += r12.z * y0_2;
        c12_0 += r12.w * y0_3;
        c13_0 += r13.x * y0_0;
        c13_0 += r13.y * y0_1;
        c13_0 += r13.z * y0_2;
        c13_0 += r13.w * y0_3;
        c14_0 += r14.x * y0_0;
        c14_0 += r14.y * y0_1;
        c14_0 += r14.z * y0_2;
        c14_0 += r14.w * y0_3;
        c15_0 += r15.x * y0_0;
        c15_0 += r15.y * y0_1;
        c15_0 += r15.z * y0_2;
        c15_0 += r15.w * y0_3;
        c16_0 += r16.x * y0_0;
        c16_0 += r16.y * y0_1;
        c16_0 += r16.z * y0_2;
        c16_0 += r16.w * y0_3;
        c17_0 += r17.x * y0_0;
        c17_0 += r17.y * y0_1;
        c17_0 += r17.z * y0_2;
        c17_0 += r17.w * y0_3;
        c18_0 += r18.x * y0_0;
        c18_0 += r18.y * y0_1;
        c18_0 += r18.z * y0_2;
        c18_0 += r18.w * y0_3;
        c19_0 += r19.x * y0_0;
        c19_0 += r19.y * y0_1;
        c19_0 += r19.z * y0_2;
        c19_0 += r19.w * y0_3;
        c20_0 += r20.x * y0_0;
        c20_0 += r20.y * y0_1;
        c20_0 += r20.z * y0_2;
        c20_0 += r20.w * y0_3;
        c21_0 += r21.x * y0_0;
        c21_0 += r21.y * y0_1;
        c21_0 += r21.z * y0_2;
        c21_0 += r21.w * y0_3;
        c22_0 += r22.x * y0_0;
        c22_0 += r22.y * y0_1;
        c22_0 += r22.z * y0_2;
        c22_0 += r22.w * y0_3;
        c23_0 += r23.x * y0_0;
        c23_0 += r23.y * y0_1;
        c23_0 += r23.z * y0_2;
        c23_0 += r23.w * y0_3;
        c24_0 += r24.x * y0_0;
        c24_0 += r24.y * y0_1;
        c24_0 += r24.z * y0_2;
        c24_0 += r24.w * y0_3;
        c25_0 += r25.x * y0_0;
        c25_0 += r25.y * y0_1;
        c25_0 += r25.z * y0_2;
        c25_0 += r25.w * y0_3;
        c26_0 += r26.x * y0_0;
        c26_0 += r26.y * y0_1;
        c26_0 += r26.z * y0_2;
        c26_0 += r26.w * y0_3;
        c27_0 += r27.x * y0_0;
        c27_0 += r27.y * y0_1;
        c27_0 += r27.z * y0_2;
        c27_0 += r27.w * y0_3;
        c28_0 += r28.x * y0_0;
        c28_0 += r28.y * y0_1;
        c28_0 += r28.z * y0_2;
        c28_0 += r28.w * y0_3;
        c29_0 += r29.x * y0_0;
        c29_0 += r29.y * y0_1;
        c29_0 += r29.z * y0_2;
        c29_0 += r29.w * y0_3;
        c30_0 += r30.x * y0_0;
        c30_0 += r30.y * y0_1;
        c30_0 += r30.z * y0_2;
        c30_0 += r30.w * y0_3;
        c31_0 += r31.x * y0_0;
        c31_0 += r31.y * y0_1;
        c31_0 += r31.z * y0_2;
        c31_0 += r31.w * y0_3;
    }
    let rows_end = min(32u, max(params.m, row0) - row0);
    for (var i = 0u; i < rows_end; i += 8u) {
        var d0_0 = c0_0;
        var d1_0 = c1_0;
        var d2_0 = c2_0;
        var d3_0 = c3_0;
        var d4_0 = c4_0;
        var d5_0 = c5_0;
        var d6_0 = c6_0;
        var d7_0 = c7_0;
        for (var j = i; j < min(i + 8u, rows_end); j += 1u) {
            store_quad(batch, row0 + j, col_q0, d0_0);
            d0_0 = d1_0;
            d1_0 = d2_0;
            d2_0 = d3_0;
            d3_0 = d4_0;
            d4_0 = d5_0;
            d5_0 = d6_0;
            d6_0 = d7_0;
        }
        c0_0 = c8_0;
        c1_0 = c9_0;
        c2_0 = c10_0;
        c3_0 = c11_0;
        c4_0 = c12_0;
        c5_0 = c13_0;
        c6_0 = c14_0;
        c7_0 = c15_0;
        c8_0 = c16_0;
        c9_0 = c17_0;
        c10_0 = c18_0;
        c11_0 = c19_0;
        c12_0 = c20_0;
        c13_0 = c21_0;
        c14_0 = c22_0;
        c15_0 = c23_0;
        c16_0 = c24_0;
        c17_0 = c25_0;
        c18_0 = c26_0;
        c19_0 = c27_0;
        c20_0 = c28_0;
        c21_0 = c29_0;
        c22_0 = c30_0;
        c23_0 = c31_0;
    }
}
