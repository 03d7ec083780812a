//! Programs turned into handles: every buffer, bind group and parameter slot exists before the first run.
//!
//! Knows no order in time; `run` replays what is laid out here.

use super::canary::{BYTES as TALLY, Canary};
use super::check::{by_size, largest_in_state, largest_in_transient, transients, whole_words};
use super::pace::Rates;
use super::pipelines::Pipeline;
use super::poison::{expired, fill};
use super::{Device, lock};
use crate::error::Result;
use crate::program::{Binding, Dispatch, Program, Role, Segment, StateLayout};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

/// Creates every buffer of a session, and counts what it creates.
pub(super) struct Allocator<'a> {
    pub device: &'a Device,
    created: Mutex<u64>,
}

impl<'a> Allocator<'a> {
    pub fn new(device: &'a Device) -> Allocator<'a> {
        Allocator { device, created: Mutex::new(0) }
    }

    pub fn created(&self) -> u64 {
        *lock(&self.created)
    }

    fn buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
        holds: Option<(&str, u64)>,
    ) -> Result<wgpu::Buffer> {
        let buffer = self.device.buffer(label, bytes, usage, holds)?;
        *lock(&self.created) += buffer.size();
        Ok(buffer)
    }

    /// A buffer that a program writes before it reads it; tests see to it that it does.
    fn unwritten(&self, label: &str, bytes: u64, holds: Option<(&str, u64)>) -> Result<wgpu::Buffer> {
        let buffer = self.buffer(label, bytes, STORAGE, holds)?;
        if self.device.faults().poisoned() {
            fill(self.device, &buffer, 0, bytes)?;
        }
        Ok(buffer)
    }

    pub fn state(&self, layout: &StateLayout) -> Result<Vec<wgpu::Buffer>> {
        let buffers = layout.buffers.iter().enumerate();
        let make = |(index, buffer): (usize, &crate::program::StateBuffer)| {
            self.buffer(&buffer.label, whole_words(buffer.bytes), STORAGE, largest_in_state(layout, index))
        };
        buffers.map(make).collect()
    }

    pub fn transients(&self, programs: &[Program]) -> Result<Vec<wgpu::Buffer>> {
        let sizes = transients(programs).into_iter().enumerate();
        let make = |(index, bytes)| {
            self.unwritten(&format!("transient {index}"), bytes, largest_in_transient(programs, index))
        };
        sizes.map(make).collect()
    }

    pub fn readback(&self, slots: usize, bytes: u64) -> Result<Vec<wgpu::Buffer>> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        (0..slots).map(|slot| self.buffer(&format!("readback {slot}"), bytes, usage, None)).collect()
    }

    pub fn canary(&self) -> Result<Canary> {
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffer = |label, bytes| self.buffer(label, bytes, usage, None);
        Ok(Canary::new(buffer("canary", 4)?, buffer("tally", TALLY)?))
    }
}

/// One dispatch as it is encoded.
pub(super) struct Step {
    pub pipeline: u32,
    pub group: u32,
    /// Of the parameters in the uniform arena.
    pub offset: u32,
    pub groups: [u32; 2],
    pub micros: f32,
}

/// A stretch of a resolved program.
pub(super) enum Stretch {
    Gpu(Range<usize>),
    Host(String),
}

/// A copy of an output into its place among the program's packed outputs.
pub(super) struct OutputCopy {
    pub buffer: wgpu::Buffer,
    pub offset: u64,
    pub to: u64,
    pub bytes: u64,
}

/// A program with everything that its runs need.
pub(super) struct Resolved {
    pub pipelines: Vec<Arc<Pipeline>>,
    pub groups: Vec<wgpu::BindGroup>,
    pub steps: Vec<Step>,
    pub stretches: Vec<Stretch>,
    pub buffers: Vec<wgpu::Buffer>,
    /// The parameters of every dispatch; kept to be destroyed.
    pub arena: wgpu::Buffer,
    pub copies: Vec<OutputCopy>,
    /// In tests, the ranges that are to be NaN after a step.
    pub expired: HashMap<usize, Vec<Binding>>,
    /// The words of the scalar buffers, and whether they changed since they were written.
    pub scalars: Vec<u32>,
    pub scalars_changed: bool,
    pub scalar_buffers: Vec<wgpu::Buffer>,
}

