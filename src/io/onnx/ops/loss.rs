//! Losses over classes: axis 1 of the scores.

use super::super::call::{Call, Val};
use super::{Op, op};
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::Tensor;

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "NegativeLogLikelihoodLoss" => op(|c| {
            let x = c.tensor(0)?;
            Ok(vec![likelihood(c, x)?.into()])
        }),
        "SoftmaxCrossEntropyLoss" => op(|c| {
            let x = c.tensor(0)?;
            if x.rank() < 2 {
                return Err(c.invalid(format_args!("scores must be [n, classes, ..], not {}", x.shape())));
            }
            let log_probability = x.log_softmax(1);
            Ok(vec![Val::from(likelihood(c, log_probability)?), log_probability.into()])
        }),
        _ => None,
    }
}

/// Minus the score of each target, weighted by its class; targets of `ignore_index` do not count.
fn likelihood<'g>(c: &Call<'_, 'g>, x: Tensor<'g>) -> Result<Tensor<'g>> {
    let (target, weight, shape) = (c.tensor(1)?, c.optional(2)?, x.shape());
    if shape.rank() < 2 || target.shape() != shape.without(1) {
        return Err(c.invalid(format_args!("targets {} do not fit scores {shape}", target.shape())));
    }
    let (classes, count) = (shape[1], target.shape().numel());
    let order: Vec<usize> = (0..shape.rank()).filter(|&axis| axis != 1).chain([1]).collect();
    let flat = target.reshape([count]);
    let index = c.attribute("ignore_index").and_then(|attribute| attribute.i);
    let ignored = index.map(|index| flat.eq(index.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as f64));
    let class = ignored.map_or(flat, |ignored| ignored.select(0, flat));
    let place = c.graph().iota([count], 0) * classes as f64 + class;
    let score = x.permute(&order).reshape([count * classes]).gather(place);
    let ones = score.zeros_like() + 1.0;
    let factor = weight.map_or(ones, |weight| weight.gather(class));
    let factor = ignored.map_or(factor, |ignored| ignored.select(0.0, factor));
    let losses = -score * factor;
    match c.attr_text("reduction", "mean").as_str() {
        "none" => Ok(losses.reshape(target.shape())),
        "sum" => Ok(losses.sum_all()),
        "mean" if weight.is_none() && ignored.is_none() => Ok(losses.mean_all()),
        "mean" => Ok(losses.sum_all() / factor.cast(DType::F32).sum_all()),
        other => Err(c.invalid(format_args!("`reduction` is none, sum or mean, not {other}"))),
    }
}
