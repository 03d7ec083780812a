// Emitted by kernels::attention for heads of 32; a test rewrites it under WGRAD_BLESS=1.

alias F = f32;
const W: u32 = 1u;
const WG: u32 = 64u;
const ROWS: u32 = 1u;
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
    o_offset: u32,
    o_batch: u32,
    o_time: u32,
    o_head: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> o: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;

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

// Rows of a workgroup: lane l owns rows l, l + WG, ... of them.
const TILE: u32 = WG * ROWS;

fn sum4(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
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
    let first = group % params.tiles * TILE;
    let stack = group / params.tiles;
    let batch = stack / params.heads;
    let head = stack % params.heads;
let key_head = head / params.share;
    let q_at = params.q_offset + batch * params.q_batch + head * params.q_head;
    let k_at = params.k_offset + batch * params.k_batch + key_head * params.k_head;
    let v_at = params.v_offset + batch * params.v_batch + key_head * params.v_head;
let t0 = min(first + lane + 0u * WG, params.time - 1u);
    let from0 = first_key(t0);
    let seen0 = keys_seen(t0);
    let q_row0 = q_at + t0 * params.q_time;
    let q0_0 = q[q_row0 + 0u] * params.scale;
    let q0_1 = q[q_row0 + 1u] * params.scale;
    let q0_2 = q[q_row0 + 2u] * params.scale;
    let q0_3 = q[q_row0 + 3u] * params.scale;
    let q0_4 = q[q_row0 + 4u] * params.scale;
    let q0_5 = q[q_row0 + 5u] * params.scale;
    let q0_6 = q[q_row0 + 6u] * params.scale;
    let q0_7 = q[q_row0 + 7u] * params.scale;
    var o0_0 = vec4<f32>(0.0);
    var o0_1 = vec4<f32>(0.0);
    var o0_2 = vec4<f32>(0.0);
    var o0_3 = vec4<f32>(0.0);
    var o0_4 = vec4<f32>(0.0);
    var o0_5 = vec4<f32>(0.0);
    var o0_6 = vec4<f32>(0.0);
    var o0_7 = vec4<f32>(0.0);
    var top0 = LOWEST;
    var total0 = 0.0;
    let four = vec4<u32>(0u, 1u, 2u, 3u);
    let last = params.source - 1u;
    let end = keys_seen(min(first + TILE, params.time) - 1u);
    for (var s = first_key(first); s < end; s += 4u) {
        var score0 = vec4<f32>(LOWEST);
        for (var j = 0u; j < 4u; j++) {
            let k_row = k_at + min(s + j, last) * params.k_time;
            let k0 = k[k_row + 0u];
            let k1 = k[k_row + 1u];
            let k2 = k[k_row + 2u];
            let k3 = k[k_row + 3u];
            let k4 = k[k_row + 4u];
            let k5 = k[k_row + 5u];
            let k6 = k[k_row + 6u];
            let k7 = k[k_row + 7u];
            var sum0 = vec4<f32>(0.0);
            sum0 += q0_0 * k0;
            sum0 += q0_1 * k1;
            sum0 += q0_2 * k2;
            sum0 += q0_3 * k3;
            sum0 += q0_4 * k4;
            sum0 += q0_5 * k5;
            sum0 += q0_6 * k6;
            sum0 += q0_7 * k7;
            score0 = select(score0, vec4<f32>(sum4(sum0)), vec4<u32>(j) == four);
        }
        // Keys out of sight, or beyond the last one.
        let at0 = vec4<u32>(s) + four;
        score0 = select(vec4<f32>(LOWEST), score0, (at0 >= vec4<u32>(from0)) & (at0 < vec4<u32>(seen0)));
        let new_top0 = max(top0, max(max(score0.x, score0.y), max(score0.z, score0.w)));
        let fade0 = exp(top0 - new_top0);
        let p0 = exp(score0 - new_top0);
        top0 = new_top0;
        total0 = total0 * fade0 + sum4(p0);
        o0_0 *= fade0;
        o0_1 *= fade0;
        o0_2 *= fade0;
        o0_3 *= fade0;
        o0_4 *= fade0;
        o0_5 *= fade0;
        o0_6 *= fade0;
        o0_7 *= fade0;
        for (var j = 0u; j < 4u; j++) {
            let v_row = v_at + min(s + j, last) * params.v_time;
            let v0 = v[v_row + 0u];
            let v1 = v[v_row + 1u];
            let v2 = v[v_row + 2u];
            let v3 = v[v_row + 3u];
            let v4 = v[v_row + 4u];
            let v5 = v[v_row + 5u];
            let v6 = v[v_row + 6u];
            let v7 = v[v_row + 7u];
            let weight0 = p0[j];
            o0_0 += weight0 * v0;
            o0_1 += weight0 * v1;
            o0_2 += weight0 * v2;
            o0_3 += weight0 * v3;
            o0_4 += weight0 * v4;
            o0_5 += weight0 * v5;
            o0_6 += weight0 * v6;
            o0_7 += weight0 * v7;
        }
    }
if (first + lane + 0u * WG < params.time) {
        let o_row = params.o_offset + batch * params.o_batch + t0 * params.o_time + head * params.o_head;
        let scale = select(0.0, 1.0 / total0, seen0 > from0);
        o[o_row + 0u] = o0_0 * scale;
        o[o_row + 1u] = o0_1 * scale;
        o[o_row + 2u] = o0_2 * scale;
        o[o_row + 3u] = o0_3 * scale;
        o[o_row + 4u] = o0_4 * scale;
        o[o_row + 5u] = o0_5 * scale;
        o[o_row + 6u] = o0_6 * scale;
        o[o_row + 7u] = o0_7 * scale;
        lse[stack * params.time + t0] = select(0.0, top0 + log(total0), seen0 > from0);
    }
}
