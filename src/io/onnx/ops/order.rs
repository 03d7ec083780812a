//! Order and running results along an axis.

use super::super::call::{Call, Outputs, Val, one};
use super::{Op, with};
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::Tensor;

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "TopK" => with(top_k, &[1]),
        "CumSum" => with(cumulative_sum, &[1]),
        "CumProd" => with(cumulative_product, &[1]),
        _ => None,
    }
}

/// The `k` largest or smallest elements and their places; of equal ones the first.
fn top_k<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let axis = c.axis(c.attr_int("axis", -1), x.rank())?;
    let k = c.count(if c.opset < 10 { c.attr_int("k", 0) } else { c.int(1)? })?;
    if k > x.shape()[axis] {
        return Err(c.invalid(format_args!("{k} elements of axis {axis} of {}", x.shape())));
    }
    let (values, places) = x.topk(k, axis as isize, c.attr_int("largest", 1) != 0);
    Ok(vec![values.into(), Val::from(places)])
}

/// The axis, and whether it is walked from its end, and without the element itself.
fn walk(c: &Call<'_, '_>, rank: usize) -> Result<(isize, bool, bool)> {
    let axis = c.axis(c.int(1)?, rank)? as isize;
    Ok((axis, c.attr_int("reverse", 0) != 0, c.attr_int("exclusive", 0) != 0))
}

fn cumulative_sum<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let (axis, reverse, exclusive) = walk(c, x.rank())?;
    one(x.cumsum_with(axis, reverse, exclusive))
}

fn cumulative_product<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let (axis, reverse, exclusive) = walk(c, x.rank())?;
    let turned = |x: Tensor<'g>| if reverse { x.flip(&[axis]) } else { x };
    let size = x.shape()[axis as usize];
    let mut y = turned(x);
    if exclusive && size > 0 {
        y = y.slice(axis, 0, size - 1).pad(axis, 1, 0, 1.0);
    }
    let mut step = 1;
    // Each round doubles how far every product reaches.
    while step < size {
        y = y * y.slice(axis, 0, size - step).pad(axis, step, 0, 1.0);
        step *= 2;
    }
    one(turned(y).cast(if x.dtype() == DType::Bool { DType::I32 } else { x.dtype() }))
}
