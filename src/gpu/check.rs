//! What programs need, and whether a device may run them: decided before anything is created.
//!
//! Works on plain data; knows limits, not the device.

use super::canary;
use super::readback::{READBACK_RING, pack};
use crate::error::{Error, Result};
use crate::kernels::Profile;
use crate::program::{
    Binding, BufferDecl, Category, Dispatch, Io, Kernel, Memory, Program, Role, Segment, StateLayout, shared_transients,
};

/// Parameters of one dispatch; what every device grants a uniform binding.
const MAX_UNIFORM: u64 = 64 << 10;

/// A buffer is never empty, and copies and bindings are in whole words.
pub(super) fn whole_words(bytes: u64) -> u64 {
    bytes.max(4).checked_next_multiple_of(4).unwrap_or(u64::MAX)
}

/// The exact bytes of all buffers that a session creates.
pub(super) fn plan(layout: &StateLayout, programs: &[Program]) -> Memory {
    let state = |category: Category| {
        let of = layout.buffers.iter().filter(|buffer| buffer.category == category);
        of.map(|buffer| whole_words(buffer.bytes)).sum()
    };
    let own = |program: &Program| {
        let decls = program.buffers.iter().filter(|decl| !matches!(decl.role, Role::State(_) | Role::Transient));
        decls.map(|decl| whole_words(decl.bytes)).sum::<u64>() + program.uniform_bytes()
    };
    Memory {
        weights: state(Category::Weights),
        gradients: state(Category::Gradients),
        optimizer: state(Category::Optimizer),
        other_state: state(Category::Other),
        transient: transients(programs).into_iter().sum(),
        io: programs.iter().map(own).sum(),
        readback: READBACK_RING as u64 * slot_bytes(programs) + canary::OWN_BYTES,
    }
}

/// Sizes of the transient buffers that the programs share.
pub(super) fn transients(programs: &[Program]) -> Vec<u64> {
    let programs: Vec<&Program> = programs.iter().collect();
    shared_transients(&programs).into_iter().map(whole_words).collect()
}

/// Bytes of one slot of the readback ring: a tally, and the outputs of all programs, which one run may have.
pub(super) fn slot_bytes(programs: &[Program]) -> u64 {
    whole_words(canary::BYTES + programs.iter().map(|program| pack(program).1).sum::<u64>())
}

/// The largest tensor of a state buffer, and its bytes.
pub(super) fn largest_in_state(layout: &StateLayout, buffer: usize) -> Option<(&str, u64)> {
    let holds = layout.entries.iter().filter(|(_, entry)| entry.pieces.iter().any(|piece| piece.buffer == buffer));
    let sized = holds.map(|(name, entry)| (name.as_str(), entry.pieces.iter().map(|piece| piece.bytes).sum::<u64>()));
    sized.max_by_key(|(_, bytes)| *bytes)
}

/// The transient buffers of a program, largest first: the largest of each program is the first shared one, and so on down.
pub(super) fn by_size(program: &Program) -> Vec<usize> {
    let is_transient = |index: &usize| program.buffers[*index].role == Role::Transient;
    let mut by_size: Vec<usize> = (0..program.buffers.len()).filter(is_transient).collect();
    crate::sort::sort_by_key(&mut by_size, |&index| std::cmp::Reverse(program.buffers[index].bytes));
    by_size
}

/// The operation that binds the most of a shared transient buffer, and how many bytes.
pub(super) fn largest_in_transient(programs: &[Program], rank: usize) -> Option<(&str, u64)> {
    let of_program = |program| {
        let buffer = by_size(program).get(rank).copied();
        let uses = program
            .each_dispatch()
            .flat_map(|dispatch: &Dispatch| dispatch.bindings.iter().map(move |b| (dispatch, b)));
        let uses = uses.filter(move |(_, binding)| Some(binding.buffer) == buffer);
        uses.map(|(dispatch, binding)| (dispatch.label.as_str(), binding.bytes)).max_by_key(|(_, bytes)| *bytes)
    };
    programs.iter().filter_map(of_program).max_by_key(|(_, bytes)| *bytes)
}

