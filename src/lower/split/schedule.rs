//! The order in which parts are computed: one goes through all that follows before the next is begun.
//!
//! Traced operation by operation, all parts of the logits would be there before the first becomes a loss. Nodes that
//! compute parts therefore run as soon as they can, those first whose operands are newest; all others keep their order.
//! What computes nothing comes before both: were the slice of the activations that a part is multiplied with to wait for its
//! turn among all others, the part would wait with it, and so would all parts of the logits' gradient.

use super::movement::is_movement;
use crate::graph::{Graph, Node, Op};
use crate::passes::Rewriter;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;

/// The same graph with its nodes in that order; `parts` are the nodes that compute parts.
pub(super) fn by_parts(graph: &Graph, parts: &[Range<usize>]) -> Graph {
    let (nodes, live) = (graph.nodes(), graph.live());
    let mut tagged = vec![false; nodes.len()];
    let computes = |index: usize| !is_leaf(&nodes[index]) && !is_movement(&nodes[index].op);
    parts.iter().flat_map(Clone::clone).for_each(|index| tagged[index] = computes(index));
    // A view of a part belongs to it; a slice of what is no part is there as soon as the whole is, and says nothing of
    // which part comes first.
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
    let mut queue = Queue::default();
    (0..nodes.len()).filter(|&index| live[index] && missing[index] == 0).for_each(|index| {
        queue.push(index, &nodes[index], 0);
    });
    let mut place = 0;
    while let Some(next) = queue.pop() {
        rewriter.copy(next as u32);
        place += 1;
        for &user in &users[next] {
            missing[user] -= 1;
            if tagged[next] && tagged[user] {
                newest[user] = place;
            }
            if missing[user] == 0 {
                queue.push(user, &nodes[user], newest[user]);
            }
        }
    }
    rewriter.finish()
}

/// Nodes whose operands are there.
#[derive(Default)]
struct Queue {
    /// Those that compute nothing, or single numbers, such as what the loss is scaled by: no part waits for these.
    free: BTreeSet<usize>,
    /// Those that go on with a part, the newest last.
    going: BTreeSet<(usize, Reverse<usize>)>,
    waiting: BTreeSet<usize>,
}

impl Queue {
    /// `newest`: the place of the newest of its operands that are parts, or 0.
    fn push(&mut self, index: usize, node: &Node, newest: usize) {
        let scalar = node.outputs.iter().all(|ty| ty.shape.numel() == 1);
        if is_leaf(node) || is_movement(&node.op) || scalar {
            self.free.insert(index);
        } else if newest > 0 {
            self.going.insert((newest, Reverse(index)));
        } else {
            self.waiting.insert(index);
        }
    }

    fn pop(&mut self) -> Option<usize> {
        let going = |queue: &mut Queue| queue.going.pop_last().map(|(_, Reverse(index))| index);
        self.free.pop_first().or_else(|| going(self)).or_else(|| self.waiting.pop_first())
    }
}

/// What is there from the start belongs to no part.
fn is_leaf(node: &Node) -> bool {
    matches!(node.op, Op::Input(_) | Op::State(_) | Op::Const(_) | Op::Iota { .. } | Op::RandomBits { .. })
}
