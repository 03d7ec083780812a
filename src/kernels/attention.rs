//! Attention without a matrix of weights in memory: the text of one forward and two backward kernels
//! (`torch.nn.functional.scaled_dot_product_attention`; the algorithm is FlashAttention's).
//!
//! Emitted, because the head's vector lives in unrolled registers (see `Template`).
//! One invocation owns a row (on a software adapter a few) and meets the other side's rows
//! at addresses that are the same for the whole workgroup, so that a load is a broadcast, on a GPU as on a
//! software adapter but SwiftShader; nothing is shared, and no barrier is needed. This module knows no graph; whether
//! attention comes here or is expanded is the lowering's choice, made from the `None` returned here.

use super::profile::SWIFTSHADER;
use super::{AdapterClass, Element, KernelSpec, Param, Port, Profile};
use crate::graph::Sight;
use std::borrow::Cow;

/// The largest head size that is unrolled.
pub const MAX_HEAD_SIZE: usize = 128;

/// Whether there are kernels for heads of this size; others are computed by the definition.
pub fn supports(size: usize) -> bool {
    size > 0 && size.is_multiple_of(4) && size <= MAX_HEAD_SIZE
}

/// Sizes of one attention: queries `[batch, time, heads, size]`, keys and values
/// `[batch, source, key_heads, size]`, each key head serving `heads / key_heads` heads in a row. Query `t` stands at
/// key `t + (source - time)`, and sees so far from there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    pub batch: usize,
    pub time: usize,
    pub source: usize,
    pub heads: usize,
    pub key_heads: usize,
    pub size: usize,
    pub sight: Sight,
    /// Factor of the scores before the softmax.
    pub scale: f32,
}

/// Where the vector of (batch, time, head) starts in its buffer, in elements; its own elements are
/// adjacent. All four are multiples of 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadView {
    pub offset: usize,
    pub batch: usize,
    pub time: usize,
    pub head: usize,
}

impl HeadView {
    /// A contiguous `[batch, time, heads, size]`.
    pub fn contiguous(time: usize, heads: usize, size: usize) -> HeadView {
        HeadView { offset: 0, batch: time * heads * size, time: heads * size, head: size }
    }

    /// The view in units of `vec4<f32>`, if it has one.
    fn in_vectors(self) -> Option<[u32; 4]> {
        let mut out = [0; 4];
        for (to, from) in out.iter_mut().zip([self.offset, self.batch, self.time, self.head]) {
            if from % 4 != 0 {
                return None;
            }
            *to = u32::try_from(from / 4).ok()?;
        }
        Some(out)
    }
}

/// Names of the parameters of a view.
type ViewNames = [&'static str; 4];

macro_rules! view_names {
    ($port:literal) => {
        [concat!($port, "_offset"), concat!($port, "_batch"), concat!($port, "_time"), concat!($port, "_head")]
    };
}

const Q: ViewNames = view_names!("q");
const K: ViewNames = view_names!("k");
const V: ViewNames = view_names!("v");
const O: ViewNames = view_names!("o");
const DOUT: ViewNames = view_names!("dout");
const DQ: ViewNames = view_names!("dq");
const DK: ViewNames = view_names!("dk");
const DV: ViewNames = view_names!("dv");

/// Beyond every sequence, and small enough to be added to positions.
const FAR: u32 = 1 << 29;

const LSE: Port = Port::new("lse", Element::F32);
const DELTA: Port = Port::new("delta", Element::F32);

const fn vectors(name: &'static str) -> Port {
    Port::new(name, Element::F32x4)
}

/// The views of the gradient kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GradViews {
    pub q: HeadView,
    pub k: HeadView,
    pub v: HeadView,
    pub o: HeadView,
    /// The gradient of `o`.
    pub dout: HeadView,
    pub dq: HeadView,
    pub dk: HeadView,
    pub dv: HeadView,
}

