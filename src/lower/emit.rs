//! From a placed group to dispatches: hooks and prelude around each stage's body, bindings, parameters.

use super::access::{Access, accesses};
use super::anchors::{Hook, Plan, PortSource, Stage, stored_value};
use super::bindings::alias;
use super::expression::{Context, Emitter, Fused, Grid};
use super::grouping::Group;
use super::kernel_text::Text;
use super::place::Location;
use crate::error::{Error, Result};
use crate::graph::{Op, Value};
use crate::kernels::{Element, KernelSpec, Port, Profile};
use crate::kernels::{elementwise, loads};
use crate::program::Binding;
use crate::shape::{Shape, View, collapse};
use std::collections::HashMap;

/// A dispatch before kernels are numbered.
#[derive(Debug, Clone)]
pub struct Launch {
    pub name: String,
    pub label: String,
    pub wgsl: String,
    pub bindings: Vec<(Binding, bool)>,
    pub params: Vec<u32>,
    pub workgroup: u32,
    pub groups: u64,
    pub flops: u64,
    pub subgroups: bool,
    /// Words of `params` that grow in each step of a loop, and by how much.
    pub steps: Vec<(usize, u32)>,
    /// For fused code that walks its operands in step: what joining neighbours needs.
    pub linear: Option<Linear>,
}

/// A launch over `len` consecutive elements; its first parameter is `len`.
#[derive(Debug, Clone, Copy)]
pub struct Linear {
    pub len: u64,
    pub width: u32,
}

/// First letters of what a kernel's hooks bind: computed operands, of which a product has at most two, before what it stores.
const TAGS: [&str; 3] = ["m", "n", "o"];

/// Emits the launches of one group.
pub struct GroupEmitter<'a> {
    pub context: &'a Context<'a>,
    pub profile: &'a Profile,
    pub index: usize,
    pub workspaces: &'a [Location],
}

