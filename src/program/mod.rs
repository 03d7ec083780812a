//! The lowered computation as inert data: buffers, kernels, dispatches, segments.
//!
//! A program knows no graph and no device. It can be printed, compared, stored and shipped;
//! the executor is a loop over it.

mod codec;
mod layout;
mod lifetimes;
mod stored;
mod text;

pub(crate) use codec::Codec;
pub use layout::{Category, Piece, StateBuffer, StateEntry, StateLayout, StateSpec};
pub(crate) use layout::{even, piece_name};
pub use lifetimes::{Lifetime, alive, lifetimes};

use crate::dtype::DType;
use crate::shape::Shape;
use serde::Serialize;
use std::fmt;

/// Bytes of one dispatch's slot in the uniform arena are a multiple of this.
pub const UNIFORM_ALIGNMENT: u64 = 256;

/// A compiled computation.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    pub name: String,
    pub kernels: Vec<Kernel>,
    pub buffers: Vec<BufferDecl>,
    pub segments: Vec<Segment>,
    /// Tensors fed for each run.
    pub inputs: Vec<Io>,
    /// f32, i32 or u32 scalars fed for each run, in the order of their words in the scalar buffer.
    pub scalars: Vec<Scalar>,
    /// Words of the constant buffer, written once.
    pub constants: Vec<u32>,
    /// Results that can be read after a run.
    pub outputs: Vec<Io>,
    /// Where nothing that is needed lies any more, in the order of dispatches: the executor ignores it, tests fill it with NaN.
    pub expired: Vec<Expired>,
}

/// A range of a transient buffer whose value nobody needs after a dispatch, counted as they are listed. What expires in a
/// loop does so in its last iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    pub after: usize,
    pub range: Binding,
}

/// Where a buffer comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A buffer of the session's state layout, by index.
    State(usize),
    /// Lives during a run; programs of a session share these.
    Transient,
    Input(String),
    Scalars,
    Constants,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::State(state) => write!(f, "state {state}"),
            Role::Transient => f.write_str("transient"),
            Role::Input(name) => write!(f, "input \"{name}\""),
            Role::Scalars => f.write_str("scalars"),
            Role::Constants => f.write_str("constants"),
        }
    }
}

/// One device buffer that the program binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferDecl {
    pub role: Role,
    pub bytes: u64,
}

/// WGSL with what a pipeline needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// File, host function, GPU label and test share this name.
    pub name: String,
    pub wgsl: String,
    /// For each storage binding (from binding 1 on), whether it is written.
    pub writable: Vec<bool>,
    pub workgroup: u32,
    /// Binding 0, the parameters, is a read-only storage buffer rather than a uniform one.
    pub params_in_storage: bool,
    /// Needs `enable subgroups;` where the WGSL compiler asks for it.
    pub subgroups: bool,
    /// It was read from somewhere: nobody knows that its indices stay inside their buffers, so that this is checked as it runs.
    pub foreign: bool,
}

/// A range of a buffer, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    pub buffer: usize,
    pub offset: u64,
    pub bytes: u64,
}

/// One kernel launch with everything resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    pub kernel: usize,
    /// The scope and operation it serves, e.g. `block.0.attn/matmul`.
    pub label: String,
    pub bindings: Vec<Binding>,
    /// Words of the kernel's `params` struct.
    pub params: Vec<u32>,
    pub groups: [u32; 2],
    pub flops: u64,
    /// Bytes read and written, each binding counted once.
    pub bytes_moved: u64,
}

/// What changes from one iteration of a [`Segment::Repeat`] to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamStep {
    pub dispatch: usize,
    /// Index of the word in `params`.
    pub word: usize,
    /// Added in each iteration (wrapping).
    pub step: u32,
}

/// A stretch of a program.
#[derive(Debug, Clone, PartialEq)]
pub enum Segment {
    /// Dispatches in order, encoded into one compute pass.
    Gpu(Vec<Dispatch>),
    /// The body `count` times, with parameters stepping: a scan whose program does not grow.
    Repeat { count: u32, body: Vec<Dispatch>, steps: Vec<ParamStep> },
    /// A named call into the host between two stretches of GPU work.
    Host(String),
}

/// A named tensor at the border of a program.
#[derive(Debug, Clone, PartialEq)]
pub struct Io {
    pub name: String,
    pub dtype: DType,
    pub shape: Shape,
    pub buffer: usize,
    /// In bytes.
    pub offset: u64,
}

/// A named scalar input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    pub name: String,
    pub dtype: DType,
}

