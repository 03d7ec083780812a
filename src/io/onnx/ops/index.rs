//! Gathering, scattering and choosing by index.
//!
//! All of it becomes the graph's `gather` and `scatter_add` of rows: coordinates are turned into row numbers first.
//! Negative indices count from the end.

use super::super::call::{Call, Outputs, one};
use super::super::constant::{Constant, Elem};
use super::reduce::product;
use super::shape::take;
use super::{Op, op, with};
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Literal, Tensor};
use crate::shape::Shape;

/// Largest table that is compared element by element where several updates meet.
const MAX_COMPARED: usize = 1 << 24;

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "Gather" => op(gather),
        "GatherElements" => op(gather_elements),
        "GatherND" => op(gather_nd),
        "ScatterElements" | "Scatter" => op(scatter_elements),
        "ScatterND" => op(scatter_nd),
        "OneHot" => with(one_hot, &[1]),
        "ReverseSequence" => op(reverse_sequence),
        "Compress" => with(compress, &[1]),
        "NonZero" => with(non_zero, &[0]),
        "TensorScatter" => op(tensor_scatter),
        _ => None,
    }
}

/// The domain `ai.onnx.ml`, of which only what needs no tables is there.
pub fn lookup_ml(name: &str) -> Option<Op> {
    match name {
        "Binarizer" => op(|c| c.unary(|x| x.gt(c.attr_float("threshold", 0.0)).cast(x.dtype()))),
        "ArrayFeatureExtractor" => op(|c| {
            let (x, index) = (c.tensor(0)?, c.tensor(1)?);
            let last = x.rank().checked_sub(1).ok_or_else(|| c.invalid("takes at least one axis"))?;
            let count = index.shape().numel();
            one(take(x, last, index.reshape([count])))
        }),
        _ => None,
    }
}

/// Negative indices as what they mean.
fn wrapped(index: Tensor<'_>, size: usize) -> Tensor<'_> {
    index.lt(0).select(index + size as f64, index)
}

fn gather<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (x, index) = (c.tensor(0)?, c.tensor(1)?);
    let axis = c.axis(c.attr_int("axis", 0), x.rank())?;
    one(take(x, axis, wrapped(index, x.shape()[axis])))
}

/// For each element of `index` the row-major number of the element of `shape` that it points at along `axis`.
fn along_axis<'g>(c: &Call<'_, 'g>, index: Tensor<'g>, shape: &Shape, axis: usize) -> Result<Tensor<'g>> {
    let (own, strides) = (index.shape(), shape.strides());
    if own.rank() != shape.rank() {
        return Err(c.invalid(format_args!("indices {own} and data {shape} must have as many axes")));
    }
    let mut number = wrapped(index, shape[axis]) * strides[axis] as f64;
    for other in (0..own.rank()).filter(|&other| other != axis && own[other] > 1) {
        number = number + c.graph().iota(&own, other) * strides[other] as f64;
    }
    Ok(number)
}

fn gather_elements<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (x, index) = (c.tensor(0)?, c.tensor(1)?);
    let axis = c.axis(c.attr_int("axis", 0), x.rank())?;
    let number = along_axis(c, index, &x.shape(), axis)?;
    one(x.reshape([x.shape().numel()]).gather(number))
}

/// Row numbers of `index [.., k]`, whose last axis holds coordinates of the first axes of `shape` after `batch` that both share.
fn rows_of<'g>(c: &Call<'_, 'g>, index: Tensor<'g>, shape: &Shape, batch: usize) -> Result<(Tensor<'g>, usize)> {
    let own = index.shape();
    let last = own.rank().checked_sub(1).ok_or_else(|| c.invalid("indices must have an axis"))?;
    let k = own[last];
    if batch > last || batch + k > shape.rank() || own[..batch] != shape[..batch] {
        return Err(c.invalid(format_args!("indices {own} do not point into {shape}")));
    }
    let lead = Shape::from(&own[..last]);
    let mut number = c.graph().constant(Literal::new(DType::I32, 0.0)).broadcast_to(&lead);
    for axis in 0..batch + k {
        let coordinate = if axis < batch {
            c.graph().iota(&lead, axis)
        } else {
            let part = index.slice(last as isize, axis - batch, axis - batch + 1).squeeze(last as isize);
            wrapped(part, shape[axis])
        };
        number = number * shape[axis] as f64 + coordinate;
    }
    Ok((number, batch + k))
}

fn gather_nd<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (x, index) = (c.tensor(0)?, c.tensor(1)?);
    let (shape, batch) = (x.shape(), c.count(c.attr_int("batch_dims", 0))?);
    let (number, used) = rows_of(c, index, &shape, batch)?;
    let rows: usize = shape[..used].iter().product();
    let table: Shape = std::iter::once(rows).chain(shape[used..].iter().copied()).collect();
    one(x.reshape(table).gather(number))
}