impl Resolved {
    /// Creates the program's own buffers and binds everything.
    pub fn new(
        allocator: &Allocator<'_>,
        program: &Program,
        state: &[wgpu::Buffer],
        transients: &[wgpu::Buffer],
        pipelines: Vec<Arc<Pipeline>>,
    ) -> Result<Resolved> {
        let buffers = place(allocator, program, state, transients)?;
        let with_role = |role: Role| {
            let of = program.buffers.iter().zip(&buffers).filter(move |(decl, _)| decl.role == role);
            of.map(|(_, buffer)| buffer.clone()).collect::<Vec<_>>()
        };
        let upload = |buffer: &wgpu::Buffer, words: &[u32]| {
            allocator.device.upload("refused constants", buffer, 0, bytemuck::cast_slice(words))
        };
        with_role(Role::Constants).iter().try_for_each(|buffer| upload(buffer, &program.constants))?;
        let arena = allocator.buffer(
            &format!("{} parameters", program.name),
            program.uniform_bytes(),
            wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
            None,
        )?;
        let mut builder = Builder::new(allocator.device, &buffers, &arena, &pipelines);
        let stretches = program.segments.iter().map(|segment| builder.segment(segment)).collect();
        upload(&arena, &builder.words)?;
        let Builder { groups, steps, .. } = builder;
        Ok(Resolved {
            copies: copies(program, &buffers),
            expired: if allocator.device.faults().poisoned() { expired(program) } else { HashMap::new() },
            scalars: vec![0; program.scalars.len()],
            // Those that are never set are zeros.
            scalars_changed: true,
            scalar_buffers: with_role(Role::Scalars),
            pipelines,
            groups,
            steps,
            stretches,
            buffers,
            arena,
        })
    }

    /// Uploads the scalars if they changed.
    pub fn write_scalars(&mut self, device: &Device) -> Result<()> {
        if self.scalars_changed {
            for buffer in &self.scalar_buffers {
                device.upload("refused scalars", buffer, 0, bytemuck::cast_slice(&self.scalars))?;
            }
            self.scalars_changed = false;
        }
        Ok(())
    }
}

/// The device buffer behind each of the program's buffers.
fn place(
    allocator: &Allocator<'_>,
    program: &Program,
    state: &[wgpu::Buffer],
    transients: &[wgpu::Buffer],
) -> Result<Vec<wgpu::Buffer>> {
    // The largest transient of each program is the first shared one, and so on down.
    let rank: HashMap<usize, usize> = by_size(program).into_iter().zip(0..).collect();
    let own = |label: &str, bytes| {
        allocator.buffer(&format!("{} {label}", program.name), whole_words(bytes), STORAGE, Some((label, bytes)))
    };
    let device_buffer = |(index, decl): (usize, &crate::program::BufferDecl)| match &decl.role {
        Role::State(buffer) => Ok(state[*buffer].clone()),
        Role::Transient => Ok(transients[rank[&index]].clone()),
        Role::Input(name) => own(name, decl.bytes),
        Role::Scalars => own("scalars", decl.bytes),
        Role::Constants => own("constants", decl.bytes),
    };
    program.buffers.iter().enumerate().map(device_buffer).collect()
}

fn copies(program: &Program, buffers: &[wgpu::Buffer]) -> Vec<OutputCopy> {
    let (packed, _) = super::readback::pack(program);
    let copy = |(io, output): (&crate::program::Io, super::readback::Output)| OutputCopy {
        buffer: buffers[io.buffer].clone(),
        offset: io.offset,
        to: output.offset,
        bytes: output.bytes.next_multiple_of(4),
    };
    program.outputs.iter().zip(packed).map(copy).filter(|copy| copy.bytes > 0).collect()
}

/// A bind group's identity: its kernel's layout, the size of the parameters, what is bound.
type GroupKey = (wgpu::BindGroupLayout, u64, Vec<(usize, u64, u64)>);

