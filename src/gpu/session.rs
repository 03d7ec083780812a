//! A session: state on the device, and programs that share it, ready to run.
//!
//! Knows no models and no training loop; names and bytes come from the programs.

use super::check::{check, plan, slot_bytes};
use super::pace::{Pace, Stretch as Measured};
use super::pipelines::Pipeline;
use super::poison::Poison;
use super::readback::{READBACK_RING, Results, Ring, Ticket, fetch};
use super::resolve::{Allocator, Resolved, pipelines};
use super::state::State;
use super::{Device, HostContext};
use crate::error::{Error, ErrorKind, Result};
use crate::program::{Memory, Program, StateLayout};
use std::collections::HashMap;
use std::sync::Arc;

/// Host work between two stretches of GPU work: a collective, an upload.
pub trait HostStep: Send {
    /// Called when the GPU work before it is complete; the work after it waits.
    fn call(&mut self, host: &mut HostContext<'_>) -> Result<()>;
}

/// Programs over one state on one device. Dropping it frees all its buffers.
pub struct Session {
    pub(super) state: State,
    pub(super) resolved: Vec<Resolved>,
    pub(super) ring: Ring,
    pub(super) host_steps: HashMap<String, Box<dyn HostStep>>,
    pub(super) pace: Arc<Pace>,
    /// Runs since the last one whose results are asked for.
    pub(super) unread: Option<Measured>,
    pub(super) poison: Option<Poison>,
    /// A run failed in its middle.
    pub(super) torn: bool,
    programs: Vec<Program>,
    memory: Memory,
    created: u64,
}

/// A browser would free the buffers only when its garbage collector comes by.
#[cfg(target_arch = "wasm32")]
impl Drop for Session {
    fn drop(&mut self) {
        self.free();
    }
}

impl Session {
    /// Compiles the kernels and creates all that the programs need; the state begins as zeros. Where memory is short, what
    /// the device holds for nobody is given back, and it is tried once more.
    ///
    /// In a browser, errors of the compiler and of memory are known later: the first `fetch_async` gives
    /// them, or [`Session::new_async`] waits for them.
    pub fn new(device: &Device, layout: StateLayout, programs: Vec<Program>) -> Result<Session> {
        device.check()?;
        check(device.profile(), &layout, &programs)?;
        let pipelines = pipelines(device, &programs)?;
        let session = device.twice(|| Session::create(device, &layout, &programs, &pipelines))?;
        device.check()?;
        Ok(session)
    }

    /// Like `new`, and waits until the device has accepted everything, in a browser too.
    pub async fn new_async(device: &Device, layout: StateLayout, programs: Vec<Program>) -> Result<Session> {
        #[cfg(target_arch = "wasm32")]
        {
            let session = Session::new(device, layout.clone(), programs.clone())?;
            match device.settle().await {
                Err(error) if matches!(error.kind(), ErrorKind::Memory(_)) => {
                    drop(session);
                    device.release()?;
                }
                settled => return settled.map(|()| session),
            }
        }
        let session = Session::new(device, layout, programs)?;
        device.settle().await?;
        Ok(session)
    }

    fn create(
        device: &Device,
        layout: &StateLayout,
        programs: &[Program],
        pipelines: &[Vec<Arc<Pipeline>>],
    ) -> Result<Session> {
        let memory = plan(layout, programs);
        let allocator = Allocator::new(device);
        let make = || -> Result<Session> {
            let buffers = allocator.state(layout)?;
            let transients = allocator.transients(programs)?;
            let resolve = |(program, pipelines): (&Program, &Vec<Arc<Pipeline>>)| {
                Resolved::new(&allocator, program, &buffers, &transients, pipelines.clone())
            };
            let resolved = programs.iter().zip(pipelines).map(resolve).collect::<Result<_>>()?;
            let pace = Arc::new(Pace::new(device.profile().class, device.faults().longest()));
            let slots = allocator.readback(READBACK_RING, slot_bytes(programs))?;
            let ring = Ring::new(slots, programs, Arc::clone(&pace));
            let canary = Arc::new(allocator.canary()?);
            let poison = match device.faults().poisoned() {
                true => Some(Poison::new(device, &transients)?),
                false => None,
            };
            let state = State { device: device.clone(), layout: layout.clone(), buffers, canary };
            Ok(Session {
                state,
                resolved,
                ring,
                host_steps: HashMap::new(),
                pace,
                unread: None,
                poison,
                torn: false,
                programs: programs.to_vec(),
                memory,
                created: allocator.created(),
            })
        };
        device.caught("refused a session", make)?.map_err(|error| match error.into_kind() {
            ErrorKind::Memory(message) => {
                let (total, granted) = (memory.total(), allocator.created());
                let largest = device.profile().max_buffer_bytes;
                Error::memory(format!(
                    "{message}; {granted} of the {total} bytes that are needed were granted before (a buffer may have \
                     {largest}). Use a smaller batch, sequence or model, or close other programs that use the GPU"
                ))
            }
            other => Error::new(other),
        })
    }

