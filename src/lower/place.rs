//! Where every stored value lies: state, input, or a transient buffer.
//!
//! A transient value has a buffer to itself, unless it overwrites an operand that dies. Which values share memory
//! is decided when all dispatches are known (`slabs.rs`, `docs/decisions/transient-buffers.md`).

use super::access::{accesses, is_pointwise};
use super::anchors::Plan;
use super::body::Bodies;
use super::grouping::{Group, Grouping, stored_output};
use super::views::Views;
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, Value};
use crate::program::{BufferDecl, Role, Scalar, StateLayout};
use crate::shape::View;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A range of a program's buffer, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    pub buffer: usize,
    pub offset: u64,
    pub bytes: u64,
}

/// The places of all values of a program.
#[derive(Default)]
pub struct Placement {
    pub buffers: Vec<BufferDecl>,
    pub scalars: Vec<Scalar>,
    pub constants: Vec<u32>,
    locations: HashMap<Value, Location>,
    /// Work buffers of each group, by its place in the order.
    pub workspaces: Vec<Vec<Location>>,
    /// The places of the values of loops' bodies, by the scan's node.
    pub bodies: BTreeMap<u32, Placement>,
    /// From where to where, after everything else: new values of states that could not be written in place.
    pub copies: Vec<(Location, Location)>,
    /// Buffers of scalars of which fused code binds all at once.
    shared: BTreeSet<usize>,
    /// That of the transient ones.
    cells: Option<usize>,
}

impl Placement {
    pub fn locate(&self, root: Value) -> Result<Location> {
        self.locations.get(&root).copied().ok_or_else(|| {
            Error::compile(
                format!("%{}", root.node),
                "a kernel reads a value that was given no memory (please report this)".into(),
            )
        })
    }

    /// An empty placement for the body of a loop, over the same buffers.
    pub(super) fn inner(&self) -> Placement {
        let (buffers, scalars, constants) = (self.buffers.clone(), self.scalars.clone(), self.constants.clone());
        Placement { buffers, scalars, constants, ..Placement::default() }
    }

    /// Takes over what a body has declared.
    pub(super) fn take_back(&mut self, inner: &Placement) {
        self.buffers.clone_from(&inner.buffers);
        self.constants.clone_from(&inner.constants);
    }

    /// A buffer for one value; whole vectors of it can be bound.
    fn transient(&mut self, bytes: u64) -> Location {
        let buffer = self.declare(Role::Transient, bytes.max(4).next_multiple_of(16));
        Location { buffer, offset: 0, bytes }
    }

    /// A word in the buffer of transient scalars; one that is bound by itself too begins where a binding may.
    fn cell(&mut self, alone: bool) -> Location {
        let buffer = self.cells.unwrap_or_else(|| self.declare(Role::Transient, 0));
        self.cells = Some(buffer);
        self.shared.insert(buffer);
        let offset = self.buffers[buffer].bytes.next_multiple_of(if alone { 256 } else { 16 });
        self.buffers[buffer].bytes = offset + 16;
        Location { buffer, offset, bytes: 4 }
    }

    /// Whether fused code binds all of a buffer's scalars at once.
    pub(super) fn is_shared(&self, buffer: usize) -> bool {
        self.buffers[buffer].role == Role::Scalars || self.shared.contains(&buffer)
    }

    pub(super) fn declare(&mut self, role: Role, bytes: u64) -> usize {
        if role != Role::Transient
            && let Some(index) = self.buffers.iter().position(|buffer| buffer.role == role)
        {
            self.buffers[index].bytes = self.buffers[index].bytes.max(bytes);
            return index;
        }
        self.buffers.push(BufferDecl { role, bytes });
        self.buffers.len() - 1
    }
}

/// What one group reads, and whether element by element at its own coordinates.
#[derive(Debug, Clone)]
pub struct Read {
    pub root: Value,
    pub elementwise: bool,
}

/// Everything that a group reads from memory, what is not stored followed to its leaves.
pub fn reads(graph: &Graph, views: &Views, grouping: &Grouping, index: usize) -> Vec<Read> {
    let group = &grouping.groups[index];
    let mut list = Vec::new();
    for &node in &group.prologue {
        fused_reads(graph, views, grouping, index, node, false, &mut list);
    }
    for &member in &group.members {
        fused_reads(graph, views, grouping, index, member, true, &mut list);
    }
    if let Some(anchor) = group.anchor {
        let node = graph.node(anchor);
        for &input in &node.inputs {
            let source = views.get(input);
            if grouping.group_of[source.root.node as usize] != Some(index) {
                leaf_reads(graph, views, grouping, index, source.root, false, &mut list);
            }
        }
    }
    list
}

