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
    dout_offset: u32,
    dout_batch: u32,
    dout_time: u32,
    dout_head: u32,
    dq_offset: u32,
    dq_batch: u32,
    dq_time: u32,
    dq_head: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> o: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> dout: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> lse: array<f32>;
@group(0) @binding(7) var<storage, read_write> dq: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> delta: array<f32>;

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
let o_at = params.o_offset + batch * params.o_batch + head * params.o_head;
    let dout_at = params.dout_offset + batch * params.dout_batch + head * params.dout_head;
    let t0 = min(first + lane + 0u * WG, params.time - 1u);
    let from0 = first_key(t0);
    let seen0 = keys_seen(t0);
    let q_row0 = q_at + t0 * params.q_time;
    let o_row0 = o_at + t0 * params.o_time;
    let dout_row0 = dout_at + t0 * params.dout_time;
    let q0_0 = q[q_row0 + 0u] * params.scale;
    let q0_1 = q[q_row0 + 1u] * params.scale;
    let q0_2 = q[q_row0 + 2u] * params.scale;
    let q0_3 = q[q_row0 + 3u] * params.scale;
    let q0_4 = q[q_row0 + 4u] * params.scale;
    let q0_5 = q[q_row0 + 5u] * params.scale;
    let q0_6 = q[q_row0 + 6u] * params.scale;
    let q0_7 = q[q_row0 + 7u] * params.scale;
    let dout0_0 = dout[dout_row0 + 0u];
    let dout0_1 = dout[dout_row0 + 1u];
    let dout0_2 = dout[dout_row0 + 2u];
    let dout0_3 = dout[dout_row0 + 3u];
    let dout0_4 = dout[dout_row0 + 4u];
    let dout0_5 = dout[dout_row0 + 5u];
    let dout0_6 = dout[dout_row0 + 6u];
    let dout0_7 = dout[dout_row0 + 7u];
    var delta4_0 = vec4<f32>(0.0);
    delta4_0 += dout0_0 * o[o_row0 + 0u];
    delta4_0 += dout0_1 * o[o_row0 + 1u];
    delta4_0 += dout0_2 * o[o_row0 + 2u];
    delta4_0 += dout0_3 * o[o_row0 + 3u];
    delta4_0 += dout0_4 * o[o_row0 + 4u];
    delta4_0 += dout0_5 * o[o_row0 + 5u];
    delta4_0 += dout0_6 * o[o_row0 + 6u];
    delta4_0 += dout0_7 * o[o_row0 + 7u];
    let delta0 = sum4(delta4_0);
    let lse0 = lse[stack * params.time + t0];
    var dq0_0 = vec4<f32>(0.0);
    var dq0_1 = vec4<f32>(0.0);
    var dq0_2 = vec4<f32>(0.0);
    var dq0_3 = vec4<f32>(0.0);
    var dq0_4 = vec4<f32>(0.0);
    var dq0_5 = vec4<f32>(0.0);
    var dq0_6 = vec4<f32>(0.0);
    var dq0_7 = vec4<f32>(0.0);
    let end = keys_seen(min(first + TILE, params.time) - 1u);
    for (var s = first_key(first); s < end; s++) {
        let k_row = k_at + s * params.k_time;
        let v_row = v_at + s * params.v_time;
        let k0 = k[k_row + 0u];
        let k1 = k[k_row + 1u];
        let k2 = k[k_row + 2u];
        let k3 = k[k_row + 3u];
        let k4 = k[k_row + 4u];
        let k5 = k[k_row + 5u];
        let k6 = k[k_row + 6u];
        let k7 = k[k_row + 7u];
        let v0 = v[v_row + 0u];
        let v1 = v[v_row + 1u];
        let v2 = v[v_row + 2u];
        let v3 = v[v_row + 3u];
        let v4 = v[v_row + 4u];
        let v5 = v[v_row + 5u];
        let v6 = v[v_row + 6u];
        let v7 = v[v_row + 7u];
        var score0 = vec4<f32>(0.0);
        score0 += q0_0 * k0;
        score0 += q0_1 * k1;
        score0 += q0_2 * k2;
        score0 += q0_3 * k3;
        score0 += q0_4 * k4;
        score0 += q0_5 * k5;
        score0 += q0_6 * k6;
        score0 += q0_7 * k7;
        var dp0 = vec4<f32>(0.0);
        dp0 += dout0_0 * v0;
        dp0 += dout0_1 * v1;
        dp0 += dout0_2 * v2;
        dp0 += dout0_3 * v3;
        dp0 += dout0_4 * v4;
        dp0 += dout0_5 * v5;
        dp0 += dout0_6 * v6;
        dp0 += dout0_7 * v7;
        let p0 = select(0.0, exp(sum4(score0) - lse0), s >= from0 && s < seen0);
        let ds0 = p0 * (sum4(dp0) - delta0);
        dq0_0 += ds0 * k0;
        dq0_1 += ds0 * k1;
        dq0_2 += ds0 * k2;
        dq0_3 += ds0 * k3;
        dq0_4 += ds0 * k4;
        dq0_5 += ds0 * k5;
        dq0_6 += ds0 * k6;
        dq0_7 += ds0 * k7;
    }
if (first + lane + 0u * WG < params.time) {
        let dq_row = params.dq_offset + batch * params.dq_batch + t0 * params.dq_time + head * params.dq_head;
        dq[dq_row + 0u] = dq0_0 * params.scale;
        dq[dq_row + 1u] = dq0_1 * params.scale;
        dq[dq_row + 2u] = dq0_2 * params.scale;
        dq[dq_row + 3u] = dq0_3 * params.scale;
        dq[dq_row + 4u] = dq0_4 * params.scale;
        dq[dq_row + 5u] = dq0_5 * params.scale;
        dq[dq_row + 6u] = dq0_6 * params.scale;
        dq[dq_row + 7u] = dq0_7 * params.scale;
        delta[stack * params.time + t0] = delta0;
    }
}
