//! Poolings over one to three spatial axes.

use super::super::call::{Call, Outputs, Val, one};
use super::conv::{Placing, list};
use super::{Op, op, with};
use crate::error::Result;
use crate::graph::{MacroOp, Op as GraphOp, Tensor, Windows};

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "MaxPool" => op(max_pool),
        "AveragePool" => op(average_pool),
        "LpPool" => op(lp_pool),
        "MaxUnpool" => with(max_unpool, &[2]),
        "GlobalMaxPool" => op(|c| global(c, |x, axes| x.max(axes))),
        "GlobalAveragePool" => op(|c| global(c, |x, axes| x.mean(axes))),
        "GlobalLpPool" => op(|c| {
            let p = c.attr_int("p", 2) as f64;
            global(c, |x, axes| root(power(x, p).sum(axes), p))
        }),
        _ => None,
    }
}

fn global<'g>(c: &Call<'_, 'g>, reduce: impl Fn(Tensor<'g>, &[isize]) -> Tensor<'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let axes: Vec<isize> = (2..x.rank() as isize).collect();
    one(reduce(x, &axes).keep_axes(x, &axes))
}

/// `|x|^p`.
fn power(x: Tensor<'_>, p: f64) -> Tensor<'_> {
    if p == 1.0 {
        x.abs()
    } else if p == 2.0 {
        x * x
    } else {
        x.abs().pow(p)
    }
}

fn root(x: Tensor<'_>, p: f64) -> Tensor<'_> {
    if p == 1.0 {
        x
    } else if p == 2.0 {
        x.sqrt()
    } else {
        x.pow(1.0 / p)
    }
}

/// Windows with their place, and the padding that the file states (behind, `ceil_mode` may need more or less).
struct Pooling {
    place: Placing,
    windows: Windows,
}

/// The windows of a pooling over `[n, c, ..]`. A last one may end outside with `ceil_mode`, but not begin there.
fn pooling<'g>(c: &Call<'_, 'g>, x: Tensor<'g>) -> Result<Pooling> {
    let shape = x.shape();
    let rank = shape.rank().saturating_sub(2);
    if c.attr_ints("kernel_shape").is_none_or(|kernel| kernel.len() != rank) || rank == 0 {
        return Err(c.invalid(format_args!("`kernel_shape` must have one entry a spatial axis of {shape}")));
    }
    let place = Placing::read(c, &list(c, "kernel_shape", rank)?, &shape[2..])?;
    let ceil = c.attr_int("ceil_mode", 0) != 0;
    let mut padding = Vec::new();
    for axis in 0..rank {
        let ([before, after], stride, extent) = (place.padding[axis], place.stride[axis], place.extent(axis));
        let end = before + shape[2 + axis];
        let room = (end + after).checked_sub(extent).ok_or_else(|| {
            c.invalid(format_args!("a window of {extent} does not fit into axis {} of {shape}", axis + 2))
        })?;
        let mut count = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
        if ceil && (count - 1) * stride >= end {
            count -= 1;
        }
        padding.push([before, ((count - 1) * stride + extent).saturating_sub(end)]);
    }
    let windows = Windows::new(&place.kernel)
        .and_then(|windows| windows.stride(&place.stride)?.dilation(&place.dilation)?.padding(&padding))
        .ok_or_else(|| c.unsupported("pooling over more than three axes"))?;
    let counts = (0..rank).filter_map(|axis| windows.count(axis, shape[2 + axis]));
    c.view(shape.iter().copied().take(2).chain(counts).chain(place.kernel.iter().copied()))?;
    Ok(Pooling { place, windows })
}

/// `[n, c, ..windows]`: the sum of each window of `x`, which is padded with zeros.
fn sums<'g>(windows: &Windows, x: Tensor<'g>) -> Tensor<'g> {
    let rank = windows.rank();
    let mut y = x;
    for axis in (0..rank).filter(|&axis| windows.before_at(axis) + windows.after_at(axis) > 0) {
        y = y.pad(2 + axis as isize, windows.before_at(axis), windows.after_at(axis), 0.0);
    }
    for axis in 0..rank {
        let [size, stride, dilation] = [windows.kernel_at(axis), windows.stride_at(axis), windows.dilation_at(axis)];
        y = y.apply(GraphOp::Window { axis: 2 + axis, size, stride, dilation }, &[]);
    }
    y.sum(&(2 + rank as isize..2 + 2 * rank as isize).collect::<Vec<_>>())
}

