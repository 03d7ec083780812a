//! What the groups of a graph are, once formed: which values they give, what they bind.

use super::access::{accesses, is_pointwise};
use super::cells::Cells;
use super::views::Views;
use crate::graph::{Graph, MacroOp, Node, Op, Value};
use crate::shape::{Shape, View};
use std::collections::{BTreeSet, HashMap};

/// Operations that run as one kernel (or one fixed sequence of kernels).
#[derive(Debug, Clone)]
pub struct Group {
    pub anchor: Option<u32>,
    /// Pointwise nodes computed where a reduction reads its operand.
    pub prologue: Vec<u32>,
    /// Pointwise nodes computed on the anchor's result, or on their own.
    pub members: Vec<u32>,
    /// The grid on which members are evaluated; `[batch, rows, cols]` behind an anchor.
    pub shape: Shape,
    /// A reduction whose result a product yields on the side (the bias gradient).
    pub column_sums: Option<u32>,
}

/// All groups of a graph.
pub struct Grouping {
    pub groups: Vec<Group>,
    /// The group that computes a node.
    pub group_of: Vec<Option<usize>>,
    /// Concatenations whose parts are written in place: node to parts.
    pub assembled: HashMap<u32, Vec<Value>>,
    /// The concatenation that a part is written into.
    pub part_of: HashMap<Value, u32>,
    /// What kernels give beside their main result and add to a state: the value to the node that adds it.
    pub added: Vec<(Value, u32)>,
    /// Nodes that read a root (assignments included).
    pub users: HashMap<Value, Vec<u32>>,
    /// Roots that leave the program.
    pub results: BTreeSet<Value>,
    /// Scalars that share a binding.
    pub cells: Cells,
}

/// What fused code binds to reach transient scalars.
pub(super) const CELLS: &str = "cells";

impl Grouping {
    /// The values of a group that others read, that leave the program, or that its kernel writes anyway.
    pub fn outputs(&self, graph: &Graph, index: usize) -> Vec<Value> {
        let group = &self.groups[index];
        let mut list = Vec::new();
        let own = group.members.iter().chain(group.anchor.iter()).chain(group.column_sums.iter());
        for &node in own {
            for output in 0..graph.node(node).outputs.len() as u32 {
                let value = Value { node, output };
                let home = self.home(value);
                if home != value {
                    list.push(home);
                    continue;
                }
                let outside = |user: &u32| self.group_of[*user as usize] != Some(index);
                // What a kernel's body writes needs a place even if no one reads it.
                let ported = group.anchor == Some(node) && !self.is_fused_output(graph, index, value);
                if ported
                    || self.results.contains(&value)
                    || self.users.get(&value).is_some_and(|users| users.iter().any(outside))
                {
                    list.push(value);
                }
            }
        }
        list
    }

    /// Whether a value of the group is written by fused code (rather than by the anchor's body).
    pub fn is_fused_output(&self, graph: &Graph, index: usize, value: Value) -> bool {
        let group = &self.groups[index];
        match group.anchor {
            Some(anchor) if anchor == value.node => stored_output(&graph.node(anchor).op) == Some(value.output),
            _ => group.column_sums != Some(value.node) && !self.added.iter().any(|(_, sum)| *sum == value.node),
        }
    }

    /// Whether a value is not stored: whoever reads it computes it again.
    pub fn is_inline(&self, graph: &Graph, root: Value) -> bool {
        self.group_of[root.node as usize].is_none()
            && is_pointwise(&graph.node(root.node).op)
            && !self.assembled.contains_key(&root.node)
    }

    /// What is written where a kernel would write a value: the sum, if it is added to a state.
    pub fn home(&self, value: Value) -> Value {
        self.added.iter().find(|(sums, _)| *sums == value).map_or(value, |&(_, node)| Value { node, output: 0 })
    }

