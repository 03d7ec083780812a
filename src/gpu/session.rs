//! A session: state on the device, and programs that share it, ready to run.
//!
//! Knows no models and no training loop; names and bytes come from the programs.

use super::check::{check, plan, slot_bytes};
use super::device::device_error;
use super::readback::{READBACK_RING, Results, Ring, Ticket, fetch};
use super::resolve::{Allocator, Resolved, pipelines};
use super::state::{State, write_words};
use super::{Device, HostContext};
use crate::error::{Error, Result};
use crate::program::{Memory, Program, StateLayout};
use std::collections::HashMap;

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
    programs: Vec<Program>,
    memory: Memory,
    created: u64,
}

/// A browser would free the buffers only when its garbage collector comes by.
#[cfg(target_arch = "wasm32")]
impl Drop for Session {
    fn drop(&mut self) {
        let own = self.resolved.iter().flat_map(|resolved| resolved.buffers.iter().chain([&resolved.arena]));
        self.state.buffers.iter().chain(own).chain(self.ring.buffers()).for_each(wgpu::Buffer::destroy);
    }
}

impl Session {
    /// Compiles the kernels and creates all that the programs need; the state begins as zeros.
    ///
    /// In a browser, errors of the compiler and of memory are known later: the first `fetch_async` gives
    /// them, or [`Session::new_async`] waits for them.
    pub fn new(device: &Device, layout: StateLayout, programs: Vec<Program>) -> Result<Session> {
        device.check()?;
        check(device.profile(), &layout, &programs)?;
        let pipelines = pipelines(device, &programs)?;
        let memory = plan(&layout, &programs);
        let total = memory.total();
        let explain = move |error: wgpu::Error| match error {
            wgpu::Error::OutOfMemory { .. } => Error::Memory(format!(
                "the device refused {total} bytes of buffers; use a smaller batch, sequence or model, or close other \
                 programs that use the GPU"
            )),
            wgpu::Error::Validation { .. } | wgpu::Error::Internal { .. } => device_error("refused a session", &error),
        };
        let session = device.guarded(explain, || {
            let allocator = Allocator::new(device);
            let buffers = allocator.state(&layout);
            let transients = allocator.transients(&programs);
            let resolve = |(program, pipelines)| Resolved::new(&allocator, program, &buffers, &transients, pipelines);
            let resolved = programs.iter().zip(pipelines).map(resolve).collect();
            let ring = Ring::new(allocator.readback(READBACK_RING, slot_bytes(&programs)), &programs);
            let created = allocator.created();
            let state = State { device: device.clone(), layout, buffers };
            Session { state, resolved, ring, host_steps: HashMap::new(), programs, memory, created }
        })?;
        device.check()?;
        Ok(session)
    }

    /// Like `new`, and waits until the device has accepted everything, in a browser too.
    pub async fn new_async(device: &Device, layout: StateLayout, programs: Vec<Program>) -> Result<Session> {
        let session = Session::new(device, layout, programs)?;
        device.settle().await?;
        Ok(session)
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
        pollster::block_on(self.state.read(name))
    }

    /// Like `read_state`, on every target. Natively the future blocks while it is polled.
    pub async fn read_state_async(&self, name: &str) -> Result<Vec<u8>> {
        self.state.read(name).await
    }

    /// The bytes of many whole state tensors, in few copies, on every target.
    pub async fn read_states_async(&self, names: &[&str]) -> Result<Vec<Vec<u8>>> {
        self.state.read_all(names).await
    }

    /// Feeds an input of a program; it keeps its value until it is fed again.
    pub fn write_input(&mut self, program: usize, name: &str, bytes: &[u8]) -> Result<()> {
        let device = &self.state.device;
        device.healthy()?;
        let declared = self.known(program)?;
        let Some(input) = declared.inputs.iter().find(|input| input.name == name) else {
            let known = declared.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::Feed(format!("the program `{}` has no input `{name}`; it has: {known}", declared.name)));
        };
        let expected = input.dtype.bytes(&input.shape);
        if bytes.len() as u64 != expected {
            return Err(Error::Feed(format!(
                "the input `{name}` of `{}` is {}{} of {expected} bytes; got {}",
                declared.name,
                input.dtype,
                input.shape,
                bytes.len()
            )));
        }
        let buffer = &self.resolved[program].buffers[input.buffer];
        device.guarded_if_borrowed("refused an input", || write_words(device, buffer, input.offset, bytes))
    }

    /// Sets a scalar of a program by its bits; it keeps its value until it is set again.
    pub fn write_scalar(&mut self, program: usize, name: &str, bits: u32) -> Result<()> {
        let declared = self.known(program)?;
        let Some(word) = declared.scalars.iter().position(|scalar| scalar.name == name) else {
            let known = declared.scalars.iter().map(|scalar| scalar.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::Feed(format!(
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
        let unknown = || Error::Feed(format!("the session has {count} programs, there is no program {program}"));
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