fn scatter_elements<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (x, index, updates) = (c.tensor(0)?, c.tensor(1)?, c.tensor(2)?);
    let axis = c.axis(c.attr_int("axis", 0), x.rank())?;
    let (shape, count) = (x.shape(), updates.shape().numel());
    if updates.shape() != index.shape() {
        return Err(c.invalid(format_args!("updates {} and indices {} differ", updates.shape(), index.shape())));
    }
    let number = along_axis(c, index, &shape, axis)?.reshape([count]);
    let result = scatter(c, x.reshape([shape.numel(), 1]), number, updates.reshape([count, 1]))?;
    one(result.reshape(shape))
}

fn scatter_nd<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (x, index, updates) = (c.tensor(0)?, c.tensor(1)?, c.tensor(2)?);
    let shape = x.shape();
    let (number, used) = rows_of(c, index, &shape, 0)?;
    let (rows, rest): (usize, usize) = (shape[..used].iter().product(), shape[used..].iter().product());
    let count = number.shape().numel();
    let wanted: Shape = number.shape().iter().chain(&shape[used..]).copied().collect();
    if updates.shape() != wanted {
        return Err(c.invalid(format_args!("updates must be {wanted}, not {}", updates.shape())));
    }
    let result = scatter(c, x.reshape([rows, rest]), number.reshape([count]), updates.reshape([count, rest]))?;
    one(result.reshape(shape))
}

/// Rows `updates [m, n]` put into `x [rows, n]` by number, combined as the attribute `reduction` says.
fn scatter<'g>(c: &Call<'_, 'g>, x: Tensor<'g>, number: Tensor<'g>, updates: Tensor<'g>) -> Result<Tensor<'g>> {
    if updates.dtype() != x.dtype() {
        return Err(c.invalid(format_args!("updates are {}, data is {}", updates.dtype(), x.dtype())));
    }
    match c.attr_text("reduction", "none").as_str() {
        "none" => {
            let hit = updates.zeros_like().cast(DType::F32) + 1.0;
            let hit = hit.scatter_add(number, x.shape()[0]).gt(0.0);
            Ok(hit.select(scattered_sum(updates, number, x.shape()[0]), x))
        }
        "add" => Ok(x + scattered_sum(updates, number, x.shape()[0])),
        "mul" => compared(c, x, number, updates, 1.0, |all| product(all, &[1])).map(|y| y * x),
        "max" => compared(c, x, number, updates, lowest(x.dtype()), |all| all.max(&[1])).map(|y| y.maximum(x)),
        "min" => compared(c, x, number, updates, -lowest(x.dtype()), |all| all.min(&[1])).map(|y| y.minimum(x)),
        other => Err(c.invalid(format_args!("`reduction` is none, add, mul, max or min, not {other}"))),
    }
}

fn lowest(dtype: DType) -> f64 {
    if dtype.is_float() { f64::NEG_INFINITY } else { -2_147_483_647.0 }
}

/// Rows added up by number. Integers go in two halves, each exact in f32.
fn scattered_sum<'g>(updates: Tensor<'g>, number: Tensor<'g>, rows: usize) -> Tensor<'g> {
    match updates.dtype() {
        DType::I32 => {
            // Towards minus infinity, so that the low half is never negative.
            let floor = (updates - updates.lt(0).select(updates.zeros_like() + 65_535, 0)) / 65_536;
            let low = updates - floor * 65_536;
            let sum = |part: Tensor<'g>| part.cast(DType::F32).scatter_add(number, rows).cast(DType::I32);
            sum(floor) * 65_536 + sum(low)
        }
        DType::Bool => updates.cast(DType::F32).scatter_add(number, rows).cast(DType::Bool),
        _ => updates.scatter_add(number, rows),
    }
}

/// For each row all updates that point at it, others replaced by `neutral`: `[rows, m, n]`, reduced by `combine`.
fn compared<'g>(
    c: &Call<'_, 'g>,
    x: Tensor<'g>,
    number: Tensor<'g>,
    updates: Tensor<'g>,
    neutral: f64,
    combine: impl Fn(Tensor<'g>) -> Tensor<'g>,
) -> Result<Tensor<'g>> {
    let (rows, m, n) = (x.shape()[0], updates.shape()[0], updates.shape()[1]);
    if rows.saturating_mul(m).saturating_mul(n) > MAX_COMPARED {
        return Err(c.unsupported("so many updates combined by a product, maximum or minimum"));
    }
    if m == 0 {
        return Ok(x.scalar_like(neutral).broadcast_to(x.shape()));
    }
    let row = c.graph().iota([rows, m], 0);
    let here = row.eq(number.reshape([1, m])).unsqueeze(-1).broadcast_to([rows, m, n]);
    Ok(combine(here.select(updates.reshape([1, m, n]).broadcast_to([rows, m, n]), x.scalar_like(neutral))))
}

