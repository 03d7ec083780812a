//! Normalisation and dropout.

use super::super::call::{Call, Outputs, Val, one};
use super::super::constant::{Constant, Elem};
use super::twister::Twister;
use super::{Op, op, with};
use crate::error::Result;
use crate::graph::Tensor;
use crate::shape::Shape;

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "LayerNormalization" => op(layer_norm),
        "RMSNormalization" => op(rms_norm),
        "BatchNormalization" => op(batch_norm),
        "InstanceNormalization" => op(instance_norm),
        "GroupNormalization" => op(group_norm),
        "MeanVarianceNormalization" => op(mean_variance_norm),
        "LpNormalization" => op(lp_norm),
        "LRN" => op(local_response_norm),
        "Dropout" => with(dropout, &[1, 2]),
        _ => None,
    }
}

/// The last axes from `axis` on, all of which are normalised together.
fn trailing(c: &Call<'_, '_>, rank: usize) -> Result<Vec<isize>> {
    let first = c.axis(c.attr_int("axis", -1), rank)?;
    Ok((first as isize..rank as isize).collect())
}

/// Mean over axes, which stay with size 1.
fn mean_kept<'g>(x: Tensor<'g>, axes: &[isize]) -> Tensor<'g> {
    x.mean(axes).keep_axes(x, axes)
}

fn layer_norm<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (x, scale, bias) = (c.tensor(0)?, c.tensor(1)?, c.optional(2)?);
    let (shape, axes) = (x.shape(), trailing(c, x.rank())?);
    let eps = c.attr_float("epsilon", 1e-5);
    let normal = Shape::from(&shape[shape.rank() - axes.len()..]);
    let plain = !c.wants(1) && !c.wants(2) && scale.shape() == normal && bias.is_none_or(|bias| bias.shape() == normal);
    if plain {
        let size = normal.numel();
        let bias = bias.unwrap_or_else(|| scale.zeros_like());
        let flat = x.reshape([shape.numel() / size.max(1), size]);
        return one(flat.layer_norm(scale.reshape([size]), bias.reshape([size]), eps as f32).reshape(shape));
    }
    let mean = mean_kept(x, &axes);
    let centred = x - mean;
    let inverse = (mean_kept(centred * centred, &axes) + eps).rsqrt();
    let y = centred * inverse * scale;
    Ok(vec![bias.map_or(y, |bias| y + bias).into(), mean.into(), inverse.into()])
}

fn rms_norm<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (x, scale) = (c.tensor(0)?, c.tensor(1)?);
    let axes = trailing(c, x.rank())?;
    let inverse = (mean_kept(x * x, &axes) + c.attr_float("epsilon", 1e-5)).rsqrt();
    one(x * inverse * scale)
}

/// A vector of one number a channel (axis 1) as it stands beside a tensor of that rank.
fn per_channel<'g>(c: &Call<'_, 'g>, vector: Tensor<'g>, x: Tensor<'g>) -> Result<Tensor<'g>> {
    let shape = x.shape();
    let channels = shape.get(1).copied().unwrap_or(1);
    if *vector.shape() != [channels] {
        return Err(c.invalid(format_args!("one number a channel of {shape}, got {}", vector.shape())));
    }
    Ok(vector.reshape((0..shape.rank().max(2)).map(|axis| if axis == 1 { channels } else { 1 }).collect::<Shape>()))
}

/// All axes but the second.
fn but_channels(rank: usize) -> Vec<isize> {
    (0..rank as isize).filter(|&axis| axis != 1).collect()
}

fn batch_norm<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let old = (c.tensor(3)?, c.tensor(4)?);
    let vector = |index: usize| per_channel(c, c.tensor(index)?, x);
    let (scale, bias, eps) = (vector(1)?, vector(2)?, c.attr_float("epsilon", 1e-5));
    if c.opset < 9 && c.attr_int("spatial", 1) == 0 {
        return Err(c.unsupported("statistics of single positions (`spatial` = 0)"));
    }
    // Before version 14 training was told by further outputs, before 7 by `is_test`.
    let training = match c.opset {
        14.. => c.attr_int("training_mode", 0) != 0,
        7.. => c.wants(1),
        _ => c.attr_int("is_test", 0) == 0,
    };
    if !training {
        let factor = scale * (vector(4)? + eps).rsqrt();
        return one(x * factor + (bias - vector(3)? * factor));
    }
    let axes = but_channels(x.rank());
    let mean = x.mean(&axes);
    let centred = x - per_channel(c, mean, x)?;
    let variance = (centred * centred).mean(&axes);
    let y = centred * (per_channel(c, variance, x)? + eps).rsqrt() * scale + bias;
    let momentum = c.attr_float("momentum", 0.9);
    let mixed = |old: Tensor<'g>, new: Tensor<'g>| Val::from(old * momentum + new * (1.0 - momentum));
    Ok(vec![y.into(), mixed(old.0, mean), mixed(old.1, variance)])
}

