//! One gradient rule an operation. A rule returns the operands' gradients and nothing else.

use super::vjp;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::windows::lengths;
use crate::graph::{Graph, Literal, MacroOp, Node, Op, ReduceKind, Tensor, Value};
use crate::shape::Shape;
use crate::tensor::expand::expand;

type Grads<'g> = Vec<Option<Tensor<'g>>>;

/// The operands' gradients from the outputs' gradients (`None` where an output has none).
#[deny(clippy::wildcard_enum_match_arm)]
pub fn rule<'g>(graph: &'g Graph, index: u32, node: &Node, grads: &[Option<Tensor<'g>>]) -> Result<Grads<'g>> {
    let x: Vec<Tensor<'g>> = node.inputs.iter().map(|&input| Tensor::new(graph, input)).collect();
    let y = Tensor::new(graph, Value { node: index, output: 0 });
    if let Op::Macro(op) = &node.op {
        return macro_rule(*op, &x, y, grads);
    }
    if !crate::PAGE
        && let Op::Scan { .. } = &node.op
    {
        return super::scan::rule(graph, index, node, grads);
    }
    let Some(g) = grads[0] else { return Ok(vec![None; x.len()]) };
    Ok(match &node.op {
        Op::Input(_) | Op::State(_) | Op::Const(_) | Op::Iota { .. } | Op::RandomBits { .. } => vec![],
        Op::Pointwise(op) => match op.row().gradient {
            Some(gradient) => gradient(g, &x, y),
            None if !y.dtype().is_float() => vec![None; x.len()],
            None => {
                return Err(no_gradient(
                    op.row().name,
                    "it is itself a derivative; second order is not defined for it",
                ));
            }
        },
        Op::Cast(_) => vec![x[0].dtype().is_float().then(|| g.cast(x[0].dtype()))],
        Op::StopGradient => vec![None],
        Op::Assign(_) => vec![Some(g)],
        Op::Reshape(_)
        | Op::Permute(_)
        | Op::Expand(_)
        | Op::Slice { .. }
        | Op::Window { .. }
        | Op::Fold { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::DynamicSlice { .. }
        | Op::DynamicUpdate { .. } => movement(&node.op, &x, g),
        Op::Reduce { kind, axes } => vec![Some(reduce(*kind, axes, x[0], y, g))],
        Op::ArgMax { .. } | Op::ArgSort { .. } => vec![None],
        // Element j adds to the sums i >= j, so its gradient is the sum of theirs.
        &Op::CumSum { axis, reverse, exclusive } => {
            vec![Some(g.apply(Op::CumSum { axis, reverse: !reverse, exclusive }, &[]))]
        }
        Op::SumSquares { each: false } => x.iter().map(|&part| Some(part * 2.0 * g)).collect(),
        Op::SumSquares { each: true } => {
            let own = |index: usize| g.slice(0, index, index + 1).reshape([]);
            x.iter().enumerate().map(|(index, &part)| Some(part * 2.0 * own(index))).collect()
        }
        // y = a b: da = g b^T, db = a^T g
        Op::MatMul => vec![Some(g.matmul(x[1].t())), Some(x[0].t().matmul(g))],
        Op::Gather => vec![Some(g.scatter_add(x[1], x[0].shape()[0])), None],
        Op::ScatterAdd { .. } => vec![None, Some(g.gather(x[0]))],
        Op::Custom(op) => match op.gradient {
            Some(gradient) => gradient(g, &x, y),
            None => return Err(no_gradient(&op.name, "the custom op was declared without one")),
        },
        Op::Macro(_) | Op::Scan { .. } => vec![],
    })
}

fn no_gradient(op: &str, why: &str) -> Error {
    Error::no_gradient(format!("`{op}` has none: {why}. Use `stop_gradient` where it is not needed"))
}

fn movement<'g>(op: &Op, x: &[Tensor<'g>], g: Tensor<'g>) -> Grads<'g> {
    let shape = x[0].shape();
    let zero = Literal::new(g.dtype(), 0.0);
    match op {
        Op::Reshape(_) => vec![Some(g.reshape(shape))],
        Op::Permute(axes) => {
            let mut inverse = vec![0; axes.len()];
            for (to, &from) in axes.iter().enumerate() {
                inverse[from] = to;
            }
            vec![Some(g.permute(&inverse))]
        }
        Op::Expand(to) => {
            let axes: Vec<isize> =
                (0..shape.rank()).filter(|&axis| shape[axis] != to[axis]).map(|axis| axis as isize).collect();
            vec![Some(g.sum(&axes).reshape(shape))]
        }
        Op::Slice { starts, sizes } => {
            let after = (0..shape.rank()).map(|axis| shape[axis] - starts[axis] - sizes[axis]).collect();
            vec![Some(g.apply(Op::Pad { before: starts.clone(), after, value: zero }, &[]))]
        }
        Op::Window { axis, stride, dilation, .. } => {
            let (axis, stride, dilation) = (*axis, *stride, *dilation);
            vec![Some(g.apply(Op::Fold { axis, length: shape[axis], stride, dilation }, &[]))]
        }
        Op::Fold { axis, stride, dilation, .. } => {
            let (axis, size) = (*axis, shape[shape.rank() - 1]);
            let all = g.apply(Op::Window { axis, size, stride: *stride, dilation: *dilation }, &[]);
            // Elements behind the last window that was folded may make room for more.
            vec![Some(all.slice(axis as isize, 0, shape[axis]))]
        }
        Op::Pad { before, .. } => {
            vec![Some(g.apply(Op::Slice { starts: before.clone(), sizes: shape.to_vec() }, &[]))]
        }
        Op::Concat { axis } => {
            let mut start = 0;
            x.iter()
                .map(|part| {
                    let stop = start + part.shape()[*axis];
                    let slice = g.slice(*axis as isize, start, stop);
                    start = stop;
                    Some(slice)
                })
                .collect()
        }
        Op::DynamicSlice { axis, .. } => {
            vec![Some(x[0].zeros_like().dynamic_update(*axis as isize, g, x[1])), None]
        }
        Op::DynamicUpdate { axis } => {
            let axis = *axis as isize;
            let size = x[1].shape()[axis as usize];
            let kept = g.dynamic_update(axis, x[1].zeros_like(), x[2]);
            vec![Some(kept), Some(g.dynamic_slice(axis, x[2], size)), None]
        }
        _ => vec![None; x.len()],
    }
}

fn reduce<'g>(kind: ReduceKind, axes: &[usize], x: Tensor<'g>, y: Tensor<'g>, g: Tensor<'g>) -> Tensor<'g> {
    let shape = x.shape();
    let kept: Shape = (0..shape.rank()).map(|axis| if axes.contains(&axis) { 1 } else { shape[axis] }).collect();
    let spread = |t: Tensor<'g>| t.reshape(&kept).broadcast_to(&shape);
    match kind {
        ReduceKind::Sum => spread(g),
        // Equal extremes share the gradient evenly, as torch.amax does.
        ReduceKind::Max | ReduceKind::Min => {
            let hit = x.eq(spread(y));
            let axes: Vec<isize> = axes.iter().map(|&axis| axis as isize).collect();
            let count = hit.cast(DType::F32).sum(&axes);
            hit.select(spread(g / count), 0.0)
        }
    }
}

