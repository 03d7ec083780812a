//! Which operations share a kernel.
//!
//! A group is an *anchor* (a product, a reduction, a row kernel) with the pointwise operations that
//! ride in its epilogue, or pointwise operations alone. Nodes are visited in order and join the
//! group of an operand where the index arithmetic, the binding limit and the order of execution
//! allow. Scalars made of scalars, and operands of which few rows or columns are met (`operands.rs`), are not stored at all: their
//! readers compute them again.

use super::access::{Access, accesses, is_pointwise};
use super::cells::Cells;
use super::grouping::{
    CELLS, Group, Grouping, anchor_grid, bindings, is_anchor, reduced_operands, stored_output, work_operands,
};
use super::views::{Views, widens};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, Value};
use crate::kernels::Profile;
use crate::program::StateLayout;
use crate::shape::Shape;
use std::collections::{BTreeSet, HashMap};

/// Forms the groups. Retries with a tighter limit if the outputs of a group turn out too many, and then with a stricter count:
/// where each value of a step is reduced and given out, most of what is hoped to stay in registers does not. `layout` says where
/// states lie; the body of a loop has none of its own.
pub fn group(graph: &Graph, views: &Views, layout: Option<&StateLayout>, profile: &Profile) -> Result<Grouping> {
    let most = (profile.max_storage_buffers - u32::from(profile.params_in_storage())) as usize;
    for strict in [false, true] {
        for limit in (3..=most).rev() {
            let grouping = Grouper::new(graph, views, layout, limit, strict).run();
            if (0..grouping.groups.len()).all(|g| bindings(graph, views, &grouping, g) <= most) {
                return Ok(grouping);
            }
        }
    }
    Err(Error::compile(
        "the graph".into(),
        format!("an operation needs more than the {most} storage buffers that the device binds at once"),
    ))
}

pub(super) struct Grouper<'a> {
    pub(super) graph: &'a Graph,
    pub(super) views: &'a Views,
    pub(super) nodes: Vec<Node>,
    pub(super) limit: usize,
    /// Counts all that may have to be stored: what is read by anyone who is not in the group yet, what leaves the program.
    pub(super) strict: bool,
    pub(super) grouping: Grouping,
    /// For each group the set of groups that must run before it, transitively, as bits.
    pub(super) before: Vec<Vec<u64>>,
    pub(super) words: usize,
    /// Reductions that ride on a product, by node: the bias gradient on the weight gradient.
    pub(super) sums: HashMap<u32, u32>,
    /// Operations in the expression of each inline scalar.
    pub(super) inline_size: HashMap<u32, usize>,
}

