//! Attention's relatives: linear attention, a convolution that remembers, attention with graphs of one's own inside.

use super::super::call::{Call, Outputs, Val, one};
use super::super::trace::{Env, Frame};
use super::attention::shared;
use super::{Op, Run, op};
use crate::error::Result;
use crate::graph::Tensor;
use crate::tensor::{ScanOptions, concat, scan};

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "LinearAttention" => op(linear_attention),
        "CausalConvWithState" => op(causal_conv),
        _ => None,
    }
}

/// The domain `ai.onnx.preview`.
pub fn lookup_preview(name: &str) -> Option<Op> {
    (name == "FlexAttention").then_some(Op { run: Run::Nested(flex_attention), constants: &[] })
}

/// A depthwise convolution that looks back only, over what came before too; the last inputs are its memory.
fn causal_conv<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (x, weight) = (c.tensor(0)?, c.tensor(1)?);
    let (xs, ws) = (x.shape(), weight.shape());
    let (&[_, channels, _], &[_, _, size]) = (&xs[..], &ws[..]) else {
        return Err(c.invalid(format_args!("takes [n, c, length] and [c, 1, size], not {xs} and {ws}")));
    };
    if size == 0 {
        return Err(c.invalid("a kernel without elements"));
    }
    let padded = match c.optional(3)? {
        Some(past) => concat(past, &[x], 2),
        None => x.pad(2, size - 1, 0, 0.0),
    };
    c.graph().error()?;
    let y = padded.conv(weight, &[1], &[[0, 0]], &[1], channels);
    c.graph().error()?;
    let y = match c.optional(2)? {
        Some(bias) => y + bias.unsqueeze(-1),
        None => y,
    };
    let y = match c.attr_text("activation", "none").as_str() {
        "none" => y,
        "silu" | "swish" => y.silu(),
        other => return Err(c.invalid(format_args!("`activation` is none, silu or swish, not {other}"))),
    };
    let length = padded.shape()[2];
    Ok(vec![y.into(), Val::from(padded.slice(2, length + 1 - size, length))])
}

/// `[b, t, h d]` as `[t, b, h, d]`, for a scan over time.
fn by_time<'g>(c: &Call<'_, 'g>, x: Tensor<'g>, heads: usize) -> Result<Tensor<'g>> {
    let shape = x.shape();
    match shape[..] {
        [batch, time, hidden] if heads > 0 && hidden.is_multiple_of(heads) => {
            Ok(x.reshape([batch, time, heads, hidden / heads]).permute(&[1, 0, 2, 3]))
        }
        _ => Err(c.invalid(format_args!("{shape} does not have {heads} heads"))),
    }
}

/// A state `[b, h, k, v]` that every step decays, corrects and adds to, and queries read.
fn linear_attention<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (query, value) = (c.tensor(0)?, c.tensor(2)?);
    let heads = [c.count(c.attr_int("q_num_heads", 0))?, c.count(c.attr_int("kv_num_heads", 0))?];
    let [q, k, v] = [by_time(c, query, heads[0])?, by_time(c, c.tensor(1)?, heads[1])?, by_time(c, value, heads[1])?];
    let rule = c.attr_text("update_rule", "gated_delta");
    let (gated, corrected) = match rule.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(c.invalid(format_args!("there is no `update_rule` = {other}"))),
    };
    if gated != c.has(4) || corrected != c.has(5) || !heads[0].is_multiple_of(heads[1]) || q.shape()[3] != k.shape()[3]
    {
        return Err(c.invalid(format_args!("its inputs do not fit `update_rule` = {rule}, or its heads each other")));
    }
    let (batch, size, width) = (q.shape()[1], k.shape()[3], v.shape()[3]);
    let state = match c.optional(3)? {
        Some(state) => state,
        None => c.graph().float(0.0).broadcast_to([batch, heads[1], size, width]),
    };
    // Without a decay nothing is lost, without a correction everything is added.
    let nothing = k.slice(-1, 0, 1).zeros_like();
    let decay = c.optional(4)?.map_or(Ok(nothing), |decay| by_time(c, decay, heads[1]))?.exp();
    let beta = match c.optional(5)? {
        Some(beta) if beta.shape().last() == Some(&1) => by_time(c, beta, 1)?,
        Some(beta) => by_time(c, beta, heads[1])?,
        None => nothing + 1.0,
    };
    let scale = match c.attr_float("scale", 0.0) {
        0.0 => 1.0 / (size.max(1) as f64).sqrt(),
        scale => scale,
    };
    let (carries, stacks) = scan(
        c.graph(),
        &[state],
        &[q * scale, k, v, decay, beta],
        &[],
        ScanOptions::default(),
        |carried, slices, _| {
            let (q, k, v, decay, beta) = (slices[0], slices[1], slices[2], slices[3], slices[4]);
            let old = carried[0] * decay.unsqueeze(-1);
            let kept = k.unsqueeze(-2).matmul(old).squeeze(-2);
            let added = beta * if corrected { v - kept } else { v };
            let new = old + k.unsqueeze(-1) * added.unsqueeze(-2);
            // Queries that share a head stand side by side: [b, h, group, k].
            let (b, h) = (new.shape()[0], new.shape()[1]);
            let group = q.shape()[1] / h.max(1);
            let read = q.reshape([b, h, group, q.shape()[2]]).matmul(new);
            (vec![new], vec![read.reshape([b, h * group, new.shape()[3]])])
        },
    );
    c.graph().error()?;
    match (&carries[..], &stacks[..]) {
        // [t, b, h, v] to [b, t, h v]
        (&[state], &[read, ..]) => Ok(vec![read.permute(&[1, 0, 2, 3]).flatten(2, 3).into(), Val::from(state)]),
        _ => Err(c.unsupported("no steps at all")),
    }
}

/// Attention whose scores and probabilities go through graphs of their own.
fn flex_attention<'c, 'g>(c: &Call<'c, 'g>, env: &Env<'g>, frame: &Frame<'c>) -> Outputs<'g> {
    let (query, key, value) = (c.tensor(0)?, c.tensor(1)?, c.tensor(2)?);
    let q = query.shape();
    if [query, key, value].iter().any(|x| x.rank() != 4) {
        return Err(c.invalid(format_args!("takes four axes, not {q}, {} and {}", key.shape(), value.shape())));
    }
    let scale = c.attr_float("scale", 1.0 / (q[3].max(1) as f64).sqrt());
    let through = |x: Tensor<'g>, name: &str| match c.attribute(name) {
        None => Ok(x),
        Some(_) => {
            let results = super::control::call(c, c.attr_graph(name)?, vec![x.into()], env, frame)?;
            match &results[..] {
                [result] => c.tracer.tensor(result),
                _ => Err(c.invalid(format_args!("`{name}` must give one result"))),
            }
        }
    };
    let scores = (query * scale).matmul(shared(c, key, q[1])?.t());
    c.graph().error()?;
    let weights = through(through(scores, "score_mod")?.softmax(-1), "prob_mod")?;
    one(weights.matmul(shared(c, value, q[1])?))
}
