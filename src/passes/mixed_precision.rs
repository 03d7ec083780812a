//! Mixed precision: which operations read operands of half the size (`torch.autocast`'s lists, for a whole step).
//!
//! Works on a step that has its gradients already, and treats both directions alike: what a product, a convolution or
//! attention reads is rounded to f16 or bf16, be it an activation or a gradient. They add up in f32, and everything else
//! is f32 throughout: sums, norms and their statistics, softmax, losses, pointwise operations, what goes into states, and
//! so the optimizer. A pointwise operation costs nothing more in f32, because it shares a kernel with what it follows, and
//! only what that kernel stores is rounded.
//!
//! Parameters, inputs and what does not go up in fours lie in f32 anyway and are read as they are: rounding them would take
//! memory, and time to write them, and give less precise products. So are results of max pooling in the forward pass. Not one
//! of [`super::PASSES`]: a trainer asks for it by name, with the type. What else gradients read is
//! [`super::save_in_half`]'s affair.

use super::Rewriter;
use crate::dtype::DType;
use crate::graph::{Graph, MacroOp, Node, Op, PointwiseOp, ReduceKind, Tensor, Value};
use std::collections::HashSet;

/// A stored half has a multiple of so many elements.
pub(super) const IN_FOURS: usize = 4;

/// Rounds to `dtype` (f16 or bf16) what the operations of the policy read.
pub fn mixed_precision(graph: &Graph, dtype: DType) -> Graph {
    let (nodes, live) = (graph.nodes(), graph.live());
    let rounded = rounded(&nodes, &live);
    let mut rewriter = Rewriter::new(graph);
    for (index, node) in nodes.iter().enumerate().filter(|(index, _)| live[*index]) {
        let operand = |(position, &old): (usize, &Value)| {
            let reads = reads_half(&node.op, position)
                || sums_channels(&nodes, node) && base(&nodes, old).is_some_and(|base| rounded.contains(&base));
            let half = if reads { in_half(&rewriter, &nodes, old, dtype) } else { None };
            half.or(rewriter.get(old))
        };
        let inputs: Vec<Value> = node.inputs.iter().enumerate().filter_map(operand).collect();
        let new = rewriter.to.in_scope(&node.scope, || rewriter.to.push(node.op.clone(), &inputs));
        rewriter.record(index as u32, node, new);
    }
    rewriter.finish()
}

/// The computed values that operations of the policy read, be it through movements.
fn rounded(nodes: &[Node], live: &[bool]) -> HashSet<Value> {
    let read = |(_, node): (usize, &Node)| {
        let half = node.inputs.iter().enumerate().filter(|(position, _)| reads_half(&node.op, *position));
        half.filter_map(|(_, &input)| base(nodes, input)).collect::<Vec<_>>()
    };
    nodes.iter().enumerate().filter(|(index, _)| live[*index]).flat_map(read).collect()
}

/// The computed f32 value behind movements; `None` if it is a leaf, or stays in f32 because halves are stored in fours.
fn base(nodes: &[Node], value: Value) -> Option<Value> {
    let node = &nodes[value.node as usize];
    if is_movement(&node.op) {
        return base(nodes, node.inputs[0]);
    }
    let ty = &node.outputs[value.output as usize];
    let fits = ty.dtype == DType::F32 && ty.shape.numel().is_multiple_of(IN_FOURS);
    (is_computed(nodes, node) && fits).then_some(value)
}

/// A value of the old graph, rounded and in f32 again, at the end of the new one. It is rounded before it is moved, so that
/// all who read it read one stored half.
fn in_half(rewriter: &Rewriter<'_>, nodes: &[Node], value: Value, dtype: DType) -> Option<Value> {
    let (node, to) = (&nodes[value.node as usize], &rewriter.to);
    if is_movement(&node.op) {
        let inner = in_half(rewriter, nodes, node.inputs[0], dtype)?;
        return Some(to.in_scope(&node.scope, || to.push(node.op.clone(), &[inner])));
    }
    let known = rewriter.get(base(nodes, value)?)?;
    Some(to.in_scope(&node.scope, || Tensor::new(to, known).cast(dtype).cast(DType::F32).value()))
}

