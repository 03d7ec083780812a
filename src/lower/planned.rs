//! A graph on its way to a program, as far as can be gone without memory: its groups in order, each with its kernels.
//!
//! Programs and the bodies of loops go the same way to here.

use super::anchors::{self, Plan};
use super::body::{self, Bodies};
use super::border::Border;
use super::grouping::Grouping;
use super::groups;
use super::legalize::legalize;
use super::place::Placer;
use super::split;
use super::views::Views;
use crate::error::Result;
use crate::graph::{Graph, Node, Op, Value, describe};
use crate::kernels::Profile;
use crate::kernels::attention::{self, AttentionShape};
use crate::kernels::matmul::Matmul;
use crate::kernels::profile::UNITS;
use crate::passes;
use crate::program::StateLayout;

/// Groups in the order of their kernels, and these kernels.
pub struct Planned {
    pub graph: Graph,
    pub views: Views,
    pub grouping: Grouping,
    pub order: Vec<usize>,
    pub plans: Vec<Plan>,
}

impl Planned {
    /// Runs the passes and everything up to the choice of kernels. What the device cannot bind is split, if there is any.
    pub fn new(graph: &Graph, border: &Border, layout: &StateLayout, profile: &Profile) -> Result<Planned> {
        let graph = passes::run(graph)?;
        let planned = Planned::of(&graph, border, layout, profile)?;
        if border.is_loop() || planned.unbindable(layout, profile).is_none() {
            return Ok(planned);
        }
        let parts = split::split(&graph, layout, profile.max_binding_bytes)?;
        let planned = Planned::of(&parts, border, layout, profile)?;
        match planned.unbindable(layout, profile) {
            None => Ok(planned),
            Some(value) => {
                let (node, ty) = (planned.graph.node(value.node), planned.graph.type_of(value));
                let scope = if node.scope.is_empty() { String::new() } else { format!(" of {}", node.scope) };
                let what = format!("`{}`{scope}, {ty},", describe(&node.op));
                Err(split::too_large(&what, &ty, profile.max_binding_bytes))
            }
        }
    }

    /// The same for a graph that the passes are through with.
    fn of(graph: &Graph, border: &Border, layout: &StateLayout, profile: &Profile) -> Result<Planned> {
        let graph = legalize(graph, border, profile);
        if cfg!(debug_assertions) {
            graph.verify()?;
        }
        super::refuse_nan(&graph)?;
        let views = Views::resolve(&graph, border);
        let grouping = groups::group(&graph, &views, (!border.is_loop()).then_some(layout), profile)?;
        let mut placer = Placer::new(&graph, &views, &grouping, layout);
        let order = placer.order()?;
        let plan = |&group: &usize| {
            anchors::plan(&graph, &views, profile, &grouping.groups[group], &|value| placer.part(value))
        };
        let plans = order.iter().map(plan).collect::<Result<_>>()?;
        Ok(Planned { graph, views, grouping, order, plans })
    }

    /// The first stored value that a kernel cannot bind whole.
    fn unbindable(&self, layout: &StateLayout, profile: &Profile) -> Option<Value> {
        let Planned { graph, grouping, .. } = self;
        let leaf = |node: &Node| match &node.op {
            Op::State(name) => layout.find(name).is_some_and(|(_, pieces)| pieces.len() > 1),
            Op::Input(_) => node.outputs[0].dtype.bytes(&node.outputs[0].shape) > profile.max_binding_bytes,
            _ => false,
        };
        let leaves = graph.nodes().into_iter().enumerate().filter(|(_, node)| leaf(node));
        let leaves = leaves.map(|(index, _)| Value { node: index as u32, output: 0 });
        let computed = (0..grouping.groups.len()).flat_map(|index| grouping.outputs(graph, index));
        let wholes = grouping.assembled.keys().map(|&node| Value { node, output: 0 });
        let exceeds = |value: &Value| {
            let ty = graph.type_of(*value);
            ty.dtype.bytes(&ty.shape) > profile.max_binding_bytes
        };
        leaves.chain(computed.chain(wholes).filter(exceeds)).min()
    }
}

/// What programs compute of which there are several kernels, and how often in a run: what can be measured, and chosen by
/// [`crate::kernels::Choices`].
#[derive(Debug, Clone, Default)]
pub struct Tunable {
    /// Matrix products, and convolutions.
    pub products: Vec<(Matmul, u64)>,
    /// Attention of which there is more than one tier, forward with what is backward.
    pub attentions: Vec<(AttentionShape, u64)>,
}

impl Tunable {
    /// What a program computes.
    pub fn of(graph: &Graph, layout: &StateLayout, profile: &Profile) -> Result<Tunable> {
        let planned = Planned::new(graph, &Border::default(), layout, profile)?;
        let bodies: Bodies = body::bodies(&planned, layout, profile)?;
        let inner = bodies.values().flat_map(|body| body.plans().iter().map(|plan| (plan, u64::from(body.steps))));
        let mut found = Tunable::default();
        for (plan, times) in planned.plans.iter().map(|plan| (plan, 1)).chain(inner) {
            let several = plan.attention.filter(|shape| UNITS && shape.pairs() > 0);
            let several = several.filter(|shape| attention::candidates(profile, shape).len() > 1);
            found.add(Tunable {
                products: plan.product.iter().map(|product| (product.clone(), times)).collect(),
                attentions: several.iter().map(|&shape| (shape, times)).collect(),
            });
        }
        Ok(found)
    }

    /// Adds what another program computes. Attentions that share a name share a choice.
    pub fn add(&mut self, other: Tunable) {
        join(&mut self.products, other.products, |a, b| a == b);
        if UNITS {
            join(&mut self.attentions, other.attentions, |a, b| a.name() == b.name());
        }
    }
}

fn join<T>(all: &mut Vec<(T, u64)>, others: Vec<(T, u64)>, same: impl Fn(&T, &T) -> bool) {
    for (other, times) in others {
        match all.iter_mut().find(|(known, _)| same(known, &other)) {
            Some((_, total)) => *total += times,
            None => all.push((other, times)),
        }
    }
}
