//! Scans written out step by step.

use super::Rewriter;
use crate::graph::{Graph, Op, Tensor, Value};
use crate::tensor::concat;

/// Every scan as that many copies of its body.
pub fn unroll(graph: &Graph) -> Graph {
    let mut rewriter = Rewriter::new(graph);
    let live = graph.live();
    for (index, node) in graph.nodes().iter().enumerate().filter(|(index, _)| live[*index]) {
        let inputs = rewriter.inputs(node);
        let to = &rewriter.to;
        let Op::Scan { body, length, reverse } = &node.op else {
            let new = to.in_scope(&node.scope, || to.push(node.op.clone(), &inputs));
            rewriter.record(index as u32, node, new);
            continue;
        };
        let outer: Vec<Tensor<'_>> = inputs.iter().map(|&value| Tensor::new(to, value)).collect();
        let (carries, slices) = (body.carries(), body.slices());
        let mut operands = outer.clone();
        let mut stacks: Vec<Vec<Tensor<'_>>> = vec![vec![]; body.results() - carries];
        for step in 0..*length {
            let at = if *reverse { length - 1 - step } else { step };
            for i in carries..carries + slices {
                operands[i] = outer[i].slice(0, at, at + 1).squeeze(0);
            }
            let results = body.write(to, &operands);
            operands[..carries].copy_from_slice(&results[..carries]);
            for (stack, result) in stacks.iter_mut().zip(&results[carries..]) {
                stack.push(result.unsqueeze(0));
            }
        }
        let mut values: Vec<Value> = operands[..carries].iter().map(|t| t.value()).collect();
        for mut stack in stacks {
            if *reverse {
                stack.reverse();
            }
            values.push(concat(stack[0], &stack[1..], 0).value());
        }
        for (output, value) in values.into_iter().enumerate() {
            rewriter.set(Value { node: index as u32, output: output as u32 }, value);
        }
    }
    rewriter.finish()
}