/// `q`, `k`, `v` to secondary outputs `o` and `lse [batch, heads, time]` f32, the logarithm of each query's
/// sum of exponentials. A query that sees no key gives zeros. Nothing goes through `store`.
pub fn attention_forward(
    profile: &Profile,
    shape: &AttentionShape,
    q: HeadView,
    k: HeadView,
    v: HeadView,
    o: HeadView,
) -> Option<KernelSpec> {
    let views = [(Q, q), (K, k), (V, v), (O, o)];
    let kernel = kernel(profile, shape, &FORWARD, [shape.heads, shape.time], &views, 4)?;
    let inputs = vec![vectors("q"), vectors("k"), vectors("v")];
    Some(KernelSpec { inputs, outputs: vec![vectors("o"), LSE], ..kernel })
}

/// `q`, `k`, `v`, `o`, `dout`, `lse` to secondary outputs `dq` and `delta [batch, heads, time]` f32, each query's
/// `dot(dout, o)`, which [`attention_grad_kv`] needs. Nothing goes through `store`.
pub fn attention_grad_q(profile: &Profile, shape: &AttentionShape, views: &GradViews) -> Option<KernelSpec> {
    let strides = [(Q, views.q), (K, views.k), (V, views.v), (O, views.o), (DOUT, views.dout), (DQ, views.dq)];
    let kernel = kernel(profile, shape, &GRAD_Q, [shape.heads, shape.time], &strides, 6)?;
    let inputs = vec![vectors("q"), vectors("k"), vectors("v"), vectors("o"), vectors("dout"), LSE];
    Some(KernelSpec { inputs, outputs: vec![vectors("dq"), DELTA], ..kernel })
}

/// `q`, `k`, `v`, `dout`, `lse`, `delta` to secondary outputs `dk` and `dv`. Nothing goes through `store`.
pub fn attention_grad_kv(profile: &Profile, shape: &AttentionShape, views: &GradViews) -> Option<KernelSpec> {
    let strides = [(Q, views.q), (K, views.k), (V, views.v), (DOUT, views.dout), (DK, views.dk), (DV, views.dv)];
    let kernel = kernel(profile, shape, &GRAD_KV, [shape.key_heads, shape.source], &strides, 8)?;
    let inputs = vec![vectors("q"), vectors("k"), vectors("v"), vectors("dout"), LSE, DELTA];
    Some(KernelSpec { inputs, outputs: vec![vectors("dk"), vectors("dv")], ..kernel })
}

/// What the three kernels share; `heads` of `rows` rows each are what invocations own, `work`
/// the operations per element of the head and pair of query and key. Ports are the caller's.
fn kernel(
    profile: &Profile,
    shape: &AttentionShape,
    template: &Template,
    [heads, rows]: [usize; 2],
    views: &[(ViewNames, HeadView)],
    work: u64,
) -> Option<KernelSpec> {
    if !supports(shape.size) || shape.source == 0 || shape.key_heads == 0 {
        return None;
    }
    let workgroup = match profile.class {
        AdapterClass::Cpu => profile.subgroup.unwrap_or(8),
        AdapterClass::Discrete | AdapterClass::Integrated | AdapterClass::Apple => 64,
    };
    let lane_rows = rows_per_lane(profile, shape.size).min(rows.div_ceil(workgroup as usize)).max(1);
    let tiles = rows.div_ceil(workgroup as usize * lane_rows);
    let size = |value: usize| u32::try_from(value).ok().map(Param::U32);
    let mut params = vec![
        ("heads", size(heads)?),
        ("share", size(shape.heads / shape.key_heads)?),
        ("time", size(shape.time)?),
        ("source", size(shape.source)?),
        ("tiles", size(tiles)?),
        ("scale", Param::F32(shape.scale)),
        ("before", Param::U32(shape.sight.before.unwrap_or(0).min(FAR))),
        ("after", Param::U32(shape.sight.after.unwrap_or(0).min(FAR))),
    ];
    for (names, view) in views {
        params.extend(names.iter().copied().zip(view.in_vectors()?.map(Param::U32)));
    }
    let stacks = (shape.batch * heads) as u64;
    Some(KernelSpec {
        name: template.name.to_string(),
        body: Cow::Owned(emit(template, shape.size / 4, lane_rows, profile.dealing_lanes())),
        parts: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        params,
        constants: vec![
            ("BEFORE", u32::from(shape.sight.before.is_some())),
            ("AFTER", u32::from(shape.sight.after.is_some())),
            ("ROWS", lane_rows as u32),
        ],
        width: 1,
        workgroup,
        groups: stacks * tiles as u64,
        flops: (shape.batch * shape.heads) as u64 * work * shape.size as u64 * pairs(shape),
    })
}