impl Pooling {
    /// How many elements count in each window: `[1, 1, ..windows]`.
    fn elements<'g>(&self, x: Tensor<'g>, with_padding: bool) -> Tensor<'g> {
        let shape = x.shape();
        let rank = self.windows.rank();
        let mut ones = x.graph().float(1.0).broadcast_to([&[1, 1], &shape[2..]].concat());
        // Padding that the file states counts as ones; what `ceil_mode` adds behind it does not.
        for axis in (0..rank).filter(|_| with_padding) {
            let [before, after] = self.place.padding[axis];
            ones = ones.pad(2 + axis as isize, before, after, 1.0);
        }
        for axis in 0..rank {
            let length = shape[2 + axis] + self.windows.before_at(axis) + self.windows.after_at(axis);
            let before = if with_padding { 0 } else { self.windows.before_at(axis) };
            let own = ones.shape()[2 + axis];
            ones = match length.checked_sub(before + own) {
                Some(missing) => ones.pad(2 + axis as isize, before, missing, 0.0),
                None => ones.slice(2 + axis as isize, 0, length),
            };
        }
        sums(&self.windows.padding(&vec![[0; 2]; rank]).unwrap_or(self.windows), ones)
    }
}

fn average_pool<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let pooling = pooling(c, x)?;
    let padded =
        (0..pooling.windows.rank()).any(|axis| pooling.windows.before_at(axis) + pooling.windows.after_at(axis) > 0);
    let sums = sums(&pooling.windows, x);
    if !padded {
        return one(sums * (1.0 / pooling.windows.area() as f64));
    }
    one(sums / pooling.elements(x, c.attr_int("count_include_pad", 0) != 0))
}

fn lp_pool<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let p = c.attr_int("p", 2) as f64;
    one(root(sums(&pooling(c, x)?.windows, power(x, p)), p))
}

/// The largest element of each window, and where it stands in the whole tensor.
fn max_pool<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let pooling = pooling(c, x)?;
    let largest = x.apply(GraphOp::Macro(MacroOp::MaxPool { windows: pooling.windows }), &[]);
    c.graph().error()?;
    if !c.wants(1) {
        return one(largest);
    }
    let shape = x.shape();
    let plane: usize = shape[2..].iter().product();
    let within = largest.output(1);
    let within = match (c.attr_int("storage_order", 0), &shape[2..]) {
        (0, _) | (_, [_]) => within,
        // Columns first: rows and columns change places.
        (_, &[rows, columns]) => {
            let (row, column) = (within / columns as i32, within.fmod(columns as i32));
            column * rows as i32 + row
        }
        _ => return Err(c.unsupported("`storage_order` of three axes")),
    };
    let all = within.shape();
    let place = (c.graph().iota(&all, 0) * shape[1] as i32 + c.graph().iota(&all, 1)) * plane as i32;
    Ok(vec![largest.into(), Val::from(place + within)])
}

/// Elements back where a `MaxPool` found them, zeros elsewhere.
fn max_unpool<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (x, index) = (c.tensor(0)?, c.tensor(1)?);
    let shape = x.shape();
    if shape.rank() < 3 {
        return Err(c.invalid(format_args!("expected [batch, channels, sizes...], got {shape}")));
    }
    let rank = shape.rank() - 2;
    let place = Placing::read(c, &list(c, "kernel_shape", rank)?, &shape[2..])?;
    let mut sizes = shape.to_vec();
    for axis in 0..rank {
        let full =
            shape[2 + axis].saturating_sub(1).saturating_mul(place.stride[axis]).saturating_add(place.kernel[axis]);
        sizes[2 + axis] = full.saturating_sub(place.padding[axis][0] + place.padding[axis][1]);
    }
    let natural = c.sizes(&sizes)?;
    let (count, total) = (shape.numel(), natural.numel());
    if index.shape() != shape {
        return Err(c.invalid(format_args!("indices {} differ from {shape}", index.shape())));
    }
    let spread = x.reshape([count]).scatter_add(index.reshape([count]), total).reshape(&natural);
    let Some(_) = c.val(2) else { return one(spread) };
    let wanted = c.shape(&c.ints(2)?)?;
    if wanted.rank() != natural.rank() {
        return Err(c.invalid(format_args!("`output_shape` {wanted} does not fit {natural}")));
    }
    let mut y = spread;
    for axis in 0..wanted.rank() {
        let (own, size) = (natural[axis], wanted[axis]);
        let at = axis as isize;
        y = if size > own { y.pad(at, 0, size - own, 0.0) } else { y.slice(at, 0, size) };
    }
    one(y)
}
