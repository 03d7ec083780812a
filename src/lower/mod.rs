//! From a graph to a program: kernels chosen, buffers placed, text written.
//!
//! The stages, in order: `split` (what the device cannot bind, in parts), `legalize` (operands made readable), `views` (movements resolved),
//! `groups` (what shares a kernel; `operands`: what a product computes as it reads), `anchors` (the kernels of each group), `order` (which runs
//! first), `place` (which values share a buffer), `emit`, `expression` and `kernel_text` (texts and bindings), `join` (neighbours
//! united), `slabs` (lifetimes packed into memory). The body of a loop goes through them by itself (`body`), and becomes a segment that
//! is repeated.

mod access;
mod anchors;
mod beside;
mod bindings;
mod body;
mod border;
mod cells;
mod chunks;
mod convolve;
mod cost;
mod emit;
mod expression;
mod grouping;
mod groups;
mod heads;
mod indexing;
mod join;
mod kernel_text;
mod legalize;
mod operands;
mod order;
mod packing;
mod place;
mod planned;
mod reads;
mod recompute;
mod replay;
mod slabs;
mod sorted;
mod special;
mod split;
mod squares;
mod views;

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::kernels::Profile;
use crate::program::{Dispatch, Io, Kernel, ParamStep, Program, Segment, StateLayout, grid};
use border::Border;
use emit::{GroupEmitter, Launch};
use expression::Context;
use place::{Placement, Placer};
use planned::Planned;
pub use planned::Tunable;
use std::collections::HashMap;
use views::Views;

pub use cost::Rates;
pub use recompute::{MOST_EXTRA, Recompute, Recomputed, recompute};
pub use slabs::pack;

/// Compiles a traced graph for a device: passes, then everything above.
pub fn lower(name: &str, graph: &Graph, layout: &StateLayout, profile: &Profile) -> Result<Program> {
    let mut program = unpacked(name, graph, layout, profile)?;
    pack(std::slice::from_mut(&mut program), profile);
    Ok(program)
}

/// The same without its last stage: each transient value has a buffer to itself, so that its lifetime can be read off. Programs
/// that share their memory are packed together by [`pack`].
pub fn unpacked(name: &str, graph: &Graph, layout: &StateLayout, profile: &Profile) -> Result<Program> {
    let planned = Planned::new(graph, &Border::default(), layout, profile)?;
    let bodies = body::bodies(&planned, layout, profile)?;
    let Planned { graph, views, grouping, order, plans } = &planned;
    let mut placer = Placer::new(graph, views, grouping, layout);
    placer.order()?;
    let placement = placer.place(order, plans, &bodies)?;
    let context = Context { graph, views, grouping, placement: &placement };
    let mut stretches = vec![Stretch { steps: None, launches: vec![] }];
    for (position, (&index, plan)) in order.iter().zip(plans).enumerate() {
        let anchor = grouping.groups[index].anchor;
        if let Some((body, inner)) = anchor.and_then(|node| bodies.get(&node).zip(placement.bodies.get(&node))) {
            stretches.extend([
                Stretch { steps: None, launches: body.entry(profile, &placement)? },
                Stretch { steps: Some(body.steps), launches: body.launches(profile, inner)? },
                Stretch { steps: None, launches: vec![] },
            ]);
            continue;
        }
        let workspaces = &placement.workspaces[position];
        let emitter = GroupEmitter { context: &context, profile, index, workspaces };
        last(&mut stretches).extend(emitter.emit(plan)?);
    }
    last(&mut stretches).extend(placement.copies.iter().map(|&(from, to)| emit::copy(profile, from, to)));
    assemble(name, graph, views, &placement, united(stretches), profile)
}

/// Launches in order, once or in each step of a loop.
struct Stretch {
    steps: Option<u32>,
    launches: Vec<Launch>,
}

fn last(stretches: &mut Vec<Stretch>) -> &mut Vec<Launch> {
    if stretches.last().is_none_or(|stretch| stretch.steps.is_some()) {
        stretches.push(Stretch { steps: None, launches: vec![] });
    }
    let end = stretches.len() - 1;
    &mut stretches[end].launches
}

