//! What the forward pass saves for the gradients, in half precision.
//!
//! Only storage changes: what is computed forward is computed as before, and gradients read rounded operands in f32.
//! Not one of [`super::PASSES`]: a trainer asks for it by name, with the type.

use super::Rewriter;
use super::mixed_precision::{IN_FOURS, is_movement};
use crate::dtype::DType;
use crate::graph::{Graph, MacroOp, Node, Op, Tensor, Value};
use std::collections::HashMap;

/// Smaller tensors stay as they are: they are most of the kernels and little of the memory.
const LEAST: usize = 1024;

/// Rounds to `dtype` what nodes that `assigned` need read of what `result` needs: of the gradients' states and the
/// loss, the activations.
pub fn save_in_half(graph: &Graph, result: &str, assigned: &str, dtype: DType) -> Graph {
    let nodes = graph.nodes();
    let outputs = graph.outputs();
    let forward = needed(&nodes, outputs.iter().filter(|(name, _)| **name == *result).map(|(_, value)| value.node));
    let states = nodes.iter().enumerate().filter(|(_, node)| match &node.op {
        Op::Assign(name) => name.starts_with(assigned),
        _ => false,
    });
    let mut backward = needed(&nodes, states.map(|(index, _)| index as u32));
    backward.iter_mut().zip(&forward).for_each(|(backward, forward)| *backward &= !forward);
    let saved = saved(&nodes, &forward, &backward);
    let (mut rewriter, live) = (Rewriter::new(graph), graph.live());
    let mut halves: HashMap<Value, Value> = HashMap::new();
    for (index, node) in nodes.iter().enumerate().filter(|(index, _)| live[*index]) {
        let at = index as u32;
        if !backward[index] {
            rewriter.copy(at);
            let value = Value { node: at, output: 0 };
            if let Some(new) = rewriter.get(value).filter(|_| saved[index]) {
                let half = rewriter.to.in_scope(&node.scope, || Tensor::new(&rewriter.to, new).cast(dtype));
                let half = half.value();
                halves.insert(value, half);
            }
            continue;
        }
        let read = |input: Value| {
            let known = rewriter.get(input);
            if keeps_operands(&node.op) { known } else { restored(&rewriter, &nodes, &halves, input).or(known) }
        };
        let inputs: Vec<Value> = node.inputs.iter().filter_map(|&input| read(input)).collect();
        let new = rewriter.to.in_scope(&node.scope, || rewriter.to.push(node.op.clone(), &inputs));
        rewriter.record(at, node, new);
    }
    rewriter.finish()
}

/// The nodes that these need, themselves included.
fn needed(nodes: &[Node], ends: impl Iterator<Item = u32>) -> Vec<bool> {
    let mut needed = vec![false; nodes.len()];
    ends.for_each(|end| needed[end as usize] = true);
    for index in (0..nodes.len()).rev() {
        if needed[index] {
            nodes[index].inputs.iter().for_each(|input| needed[input.node as usize] = true);
        }
    }
    needed
}

/// Which nodes' first outputs are worth saving in half: large, and read by gradients, be it through movements.
fn saved(nodes: &[Node], forward: &[bool], backward: &[bool]) -> Vec<bool> {
    let mut read = vec![false; nodes.len()];
    for index in (0..nodes.len()).rev() {
        let passes_on =
            backward[index] && !keeps_operands(&nodes[index].op) || read[index] && is_movement(&nodes[index].op);
        if passes_on {
            nodes[index]
                .inputs
                .iter()
                .filter(|input| input.output == 0)
                .for_each(|input| read[input.node as usize] = true);
        }
    }
    let fits = |node: &Node| {
        let ty = &node.outputs[0];
        ty.dtype == DType::F32 && ty.shape.numel() >= LEAST && ty.shape.numel().is_multiple_of(IN_FOURS)
    };
    let chosen = |(index, node): (usize, &Node)| forward[index] && read[index] && may_be_half(&node.op) && fits(node);
    nodes.iter().enumerate().map(chosen).collect()
}

/// A saved value in f32 again, at the end of the new graph; `None` if it was not saved in half.
fn restored(rewriter: &Rewriter<'_>, nodes: &[Node], halves: &HashMap<Value, Value>, value: Value) -> Option<Value> {
    if let Some(&half) = halves.get(&value) {
        return Some(Tensor::new(&rewriter.to, half).cast(DType::F32).value());
    }
    let node = &nodes[value.node as usize];
    if !is_movement(&node.op) {
        return None;
    }
    let inner = restored(rewriter, nodes, halves, node.inputs[0])?;
    Some(rewriter.to.push(node.op.clone(), &[inner]))
}

/// Losses read what they read in the forward pass: they share a kernel with it, and their gradients are differences.
fn keeps_operands(op: &Op) -> bool {
    matches!(op, Op::Macro(MacroOp::CrossEntropyGrad | MacroOp::CrossEntropyWithGrad) | Op::Assign(_) | Op::Scan { .. })
}

/// The policy: what products, convolutions, attention, norms and pointwise operations give may be rounded; statistics,
/// probabilities, losses, sums and orders may not.
#[deny(clippy::wildcard_enum_match_arm)]
fn may_be_half(op: &Op) -> bool {
    match op {
        Op::MatMul
        | Op::Pointwise(_)
        | Op::Gather
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::Macro(
            MacroOp::Attention { .. }
            | MacroOp::Conv { .. }
            | MacroOp::MaxPool { .. }
            | MacroOp::LayerNorm { .. }
            | MacroOp::RmsNorm { .. }
            | MacroOp::BatchNorm { .. },
        ) => true,
        Op::Input(_)
        | Op::State(_)
        | Op::Const(_)
        | Op::Iota { .. }
        | Op::RandomBits { .. }
        | Op::Cast(_)
        | Op::StopGradient
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Expand(_)
        | Op::Slice { .. }
        | Op::Window { .. }
        | Op::Fold { .. }
        | Op::DynamicSlice { .. }
        | Op::DynamicUpdate { .. }
        | Op::Reduce { .. }
        | Op::ArgMax { .. }
        | Op::CumSum { .. }
        | Op::ArgSort { .. }
        | Op::SumSquares { .. }
        | Op::ScatterAdd { .. }
        | Op::Scan { .. }
        | Op::Assign(_)
        | Op::Custom(_)
        | Op::Macro(
            MacroOp::Softmax
            | MacroOp::LogSoftmax
            | MacroOp::LayerNormGrad { .. }
            | MacroOp::RmsNormGrad { .. }
            | MacroOp::BatchNormGrad { .. }
            | MacroOp::ChannelMoments
            | MacroOp::ChannelProducts
            | MacroOp::CrossEntropy
            | MacroOp::CrossEntropyGrad
            | MacroOp::CrossEntropyWithGrad
            | MacroOp::AttentionGrad { .. }
            | MacroOp::ConvDataGrad { .. }
            | MacroOp::ConvWeightGrad { .. }
            | MacroOp::MaxPoolGrad { .. },
        ) => false,
    }
}