/// Rows that an invocation owns. A software adapter pays for each load, so several rows share one, as far
/// as its compiler stays quick; a GPU has few enough invocations here as it is.
fn rows_per_lane(profile: &Profile, size: usize) -> usize {
    match profile.class {
        AdapterClass::Cpu => (128 / size).clamp(1, 4),
        AdapterClass::Discrete | AdapterClass::Integrated | AdapterClass::Apple => 1,
    }
}

/// Pairs of query and key that see each other, per head.
fn pairs(shape: &AttentionShape) -> u64 {
    let (time, source) = (shape.time as i64, shape.source as i64);
    let bound = |far: Option<u32>| far.map_or(i64::MAX / 4, i64::from);
    let (before, after) = (bound(shape.sight.before), bound(shape.sight.after));
    let seen = |t: i64| {
        let own = t + source - time;
        let (from, to) = ((own - before).clamp(0, source), (own + after + 1).clamp(0, source));
        (to - from).max(0) as u64
    };
    (0..time).map(seen).sum()
}

/// The body of a kernel for `vectors` vec4s of a head and `rows` rows per invocation; `lanes`: see [`deal`].
fn emit(template: &Template, vectors: usize, rows: usize, lanes: Option<u32>) -> String {
    let tail: String = (0..rows).map(|row| template.tail.replace('$', &row.to_string())).collect();
    let sweep = lanes.map_or_else(|| template.sweep.to_string(), |lanes| deal(template.sweep, vectors, lanes as usize));
    let head = repeat_lines(&format!("{COMMON}{}{sweep}", template.heads), '$', rows);
    repeat_lines(&format!("{head}{tail}}}\n"), '#', vectors)
}

/// A line of a sweep that is of no row of the invocation's own reads the same in every lane. Where each lane pays for that, the lanes
/// of a subgroup, which is the workgroup, read a vec4 each and hand it to the others.
fn deal(sweep: &str, vectors: usize, lanes: usize) -> String {
    // For a quad there is an instruction that SwiftShader is quicker with.
    let broadcast = if lanes == SWIFTSHADER as usize { "quadBroadcast" } else { "subgroupBroadcast" };
    let mut out = String::with_capacity(sweep.len() * 2);
    for line in sweep.lines() {
        let Some((name, read)) = line.split_once("# = ").filter(|_| !line.contains('$')) else {
            out.push_str(&format!("{line}\n"));
            continue;
        };
        for load in 0..vectors.div_ceil(lanes) {
            let own = format!("min(lane + {}u, {}u)", lanes * load, vectors - 1);
            out.push_str(&format!("{name}_own{load} = {}\n", read.replace("#u", &own)));
        }
        let own = name.trim_start().trim_start_matches("let ");
        for vector in 0..vectors {
            out.push_str(&format!("{name}{vector} = {broadcast}({own}_own{}, {}u);\n", vector / lanes, vector % lanes));
        }
    }
    out
}

/// Repeats each line that contains the mark, which becomes 0, 1, ... up to `copies` (exclusive).
fn repeat_lines(template: &str, mark: char, copies: usize) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    for line in template.lines() {
        let copies = if line.contains(mark) { copies } else { 1 };
        for index in 0..copies {
            out.push_str(&line.replace(mark, &index.to_string()));
            out.push('\n');
        }
    }
    out
}

/// A kernel's text: in a line, `#` is one of the vec4s of a head and `$` one of the invocation's rows. A line of the sweep with the first
/// alone is a load.
struct Template {
    name: &'static str,
    /// Where the vectors of the workgroup's head start.
    heads: &'static str,
    /// From the invocation's own rows to the end of the loop over the other side.
    sweep: &'static str,
    /// Writes the results of row `$`.
    tail: &'static str,
}