fn instance_norm<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let axes: Vec<isize> = (2..x.rank() as isize).collect();
    let (scale, bias) = (per_channel(c, c.tensor(1)?, x)?, per_channel(c, c.tensor(2)?, x)?);
    one(normalised(x, &axes, c.attr_float("epsilon", 1e-5)) * scale + bias)
}

fn normalised<'g>(x: Tensor<'g>, axes: &[isize], eps: f64) -> Tensor<'g> {
    let centred = x - mean_kept(x, axes);
    centred * (mean_kept(centred * centred, axes) + eps).rsqrt()
}

/// Scale and bias are one number a channel; before version 21 one number a group.
fn group_norm<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let (shape, groups) = (x.shape(), c.count(c.attr_int("num_groups", 0))?);
    let &[n, channels, ..] = &shape[..] else { return Err(c.invalid(format_args!("takes [n, c, ..], not {shape}"))) };
    if groups == 0 || channels % groups != 0 {
        return Err(c.invalid(format_args!("{groups} groups do not divide {channels} channels")));
    }
    let inner = shape.numel().checked_div(n * groups).unwrap_or(0);
    let flat = normalised(x.reshape([n, groups, inner]), &[2], c.attr_float("epsilon", 1e-5));
    if c.opset < 21 {
        let vector = |index: usize| c.tensor(index).map(|vector| vector.reshape([1, groups, 1]));
        return one((flat * vector(1)? + vector(2)?).reshape(shape));
    }
    let y = flat.reshape(&shape);
    one(y * per_channel(c, c.tensor(1)?, x)? + per_channel(c, c.tensor(2)?, x)?)
}

fn mean_variance_norm<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let axes = c.axes(&c.attr_ints("axes").unwrap_or_else(|| vec![0, 2, 3]), x.rank())?;
    let axes: Vec<isize> = axes.into_iter().map(|axis| axis as isize).collect();
    let centred = x - mean_kept(x, &axes);
    one(centred / (mean_kept(centred * centred, &axes).sqrt() + 1e-9))
}

fn lp_norm<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let axis = [c.axis(c.attr_int("axis", -1), x.rank())? as isize];
    let norm = match c.attr_int("p", 2) {
        1 => x.abs().sum(&axis),
        2 => (x * x).sum(&axis).sqrt(),
        other => return Err(c.invalid(format_args!("`p` is 1 or 2, not {other}"))),
    };
    // Nothing stays nothing.
    let norm = norm.eq(0.0).select(norm.zeros_like() + 1.0, norm);
    one(x / norm.keep_axes(x, &axis))
}

/// Each channel divided by a power of the squares of its neighbours.
fn local_response_norm<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let size = c.count(c.attr_int("size", 1))?;
    let channels = x.shape().get(1).copied().ok_or_else(|| c.invalid("takes [n, c, ..]"))?;
    let (before, after) = (size.saturating_sub(1) / 2, size / 2);
    let squares = (x * x).pad(1, before.min(channels), after.min(channels), 0.0);
    let mut sum = x.zeros_like();
    let shift = before.min(channels);
    for offset in shift.saturating_sub(before)..=(shift + after).min(shift + channels) {
        sum = sum + squares.slice(1, offset, offset + channels);
    }
    let (alpha, beta) = (c.attr_float("alpha", 1e-4), c.attr_float("beta", 0.75));
    one(x / (sum * (alpha / size.max(1) as f64) + c.attr_float("bias", 1.0)).pow(beta))
}

/// Outside training everything passes. In a graph that trains, a new mask is drawn for each run; elsewhere `training_mode` with a
/// seed gives the mask of ONNX's own definition, and without one there is no right answer.
fn dropout<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let ratio = if c.opset < 12 { c.attr_float("ratio", 0.5) } else { c.number_or(1, 0.5)? };
    let training = c.opset >= 12 && c.number_or(2, 0.0)? != 0.0 && ratio > 0.0;
    if !training {
        return Ok(vec![x.into(), x.zeros_like().eq(0.0).into()]);
    }
    if c.graph().is_training() && !c.wants(1) {
        return one(x.dropout(ratio));
    }
    let seed = c.attribute("seed").and_then(|attribute| attribute.i).and_then(|seed| u32::try_from(seed).ok());
    let seed = seed.ok_or_else(|| c.unsupported("random masks without a seed outside of a training graph"))?;
    c.computed(x.shape().numel())?;
    let mut twister = Twister::new(seed);
    let kept = (0..x.shape().numel()).map(|_| f64::from(u8::from(twister.uniform() >= ratio))).collect();
    let kept = Constant { elem: Elem::Bool, shape: x.shape(), data: kept };
    let mask = c.tracer.tensor(&Val { name: format!("{}.mask", c.path).into(), ..kept.into() })?;
    Ok(vec![mask.select(x * (1.0 / (1.0 - ratio)), 0.0).into(), mask.into()])
}
