//! Convolutions: `Conv`, `ConvTranspose`, and what puts their columns back together.

use super::super::call::{Call, Outputs, one};
use super::{Op, op, with};
use crate::error::Result;
use crate::graph::{Op as GraphOp, Tensor};
use crate::shape::Shape;

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "Conv" => op(conv),
        "ConvTranspose" => op(conv_transpose),
        "Col2Im" => with(col2im, &[1, 2]),
        _ => None,
    }
}

/// The attributes that place windows over spatial axes.
pub struct Placing {
    pub kernel: Vec<usize>,
    pub stride: Vec<usize>,
    pub dilation: Vec<usize>,
    /// Before and after each axis.
    pub padding: Vec<[usize; 2]>,
}

impl Placing {
    /// Reads them for a kernel over axes of these lengths; `auto_pad` becomes numbers.
    pub fn read(c: &Call<'_, '_>, kernel: &[usize], lengths: &[usize]) -> Result<Placing> {
        let rank = kernel.len();
        let stride = list(c, "strides", rank)?;
        let dilation = list(c, "dilations", rank)?;
        if lengths.len() != rank || kernel.iter().chain(&stride).chain(&dilation).any(|&size| size == 0) {
            return Err(c.invalid("kernel, strides and dilations must be at least 1, one an axis"));
        }
        let extent = |axis: usize| dilation[axis].saturating_mul(kernel[axis] - 1).saturating_add(1);
        let auto = c.attr_text("auto_pad", "NOTSET");
        let padding = match auto.as_str() {
            "NOTSET" => explicit(c, rank)?,
            "VALID" => vec![[0; 2]; rank],
            "SAME_UPPER" | "SAME_LOWER" => (0..rank)
                .map(|axis| {
                    let windows = lengths[axis].div_ceil(stride[axis]);
                    let covered = windows.saturating_sub(1).saturating_mul(stride[axis]).saturating_add(extent(axis));
                    halves(covered.saturating_sub(lengths[axis]), auto == "SAME_UPPER")
                })
                .collect(),
            other => return Err(c.invalid(format_args!("`auto_pad` = {other}"))),
        };
        let place = Placing { kernel: kernel.to_vec(), stride, dilation, padding };
        // The windows over what is padded, as a view: the largest tensor that is thought of.
        let windows = (0..rank).map(|axis| lengths[axis] + place.padding[axis][0] + place.padding[axis][1]);
        c.view(windows.chain(kernel.iter().copied()))?;
        Ok(place)
    }

    /// From the first to the last element of a window, both counted.
    pub fn extent(&self, axis: usize) -> usize {
        self.dilation[axis].saturating_mul(self.kernel[axis].saturating_sub(1)).saturating_add(1)
    }
}

/// An amount before and after, the odd one behind or before.
fn halves(total: usize, behind: bool) -> [usize; 2] {
    let (less, more) = (total / 2, total - total / 2);
    if behind { [less, more] } else { [more, less] }
}

/// A list of counts, one an axis; 1 where it is missing.
pub fn list(c: &Call<'_, '_>, name: &str, rank: usize) -> Result<Vec<usize>> {
    let values = c.attr_ints(name).unwrap_or_else(|| vec![1; rank]);
    if values.len() != rank {
        return Err(c.invalid(format_args!("`{name}` has {} entries for {rank} axes", values.len())));
    }
    values.iter().map(|&value| c.count(value)).collect()
}

/// The attribute `pads`: all amounts before, then all after.
fn explicit(c: &Call<'_, '_>, rank: usize) -> Result<Vec<[usize; 2]>> {
    let pads = c.attr_ints("pads").unwrap_or_else(|| vec![0; 2 * rank]);
    if pads.len() != 2 * rank {
        return Err(c.invalid(format_args!("`pads` has {} entries for {rank} axes", pads.len())));
    }
    (0..rank).map(|axis| Ok([c.count(pads[axis])?, c.count(pads[axis + rank])?])).collect()
}

/// Data `[n, c, ..]` and a weight with as many axes, with the kernel's sizes.
fn operands<'g>(c: &Call<'_, 'g>) -> Result<(Tensor<'g>, Tensor<'g>, Vec<usize>)> {
    let (x, weight) = (c.tensor(0)?, c.tensor(1)?);
    if x.rank() < 3 || weight.rank() != x.rank() {
        return Err(c.invalid(format_args!("data {} and weight {} do not fit", x.shape(), weight.shape())));
    }
    let kernel = weight.shape()[2..].to_vec();
    if c.attr_ints("kernel_shape")
        .is_some_and(|given| given.iter().map(|&size| size as usize).ne(kernel.iter().copied()))
    {
        return Err(c.invalid(format_args!("`kernel_shape` differs from the weight {}", weight.shape())));
    }
    Ok((x, weight, kernel))
}

/// One number a channel added to `[n, c, ..]`.
fn biased<'g>(c: &Call<'_, 'g>, y: Tensor<'g>) -> Result<Tensor<'g>> {
    let Some(bias) = c.optional(2)? else { return Ok(y) };
    let shape = y.shape();
    if *bias.shape() != [shape[1]] {
        return Err(c.invalid(format_args!("one bias a channel of {shape}, got {}", bias.shape())));
    }
    Ok(y + bias.reshape((0..shape.rank()).map(|axis| if axis == 1 { shape[1] } else { 1 }).collect::<Shape>()))
}

