//! Attention and rotary positions.
//!
//! What may be seen is kept apart from what is added to the scores: a device has no infinity that could stand for both.

use super::super::call::{Call, Outputs, Val, one};
use super::{Op, op};
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Literal, Tensor};
use crate::shape::Shape;
use crate::tensor::concat;

/// A mask below this hides its place.
const HIDDEN: f64 = -1e37;

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "Attention" => op(attention),
        "RotaryEmbedding" => op(rotary_embedding),
        _ => None,
    }
}

/// `[batch, time, heads * size]` as `[batch, heads, time, size]`; four axes stay as they are.
fn heads<'g>(c: &Call<'_, 'g>, x: Tensor<'g>, name: &str) -> Result<Tensor<'g>> {
    let shape = x.shape();
    match shape[..] {
        [_, _, _, _] => Ok(x),
        [batch, time, hidden] => {
            let heads = c.count(c.attr_int(name, 0))?;
            if heads == 0 || !hidden.is_multiple_of(heads) {
                return Err(c.invalid(format_args!("`{name}` = {heads} does not divide {hidden}")));
            }
            Ok(x.reshape([batch, time, heads, hidden / heads]).permute(&[0, 2, 1, 3]))
        }
        _ => Err(c.invalid(format_args!("takes three or four axes, not {shape}"))),
    }
}

/// Keys or values `[b, h, s, d]` with each head repeated for the queries that share it.
pub fn shared<'g>(c: &Call<'_, 'g>, x: Tensor<'g>, queries: usize) -> Result<Tensor<'g>> {
    let shape = x.shape();
    let own = shape[1];
    if own == queries {
        return Ok(x);
    }
    if own == 0 || !queries.is_multiple_of(own) {
        return Err(c.invalid(format_args!("{queries} query heads cannot share {own} key heads")));
    }
    let repeats = queries / own;
    let apart = x.reshape([shape[0], own, 1, shape[2], shape[3]]);
    Ok(apart
        .broadcast_to([shape[0], own, repeats, shape[2], shape[3]])
        .reshape([shape[0], queries, shape[2], shape[3]]))
}

/// What the queries may see, and what is added to their scores; both broadcast to `[b, h, t, s]`.
struct Mask<'g> {
    allowed: Tensor<'g>,
    bias: Option<Tensor<'g>>,
}

fn attention<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let three = x.rank() == 3;
    let query = heads(c, x, "q_num_heads")?;
    let joined = |index: usize, past: usize| {
        let new = heads(c, c.tensor(index)?, "kv_num_heads")?;
        Ok(c.optional(past)?.map_or(new, |past| concat(past, &[new], 2)))
    };
    let (key, value) = (joined(1, 4)?, joined(2, 5)?);
    c.graph().error()?;
    let (q, k) = (query.shape(), key.shape());
    if k.rank() != 4 || value.rank() != 4 || q[3] != k[3] || value.shape()[2] != k[2] {
        return Err(c.invalid(format_args!("queries {q}, keys {k} and values {} do not fit", value.shape())));
    }
    let default = 1.0 / (q[3].max(1) as f64).sqrt();
    let scale = c.attr_float("scale", default);
    let mut scores = (query * scale).matmul(shared(c, key, q[1])?.t());
    let mode = c.attr_int("qk_matmul_output_mode", 0);
    let raw = scores;
    let softcap = c.attr_float("softcap", 0.0);
    if softcap > 0.0 {
        scores = (scores * (1.0 / softcap)).tanh() * softcap;
    }
    let capped = scores;
    let mask = mask(c, &q, &k)?;
    let biased = mask.bias.map_or(scores, |bias| scores + bias);
    let allowed = mask.allowed.broadcast_to(scores.shape());
    let weights = allowed.select(allowed.select(biased, HIDDEN).softmax(-1), 0.0);
    let shown = match mode {
        0 => raw,
        1 => capped,
        2 => allowed.select(biased, f64::NEG_INFINITY),
        3 => weights,
        other => return Err(c.invalid(format_args!("`qk_matmul_output_mode` is 0 to 3, not {other}"))),
    };
    let y = weights.matmul(shared(c, value, q[1])?);
    let y = if three { y.permute(&[0, 2, 1, 3]).flatten(2, 3) } else { y };
    Ok([y, key, value, shown].map(Val::from).to_vec())
}

