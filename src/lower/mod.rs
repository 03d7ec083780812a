//! From a graph to a program: kernels chosen, buffers placed, text written.
//!
//! The stages, in order: `legalize` (operands made readable), `views` (movements resolved),
//! `groups` (what shares a kernel), `anchors` (the kernels of each group), `place` (the order, and
//! where values lie), `emit` and `expression` (texts and bindings), `join` (neighbours united).

mod access;
mod anchors;
mod bindings;
mod emit;
mod expression;
mod grouping;
mod groups;
mod heads;
mod indexing;
mod join;
mod legalize;
mod place;
mod pool;
mod reads;
mod sorted;
mod special;
mod views;

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::kernels::Profile;
use crate::passes;
use crate::program::{Dispatch, Io, Kernel, Program, Segment, StateLayout};
use emit::{GroupEmitter, Launch};
use expression::Context;
use place::{Placement, Placer};
use std::collections::HashMap;
use views::Views;

/// Compiles a traced graph for a device: passes, then everything above.
pub fn lower(name: &str, graph: &Graph, layout: &StateLayout, profile: &Profile) -> Result<Program> {
    let graph = legalize::legalize(&passes::run(graph)?);
    if cfg!(debug_assertions) {
        graph.verify()?;
    }
    refuse_nan(&graph)?;
    let views = Views::resolve(&graph);
    let grouping = groups::group(&graph, &views, profile)?;
    let mut placer = Placer::new(&graph, &views, &grouping, layout);
    let order = placer.order()?;
    let plans: Vec<anchors::Plan> = order
        .iter()
        .map(|&group| anchors::plan(&graph, &views, profile, &grouping.groups[group], &|v| placer.part(v)))
        .collect::<Result<_>>()?;
    let placement = placer.place(&order, &plans)?;
    let context = Context { graph: &graph, views: &views, grouping: &grouping, placement: &placement };
    let mut launches = Vec::new();
    for (position, (&index, plan)) in order.iter().zip(&plans).enumerate() {
        let workspaces = &placement.workspaces[position];
        let emitter = GroupEmitter { context: &context, profile, index, workspaces };
        launches.extend(emitter.emit(plan)?);
    }
    launches.extend(placement.copies.iter().map(|&(from, to)| emit::copy(profile, from, to)));
    let launches = join::join(launches.into_iter().filter(|launch| launch.groups > 0).collect());
    assemble(name, &graph, &views, &placement, launches, profile)
}

fn assemble(
    name: &str,
    graph: &Graph,
    views: &Views,
    placement: &Placement,
    launches: Vec<Launch>,
    profile: &Profile,
) -> Result<Program> {
    let mut kernels: Vec<Kernel> = Vec::new();
    let mut known: HashMap<(String, Vec<bool>), usize> = HashMap::new();
    let mut dispatches = Vec::new();
    for launch in launches {
        let writable: Vec<bool> = launch.bindings.iter().map(|(_, write)| *write).collect();
        check_limits(&launch, profile)?;
        let kernel = *known.entry((launch.wgsl.clone(), writable.clone())).or_insert_with(|| {
            let Launch { name, wgsl, workgroup, subgroups, .. } = &launch;
            kernels.push(Kernel {
                name: name.clone(),
                wgsl: wgsl.clone(),
                writable,
                workgroup: *workgroup,
                params_in_storage: profile.params_in_storage(),
                subgroups: *subgroups,
            });
            kernels.len() - 1
        });
        dispatches.push(Dispatch {
            kernel,
            label: launch.label,
            bytes_moved: launch.bindings.iter().map(|(binding, _)| binding.bytes).sum(),
            bindings: launch.bindings.into_iter().map(|(binding, _)| binding).collect(),
            params: launch.params,
            groups: split_groups(launch.groups, profile.max_workgroups),
            flops: launch.flops,
        });
    }
    Ok(Program {
        name: name.into(),
        kernels,
        buffers: placement.buffers.clone(),
        segments: vec![Segment::Gpu(dispatches)],
        inputs: inputs(graph, placement)?,
        scalars: placement.scalars.clone(),
        constants: placement.constants.clone(),
        outputs: outputs(graph, views, placement)?,
    })
}

fn inputs(graph: &Graph, placement: &Placement) -> Result<Vec<Io>> {
    let mut list = Vec::new();
    for (index, node) in graph.nodes().iter().enumerate() {
        let value = Value { node: index as u32, output: 0 };
        if let crate::graph::Op::Input(name) = &node.op
            && node.outputs[0].shape.rank() > 0
        {
            list.push(io(name, graph, value, placement)?);
        }
    }
    Ok(list)
}

fn outputs(graph: &Graph, views: &Views, placement: &Placement) -> Result<Vec<Io>> {
    graph
        .outputs()
        .into_iter()
        .map(|(name, value)| {
            let shape = graph.type_of(value).shape;
            io(&name, graph, views.get(value).root, placement).map(|io| Io { shape, ..io })
        })
        .collect()
}

fn io(name: &str, graph: &Graph, root: Value, placement: &Placement) -> Result<Io> {
    let location = placement.locate(root)?;
    let ty = graph.type_of(root);
    Ok(Io { name: name.into(), dtype: ty.dtype, shape: ty.shape, buffer: location.buffer, offset: location.offset })
}

/// WGSL has no NaN, and a kernel that contains one does not compile.
fn refuse_nan(graph: &Graph) -> Result<()> {
    let nodes = graph.nodes();
    match nodes.iter().find(|node| matches!(&node.op, crate::graph::Op::Const(literal) if literal.value().is_nan())) {
        None => Ok(()),
        Some(_) => Err(Error::Compile {
            what: "a constant".into(),
            message: "it is NaN (such as 0/0 computed while tracing), which shaders cannot hold; use a finite number"
                .into(),
        }),
    }
}

/// Workgroups as a two-dimensional grid where one dimension is not enough.
fn split_groups(groups: u64, most: u32) -> [u32; 2] {
    if groups <= u64::from(most) {
        return [groups as u32, 1];
    }
    let rows = groups.div_ceil(u64::from(most));
    [groups.div_ceil(rows) as u32, rows as u32]
}

/// What the device must grant for a launch.
fn check_limits(launch: &Launch, profile: &Profile) -> Result<()> {
    let refuse = |message: String| Err(Error::Compile { what: launch.label.clone(), message });
    let most = profile.max_storage_buffers - u32::from(profile.params_in_storage());
    if launch.bindings.len() > most as usize {
        return refuse(format!("it binds {} buffers, the device allows {most}", launch.bindings.len()));
    }
    if let Some((binding, _)) = launch.bindings.iter().find(|(binding, _)| binding.bytes > profile.max_binding_bytes) {
        return Err(Error::Memory(format!(
            "{} needs {} bytes in one binding, the device allows {}; make the tensor smaller (batch, context, width)",
            launch.label, binding.bytes, profile.max_binding_bytes
        )));
    }
    if launch.groups.div_ceil(u64::from(profile.max_workgroups)) > u64::from(profile.max_workgroups) {
        return refuse(format!("{} workgroups are more than the device can start", launch.groups));
    }
    Ok(())
}
