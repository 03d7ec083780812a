//! Operators that move elements, make new tensors, or look at shapes.

use super::super::call::{Call, Outputs, Val, one};
use super::super::constant::{Constant, Elem};
use super::{Op, op, with};
use crate::error::Result;
use crate::graph::{Literal, Tensor};
use crate::shape::Shape;
use crate::tensor::concat;

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "Constant" => op(constant),
        "ConstantOfShape" => with(constant_of_shape, &[0]),
        "Shape" => op(shape),
        "Size" => op(|c| one(Constant::scalar(Elem::I64, c.required(0)?.shape().numel() as f64))),
        "Reshape" => with(reshape, &[1]),
        "Flatten" => op(flatten),
        "Squeeze" => with(squeeze, &[1]),
        "Unsqueeze" => with(unsqueeze, &[1]),
        "Transpose" => op(transpose),
        "Concat" => op(join),
        "Split" => with(split, &[1]),
        "Slice" => with(slice, &[1, 2, 3, 4]),
        "Expand" => with(expand, &[1]),
        "Tile" => with(tile, &[1, 2]),
        "Range" => with(range, &[0, 1, 2]),
        "EyeLike" => op(eye_like),
        "Trilu" => with(trilu, &[1]),
        "DepthToSpace" => op(depth_to_space),
        "SpaceToDepth" => op(space_to_depth),
        "CenterCropPad" => with(center_crop_pad, &[1]),
        _ => None,
    }
}

fn constant<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    if let Some(value) = c.attr_constant("value")? {
        return one(value);
    }
    if let Some(attribute) = c.attribute("value_float") {
        return one(Constant::scalar(Elem::F32, f64::from(attribute.f.unwrap_or(0.0))));
    }
    if let Some(attribute) = c.attribute("value_int") {
        return one(Constant::scalar(Elem::I64, attribute.i.unwrap_or(0) as f64));
    }
    if let Some(values) = c.attr_floats("value_floats") {
        return one(Constant::floats(&values));
    }
    match c.attr_ints("value_ints") {
        Some(values) => one(Constant::ints(&values)),
        None => Err(
            c.unsupported("its value is neither a dense tensor nor a number (strings and sparse tensors are not read)")
        ),
    }
}

fn constant_of_shape<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let shape = c.shape(&c.ints(0)?)?;
    let value = c.attr_constant("value")?.unwrap_or_else(|| Constant::scalar(Elem::F32, 0.0));
    let literal = match value.data[..] {
        [one] if value.elem != Elem::F64 => Literal::new(value.elem.dtype(), one),
        _ => return Err(c.invalid("`value` must be one f32, i32, i64 or bool")),
    };
    one(c.graph().constant(literal).broadcast_to(shape))
}

fn shape<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let shape = c.required(0)?.shape();
    let rank = shape.rank() as i64;
    let bound = |value: i64| (if value < 0 { value.saturating_add(rank) } else { value }).clamp(0, rank) as usize;
    let (start, end) = (bound(c.attr_int("start", 0)), bound(c.attr_int("end", rank)));
    let sizes: Vec<i64> = shape[start..end.max(start)].iter().map(|&size| size as i64).collect();
    one(Constant::ints(&sizes))
}

fn reshape<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let wanted = if c.opset < 5 { c.attr_ints("shape").unwrap_or_default() } else { c.ints(1)? };
    let keep_zero = c.attr_int("allowzero", 0) != 0;
    let own = x.shape();
    let mut sizes = Vec::new();
    for (axis, &size) in wanted.iter().enumerate() {
        sizes.push(match (size, own.get(axis)) {
            (0, Some(&same)) if !keep_zero => same as i64,
            (0, None) if !keep_zero => return Err(c.invalid(format_args!("there is no axis {axis} in {own} to keep"))),
            (size, _) => size,
        });
    }
    if let Some(open) = sizes.iter().position(|&size| size == -1) {
        sizes[open] = 1;
        let rest = c.shape(&sizes)?.numel();
        if rest == 0 || own.numel() % rest != 0 {
            return Err(c.invalid(format_args!("{own} does not fit {wanted:?}")));
        }
        sizes[open] = (own.numel() / rest) as i64;
    }
    one(x.reshape(c.shape(&sizes)?))
}