impl<'a> Grouper<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        views: &'a Views,
        layout: Option<&StateLayout>,
        limit: usize,
        strict: bool,
    ) -> Grouper<'a> {
        let nodes = graph.nodes();
        let mut users: HashMap<Value, Vec<u32>> = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            let reads = is_pointwise(&node.op)
                || is_anchor(&node.op)
                || matches!(node.op, Op::Assign(_) | Op::RandomBits { .. });
            if reads && !widens(graph, node) {
                for &input in &node.inputs {
                    users.entry(views.get(input).root).or_default().push(index as u32);
                }
            }
        }
        let results = graph.outputs().into_iter().map(|(_, value)| views.get(value).root).collect();
        let grouping = Grouping {
            groups: Vec::new(),
            group_of: vec![None; nodes.len()],
            assembled: HashMap::new(),
            part_of: HashMap::new(),
            added: Vec::new(),
            users,
            results,
            cells: Cells::default(),
        };
        let words = nodes.len().div_ceil(64);
        let mut grouper = Grouper {
            graph,
            views,
            nodes,
            limit,
            strict,
            grouping,
            before: Vec::new(),
            words,
            sums: HashMap::new(),
            inline_size: HashMap::new(),
        };
        grouper.sums = grouper.find_column_sums();
        grouper.sums.extend(grouper.find_channel_sums());
        if let Some(layout) = layout {
            let Grouper { nodes, sums, grouping, .. } = &grouper;
            grouper.grouping.cells = Cells::find(nodes, views, &grouping.users, sums, layout);
        }
        grouper
    }

    pub(super) fn run(mut self) -> Grouping {
        for index in 0..self.nodes.len() as u32 {
            let op = self.nodes[index as usize].op.clone();
            let view = widens(self.graph, &self.nodes[index as usize]);
            if view || self.grouping.group_of[index as usize].is_some() || self.sums.contains_key(&index) {
                continue;
            }
            if is_anchor(&op) {
                self.open_anchor(index);
            } else if matches!(op, Op::Concat { .. }) && self.assemble(index) {
                continue;
            } else if is_pointwise(&op) && !self.add_beside(index) && !self.join(index) && !self.is_inline_scalar(index)
            {
                self.open(index);
            }
        }
        self.sink();
        self.store_needed_scalars();
        self.unite_scalars();
        self.compute_operands();
        let mut order: Vec<usize> = (0..self.grouping.groups.len()).collect();
        order.retain(|&g| self.grouping.groups[g].anchor.is_some() || !self.grouping.groups[g].members.is_empty());
        self.renumber(&order)
    }

    /// Drops the groups that were absorbed by others.
    pub(super) fn renumber(mut self, kept: &[usize]) -> Grouping {
        let mut new_index = vec![None; self.grouping.groups.len()];
        for (new, &old) in kept.iter().enumerate() {
            new_index[old] = Some(new);
        }
        self.grouping.groups = kept.iter().map(|&old| self.grouping.groups[old].clone()).collect();
        for slot in &mut self.grouping.group_of {
            *slot = slot.and_then(|old| new_index[old]);
        }
        self.grouping
    }

    pub(super) fn numel(&self, index: u32) -> usize {
        self.nodes[index as usize].outputs[0].shape.numel()
    }

    /// Groups that must have run before a root can be read.
    pub(super) fn producers(&self, root: Value, found: &mut BTreeSet<usize>) {
        if let Some(group) = self.grouping.group_of[root.node as usize] {
            found.insert(group);
        } else if let Some(parts) = self.grouping.assembled.get(&root.node) {
            parts.iter().for_each(|&part| self.producers(part, found));
        } else {
            let node = &self.nodes[root.node as usize];
            if is_pointwise(&node.op) || matches!(node.op, Op::RandomBits { .. }) {
                node.inputs.iter().for_each(|&input| self.producers(self.views.get(input).root, found));
            }
        }
    }

    pub(super) fn needed_by(&self, index: u32) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        for &input in &self.nodes[index as usize].inputs {
            self.producers(self.views.get(input).root, &mut found);
        }
        found
    }

    pub(super) fn runs_before(&self, first: usize, then: usize) -> bool {
        self.before[then][first / 64] >> (first % 64) & 1 == 1
    }

    /// Records that `group` runs after `earlier` and everything before them.
    pub(super) fn depend(&mut self, group: usize, earlier: &BTreeSet<usize>) {
        let mut bits = self.before[group].clone();
        for &other in earlier.iter().filter(|&&other| other != group) {
            bits[other / 64] |= 1 << (other % 64);
            for (word, value) in self.before[other].iter().enumerate() {
                bits[word] |= value;
            }
        }
        for later in 0..self.before.len() {
            if later == group || self.runs_before(group, later) {
                for (word, value) in bits.iter().enumerate() {
                    self.before[later][word] |= value;
                }
            }
        }
    }

    pub(super) fn push_group(&mut self, group: Group, needs: &BTreeSet<usize>) -> usize {
        let index = self.grouping.groups.len();
        self.grouping.groups.push(group);
        self.before.push(vec![0; self.words]);
        self.depend(index, needs);
        index
    }

    pub(super) fn open(&mut self, node: u32) {
        let needs = self.needed_by(node);
        let shape = self.nodes[node as usize].outputs[0].shape.clone();
        let group = Group { anchor: None, prologue: vec![], members: vec![node], shape, column_sums: None };
        self.grouping.group_of[node as usize] = Some(self.push_group(group, &needs));
    }

    pub(super) fn open_anchor(&mut self, index: u32) {
        let node = self.nodes[index as usize].clone();
        let mut needs = self.needed_by(index);
        let mut prologue = Vec::new();
        if let Some(absorbed) = self.prologue(index) {
            needs.remove(&absorbed);
            for member in self.grouping.groups[absorbed].members.clone() {
                needs.extend(self.needed_by(member));
            }
            needs.remove(&absorbed);
            prologue = std::mem::take(&mut self.grouping.groups[absorbed].members);
        }
        let column_sums = self.sums.iter().find(|(_, product)| **product == index).map(|(&sum, _)| sum);
        let shape = anchor_grid(&node);
        let group = self.push_group(
            Group { anchor: Some(index), prologue: prologue.clone(), members: vec![], shape, column_sums },
            &needs,
        );
        for own in prologue.into_iter().chain([index]).chain(column_sums) {
            self.grouping.group_of[own as usize] = Some(group);
        }
    }

    /// Whether all reads of a node can be indexed on this grid.
    pub(super) fn walkable(&self, node: u32, grid: &Shape) -> bool {
        let part = self.grouping.part(self.graph, Value { node, output: 0 });
        part.is_none_or(|(_, view)| view.reshape(grid).is_some())
            && accesses(self.graph, self.views, node).iter().all(|access| access.view.reshape(grid).is_some())
    }

    /// The groups in whose registers an operand of the node already lies.
    pub(super) fn candidates(&self, index: u32) -> Vec<usize> {
        let numel = self.numel(index);
        let mut found: Vec<usize> = Vec::new();
        for Access { root, view } in accesses(self.graph, self.views, index) {
            let Some(root) = root else { continue };
            let Some(group) = self.grouping.group_of[root.node as usize] else { continue };
            let Group { anchor, .. } = &self.grouping.groups[group];
            let register = match anchor {
                Some(anchor) if *anchor == root.node => {
                    stored_output(&self.nodes[*anchor as usize].op) == Some(root.output)
                }
                Some(_) => self.grouping.groups[group].members.contains(&root.node),
                None => true,
            };
            let whole = view.is_contiguous() && view.offset == 0 && view.shape.numel() == numel;
            let same = self.graph.type_of(root).shape.numel() == numel;
            if register && whole && same && !found.contains(&group) {
                found.push(group);
            }
        }
        found
    }

    /// Puts a pointwise node into the group of one (or, joined, several) of its operands.
    pub(super) fn join(&mut self, index: u32) -> bool {
        let mut joined: Option<usize> = None;
        // Later groups first: they are the ones that can wait for the other operands.
        let mut candidates = self.candidates(index);
        crate::sort::sort_by_key(&mut candidates, |&group| {
            std::cmp::Reverse(self.before[group].iter().map(|word| word.count_ones()).sum::<u32>())
        });
        // Of products whose results are added up, the one that comes last: were another to wait for it, so would all that
        // the other reads, such as every part of the logits' gradient.
        if candidates.iter().all(|&group| self.is_product(group)) {
            crate::sort::sort_by_key(&mut candidates, |&group| std::cmp::Reverse(self.last_node(group)));
        }
        for group in candidates {
            match joined {
                None if self.may_join(index, group) => {
                    self.add(index, group);
                    joined = Some(group);
                }
                Some(into) if self.may_unite(into, group) => self.unite(into, group),
                _ => {}
            }
        }
        joined.is_some()
    }

    fn is_product(&self, group: usize) -> bool {
        let anchor = self.grouping.groups[group].anchor;
        anchor.is_some_and(|anchor| self.nodes[anchor as usize].op == Op::MatMul)
    }

    fn last_node(&self, group: usize) -> Option<u32> {
        let Group { anchor, members, .. } = &self.grouping.groups[group];
        members.iter().chain(anchor).copied().max()
    }

    pub(super) fn may_join(&self, index: u32, group: usize) -> bool {
        let needs = self.needed_by(index);
        let cycle = needs.iter().any(|&other| other != group && self.runs_before(group, other));
        let op = &self.nodes[index as usize].op;
        let rides = self.grouping.groups[group].anchor.is_none() || matches!(op, Op::Pointwise(_) | Op::Cast(_));
        rides
            && !cycle
            && self.packs(&[index], group)
            && !self.reads_whole_of(index, group)
            && self.in_step(index, group)
            && self.grid_for(&[index], group).is_some()
            && self.within_limit(&[index], group)
    }

    /// Whether a node reads a group's values only at its own element: other elements are not in registers.
    pub(super) fn in_step(&self, index: u32, group: usize) -> bool {
        self.reads_in_step(index, |root| self.grouping.group_of[root.node as usize] == Some(group))
    }

    /// Whether a node reads the roots that `inside` names only at its own element.
    pub(super) fn reads_in_step(&self, index: u32, inside: impl Fn(Value) -> bool) -> bool {
        let numel = self.numel(index);
        let plain = matches!(self.nodes[index as usize].op, Op::Pointwise(_) | Op::Cast(_));
        accesses(self.graph, self.views, index).iter().all(|Access { root, view }| {
            root.is_none_or(|root| {
                let whole = view.is_contiguous() && view.offset == 0 && view.shape.numel() == numel;
                !inside(root) || (plain && whole && self.graph.type_of(root).shape.numel() == numel)
            })
        })
    }

    /// A grid on which the group's members and these nodes can all be walked.
    pub(super) fn grid_for(&self, extra: &[u32], group: usize) -> Option<Shape> {
        let Group { anchor, members, shape, .. } = &self.grouping.groups[group];
        let fits = |grid: &Shape, nodes: &[u32]| nodes.iter().all(|&node| self.walkable(node, grid));
        if fits(shape, extra) {
            return Some(shape.clone());
        }
        let own = self.nodes[*extra.first()? as usize].outputs[0].shape.clone();
        (anchor.is_none() && fits(&own, members) && fits(&own, extra)).then_some(own)
    }

    pub(super) fn within_limit(&self, extra: &[u32], group: usize) -> bool {
        let mut keys = BTreeSet::new();
        let g = &self.grouping.groups[group];
        let inside = |value: Value| extra.contains(&value.node);
        for &member in g.members.iter().chain(extra) {
            for access in accesses(self.graph, self.views, member) {
                if let Some(root) = access.root.filter(|root| !inside(*root)) {
                    self.grouping.memory_keys(self.graph, self.views, root, group, &mut keys);
                }
            }
        }
        // Values that some other group surely reads, and what the new nodes write.
        let decided = |value: &Value| {
            let other = |user: &u32| {
                let op = &self.nodes[*user as usize].op;
                // These read what is in memory; a reduction may absorb what it reads instead.
                let memory = !matches!(op, Op::Pointwise(_) | Op::Cast(_) | Op::Reduce { .. });
                let place = self.grouping.group_of[*user as usize];
                let outside = place != Some(group) && (self.strict || place.is_some());
                !extra.contains(user) && (memory || outside)
            };
            let given = self.strict && self.grouping.results.contains(value);
            given || self.grouping.users.get(value).is_some_and(|users| users.iter().any(other))
        };
        let value = |&node: &u32| Value { node, output: 0 };
        let counted = extra.iter().map(value).any(|value| decided(&value));
        for value in g.members.iter().chain(extra).map(value).filter(decided) {
            // Parts of a concatenation will be written into it.
            let whole = match self.grouping.users.get(&value).map(Vec::as_slice) {
                Some(&[user]) if matches!(self.nodes[user as usize].op, Op::Concat { .. }) => {
                    Value { node: user, output: 0 }
                }
                _ => value,
            };
            keys.insert(self.grouping.output_key(self.graph, whole));
        }
        let ports = g.anchor.map_or(0, |anchor| {
            let node = &self.nodes[anchor as usize];
            let secondary = node.outputs.len() - 1 + usize::from(g.column_sums.is_some());
            let operands = match node.op {
                Op::Reduce { .. } => reduced_operands(self.graph, self.views, &self.grouping, group),
                // The kernel that stores reads the partial sums.
                Op::SumSquares { .. } => 1,
                _ => node.inputs.len(),
            };
            operands + work_operands(&node.op) + secondary
        });
        // What the new nodes write takes a binding, unless it is counted or goes into a state that is bound anyway.
        let known = |key: &String| key.starts_with("state");
        let beside = keys.contains(CELLS) && extra.iter().map(value).all(|value| self.grouping.cells.holds(value));
        let fresh = usize::from(!counted && !beside && !keys.iter().any(known));
        keys.len() + ports + fresh <= self.limit
    }

    pub(super) fn add(&mut self, index: u32, group: usize) {
        if let Some(grid) = self.grid_for(&[index], group) {
            self.grouping.groups[group].shape = grid;
        }
        self.grouping.groups[group].members.push(index);
        self.grouping.group_of[index as usize] = Some(group);
        let needs = self.needed_by(index);
        self.depend(group, &needs);
    }

    /// Whether two groups that a node reads can become one.
    pub(super) fn may_unite(&self, into: usize, other: usize) -> bool {
        let absorbed = &self.grouping.groups[other];
        let independent = !self.runs_before(into, other) && !self.runs_before(other, into);
        // A node between them would have to run both before and after the union.
        let direct = self.runs_before(other, into)
            && !(0..self.before.len()).any(|g| self.runs_before(other, g) && self.runs_before(g, into));
        let reader = &self.grouping.groups[into];
        let rides = reader.anchor.is_none()
            || absorbed.members.iter().all(|&m| matches!(self.nodes[m as usize].op, Op::Pointwise(_) | Op::Cast(_)));
        absorbed.anchor.is_none()
            && rides
            && self.packs(&absorbed.members, into)
            && (independent || direct)
            && reader.members.iter().all(|&member| self.in_step(member, other) && !self.reads_whole_of(member, other))
            && reader.anchor.is_none_or(|anchor| !self.reads_group(anchor, other))
            && reader.prologue.iter().all(|&member| !self.reads_group(member, other))
            && self.grid_for(&absorbed.members, into).is_some()
            && self.within_limit(&absorbed.members, into)
    }

    /// Whether a node reads a value of a group.
    pub(super) fn reads_group(&self, node: u32, group: usize) -> bool {
        let reads = &self.nodes[node as usize].inputs;
        reads.iter().any(|&input| self.grouping.group_of[self.views.get(input).root.node as usize] == Some(group))
    }

    pub(super) fn unite(&mut self, into: usize, other: usize) {
        let members = std::mem::take(&mut self.grouping.groups[other].members);
        if let Some(grid) = self.grid_for(&members, into) {
            self.grouping.groups[into].shape = grid;
        }
        for &member in &members {
            self.grouping.group_of[member as usize] = Some(into);
        }
        let group = &mut self.grouping.groups[into];
        group.members.extend(members);
        crate::sort::sort(&mut group.members);
        // Whoever waited for `other` now waits for `into`.
        let earlier = self.before[other].clone();
        for (word, value) in earlier.iter().enumerate() {
            self.before[into][word] |= value;
        }
        self.before[into][other / 64] &= !(1 << (other % 64));
        let bits = self.before[into].clone();
        for later in 0..self.before.len() {
            if later != into && (self.runs_before(other, later) || self.runs_before(into, later)) {
                self.before[later][into / 64] |= 1 << (into % 64);
                for (word, value) in bits.iter().enumerate() {
                    self.before[later][word] |= value;
                }
            }
        }
    }
}
