//! Reductions, largest elements, softmax and running sums.

use super::super::call::{Call, Outputs, one};
use super::{Op, op, with};
use crate::dtype::DType;
use crate::graph::{Literal, Tensor};
use crate::shape::Shape;

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "ReduceSum" => with(|c| reduce(c, 13, |x, axes| x.sum(axes)), &[1]),
        "ReduceMean" => with(|c| reduce(c, 18, mean), &[1]),
        "ReduceMax" => with(|c| reduce(c, 18, largest), &[1]),
        "ReduceMin" => with(|c| reduce(c, 18, smallest), &[1]),
        "ReduceProd" => with(|c| reduce(c, 18, product), &[1]),
        "ReduceL1" => with(|c| reduce(c, 18, |x, axes| x.abs().sum(axes)), &[1]),
        "ReduceL2" => with(|c| reduce(c, 18, |x, axes| (x * x).sum(axes).sqrt()), &[1]),
        "ReduceSumSquare" => with(|c| reduce(c, 18, |x, axes| (x * x).sum(axes)), &[1]),
        "ReduceLogSum" => with(|c| reduce(c, 18, |x, axes| x.sum(axes).log()), &[1]),
        "ReduceLogSumExp" => with(|c| reduce(c, 18, log_sum_exp), &[1]),
        "ArgMax" => op(|c| arg(c, false)),
        "ArgMin" => op(|c| arg(c, true)),
        "Softmax" => op(|c| along(c, |x| x.softmax(-1))),
        "LogSoftmax" => op(|c| along(c, |x| x.log_softmax(-1))),
        "Hardmax" => op(|c| along(c, hardmax)),
        _ => None,
    }
}

type Reduction = for<'g> fn(Tensor<'g>, &[isize]) -> Tensor<'g>;

/// Axes are an attribute, or from version `since` on an input; all axes where none are given.
fn reduce<'g>(c: &Call<'_, 'g>, since: i64, reduction: Reduction) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let rank = x.rank();
    let given = match c.opset >= since {
        true if c.has(1) => Some(c.ints(1)?),
        true => None,
        false => c.attr_ints("axes"),
    };
    let mut axes = c.axes(&given.unwrap_or_default(), rank)?;
    if axes.is_empty() {
        if c.attr_int("noop_with_empty_axes", 0) != 0 {
            // Nothing is reduced, but what is done to the elements is done.
            let one_more = x.unsqueeze(-1);
            return one(reduction(one_more, &[rank as isize]));
        }
        axes = (0..rank).collect();
    }
    let signed: Vec<isize> = axes.iter().map(|&axis| axis as isize).collect();
    let kept: Shape = (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { x.shape()[axis] }).collect();
    let reduced = if x.dtype() == DType::Bool {
        // Of nothing comes an end of the integers' range, which here is that of the bools.
        reduction(x.cast(DType::I32), &signed).maximum(0).minimum(1).cast(DType::Bool)
    } else {
        reduction(x, &signed)
    };
    one(if c.attr_int("keepdims", 1) != 0 { reduced.reshape(kept) } else { reduced })
}

/// Whether there is nothing to combine.
fn nothing(x: Tensor<'_>, axes: &[isize]) -> bool {
    axes.iter().any(|&axis| x.shape()[axis as usize] == 0)
}

fn filled<'g>(x: Tensor<'g>, axes: &[isize], value: f64) -> Tensor<'g> {
    let kept: Shape =
        (0..x.rank()).filter(|&axis| !axes.contains(&(axis as isize))).map(|axis| x.shape()[axis]).collect();
    x.scalar_like(value).broadcast_to(kept)
}

/// The end of what a type can hold: infinity for floats.
fn end_of(dtype: DType, low: bool) -> f64 {
    match (dtype.is_float(), low) {
        (true, true) => f64::NEG_INFINITY,
        (true, false) => f64::INFINITY,
        (false, true) => f64::from(i32::MIN),
        (false, false) => f64::from(i32::MAX),
    }
}

fn largest<'g>(x: Tensor<'g>, axes: &[isize]) -> Tensor<'g> {
    if nothing(x, axes) { filled(x, axes, end_of(x.dtype(), true)) } else { x.max(axes) }
}

fn smallest<'g>(x: Tensor<'g>, axes: &[isize]) -> Tensor<'g> {
    if nothing(x, axes) { filled(x, axes, end_of(x.dtype(), false)) } else { x.min(axes) }
}

/// Of integers the quotient is cut off.
fn mean<'g>(x: Tensor<'g>, axes: &[isize]) -> Tensor<'g> {
    if x.dtype().is_float() {
        return x.mean(axes);
    }
    let count: usize = axes.iter().map(|&axis| x.shape()[axis as usize]).product();
    x.sum(axes) / (count.max(1) as f64)
}

pub fn product<'g>(x: Tensor<'g>, axes: &[isize]) -> Tensor<'g> {
    if nothing(x, axes) { filled(x, axes, 1.0) } else { x.prod(axes) }
}

fn log_sum_exp<'g>(x: Tensor<'g>, axes: &[isize]) -> Tensor<'g> {
    if nothing(x, axes) {
        return filled(x, axes, f64::NEG_INFINITY);
    }
    x.logsumexp(axes)
}

fn arg<'g>(c: &Call<'_, 'g>, smallest: bool) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let axis = c.axis(c.attr_int("axis", 0), x.rank())?;
    let x = if smallest { -x } else { x };
    let (size, signed) = (x.shape()[axis], axis as isize);
    let found = if c.attr_int("select_last_index", 0) != 0 {
        // The last of the largest: the largest index where they are.
        let index = c.graph().iota(x.shape(), axis);
        let top = x.max(&[signed]).unsqueeze(signed);
        let none = c.graph().constant(Literal::new(DType::I32, 0.0));
        if size == 0 { x.argmax(signed) } else { x.eq(top).select(index, none).max(&[signed]) }
    } else {
        x.argmax(signed)
    };
    one(if c.attr_int("keepdims", 1) != 0 { found.unsqueeze(signed) } else { found })
}

/// Along one axis; before version 13 along all axes from the one named.
fn along<'g>(c: &Call<'_, 'g>, body: impl FnOnce(Tensor<'g>) -> Tensor<'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let shape = x.shape();
    if c.opset < 13 {
        let axis = c.axis(c.attr_int("axis", 1), shape.rank().max(1))?;
        let rows: usize = shape[..axis.min(shape.rank())].iter().product();
        let columns: usize = shape[axis.min(shape.rank())..].iter().product();
        return one(body(x.reshape([rows, columns])).reshape(shape));
    }
    let axis = c.axis(c.attr_int("axis", -1), shape.rank())? as isize;
    one(body(x.transpose(axis, -1)).transpose(axis, -1))
}

/// 1 at the first largest element, 0 elsewhere.
fn hardmax(x: Tensor<'_>) -> Tensor<'_> {
    let hot = x.argmax(-1).unsqueeze(-1);
    let index = x.graph().iota(x.shape(), x.rank().saturating_sub(1));
    index.eq(hot).cast(DType::F32)
}
