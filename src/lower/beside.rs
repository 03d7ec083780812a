//! What a kernel gives beside its main result: sums that ride on a product, and their addition to a state.
//!
//! Part of the walk in [`super::groups`].

use super::convolve;
use super::groups::Grouper;
use super::views::Source;
use crate::graph::{MacroOp, Node, Op, PointwiseOp, ReduceKind, Value};
use std::collections::HashMap;

impl Grouper<'_> {
    /// Takes `state + sums`, assigned to the same state, into the kernel that gives the sums beside its main result: it
    /// adds to what it would overwrite. So the gradients of biases and gains are accumulated without a kernel of their own.
    pub(super) fn add_beside(&mut self, index: u32) -> bool {
        let Some((sums, group)) = self.added_beside(index) else { return false };
        self.grouping.added.push((sums, index));
        self.grouping.group_of[index as usize] = Some(group);
        true
    }

    /// The sums that a node adds to a state, and the group that gives them.
    fn added_beside(&self, index: u32) -> Option<(Value, usize)> {
        let node = &self.nodes[index as usize];
        let (Op::Pointwise(PointwiseOp::Add), &[a, b]) = (&node.op, node.inputs.as_slice()) else { return None };
        self.added_to(index, a, b).or_else(|| self.added_to(index, b, a))
    }

    fn added_to(&self, index: u32, state: Value, sums: Value) -> Option<(Value, usize)> {
        let only_user = |value: Value| match self.grouping.users.get(&value)?.as_slice() {
            &[user] if !self.grouping.results.contains(&value) => Some(user),
            _ => None,
        };
        let (state, sums) = (self.whole(state)?.root, self.whole(sums)?.root);
        let Op::State(name) = &self.nodes[state.node as usize].op else { return None };
        let kept = only_user(Value { node: index, output: 0 })?;
        let goes_back = matches!(&self.nodes[kept as usize].op, Op::Assign(other) if other == name);
        // Nobody else sees the sums, or the state before the addition.
        let again = |node: &Node| matches!(&node.op, Op::State(other) if other == name);
        let alone = only_user(state)? == index
            && only_user(sums)? == index
            && self.nodes.iter().filter(|node| again(node)).count() == 1
            && self.grouping.cells.state(name).is_none();
        let group = self.grouping.group_of[sums.node as usize]?;
        let beside = matches!(
            self.nodes[sums.node as usize].op,
            Op::Reduce { .. } | Op::Macro(MacroOp::LayerNormGrad { .. } | MacroOp::RmsNormGrad { .. })
        ) && !self.grouping.is_fused_output(self.graph, group, sums);
        (goes_back && alone && beside).then_some((sums, group))
    }

    /// Where a value lies, if that is all that is stored there, in the same order.
    fn whole(&self, value: Value) -> Option<&Source> {
        let source = self.views.get(value);
        let stored = self.graph.type_of(source.root).shape.numel();
        (source.view.is_contiguous() && source.view.offset == 0 && source.view.shape.numel() == stored)
            .then_some(source)
    }

    /// Sums over the rows of a matrix that a product reads as its right operand anyway.
    pub(super) fn find_column_sums(&self) -> HashMap<u32, u32> {
        let mut products: HashMap<(Value, Vec<usize>), u32> = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let rank = node.outputs.first().map_or(0, |ty| ty.shape.rank());
            if node.op == Op::MatMul && rank == 2 {
                let right = self.views.get(node.inputs[1]);
                if right.view.is_contiguous() && right.view.offset == 0 {
                    products.insert((right.root, right.view.shape.to_vec()), index as u32);
                }
            }
        }
        let mut found: HashMap<u32, u32> = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let Op::Reduce { kind: ReduceKind::Sum, axes } = &node.op else { continue };
            let source = self.views.get(node.inputs[0]);
            let shape = &source.view.shape;
            let leading = axes.iter().copied().eq(0..shape.rank() - 1) && shape.rank() >= 2;
            if !leading || !source.view.is_contiguous() || source.view.offset != 0 {
                continue;
            }
            let matrix = vec![shape[..shape.rank() - 1].iter().product(), shape[shape.rank() - 1]];
            let Some(&product) = products.get(&(source.root, matrix)) else { continue };
            let value = Value { node: index as u32, output: 0 };
            let later = self.grouping.users.get(&value).is_none_or(|users| users.iter().all(|&user| user > product));
            if later && !found.values().any(|&taken| taken == product) {
                found.insert(index as u32, product);
            }
        }
        found
    }

    /// Sums over all but the channels of what a convolution's weight gradient reads anyway: the bias's gradient.
    pub(super) fn find_channel_sums(&self) -> HashMap<u32, u32> {
        let whole = |value: Value| {
            let Source { root, view } = self.whole(value)?;
            Some((*root, view.shape.to_vec()))
        };
        let mut gradients: HashMap<(Value, Vec<usize>), u32> = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let Op::Macro(op) = &node.op else { continue };
            if node.outputs.first().is_some_and(|weight| convolve::gives_channel_sums(*op, &weight.shape))
                && let Some(g) = whole(node.inputs[1])
            {
                gradients.insert(g, index as u32);
            }
        }
        let mut found: HashMap<u32, u32> = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let Op::Reduce { kind: ReduceKind::Sum, axes } = &node.op else { continue };
            let rank = self.graph.type_of(node.inputs[0]).shape.rank();
            if !axes.iter().copied().eq((0..rank).filter(|&axis| axis != 1)) {
                continue;
            }
            let Some(&product) = whole(node.inputs[0]).and_then(|g| gradients.get(&g)) else { continue };
            let value = Value { node: index as u32, output: 0 };
            let later = self.grouping.users.get(&value).is_none_or(|users| users.iter().all(|&user| user > product));
            if later && !found.values().any(|&taken| taken == product) {
                found.insert(index as u32, product);
            }
        }
        found
    }
}