const COMMON: &str = "\
const LOWEST: f32 = -3.4028234e38;
// Rows of a workgroup: lane l owns rows l, l + WG, ... of them.
const TILE: u32 = WG * ROWS;

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
";

/// Where the heads of a query's kernels lie.
const QUERY_HEADS: &str = "\
    let key_head = head / params.share;
    let q_at = params.q_offset + batch * params.q_batch + head * params.q_head;
    let k_at = params.k_offset + batch * params.k_batch + key_head * params.k_head;
    let v_at = params.v_offset + batch * params.v_batch + key_head * params.v_head;
";

/// Where the head of the keys' kernel lies.
const KEY_HEADS: &str = "\
    let k_at = params.k_offset + batch * params.k_batch + head * params.k_head;
    let v_at = params.v_offset + batch * params.v_batch + head * params.v_head;
";

/// Online softmax over four keys at a time: one maximum and one rescaling for the four. The loops over the
/// four are left to the compiler, whose work on a software adapter they keep short.
const FORWARD: Template = Template {
    name: "attention_forward",
    heads: QUERY_HEADS,
    sweep: "\
    let t$ = min(first + lane + $u * WG, params.time - 1u);
    let from$ = first_key(t$);
    let seen$ = keys_seen(t$);
    let q_row$ = q_at + t$ * params.q_time;
    let q$_# = q[q_row$ + #u] * params.scale;
    var o$_# = vec4<f32>(0.0);
    var top$ = LOWEST;
    var total$ = 0.0;
    let four = vec4<u32>(0u, 1u, 2u, 3u);
    let last = params.source - 1u;
    let end = keys_seen(min(first + TILE, params.time) - 1u);
    for (var s = first_key(first); s < end; s += 4u) {
        var score$ = vec4<f32>(LOWEST);
        for (var j = 0u; j < 4u; j++) {
            let k_row = k_at + min(s + j, last) * params.k_time;
            let k# = k[k_row + #u];
            var sum$ = vec4<f32>(0.0);
            sum$ += q$_# * k#;
            score$ = select(score$, vec4<f32>(sum4(sum$)), vec4<u32>(j) == four);
        }
        // Keys out of sight, or beyond the last one.
        let at$ = vec4<u32>(s) + four;
        score$ = select(vec4<f32>(LOWEST), score$, (at$ >= vec4<u32>(from$)) & (at$ < vec4<u32>(seen$)));
        let new_top$ = max(top$, max(max(score$.x, score$.y), max(score$.z, score$.w)));
        let fade$ = exp(top$ - new_top$);
        let p$ = exp(score$ - new_top$);
        top$ = new_top$;
        total$ = total$ * fade$ + sum4(p$);
        o$_# *= fade$;
        for (var j = 0u; j < 4u; j++) {
            let v_row = v_at + min(s + j, last) * params.v_time;
            let v# = v[v_row + #u];
            let weight$ = p$[j];
            o$_# += weight$ * v#;
        }
    }
",
    tail: "\
    if (first + lane + $u * WG < params.time) {
        let o_row = params.o_offset + batch * params.o_batch + t$ * params.o_time + head * params.o_head;
        let scale = select(0.0, 1.0 / total$, seen$ > from$);
        o[o_row + #u] = o$_# * scale;
        lse[stack * params.time + t$] = select(0.0, top$ + log(total$), seen$ > from$);
    }
",
};