fn flatten<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let (shape, axis) = (x.shape(), c.attr_int("axis", 1));
    let at = if axis == shape.rank() as i64 { shape.rank() } else { c.axis(axis, shape.rank())? };
    one(x.reshape([shape[..at].iter().product::<usize>(), shape[at..].iter().product()]))
}

/// Axes from an attribute, or from version 13 on from an input.
fn axes_of(c: &Call<'_, '_>, since: i64) -> Result<Option<Vec<i64>>> {
    match c.opset >= since {
        true if c.has(1) => c.ints(1).map(Some),
        true => Ok(None),
        false => Ok(c.attr_ints("axes")),
    }
}

fn squeeze<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let shape = x.shape();
    let axes = match axes_of(c, 13)? {
        Some(axes) => c.axes(&axes, shape.rank())?,
        None => (0..shape.rank()).filter(|&axis| shape[axis] == 1).collect(),
    };
    if let Some(&axis) = axes.iter().find(|&&axis| shape[axis] != 1) {
        return Err(c.invalid(format_args!("axis {axis} of {shape} does not have size 1")));
    }
    one(x.reshape((0..shape.rank()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]).collect::<Shape>()))
}

fn unsqueeze<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let added = axes_of(c, 13)?.ok_or_else(|| c.invalid("`axes` is missing"))?;
    let rank = x.rank() + added.len();
    let axes = c.axes(&added, rank)?;
    let shape = x.shape();
    let mut own = shape.iter().copied();
    let sizes: Vec<usize> =
        (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { own.next().unwrap_or(1) }).collect();
    one(x.reshape(c.sizes(&sizes)?))
}

fn transpose<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let order = match c.attr_ints("perm") {
        Some(perm) if !perm.is_empty() => {
            perm.iter().map(|&axis| c.axis(axis, x.rank())).collect::<Result<Vec<_>>>()?
        }
        _ => (0..x.rank()).rev().collect(),
    };
    one(x.permute(&order))
}

fn join<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let parts = c.tensors()?;
    let first = *parts.first().ok_or_else(|| c.invalid("takes at least one input"))?;
    let default = if c.opset < 4 { 1 } else { 0 };
    let axis = c.axis(c.attr_int("axis", default), first.rank())?;
    one(concat(first, &parts[1..], axis as isize))
}

fn split<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let axis = c.axis(c.attr_int("axis", 0), x.rank())?;
    let size = x.shape()[axis];
    let given = match c.opset >= 13 {
        true if c.has(1) => Some(c.ints(1)?),
        true => None,
        false => c.attr_ints("split"),
    };
    let sizes: Vec<usize> = match given {
        Some(sizes) => sizes.iter().map(|&size| c.count(size)).collect::<Result<_>>()?,
        None => {
            let parts =
                c.count(c.attr_int("num_outputs", c.node.output.len() as i64))?.clamp(1, c.node.output.len().max(1));
            let each = size.div_ceil(parts);
            (0..parts).map(|part| each.min(size.saturating_sub(part * each))).collect()
        }
    };
    let total = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
    if total != Some(size) {
        return Err(c.invalid(format_args!("parts of {sizes:?} do not make up {size}")));
    }
    let mut start = 0;
    let part = |size: &usize| {
        start += size;
        Val::from(x.slice(axis as isize, start - size, start))
    };
    Ok(sizes.iter().map(part).collect())
}

/// Starts, ends, axes and steps: attributes before version 10, then inputs.
fn slice<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let (starts, ends, axes, steps) = if c.opset < 10 {
        let list = |name: &str| c.attr_ints(name).unwrap_or_default();
        (list("starts"), list("ends"), c.attr_ints("axes"), None)
    } else {
        let list = |index: usize| if c.has(index) { c.ints(index).map(Some) } else { Ok(None) };
        (c.ints(1)?, c.ints(2)?, list(3)?, list(4)?)
    };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(c.invalid("starts, ends, axes and steps must be as many"));
    }
    c.axes(&axes, x.rank())?;
    let mut y = x;
    for i in 0..starts.len() {
        let axis = c.axis(axes[i], x.rank())?;
        y = strided(c, y, axis, starts[i], ends[i], steps[i])?;
    }
    one(y)
}

