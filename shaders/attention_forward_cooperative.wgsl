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
    o_offset: u32,
    o_batch: u32,
    o_time: u32,
    o_head: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f16>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<f16>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f16>>;
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

var<workgroup> tile_q: array<vec4<f16>, 192>;

fn put_q(row: u32, vector: u32, value: vec4<f16>) {
    tile_q[row * 6u + vector] = value;
}

var<workgroup> tile_met: array<vec4<f16>, 192>;

fn put_met(row: u32, vector: u32, value: vec4<f16>) {
    tile_met[row * 6u + vector] = value;
}

var<workgroup> tile_weights: array<vec4<f16>, 320>;

fn put_weights(row: u32, vector: u32, value: vec4<f16>) {
    tile_weights[row * 10u + vector] = value;
}

var<workgroup> tile_sums: array<vec4<f32>, 288>;

fn sums(row: u32, vector: u32) -> vec4<f32> {
    return tile_sums[row * 9u + vector];
}

var<workgroup> told: array<f32, WG>;

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
    let last = min(first + 32u, params.time) - 1u;
    let own = min(subgroup_index, 1u) * 16u;
    let row = lane / 2u;
    let part = lane % 2u;
    let four = vec4<u32>(0u, 1u, 2u, 3u);
    let key_head = head / params.share;
    let q_at = params.q_offset + batch * params.q_batch + head * params.q_head;
    let k_at = params.k_offset + batch * params.k_batch + key_head * params.k_head;
    let v_at = params.v_offset + batch * params.v_batch + key_head * params.v_head;
    let t = min(first + row, params.time - 1u);
    let start = first_key(t);
    let stop = keys_seen(t);
    let begin = first_key(first);
    let end = keys_seen(last);
    for (var i = lane; i < 128u; i += WG) {
        let at = q_at + min(first + i / 4u, params.time - 1u) * params.q_time;
        put_q(i / 4u, i % 4u, q[at + i % 4u]);
    }
    for (var i = lane; i < 288u; i += WG) {
        tile_sums[i] = vec4<f32>(0.0);
    }
    workgroupBarrier();
    let zero = coopLoadT<coop_mat16x16<f32, C>>(&tile_sums[(0u) * 9u + (0u) / 4u], 9u);
    var o0_0 = vec4<f32>(0.0);
    var o0_1 = vec4<f32>(0.0);
    var top = LOWEST;
    var total = 0.0;
    for (var s = begin; s < end; s += 32u) {
        for (var i = lane; i < 128u; i += WG) {
            let at = k_at + min(s + i / 4u, params.source - 1u) * params.k_time;
            put_met(i / 4u, i % 4u, k[at + i % 4u]);
        }
        workgroupBarrier();
        {
            var s0_0 = zero;
            var s0_1 = zero;
            for (var kk = 0u; kk < 16u; kk += 16u) {
                let a0 = coopLoadT<coop_mat16x16<f16, A>>(&tile_q[(own + 0u) * 6u + (kk) / 4u], 6u);
                let b0 = coopLoad<coop_mat16x16<f16, B>>(&tile_met[(0u) * 6u + (kk) / 4u], 6u);
                s0_0 = coopMultiplyAdd(a0, b0, s0_0);
                let b1 = coopLoad<coop_mat16x16<f16, B>>(&tile_met[(16u) * 6u + (kk) / 4u], 6u);
                s0_1 = coopMultiplyAdd(a0, b1, s0_1);
            }
            coopStoreT(s0_0, &tile_sums[(own + 0u) * 9u + 0u], 9u);
            coopStoreT(s0_1, &tile_sums[(own + 0u) * 9u + 4u], 9u);
        }
        workgroupBarrier();
        let at0 = vec4<u32>(s + (part + 0u) * 4u) + four;
        let seen0 = (at0 >= vec4<u32>(start)) & (at0 < vec4<u32>(stop));
        let at1 = vec4<u32>(s + (part + 2u) * 4u) + four;
        let seen1 = (at1 >= vec4<u32>(start)) & (at1 < vec4<u32>(stop));
        let at2 = vec4<u32>(s + (part + 4u) * 4u) + four;
        let seen2 = (at2 >= vec4<u32>(start)) & (at2 < vec4<u32>(stop));
        let at3 = vec4<u32>(s + (part + 6u) * 4u) + four;
        let seen3 = (at3 >= vec4<u32>(start)) & (at3 < vec4<u32>(stop));
        var peak = LOWEST;
        let x0 = select(vec4<f32>(LOWEST), sums(row, part + 0u) * params.scale, seen0);
        peak = max(peak, max(max(x0.x, x0.y), max(x0.z, x0.w)));
        let x1 = select(vec4<f32>(LOWEST), sums(row, part + 2u) * params.scale, seen1);
        peak = max(peak, max(max(x1.x, x1.y), max(x1.z, x1.w)));
        let x2 = select(vec4<f32>(LOWEST), sums(row, part + 4u) * params.scale, seen2);
        peak = max(peak, max(max(x2.x, x2.y), max(x2.z, x2.w)));
        let x3 = select(vec4<f32>(LOWEST), sums(row, part + 6u) * params.scale, seen3);
        peak = max(peak, max(max(x3.x, x3.y), max(x3.z, x3.w)));
        for (var i = lane; i < 128u; i += WG) {
            let at = v_at + min(s + i / 4u, params.source - 1u) * params.v_time;
            put_met(i / 4u, i % 4u, v[at + i % 4u]);
        }
        told[lane] = peak;
        workgroupBarrier();
        let highest = max(told[row * 2u + 0u], told[row * 2u + 1u]);
        let new_top = max(top, highest);
        let fade = exp(top - new_top);
        top = new_top;
        total *= fade;
        let p0 = exp(x0 - top);
        total += (p0.x + p0.y) + (p0.z + p0.w);
        put_weights(row, part + 0u, vec4<f16>(p0));
        let p1 = exp(x1 - top);
        total += (p1.x + p1.y) + (p1.z + p1.w);
        put_weights(row, part + 2u, vec4<f16>(p1));
        let p2 = exp(x2 - top);
        total += (p2.x + p2.y) + (p2.z + p2.w);
        put_weights(row, part + 4u, vec4<f16>(p2));
        let p3 = exp(x3 - top);
        total += (p3.x + p3.y) + (p3.z + p3.w);
        put_weights(row, part + 6u, vec4<f16>(p3));
        workgroupBarrier();
        {
            var s0_0 = zero;
            for (var kk = 0u; kk < 32u; kk += 16u) {
                let a0 = coopLoadT<coop_mat16x16<f16, A>>(&tile_weights[(own + 0u) * 10u + (kk) / 4u], 10u);
                let b0 = coopLoadT<coop_mat16x16<f16, B>>(&tile_met[(kk) * 6u + (0u) / 4u], 6u);
                s0_0 = coopMultiplyAdd(a0, b0, s0_0);
            }
            coopStoreT(s0_0, &tile_sums[(own + 0u) * 9u + 0u], 9u);
        }
        workgroupBarrier();
        o0_0 = o0_0 * fade + sums(row, part + 0u);
        o0_1 = o0_1 * fade + sums(row, part + 2u);
        workgroupBarrier();
    }
    told[lane] = total;
    workgroupBarrier();
    let all = told[row * 2u + 0u] + told[row * 2u + 1u];
    if (first + row < params.time) {
        let o_row = params.o_offset + batch * params.o_batch + t * params.o_time + head * params.o_head;
        let share = select(0.0, 1.0 / all, stop > start);
        o[o_row + 0u + part + 0u] = o0_0 * share;
        o[o_row + 0u + part + 2u] = o0_1 * share;
        if (part == 0u) {
            lse[stack * params.time + t] = select(0.0, top + log(all), stop > start);
        }
    }
}
