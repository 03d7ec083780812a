//! The less common ways in which operations share a kernel: producers absorbed by a reduction, results
//! that are cheaper to compute again, parts written in place.
//!
//! Part of the walk in [`super::groups`]; what a kernel gives beside its main result is in `beside.rs`.

use super::access::{accesses, is_pointwise};
use super::grouping::is_anchor;
use super::groups::Grouper;
use super::views::Source;
use crate::graph::{MacroOp, Op, Value};
use crate::passes::is_half;
use std::collections::BTreeSet;

/// Operations and buffers of a scalar expression that is repeated rather than stored.
const INLINE_OPERATIONS: usize = 12;
const INLINE_BINDINGS: usize = 2;

impl Grouper<'_> {
    /// The pointwise group that a reduction can compute as it reads, if only the reduction needs it.
    pub(super) fn prologue(&self, index: u32) -> Option<usize> {
        let node = &self.nodes[index as usize];
        let Op::Reduce { .. } = node.op else { return None };
        let source = self.views.get(node.inputs[0]);
        let group = self.grouping.group_of[source.root.node as usize]?;
        let producer = &self.grouping.groups[group];
        let whole = source.view.is_contiguous()
            && source.view.offset == 0
            && source.view.shape.numel() == self.numel(source.root.node);
        let private = self.grouping.outputs(self.graph, group) == [source.root]
            && self.grouping.users.get(&source.root).is_some_and(|users| users[..] == [index])
            && !self.grouping.results.contains(&source.root);
        let shape = &source.view.shape;
        let walkable = producer.members.iter().all(|&member| self.walkable(member, shape));
        let wide = producer.members.iter().all(|&member| !is_half(self.nodes[member as usize].outputs[0].dtype));
        (producer.anchor.is_none() && wide && whole && private && walkable).then_some(group)
    }

    /// Moves operations to their only reader where that saves storing their result: the mask of a
    /// ReLU is computed in the backward kernel, from the activation that is there anyway, or takes half the bytes.
    pub(super) fn sink(&mut self) {
        for index in (0..self.nodes.len() as u32).rev() {
            let Some(group) = self.grouping.group_of[index as usize] else { continue };
            // What is rounded is rounded to be kept.
            let half = is_half(self.nodes[index as usize].outputs[0].dtype);
            if half || !self.grouping.groups[group].members.contains(&index) {
                continue;
            }
            let Some(reader) = self.only_reader(index, group) else { continue };
            if self.stored_for(index, group) < self.bytes(index) && self.may_join(index, reader) {
                self.grouping.groups[group].members.retain(|&member| member != index);
                self.add(index, reader);
                crate::sort::sort(&mut self.grouping.groups[reader].members);
            }
        }
    }

    /// The one other group whose pointwise code reads a node, if no one else does.
    pub(super) fn only_reader(&self, index: u32, group: usize) -> Option<usize> {
        let value = Value { node: index, output: 0 };
        if self.grouping.results.contains(&value) {
            return None;
        }
        let users = self.grouping.users.get(&value)?;
        if !users.iter().all(|&user| self.reads_in_step(user, |root| root == value)) {
            return None;
        }
        let mut readers: Vec<Option<usize>> = users
            .iter()
            .map(|&user| {
                self.grouping.group_of[user as usize].filter(|&g| self.grouping.groups[g].members.contains(&user))
            })
            .collect();
        readers.dedup();
        match readers[..] {
            [Some(reader)] if reader != group => Some(reader),
            _ => None,
        }
    }

    /// Bytes of what a member reads that would not have to lie in memory without it.
    pub(super) fn stored_for(&self, index: u32, group: usize) -> u64 {
        let roots = accesses(self.graph, self.views, index).into_iter().filter_map(|access| access.root);
        let only_here = |root: &Value| {
            let outside = |user: &u32| *user != index && self.grouping.group_of[*user as usize] != Some(group);
            self.grouping.group_of[root.node as usize] == Some(group)
                && !self.grouping.users.get(root).is_some_and(|users| users.iter().any(outside))
        };
        let roots: BTreeSet<Value> = roots.filter(only_here).collect();
        let bytes = |root: Value| {
            let ty = self.graph.type_of(root);
            ty.dtype.bytes(&ty.shape)
        };
        roots.into_iter().map(bytes).sum()
    }

    fn bytes(&self, index: u32) -> u64 {
        let ty = &self.nodes[index as usize].outputs[0];
        ty.dtype.bytes(&ty.shape)
    }

    /// A scalar computed from scalars: cheaper to repeat in its readers than to store.
    pub(super) fn is_inline_scalar(&mut self, index: u32) -> bool {
        let node = &self.nodes[index as usize];
        let arithmetic = matches!(node.op, Op::Pointwise(_) | Op::Cast(_)) && !is_half(node.outputs[0].dtype);
        let roots: Vec<Value> = node.inputs.iter().map(|&input| self.views.get(input).root).collect();
        let scalars = roots.iter().all(|&root| self.graph.type_of(root).shape.numel() == 1);
        if !arithmetic || self.numel(index) != 1 || !scalars {
            return false;
        }
        // Every reader repeats the whole expression: it must stay small, in operations and in bindings.
        let size: usize =
            1 + roots.iter().map(|root| self.inline_size.get(&root.node).copied().unwrap_or(0)).sum::<usize>();
        if size > INLINE_OPERATIONS || self.reads_assigned_state(index) {
            return false;
        }
        let mut keys = BTreeSet::new();
        for root in roots {
            self.grouping.memory_keys(self.graph, self.views, root, usize::MAX, &mut keys);
        }
        if keys.len() > INLINE_BINDINGS {
            return false;
        }
        self.inline_size.insert(index, size);
        true
    }

    /// Whether a scalar depends, through scalars alone, on a state that this program overwrites: repeated
    /// by a reader that runs later, it would see the new value.
    fn reads_assigned_state(&self, index: u32) -> bool {
        let node = &self.nodes[index as usize];
        if let Op::State(name) = &node.op {
            return self.is_assigned(name);
        }
        let inline = is_pointwise(&node.op) && self.grouping.group_of[index as usize].is_none();
        inline && node.inputs.iter().any(|&input| self.reads_assigned_state(self.views.get(input).root.node))
    }

    /// Whether this program overwrites a state.
    pub(super) fn is_assigned(&self, state: &str) -> bool {
        self.nodes.iter().any(|node| matches!(&node.op, Op::Assign(name) if **name == *state))
    }

    /// Inline scalars that an anchor, an assignment or the caller reads need a place after all.
    pub(super) fn store_needed_scalars(&mut self) {
        for index in (0..self.nodes.len() as u32).rev() {
            let value = Value { node: index, output: 0 };
            if !self.grouping.is_inline(self.graph, value) {
                continue;
            }
            let reads_memory = |user: &u32| {
                let op = &self.nodes[*user as usize].op;
                let in_registers = matches!(op, Op::Pointwise(_) | Op::Cast(_) | Op::Reduce { .. });
                !in_registers && (is_anchor(op) || is_pointwise(op) || matches!(op, Op::Assign(_)))
            };
            let read = self.grouping.users.get(&value).is_some_and(|users| users.iter().any(reads_memory));
            if read || self.grouping.results.contains(&value) {
                self.open(index);
                // Whoever would have repeated it waits for it now.
                let own: BTreeSet<usize> = self.grouping.group_of[index as usize].into_iter().collect();
                for reader in self.readers(index) {
                    self.depend(reader, &own);
                }
            }
        }
    }

    /// The groups that read a node, also by way of scalars that are not stored.
    fn readers(&self, index: u32) -> BTreeSet<usize> {
        let (mut found, mut waiting) = (BTreeSet::new(), vec![index]);
        while let Some(node) = waiting.pop() {
            for &user in self.grouping.users.get(&Value { node, output: 0 }).into_iter().flatten() {
                match self.grouping.group_of[user as usize] {
                    Some(group) => _ = found.insert(group),
                    None => waiting.push(user),
                }
            }
        }
        found
    }

    /// Lets the parts of a concatenation be written straight into it, where their kernels can: attention's
    /// gradients, and what fused code computes for nobody else.
    pub(super) fn assemble(&mut self, index: u32) -> bool {
        let parts: Vec<_> =
            self.nodes[index as usize].inputs.iter().map(|&input| self.views.get(input).clone()).collect();
        let whole = |part: &Source| {
            part.view.is_contiguous()
                && part.view.offset == 0
                && part.view.shape.numel() == self.graph.type_of(part.root).shape.numel()
                && self.grouping.users.get(&part.root).is_some_and(|users| users[..] == [index])
                && !self.grouping.results.contains(&part.root)
        };
        let heads = |part: &Source| {
            let root = &self.nodes[part.root.node as usize];
            matches!(root.op, Op::Macro(MacroOp::AttentionGrad { .. })) && self.placeable(index, part.root)
        };
        if !parts.iter().all(whole) {
            return false;
        }
        let roots: Vec<Value> = parts.iter().map(|part| part.root).collect();
        if !parts.iter().all(heads) {
            return self.assemble_elements(index, roots);
        }
        self.grouping.part_of.extend(roots.iter().map(|&root| (root, index)));
        self.grouping.assembled.insert(index, roots);
        true
    }

    /// Whether a node reads a concatenation of which a group writes a part: not in that group's registers.
    pub(super) fn reads_whole_of(&self, node: u32, group: usize) -> bool {
        let inside = |part: &Value| self.grouping.group_of[part.node as usize] == Some(group);
        self.nodes[node as usize].inputs.iter().any(|&input| {
            let parts = self.grouping.assembled.get(&self.views.get(input).root.node);
            parts.is_some_and(|parts| parts.iter().any(inside))
        })
    }

    /// The parts that fused code without an anchor computes, if all are such and can be stored on its grid.
    fn assemble_elements(&mut self, index: u32, roots: Vec<Value>) -> bool {
        let group = |root: &Value| {
            let group = self.grouping.group_of[root.node as usize]?;
            let members = &self.grouping.groups[group].members;
            let halves = members.iter().any(|&member| is_half(self.nodes[member as usize].outputs[0].dtype));
            let plain =
                self.grouping.groups[group].anchor.is_none() && is_pointwise(&self.nodes[root.node as usize].op);
            (plain && !halves).then_some(group)
        };
        let Some(groups) = roots.iter().map(group).collect::<Option<Vec<usize>>>() else { return false };
        self.grouping.part_of.extend(roots.iter().map(|&root| (root, index)));
        self.grouping.assembled.insert(index, roots.clone());
        let stored = |(root, group): (&Value, &usize)| {
            let part = self.grouping.part(self.graph, *root);
            part.is_some_and(|(_, view)| view.reshape(&self.grouping.groups[*group].shape).is_some())
        };
        let fits = roots.iter().zip(&groups).all(stored);
        if !fits {
            self.grouping.assembled.remove(&index);
            self.grouping.part_of.retain(|_, node| *node != index);
        }
        fits
    }

    /// Whether a head's vectors start at multiples of four elements in the whole.
    pub(super) fn placeable(&self, concat: u32, part: Value) -> bool {
        let Op::Concat { axis } = self.nodes[concat as usize].op else { return false };
        let size = self.graph.type_of(part).shape.last().copied().unwrap_or(1);
        let whole = &self.nodes[concat as usize].outputs[0].shape;
        let aligned = self.nodes[concat as usize]
            .inputs
            .iter()
            .all(|&input| self.graph.type_of(input).shape[axis].is_multiple_of(size));
        axis + 1 == whole.rank() && aligned && whole[axis].is_multiple_of(4)
    }
}