/// `start..end` in steps along one axis, with NumPy's meaning of negative numbers.
fn strided<'g>(c: &Call<'_, 'g>, x: Tensor<'g>, axis: usize, start: i64, end: i64, step: i64) -> Result<Tensor<'g>> {
    let size = x.shape()[axis] as i64;
    let from_end = |value: i64| if value < 0 { value.saturating_add(size) } else { value };
    let (start, end) = (from_end(start), from_end(end));
    if step == 0 {
        return Err(c.invalid("a step of 0"));
    }
    if step > 0 {
        let (start, end) = (start.clamp(0, size), end.clamp(0, size));
        let part = x.slice(axis as isize, start as usize, end.max(start) as usize);
        return Ok(every(part, axis, step.min(size.max(1)) as usize));
    }
    // Backwards: the same elements forwards from the last one that is taken, then reversed.
    let (start, end) = (start.clamp(-1, size - 1), end.clamp(-1, size - 1));
    if start <= end {
        return Ok(x.slice(axis as isize, 0, 0));
    }
    let step = step.unsigned_abs().min(size as u64) as i64;
    let last = start - (start - end - 1) / step * step;
    let part = x.slice(axis as isize, last as usize, start as usize + 1);
    Ok(every(part, axis, step as usize).flip(&[axis as isize]))
}

/// Every `step`-th element of an axis, from the first.
pub fn every(x: Tensor<'_>, axis: usize, step: usize) -> Tensor<'_> {
    let (shape, at) = (x.shape(), axis as isize);
    let size = shape[axis];
    if step <= 1 || size == 0 {
        return x;
    }
    let count = size.div_ceil(step);
    let padded = x.pad(at, 0, count * step - size, 0.0);
    let mut sizes = shape.to_vec();
    sizes[axis] = count;
    sizes.insert(axis + 1, step);
    padded.reshape(sizes).slice(at + 1, 0, 1).squeeze(at + 1)
}

/// Entries of an axis by index (i32, one axis or more, within range): the axis is replaced by the index's.
pub fn take<'g>(x: Tensor<'g>, axis: usize, index: Tensor<'g>) -> Tensor<'g> {
    let rank = x.rank();
    let order: Vec<usize> = std::iter::once(axis).chain((0..rank).filter(|&other| other != axis)).collect();
    let rows = x.permute(&order).gather(index);
    let added = index.rank();
    // [index.., before.., after..] to [before.., index.., after..]
    let back: Vec<usize> = (added..added + axis).chain(0..added).chain(added + axis..added + rank - 1).collect();
    rows.permute(&back)
}

fn expand<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let wanted = c.shape(&c.ints(1)?)?;
    let shape = x.shape().broadcast(&wanted);
    let shape = shape.ok_or_else(|| c.invalid(format_args!("{} does not broadcast to {wanted}", x.shape())))?;
    one(x.broadcast_to(c.sizes(&shape)?))
}

fn tile<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let shape = x.shape();
    let repeats = if c.opset < 6 {
        let mut repeats = vec![1; shape.rank()];
        repeats[c.axis(c.int(2)?, shape.rank())?] = c.int(1)?;
        repeats
    } else {
        c.ints(1)?
    };
    if repeats.len() != shape.rank() {
        return Err(c.invalid(format_args!("one count an axis of {shape}, got {repeats:?}")));
    }
    let counts = repeats.iter().map(|&count| c.count(count)).collect::<Result<Vec<_>>>()?;
    let products = shape.iter().zip(&counts).map(|(&size, &count)| size.saturating_mul(count));
    let result = c.sizes(&products.collect::<Vec<_>>())?;
    let pairs = || (0..shape.rank()).map(|axis| (counts[axis], shape[axis]));
    let apart: Shape = pairs().flat_map(|(_, size)| [1, size]).collect();
    let repeated: Shape = pairs().flat_map(|(count, size)| [count, size]).collect();
    one(x.reshape(apart).broadcast_to(repeated).reshape(result))
}

fn range<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (start, limit, delta) = (c.number(0)?, c.number(1)?, c.number(2)?);
    let elem = c.constant(0)?.elem;
    let count = ((limit - start) / delta).ceil().max(0.0);
    if !count.is_finite() {
        return Err(c.invalid(format_args!("{start}..{limit} in steps of {delta} has no end")));
    }
    let shape = c.shape(&[count as i64])?;
    c.computed(shape.numel())?;
    let data = (0..shape.numel()).map(|i| start + i as f64 * delta).collect();
    one(Constant { elem, shape, data })
}