/// The gradient of a bias: sums over everything but the last axis, or but the second. It reads the gradient that the
/// product beside it reads, as in PyTorch, or both would have to be stored.
fn sums_channels(nodes: &[Node], node: &Node) -> bool {
    let Op::Reduce { kind: ReduceKind::Sum, axes } = &node.op else { return false };
    let input = node.inputs[0];
    let rank = nodes[input.node as usize].outputs[input.output as usize].shape.rank();
    rank >= 2 && [rank - 1, 1].iter().any(|kept| axes.iter().copied().eq((0..rank).filter(|axis| axis != kept)))
}

/// The policy: which operands are rounded. The rest of the list is computed in f32 from f32.
#[deny(clippy::wildcard_enum_match_arm)]
fn reads_half(op: &Op, operand: usize) -> bool {
    match op {
        Op::MatMul
        | Op::Macro(
            MacroOp::Conv { .. }
            | MacroOp::ConvDataGrad { .. }
            | MacroOp::ConvWeightGrad { .. }
            | MacroOp::Attention { .. },
        ) => true,
        // The logarithms of the sums of exponentials are statistics.
        Op::Macro(MacroOp::AttentionGrad { .. }) => operand != 4,
        Op::Input(_)
        | Op::State(_)
        | Op::Const(_)
        | Op::Iota { .. }
        | Op::RandomBits { .. }
        | Op::Pointwise(_)
        | Op::Cast(_)
        | Op::StopGradient
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Expand(_)
        | Op::Slice { .. }
        | Op::Window { .. }
        | Op::Fold { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::DynamicSlice { .. }
        | Op::DynamicUpdate { .. }
        | Op::Reduce { .. }
        | Op::ArgMax { .. }
        | Op::CumSum { .. }
        | Op::ArgSort { .. }
        | Op::SumSquares { .. }
        | Op::Gather
        | Op::ScatterAdd { .. }
        // With what its body does: what a loop carries from step to step loses nothing.
        | Op::Scan { .. }
        | Op::Assign(_)
        | Op::Custom(_)
        | Op::Macro(
            MacroOp::Softmax
            | MacroOp::LogSoftmax
            | MacroOp::LayerNorm { .. }
            | MacroOp::LayerNormGrad { .. }
            | MacroOp::RmsNorm { .. }
            | MacroOp::RmsNormGrad { .. }
            | MacroOp::BatchNorm { .. }
            | MacroOp::BatchNormGrad { .. }
            | MacroOp::ChannelMoments
            | MacroOp::ChannelProducts
            | MacroOp::CrossEntropy
            | MacroOp::CrossEntropyGrad
            | MacroOp::CrossEntropyWithGrad
            | MacroOp::MaxPool { .. }
            | MacroOp::MaxPoolGrad { .. },
        ) => false,
    }
}

/// The same elements elsewhere.
pub(super) fn is_movement(op: &Op) -> bool {
    matches!(
        op,
        Op::StopGradient | Op::Reshape(_) | Op::Permute(_) | Op::Expand(_) | Op::Slice { .. } | Op::Window { .. }
    )
}

/// Whether rounding it saves anything: leaves lie in memory as they are, and constants nowhere. What max pooling gives is
/// in f32 in any case, through a ReLU or not, because its kernel stores no halves. The forward pass reads that, which is more
/// precise and no slower; gradients read what [`super::save_in_half`] keeps of it. `docs/decisions/mixed-precision.md` has
/// what it is worth.
fn is_computed(nodes: &[Node], node: &Node) -> bool {
    let pools = |op: &Op| matches!(op, Op::Macro(MacroOp::MaxPool { .. }));
    let pooled = match node.op {
        Op::Pointwise(PointwiseOp::Relu) => pools(&nodes[node.inputs[0].node as usize].op),
        _ => pools(&node.op),
    };
    let leaf = matches!(node.op, Op::Input(_) | Op::State(_) | Op::Const(_) | Op::Iota { .. } | Op::RandomBits { .. });
    !leaf && !pooled
}