fn conv<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (x, weight, kernel) = operands(c)?;
    let place = Placing::read(c, &kernel, &x.shape()[2..])?;
    let groups = c.count(c.attr_int("group", 1))?;
    c.view(x.shape().iter().copied().chain(weight.shape().iter().copied()))?;
    let y = x.conv(weight, &place.stride, &place.padding, &place.dilation, groups);
    c.graph().error()?;
    one(biased(c, y)?)
}

/// The padding is given, or follows from the size that the result shall have.
fn conv_transpose<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (x, weight, kernel) = operands(c)?;
    let (shape, rank) = (x.shape(), kernel.len());
    let (stride, dilation) = (list(c, "strides", rank)?, list(c, "dilations", rank)?);
    let extra = match c.attr_ints("output_padding") {
        Some(extra) if extra.len() == rank => extra.iter().map(|&size| c.count(size)).collect::<Result<Vec<_>>>()?,
        Some(extra) if !extra.is_empty() => return Err(c.invalid(format_args!("`output_padding` is {extra:?}"))),
        _ => vec![0; rank],
    };
    // The length without any padding.
    let full = |axis: usize| {
        let steps = shape[2 + axis].saturating_sub(1).saturating_mul(stride[axis]);
        let extent = dilation[axis].saturating_mul(kernel[axis].saturating_sub(1)).saturating_add(1);
        steps.saturating_add(extent).saturating_add(extra[axis])
    };
    let auto = c.attr_text("auto_pad", "NOTSET");
    let wanted = match c.attr_ints("output_shape") {
        Some(sizes) if sizes.len() >= rank => {
            Some(sizes[sizes.len() - rank..].iter().map(|&size| c.count(size)).collect::<Result<Vec<_>>>()?)
        }
        _ if auto.starts_with("SAME") => {
            Some((0..rank).map(|axis| shape[2 + axis].saturating_mul(stride[axis])).collect())
        }
        _ => None,
    };
    let mut extra = extra.clone();
    let padding = match wanted {
        None if auto == "VALID" => vec![[0; 2]; rank],
        None => explicit(c, rank)?,
        Some(wanted) => {
            let lengths: Vec<usize> = (0..rank).map(full).collect();
            for axis in 0..rank {
                extra[axis] += wanted[axis].saturating_sub(lengths[axis]);
            }
            (0..rank).map(|axis| halves(lengths[axis].saturating_sub(wanted[axis]), auto == "SAME_UPPER")).collect()
        }
    };
    let groups = c.count(c.attr_int("group", 1))?;
    c.view(shape.iter().copied().chain(weight.shape().iter().copied()))?;
    c.view((0..rank).map(full))?;
    let y = x.conv_transpose(weight, &stride, &padding, &dilation, groups, &extra);
    c.graph().error()?;
    one(biased(c, y)?)
}

/// Columns `[n, c * block, windows]` added up where their windows overlap in an image.
fn col2im<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let counts = |values: Vec<i64>| values.iter().map(|&size| c.count(size)).collect::<Result<Vec<usize>>>();
    let (image, block) = (counts(c.ints(1)?)?, counts(c.ints(2)?)?);
    let place = Placing::read(c, &block, &image)?;
    let rank = block.len();
    let padded: Vec<usize> =
        (0..rank).map(|axis| image[axis] + place.padding[axis][0] + place.padding[axis][1]).collect();
    let windows = (0..rank)
        .map(|axis| padded[axis].checked_sub(place.extent(axis)).map(|room| room / place.stride[axis] + 1))
        .collect::<Option<Vec<usize>>>()
        .ok_or_else(|| c.invalid(format_args!("a block of {block:?} does not fit into {padded:?}")))?;
    let area = c.sizes(&block)?.numel();
    let shape = x.shape();
    let channels = match shape[..] {
        [_, rows, columns] if rows % area.max(1) == 0 && columns == c.sizes(&windows)?.numel() => rows / area.max(1),
        _ => return Err(c.invalid(format_args!("columns {shape} do not fit blocks {block:?} over {image:?}"))),
    };
    let lead = [shape[0], channels];
    let apart: Shape = lead.iter().chain(&block).chain(&windows).copied().collect();
    let order: Vec<usize> = [0, 1].into_iter().chain(2 + rank..2 + 2 * rank).chain(2..2 + rank).collect();
    let mut y = x.reshape(c.sizes(&apart)?).permute(&order);
    for axis in (0..rank).rev() {
        let (stride, dilation) = (place.stride[axis], place.dilation[axis]);
        y = y.apply(GraphOp::Fold { axis: 2 + axis, length: padded[axis], stride, dilation }, &[]);
    }
    for (axis, &length) in image.iter().enumerate() {
        let before = place.padding[axis][0];
        y = y.slice(2 + axis as isize, before, before + length);
    }
    one(y)
}
