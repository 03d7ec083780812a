//! Constants folded, neutral operands removed, movements of movements joined.

use super::rewrite;
use crate::dtype::DType;
use crate::graph::{Graph, Literal, Node, Op, PointwiseOp, ReduceKind, Tensor, Value};

/// Applies the local rules below to every node, once, operands first.
pub fn simplify(graph: &Graph) -> Graph {
    rewrite(graph, |to, node, inputs| {
        let view = movement(to, node, inputs);
        view.or_else(|| fold(to, node, inputs)).or_else(|| neutral(to, node, inputs))
    })
}

/// The constant that fills a value, seen through movements.
pub fn splat(graph: &Graph, value: Value) -> Option<f64> {
    let node = graph.node(value.node);
    match &node.op {
        Op::Const(literal) => Some(literal.value()),
        Op::Reshape(_) | Op::Expand(_) | Op::Permute(_) | Op::Slice { .. } | Op::Window { .. } | Op::StopGradient => {
            splat(graph, node.inputs[0])
        }
        _ => None,
    }
}

fn filled(graph: &Graph, node: &Node, value: f64) -> Value {
    let ty = &node.outputs[0];
    graph.constant(Literal::new(ty.dtype, value)).broadcast_to(&ty.shape).value()
}

/// Operations on constants. Integer results stay exact in f64 and are wrapped like the device's.
fn fold(graph: &Graph, node: &Node, inputs: &[Value]) -> Option<Value> {
    let constants = || inputs.iter().map(|&input| splat(graph, input)).collect::<Option<Vec<f64>>>();
    let dtype = node.outputs[0].dtype;
    match &node.op {
        Op::Pointwise(op) if dtype == DType::F32 || dtype == DType::Bool => {
            // What is not finite is left to the device: a shader cannot contain it.
            op.folded(&constants()?).filter(|value| value.is_finite()).map(|value| filled(graph, node, value))
        }
        Op::Cast(to) => {
            let value = constants()?[0];
            let value = match to {
                DType::Bool => f64::from(u8::from(value != 0.0)),
                DType::I32 => value.trunc().clamp(f64::from(i32::MIN), f64::from(i32::MAX)),
                DType::U32 => value.trunc().clamp(0.0, f64::from(u32::MAX)),
                DType::F32 => value,
                DType::F16 | DType::BF16 | DType::U8 => return None,
            };
            Some(filled(graph, node, value))
        }
        Op::Reduce { kind: ReduceKind::Sum, axes } if dtype == DType::F32 => {
            let shape = graph.type_of(inputs[0]).shape;
            let count: usize = axes.iter().map(|&axis| shape[axis]).product();
            Some(filled(graph, node, constants()?[0] * count as f64))
        }
        _ => None,
    }
}

/// `x + 0`, `x * 1` and the like.
fn neutral(graph: &Graph, node: &Node, inputs: &[Value]) -> Option<Value> {
    let Op::Pointwise(op) = &node.op else { return None };
    let is = |index: usize, value: f64| splat(graph, inputs[index]) == Some(value);
    match op {
        PointwiseOp::Add if is(1, 0.0) => Some(inputs[0]),
        PointwiseOp::Add if is(0, 0.0) => Some(inputs[1]),
        PointwiseOp::Sub if is(1, 0.0) => Some(inputs[0]),
        PointwiseOp::Mul if is(1, 1.0) => Some(inputs[0]),
        PointwiseOp::Mul if is(0, 1.0) => Some(inputs[1]),
        PointwiseOp::Div if is(1, 1.0) => Some(inputs[0]),
        _ => None,
    }
}

/// Movements that do nothing, and pairs that are one.
fn movement(graph: &Graph, node: &Node, inputs: &[Value]) -> Option<Value> {
    let &input = inputs.first()?;
    let shape = graph.type_of(input).shape;
    let before = graph.node(input.node);
    let tensor = |value: Value| Tensor::new(graph, value);
    match &node.op {
        Op::Reshape(to) | Op::Expand(to) if *to == shape => Some(input),
        Op::Permute(axes) if axes.iter().copied().eq(0..axes.len()) => Some(input),
        Op::Slice { sizes, .. } if sizes[..] == shape[..] => Some(input),
        // The gradient of such a slice.
        Op::Pad { before, after, .. } if before.iter().chain(after).all(|&margin| margin == 0) => Some(input),
        Op::Reshape(to) => match &before.op {
            Op::Reshape(_) => Some(tensor(before.inputs[0]).reshape(to).value()),
            _ => None,
        },
        Op::Permute(axes) => match &before.op {
            Op::Permute(first) => {
                let joined: Vec<usize> = axes.iter().map(|&axis| first[axis]).collect();
                Some(tensor(before.inputs[0]).permute(&joined).value())
            }
            _ => None,
        },
        Op::StopGradient => Some(input),
        // A half that is widened and rounded again.
        Op::Cast(to @ (DType::F16 | DType::BF16)) if matches!(before.op, Op::Cast(DType::F32)) => {
            Some(before.inputs[0]).filter(|&half| graph.type_of(half).dtype == *to)
        }
        _ => None,
    }
}