    /// The concatenation that a value is written straight into, and the value as a view of it.
    pub fn part(&self, graph: &Graph, value: Value) -> Option<(Value, View)> {
        let &concat = self.part_of.get(&value)?;
        let node = graph.node(concat);
        let Op::Concat { axis } = node.op else { return None };
        let strides = node.outputs[0].shape.strides();
        let before = self.assembled[&concat].iter().position(|&part| part == value)?;
        let start: usize = node.inputs[..before].iter().map(|&input| graph.type_of(input).shape[axis]).sum();
        let view = View { offset: start * strides[axis], shape: graph.type_of(node.inputs[before]).shape, strides };
        Some((Value { node: concat, output: 0 }, view.reshape(&graph.type_of(value).shape)?))
    }

    pub(super) fn output_key(&self, graph: &Graph, value: Value) -> String {
        let value = self.part_of.get(&value).map_or(value, |&node| Value { node, output: 0 });
        let assigned = self.users.get(&value).into_iter().flatten().find_map(|&user| match graph.node(user).op {
            Op::Assign(name) => Some(self.state_key(&name)),
            _ => None,
        });
        assigned.unwrap_or_else(|| self.value_key(value))
    }

    fn state_key(&self, name: &str) -> String {
        match self.cells.state(name) {
            Some(buffer) => format!("states of {buffer}"),
            None => format!("state {name}"),
        }
    }

    fn value_key(&self, value: Value) -> String {
        if self.cells.holds(value) { CELLS.into() } else { format!("{value:?}") }
    }

    /// What fused code binds to read a root.
    pub(super) fn memory_keys(
        &self,
        graph: &Graph,
        views: &Views,
        root: Value,
        group: usize,
        keys: &mut BTreeSet<String>,
    ) {
        let node = graph.node(root.node);
        match &node.op {
            Op::Const(_) | Op::Iota { .. } => {}
            Op::RandomBits { .. } => self.memory_keys(graph, views, views.get(node.inputs[0]).root, group, keys),
            Op::Input(_) if node.outputs[0].shape.rank() == 0 => {
                keys.insert("scalars".into());
            }
            Op::State(name) => {
                keys.insert(self.state_key(name));
            }
            _ if self.group_of[root.node as usize] == Some(group) => {}
            _ if self.is_inline(graph, root) => {
                for access in accesses(graph, views, root.node) {
                    if let Some(inner) = access.root {
                        self.memory_keys(graph, views, inner, group, keys);
                    }
                }
            }
            _ => {
                keys.insert(self.value_key(root));
            }
        }
    }
}

/// The result that an anchor hands to the `store` hook, if it has one.
#[deny(clippy::wildcard_enum_match_arm)]
pub fn stored_output(op: &Op) -> Option<u32> {
    match op {
        Op::MatMul
        | Op::Reduce { .. }
        | Op::CumSum { .. }
        | Op::SumSquares { .. }
        | Op::ScatterAdd { .. }
        | Op::Custom(_) => Some(0),
        Op::Macro(MacroOp::CrossEntropyWithGrad) => Some(1),
        Op::Macro(
            MacroOp::CrossEntropy
            | MacroOp::Attention { .. }
            | MacroOp::AttentionGrad { .. }
            | MacroOp::ChannelMoments
            | MacroOp::ChannelProducts,
        ) => None,
        Op::Macro(
            MacroOp::Softmax
            | MacroOp::LogSoftmax
            | MacroOp::LayerNorm { .. }
            | MacroOp::LayerNormGrad { .. }
            | MacroOp::RmsNorm { .. }
            | MacroOp::RmsNormGrad { .. }
            | MacroOp::BatchNorm { .. }
            | MacroOp::BatchNormGrad { .. }
            | MacroOp::CrossEntropyGrad
            | MacroOp::Conv { .. }
            | MacroOp::ConvDataGrad { .. }
            | MacroOp::ConvWeightGrad { .. }
            | MacroOp::MaxPool { .. }
            | MacroOp::MaxPoolGrad { .. },
        ) => Some(0),
        Op::ArgMax { .. }
        | Op::ArgSort { .. }
        | Op::Input(_)
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
        | Op::Gather
        | Op::Scan { .. }
        | Op::Assign(_) => None,
    }
}

/// Work buffers that the kernel which stores an anchor's result reads beside the operands.
pub(super) fn work_operands(op: &Op) -> usize {
    usize::from(matches!(op, Op::ScatterAdd { .. } | Op::CumSum { .. }))
}