    /// Gives the memory of all buffers back. Nothing can be run or read any more.
    pub fn free(&mut self) {
        self.torn = true;
        let own = self.resolved.iter().flat_map(|resolved| resolved.buffers.iter().chain([&resolved.arena]));
        let buffers = self.state.buffers.iter().chain(own).chain(self.ring.buffers());
        buffers.chain(self.state.canary.buffers()).for_each(wgpu::Buffer::destroy);
    }

    /// The exact bytes that a session would create, before anything is.
    pub fn plan(layout: &StateLayout, programs: &[Program]) -> Memory {
        plan(layout, programs)
    }

    /// The exact bytes of the session's buffers by category. Not counted: staging that the driver makes for
    /// uploads, and that of `read_state` while it reads.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// Bytes counted where buffers are created: the same as `memory().total()`, found independently.
    pub fn created_bytes(&self) -> u64 {
        self.created
    }

    pub fn device(&self) -> &Device {
        &self.state.device
    }

    pub fn layout(&self) -> &StateLayout {
        &self.state.layout
    }

    /// A program by its index in the list given to `new`.
    ///
    /// # Panics
    /// Where there is no such program.
    pub fn program(&self, index: usize) -> &Program {
        &self.programs[index]
    }

    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// Replaces a whole state tensor, given in the bytes of its dtype.
    pub fn write_state(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.state.write(name, bytes)
    }

    /// The bytes of a whole state tensor after all runs so far.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_state(&self, name: &str) -> Result<Vec<u8>> {
        pollster::block_on(self.read_state_async(name))
    }

    /// Like `read_state`, on every target. Natively the future blocks while it is polled.
    pub async fn read_state_async(&self, name: &str) -> Result<Vec<u8>> {
        self.whole()?;
        self.state.read(name).await
    }

    /// The bytes of many whole state tensors, in few copies, on every target.
    pub async fn read_states_async(&self, names: &[&str]) -> Result<Vec<Vec<u8>>> {
        self.whole()?;
        self.state.read_all(names).await
    }

    /// Feeds an input of a program; it keeps its value until it is fed again.
    pub fn write_input(&mut self, program: usize, name: &str, bytes: &[u8]) -> Result<()> {
        let device = &self.state.device;
        device.healthy()?;
        let declared = self.known(program)?;
        let Some(input) = declared.inputs.iter().find(|input| input.name == name) else {
            let known = declared.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::feed(format!("the program `{}` has no input `{name}`; it has: {known}", declared.name)));
        };
        let expected = input.dtype.bytes(&input.shape);
        if bytes.len() as u64 != expected {
            return Err(Error::feed(format!(
                "the input `{name}` of `{}` is {}{} of {expected} bytes; got {}",
                declared.name,
                input.dtype,
                input.shape,
                bytes.len()
            )));
        }
        let buffer = &self.resolved[program].buffers[input.buffer];
        device.upload("refused an input", buffer, input.offset, bytes)
    }

    /// Sets a scalar of a program by its bits; it keeps its value until it is set again.
    pub fn write_scalar(&mut self, program: usize, name: &str, bits: u32) -> Result<()> {
        let declared = self.known(program)?;
        let Some(word) = declared.scalars.iter().position(|scalar| scalar.name == name) else {
            let known = declared.scalars.iter().map(|scalar| scalar.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::feed(format!(
                "the program `{}` has no scalar `{name}`; it has: {known}",
                declared.name
            )));
        };
        let resolved = &mut self.resolved[program];
        resolved.scalars_changed |= resolved.scalars[word] != bits;
        resolved.scalars[word] = bits;
        Ok(())
    }

    pub(super) fn known(&self, program: usize) -> Result<&Program> {
        let count = self.programs.len();
        let unknown = || Error::feed(format!("the session has {count} programs, there is no program {program}"));
        self.programs.get(program).ok_or_else(unknown)
    }

    /// The results of a run, waited for.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn fetch(&self, ticket: Ticket) -> Result<Results> {
        pollster::block_on(fetch(self.state.device.clone(), ticket))
    }

    /// The results of a run, on every target; the future does not borrow the session. Natively it blocks
    /// while it is polled.
    pub fn fetch_async(&self, ticket: Ticket) -> impl Future<Output = Result<Results>> + use<> {
        fetch(self.state.device.clone(), ticket)
    }

    /// Sets what a program's host segment of this name does.
    pub fn set_host_step(&mut self, name: impl Into<String>, step: Box<dyn HostStep>) {
        self.host_steps.insert(name.into(), step);
    }
}
