//! Operands that a product computes as it reads them, rather than have them stored: weights that are dequantised, pixels that
//! are made numbers.
//!
//! A product reads each element of an operand as often as it has columns (or rows) of the other one, or a part of that. So
//! this is done where there are few of these, and where fewer bytes are read than would have been stored. Part of the walk
//! in [`super::groups`]; the text is written in `emit.rs`.

use super::access::{Access, accesses};
use super::grouping::bindings;
use super::groups::Grouper;
use crate::graph::{Op, Value};
use crate::passes::is_half;
use crate::shape::View;
use std::collections::BTreeSet;

/// Rows or columns of the other operand, at most: those of one tile on a GPU.
const FEW: usize = 64;

/// Bytes of a number that would be stored.
const WORD: usize = 4;

/// Operations for an element, at most.
const OPERATIONS: usize = 6;

impl Grouper<'_> {
    /// Dissolves groups whose one result only such products read, if these can bind what the groups read.
    pub(super) fn compute_operands(&mut self) {
        for group in 0..self.grouping.groups.len() {
            let Some(root) = self.computable(group) else { continue };
            let members = std::mem::take(&mut self.grouping.groups[group].members);
            members.iter().for_each(|&member| self.grouping.group_of[member as usize] = None);
            let readers = self.grouping.users.get(&root).cloned().unwrap_or_default();
            let groups = readers.iter().filter_map(|&reader| self.grouping.group_of[reader as usize]);
            if groups.into_iter().any(|reader| bindings(self.graph, self.views, &self.grouping, reader) > self.limit) {
                members.iter().for_each(|&member| self.grouping.group_of[member as usize] = Some(group));
                self.grouping.groups[group].members = members;
            }
        }
    }

    /// The result of a group, if those who read it can compute it.
    fn computable(&self, group: usize) -> Option<Value> {
        let own = &self.grouping.groups[group];
        let cheap = own.anchor.is_none() && own.members.len() <= OPERATIONS;
        if !cheap || own.members.iter().any(|&member| !self.is_in_step(member)) {
            return None;
        }
        let &[root] = &self.grouping.outputs(self.graph, group)[..] else { return None };
        let apart = self.grouping.results.contains(&root) || self.grouping.part_of.contains_key(&root);
        let readers = self.grouping.users.get(&root)?;
        let reads_little = (1..WORD).contains(&self.bytes_read(group)?);
        (!apart && reads_little && readers.iter().all(|&reader| self.reads_each_a_few_times(reader, root)))
            .then_some(root)
    }

    /// Whether a node computes each element from scalars and from the elements at the same place.
    fn is_in_step(&self, member: u32) -> bool {
        let node = &self.nodes[member as usize];
        let plain = matches!(node.op, Op::Pointwise(_) | Op::Cast(_)) && !is_half(node.outputs[0].dtype);
        let numel = self.numel(member);
        let in_step = |Access { root, view }: &Access| {
            let scalar = view.shape.numel() == 1 || view.strides.iter().all(|&stride| stride == 0);
            let whole = view.is_contiguous() && view.offset == 0 && view.shape.numel() == numel;
            scalar || whole && root.is_none_or(|root| self.graph.type_of(root).shape.numel() == numel)
        };
        plain && accesses(self.graph, self.views, member).iter().all(in_step)
    }

    /// Bytes that a group reads for each element; `None` if it reads what changes, moves or is made as it is read.
    fn bytes_read(&self, group: usize) -> Option<usize> {
        let members = &self.grouping.groups[group].members;
        let reads = members.iter().flat_map(|&member| accesses(self.graph, self.views, member));
        let roots: BTreeSet<Value> = reads.filter_map(|access| access.root).collect();
        let mut bytes = 0;
        for root in roots.into_iter().filter(|root| !members.contains(&root.node)) {
            let ty = self.graph.type_of(root);
            let changes = match &self.nodes[root.node as usize].op {
                Op::State(name) => self.is_assigned(name),
                Op::Iota { .. } | Op::RandomBits { .. } => true,
                _ => false,
            };
            if changes || self.views.walk(root).moves() {
                return None;
            }
            bytes += if ty.shape.numel() == 1 { 0 } else { WORD / ty.dtype.per_word() };
        }
        Some(bytes)
    }

    /// Whether a node is a product that meets few rows or columns of the other operand with each element of this one.
    fn reads_each_a_few_times(&self, node: u32, root: Value) -> bool {
        let node = &self.nodes[node as usize];
        let repeated = |view: &View| (0..view.shape.rank()).any(|axis| view.strides[axis] == 0 && view.shape[axis] > 1);
        let few = |operand: usize| {
            let [own, other] = [operand, 1 - operand].map(|operand| self.views.get(node.inputs[operand]));
            let rank = other.view.shape.rank();
            let times = other.view.shape[if operand == 0 { rank - 1 } else { rank - 2 }];
            own.root != root || !repeated(&own.view) && times <= FEW
        };
        node.op == Op::MatMul && few(0) && few(1)
    }
}
