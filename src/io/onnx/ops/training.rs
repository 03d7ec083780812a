//! The domain `ai.onnx.preview.training`: gradients, and update rules over lists of tensors.

use super::super::call::{Call, Outputs, Val};
use super::super::trace::{Env, Frame, lookup as value_of};
use super::{Op, Run, op};
use crate::autodiff::vjp;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::Tensor;

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "Gradient" => Some(Op { run: Run::Nested(gradient), constants: &[] }),
        "Adagrad" => op(adagrad),
        "Adam" => op(adam),
        "Momentum" => op(momentum),
        _ => None,
    }
}

/// The gradients of `y` with respect to each of `xs`, at the values that they have in the graph.
fn gradient<'c, 'g>(c: &Call<'c, 'g>, env: &Env<'g>, _: &Frame<'c>) -> Outputs<'g> {
    let xs = c.attr_texts("xs").unwrap_or_default();
    let names = xs.iter().chain(&c.attr_texts("zs").unwrap_or_default()).cloned().collect::<Vec<_>>();
    if c.node.input != names {
        return Err(c.unsupported("gradients elsewhere than at the values that the graph gives"));
    }
    let y = c.tracer.tensor(value_of(env, &c.attr_text("y", ""))?)?;
    let wrt = xs.iter().map(|name| c.tracer.tensor(value_of(env, name)?)).collect::<Result<Vec<_>>>()?;
    let seed = y.zeros_like() + 1.0;
    Ok(vjp(&[(y, seed)], &wrt)?.into_iter().map(Val::from).collect())
}

/// The lists of an update: after rate and step come `lists` lists of equal length.
struct Lists<'g> {
    rate: Tensor<'g>,
    step: Tensor<'g>,
    tensors: Vec<Vec<Tensor<'g>>>,
}

impl<'g> Lists<'g> {
    fn read(c: &Call<'_, 'g>, lists: usize) -> Result<Lists<'g>> {
        let mut all = c.tensors()?;
        if all.len() < 2 || (all.len() - 2) % lists != 0 {
            return Err(c.invalid(format_args!("takes rate, step and {lists} lists of equal length")));
        }
        let rest = all.split_off(2);
        let n = (rest.len() / lists).max(1);
        Ok(Lists { rate: all[0], step: all[1].cast(DType::F32), tensors: rest.chunks(n).map(<[_]>::to_vec).collect() })
    }

    /// The rows across the lists: one tensor of each.
    fn rows(&self) -> impl Iterator<Item = Vec<Tensor<'g>>> {
        let n = self.tensors.first().map_or(0, Vec::len);
        (0..n).map(|i| self.tensors.iter().map(|list| list[i]).collect())
    }
}

/// All first results, then all second ones, and so on.
fn listed<'g>(rows: Vec<Vec<Tensor<'g>>>) -> Outputs<'g> {
    let width = rows.first().map_or(0, Vec::len);
    Ok((0..width).flat_map(|i| rows.iter().map(move |row| Val::from(row[i]))).collect())
}

/// `base` to the power of a whole number that is known at run time, for a base between 0 and 1.
fn power<'g>(base: f64, exponent: Tensor<'g>) -> Tensor<'g> {
    if base <= 0.0 { exponent.eq(0.0).cast(DType::F32) } else { (exponent * base.ln()).exp() }
}

fn adagrad<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let lists = Lists::read(c, 3)?;
    let rate = lists.rate / (lists.step * c.attr_float("decay_factor", 0.0) + 1.0);
    let (decay, eps) = (c.attr_float("norm_coefficient", 0.0), c.attr_float("epsilon", 1e-6));
    let update = |row: Vec<Tensor<'g>>| {
        let (x, g, h) = (row[0], row[1], row[2]);
        let g = x * decay + g;
        let h = h + g * g;
        vec![x - rate * g / (h.sqrt() + eps), h]
    };
    listed(lists.rows().map(update).collect())
}

fn adam<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let lists = Lists::read(c, 4)?;
    let (alpha, beta) = (c.attr_float("alpha", 0.9), c.attr_float("beta", 0.999));
    let (decay, after) = (c.attr_float("norm_coefficient", 0.0), c.attr_float("norm_coefficient_post", 0.0));
    let eps = c.attr_float("epsilon", 1e-6);
    let corrected = (1.0 - power(beta, lists.step)).sqrt() / (1.0 - power(alpha, lists.step));
    let rate = lists.step.gt(0.0).select(lists.rate * corrected, lists.rate);
    let update = |row: Vec<Tensor<'g>>| {
        let (x, g, v, h) = (row[0], row[1], row[2], row[3]);
        let g = x * decay + g;
        let v = v * alpha + g * (1.0 - alpha);
        let h = h * beta + g * g * (1.0 - beta);
        let x = x - rate * v / (h.sqrt() + eps);
        vec![x * (1.0 - after), v, h]
    };
    listed(lists.rows().map(update).collect())
}

fn momentum<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let lists = Lists::read(c, 3)?;
    let (alpha, beta) = (c.attr_float("alpha", 0.9), c.attr_float("beta", 1.0));
    let decay = c.attr_float("norm_coefficient", 0.0);
    let nesterov = match c.attr_text("mode", "standard").as_str() {
        "standard" => false,
        "nesterov" => true,
        other => return Err(c.invalid(format_args!("`mode` is standard or nesterov, not {other}"))),
    };
    let beta = lists.step.gt(0.0).select(lists.rate.scalar_like(beta), 1.0);
    let update = |row: Vec<Tensor<'g>>| {
        let (x, g, v) = (row[0], row[1], row[2]);
        let g = x * decay + g;
        let v = v * alpha + beta * g;
        let direction = if nesterov { g + v * alpha } else { v };
        vec![x - lists.rate * direction, v]
    };
    listed(lists.rows().map(update).collect())
}
