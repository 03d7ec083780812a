// Emitted by kernels::attention for heads of 16; a test rewrites it under WGRAD_BLESS=1.

enable f16;
enable wgpu_cooperative_matrix;
alias F = f32;
const W: u32 = 1u;
const WG: u32 = 64u;
const BEFORE: u32 = 1u;
const AFTER: u32 = 1u;

struct Params {
    heads: u32,
    share: u32,
    time: u32,
    source: u32,
    tiles: u32,
    scale: f32,
    before: u32,
    after: u32,
    q_offset: u32,
    q_batch: u32,
    q_time: u32,
    q_head: u32,
    k_offset: u32,
    k_batch: u32,
    k_time: u32,
    k_head: u32,
    v_offset: u32,
    v_batch: u32,
    v_time: u32,
    v_head: u32,
    dout_offset: u32,
    dout_batch: u32,
    dout_time: u32,
    dout_head: u32,
    dk_offset: u32,
    dk_batch: u32,
    dk_time: u32,
    dk_head: u32,
    dv_offset: u32,
    dv_batch: u32,
    dv_time: u32,
    dv_head: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f16>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<f16>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f16>>;
@group(0) @binding(4) var<storage, read> dout: array<vec4<f16>>;
@group(0) @binding(5) var<storage, read> lse: array<f32>;
@group(0) @binding(6) var<storage, read> delta: array<f32>;
@group(0) @binding(7) var<storage, read_write> dk: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> dv: array<vec4<f32>>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

// ---- body
const LOWEST: f32 = -3.4028234e38;

// The key at which query t stands; before the first one if there are more queries than keys.
fn own_key(t: u32) -> i32 {
    return i32(t + params.source) - i32(params.time);
}

// Query t sees the keys from first_key(t) on, but not those from keys_seen(t) on.
fn first_key(t: u32) -> u32 {
    if (BEFORE == 0u) {
        return 0u;
    }
    return u32(clamp(own_key(t) - i32(params.before), 0, i32(params.source)));
}

fn keys_seen(t: u32) -> u32 {
    if (AFTER == 0u) {
        return params.source;
    }
    return u32(clamp(own_key(t) + 1 + i32(params.after), 0, i32(params.source)));
}

// Key s is seen by the queries from first_query(s) on, but not by those from last_query(s) on.
fn first_query(s: u32) -> u32 {
    if (AFTER == 0u) {
        return 0u;
    }
    return u32(max(0, i32(s + params.time) - i32(params.source) - i32(params.after)));
}

fn last_query(s: u32) -> u32 {
    if (BEFORE == 0u) {
        return params.time;
    }
    return u32(clamp(i32(s + params.time) - i32(params.source) + 1 + i32(params.before), 0, i32(params.time)));
}

var<workgroup> tile_k: array<vec4<f16>, 192>;

fn put_k(row: u32, vector: u32, value: vec4<f16>) {
    tile_k[row * 6u + vector] = value;
}

var<workgroup> tile_v: array<vec4<f16>, 192>;

fn put_v(row: u32, vector: u32, value: vec4<f16>) {
    tile_v[row * 6u + vector] = value;
}

var<workgroup> tile_q: array<vec4<f16>, 192>;

fn put_q(row: u32, vector: u32, value: vec4<f16>) {
    tile_q[row * 6u + vector] = value;
}

var<workgroup> tile_dout: array<vec4<f16>, 192>;

fn put_dout(row: u32, vector: u32, value: vec4<f16>) {
    tile_dout[row * 6u + vector] = value;
}

var<workgroup> tile_slopes: array<vec4<f16>, 320>;

fn put_slopes(row: u32, vector: u32, value: vec4<f16>) {
    tile_slopes[row * 10u + vector] = value;
}

var<workgroup> tile_weights: array<vec4<f16>, 320>;

fn put_weights(row: u32, vector: u32, value: vec4<f16>) {
    tile_weights[row * 10u + vector] = value;
}

var<workgroup> tile_sums: array<vec4<f32>, 288>;

fn sums(row: u32, vector: u32) -> vec4<f32> {
    return tile_sums[row * 9u + vector];
}

var<workgroup> met_lse: array<f32, 32>;
var<workgroup> met_delta: array<f32, 32>;

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
    let stack = group / params.tiles;
    let batch = stack / params.heads;
    let head = stack % params.heads;
    let first = group % params.tiles * 32u;
    let last = min(first + 32u, params.source) - 1u;
    let own = min(subgroup_index, 1u) * 16u;
    let row = lane / 2u;
    let part = lane % 2u;
    let four = vec4<u32>(0u, 1u, 2u, 3u);
    let k_at = params.k_offset + batch * params.k_batch + head * params.k_head;
    let v_at = params.v_offset + batch * params.v_batch + head * params.v_head;
    let s = min(first + row, params.source - 1u);
    let start = first_query(s);
    let stop = last_query(s);
    let begin = first_query(first);
    let end = last_query(last);
    for (var i = lane; i < 128u; i += WG) {
        let at = k_at + min(first + i / 4u, params.source - 1u) * params.k_time;
        put_k(i / 4u, i % 4u, k[at + i % 4u]);
    }
    for (var i = lane; i < 128u; i += WG) {
        let at = v_at + min(first + i / 4u, params.source - 1u) * params.v_time;
        put_v(i / 4u, i % 4u, v[at + i % 4u]);
    }
    for (var i = lane; i < 288u; i += WG) {
        tile_sums[i] = vec4<f32>(0.0);
    }
    workgroupBarrier();
    let zero = coopLoadT<coop_mat16x16<f32, C>>(&tile_sums[(0u) * 9u + (0u) / 4u], 9u);
    var dk0_0 = zero;
    var dv0_0 = zero;
    // The heads of the queries that this head serves.
    for (var query_head = head * params.share; query_head < (head + 1u) * params.share; query_head++) {
        let q_at = params.q_offset + batch * params.q_batch + query_head * params.q_head;
        let dout_at = params.dout_offset + batch * params.dout_batch + query_head * params.dout_head;
        let line = (batch * params.heads * params.share + query_head) * params.time;
        for (var t = begin; t < end; t += 32u) {
            for (var i = lane; i < 128u; i += WG) {
                let at = q_at + min(t + i / 4u, params.time - 1u) * params.q_time;
                put_q(i / 4u, i % 4u, q[at + i % 4u]);
            }
            for (var i = lane; i < 128u; i += WG) {
                let at = dout_at + min(t + i / 4u, params.time - 1u) * params.dout_time;
                put_dout(i / 4u, i % 4u, dout[at + i % 4u]);
            }
            for (var i = lane; i < 32u; i += WG) {
                let at = line + min(t + i, params.time - 1u);
                met_lse[i] = lse[at];
                met_delta[i] = delta[at];
            }
            workgroupBarrier();
            {
                var s0_0 = zero;
                var s0_1 = zero;
                for (var kk = 0u; kk < 16u; kk += 16u) {
                    let a0 = coopLoadT<coop_mat16x16<f16, A>>(&tile_v[(own + 0u) * 6u + (kk) / 4u], 6u);
                    let b0 = coopLoad<coop_mat16x16<f16, B>>(&tile_dout[(0u) * 6u + (kk) / 4u], 6u);
                    s0_0 = coopMultiplyAdd(a0, b0, s0_0);
                    let b1 = coopLoad<coop_mat16x16<f16, B>>(&tile_dout[(16u) * 6u + (kk) / 4u], 6u);
                    s0_1 = coopMultiplyAdd(a0, b1, s0_1);
                }
                coopStoreT(s0_0, &tile_sums[(own + 0u) * 9u + 0u], 9u);
                coopStoreT(s0_1, &tile_sums[(own + 0u) * 9u + 4u], 9u);
            }
            workgroupBarrier();
            let slope0 = sums(row, part + 0u);
            let slope1 = sums(row, part + 2u);
            let slope2 = sums(row, part + 4u);
            let slope3 = sums(row, part + 6u);
            workgroupBarrier();
            {
                var s0_0 = zero;
                var s0_1 = zero;
                for (var kk = 0u; kk < 16u; kk += 16u) {
                    let a0 = coopLoadT<coop_mat16x16<f16, A>>(&tile_k[(own + 0u) * 6u + (kk) / 4u], 6u);
                    let b0 = coopLoad<coop_mat16x16<f16, B>>(&tile_q[(0u) * 6u + (kk) / 4u], 6u);
                    s0_0 = coopMultiplyAdd(a0, b0, s0_0);
                    let b1 = coopLoad<coop_mat16x16<f16, B>>(&tile_q[(16u) * 6u + (kk) / 4u], 6u);
                    s0_1 = coopMultiplyAdd(a0, b1, s0_1);
                }
                coopStoreT(s0_0, &tile_sums[(own + 0u) * 9u + 0u], 9u);
                coopStoreT(s0_1, &tile_sums[(own + 0u) * 9u + 4u], 9u);
            }
            workgroupBarrier();
            let at0 = vec4<u32>(t + (part + 0u) * 4u) + four;
            let seen0 = (at0 >= vec4<u32>(start)) & (at0 < vec4<u32>(stop));
            let at1 = vec4<u32>(t + (part + 2u) * 4u) + four;
            let seen1 = (at1 >= vec4<u32>(start)) & (at1 < vec4<u32>(stop));
            let at2 = vec4<u32>(t + (part + 4u) * 4u) + four;
            let seen2 = (at2 >= vec4<u32>(start)) & (at2 < vec4<u32>(stop));
            let at3 = vec4<u32>(t + (part + 6u) * 4u) + four;
            let seen3 = (at3 >= vec4<u32>(start)) & (at3 < vec4<u32>(stop));
            let c0 = (part + 0u) * 4u;
            let score0 = sums(row, part + 0u) * params.scale - vec4<f32>(met_lse[c0 + 0u], met_lse[c0 + 1u], met_lse[c0 + 2u], met_lse[c0 + 3u]);
            let p0 = select(vec4<f32>(0.0), exp(score0), seen0);
            put_weights(row, part + 0u, vec4<f16>(p0));
            put_slopes(row, part + 0u, vec4<f16>(p0 * (slope0 - vec4<f32>(met_delta[c0 + 0u], met_delta[c0 + 1u], met_delta[c0 + 2u], met_delta[c0 + 3u]))));
            let c1 = (part + 2u) * 4u;
            let score1 = sums(row, part + 2u) * params.scale - vec4<f32>(met_lse[c1 + 0u], met_lse[c1 + 1u], met_lse[c1 + 2u], met_lse[c1 + 3u]);
            let p1 = select(vec4<f32>(0.0), exp(score1), seen1);
            put_weights(row, part + 2u, vec4<f16>(p1));
            put_slopes(row, part + 2u, vec4<f16>(p1 * (slope1 - vec4<f32>(met_delta[c1 + 0u], met_delta[c1 + 1u], met_delta[c1 + 2u], met_delta[c1 + 3u]))));
            let c2 = (part + 4u) * 4u;
            let score2 = sums(row, part + 4u) * params.scale - vec4<f32>(met_lse[c2 + 0u], met_lse[c2 + 1u], met_lse[c2 + 2u], met_lse[c2 + 3u]);
            let p2 = select(vec4<f32>(0.0), exp(score2), seen2);
            put_weights(row, part + 4u, vec4<f16>(p2));
            put_slopes(row, part + 4u, vec4<f16>(p2 * (slope2 - vec4<f32>(met_delta[c2 + 0u], met_delta[c2 + 1u], met_delta[c2 + 2u], met_delta[c2 + 3u]))));
            let c3 = (part + 6u) * 4u;
            let score3 = sums(row, part + 6u) * params.scale - vec4<f32>(met_lse[c3 + 0u], met_lse[c3 + 1u], met_lse[c3 + 2u], met_lse[c3 + 3u]);
            let p3 = select(vec4<f32>(0.0), exp(score3), seen3);
            put_weights(row, part + 6u, vec4<f16>(p3));
            put_slopes(row, part + 6u, vec4<f16>(p3 * (slope3 - vec4<f32>(met_delta[c3 + 0u], met_delta[c3 + 1u], met_delta[c3 + 2u], met_delta[c3 + 3u]))));
            workgroupBarrier();
            for (var kk = 0u; kk < 32u; kk += 16u) {
                let a0 = coopLoadT<coop_mat16x16<f16, A>>(&tile_weights[(own + 0u) * 10u + (kk) / 4u], 10u);
                let b0 = coopLoadT<coop_mat16x16<f16, B>>(&tile_dout[(kk) * 6u + (0u) / 4u], 6u);
                dv0_0 = coopMultiplyAdd(a0, b0, dv0_0);
            }
            for (var kk = 0u; kk < 32u; kk += 16u) {
                let a0 = coopLoadT<coop_mat16x16<f16, A>>(&tile_slopes[(own + 0u) * 10u + (kk) / 4u], 10u);
                let b0 = coopLoadT<coop_mat16x16<f16, B>>(&tile_q[(kk) * 6u + (0u) / 4u], 6u);
                dk0_0 = coopMultiplyAdd(a0, b0, dk0_0);
            }
            workgroupBarrier();
        }
    }
    let dk_row = params.dk_offset + batch * params.dk_batch + s * params.dk_time + head * params.dk_head;
    workgroupBarrier();
    coopStoreT(dk0_0, &tile_sums[(own + 0u) * 9u + 0u], 9u);
    workgroupBarrier();
    if (first + row < params.source) {
        dk[dk_row + 0u + part + 0u] = sums(row, part + 0u) * params.scale;
        dk[dk_row + 0u + part + 2u] = sums(row, part + 2u) * params.scale;
    }
    let dv_row = params.dv_offset + batch * params.dv_batch + s * params.dv_time + head * params.dv_head;
    workgroupBarrier();
    coopStoreT(dv0_0, &tile_sums[(own + 0u) * 9u + 0u], 9u);
    workgroupBarrier();
    if (first + row < params.source) {
        dv[dv_row + 0u + part + 0u] = sums(row, part + 0u);
        dv[dv_row + 0u + part + 2u] = sums(row, part + 2u);
    }
}