/// Without empty stretches and launches, and neighbouring launches joined where they go on.
fn united(stretches: Vec<Stretch>) -> Vec<Stretch> {
    let mut united: Vec<Stretch> = Vec::new();
    for Stretch { steps, launches } in stretches {
        let launches = launches.into_iter().filter(|launch| launch.groups > 0);
        match steps {
            None => last(&mut united).extend(launches),
            Some(_) => united.push(Stretch { steps, launches: launches.collect() }),
        }
    }
    let joined = |Stretch { steps, launches }| match steps {
        None => Stretch { steps, launches: join::join(launches) },
        Some(_) => Stretch { steps, launches },
    };
    united.into_iter().map(joined).filter(|stretch| !stretch.launches.is_empty()).collect()
}

fn assemble(
    name: &str,
    graph: &Graph,
    views: &Views,
    placement: &Placement,
    stretches: Vec<Stretch>,
    profile: &Profile,
) -> Result<Program> {
    let mut numbered = Numbered::default();
    let mut segments = Vec::new();
    for Stretch { steps, launches } in stretches {
        let stepped = |(dispatch, launch): (usize, &Launch)| {
            let one = |&(word, step): &(usize, u32)| ParamStep { dispatch, word, step };
            launch.steps.iter().map(one).collect::<Vec<_>>()
        };
        let param_steps: Vec<ParamStep> = launches.iter().enumerate().flat_map(stepped).collect();
        let dispatches =
            launches.into_iter().map(|launch| numbered.dispatch(launch, profile)).collect::<Result<Vec<_>>>()?;
        segments.push(match steps {
            None => Segment::Gpu(dispatches),
            Some(count) => Segment::Repeat { count, body: dispatches, steps: param_steps },
        });
    }
    if segments.is_empty() {
        segments.push(Segment::Gpu(vec![]));
    }
    Ok(Program {
        name: name.into(),
        kernels: numbered.kernels,
        buffers: placement.buffers.clone(),
        segments,
        inputs: inputs(graph, placement)?,
        scalars: placement.scalars.clone(),
        constants: placement.constants.clone(),
        outputs: outputs(graph, views, placement)?,
        // Known when memory is shared out.
        expired: Vec::new(),
    })
}

/// The kernels of a program so far: one for each text.
#[derive(Default)]
struct Numbered {
    kernels: Vec<Kernel>,
    known: HashMap<(String, Vec<bool>), usize>,
}

impl Numbered {
    fn dispatch(&mut self, launch: Launch, profile: &Profile) -> Result<Dispatch> {
        let Numbered { kernels, known } = self;
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
                foreign: false,
                subgroups: *subgroups,
            });
            kernels.len() - 1
        });
        Ok(Dispatch {
            kernel,
            label: launch.label,
            bytes_moved: launch.bindings.iter().map(|(binding, _)| binding.bytes).sum(),
            bindings: launch.bindings.into_iter().map(|(binding, _)| binding).collect(),
            params: launch.params,
            groups: grid(launch.groups, profile.max_workgroups),
            flops: launch.flops,
        })
    }
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
        Some(_) => Err(Error::compile(
            "a constant".into(),
            "it is NaN (such as 0/0 computed while tracing), which shaders cannot hold; use a finite number".into(),
        )),
    }
}

/// What the device must grant for a launch.
fn check_limits(launch: &Launch, profile: &Profile) -> Result<()> {
    let refuse = |message: String| Err(Error::compile(launch.label.clone(), message));
    let most = profile.max_storage_buffers - u32::from(profile.params_in_storage());
    if launch.bindings.len() > most as usize {
        return refuse(format!("it binds {} buffers, the device allows {most}", launch.bindings.len()));
    }
    if let Some((binding, _)) = launch.bindings.iter().find(|(binding, _)| binding.bytes > profile.max_binding_bytes) {
        return Err(Error::memory(format!(
            "{} needs {} bytes in one binding, the device allows {}; make the tensor smaller (batch, context, width)",
            launch.label, binding.bytes, profile.max_binding_bytes
        )));
    }
    if launch.groups.div_ceil(u64::from(profile.max_workgroups)) > u64::from(profile.max_workgroups) {
        return refuse(format!("{} workgroups are more than the device can start", launch.groups));
    }
    Ok(())
}
