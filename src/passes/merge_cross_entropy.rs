//! Cross-entropy and its gradient in one pass over the logits.

use super::Rewriter;
use crate::graph::{Graph, MacroOp, Op, Value};

/// Where the loss and its gradient are both wanted and the gradient's weight does not depend on the
/// loss, one operation computes both.
pub fn merge_cross_entropy(graph: &Graph) -> Graph {
    let mut rewriter = Rewriter::new(graph);
    let live = graph.live();
    let nodes = graph.nodes();
    for (index, node) in nodes.iter().enumerate() {
        let index = index as u32;
        if !live[index as usize] {
            continue;
        }
        let partner = (node.op == Op::Macro(MacroOp::CrossEntropy)).then(|| partner(graph, &live, index)).flatten();
        match partner {
            Some((grad, weight)) => {
                rewriter.copy(weight.node);
                let mut inputs = rewriter.inputs(node);
                inputs.extend(rewriter.get(weight));
                let op = Op::Macro(MacroOp::CrossEntropyWithGrad);
                let merged = rewriter.to.in_scope(&node.scope, || rewriter.to.push(op, &inputs));
                rewriter.set(Value { node: index, output: 0 }, merged);
                rewriter.set(Value { node: grad, output: 0 }, Value { node: merged.node, output: 1 });
            }
            None => rewriter.copy(index),
        }
    }
    rewriter.finish()
}

/// The live gradient node of this cross-entropy and its row weights, if they do not need the loss.
fn partner(graph: &Graph, live: &[bool], loss: u32) -> Option<(u32, Value)> {
    let inputs = graph.node(loss).inputs;
    let nodes = graph.nodes();
    let grad = (0..nodes.len()).find(|&index| {
        let node = &nodes[index];
        live[index] && node.op == Op::Macro(MacroOp::CrossEntropyGrad) && node.inputs[..2] == inputs[..]
    })?;
    let weight = nodes[grad].inputs[2];
    let mut needed = vec![false; nodes.len()];
    needed[weight.node as usize] = true;
    for index in (0..=weight.node as usize).rev() {
        if needed[index] {
            nodes[index].inputs.iter().for_each(|input| needed[input.node as usize] = true);
        }
    }
    (!needed[loss as usize]).then_some((grad as u32, weight))
}