/// Lays dispatches out one after the other.
struct Builder<'a> {
    device: &'a Device,
    buffers: &'a [wgpu::Buffer],
    arena: &'a wgpu::Buffer,
    pipelines: &'a [Arc<Pipeline>],
    rates: Rates,
    known: HashMap<GroupKey, u32>,
    groups: Vec<wgpu::BindGroup>,
    steps: Vec<Step>,
    /// The uniform arena's content.
    words: Vec<u32>,
}

impl<'a> Builder<'a> {
    fn new(
        device: &'a Device,
        buffers: &'a [wgpu::Buffer],
        arena: &'a wgpu::Buffer,
        pipelines: &'a [Arc<Pipeline>],
    ) -> Builder<'a> {
        let rates = Rates::of(device.profile().class);
        let (known, groups, steps, words) = Default::default();
        Builder { device, buffers, arena, pipelines, rates, known, groups, steps, words }
    }

    fn segment(&mut self, segment: &Segment) -> Stretch {
        let start = self.steps.len();
        match segment {
            Segment::Gpu(dispatches) => dispatches.iter().for_each(|dispatch| self.dispatch(dispatch, &[])),
            Segment::Repeat { count, body, steps } => {
                for iteration in 0..*count {
                    for (index, dispatch) in body.iter().enumerate() {
                        let stepped = steps.iter().filter(|step| step.dispatch == index);
                        let added: Vec<(usize, u32)> =
                            stepped.map(|step| (step.word, step.step.wrapping_mul(iteration))).collect();
                        self.dispatch(dispatch, &added);
                    }
                }
            }
            Segment::Host(name) => return Stretch::Host(name.clone()),
        }
        Stretch::Gpu(start..self.steps.len())
    }

    /// Appends a dispatch whose parameters at these words are raised by these amounts.
    fn dispatch(&mut self, dispatch: &Dispatch, added: &[(usize, u32)]) {
        let start = self.words.len();
        self.words.extend_from_slice(&dispatch.params);
        self.words.resize(start + dispatch.uniform_bytes() as usize / 4, 0);
        for &(word, amount) in added {
            self.words[start + word] = self.words[start + word].wrapping_add(amount);
        }
        let group = self.group(dispatch);
        self.steps.push(Step {
            pipeline: dispatch.kernel as u32,
            group,
            offset: (start * 4) as u32,
            groups: dispatch.groups,
            micros: self.rates.micros(dispatch),
        });
    }

    fn group(&mut self, dispatch: &Dispatch) -> u32 {
        let layout = &self.pipelines[dispatch.kernel].layout;
        let ranges = dispatch.bindings.iter().map(|binding| (binding.buffer, binding.offset, binding.bytes)).collect();
        let key = (layout.clone(), dispatch.uniform_bytes(), ranges);
        if let Some(&group) = self.known.get(&key) {
            return group;
        }
        let params = wgpu::BufferBinding { buffer: self.arena, offset: 0, size: wgpu::BufferSize::new(key.1) };
        let storage = dispatch.bindings.iter().map(|binding: &Binding| wgpu::BufferBinding {
            buffer: &self.buffers[binding.buffer],
            offset: binding.offset,
            size: wgpu::BufferSize::new(whole_words(binding.bytes)),
        });
        let resources = std::iter::once(params).chain(storage).map(wgpu::BindingResource::Buffer);
        let entries: Vec<_> =
            resources.zip(0..).map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource }).collect();
        let descriptor = wgpu::BindGroupDescriptor { label: Some(&dispatch.label), layout, entries: &entries };
        self.groups.push(self.device.wgpu_device().create_bind_group(&descriptor));
        let group = self.groups.len() as u32 - 1;
        self.known.insert(key, group);
        group
    }
}

/// The pipelines of all programs, program by program.
pub(super) fn pipelines(device: &Device, programs: &[Program]) -> Result<Vec<Vec<Arc<Pipeline>>>> {
    let kernels: Vec<_> = programs.iter().flat_map(|program| &program.kernels).collect();
    let mut all = device.pipelines(&kernels)?.into_iter();
    Ok(programs.iter().map(|program| all.by_ref().take(program.kernels.len()).collect()).collect())
}