/// Everything that limits what is seen: the mask given, padding, causality, windows.
fn mask<'g>(c: &Call<'_, 'g>, q: &Shape, k: &Shape) -> Result<Mask<'g>> {
    let (graph, t, s) = (c.graph(), q[2], k[2]);
    let mut allowed = graph.constant(Literal::new(DType::Bool, 1.0)).broadcast_to([1, 1, t, s]);
    let mut bias = None;
    if let Some(given) = c.optional(3)? {
        let missing = s.saturating_sub(given.shape().last().copied().unwrap_or(s));
        let (seen, added) = match given.dtype() {
            DType::Bool => (given, None),
            _ => {
                let seen = given.gt(HIDDEN);
                (seen, Some(seen.select(given, 0.0)))
            }
        };
        // Keys that the mask does not reach are not seen.
        let seen = if missing > 0 { seen.pad(-1, 0, missing, 0.0) } else { seen };
        bias = added.map(|added| if missing > 0 { added.pad(-1, 0, missing, 0.0) } else { added });
        allowed = allowed.logical_and(seen);
    }
    let (row, column) = (graph.iota([1, 1, t, s], 2), graph.iota([1, 1, t, s], 3));
    let mut place = row;
    if let Some(lengths) = c.optional(6)? {
        let lengths = lengths.reshape([q[0], 1, 1, 1]);
        allowed = allowed.logical_and(column.lt(lengths));
        place = row + (lengths - t as i32);
    } else if let Some(past) = c.val(4) {
        place = row + past.shape().get(2).copied().unwrap_or(0) as f64;
    }
    if c.attr_int("is_causal", 0) != 0 {
        allowed = allowed.logical_and(column.le(place));
    }
    let (left, right) = (c.attr_int("left_window_size", -1), c.attr_int("right_window_size", -1));
    if left >= 0 {
        allowed = allowed.logical_and((place - column).le(left.min(i64::from(i32::MAX)) as f64));
    }
    if right >= 0 {
        allowed = allowed.logical_and((column - place).le(right.min(i64::from(i32::MAX)) as f64));
    }
    Ok(Mask { allowed, bias })
}

/// Pairs of features turned by an angle that grows with the position.
fn rotary_embedding<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let shape = x.shape();
    let h = heads(c, x, "num_heads")?;
    let size = h.shape()[3];
    let turned = match c.count(c.attr_int("rotary_embedding_dim", 0))? {
        0 => size,
        some => some,
    };
    if turned > size || turned % 2 != 0 {
        return Err(c.invalid(format_args!("{turned} of {size} features cannot be turned in pairs")));
    }
    // [b, t, turned / 2], beside the heads
    let table = |index: usize| {
        let table = c.tensor(index)?;
        let rows = c.optional(3)?.map_or(table, |positions| table.gather(positions));
        Ok(rows.unsqueeze(1))
    };
    let (cos, sin) = (table(1)?, table(2)?);
    let (part, rest) = (h.slice(-1, 0, turned), h.slice(-1, turned, size));
    let half = turned / 2;
    let own = part.shape();
    let y = if c.attr_int("interleaved", 0) != 0 {
        let pairs = part.reshape([own[0], own[1], own[2], half, 2]);
        let (a, b) = (pairs.slice(-1, 0, 1).squeeze(-1), pairs.slice(-1, 1, 2).squeeze(-1));
        let (real, imaginary) = (cos * a - sin * b, sin * a + cos * b);
        concat(real.unsqueeze(-1), &[imaginary.unsqueeze(-1)], -1).reshape(own)
    } else {
        let (a, b) = (part.slice(-1, 0, half), part.slice(-1, half, turned));
        concat(cos * a - sin * b, &[sin * a + cos * b], -1)
    };
    let y = if turned < size { concat(y, &[rest], -1) } else { y };
    one(if shape.rank() == 3 { y.permute(&[0, 2, 1, 3]).reshape(shape) } else { y })
}
