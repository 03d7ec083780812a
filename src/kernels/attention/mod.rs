//! Attention without a matrix of weights in memory: the text of one forward and two backward kernels
//! (`torch.nn.functional.scaled_dot_product_attention`; the algorithm is FlashAttention's).
//!
//! In two tiers: registers, with what subgroups there are, for any adapter ([`plain`]), and matrix units where these were
//! checked and measured ([`units`]). This module knows no graph; whether attention comes here or is expanded is the
//! lowering's choice, made from the `None` returned here.

mod choice;
mod plain;
mod units;

#[cfg(test)]
mod tests;

use super::{Element, KernelSpec, Param, Port, Profile};
use crate::graph::Sight;
pub use choice::{Tier, candidates, choose};
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
    /// Whether queries, keys and values, and the gradient of the result where there is one, lie in memory as f16.
    pub halves: bool,
}

impl AttentionShape {
    /// Pairs of query and key that see each other, in all heads.
    pub fn pairs(&self) -> u64 {
        let (time, source) = (self.time as i64, self.source as i64);
        let bound = |far: Option<u32>| far.map_or(i64::MAX / 4, i64::from);
        let (before, after) = (bound(self.sight.before), bound(self.sight.after));
        let seen = |t: i64| {
            let own = t + source - time;
            let (from, to) = ((own - before).clamp(0, source), (own + after + 1).clamp(0, source));
            (to - from).max(0) as u64
        };
        (self.batch * self.heads) as u64 * (0..time).map(seen).sum::<u64>()
    }
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

/// One of the three kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Forward,
    GradQ,
    GradKv,
}

impl Pass {
    /// The heads whose rows are dealt to workgroups, and their number of rows.
    fn owned(self, shape: &AttentionShape) -> [usize; 2] {
        match self {
            Pass::Forward | Pass::GradQ => [shape.heads, shape.time],
            Pass::GradKv => [shape.key_heads, shape.source],
        }
    }

    /// Operations per element of the head and pair of query and key.
    fn work(self) -> u64 {
        match self {
            Pass::Forward => 4,
            Pass::GradQ => 6,
            Pass::GradKv => 8,
        }
    }
}

/// What a tier makes of a pass.
struct Emitted {
    name: String,
    body: String,
    workgroup: u32,
    /// Rows that a workgroup owns.
    rows: u32,
    constants: Vec<(&'static str, u32)>,
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
    kernel(profile, shape, Pass::Forward, &views, &["q", "k", "v"], &["o", "lse"])
}

/// `q`, `k`, `v`, `o`, `dout`, `lse` to secondary outputs `dq` and `delta [batch, heads, time]` f32, each query's
/// `dot(dout, o)`, which [`attention_grad_kv`] needs. Nothing goes through `store`.
pub fn attention_grad_q(profile: &Profile, shape: &AttentionShape, views: &GradViews) -> Option<KernelSpec> {
    let strides = [(Q, views.q), (K, views.k), (V, views.v), (O, views.o), (DOUT, views.dout), (DQ, views.dq)];
    kernel(profile, shape, Pass::GradQ, &strides, &["q", "k", "v", "o", "dout", "lse"], &["dq", "delta"])
}

/// `q`, `k`, `v`, `dout`, `lse`, `delta` to secondary outputs `dk` and `dv`. Nothing goes through `store`.
pub fn attention_grad_kv(profile: &Profile, shape: &AttentionShape, views: &GradViews) -> Option<KernelSpec> {
    let strides = [(Q, views.q), (K, views.k), (V, views.v), (DOUT, views.dout), (DK, views.dk), (DV, views.dv)];
    kernel(profile, shape, Pass::GradKv, &strides, &["q", "k", "v", "dout", "lse", "delta"], &["dk", "dv"])
}

/// What the three kernels share.
fn kernel(
    profile: &Profile,
    shape: &AttentionShape,
    pass: Pass,
    views: &[(ViewNames, HeadView)],
    inputs: &[&'static str],
    outputs: &[&'static str],
) -> Option<KernelSpec> {
    if !supports(shape.size) || shape.source == 0 || shape.key_heads == 0 {
        return None;
    }
    let [heads, rows] = pass.owned(shape);
    let block = choose(profile, shape).block(profile, shape, pass);
    let emitted = match block {
        Some(block) => units::emit(pass, block),
        None => plain::emit(profile, pass, shape.size, rows),
    };
    let Emitted { name, body, workgroup, rows: owned, mut constants } = emitted;
    let tiles = rows.div_ceil(owned as usize);
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
    constants.extend([
        ("BEFORE", u32::from(shape.sight.before.is_some())),
        ("AFTER", u32::from(shape.sight.after.is_some())),
    ]);
    let stacks = (shape.batch * heads) as u64;
    Some(KernelSpec {
        name,
        body: Cow::Owned(body),
        parts: Vec::new(),
        inputs: inputs.iter().map(|name| port(name, block.is_some())).collect(),
        outputs: outputs.iter().map(|name| port(name, false)).collect(),
        params,
        constants,
        width: 1,
        workgroup,
        groups: stacks * tiles as u64,
        flops: pass.work() * shape.size as u64 * shape.pairs(),
    })
}

/// A port by its name. Matrix units get what they multiply as it is stored, in f16.
fn port(name: &'static str, units: bool) -> Port {
    let element = match name {
        "lse" | "delta" => Element::F32,
        "q" | "k" | "v" | "dout" if units => Element::F16x4,
        _ => Element::F32x4,
    };
    Port::new(name, element)
}

/// What a query sees, from the key at which it stands, in WGSL.
const SIGHT: &str = "\
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

";
