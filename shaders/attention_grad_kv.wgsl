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
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> dout: array<vec4<f32>>;
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
let k_at = params.k_offset + batch * params.k_batch + head * params.k_head;
    let v_at = params.v_offset + batch * params.v_batch + head * params.v_head;
let s0 = min(first + lane + 0u * WG, params.source - 1u);
    let start0 = first_query(s0);
    let stop0 = last_query(s0);
    let k_row0 = k_at + s0 * params.k_time;
    let v_row0 = v_at + s0 * params.v_time;
    let k0_0 = k[k_row0 + 0u] * params.scale;
    let k0_1 = k[k_row0 + 1u] * params.scale;
    let k0_2 = k[k_row0 + 2u] * params.scale;
    let k0_3 = k[k_row0 + 3u] * params.scale;
    let k0_4 = k[k_row0 + 4u] * params.scale;
    let k0_5 = k[k_row0 + 5u] * params.scale;
    let k0_6 = k[k_row0 + 6u] * params.scale;
    let k0_7 = k[k_row0 + 7u] * params.scale;
    let v0_0 = v[v_row0 + 0u];
    let v0_1 = v[v_row0 + 1u];
    let v0_2 = v[v_row0 + 2u];
    let v0_3 = v[v_row0 + 3u];
    let v0_4 = v[v_row0 + 4u];
    let v0_5 = v[v_row0 + 5u];
    let v0_6 = v[v_row0 + 6u];
    let v0_7 = v[v_row0 + 7u];
    var dk0_0 = vec4<f32>(0.0);
    var dk0_1 = vec4<f32>(0.0);
    var dk0_2 = vec4<f32>(0.0);
    var dk0_3 = vec4<f32>(0.0);
    var dk0_4 = vec4<f32>(0.0);
    var dk0_5 = vec4<f32>(0.0);
    var dk0_6 = vec4<f32>(0.0);
    var dk0_7 = vec4<f32>(0.0);
    var dv0_0 = vec4<f32>(0.0);
    var dv0_1 = vec4<f32>(0.0);
    var dv0_2 = vec4<f32>(0.0);
    var dv0_3 = vec4<f32>(0.0);
    var dv0_4 = vec4<f32>(0.0);
    var dv0_5 = vec4<f32>(0.0);
    var dv0_6 = vec4<f32>(0.0);
    var dv0_7 = vec4<f32>(0.0);
    let end = last_query(min(first + TILE, params.source) - 1u);
    // The heads of the queries that this head serves.
    for (var query_head = head * params.share; query_head < (head + 1u) * params.share; query_head++) {
        let q_at = params.q_offset + batch * params.q_batch + query_head * params.q_head;
        let dout_at = params.dout_offset + batch * params.dout_batch + query_head * params.dout_head;
        let line = (batch * params.heads * params.share + query_head) * params.time;
        for (var t = first_query(first); t < end; t++) {
            let q_row = q_at + t * params.q_time;
            let dout_row = dout_at + t * params.dout_time;
            let q0 = q[q_row + 0u];
            let q1 = q[q_row + 1u];
            let q2 = q[q_row + 2u];
            let q3 = q[q_row + 3u];
            let q4 = q[q_row + 4u];
            let q5 = q[q_row + 5u];
            let q6 = q[q_row + 6u];
            let q7 = q[q_row + 7u];
            let dout0 = dout[dout_row + 0u];
            let dout1 = dout[dout_row + 1u];
            let dout2 = dout[dout_row + 2u];
            let dout3 = dout[dout_row + 3u];
            let dout4 = dout[dout_row + 4u];
            let dout5 = dout[dout_row + 5u];
            let dout6 = dout[dout_row + 6u];
            let dout7 = dout[dout_row + 7u];
            let query_lse = lse[line + t];
            let query_delta = delta[line + t];
            var score0 = vec4<f32>(0.0);
            score0 += k0_0 * q0;
            score0 += k0_1 * q1;
            score0 += k0_2 * q2;
            score0 += k0_3 * q3;
            score0 += k0_4 * q4;
            score0 += k0_5 * q5;
            score0 += k0_6 * q6;
            score0 += k0_7 * q7;
            var dp0 = vec4<f32>(0.0);
            dp0 += v0_0 * dout0;
            dp0 += v0_1 * dout1;
            dp0 += v0_2 * dout2;
            dp0 += v0_3 * dout3;
            dp0 += v0_4 * dout4;
            dp0 += v0_5 * dout5;
            dp0 += v0_6 * dout6;
            dp0 += v0_7 * dout7;
            let p0 = select(0.0, exp(sum4(score0) - query_lse), t >= start0 && t < stop0);
            let ds0 = p0 * (sum4(dp0) - query_delta);
            dk0_0 += ds0 * q0;
            dk0_1 += ds0 * q1;
            dk0_2 += ds0 * q2;
            dk0_3 += ds0 * q3;
            dk0_4 += ds0 * q4;
            dk0_5 += ds0 * q5;
            dk0_6 += ds0 * q6;
            dk0_7 += ds0 * q7;
            dv0_0 += p0 * dout0;
            dv0_1 += p0 * dout1;
            dv0_2 += p0 * dout2;
            dv0_3 += p0 * dout3;
            dv0_4 += p0 * dout4;
            dv0_5 += p0 * dout5;
            dv0_6 += p0 * dout6;
            dv0_7 += p0 * dout7;
        }
    }
if (first + lane + 0u * WG < params.source) {
        let dk_row = params.dk_offset + batch * params.dk_batch + s0 * params.dk_time + head * params.dk_head;
        let dv_row = params.dv_offset + batch * params.dv_batch + s0 * params.dv_time + head * params.dv_head;
        dk[dk_row + 0u] = dk0_0 * params.scale;
        dk[dk_row + 1u] = dk0_1 * params.scale;
        dk[dk_row + 2u] = dk0_2 * params.scale;
        dk[dk_row + 3u] = dk0_3 * params.scale;
        dk[dk_row + 4u] = dk0_4 * params.scale;
        dk[dk_row + 5u] = dk0_5 * params.scale;
        dk[dk_row + 6u] = dk0_6 * params.scale;
        dk[dk_row + 7u] = dk0_7 * params.scale;
        dv[dv_row + 0u] = dv0_0;
        dv[dv_row + 1u] = dv0_1;
        dv[dv_row + 2u] = dv0_2;
        dv[dv_row + 3u] = dv0_3;
        dv[dv_row + 4u] = dv0_4;
        dv[dv_row + 5u] = dv0_5;
        dv[dv_row + 6u] = dv0_6;
        dv[dv_row + 7u] = dv0_7;
    }
}