/// 1 where the column is the row plus `k`.
fn diagonal<'g>(c: &Call<'_, 'g>, rows: usize, columns: usize, k: i64) -> Tensor<'g> {
    let offset = k.clamp(-(rows as i64) - 1, columns as i64 + 1) as f64;
    let graph = c.graph();
    graph.iota([rows, columns], 1).eq(graph.iota([rows, columns], 0) + offset)
}

fn eye_like<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let like = c.required(0)?;
    let shape = like.shape();
    let &[rows, columns] = &shape[..] else { return Err(c.invalid(format_args!("takes a matrix, not {shape}"))) };
    let number = i32::try_from(c.attr_int("dtype", -1)).unwrap_or(0);
    let dtype = match Elem::from_number(number) {
        Some(Elem::F64) | None if number != -1 => {
            return Err(c.unsupported("elements other than f32, i32, i64 and bool"));
        }
        Some(elem) => elem.dtype(),
        None => like.dtype(),
    };
    one(diagonal(c, rows, columns, c.attr_int("k", 0)).cast(dtype))
}

fn trilu<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let shape = x.shape();
    let &[.., rows, columns] = &shape[..] else { return Err(c.invalid(format_args!("takes matrices, not {shape}"))) };
    let k = if c.has(1) { c.int(1)? } else { 0 }.clamp(-(rows as i64) - 1, columns as i64 + 1) as f64;
    let graph = c.graph();
    let (row, column) = (graph.iota([rows, columns], 0) + k, graph.iota([rows, columns], 1));
    let kept = if c.attr_int("upper", 1) != 0 { column.ge(row) } else { column.le(row) };
    one(kept.select(x, x.scalar_like(0.0)))
}

fn depth_to_space<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let (shape, block) = (x.shape(), c.count(c.attr_int("blocksize", 1))?);
    let &[n, channels, h, w] = &shape[..] else {
        return Err(c.invalid(format_args!("takes [n, c, h, w], not {shape}")));
    };
    if block == 0 || channels % block.saturating_mul(block).max(1) != 0 {
        return Err(c.invalid(format_args!("blocks of {block} do not divide {channels} channels")));
    }
    let depth = channels / (block * block);
    let moved = match c.attr_text("mode", "DCR").as_str() {
        "DCR" => x.reshape([n, block, block, depth, h, w]).permute(&[0, 3, 4, 1, 5, 2]),
        "CRD" => x.reshape([n, depth, block, block, h, w]).permute(&[0, 1, 4, 2, 5, 3]),
        other => return Err(c.invalid(format_args!("`mode` is DCR or CRD, not {other}"))),
    };
    one(moved.reshape([n, depth, h * block, w * block]))
}

fn space_to_depth<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let (shape, block) = (x.shape(), c.count(c.attr_int("blocksize", 1))?);
    let &[n, channels, h, w] = &shape[..] else {
        return Err(c.invalid(format_args!("takes [n, c, h, w], not {shape}")));
    };
    if block == 0 || h % block != 0 || w % block != 0 {
        return Err(c.invalid(format_args!("blocks of {block} do not divide {h} x {w}")));
    }
    let apart = x.reshape([n, channels, h / block, block, w / block, block]);
    let moved = match c.attr_text("mode", "DCR").as_str() {
        "CRD" => apart.permute(&[0, 1, 3, 5, 2, 4]),
        _ => apart.permute(&[0, 3, 5, 1, 2, 4]),
    };
    one(moved.reshape([n, channels * block * block, h / block, w / block]))
}

/// Cut or filled with zeros around the middle.
fn center_crop_pad<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let mut x = c.tensor(0)?;
    let wanted = c.shape(&c.ints(1)?)?;
    let axes = match c.attr_ints("axes") {
        Some(axes) => axes.iter().map(|&axis| c.axis(axis, x.rank())).collect::<Result<Vec<_>>>()?,
        None => (0..x.rank()).collect(),
    };
    if axes.len() != wanted.rank() {
        return Err(c.invalid(format_args!("{} axes and {} sizes", axes.len(), wanted.rank())));
    }
    for (&axis, &size) in axes.iter().zip(wanted.iter()) {
        let (own, at) = (x.shape()[axis], axis as isize);
        x = if size <= own {
            let start = (own - size) / 2;
            x.slice(at, start, start + size)
        } else {
            let before = (size - own) / 2;
            x.pad(at, before, size - own - before, 0.0)
        };
    }
    one(x)
}
