//! Scalars that lie side by side, so that a kernel binds all of them as one buffer.
//!
//! A training step computes many scalars beside its tensors: norms, the coefficient of clipping, the scale of the loss
//! with its counters, the optimizer's factors. Each by itself would take one of the eight bindings that a device surely
//! has, so that they could not be computed in one kernel. Here it is said which may share one: transient scalars have a
//! buffer in common, and so has a buffer of states that holds nothing but scalars. Only fused code reads and writes
//! them, at offsets that are parameters.

use super::groups::Grouper;
use super::views::Views;
use crate::dtype::DType;
use crate::graph::{Node, Op, Value};
use crate::program::StateLayout;
use std::collections::{BTreeSet, HashMap, HashSet};

/// The scalars of a program that share a binding.
#[derive(Debug, Clone, Default)]
pub struct Cells {
    /// Those that are neither states nor handed in.
    values: HashSet<Value>,
    /// The layout's buffer of each state whose buffer holds scalars only.
    states: HashMap<String, usize>,
}

impl Cells {
    /// Finds them. `users` are the nodes that read each root, `riding` the reductions that a product's kernel writes.
    pub fn find(
        nodes: &[Node],
        views: &Views,
        users: &HashMap<Value, Vec<u32>>,
        riding: &HashMap<u32, u32>,
        layout: &StateLayout,
    ) -> Cells {
        let by_fused_code = |value: Value| {
            let fused = |&user: &u32| matches!(nodes[user as usize].op, Op::Pointwise(_) | Op::Cast(_) | Op::Assign(_));
            users.get(&value).is_none_or(|users| users.iter().all(fused))
        };
        let computed = |value: Value| {
            let node = &nodes[value.node as usize];
            let stored = matches!(node.op, Op::Pointwise(_) | Op::Cast(_) | Op::Reduce { .. } | Op::SumSquares { .. });
            stored && !riding.contains_key(&value.node) && is_cell(node)
        };
        let mut values = HashSet::new();
        let mut states: HashMap<String, usize> = HashMap::new();
        let mut mixed = BTreeSet::new();
        for (index, node) in nodes.iter().enumerate() {
            let value = Value { node: index as u32, output: 0 };
            let (name, fits) = match &node.op {
                Op::State(name) => (name, is_cell(node) && by_fused_code(value)),
                Op::Assign(name) => (name, computed(views.get(node.inputs[0]).root)),
                _ => {
                    if computed(value) && by_fused_code(value) {
                        values.insert(value);
                    }
                    continue;
                }
            };
            let Some((_, pieces)) = layout.find(name) else { continue };
            pieces.iter().filter(|_| !fits || pieces.len() > 1).for_each(|piece| _ = mixed.insert(piece.buffer));
            if let [piece] = pieces {
                states.insert(name.to_string(), piece.buffer);
            }
        }
        states.retain(|_, buffer| !mixed.contains(buffer));
        Cells { values, states }
    }

    /// Whether a computed value lies in the buffer of transient scalars, if it is stored at all.
    pub fn holds(&self, value: Value) -> bool {
        self.values.contains(&value)
    }

    /// The layout's buffer of a state that shares a binding.
    pub fn state(&self, name: &str) -> Option<usize> {
        self.states.get(name).copied()
    }
}

/// One element of one word.
fn is_cell(node: &Node) -> bool {
    let ty = &node.outputs[0];
    ty.shape.numel() == 1 && matches!(ty.dtype, DType::F32 | DType::I32 | DType::U32 | DType::Bool)
}

impl Grouper<'_> {
    /// Lets scalars that do not wait for each other share a kernel, behind a sum where there is one: each kernel
    /// would compute a handful of numbers and take as long as any.
    pub(super) fn unite_scalars(&mut self) {
        let mut scalar: Vec<usize> =
            (0..self.grouping.groups.len()).filter(|&group| self.computes_scalars(group)).collect();
        crate::sort::sort_by_key(&mut scalar, |&group| (self.grouping.groups[group].anchor.is_none(), group));
        for (position, &into) in scalar.iter().enumerate() {
            for &other in &scalar[position + 1..] {
                let there = |group: usize| self.computes_scalars(group);
                if there(into) && there(other) && self.may_unite(into, other) {
                    self.unite(into, other);
                }
            }
        }
    }

    /// Whether a group's kernel stores one element and does so once.
    fn computes_scalars(&self, group: usize) -> bool {
        let group = &self.grouping.groups[group];
        let plain = |&member: &u32| matches!(self.nodes[member as usize].op, Op::Pointwise(_) | Op::Cast(_));
        let once = match group.anchor {
            None => !group.members.is_empty(),
            Some(anchor) => matches!(self.nodes[anchor as usize].op, Op::Reduce { .. } | Op::SumSquares { .. }),
        };
        once && group.shape.numel() == 1 && group.members.iter().all(plain)
    }
}