/// Operations with a kernel of their own.
pub fn is_anchor(op: &Op) -> bool {
    let ported = matches!(op, Op::ArgMax { .. } | Op::ArgSort { .. } | Op::Scan { .. } | Op::Macro(_));
    ported || stored_output(op).is_some()
}

/// The `[batch, rows, cols]` grid of what an anchor stores.
pub fn anchor_grid(node: &Node) -> Shape {
    let Some(output) = stored_output(&node.op) else { return Shape::from([1, 1, 1]) };
    let shape = &node.outputs[output as usize].shape;
    let (rank, size) = (shape.rank(), shape.numel());
    let split = |rows: usize| if rows == 0 { [1, 0, 1] } else { [1, rows, size / rows] };
    match &node.op {
        Op::MatMul => Shape::from([shape[..rank - 2].iter().product(), shape[rank - 2], shape[rank - 1]]),
        Op::Macro(MacroOp::Conv { groups, .. } | MacroOp::ConvDataGrad { groups, .. }) => {
            let groups = (*groups).max(1) as usize;
            Shape::from([shape[0] * groups, shape[1] / groups, shape[2..].iter().product()])
        }
        // The first is summed up over chunks by a reduction.
        Op::Macro(MacroOp::ConvWeightGrad { .. } | MacroOp::MaxPool { .. } | MacroOp::MaxPoolGrad { .. }) => {
            Shape::from([1, 1, size])
        }
        Op::Macro(_) | Op::CumSum { .. } => Shape::from(split(shape[..rank - 1].iter().product())),
        Op::ScatterAdd { rows } => Shape::from(split(*rows)),
        _ => Shape::from([1, 1, size]),
    }
}

/// What the fused code of some of a group's nodes binds to read.
fn read_keys(graph: &Graph, views: &Views, grouping: &Grouping, index: usize, nodes: &[u32]) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for &node in nodes {
        for root in accesses(graph, views, node).into_iter().filter_map(|access| access.root) {
            grouping.memory_keys(graph, views, root, index, &mut keys);
        }
    }
    keys
}

/// Bindings of what a reduction's group reads before the sum. What is fused before and behind an anchor binds for itself, so
/// that a buffer which both read is bound twice.
pub(super) fn reduced_operands(graph: &Graph, views: &Views, grouping: &Grouping, index: usize) -> usize {
    read_keys(graph, views, grouping, index, &grouping.groups[index].prologue).len().max(1)
}

/// Bindings to read an operand of a product, which may be computed as it is read.
fn read_at(graph: &Graph, views: &Views, grouping: &Grouping, index: usize, operand: Value) -> usize {
    let root = views.get(operand).root;
    if !grouping.is_inline(graph, root) {
        return 1;
    }
    let mut keys = BTreeSet::new();
    grouping.memory_keys(graph, views, root, index, &mut keys);
    keys.len()
}

/// Storage bindings that a group's kernel takes.
pub(super) fn bindings(graph: &Graph, views: &Views, grouping: &Grouping, index: usize) -> usize {
    let group = &grouping.groups[index];
    let mut keys = read_keys(graph, views, grouping, index, &group.members);
    let anchor = group.anchor.map_or(0, |anchor| {
        let node = graph.node(anchor);
        let operands = match &node.op {
            Op::SumSquares { .. } => 1,
            Op::Reduce { .. } => reduced_operands(graph, views, grouping, index),
            Op::MatMul => node.inputs.iter().map(|&input| read_at(graph, views, grouping, index, input)).sum(),
            _ => node.inputs.len(),
        };
        let secondary = node.outputs.len() - usize::from(stored_output(&node.op).is_some());
        match node.op {
            // Its body's kernels bind what they need.
            Op::Scan { .. } => 0,
            // Two kernels of their own, each within the baseline's eight.
            Op::Macro(MacroOp::AttentionGrad { .. }) => 8,
            _ => operands + work_operands(&node.op) + secondary + usize::from(group.column_sums.is_some()),
        }
    });
    let outputs =
        grouping.outputs(graph, index).into_iter().filter(|value| grouping.is_fused_output(graph, index, *value));
    for value in outputs {
        keys.insert(grouping.output_key(graph, value));
    }
    keys.len() + anchor
}