/// With p = exp(score - lse), dp = dot(dout, v), ds = p * (dp - delta): dq = scale * sum over keys of ds * k.
const GRAD_Q: Template = Template {
    name: "attention_grad_q",
    heads: QUERY_HEADS,
    sweep: "\
    let o_at = params.o_offset + batch * params.o_batch + head * params.o_head;
    let dout_at = params.dout_offset + batch * params.dout_batch + head * params.dout_head;
    let t$ = min(first + lane + $u * WG, params.time - 1u);
    let from$ = first_key(t$);
    let seen$ = keys_seen(t$);
    let q_row$ = q_at + t$ * params.q_time;
    let o_row$ = o_at + t$ * params.o_time;
    let dout_row$ = dout_at + t$ * params.dout_time;
    let q$_# = q[q_row$ + #u] * params.scale;
    let dout$_# = dout[dout_row$ + #u];
    var delta4_$ = vec4<f32>(0.0);
    delta4_$ += dout$_# * o[o_row$ + #u];
    let delta$ = sum4(delta4_$);
    let lse$ = lse[stack * params.time + t$];
    var dq$_# = vec4<f32>(0.0);
    let end = keys_seen(min(first + TILE, params.time) - 1u);
    for (var s = first_key(first); s < end; s++) {
        let k_row = k_at + s * params.k_time;
        let v_row = v_at + s * params.v_time;
        let k# = k[k_row + #u];
        let v# = v[v_row + #u];
        var score$ = vec4<f32>(0.0);
        score$ += q$_# * k#;
        var dp$ = vec4<f32>(0.0);
        dp$ += dout$_# * v#;
        let p$ = select(0.0, exp(sum4(score$) - lse$), s >= from$ && s < seen$);
        let ds$ = p$ * (sum4(dp$) - delta$);
        dq$_# += ds$ * k#;
    }
",
    tail: "\
    if (first + lane + $u * WG < params.time) {
        let dq_row = params.dq_offset + batch * params.dq_batch + t$ * params.dq_time + head * params.dq_head;
        dq[dq_row + #u] = dq$_# * params.scale;
        delta[stack * params.time + t$] = delta$;
    }
",
};

/// dv = sum over queries of p * dout; dk = scale * sum over queries of ds * q, with p and ds as in [`GRAD_Q`].
const GRAD_KV: Template = Template {
    name: "attention_grad_kv",
    heads: KEY_HEADS,
    sweep: "\
    let s$ = min(first + lane + $u * WG, params.source - 1u);
    let start$ = first_query(s$);
    let stop$ = last_query(s$);
    let k_row$ = k_at + s$ * params.k_time;
    let v_row$ = v_at + s$ * params.v_time;
    let k$_# = k[k_row$ + #u] * params.scale;
    let v$_# = v[v_row$ + #u];
    var dk$_# = vec4<f32>(0.0);
    var dv$_# = vec4<f32>(0.0);
    let end = last_query(min(first + TILE, params.source) - 1u);
    // The heads of the queries that this head serves.
    for (var query_head = head * params.share; query_head < (head + 1u) * params.share; query_head++) {
        let q_at = params.q_offset + batch * params.q_batch + query_head * params.q_head;
        let dout_at = params.dout_offset + batch * params.dout_batch + query_head * params.dout_head;
        let line = (batch * params.heads * params.share + query_head) * params.time;
        for (var t = first_query(first); t < end; t++) {
            let q_row = q_at + t * params.q_time;
            let dout_row = dout_at + t * params.dout_time;
            let q# = q[q_row + #u];
            let dout# = dout[dout_row + #u];
            let query_lse = lse[line + t];
            let query_delta = delta[line + t];
            var score$ = vec4<f32>(0.0);
            score$ += k$_# * q#;
            var dp$ = vec4<f32>(0.0);
            dp$ += v$_# * dout#;
            let p$ = select(0.0, exp(sum4(score$) - query_lse), t >= start$ && t < stop$);
            let ds$ = p$ * (sum4(dp$) - query_delta);
            dk$_# += ds$ * q#;
            dv$_# += p$ * dout#;
        }
    }
",
    tail: "\
    if (first + lane + $u * WG < params.source) {
        let dk_row = params.dk_offset + batch * params.dk_batch + s$ * params.dk_time + head * params.dk_head;
        let dv_row = params.dv_offset + batch * params.dv_batch + s$ * params.dv_time + head * params.dv_head;
        dk[dk_row + #u] = dk$_# * params.scale;
        dv[dv_row + #u] = dv$_#;
    }
",
};
