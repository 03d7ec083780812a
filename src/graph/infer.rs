//! Types of results from types of operands, or why the operands do not fit.

use super::TensorType;
use super::infer_windows;
use super::op::{MacroOp, Op};
use super::scan::ScanBody;
use crate::dtype::DType;
use crate::shape::Shape;

pub(super) type Types = std::result::Result<Vec<TensorType>, String>;

fn one(shape: impl Into<Shape>, dtype: DType) -> Types {
    Ok(vec![TensorType::new(shape, dtype)])
}

pub(super) fn check(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}

fn check_axis(axis: usize, shape: &Shape) -> Result<(), String> {
    check(axis < shape.rank(), || {
        format!("axis {axis} is out of range for shape {shape}, which has {} axes", shape.rank())
    })
}

pub(super) fn arity(inputs: &[TensorType], wanted: usize) -> Result<(), String> {
    check(inputs.len() == wanted, || format!("takes {wanted} operands, got {}", inputs.len()))
}

/// The types of an operation's results.
#[deny(clippy::wildcard_enum_match_arm)]
pub fn infer(op: &Op, x: &[TensorType], leaf: impl Fn(&str) -> Option<TensorType>) -> Types {
    match op {
        Op::Input(name) | Op::State(name) => {
            leaf(name).map(|ty| vec![ty]).ok_or_else(|| format!("`{name}` was never declared"))
        }
        Op::Const(literal) => one([], literal.dtype),
        Op::Iota { shape, axis } => check_axis(*axis, shape).and_then(|()| one(shape, DType::I32)),
        Op::RandomBits { shape, .. } => {
            arity(x, 1)?;
            let key = TensorType::new([2], DType::U32);
            check(x[0] == key, || format!("the key must be u32[2] (seed, first sample), got {}", x[0]))?;
            one(shape, DType::U32)
        }
        Op::Pointwise(op) => {
            let dtypes: Vec<DType> = x.iter().map(|ty| ty.dtype).collect();
            let dtype = op.infer(&dtypes)?;
            check(x.iter().all(|ty| ty.shape == x[0].shape), || format!("operand shapes differ: {}", list(x)))?;
            one(&x[0].shape, dtype)
        }
        Op::Cast(dtype) => {
            arity(x, 1)?;
            check(*dtype != DType::U8, || "u8 is an input format; cast to u32 instead".into())?;
            one(&x[0].shape, *dtype)
        }
        Op::StopGradient | Op::Assign(_) => {
            arity(x, 1)?;
            Ok(vec![x[0].clone()])
        }
        Op::Reshape(_)
        | Op::Permute(_)
        | Op::Expand(_)
        | Op::Slice { .. }
        | Op::Window { .. }
        | Op::Fold { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::DynamicSlice { .. }
        | Op::DynamicUpdate { .. } => movement(op, x),
        Op::Reduce { axes, .. } => {
            arity(x, 1)?;
            check(x[0].dtype != DType::Bool && x[0].dtype != DType::U8, || {
                format!("cannot reduce {}; cast it first", x[0].dtype)
            })?;
            axes.iter().try_for_each(|&axis| check_axis(axis, &x[0].shape))?;
            check(axes.windows(2).all(|pair| pair[0] < pair[1]), || format!("axes {axes:?} must be distinct"))?;
            let kept = (0..x[0].shape.rank()).filter(|axis| !axes.contains(axis)).map(|axis| x[0].shape[axis]);
            one(kept.collect::<Shape>(), x[0].dtype)
        }
        Op::ArgMax { axis } => {
            arity(x, 1)?;
            check_axis(*axis, &x[0].shape)?;
            check(x[0].dtype == DType::F32, || format!("takes f32, got {}; cast it first", x[0].dtype))?;
            check(x[0].shape[*axis] > 0, || format!("no largest element along an empty axis of {}", x[0].shape))?;
            one(x[0].shape.without(*axis), DType::I32)
        }
        Op::CumSum { axis, .. } => {
            arity(x, 1)?;
            check_axis(*axis, &x[0].shape)?;
            check(x[0].dtype == DType::F32 || x[0].dtype.is_int(), || {
                format!("takes f32, i32 or u32, got {}; cast it first", x[0].dtype)
            })?;
            Ok(vec![x[0].clone()])
        }
        Op::ArgSort { axis, .. } => {
            arity(x, 1)?;
            check_axis(*axis, &x[0].shape)?;
            let sortable = x[0].dtype == DType::F32 || x[0].dtype.is_int() || x[0].dtype == DType::Bool;
            check(sortable, || format!("takes f32, i32, u32 or bool, got {}; cast it first", x[0].dtype))?;
            one(&x[0].shape, DType::I32)
        }
        Op::SumSquares { each } => {
            check(x.iter().all(|ty| ty.dtype == DType::F32), || format!("takes f32 tensors, got {}", list(x)))?;
            if *each { one([x.len()], DType::F32) } else { one([], DType::F32) }
        }
        Op::MatMul => matmul(x),
        Op::Gather => {
            arity(x, 2)?;
            check(x[0].shape.rank() >= 1, || "the table must have at least one axis".into())?;
            check(x[1].dtype.is_int(), || format!("indices must be i32 or u32, got {}", x[1].dtype))?;
            one(x[1].shape.iter().chain(x[0].shape.iter().skip(1)).copied().collect::<Shape>(), x[0].dtype)
        }
        Op::ScatterAdd { rows } => {
            arity(x, 2)?;
            check(x[0].dtype.is_int(), || format!("indices must be i32 or u32, got {}", x[0].dtype))?;
            check(x[1].dtype == DType::F32 || x[1].dtype.is_int(), || {
                format!("values must be f32, i32 or u32, got {}", x[1].dtype)
            })?;
            let lead = x[0].shape.rank();
            check(x[1].shape.len() >= lead && x[1].shape[..lead] == x[0].shape[..], || {
                format!("values {} must start with the index's shape {}", x[1].shape, x[0].shape)
            })?;
            one(std::iter::once(*rows).chain(x[1].shape[lead..].iter().copied()).collect::<Shape>(), x[1].dtype)
        }
        Op::Scan { body, length, .. } => scan(body, *length, x),
        Op::Custom(op) => (op.infer)(x).map(|ty| vec![ty]),
        Op::Macro(op) => macro_op(*op, x),
    }
}

/// The types, unless one has more elements than can be addressed.
pub(super) fn countable(types: Vec<TensorType>) -> Types {
    match types.iter().find(|ty| !ty.shape.fits()) {
        Some(ty) => Err(format!("a result {ty} would have more elements than can be addressed")),
        None => Ok(types),
    }
}

pub(super) fn list(types: &[TensorType]) -> String {
    types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn movement(op: &Op, x: &[TensorType]) -> Types {
    check(!x.is_empty(), || "takes at least one operand".into())?;
    let TensorType { shape, dtype } = &x[0];
    match op {
        Op::Reshape(to) => {
            check(to.numel() == shape.numel(), || {
                format!("cannot turn {shape} ({} elements) into {to} ({} elements)", shape.numel(), to.numel())
            })?;
            one(to, *dtype)
        }
        Op::Permute(axes) => {
            let mut sorted = axes.clone();
            crate::sort::sort(&mut sorted);
            check(sorted.iter().copied().eq(0..shape.rank()), || {
                format!("{axes:?} is not an order of the axes of {shape}")
            })?;
            one(axes.iter().map(|&axis| shape[axis]).collect::<Shape>(), *dtype)
        }
        Op::Expand(to) => {
            let fits = to.rank() == shape.rank() && shape.iter().zip(to.iter()).all(|(&a, &b)| a == b || a == 1);
            check(fits, || format!("cannot repeat {shape} to {to}: only axes of size 1 repeat"))?;
            one(to, *dtype)
        }
        Op::Slice { starts, sizes } => {
            let fits = starts.len() == shape.rank()
                && sizes.len() == shape.rank()
                && (0..shape.rank()).all(|axis| starts[axis].saturating_add(sizes[axis]) <= shape[axis]);
            check(fits, || format!("the box at {starts:?} of size {sizes:?} does not lie within {shape}"))?;
            one(sizes.clone(), *dtype)
        }
        Op::Window { axis, size, stride, dilation } => {
            check_axis(*axis, shape)?;
            let count = windows(shape[*axis], *size, *stride, *dilation)?;
            one(shape.with(*axis, count).iter().copied().chain([*size]).collect::<Shape>(), *dtype)
        }
        Op::Fold { axis, length, stride, dilation } => {
            check(shape.rank() >= 2 && axis + 1 < shape.rank(), || {
                format!("needs windows along axis {axis} and their elements along the last axis, got {shape}")
            })?;
            check(dtype.is_float() || dtype.is_int(), || format!("cannot add up {dtype}; cast it first"))?;
            let most = windows(*length, shape[shape.rank() - 1], *stride, *dilation)?;
            check(shape[*axis] <= most, || {
                format!("{} windows do not fit into {length} elements, only {most}", shape[*axis])
            })?;
            one(shape.without(shape.rank() - 1).with(*axis, *length), *dtype)
        }
        Op::Pad { before, after, value } => {
            check(before.len() == shape.rank() && after.len() == shape.rank(), || {
                format!("needs one amount before and after each of the {} axes of {shape}", shape.rank())
            })?;
            check(value.dtype == *dtype, || format!("pads {dtype} with a {} value", value.dtype))?;
            let padded = |axis: usize| before[axis].saturating_add(shape[axis]).saturating_add(after[axis]);
            one((0..shape.rank()).map(padded).collect::<Shape>(), *dtype)
        }
        Op::Concat { axis } => {
            check_axis(*axis, shape)?;
            let fits = x.iter().all(|ty| {
                ty.dtype == *dtype && ty.shape.rank() == shape.rank() && ty.shape.with(*axis, 0) == shape.with(*axis, 0)
            });
            check(fits, || format!("operands must agree in dtype and in all axes but {axis}, got {}", list(x)))?;
            let total = x.iter().fold(0, |total: usize, ty| total.saturating_add(ty.shape[*axis]));
            one(shape.with(*axis, total), *dtype)
        }
        Op::DynamicSlice { axis, size } => {
            arity(x, 2)?;
            check_axis(*axis, shape)?;
            check(*size <= shape[*axis], || format!("{size} rows of axis {axis} do not fit into {shape}"))?;
            check(x[1] == TensorType::new([], DType::I32), || {
                format!("the start must be an i32 scalar, got {}", x[1])
            })?;
            one(shape.with(*axis, *size), *dtype)
        }
        Op::DynamicUpdate { axis } => {
            arity(x, 3)?;
            check_axis(*axis, shape)?;
            let fits = x[1].dtype == *dtype
                && x[1].shape.rank() == shape.rank()
                && x[1].shape.with(*axis, 0) == shape.with(*axis, 0)
                && x[1].shape[*axis] <= shape[*axis];
            check(fits, || format!("cannot write {} into {} along axis {axis}", x[1], x[0]))?;
            check(x[2] == TensorType::new([], DType::I32), || {
                format!("the start must be an i32 scalar, got {}", x[2])
            })?;
            one(shape, *dtype)
        }
        _ => Err("is not a movement operation".into()),
    }
}

/// How many windows lie along an axis of this length.
fn windows(length: usize, size: usize, stride: usize, dilation: usize) -> Result<usize, String> {
    check(size > 0 && stride > 0 && dilation > 0, || {
        format!("size, stride and dilation must be at least 1, got {size}, {stride} and {dilation}")
    })?;
    let extent = dilation.saturating_mul(size - 1).saturating_add(1);
    check(extent <= length, || {
        format!("a window of {size} elements, {dilation} apart, spans {extent} and does not fit into {length}")
    })?;
    Ok((length - extent) / stride + 1)
}

fn matmul(x: &[TensorType]) -> Types {
    arity(x, 2)?;
    let (a, b) = (&x[0].shape, &x[1].shape);
    check(x[0].dtype.is_float() && x[0].dtype == x[1].dtype, || {
        format!("takes two float tensors of one dtype, got {}", list(x))
    })?;
    let rank = a.rank();
    check(rank >= 2 && b.rank() == rank, || format!("takes two matrices (or equal stacks of them), got {a} and {b}"))?;
    check(a[rank - 1] == b[rank - 2], || {
        format!("inner sizes differ: {a} x {b} ({} columns against {} rows)", a[rank - 1], b[rank - 2])
    })?;
    check(a[..rank - 2] == b[..rank - 2], || format!("leading axes differ: {a} x {b}"))?;
    one(a.with(rank - 1, b[rank - 1]), x[0].dtype)
}

fn scan(body: &ScanBody, length: usize, x: &[TensorType]) -> Types {
    body.refused()?;
    arity(x, body.operands())?;
    check(length > 0, || "needs at least one step".into())?;
    let (carries, slices) = (body.carries(), body.slices());
    for (index, ty) in x.iter().enumerate() {
        let wanted = body.operand_type(index);
        if (carries..carries + slices).contains(&index) {
            let stack = ty.shape.first() == Some(&length) && ty.shape[1..] == wanted.shape[..];
            check(stack && ty.dtype == wanted.dtype, || {
                format!("stacked operand {} must be {length} times {wanted}, got {ty}", index - carries)
            })?;
        } else {
            check(ty == wanted, || format!("operand {index} must be {wanted}, got {ty}"))?;
        }
    }
    for index in 0..carries {
        let (enters, leaves) = (body.operand_type(index), body.result_type(index));
        check(enters == leaves, || {
            format!("carry {index} enters a step as {enters} and leaves it as {leaves}; it must keep shape and dtype")
        })?;
    }
    let stacked = |ty: &TensorType| {
        let sizes = std::iter::once(length).chain(ty.shape.iter().copied());
        TensorType::new(sizes.collect::<Shape>(), ty.dtype)
    };
    let result =
        |index| if index < carries { body.result_type(index).clone() } else { stacked(body.result_type(index)) };
    Ok((0..body.results()).map(result).collect())
}

fn macro_op(op: MacroOp, x: &[TensorType]) -> Types {
    let float = |index: usize| {
        check(x[index].dtype == DType::F32, || format!("operand {index} must be f32, got {}", x[index].dtype))
    };
    match op {
        MacroOp::Softmax | MacroOp::LogSoftmax => {
            arity(x, 1)?;
            float(0)?;
            check(x[0].shape.rank() >= 1, || "needs at least one axis".into())?;
            Ok(vec![x[0].clone()])
        }
        MacroOp::LayerNorm { .. } => {
            arity(x, 3)?;
            norm_operands(x, 2)?;
            Ok(vec![x[0].clone()])
        }
        MacroOp::RmsNorm { .. } => {
            arity(x, 2)?;
            norm_operands(x, 1)?;
            Ok(vec![x[0].clone()])
        }
        MacroOp::LayerNormGrad { .. } => {
            arity(x, 3)?;
            norm_operands(x, 1)?;
            Ok(vec![x[0].clone(), x[1].clone(), x[1].clone()])
        }
        MacroOp::RmsNormGrad { .. } => {
            arity(x, 3)?;
            norm_operands(x, 1)?;
            Ok(vec![x[0].clone(), x[1].clone()])
        }
        MacroOp::BatchNorm { .. } => {
            arity(x, 3)?;
            channel_operands(x, 2)?;
            Ok(vec![x[0].clone(), x[1].clone(), x[1].clone()])
        }
        MacroOp::ChannelMoments => {
            arity(x, 1)?;
            channel_operands(x, 0)?;
            Ok(vec![TensorType::new([x[0].shape[1]], DType::F32); 2])
        }
        MacroOp::ChannelProducts => {
            arity(x, 3)?;
            check(x[1] == x[0], || format!("the gradient must be {}, got {}", x[1], x[0]))?;
            channel_operands(&[x[0].clone(), x[2].clone()], 1)?;
            Ok(vec![x[2].clone(); 2])
        }
        MacroOp::BatchNormGrad { .. } => {
            arity(x, 5)?;
            channel_operands(&x[..4], 3)?;
            check(x[4] == x[0], || format!("the gradient must be {}, got {}", x[0], x[4]))?;
            Ok(vec![x[0].clone(), x[1].clone(), x[1].clone()])
        }
        MacroOp::CrossEntropy | MacroOp::CrossEntropyGrad | MacroOp::CrossEntropyWithGrad => {
            arity(x, if op == MacroOp::CrossEntropy { 2 } else { 3 })?;
            float(0)?;
            check(x[0].shape.rank() == 2 && x[0].shape[1] > 0, || {
                format!("logits must be [rows, classes], got {}", x[0].shape)
            })?;
            let rows = Shape::from([x[0].shape[0]]);
            check(x[1] == TensorType::new(&rows, DType::I32), || format!("targets must be i32{rows}, got {}", x[1]))?;
            let loss = TensorType::new(&rows, DType::F32);
            if let Some(g) = x.get(2) {
                check(*g == loss, || format!("row gradients must be {loss}, got {g}"))?;
            }
            Ok(match op {
                MacroOp::CrossEntropy => vec![loss],
                MacroOp::CrossEntropyGrad => vec![x[0].clone()],
                _ => vec![loss, x[0].clone()],
            })
        }
        MacroOp::Attention { .. } => {
            arity(x, 3)?;
            attention(x)
        }
        MacroOp::AttentionGrad { .. } => {
            arity(x, 6)?;
            attention(x)?;
            Ok(vec![x[0].clone(), x[1].clone(), x[2].clone()])
        }
        MacroOp::Conv { .. }
        | MacroOp::ConvDataGrad { .. }
        | MacroOp::ConvWeightGrad { .. }
        | MacroOp::MaxPool { .. }
        | MacroOp::MaxPoolGrad { .. } => infer_windows::macro_op(op, x),
    }
}

/// `x [.., n]` and `vectors` operands of shape `[n]` after it.
fn norm_operands(x: &[TensorType], vectors: usize) -> Result<(), String> {
    check(x.iter().all(|ty| ty.dtype == DType::F32), || format!("takes f32 tensors, got {}", list(x)))?;
    let n = x[0].shape.last().copied().ok_or("needs at least one axis")?;
    check(x[1..=vectors].iter().all(|ty| *ty.shape == [n]), || {
        format!("gain and bias must have the size of the last axis, {n}; got {}", list(&x[1..=vectors]))
    })
}

/// `x [n, c, s]` and `vectors` operands of shape `[c]` after it.
fn channel_operands(x: &[TensorType], vectors: usize) -> Result<(), String> {
    check(x.iter().all(|ty| ty.dtype == DType::F32), || format!("takes f32 tensors, got {}", list(x)))?;
    check(x[0].shape.rank() == 3, || format!("takes [samples, channels, size], got {}", x[0].shape))?;
    let channels = x[0].shape[1];
    check(x[1..=vectors].iter().all(|ty| *ty.shape == [channels]), || {
        format!(
            "gain, bias and statistics must have one number for each of the {channels} channels; got {}",
            list(&x[1..=vectors])
        )
    })
}

fn attention(x: &[TensorType]) -> Types {
    check(x.iter().all(|ty| ty.dtype == DType::F32), || format!("takes f32 tensors, got {}", list(x)))?;
    let (q, k, v) = (&x[0].shape, &x[1].shape, &x[2].shape);
    let fits = q.rank() == 4 && k.rank() == 4 && k == v && q[0] == k[0] && q[3] == k[3];
    check(fits && k[2] > 0 && q[2].is_multiple_of(k[2]), || {
        format!(
            "wants q [batch, time, heads, size] and k, v [batch, source, key heads, size], where the key heads divide \
             the heads, got {q}, {k}, {v}"
        )
    })?;
    check(k[1] > 0, || "needs at least one key".into())?;
    Ok(vec![x[0].clone(), TensorType::new([q[0], q[2], q[1]], DType::F32)])
}
