//! Which operations share a kernel.
//!
//! A group is an *anchor* (a product, a reduction, a row kernel) with the pointwise operations that
//! ride in its epilogue, or pointwise operations alone. Nodes are visited in order and join the
//! group of an operand where the index arithmetic, the binding limit and the order of execution
//! allow. Scalars made of scalars are not stored at all: their readers compute them again.

use super::access::{Access, accesses, is_pointwise};
use super::views::Views;
use crate::error::{Error, Result};
use crate::graph::{Graph, MacroOp, Node, Op, ReduceKind, Value};
use crate::kernels::Profile;
use crate::program::StateLayout;
use crate::shape::Shape;
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
    /// Nodes that read a root (assignments included).
    pub users: HashMap<Value, Vec<u32>>,
    /// Roots that leave the program.
    pub results: BTreeSet<Value>,
}

/// The result that an anchor hands to the `store` hook, if it has one.
pub fn stored_output(op: &Op) -> Option<u32> {
    match op {
        Op::MatMul | Op::Reduce { .. } | Op::SumSquares | Op::ScatterAdd { .. } | Op::Custom(_) => Some(0),
        Op::Macro(MacroOp::CrossEntropyWithGrad) => Some(1),
        Op::Macro(MacroOp::CrossEntropy | MacroOp::Attention { .. } | MacroOp::AttentionGrad { .. }) => None,
        Op::Macro(
            MacroOp::Softmax
            | MacroOp::LogSoftmax
            | MacroOp::LayerNorm { .. }
            | MacroOp::LayerNormGrad { .. }
            | MacroOp::RmsNorm { .. }
            | MacroOp::RmsNormGrad { .. }
            | MacroOp::CrossEntropyGrad,
        ) => Some(0),
        Op::ArgMax { .. }
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
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::DynamicSlice { .. }
        | Op::DynamicUpdate { .. }
        | Op::Gather
        | Op::Assign(_) => None,
    }
}

/// Operations with a kernel of their own.
pub fn is_anchor(op: &Op) -> bool {
    matches!(op, Op::ArgMax { .. } | Op::Macro(_)) || stored_output(op).is_some()
}

/// The `[batch, rows, cols]` grid of what an anchor stores.
pub fn anchor_grid(node: &Node) -> Shape {
    let Some(output) = stored_output(&node.op) else { return Shape::from([1, 1, 1]) };
    let shape = &node.outputs[output as usize].shape;
    let (rank, size) = (shape.rank(), shape.numel());
    let split = |rows: usize| if rows == 0 { [1, 0, 1] } else { [1, rows, size / rows] };
    match &node.op {
        Op::MatMul => Shape::from([shape[..rank - 2].iter().product(), shape[rank - 2], shape[rank - 1]]),
        Op::Macro(_) => Shape::from(split(shape[..rank - 1].iter().product())),
        Op::ScatterAdd { rows } => Shape::from(split(*rows)),
        _ => Shape::from([1, 1, size]),
    }
}

/// Forms the groups. Retries with a tighter limit if the outputs of a group turn out too many.
pub fn group(graph: &Graph, views: &Views, layout: &StateLayout, profile: &Profile) -> Result<Grouping> {
    let most = (profile.max_storage_buffers - u32::from(profile.params_in_storage())) as usize;
    for limit in (3..=most).rev() {
        let grouping = Grouper::new(graph, views, layout, limit).run();
        if (0..grouping.groups.len()).all(|g| bindings(graph, views, layout, &grouping, g) <= most) {
            return Ok(grouping);
        }
    }
    Err(Error::Compile {
        what: "the graph".into(),
        message: format!("an operation needs more than the {most} storage buffers that the device binds at once"),
    })
}

