//! The bodies of loops: lowered once, whatever the number of steps, into the dispatches of one step.
//!
//! A body is a graph of its own, whose operands and results are states (see [`super::border`]). It goes
//! through the same stages as a program; only its memory is taken from the program around it. Carries are
//! overwritten in place where the order of the kernels allows, and by a copy at the end of a step where not,
//! exactly as states are.

use super::anchors::Plan;
use super::border::{Border, Side};
use super::emit::{self, GroupEmitter, Launch};
use super::expression::Context;
use super::place::{Location, Placement, Placer};
use super::planned::Planned;
use crate::error::Result;
use crate::graph::{Graph, Node, Op, ScanBody, Value};
use crate::kernels::Profile;
use crate::program::StateLayout;
use crate::shape::{Shape, View};
use std::collections::{BTreeMap, HashMap};

/// A body that is ready to be placed.
pub struct Body {
    node: u32,
    scan: Node,
    pub steps: u32,
    carries: usize,
    planned: Planned,
    /// The root outside behind each operand.
    operands: Vec<Value>,
}

/// The bodies of a graph's scans, by node.
pub type Bodies = BTreeMap<u32, Body>;

/// Lowers the body of every scan of a graph as far as can be done without memory.
pub fn bodies(outer: &Planned, layout: &StateLayout, profile: &Profile) -> Result<Bodies> {
    let mut all = Bodies::new();
    for (index, node) in outer.graph.nodes().into_iter().enumerate() {
        if !crate::PAGE
            && let Op::Scan { body, length, reverse } = node.op.clone()
        {
            let sources: Vec<View> = node.inputs.iter().map(|&input| outer.views.get(input).view.clone()).collect();
            let border = border(&body, length, reverse, &sources);
            let operands = node.inputs.iter().map(|&input| outer.views.get(input).root).collect();
            let planned = Planned::new(&traced(&body), &border, layout, profile)?;
            let (node, scan, steps, carries) = (index as u32, node, length as u32, body.carries());
            all.insert(index as u32, Body { node, scan, steps, carries, planned, operands });
        }
    }
    Ok(all)
}

/// The name of an operand as a state of the body.
fn operand_name(body_carries: usize, index: usize) -> String {
    if index < body_carries { format!("carry {index}") } else { format!("operand {index}") }
}

/// The name of a result, of which the carries are operands too.
fn result_name(body_carries: usize, index: usize) -> String {
    if index < body_carries { format!("carry {index}") } else { format!("result {index}") }
}

/// The body as a graph over states.
fn traced(body: &ScanBody) -> Graph {
    let graph = Graph::new();
    let operands: Vec<_> = (0..body.operands())
        .map(|index| {
            let ty = body.operand_type(index);
            graph.state(&operand_name(body.carries(), index), &ty.shape, ty.dtype)
        })
        .collect();
    for (index, result) in body.write(&graph, &operands).into_iter().enumerate() {
        graph.assign(&result_name(body.carries(), index), result);
    }
    graph
}

/// How each operand, given as a view outside, and each result is walked.
fn border(body: &ScanBody, length: usize, reverse: bool, sources: &[View]) -> Border {
    let mut border = Border::default();
    let (carries, slices) = (body.carries(), body.slices());
    let walked = |view: &View| {
        let stride = view.strides[0];
        let inner = View {
            offset: view.offset + if reverse { (length - 1) * stride } else { 0 },
            shape: Shape::from(&view.shape[1..]),
            strides: view.strides[1..].to_vec(),
        };
        Side { view: inner, step: if reverse { (stride as u32).wrapping_neg() } else { stride as u32 } }
    };
    for (index, view) in sources.iter().enumerate() {
        let side = if index < carries {
            Side { view: View::contiguous(&view.shape), step: 0 }
        } else if index < carries + slices {
            walked(view)
        } else {
            Side { view: view.clone(), step: 0 }
        };
        border.insert(operand_name(carries, index), side);
    }
    for index in carries..body.results() {
        let shape = &body.result_type(index).shape;
        let stack: Shape = std::iter::once(length).chain(shape.iter().copied()).collect();
        border.insert(result_name(carries, index), walked(&View::contiguous(&stack)));
    }
    border
}

impl Body {
    /// The kernels of one step.
    pub fn plans(&self) -> &[Plan] {
        &self.planned.plans
    }

    /// Places the body's values among those of the program around it.
    pub fn place(&self, layout: &StateLayout, outer: &mut Placement) -> Result<Placement> {
        let Planned { graph, views, grouping, plans, .. } = &self.planned;
        let mut placer = Placer::new(graph, views, grouping, layout);
        let order = placer.order()?;
        debug_assert_eq!(order, self.planned.order);
        let mut places: HashMap<String, Location> = HashMap::new();
        for (index, &root) in self.operands.iter().enumerate().skip(self.carries) {
            places.insert(operand_name(self.carries, index), outer.locate(root)?);
        }
        for index in 0..self.scan.outputs.len() {
            let value = Value { node: self.node, output: index as u32 };
            places.insert(result_name(self.carries, index), outer.locate(value)?);
        }
        placer.enclose(places);
        let mut placement = outer.inner();
        placer.place_into(&order, plans, &Bodies::new(), &mut placement)?;
        outer.take_back(&placement);
        Ok(placement)
    }

    /// Copies of the first carries to where the loop keeps them.
    pub fn entry(&self, profile: &Profile, outer: &Placement) -> Result<Vec<Launch>> {
        let mut copies = Vec::new();
        for index in 0..self.carries {
            let from = outer.locate(self.operands[index])?;
            let to = outer.locate(Value { node: self.node, output: index as u32 })?;
            if (from.buffer, from.offset) != (to.buffer, to.offset) && self.scan.outputs[index].shape.numel() > 0 {
                copies.push(emit::copy(profile, from, to));
            }
        }
        Ok(copies)
    }

    /// The launches of one step.
    pub fn launches(&self, profile: &Profile, placement: &Placement) -> Result<Vec<Launch>> {
        let Planned { graph, views, grouping, order, plans } = &self.planned;
        let context = Context { graph, views, grouping, placement };
        let mut launches = Vec::new();
        for (position, (&index, plan)) in order.iter().zip(plans).enumerate() {
            let workspaces = &placement.workspaces[position];
            launches.extend(GroupEmitter { context: &context, profile, index, workspaces }.emit(plan)?);
        }
        launches.extend(placement.copies.iter().map(|&(from, to)| emit::copy(profile, from, to)));
        launches.retain(|launch| launch.groups > 0);
        Ok(launches)
    }
}