impl Program {
    /// Kernel launches of one run.
    pub fn dispatches(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| match segment {
                Segment::Gpu(dispatches) => dispatches.len(),
                Segment::Repeat { count, body, .. } => *count as usize * body.len(),
                Segment::Host(_) => 0,
            })
            .sum()
    }

    /// Every dispatch once, repeated bodies too.
    pub fn each_dispatch(&self) -> impl Iterator<Item = &Dispatch> {
        self.segments.iter().flat_map(|segment| match segment {
            Segment::Gpu(dispatches) => dispatches.as_slice(),
            Segment::Repeat { body, .. } => body.as_slice(),
            Segment::Host(_) => &[],
        })
    }

    /// As [`Program::each_dispatch`], to be changed.
    pub fn each_dispatch_mut(&mut self) -> impl Iterator<Item = &mut Dispatch> {
        self.segments.iter_mut().flat_map(|segment| match segment {
            Segment::Gpu(dispatches) => dispatches.as_mut_slice(),
            Segment::Repeat { body, .. } => body.as_mut_slice(),
            Segment::Host(_) => &mut [],
        })
    }

    /// Bytes of uniform slots, one a dispatch and iteration.
    pub fn uniform_bytes(&self) -> u64 {
        let slots = |dispatches: &[Dispatch]| dispatches.iter().map(Dispatch::uniform_bytes).sum::<u64>();
        self.segments
            .iter()
            .map(|segment| match segment {
                Segment::Gpu(dispatches) => slots(dispatches),
                Segment::Repeat { count, body, .. } => u64::from(*count) * slots(body),
                Segment::Host(_) => 0,
            })
            .sum::<u64>()
            .max(UNIFORM_ALIGNMENT)
    }

    /// Sizes of the transient buffers, largest first: programs of a session share them in this order.
    pub fn transient_bytes(&self) -> Vec<u64> {
        let mut sizes: Vec<u64> =
            self.buffers.iter().filter(|buffer| buffer.role == Role::Transient).map(|buffer| buffer.bytes).collect();
        crate::sort::sort_by(&mut sizes, |a, b| b.cmp(a));
        sizes
    }

    /// Bytes of the buffers that only this program uses: inputs, scalars, constants, uniforms.
    pub fn own_bytes(&self) -> u64 {
        let own = |buffer: &&BufferDecl| !matches!(buffer.role, Role::Transient | Role::State(_));
        self.buffers.iter().filter(own).map(|buffer| buffer.bytes).sum::<u64>() + self.uniform_bytes()
    }

    pub fn flops(&self) -> u64 {
        let once = |dispatches: &[Dispatch]| dispatches.iter().map(|dispatch| dispatch.flops).sum::<u64>();
        let segment = |segment: &Segment| match segment {
            Segment::Gpu(dispatches) => once(dispatches),
            Segment::Repeat { count, body, .. } => u64::from(*count) * once(body),
            Segment::Host(_) => 0,
        };
        self.segments.iter().map(segment).sum()
    }
}

/// Workgroups as a two-dimensional grid where one dimension, of at most `most`, is not enough.
pub fn grid(groups: u64, most: u32) -> [u32; 2] {
    if groups <= u64::from(most) {
        return [groups as u32, 1];
    }
    let rows = groups.div_ceil(u64::from(most));
    [groups.div_ceil(rows) as u32, rows as u32]
}

impl Dispatch {
    /// Bytes of this dispatch's slot in the uniform arena.
    pub fn uniform_bytes(&self) -> u64 {
        (self.params.len() as u64 * 4).max(4).next_multiple_of(UNIFORM_ALIGNMENT)
    }
}

/// What a set of programs over one state needs on the device, in bytes, by category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Memory {
    pub weights: u64,
    pub gradients: u64,
    pub optimizer: u64,
    pub other_state: u64,
    /// Shared by the programs: the larger of each pair of buffers.
    pub transient: u64,
    /// Inputs, scalars, constants and uniform slots of all programs.
    pub io: u64,
    /// Staging for results on their way to the host.
    pub readback: u64,
}

impl Memory {
    /// The exact peak: all buffers that a session creates.
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.optimizer + self.other_state + self.transient + self.io + self.readback
    }
}

/// The transient buffers of several programs that share one set: for each place the largest.
pub fn shared_transients(programs: &[&Program]) -> Vec<u64> {
    let mut shared: Vec<u64> = Vec::new();
    for program in programs {
        for (index, bytes) in program.transient_bytes().into_iter().enumerate() {
            match shared.get_mut(index) {
                Some(size) => *size = (*size).max(bytes),
                None => shared.push(bytes),
            }
        }
    }
    shared
}
