//! The order in which parts are computed: one goes through all that follows before the next is begun.
//!
//! Traced operation by operation, all parts of the logits would be there before the first becomes a loss. Nodes that
//! compute parts therefore run as soon as they can, those first whose operands are newest; all others keep their order.
//! In GPT-2's backward pass all parts of the logits' gradient are alive at once all the same: `docs/decisions/bindings.md`.

use super::movement::is_movement;
use crate::graph::{Graph, Node, Op};
use crate::passes::Rewriter;
use std::collections::BTreeSet;
use std::ops::Range;

/// The same graph with its nodes in that order; `parts` are the nodes that compute parts.
pub(super) fn by_parts(graph: &Graph, parts: &[Range<usize>]) -> Graph {
    let (nodes, live) = (graph.nodes(), graph.live());
    let mut tagged = vec![false; nodes.len()];
    parts.iter().flat_map(Clone::clone).for_each(|index| tagged[index] = !is_leaf(&nodes[index]));
    // A view of a part belongs to it.
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| is_movement(&node.op)) {
        tagged[index] |= tagged[node.inputs[0].node as usize];
    }
    let mut users: Vec<Vec<usize>> = vec![vec![]; nodes.len()];
    let mut missing = vec![0; nodes.len()];
    for (index, node) in nodes.iter().enumerate().filter(|(index, _)| live[*index]) {
        for input in &node.inputs {
            users[input.node as usize].push(index);
            missing[index] += 1;
        }
    }
    let mut rewriter = Rewriter::new(graph);
    let mut newest = vec![0; nodes.len()];
    // Those that go on with a part, the newest last; and all others.
    let (mut going, mut waiting) = (BTreeSet::new(), BTreeSet::new());
    (0..nodes.len()).filter(|&index| live[index] && missing[index] == 0).for_each(|index| {
        waiting.insert(index);
    });
    let mut place = 0;
    while let Some(next) = going.pop_last().map(|(_, std::cmp::Reverse(index))| index).or_else(|| waiting.pop_first()) {
        rewriter.copy(next as u32);
        place += 1;
        for &user in &users[next] {
            missing[user] -= 1;
            if tagged[next] && tagged[user] {
                newest[user] = place;
            }
            if missing[user] == 0 {
                match newest[user] {
                    0 => drop(waiting.insert(user)),
                    newest => drop(going.insert((newest, std::cmp::Reverse(user)))),
                }
            }
        }
    }
    rewriter.finish()
}

/// What is there from the start belongs to no part.
fn is_leaf(node: &Node) -> bool {
    matches!(node.op, Op::Input(_) | Op::State(_) | Op::Const(_) | Op::Iota { .. } | Op::RandomBits { .. })
}