/// Storage bindings that a group's kernel takes.
fn bindings(graph: &Graph, views: &Views, layout: &StateLayout, grouping: &Grouping, index: usize) -> usize {
    let group = &grouping.groups[index];
    let mut keys = BTreeSet::new();
    for &member in group.members.iter().chain(&group.prologue) {
        for access in accesses(graph, views, member) {
            if let Some(root) = access.root {
                grouping.memory_keys(graph, views, layout, root, index, &mut keys);
            }
        }
    }
    let anchor = group.anchor.map_or(0, |anchor| {
        let node = graph.node(anchor);
        let operands = if matches!(node.op, Op::SumSquares | Op::Reduce { .. }) { 1 } else { node.inputs.len() };
        let secondary = node.outputs.len() - usize::from(stored_output(&node.op).is_some());
        match node.op {
            // Two kernels of their own, each within the baseline's eight.
            Op::Macro(MacroOp::AttentionGrad { .. }) => 8,
            _ => operands + secondary + usize::from(group.column_sums.is_some()),
        }
    });
    let outputs =
        grouping.outputs(graph, index).into_iter().filter(|value| grouping.is_fused_output(graph, index, *value));
    for value in outputs {
        keys.insert(grouping.output_key(graph, layout, value));
    }
    keys.len() + anchor
}

impl Grouping {
    /// The values of a group that others read, that leave the program, or that its kernel writes anyway.
    pub fn outputs(&self, graph: &Graph, index: usize) -> Vec<Value> {
        let group = &self.groups[index];
        let mut list = Vec::new();
        let own = group.members.iter().chain(group.anchor.iter()).chain(group.column_sums.iter());
        for &node in own {
            for output in 0..graph.node(node).outputs.len() as u32 {
                let value = Value { node, output };
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
            _ => group.column_sums != Some(value.node),
        }
    }

    fn output_key(&self, graph: &Graph, layout: &StateLayout, value: Value) -> String {
        let assigned = self.users.get(&value).into_iter().flatten().find_map(|&user| match graph.node(user).op {
            Op::Assign(name) => layout.entries.get(&*name).map(|entry| format!("state {}", entry.pieces[0].buffer)),
            _ => None,
        });
        assigned.unwrap_or_else(|| format!("{value:?}"))
    }

    /// What fused code binds to read a root.
    fn memory_keys(
        &self,
        graph: &Graph,
        views: &Views,
        layout: &StateLayout,
        root: Value,
        group: usize,
        keys: &mut BTreeSet<String>,
    ) {
        let node = graph.node(root.node);
        match &node.op {
            Op::Const(_) | Op::Iota { .. } => {}
            Op::RandomBits { .. } => {
                self.memory_keys(graph, views, layout, views.get(node.inputs[0]).root, group, keys)
            }
            Op::Input(_) if node.outputs[0].shape.rank() == 0 => {
                keys.insert("scalars".into());
            }
            Op::State(name) => {
                keys.insert(
                    layout
                        .entries
                        .get(&**name)
                        .map_or(name.to_string(), |entry| format!("state {}", entry.pieces[0].buffer)),
                );
            }
            _ if self.group_of[root.node as usize] == Some(group) => {}
            _ if self.group_of[root.node as usize].is_none()
                && is_pointwise(&node.op)
                && !self.assembled.contains_key(&root.node) =>
            {
                for access in accesses(graph, views, root.node) {
                    if let Some(inner) = access.root {
                        self.memory_keys(graph, views, layout, inner, group, keys);
                    }
                }
            }
            _ => {
                keys.insert(format!("{root:?}"));
            }
        }
    }
}

struct Grouper<'a> {
    graph: &'a Graph,
    views: &'a Views,
    layout: &'a StateLayout,
    nodes: Vec<Node>,
    limit: usize,
    grouping: Grouping,
    /// For each group the set of groups that must run before it, transitively, as bits.
    before: Vec<Vec<u64>>,
    words: usize,
    /// Product nodes by the (root, view) of their right operand, for bias gradients.
    sums: HashMap<u32, u32>,
}