fn macro_rule<'g>(op: MacroOp, x: &[Tensor<'g>], y: Tensor<'g>, grads: &[Option<Tensor<'g>>]) -> Result<Grads<'g>> {
    let last_sum = |t: Tensor<'g>| t.sum(&[-1]).unsqueeze(-1);
    Ok(match (op, grads[0]) {
        // y = softmax(x): dx = y (g - sum(g y))
        (MacroOp::Softmax, Some(g)) => vec![Some(y * (g - last_sum(g * y)))],
        // y = log softmax(x): dx = g - exp(y) sum(g)
        (MacroOp::LogSoftmax, Some(g)) => vec![Some(g - y.exp() * last_sum(g))],
        (MacroOp::LayerNorm { eps }, Some(g)) => {
            let dx = x[0].apply(Op::Macro(MacroOp::LayerNormGrad { eps }), &[x[1], g]);
            vec![Some(dx), Some(dx.output(1)), Some(dx.output(2))]
        }
        (MacroOp::RmsNorm { eps }, Some(g)) => {
            let dx = x[0].apply(Op::Macro(MacroOp::RmsNormGrad { eps }), &[x[1], g]);
            vec![Some(dx), Some(dx.output(1))]
        }
        (MacroOp::BatchNorm { eps }, Some(g)) if grads[1].is_none() && grads[2].is_none() => {
            let operands = [x[1], y.output(1), y.output(2), g];
            let dx = x[0].apply(Op::Macro(MacroOp::BatchNormGrad { eps }), &operands);
            vec![Some(dx), Some(dx.output(1)), Some(dx.output(2))]
        }
        (MacroOp::CrossEntropy, Some(g)) => {
            vec![Some(x[0].apply(Op::Macro(MacroOp::CrossEntropyGrad), &[x[1], g])), None]
        }
        (MacroOp::Attention { sight, scale }, Some(g)) if grads[1].is_none() => {
            let operands = [x[1], x[2], y, y.output(1), g];
            let dq = x[0].apply(Op::Macro(MacroOp::AttentionGrad { sight, scale }), &operands);
            vec![Some(dq), Some(dq.output(1)), Some(dq.output(2))]
        }
        // Each of the three is linear in both operands, and their gradients are the other two.
        (MacroOp::Conv { windows, groups }, Some(g)) => {
            let size = lengths(&x[0].shape()[2..]).unwrap_or_default();
            vec![
                Some(g.apply(Op::Macro(MacroOp::ConvDataGrad { windows, groups, size }), &[x[1]])),
                Some(x[0].apply(Op::Macro(MacroOp::ConvWeightGrad { windows, groups }), &[g])),
            ]
        }
        (MacroOp::ConvDataGrad { windows, groups, .. }, Some(g)) => vec![
            Some(g.apply(Op::Macro(MacroOp::Conv { windows, groups }), &[x[1]])),
            Some(g.apply(Op::Macro(MacroOp::ConvWeightGrad { windows, groups }), &[x[0]])),
        ],
        (MacroOp::ConvWeightGrad { windows, groups }, Some(g)) => {
            let size = lengths(&x[0].shape()[2..]).unwrap_or_default();
            vec![
                Some(x[1].apply(Op::Macro(MacroOp::ConvDataGrad { windows, groups, size }), &[g])),
                Some(x[0].apply(Op::Macro(MacroOp::Conv { windows, groups }), &[g])),
            ]
        }
        (MacroOp::MaxPool { windows }, Some(g)) => {
            let size = lengths(&x[0].shape()[2..]).unwrap_or_default();
            vec![Some(y.output(1).apply(Op::Macro(MacroOp::MaxPoolGrad { windows, size }), &[g]))]
        }
        // Everything else is differentiated through its definition.
        _ => {
            let outputs = expand(op, x);
            let seeds: Vec<_> =
                outputs.into_iter().zip(grads).filter_map(|(output, grad)| grad.map(|g| (output, g))).collect();
            let wrt: Vec<_> = x.iter().copied().filter(|operand| operand.dtype().is_float()).collect();
            let mut grads = vjp(&seeds, &wrt)?.into_iter();
            x.iter().map(|operand| if operand.dtype().is_float() { grads.next() } else { None }).collect()
        }
    })
}