fn fused_reads(
    graph: &Graph,
    views: &Views,
    grouping: &Grouping,
    group: usize,
    node: u32,
    in_step: bool,
    list: &mut Vec<Read>,
) {
    let plain = matches!(graph.node(node).op, Op::Pointwise(_) | Op::Cast(_) | Op::DynamicUpdate { .. });
    for access in accesses(graph, views, node) {
        if let Some(root) = access.root
            && grouping.group_of[root.node as usize] != Some(group)
        {
            let whole = access.view.is_contiguous() && access.view.offset == 0;
            let same = graph.type_of(root).shape.numel() == graph.node(node).outputs[0].shape.numel();
            leaf_reads(graph, views, grouping, group, root, in_step && plain && whole && same, list);
        }
    }
}

fn leaf_reads(
    graph: &Graph,
    views: &Views,
    grouping: &Grouping,
    group: usize,
    root: Value,
    elementwise: bool,
    list: &mut Vec<Read>,
) {
    let node = graph.node(root.node);
    match &node.op {
        Op::Const(_) | Op::Iota { .. } => {}
        Op::RandomBits { .. } => leaf_reads(graph, views, grouping, group, views.get(node.inputs[0]).root, false, list),
        _ if grouping.is_inline(graph, root) => {
            fused_reads(graph, views, grouping, group, root.node, false, list);
        }
        _ => list.push(Read { root, elementwise }),
    }
}

/// The order in which groups run, assignments placed in their states, and every value its place.
pub struct Placer<'a> {
    pub(super) graph: &'a Graph,
    pub(super) views: &'a Views,
    pub(super) grouping: &'a Grouping,
    layout: &'a StateLayout,
    /// Where the operands and results of a body lie, by name; nothing for a whole program.
    places: HashMap<String, Location>,
    pub(super) reads: Vec<Vec<Read>>,
    /// Values that are written straight into a state.
    pub(super) in_state: HashMap<Value, String>,
    /// Values that are copied into their state when everything else has run.
    pub(super) deferred: Vec<(Value, String)>,
    /// Parts of an assembled concatenation: part to the whole and its view of it.
    parts: HashMap<Value, (Value, View)>,
}

