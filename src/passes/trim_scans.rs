//! Loops without what no one needs of them: results that nobody reads (such as what was stacked up for a
//! gradient that is not taken), carries that lead to nothing, and operands that served only those.

use super::Rewriter;
use crate::graph::{Graph, Node, Op, ScanBody, Tensor, Value};
use std::collections::HashSet;
use std::sync::Arc;

/// Takes out of every scan what does not lead to a live value.
pub fn trim_scans(graph: &Graph) -> Graph {
    let mut rewriter = Rewriter::new(graph);
    let (live, nodes) = (graph.live(), graph.nodes());
    let reads = nodes.iter().zip(&live).filter(|(_, live)| **live).flat_map(|(node, _)| node.inputs.iter().copied());
    let used: HashSet<Value> = reads.chain(graph.outputs().into_iter().map(|(_, value)| value)).collect();
    for (index, node) in nodes.iter().enumerate().filter(|(index, _)| live[*index]) {
        let (index, inputs) = (index as u32, rewriter.inputs(node));
        let wanted = |output: usize| used.contains(&Value { node: index, output: output as u32 });
        let Some((op, operands, results)) = trimmed(node, &wanted) else {
            rewriter.copy(index);
            continue;
        };
        let inputs: Vec<Value> = operands.into_iter().map(|operand| inputs[operand]).collect();
        let new = rewriter.to.in_scope(&node.scope, || rewriter.to.push(op, &inputs));
        for (output, old) in results.into_iter().enumerate() {
            let value = Value { node: new.node, output: output as u32 };
            rewriter.set(Value { node: index, output: old as u32 }, value);
        }
    }
    rewriter.finish()
}

/// The smaller scan with the operands and results that are left of the old one's, if there is one.
fn trimmed(node: &Node, wanted: &dyn Fn(usize) -> bool) -> Option<(Op, Vec<usize>, Vec<usize>)> {
    let Op::Scan { body, length, reverse } = &node.op else { return None };
    if crate::PAGE {
        return None;
    }
    let needs: Vec<Vec<bool>> = (0..body.results()).map(|result| body.needs(result)).collect();
    let (carries, varying) = (body.carries(), body.carries() + body.slices());
    let mut kept: Vec<bool> = (0..body.results()).map(wanted).collect();
    loop {
        let led_to = |carry: usize| (0..kept.len()).any(|result| kept[result] && needs[result][carry]);
        match (0..carries).find(|&carry| !kept[carry] && led_to(carry)) {
            Some(carry) => kept[carry] = true,
            None => break,
        }
    }
    let results: Vec<usize> = (0..kept.len()).filter(|&result| kept[result]).collect();
    let read = |operand: usize| results.iter().any(|&result| needs[result][operand]);
    let operands: Vec<usize> =
        (0..body.operands()).filter(|&operand| if operand < carries { kept[operand] } else { read(operand) }).collect();
    if results.len() == body.results() && operands.len() == body.operands() {
        return None;
    }
    let inner = Graph::new();
    let leaves = body.declare(&inner);
    let written = body.write(&inner, &leaves);
    let values = |all: &[Tensor<'_>], some: &[usize]| some.iter().map(|&index| all[index].value()).collect::<Vec<_>>();
    let slices = operands.iter().filter(|&&operand| (carries..varying).contains(&operand)).count();
    let carried = results.iter().filter(|&&result| result < carries).count();
    let smaller = ScanBody::new(&inner, &values(&leaves, &operands), carried, slices, &values(&written, &results));
    Some((Op::Scan { body: Arc::new(smaller), length: *length, reverse: *reverse }, operands, results))
}