impl GroupEmitter<'_> {
    pub(super) fn group(&self) -> &Group {
        &self.context.grouping.groups[self.index]
    }

    /// All launches of a plan, in order.
    pub fn emit(&self, plan: &Plan) -> Result<Vec<Launch>> {
        if plan.by_runs {
            return self.squares(plan);
        }
        plan.stages.iter().map(|stage| self.stage(stage)).collect()
    }

    pub(super) fn stage(&self, stage: &Stage) -> Result<Launch> {
        let mut stage = stage.clone();
        let mut fused = self.computed_operands(&mut stage)?;
        let width = stage.spec.width;
        match stage.hook {
            Hook::None => {}
            Hook::Store => fused.push(self.store(width, TAGS[fused.len()], self.shared(&fused))?),
            Hook::Element { stores } => {
                fused.push(self.element(width)?);
                if stores {
                    fused.push(self.store(width, TAGS[1], self.shared(&fused))?);
                }
            }
            Hook::Pointwise => {
                stage.spec = self.pointwise_spec()?;
                fused.push(self.pointwise(stage.spec.width)?);
            }
        }
        let ports = self.ports(&stage)?;
        self.add_to_states(&mut stage);
        self.launch(stage.spec, fused, ports, stage.hook == Hook::Pointwise)
    }

    /// Operands that are not stored (`operands.rs`): a function in place of each load, and no port.
    fn computed_operands(&self, stage: &mut Stage) -> Result<Vec<Fused>> {
        let Context { graph, views, grouping, .. } = self.context;
        let mut fused: Vec<Fused> = Vec::new();
        let Some(node) = self.group().anchor.map(|anchor| graph.node(anchor)).filter(|node| node.op == Op::MatMul)
        else {
            return Ok(fused);
        };
        let ports = std::mem::take(&mut stage.spec.inputs).into_iter().zip(std::mem::take(&mut stage.inputs));
        for (port, source) in ports {
            let operand = match source {
                PortSource::Operand(index) => Some(views.get(node.inputs[index]).root),
                PortSource::Output(_) | PortSource::ColumnSums | PortSource::Workspace(_) => None,
            };
            let Some(root) = operand.filter(|&root| grouping.is_inline(graph, root)) else {
                stage.spec.inputs.push(port);
                stage.inputs.push(source);
                continue;
            };
            let (shape, width) = (graph.type_of(root).shape, stage.spec.width);
            let mut emitter = Emitter::new(self.context, shape.clone(), Grid::Linear, width, TAGS[fused.len()]);
            emitter.bound = self.shared(&fused);
            let name = emitter.value(root, &View::contiguous(&shape))?;
            let mut one = emitter.finish(&format!("fn {}_element(e: u32) -> F", port.name), &format!("return {name};"));
            let read = one.bindings.first().and_then(|bound| bound.array.clone());
            let read = read.unwrap_or_else(|| hook_name(fused.len(), 0));
            one.text += &loads::computed(&mut stage.spec, &port, &read);
            fused.push(one);
        }
        Ok(fused)
    }

    /// Where each port of a stage lies, and whether it is written.
    fn ports(&self, stage: &Stage) -> Result<Vec<(Port, Location, bool)>> {
        let mut list = Vec::new();
        for (port, source) in stage.spec.inputs.iter().zip(&stage.inputs) {
            list.push((port.clone(), self.port(*source)?, false));
        }
        for (port, source) in stage.spec.outputs.iter().zip(&stage.outputs) {
            list.push((port.clone(), self.port(*source)?, true));
        }
        Ok(list)
    }

    fn port(&self, source: PortSource) -> Result<Location> {
        match source {
            PortSource::Operand(index) => {
                let input = self.context.graph.node(self.group().anchor.unwrap_or(0)).inputs[index];
                self.context.placement.locate(self.context.views.get(input).root)
            }
            PortSource::Workspace(index) => Ok(self.workspaces[index]),
            PortSource::Output(_) | PortSource::ColumnSums => {
                self.context.placement.locate(self.context.grouping.home(self.beside(source)))
            }
        }
    }

    /// What a body writes beside its main result.
    fn beside(&self, source: PortSource) -> Value {
        let Group { anchor, column_sums, .. } = self.group();
        match source {
            PortSource::Output(output) => Value { node: anchor.unwrap_or(0), output },
            _ => Value { node: column_sums.unwrap_or(0), output: 0 },
        }
    }

    /// Lets a body add to what it would overwrite, where that is a state.
    fn add_to_states(&self, stage: &mut Stage) {
        let own = |source: &PortSource| matches!(source, PortSource::Output(_) | PortSource::ColumnSums);
        for (port, &source) in stage.outputs.iter().enumerate().filter(|(_, source)| own(source)) {
            let value = self.beside(source);
            if self.context.grouping.home(value) != value {
                stage.spec.add_to(port);
            }
        }
    }

    /// The buffers of scalars that earlier hooks of a kernel bind. A later one reaches them through the same binding.
    fn shared(&self, earlier: &[Fused]) -> Vec<(usize, String)> {
        let mut shared: Vec<(usize, String)> = Vec::new();
        for (hook, fused) in earlier.iter().enumerate() {
            for (m, bound) in fused.bindings.iter().enumerate() {
                let buffer = bound.location.buffer;
                if self.context.placement.is_shared(buffer) && !shared.iter().any(|(known, _)| *known == buffer) {
                    shared.push((buffer, hook_name(hook, m)));
                }
            }
        }
        shared
    }

    /// `store`: the epilogue, and the stores of what others need. `bound` are buffers of scalars that are bound already.
    fn store(&self, width: u32, tag: &'static str, bound: Vec<(usize, String)>) -> Result<Fused> {
        let group = self.group();
        let Some(value) = stored_value(self.context.graph, group) else {
            return Err(Error::compile("a kernel".into(), "stores nothing (please report this)".into()));
        };
        let mut emitter = Emitter::new(self.context, group.shape.clone(), Grid::Store, width, tag);
        emitter.bound = bound;
        emitter.given(value, "value");
        self.compute(&mut emitter, &group.members)?;
        let ty = self.context.graph.type_of(value);
        Ok(emitter.finish(&format!("fn store(batch: u32, row: u32, col: u32, value: {})", alias(ty.dtype)), ""))
    }

    /// Computes nodes and stores those of the group's outputs that fused code writes.
    fn compute(&self, emitter: &mut Emitter<'_>, nodes: &[u32]) -> Result<()> {
        let grouping = self.context.grouping;
        let outputs = grouping.outputs(self.context.graph, self.index);
        let mut nodes = nodes.to_vec();
        crate::sort::sort(&mut nodes);
        // Everything is read before anything is stored: an output may take an operand's place.
        let mut stores: Vec<(Value, String)> = Vec::new();
        if let Some(value) = stored_value(self.context.graph, self.group()) {
            stores.push((value, "value".into()));
        }
        for node in nodes {
            stores.push((Value { node, output: 0 }, emitter.node(node)?));
        }
        for (value, name) in stores.into_iter().filter(|(value, _)| outputs.contains(value)) {
            emitter.store(value, &name)?;
        }
        Ok(())
    }

    /// `element(o, r)` of a reduction: its operand with fused producers.
    fn element(&self, width: u32) -> Result<Fused> {
        let group = self.group();
        let node = self.context.graph.node(group.anchor.unwrap_or(0));
        let Op::Reduce { axes, .. } = &node.op else {
            return Err(Error::compile(node.op.name().into(), "is not a reduction".into()));
        };
        let source = self.context.views.get(node.inputs[0]);
        let grid = Grid::Reduce { axes: axes.clone() };
        let mut emitter = Emitter::new(self.context, source.view.shape.clone(), grid, width, "m");
        let mut nodes = group.prologue.clone();
        crate::sort::sort(&mut nodes);
        for &member in &nodes {
            emitter.node(member)?;
        }
        let name = emitter.value(source.root, &source.view)?;
        Ok(emitter.finish("fn element(o: u32, r: u32) -> E", &format!("return {name};")))
    }

    /// The shell of a pointwise group: four elements at a time where rows allow it.
    fn pointwise_spec(&self) -> Result<KernelSpec> {
        let group = self.group();
        let width = if self.four_at_a_time(&group.shape) { 4 } else { 1 };
        Ok(crate::kernels::elementwise::pointwise(group.shape.numel(), width))
    }

    fn four_at_a_time(&self, shape: &Shape) -> bool {
        let group = self.group();
        if shape.numel() == 1 || !shape.numel().is_multiple_of(4) && self.is_walked() {
            // A last vector that is not full would reach into the next step's elements.
            return false;
        }
        let parts: Vec<View> = group
            .members
            .iter()
            .filter_map(|&node| self.context.grouping.part(self.context.graph, Value { node, output: 0 }))
            .filter_map(|(_, view)| view.reshape(shape))
            .collect();
        if parts.is_empty() && group.members.iter().all(|&member| self.in_step(member, shape)) {
            // Buffers are whole vectors long: a last vector that is not full computes on padding, which
            // in a state must stay zero.
            return shape.numel().is_multiple_of(4) || self.keeps_zeros();
        }
        let inner = (0..shape.rank()).rev().find(|&axis| shape[axis] != 1);
        if inner.is_some_and(|axis| parts.iter().any(|part| part.strides[axis] != 1)) {
            return false;
        }
        let mut strides: Vec<Vec<usize>> = vec![shape.strides()];
        strides.extend(parts.into_iter().map(|part| part.strides));
        for &member in &group.members {
            let plain = matches!(self.context.graph.node(member).op, Op::Pointwise(_) | Op::Cast(_));
            let walked: Vec<Option<View>> = accesses(self.context.graph, self.context.views, member)
                .iter()
                .map(|access| access.view.reshape(shape))
                .collect();
            for view in walked.into_iter().flatten() {
                let inner = (0..shape.rank()).rev().find(|&axis| shape[axis] != 1).map_or(0, |axis| view.strides[axis]);
                // Indices computed at run time must be one for all four lanes, save what is read.
                if !plain && inner != 0 && !matches!(self.context.graph.node(member).op, Op::Gather | Op::Pad { .. }) {
                    return false;
                }
                strides.push(view.strides);
            }
            if matches!(self.context.graph.node(member).op, Op::Gather) && !self.row_gather(member, shape) {
                return false;
            }
        }
        let borrowed: Vec<&[usize]> = strides.iter().map(Vec::as_slice).collect();
        let (collapsed, _) = collapse(shape, &borrowed);
        collapsed.last().is_none_or(|inner| inner.is_multiple_of(4)) && shape.numel().is_multiple_of(4)
    }

    /// Whether the group reads or writes places that move from step to step of a loop.
    fn is_walked(&self) -> bool {
        let Context { graph, views, .. } = self.context;
        let moves = |access: &Access| access.root.is_some_and(|root| views.walk(root).moves());
        self.group().members.iter().any(|&member| {
            views.walk(Value { node: member, output: 0 }).moves() || accesses(graph, views, member).iter().any(moves)
        })
    }

    /// The offsets of a product's operands that move from step to step of a loop.
    fn operand_steps(&self) -> Vec<(String, u32)> {
        let Context { graph, views, .. } = self.context;
        let Some(node) = self.group().anchor.map(|anchor| graph.node(anchor)) else { return vec![] };
        if node.op != Op::MatMul {
            return vec![];
        }
        let step = |index: usize| views.walk(views.get(node.inputs[index]).root).step;
        let offsets = [("a_offset", step(0)), ("b_offset", step(1))];
        offsets.into_iter().filter(|(_, step)| *step != 0).map(|(name, step)| (name.to_string(), step)).collect()
    }

    /// Whether zeros in all states give zeros in all results, whatever the scalars, and nothing else is read: then the
    /// gaps between the tensors of a flat buffer, which are zero, may be computed along. Tried with three sets of scalars.
    fn keeps_zeros(&self) -> bool {
        let outputs = self.context.grouping.outputs(self.context.graph, self.index);
        [0.37, 1.0, 2.9].into_iter().all(|scalar| {
            let mut known = HashMap::new();
            outputs.iter().all(|&value| self.at_zero(value, scalar, &mut known) == Some(0.0))
        })
    }

    /// A value where all tensors are zero and all scalars are `scalar`; `None` if that cannot be told.
    fn at_zero(&self, value: Value, scalar: f64, known: &mut HashMap<Value, f64>) -> Option<f64> {
        if let Some(&result) = known.get(&value) {
            return Some(result);
        }
        let node = self.context.graph.node(value.node);
        let own = self.context.grouping.group_of[value.node as usize];
        let fused = own == Some(self.index) || own.is_none();
        let result = match &node.op {
            Op::Const(literal) => literal.value(),
            Op::Pointwise(op) if fused => {
                let operands: Option<Vec<f64>> = node
                    .inputs
                    .iter()
                    .map(|&input| self.at_zero(self.context.views.get(input).root, scalar, known))
                    .collect();
                op.folded(&operands?)?
            }
            Op::Cast(_) if fused => self.at_zero(self.context.views.get(node.inputs[0]).root, scalar, known)?,
            Op::Iota { .. } | Op::RandomBits { .. } => return None,
            _ if self.context.graph.type_of(value).shape.numel() == 1 => scalar,
            // Only the gaps of states are known to be zero; behind another tensor lies whatever was there before.
            Op::State(_) => 0.0,
            _ => return None,
        };
        known.insert(value, result);
        Some(result)
    }

    /// Whether a node reads only scalars and the element that it computes.
    fn in_step(&self, member: u32, shape: &Shape) -> bool {
        matches!(self.context.graph.node(member).op, Op::Pointwise(_) | Op::Cast(_))
            && accesses(self.context.graph, self.context.views, member).iter().all(|Access { root, view }| {
                let leaf = root.map(|root| self.context.graph.node(root.node).op);
                let made = matches!(leaf, Some(Op::Iota { .. } | Op::RandomBits { .. }));
                let whole = view.is_contiguous() && view.offset == 0 && view.shape.numel() == shape.numel();
                view.strides.iter().all(|&stride| stride == 0) || view.shape.numel() == 1 || (whole && !made)
            })
    }

    /// A gather whose index is the same for four neighbours.
    fn row_gather(&self, member: u32, shape: &Shape) -> bool {
        let index = &accesses(self.context.graph, self.context.views, member)[0];
        let inner = (0..shape.rank()).rev().find(|&axis| shape[axis] != 1);
        match (index.view.reshape(shape), inner) {
            (Some(view), Some(axis)) => view.strides[axis] == 0,
            _ => false,
        }
    }

    fn pointwise(&self, width: u32) -> Result<Fused> {
        let group = self.group();
        let mut emitter = Emitter::new(self.context, group.shape.clone(), Grid::Linear, width, "m");
        self.compute(&mut emitter, &group.members)?;
        Ok(emitter.finish("fn element(e: u32)", ""))
    }

    pub(super) fn launch(
        &self,
        spec: KernelSpec,
        fused: Vec<Fused>,
        ports: Vec<(Port, Location, bool)>,
        linear: bool,
    ) -> Result<Launch> {
        let mut text = Text::new(&spec, &fused);
        let mut bindings: Vec<(Binding, bool)> = Vec::new();
        for (port, location, write) in &ports {
            text.binding(port.name, port.element.wgsl());
            // An array of vectors holds at least one, even of an empty tensor.
            let unit = match port.element {
                Element::Wide if spec.width == 4 => 16,
                Element::F32x4 | Element::I32x4 | Element::U32x4 => 16,
                Element::U32x2 | Element::F16x4 => 8,
                Element::Wide | Element::F32 | Element::F16 | Element::I32 | Element::U32 => 4,
            };
            let bytes = location.bytes.next_multiple_of(unit);
            bindings.push((binding(Location { bytes, ..*location }), *write));
        }
        for (index, part) in fused.iter().enumerate() {
            for (m, bound) in part.bindings.iter().enumerate() {
                if let Some(known) = bound.array.as_ref().and_then(|name| text.position(name)) {
                    bindings[known].1 |= bound.write;
                    continue;
                }
                text.binding(&hook_name(index, m), &bound.array_type());
                bindings.push((binding(Location { bytes: bound.bytes(), ..bound.location }), bound.write));
            }
        }
        // A buffer that is written must be bound `read_write` everywhere in the dispatch.
        let written: Vec<usize> = bindings.iter().filter(|(_, write)| *write).map(|(bound, _)| bound.buffer).collect();
        for (bound, write) in &mut bindings {
            *write |= written.contains(&bound.buffer);
        }
        self.check_overlap(&spec, &bindings)?;
        let modes: Vec<bool> = bindings.iter().map(|(_, write)| *write).collect();
        let params: Vec<u32> = text.params.iter().map(|(_, param)| param.bits()).collect();
        let stepped = self.operand_steps().into_iter().chain(fused.iter().flat_map(|part| part.steps.iter().cloned()));
        let word = |name: &str| text.params.iter().position(|(known, _)| known == name);
        let steps: Vec<(usize, u32)> =
            stepped.filter_map(|(name, step)| word(&name).map(|word| (word, step))).collect();
        // Of one element, a scalar cannot be told from a tensor, and a longer launch would have to.
        let joins =
            linear && self.group().shape.numel() > 1 && self.keeps_zeros() && fused.iter().all(|part| part.linear);
        Ok(Launch {
            name: spec.name.clone(),
            label: self.label(),
            wgsl: text.finish(&spec, &fused, &modes, self.profile),
            bindings,
            params,
            workgroup: spec.workgroup,
            groups: spec.groups,
            flops: spec.flops,
            subgroups: spec.parts.contains(&"reduce_subgroup")
                || ["subgroup", "quadBroadcast"].iter().any(|word| spec.body.contains(word)),
            steps,
            linear: joins.then(|| Linear { len: self.group().shape.numel() as u64, width: spec.width }),
        })
    }

    /// Two bindings of one dispatch may share bytes only when both are read.
    fn check_overlap(&self, spec: &KernelSpec, bindings: &[(Binding, bool)]) -> Result<()> {
        for (i, (a, write_a)) in bindings.iter().enumerate() {
            for (b, write_b) in &bindings[i + 1..] {
                let overlap = a.buffer == b.buffer && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
                if overlap && (*write_a || *write_b) {
                    return Err(Error::compile(
                        format!("kernel `{}` for {}", spec.name, self.label()),
                        format!(
                            "it would read and write the same memory through two bindings (please report this): {bindings:?}"
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    fn label(&self) -> String {
        let group = self.group();
        let node = group.anchor.or(group.members.last().copied()).unwrap_or(0);
        let node = self.context.graph.node(node);
        let scope = if node.scope.is_empty() { String::new() } else { format!("{}/", node.scope) };
        format!("{scope}{}", node.op.name())
    }
}

/// Copies whole words from one place to another.
pub fn copy(profile: &Profile, from: Location, to: Location) -> Launch {
    let spec = elementwise::copy((to.bytes / 4) as usize);
    let mut text = Text::new(&spec, &[]);
    spec.inputs.iter().chain(&spec.outputs).for_each(|port| text.binding(port.name, port.element.wgsl()));
    Launch {
        name: spec.name.clone(),
        label: "assign".into(),
        wgsl: text.finish(&spec, &[], &[false, true], profile),
        bindings: vec![(binding(Location { bytes: to.bytes, ..from }), false), (binding(to), true)],
        params: text.params.iter().map(|(_, param)| param.bits()).collect(),
        workgroup: spec.workgroup,
        groups: spec.groups,
        flops: 0,
        subgroups: false,
        steps: vec![],
        linear: None,
    }
}

fn binding(location: Location) -> Binding {
    Binding { buffer: location.buffer, offset: location.offset, bytes: location.bytes.next_multiple_of(4) }
}

fn hook_name(hook: usize, m: usize) -> String {
    format!("{}{m}", TAGS[hook])
}