impl<'a> Grouper<'a> {
    fn new(graph: &'a Graph, views: &'a Views, layout: &'a StateLayout, limit: usize) -> Grouper<'a> {
        let nodes = graph.nodes();
        let mut users: HashMap<Value, Vec<u32>> = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            let reads = is_pointwise(&node.op)
                || is_anchor(&node.op)
                || matches!(node.op, Op::Assign(_) | Op::RandomBits { .. });
            if reads {
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
            users,
            results,
        };
        let words = nodes.len().div_ceil(64);
        let mut grouper =
            Grouper { graph, views, layout, nodes, limit, grouping, before: Vec::new(), words, sums: HashMap::new() };
        grouper.sums = grouper.find_column_sums();
        grouper
    }

    fn run(mut self) -> Grouping {
        for index in 0..self.nodes.len() as u32 {
            let op = self.nodes[index as usize].op.clone();
            if self.grouping.group_of[index as usize].is_some() || self.sums.contains_key(&index) {
                continue;
            }
            if is_anchor(&op) {
                self.open_anchor(index);
            } else if matches!(op, Op::Concat { .. }) && self.assemble(index) {
                continue;
            } else if is_pointwise(&op) && !self.join(index) && !self.is_inline_scalar(index) {
                self.open(index);
            }
        }
        self.sink();
        self.store_needed_scalars();
        let mut order: Vec<usize> = (0..self.grouping.groups.len()).collect();
        order.retain(|&g| self.grouping.groups[g].anchor.is_some() || !self.grouping.groups[g].members.is_empty());
        self.renumber(&order)
    }

    /// Drops the groups that were absorbed by others.
    fn renumber(mut self, kept: &[usize]) -> Grouping {
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

    fn numel(&self, index: u32) -> usize {
        self.nodes[index as usize].outputs[0].shape.numel()
    }

    /// Groups that must have run before a root can be read.
    fn producers(&self, root: Value, found: &mut BTreeSet<usize>) {
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

    fn needed_by(&self, index: u32) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        for &input in &self.nodes[index as usize].inputs {
            self.producers(self.views.get(input).root, &mut found);
        }
        found
    }

    fn runs_before(&self, first: usize, then: usize) -> bool {
        self.before[then][first / 64] >> (first % 64) & 1 == 1
    }

    /// Records that `group` runs after `earlier` and everything before them.
    fn depend(&mut self, group: usize, earlier: &BTreeSet<usize>) {
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

    fn push_group(&mut self, group: Group, needs: &BTreeSet<usize>) -> usize {
        let index = self.grouping.groups.len();
        self.grouping.groups.push(group);
        self.before.push(vec![0; self.words]);
        self.depend(index, needs);
        index
    }

    fn open(&mut self, node: u32) {
        let needs = self.needed_by(node);
        let shape = self.nodes[node as usize].outputs[0].shape.clone();
        let group = Group { anchor: None, prologue: vec![], members: vec![node], shape, column_sums: None };
        self.grouping.group_of[node as usize] = Some(self.push_group(group, &needs));
    }

    fn open_anchor(&mut self, index: u32) {
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

    /// The pointwise group that a reduction can compute as it reads, if only the reduction needs it.
    fn prologue(&self, index: u32) -> Option<usize> {
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
        (producer.anchor.is_none() && whole && private && walkable).then_some(group)
    }

    /// Whether all reads of a node can be indexed on this grid.
    fn walkable(&self, node: u32, grid: &Shape) -> bool {
        accesses(self.graph, self.views, node).iter().all(|access| access.view.reshape(grid).is_some())
    }

    /// The groups in whose registers an operand of the node already lies.
    fn candidates(&self, index: u32) -> Vec<usize> {
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
    fn join(&mut self, index: u32) -> bool {
        let mut joined: Option<usize> = None;
        // Later groups first: they are the ones that can wait for the other operands.
        let mut candidates = self.candidates(index);
        candidates.sort_by_key(|&group| {
            std::cmp::Reverse(self.before[group].iter().map(|word| word.count_ones()).sum::<u32>())
        });
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

    fn may_join(&self, index: u32, group: usize) -> bool {
        let needs = self.needed_by(index);
        let cycle = needs.iter().any(|&other| other != group && self.runs_before(group, other));
        let op = &self.nodes[index as usize].op;
        let rides = self.grouping.groups[group].anchor.is_none() || matches!(op, Op::Pointwise(_) | Op::Cast(_));
        rides
            && !cycle
            && self.in_step(index, group)
            && self.grid_for(&[index], group).is_some()
            && self.within_limit(&[index], group)
    }

    /// Whether a node reads a group's values only at its own element: other elements are not in registers.
    fn in_step(&self, index: u32, group: usize) -> bool {
        self.reads_in_step(index, |root| self.grouping.group_of[root.node as usize] == Some(group))
    }

    /// Whether a node reads the roots that `inside` names only at its own element.
    fn reads_in_step(&self, index: u32, inside: impl Fn(Value) -> bool) -> bool {
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
    fn grid_for(&self, extra: &[u32], group: usize) -> Option<Shape> {
        let Group { anchor, members, shape, .. } = &self.grouping.groups[group];
        let fits = |grid: &Shape, nodes: &[u32]| nodes.iter().all(|&node| self.walkable(node, grid));
        if fits(shape, extra) {
            return Some(shape.clone());
        }
        let own = self.nodes[*extra.first()? as usize].outputs[0].shape.clone();
        (anchor.is_none() && fits(&own, members) && fits(&own, extra)).then_some(own)
    }

    fn within_limit(&self, extra: &[u32], group: usize) -> bool {
        let mut keys = BTreeSet::new();
        let g = &self.grouping.groups[group];
        let inside = |value: Value| extra.contains(&value.node);
        for &member in g.members.iter().chain(extra) {
            for access in accesses(self.graph, self.views, member) {
                if let Some(root) = access.root.filter(|root| !inside(*root)) {
                    self.grouping.memory_keys(self.graph, self.views, self.layout, root, group, &mut keys);
                }
            }
        }
        // Values that some other group surely reads, and what the new nodes write.
        let decided = |value: &Value| {
            let other = |user: &u32| {
                let assign = matches!(self.nodes[*user as usize].op, Op::Assign(_));
                assign || self.grouping.group_of[*user as usize].is_some_and(|g| g != group)
            };
            self.grouping.users.get(value).is_some_and(|users| users.iter().any(other))
        };
        let written = g.members.iter().chain(extra).map(|&node| Value { node, output: 0 }).filter(decided);
        for value in written {
            keys.insert(self.grouping.output_key(self.graph, self.layout, value));
        }
        let ports = g.anchor.map_or(0, |anchor| {
            let node = &self.nodes[anchor as usize];
            node.inputs.len() + node.outputs.len() - 1 + usize::from(g.column_sums.is_some())
        });
        // What the new nodes write takes a binding, unless it goes into a state that is bound anyway.
        let fresh = usize::from(!keys.iter().any(|key| key.starts_with("state")));
        keys.len() + ports + fresh <= self.limit
    }

    fn add(&mut self, index: u32, group: usize) {
        if let Some(grid) = self.grid_for(&[index], group) {
            self.grouping.groups[group].shape = grid;
        }
        self.grouping.groups[group].members.push(index);
        self.grouping.group_of[index as usize] = Some(group);
        let needs = self.needed_by(index);
        self.depend(group, &needs);
    }

    /// Whether two groups that a node reads can become one.
    fn may_unite(&self, into: usize, other: usize) -> bool {
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
            && (independent || direct)
            && reader.members.iter().all(|&member| self.in_step(member, other))
            && reader.anchor.is_none_or(|anchor| !self.reads_group(anchor, other))
            && self.grid_for(&absorbed.members, into).is_some()
            && self.within_limit(&absorbed.members, into)
    }

    /// Whether an anchor reads a value of a group from memory.
    fn reads_group(&self, anchor: u32, group: usize) -> bool {
        let reads = &self.nodes[anchor as usize].inputs;
        reads.iter().any(|&input| self.grouping.group_of[self.views.get(input).root.node as usize] == Some(group))
    }

    fn unite(&mut self, into: usize, other: usize) {
        let members = std::mem::take(&mut self.grouping.groups[other].members);
        if let Some(grid) = self.grid_for(&members, into) {
            self.grouping.groups[into].shape = grid;
        }
        for &member in &members {
            self.grouping.group_of[member as usize] = Some(into);
        }
        let group = &mut self.grouping.groups[into];
        group.members.extend(members);
        group.members.sort_unstable();
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

    /// Moves operations to their only reader where that saves storing their result: the mask of a
    /// ReLU is computed in the backward kernel, from the activation that is there anyway.
    fn sink(&mut self) {
        for index in (0..self.nodes.len() as u32).rev() {
            let Some(group) = self.grouping.group_of[index as usize] else { continue };
            if !self.grouping.groups[group].members.contains(&index) {
                continue;
            }
            let Some(reader) = self.only_reader(index, group) else { continue };
            if self.operands_stored(index, group) && self.may_join(index, reader) {
                self.grouping.groups[group].members.retain(|&member| member != index);
                self.add(index, reader);
                self.grouping.groups[reader].members.sort_unstable();
            }
        }
    }

    /// The one other group whose pointwise code reads a node, if no one else does.
    fn only_reader(&self, index: u32, group: usize) -> Option<usize> {
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

    /// Whether everything a member reads lies in memory even without it.
    fn operands_stored(&self, index: u32, group: usize) -> bool {
        accesses(self.graph, self.views, index).iter().filter_map(|access| access.root).all(|root| {
            let outside = |user: &u32| *user != index && self.grouping.group_of[*user as usize] != Some(group);
            self.grouping.group_of[root.node as usize] != Some(group)
                || self.grouping.users.get(&root).is_some_and(|users| users.iter().any(outside))
        })
    }

    /// A scalar computed from scalars: cheaper to repeat in its readers than to store.
    fn is_inline_scalar(&self, index: u32) -> bool {
        let node = &self.nodes[index as usize];
        let arithmetic = matches!(node.op, Op::Pointwise(_) | Op::Cast(_));
        arithmetic
            && self.numel(index) == 1
            && node.inputs.iter().all(|&input| self.graph.type_of(self.views.get(input).root).shape.numel() == 1)
    }

    /// Inline scalars that an anchor, an assignment or the caller reads need a place after all.
    fn store_needed_scalars(&mut self) {
        for index in (0..self.nodes.len() as u32).rev() {
            let value = Value { node: index, output: 0 };
            let unplaced = self.grouping.group_of[index as usize].is_none()
                && is_pointwise(&self.nodes[index as usize].op)
                && !self.grouping.assembled.contains_key(&index);
            if !unplaced {
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
            }
        }
    }

    /// Lets the parts of a concatenation be written straight into it, where their kernels can.
    fn assemble(&mut self, index: u32) -> bool {
        let parts: Vec<_> =
            self.nodes[index as usize].inputs.iter().map(|&input| self.views.get(input).clone()).collect();
        let placeable = parts.iter().all(|part| {
            let root = &self.nodes[part.root.node as usize];
            matches!(root.op, Op::Macro(MacroOp::AttentionGrad { .. }))
                && part.view.is_contiguous()
                && self.placeable(index, part.root)
                && part.view.shape.numel() == self.graph.type_of(part.root).shape.numel()
                && self.grouping.users.get(&part.root).is_some_and(|users| users[..] == [index])
        });
        if placeable {
            self.grouping.assembled.insert(index, parts.into_iter().map(|part| part.root).collect());
        }
        placeable
    }

    /// Whether a head's vectors start at multiples of four elements in the whole.
    fn placeable(&self, concat: u32, part: Value) -> bool {
        let Op::Concat { axis } = self.nodes[concat as usize].op else { return false };
        let size = self.graph.type_of(part).shape.last().copied().unwrap_or(1);
        let whole = &self.nodes[concat as usize].outputs[0].shape;
        let aligned = self.nodes[concat as usize]
            .inputs
            .iter()
            .all(|&input| self.graph.type_of(input).shape[axis].is_multiple_of(size));
        axis + 1 == whole.rank() && aligned && whole[axis].is_multiple_of(4)
    }

    /// Sums over the rows of a matrix that a product reads as its right operand anyway.
    fn find_column_sums(&self) -> HashMap<u32, u32> {
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
}