/// An error unless every program is well formed and legal on such a device.
pub(super) fn check(profile: &Profile, layout: &StateLayout, programs: &[Program]) -> Result<()> {
    for (index, buffer) in layout.buffers.iter().enumerate() {
        let holding =
            largest_in_state(layout, index).map_or(String::new(), |(name, _)| format!(" that holds `{name}`"));
        fits(profile, whole_words(buffer.bytes), || format!("the state buffer `{}`{holding}", buffer.label))?;
    }
    for (name, entry) in &layout.entries {
        let refuse = |message: &str| Error::compile(format!("the state tensor `{name}`"), message.into());
        for piece in &entry.pieces {
            let Some(buffer) = layout.buffers.get(piece.buffer) else {
                return Err(refuse("its buffer does not exist"));
            };
            let room = whole_words(buffer.bytes);
            inside(piece.offset, piece.bytes, room, || (format!("the state tensor `{name}`"), "its buffer".into()))?;
        }
        if entry.pieces.iter().map(|piece| piece.bytes).sum::<u64>() != entry.dtype.bytes(&entry.shape) {
            return Err(refuse("its pieces are not as large as it is"));
        }
    }
    programs.iter().try_for_each(|program| Checked { profile, layout, program }.all())?;
    fits(profile, slot_bytes(programs), || "the staging buffer for a run's outputs".into())
}

fn fits(profile: &Profile, bytes: u64, what: impl FnOnce() -> String) -> Result<()> {
    let limit = profile.max_buffer_bytes;
    if bytes <= limit {
        return Ok(());
    }
    Err(Error::memory(format!(
        "{} takes {bytes} bytes, and this device allows a buffer {limit}; use a smaller batch, sequence or model",
        what()
    )))
}

fn inside(offset: u64, bytes: u64, room: u64, names: impl FnOnce() -> (String, String)) -> Result<()> {
    let end = offset.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(4));
    if offset.is_multiple_of(4) && end.is_some_and(|end| end <= room) {
        return Ok(());
    }
    let (what, place) = names();
    let message = format!("{bytes} bytes at offset {offset} do not lie inside {place} of {room} bytes, word-aligned");
    Err(Error::compile(what, message))
}

/// One program with what it is checked against.
struct Checked<'a> {
    profile: &'a Profile,
    layout: &'a StateLayout,
    program: &'a Program,
}

