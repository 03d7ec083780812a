//! Types of what convolutions and poolings give, or why their operands do not fit. See `infer.rs`.

use super::TensorType;
use super::infer::{Types, arity, check, list};
use super::op::MacroOp;
use super::windows::{SPATIAL, Windows};
use crate::dtype::DType;
use crate::shape::Shape;

/// The types of a macro-op that slides windows.
pub(super) fn macro_op(op: MacroOp, x: &[TensorType]) -> Types {
    arity(x, 2 - usize::from(matches!(op, MacroOp::MaxPool { .. })))?;
    match op {
        MacroOp::Conv { windows, groups } => conv(&windows, groups as usize, x),
        MacroOp::ConvDataGrad { windows, groups, size } => data_grad(&windows, groups as usize, &size, x),
        MacroOp::ConvWeightGrad { windows, groups } => weight_grad(&windows, groups as usize, x),
        MacroOp::MaxPool { windows } => {
            check(x[0].dtype == DType::F32, || format!("takes f32, got {}", x[0].dtype))?;
            let (lead, counts) = placed(&windows, &x[0].shape)?;
            let shape = join(&lead, &counts);
            Ok(vec![TensorType::new(&shape, DType::F32), TensorType::new(&shape, DType::I32)])
        }
        MacroOp::MaxPoolGrad { windows, size } => {
            let out = join(&x[1].shape[..x[1].shape.rank().min(2)], &sizes(&windows, &size));
            let (lead, counts) = placed(&windows, &out)?;
            let fits = x[0].shape == x[1].shape && x[1].shape == join(&lead, &counts);
            check(fits && x[0].dtype == DType::I32 && x[1].dtype == DType::F32, || {
                format!("wants i32 indices and f32 gradients {}, got {}", join(&lead, &counts), list(x))
            })?;
            Ok(vec![TensorType::new(out, DType::F32)])
        }
        _ => Err("slides no windows".into()),
    }
}

fn join(lead: &[usize], spatial: &[usize]) -> Shape {
    lead.iter().chain(spatial).copied().collect()
}

fn sizes(windows: &Windows, size: &[u32; SPATIAL]) -> Shape {
    size[..windows.rank()].iter().map(|&length| length as usize).collect()
}

/// Batch and channels, and how many windows lie along each spatial axis, of `[n, c, ..]`.
fn placed(windows: &Windows, shape: &Shape) -> Result<([usize; 2], Shape), String> {
    check(shape.rank() == windows.rank() + 2, || {
        format!("wants [batch, channels, ..] with {} spatial axes, got {shape}", windows.rank())
    })?;
    let spatial = &shape[2..];
    let counts = windows.counts(spatial).ok_or_else(|| {
        let padded: Shape = spatial.iter().enumerate().map(|(axis, &size)| windows.padded(axis, size)).collect();
        let extent: Shape = (0..windows.rank()).map(|axis| windows.extent(axis)).collect();
        format!(
            "a kernel of {}, which spans {extent}, does not fit into the padded size {padded}; use a smaller kernel or \
             dilation, or more padding",
            windows.kernel_shape()
        )
    })?;
    Ok(([shape[0], shape[1]], counts))
}

/// Whether a weight `[o, c / groups, ..kernel]` belongs to these channels.
fn check_weight(windows: &Windows, groups: usize, weight: &Shape, channels: usize) -> Result<(), String> {
    let rank = windows.rank();
    check(weight.rank() == rank + 2 && weight[2..] == windows.kernel_shape()[..], || {
        format!("wants a weight [out, in / groups, ..] with {rank} spatial axes, got {weight}")
    })?;
    check(groups > 0 && weight[0].is_multiple_of(groups) && channels == weight[1] * groups, || {
        format!(
            "a weight {weight} in {groups} groups takes {} channels and gives a multiple of {groups}, got {channels} \
             channels",
            weight[1] * groups
        )
    })
}

fn floats(x: &[TensorType]) -> Result<(), String> {
    check(x.iter().all(|ty| ty.dtype == DType::F32), || format!("takes f32 tensors, got {}", list(x)))
}

fn conv(windows: &Windows, groups: usize, x: &[TensorType]) -> Types {
    floats(x)?;
    let (lead, counts) = placed(windows, &x[0].shape)?;
    check_weight(windows, groups, &x[1].shape, lead[1])?;
    Ok(vec![TensorType::new(join(&[lead[0], x[1].shape[0]], &counts), DType::F32)])
}

fn data_grad(windows: &Windows, groups: usize, size: &[u32; SPATIAL], x: &[TensorType]) -> Types {
    floats(x)?;
    let (g, weight) = (&x[0].shape, &x[1].shape);
    check(g.rank() == windows.rank() + 2 && weight.rank() == g.rank(), || {
        format!("wants two tensors with {} spatial axes, got {}", windows.rank(), list(x))
    })?;
    check_weight(windows, groups, weight, weight[1] * groups)?;
    let out = join(&[g[0], weight[1] * groups], &sizes(windows, size));
    let (_, counts) = placed(windows, &out)?;
    check(g[1] == weight[0] && g[2..] == counts[..], || {
        format!("a result {out} belongs to gradients [{}, {}, ..{counts}], got {g}", g[0], weight[0])
    })?;
    Ok(vec![TensorType::new(out, DType::F32)])
}

fn weight_grad(windows: &Windows, groups: usize, x: &[TensorType]) -> Types {
    floats(x)?;
    let (lead, counts) = placed(windows, &x[0].shape)?;
    let g = &x[1].shape;
    let fits = g.rank() == windows.rank() + 2 && g[0] == lead[0] && g[2..] == counts[..];
    check(fits && groups > 0 && lead[1].is_multiple_of(groups) && g[1].is_multiple_of(groups), || {
        format!("data {} in {groups} groups belongs to gradients [{}, out, ..{counts}], got {g}", x[0].shape, lead[0])
    })?;
    Ok(vec![TensorType::new(join(&[g[1], lead[1] / groups], &windows.kernel_shape()), DType::F32)])
}