impl<'a> Placer<'a> {
    pub fn new(graph: &'a Graph, views: &'a Views, grouping: &'a Grouping, layout: &'a StateLayout) -> Placer<'a> {
        let reads = (0..grouping.groups.len()).map(|g| reads(graph, views, grouping, g)).collect();
        let mut in_state = HashMap::new();
        for node in graph.nodes() {
            if let Op::Assign(name) = &node.op {
                in_state.insert(views.get(node.inputs[0]).root, name.to_string());
            }
        }
        let mut parts = HashMap::new();
        for (&node, roots) in &grouping.assembled {
            let Op::Concat { axis } = graph.node(node).op else { continue };
            let whole = Value { node, output: 0 };
            let strides = graph.type_of(whole).shape.strides();
            let mut start = 0;
            for (part, &input) in roots.iter().zip(&graph.node(node).inputs) {
                let shape = graph.type_of(input).shape;
                let offset = start * strides[axis];
                start += shape[axis];
                let view = View { offset, shape, strides: strides.clone() };
                if let Some(view) = view.reshape(&graph.type_of(*part).shape) {
                    parts.insert(*part, (whole, view));
                }
            }
        }
        let (places, deferred) = (HashMap::new(), Vec::new());
        Placer { graph, views, grouping, layout, places, reads, in_state, deferred, parts }
    }

    /// Says where a body's operands and results lie.
    pub fn enclose(&mut self, places: HashMap<String, Location>) {
        self.places = places;
    }

    /// Whether a buffer belongs to the program around a body.
    fn is_outside(&self, buffer: usize) -> bool {
        self.places.values().any(|place| place.buffer == buffer)
    }

    /// The place of a value within the concatenation that it is written into.
    pub fn part(&self, value: Value) -> Option<View> {
        self.parts.get(&value).map(|(_, view)| view.clone())
    }

    /// Places everything. `plans` are the groups' kernels, in `order`.
    pub fn place(&self, order: &[usize], plans: &[Plan], bodies: &Bodies) -> Result<Placement> {
        let mut placement = Placement::default();
        self.place_into(order, plans, bodies, &mut placement)?;
        // Buffers may have grown since a body was placed.
        let mut inner = std::mem::take(&mut placement.bodies);
        inner.values_mut().for_each(|body| body.buffers.clone_from(&placement.buffers));
        placement.bodies = inner;
        Ok(placement)
    }

    /// The same, beside buffers of which some may be there.
    pub(super) fn place_into(
        &self,
        order: &[usize],
        plans: &[Plan],
        bodies: &Bodies,
        placement: &mut Placement,
    ) -> Result<()> {
        self.leaves(placement)?;
        let last = self.last_uses(order);
        for (position, (&group, plan)) in order.iter().zip(plans).enumerate() {
            for value in self.grouping.outputs(self.graph, group) {
                self.place_output(placement, &last, group, position, value)?;
            }
            if let Some(body) = self.grouping.groups[group].anchor.and_then(|anchor| bodies.get(&anchor)) {
                let inner = body.place(self.layout, placement)?;
                placement.bodies.insert(self.grouping.groups[group].anchor.unwrap_or(0), inner);
            }
            let works = plan.workspaces.iter().map(|&bytes| placement.transient(bytes)).collect();
            placement.workspaces.push(works);
        }
        for (root, name) in &self.deferred {
            let copy = (placement.locate(*root)?, self.state(placement, name)?);
            placement.copies.push(copy);
        }
        Ok(())
    }

    fn place_output(
        &self,
        placement: &mut Placement,
        last: &BTreeMap<Value, usize>,
        group: usize,
        position: usize,
        value: Value,
    ) -> Result<()> {
        let whole = self.parts.get(&value).map_or(value, |(whole, _)| *whole);
        if placement.locations.contains_key(&whole) {
            let location = placement.locations[&whole];
            placement.locations.insert(value, location);
            return Ok(());
        }
        let ty = self.graph.type_of(whole);
        let bytes = ty.dtype.bytes(&ty.shape).max(4);
        let location = match self.in_state.get(&whole) {
            Some(name) => self.state(placement, name)?,
            None if self.grouping.cells.holds(whole) => {
                // What is copied into its state in the end is bound by itself.
                placement.cell(self.deferred.iter().any(|(root, _)| *root == whole))
            }
            None => match self.reusable(placement, last, group, position, value, bytes) {
                Some(buffer) => Location { buffer, offset: 0, bytes },
                None => placement.transient(bytes),
            },
        };
        placement.locations.insert(whole, location);
        placement.locations.insert(value, location);
        Ok(())
    }

    /// The buffer of an operand that dies here and is read only at the element that is written.
    fn reusable(
        &self,
        placement: &Placement,
        last: &BTreeMap<Value, usize>,
        group: usize,
        position: usize,
        value: Value,
        bytes: u64,
    ) -> Option<usize> {
        let Group { anchor, .. } = &self.grouping.groups[group];
        if let Some(anchor) = anchor
            && let Op::Scan { body, .. } = &self.graph.node(*anchor).op
            && (value.output as usize) < body.carries()
        {
            return self.first_carry(placement, last, position, value, bytes);
        }
        let fused = anchor.is_none_or(|anchor| {
            anchor != value.node || stored_output(&self.graph.node(anchor).op) == Some(value.output)
        }) && self.grouping.groups[group].column_sums != Some(value.node)
            && !self.parts.contains_key(&value);
        if !fused {
            return None;
        }
        let reads = &self.reads[group];
        let taken = |buffer: usize| {
            let own = self.grouping.outputs(self.graph, group);
            own.iter().any(|output| placement.locations.get(output).is_some_and(|location| location.buffer == buffer))
        };
        reads.iter().find_map(|read| {
            let location = placement.locations.get(&read.root)?;
            let dies = last.get(&read.root) == Some(&position);
            let alone = reads.iter().filter(|other| other.root == read.root).all(|other| other.elementwise);
            let transient = placement.buffers[location.buffer].role == Role::Transient;
            let same_type = self.graph.type_of(read.root).dtype == self.graph.type_of(value).dtype;
            let fits = location.bytes == bytes && same_type && !self.parts.contains_key(&read.root);
            let own = !self.is_outside(location.buffer) && !placement.is_shared(location.buffer);
            (dies && alone && transient && own && fits && !taken(location.buffer)).then_some(location.buffer)
        })
    }

    /// The buffer of a first carry that nobody else reads: the loop goes on in it.
    fn first_carry(
        &self,
        placement: &Placement,
        last: &BTreeMap<Value, usize>,
        position: usize,
        carry: Value,
        bytes: u64,
    ) -> Option<usize> {
        let roots = self.graph.node(carry.node).inputs.into_iter().map(|input| self.views.get(input).root);
        let roots: Vec<Value> = roots.collect();
        let root = roots[carry.output as usize];
        let location = placement.locations.get(&root)?;
        let once = roots.iter().filter(|&&other| other == root).count() == 1;
        let dies = last.get(&root) == Some(&position) && !self.parts.contains_key(&root);
        let transient = placement.buffers[location.buffer].role == Role::Transient;
        (once && dies && transient && location.bytes == bytes).then_some(location.buffer)
    }

    fn state(&self, placement: &mut Placement, name: &str) -> Result<Location> {
        if let Some(place) = self.places.get(name) {
            return Ok(*place);
        }
        let (entry, pieces) = self.layout.find(name).ok_or_else(|| {
            Error::compile(format!("state `{name}`"), "it is used but was not declared to the session".into())
        })?;
        let &[piece] = pieces else {
            return Err(Error::memory(format!(
                "`{name}` {}{} lies in {} pieces because it exceeds the device's binding limit, and a kernel takes it whole; \
                 use a smaller tensor or a device with a larger limit",
                entry.dtype,
                entry.shape,
                pieces.len()
            )));
        };
        let buffer = placement.declare(Role::State(piece.buffer), self.layout.buffers[piece.buffer].bytes);
        if self.grouping.cells.state(name).is_some() {
            placement.shared.insert(buffer);
        }
        Ok(Location { buffer, offset: piece.offset, bytes: piece.bytes.max(4) })
    }

    /// Places states, inputs, scalars and the constants that kernels read from memory.
    fn leaves(&self, placement: &mut Placement) -> Result<()> {
        let anchored = |value: Value| {
            self.grouping
                .users
                .get(&value)
                .is_some_and(|users| users.iter().any(|&user| !is_pointwise(&self.graph.node(user).op)))
        };
        for (index, node) in self.graph.nodes().iter().enumerate() {
            let value = Value { node: index as u32, output: 0 };
            let location = match &node.op {
                Op::State(name) => self.state(placement, name)?,
                Op::Input(name) if node.outputs[0].shape.rank() == 0 => {
                    placement.scalars.push(Scalar { name: name.to_string(), dtype: node.outputs[0].dtype });
                    let buffer =
                        placement.declare(Role::Scalars, (placement.scalars.len() as u64 * 4).next_multiple_of(256));
                    Location { buffer, offset: (placement.scalars.len() as u64 - 1) * 4, bytes: 4 }
                }
                Op::Input(name) => {
                    let bytes = node.outputs[0].dtype.bytes(&node.outputs[0].shape).max(4).next_multiple_of(16);
                    Location { buffer: placement.declare(Role::Input(name.to_string()), bytes), offset: 0, bytes }
                }
                Op::Const(literal) if anchored(value) => {
                    // Each at a boundary of its own, so that it can be bound by itself.
                    placement.constants.resize(placement.constants.len().next_multiple_of(64), 0);
                    placement.constants.push((literal.value() as f32).to_bits());
                    let words = placement.constants.len() as u64;
                    let buffer = placement.declare(Role::Constants, (words * 4).next_multiple_of(256));
                    Location { buffer, offset: (words - 1) * 4, bytes: 4 }
                }
                _ => continue,
            };
            placement.locations.insert(value, location);
        }
        Ok(())
    }

    /// For each value the last position in the order at which it is read; results never die.
    fn last_uses(&self, order: &[usize]) -> BTreeMap<Value, usize> {
        let mut last = BTreeMap::new();
        for (position, &group) in order.iter().enumerate() {
            for value in self.grouping.outputs(self.graph, group) {
                let whole = self.parts.get(&value).map_or(value, |(whole, _)| *whole);
                last.insert(whole, position);
            }
            for read in &self.reads[group] {
                last.insert(read.root, position);
            }
        }
        for &root in self.grouping.results.iter().chain(self.deferred.iter().map(|(root, _)| root)) {
            last.insert(root, usize::MAX);
        }
        last
    }
}