impl Checked<'_> {
    fn all(&self) -> Result<()> {
        let program = self.program;
        program.buffers.iter().enumerate().try_for_each(|(index, decl)| self.buffer(index, decl))?;
        fits(self.profile, program.uniform_bytes(), || format!("the parameters of program `{}`", program.name))?;
        if u32::try_from(program.uniform_bytes()).is_err() {
            return Err(self.refuse("the program", "it has too many dispatches for 32-bit parameter offsets".into()));
        }
        program.kernels.iter().try_for_each(|kernel| self.kernel(kernel))?;
        program.each_dispatch().try_for_each(|dispatch| self.dispatch(dispatch))?;
        program.segments.iter().try_for_each(|segment| self.steps(segment))?;
        program.inputs.iter().chain(&program.outputs).try_for_each(|io| self.io(io))
    }

    fn refuse(&self, what: &str, message: String) -> Error {
        Error::compile(format!("{what} of `{}`", self.program.name), message)
    }

    fn buffer(&self, index: usize, decl: &BufferDecl) -> Result<()> {
        if let Role::State(state) = decl.role {
            let Some(buffer) = self.layout.buffers.get(state) else {
                return Err(self.refuse(&format!("buffer {index}"), format!("the state has no buffer {state}")));
            };
            if decl.bytes > whole_words(buffer.bytes) {
                let (label, has) = (&buffer.label, buffer.bytes);
                let message = format!("it wants {} bytes of `{label}`, which has {has}", decl.bytes);
                return Err(self.refuse(&format!("buffer {index}"), message));
            }
        }
        let words = match decl.role {
            Role::Scalars => self.program.scalars.len(),
            Role::Constants => self.program.constants.len(),
            Role::State(_) | Role::Transient | Role::Input(_) => 0,
        };
        if words as u64 * 4 > whole_words(decl.bytes) {
            let message = format!("{words} words are to be written to its {} bytes", decl.bytes);
            return Err(self.refuse(&format!("the buffer for {}", decl.role), message));
        }
        fits(self.profile, whole_words(decl.bytes), || {
            format!("buffer {index} ({}) of program `{}`{}", decl.role, self.program.name, self.user(index))
        })
    }

    /// The first operation that binds a buffer, for messages.
    fn user(&self, buffer: usize) -> String {
        let uses = |dispatch: &&Dispatch| dispatch.bindings.iter().any(|binding| binding.buffer == buffer);
        let first = self.program.each_dispatch().find(uses);
        first.map_or(String::new(), |dispatch| format!(", used by `{}`", dispatch.label))
    }

    fn kernel(&self, kernel: &Kernel) -> Result<()> {
        let limit = self.profile.max_storage_buffers as usize;
        if kernel.writable.len() <= limit {
            return Ok(());
        }
        let message = format!("it binds {} buffers, and this device allows {limit}", kernel.writable.len());
        Err(self.refuse(&format!("the kernel `{}`", kernel.name), message))
    }

    fn dispatch(&self, dispatch: &Dispatch) -> Result<()> {
        let what = format!("the dispatch `{}`", dispatch.label);
        let Some(kernel) = self.program.kernels.get(dispatch.kernel) else {
            return Err(self.refuse(&what, format!("there is no kernel {}", dispatch.kernel)));
        };
        if kernel.writable.len() != dispatch.bindings.len() {
            let (takes, given) = (kernel.writable.len(), dispatch.bindings.len());
            return Err(self.refuse(&what, format!("`{}` takes {takes} buffers, not {given}", kernel.name)));
        }
        if dispatch.uniform_bytes() > MAX_UNIFORM {
            return Err(self.refuse(&what, format!("its parameters exceed {MAX_UNIFORM} bytes")));
        }
        let limit = self.profile.max_workgroups;
        if dispatch.groups.iter().any(|&groups| groups > limit) {
            let message = format!("{:?} workgroups; this device allows {limit} each way", dispatch.groups);
            return Err(self.refuse(&what, message));
        }
        for (index, binding) in dispatch.bindings.iter().enumerate() {
            self.binding(&what, index, binding)?;
            let earlier = dispatch.bindings.iter().zip(&kernel.writable).take(index);
            for (other, &writable) in earlier {
                self.conflict(&what, (binding, kernel.writable[index]), (other, writable))?;
            }
        }
        Ok(())
    }

    fn binding(&self, what: &str, index: usize, binding: &Binding) -> Result<()> {
        let Some(decl) = self.program.buffers.get(binding.buffer) else {
            return Err(self.refuse(what, format!("there is no buffer {}", binding.buffer)));
        };
        let limit = self.profile.max_binding_bytes;
        if binding.bytes > limit {
            return Err(Error::memory(format!(
                "binding {} of {what} in program `{}` ({}) takes {} bytes, and this device lets a kernel bind \
                 {limit}; use a smaller batch, sequence or model",
                index + 1,
                self.program.name,
                decl.role,
                binding.bytes
            )));
        }
        let alignment = u64::from(self.profile.binding_alignment.max(4));
        if binding.bytes == 0 || !binding.offset.is_multiple_of(alignment) {
            let message = format!(
                "binding {} has {} bytes at offset {}; it must not be empty, and start at a multiple of {alignment}",
                index + 1,
                binding.bytes,
                binding.offset
            );
            return Err(self.refuse(what, message));
        }
        inside(binding.offset, binding.bytes, whole_words(decl.bytes), || {
            (format!("{what} of `{}`", self.program.name), format!("buffer {}", binding.buffer))
        })
    }

    /// WebGPU refuses one buffer bound both for reading and for writing, and overlapping writes are a race.
    fn conflict(&self, what: &str, (a, a_written): (&Binding, bool), (b, b_written): (&Binding, bool)) -> Result<()> {
        if !self.same_buffer(a.buffer, b.buffer) {
            return Ok(());
        }
        let overlap = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
        if a_written == b_written && !(a_written && overlap) {
            return Ok(());
        }
        let message = format!("buffer {} is bound for writing beside another use in the same dispatch", a.buffer);
        Err(self.refuse(what, message))
    }

    fn same_buffer(&self, a: usize, b: usize) -> bool {
        let role = |index: usize| self.program.buffers.get(index).map(|decl| &decl.role);
        let same_state = matches!((role(a), role(b)), (Some(Role::State(a)), Some(Role::State(b))) if a == b);
        a == b || same_state
    }

    fn steps(&self, segment: &Segment) -> Result<()> {
        let Segment::Repeat { body, steps, .. } = segment else { return Ok(()) };
        for step in steps {
            if body.get(step.dispatch).is_none_or(|dispatch| step.word >= dispatch.params.len()) {
                let message = format!("word {} of dispatch {} does not exist", step.word, step.dispatch);
                return Err(self.refuse("a parameter step", message));
            }
        }
        Ok(())
    }

    fn io(&self, io: &Io) -> Result<()> {
        let Some(decl) = self.program.buffers.get(io.buffer) else {
            return Err(self.refuse(&format!("`{}`", io.name), format!("there is no buffer {}", io.buffer)));
        };
        let room = whole_words(decl.bytes);
        inside(io.offset, io.dtype.bytes(&io.shape), room, || {
            (format!("`{}` of `{}`", io.name, self.program.name), format!("buffer {}", io.buffer))
        })
    }
}