fn one_hot<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (index, depth) = (c.tensor(0)?.cast(DType::I32), c.count(c.number(1)? as i64)?);
    let values = c.tensor(2)?;
    let axis = c.axis(c.attr_int("axis", -1), index.rank() + 1)?;
    let mut sizes = index.shape().to_vec();
    sizes.insert(axis, depth);
    let shape = c.sizes(&sizes)?;
    let hot = wrapped(index, depth).unsqueeze(axis as isize).eq(c.graph().iota(&shape, axis));
    let value = |at: usize| values.slice(0, at, at + 1).reshape([]);
    one(hot.select(value(1), value(0)))
}

/// The first entries of each sequence in reverse order; the rest stay.
fn reverse_sequence<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (x, lengths) = (c.tensor(0)?, c.tensor(1)?);
    let shape = x.shape();
    let batch = c.axis(c.attr_int("batch_axis", 1), shape.rank())?;
    let time = c.axis(c.attr_int("time_axis", 0), shape.rank())?;
    if *lengths.shape() != [shape[batch]] {
        return Err(c.invalid(format_args!("one length a sequence of {shape}, got {}", lengths.shape())));
    }
    let column: Shape = (0..shape.rank()).map(|axis| if axis == batch { shape[axis] } else { 1 }).collect();
    let (step, length) = (c.graph().iota(&shape, time), lengths.reshape(column).broadcast_to(&shape));
    let index = step.lt(length).select(length - 1 - step, step);
    let number = along_axis(c, index, &shape, time)?;
    one(x.reshape([shape.numel()]).gather(number))
}

/// The entries of an axis (or of all elements) for which a known condition holds.
fn compress<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (x, condition) = (c.tensor(0)?, c.constant(1)?);
    let (x, axis) = match c.attribute("axis") {
        Some(_) => (x, c.axis(c.attr_int("axis", 0), x.rank())?),
        None => (x.reshape([x.shape().numel()]), 0),
    };
    let kept: Vec<i64> = condition
        .data
        .iter()
        .zip(0..x.shape()[axis] as i64)
        .filter(|(value, _)| **value != 0.0)
        .map(|(_, i)| i)
        .collect();
    let index = c.tracer.tensor(&Constant::ints(&kept).into())?;
    one(take(x, axis, index))
}

/// The coordinates of a known tensor's elements that are not 0, one row an axis.
fn non_zero<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.constant(0)?;
    let found: Vec<Vec<usize>> = (0..x.data.len()).filter(|&i| x.data[i] != 0.0).map(|i| x.shape.coords(i)).collect();
    let rank = x.shape.rank();
    let data = (0..rank).flat_map(|axis| found.iter().map(move |coords| coords[axis] as f64)).collect();
    one(Constant { elem: Elem::I64, shape: [rank, found.len()].into(), data })
}

/// `update` written into a cache along `axis` at each sample's own index, once around in mode `circular`.
fn tensor_scatter<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (cache, update) = (c.tensor(0)?, c.tensor(1)?);
    let (shape, added) = (cache.shape(), update.shape());
    let axis = c.axis(c.attr_int("axis", -2), shape.rank())?;
    if added.rank() != shape.rank() || added.with(axis, 0) != shape.with(axis, 0) || axis == 0 {
        return Err(c.invalid(format_args!("{added} cannot be written into {shape} along axis {axis}")));
    }
    let column: Shape = (0..shape.rank()).map(|axis| if axis == 0 { shape[0] } else { 1 }).collect();
    let step = c.graph().iota(&shape, axis);
    let start = match c.optional(2)? {
        Some(start) if *start.shape() == [shape[0]] => start.reshape(column).broadcast_to(&shape),
        Some(start) => return Err(c.invalid(format_args!("one index a sample, got {}", start.shape()))),
        None => step.zeros_like(),
    };
    // Where in the update this entry of the cache comes from.
    let size = shape[axis] as f64;
    let from = match c.attr_text("mode", "linear").as_str() {
        "linear" => step - start,
        "circular" => {
            let apart = step - (start - start / size * size);
            apart.lt(0).select(apart + size, apart)
        }
        other => return Err(c.invalid(format_args!("`mode` is linear or circular, not {other}"))),
    };
    let hit = from.ge(0).logical_and(from.lt(added[axis] as f64));
    let number = along_axis(c, hit.select(from, 0), &added, axis)?;
    one(hit.select(update.reshape([added.numel()]).gather(number), cache))
}
