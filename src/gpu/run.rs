//! The loop over dispatches: one encoder and submission a run, one compute pass a segment.
//!
//! Allocates nothing per dispatch and decides nothing but where work that takes long is cut: everything was resolved
//! before.

use super::canary::{Canary, Tally};
use super::pace::Stretch as Measured;
use super::poison::Poison;
use super::readback::{Slot, Ticket};
use super::resolve::{Resolved, Stretch};
use super::session::Session;
use super::{Device, HostContext};
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::Arc;
use web_time::Instant;

const REFUSED: &str = "refused a run";

impl Session {
    /// Runs these programs one after the other and returns at once, unless a host step has to be waited
    /// for. A program that occurs twice leaves the outputs of its last turn. Where [`super::READBACK_RING`]
    /// runs are in flight, the oldest is waited for and its results kept (in a browser that is an error:
    /// await it first).
    pub fn run(&mut self, programs: &[usize]) -> Result<Ticket> {
        self.check_run(programs)?;
        let device = self.state.device.clone();
        let slot = self.ring.claim(&device, programs)?;
        let sent = self.send(&device, programs, Some(&slot))?;
        let measured = self.unread.take();
        let ticket = device.caught("refused to return results", || self.ring.start(&device, slot, sent, measured));
        // What the run did is done.
        self.torn |= ticket.is_err();
        ticket
    }

    /// As [`Session::run`] where nobody asks for outputs: what counts is in the state.
    pub fn run_unread(&mut self, programs: &[usize]) -> Result<()> {
        self.check_run(programs)?;
        let device = self.state.device.clone();
        self.send(&device, programs, None).map(|_| ())
    }

    /// Says that every state that matters was written anew, after a run that failed in its middle.
    pub fn state_is_whole(&mut self) {
        self.torn = false;
    }

    /// An error where the state is neither that before a run nor that after it.
    pub(super) fn whole(&self) -> Result<()> {
        if !self.torn {
            return Ok(());
        }
        let message = "an earlier run failed in its middle; resume from a checkpoint, or build it again";
        Err(Error::device("has no whole state".into(), message.into()))
    }

    /// Submits the programs; notes what is known of the time that they take, and if only a part of them was submitted.
    fn send(
        &mut self,
        device: &Device,
        programs: &[usize],
        slot: Option<&Slot>,
    ) -> Result<(wgpu::SubmissionIndex, Tally)> {
        let idle = self.ring.idle();
        let mut recorder = Recorder::new(device, Arc::clone(&self.state.canary), self.pace.longest());
        let sent = device.caught(REFUSED, || self.record(&mut recorder, programs, slot)).and_then(|sent| sent);
        self.torn |= sent.is_err() && recorder.begun.is_some();
        if let Some(begun) = recorder.begun {
            let measured = self.unread.get_or_insert(Measured { micros: 0.0, begun, idle });
            measured.micros += recorder.total;
            // The host's time is not the device's.
            measured.idle &= !recorder.waited;
        }
        sent
    }

    fn check_run(&self, programs: &[usize]) -> Result<()> {
        self.state.device.check()?;
        self.whole()?;
        for &index in programs {
            self.known(index)?;
            for stretch in &self.resolved[index].stretches {
                let Stretch::Host(name) = stretch else { continue };
                if cfg!(target_arch = "wasm32") {
                    let message = format!("the host step `{name}` has to wait for the GPU, which a browser forbids");
                    return Err(Error::config(message));
                }
                if !self.host_steps.contains_key(name) {
                    let message = format!("no host step `{name}` is set; call `set_host_step` before the run");
                    return Err(Error::config(message));
                }
            }
        }
        Ok(())
    }

    fn record(
        &mut self,
        recorder: &mut Recorder<'_>,
        programs: &[usize],
        slot: Option<&Slot>,
    ) -> Result<(wgpu::SubmissionIndex, Tally)> {
        for &index in programs {
            self.resolved[index].write_scalars(recorder.device)?;
        }
        for &index in programs {
            if let Some(poison) = &self.poison {
                poison.spread(recorder.encoder());
            }
            for stretch in 0..self.resolved[index].stretches.len() {
                let program = &self.resolved[index];
                match &program.stretches[stretch] {
                    Stretch::Gpu(steps) => recorder.segment(program, steps.clone(), self.poison.as_ref())?,
                    Stretch::Host(name) => {
                        let (name, (submission, _)) = (name.clone(), recorder.submit(None)?);
                        self.call_host(&name, &submission)?;
                        recorder.waited = true;
                    }
                }
            }
            // At once: the next program may reuse the buffers that these outputs lie in.
            let Some(slot) = slot else { continue };
            for copy in &self.resolved[index].copies {
                let to = slot.base(index) + copy.to;
                recorder.encoder().copy_buffer_to_buffer(&copy.buffer, copy.offset, &slot.buffer, to, copy.bytes);
            }
        }
        recorder.submit(slot.map(|slot| &slot.buffer))
    }

    fn call_host(&mut self, name: &str, after: &wgpu::SubmissionIndex) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        self.state.device.wait_for(after)?;
        #[cfg(target_arch = "wasm32")]
        let _ = after;
        match self.host_steps.get_mut(name) {
            Some(step) => step.call(&mut HostContext { state: &self.state }),
            None => Ok(()),
        }
    }
}

/// The encoder in use, and how much work waits in it.
struct Recorder<'a> {
    device: &'a Device,
    canary: Arc<Canary>,
    encoder: Option<wgpu::CommandEncoder>,
    /// The most that one submission may take, and what waits, in estimated microseconds.
    longest: f32,
    micros: f32,
    /// Of all submissions.
    total: f32,
    /// When the first was submitted.
    begun: Option<Instant>,
    /// The host had to wait between submissions.
    waited: bool,
}

impl<'a> Recorder<'a> {
    fn new(device: &'a Device, canary: Arc<Canary>, longest: f32) -> Recorder<'a> {
        Recorder { device, canary, encoder: None, longest, micros: 0.0, total: 0.0, begun: None, waited: false }
    }

    fn encoder(&mut self) -> &mut wgpu::CommandEncoder {
        let device = self.device.wgpu_device();
        self.encoder.get_or_insert_with(|| device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()))
    }

    /// Submits what waits; the last submission of a run sends the tally to the beginning of its slot.
    fn submit(&mut self, slot: Option<&wgpu::Buffer>) -> Result<(wgpu::SubmissionIndex, Tally)> {
        let descriptor = wgpu::CommandEncoderDescriptor::default();
        let waiting = self.encoder.take();
        let encoder = waiting.unwrap_or_else(|| self.device.wgpu_device().create_command_encoder(&descriptor));
        let sent = self.canary.submit(self.device, REFUSED, encoder, slot.map(|slot| (slot, 0)))?;
        self.begun.get_or_insert_with(Instant::now);
        self.total += std::mem::take(&mut self.micros);
        Ok(sent)
    }

    /// A segment; in tests what it needs no more is filled between its steps.
    fn segment(&mut self, program: &Resolved, mut steps: Range<usize>, poison: Option<&Poison>) -> Result<()> {
        let Some(poison) = poison else { return self.steps(program, steps) };
        for step in steps.clone() {
            let Some(ranges) = program.expired.get(&step) else { continue };
            self.steps(program, steps.start..step + 1)?;
            steps.start = step + 1;
            for range in ranges {
                poison.over(self.encoder(), &program.buffers[range.buffer], range.offset, range.bytes);
            }
        }
        self.steps(program, steps)
    }

    /// Steps in one pass, or in several submissions where they would take too long.
    fn steps(&mut self, program: &Resolved, mut steps: Range<usize>) -> Result<()> {
        while !steps.is_empty() {
            steps.start = self.pass(program, steps.clone());
            if !steps.is_empty() {
                self.submit(None)?;
            }
        }
        Ok(())
    }

    /// Encodes steps until the submission is full; gives the first that was left out.
    fn pass(&mut self, program: &Resolved, steps: Range<usize>) -> usize {
        let (mut micros, longest) = (self.micros, self.longest);
        let mut pass = self.encoder().begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        let mut set = None;
        let mut end = steps.end;
        for index in steps {
            let step = &program.steps[index];
            if micros > 0.0 && micros + step.micros > longest {
                end = index;
                break;
            }
            micros += step.micros;
            if set != Some(step.pipeline) {
                pass.set_pipeline(&program.pipelines[step.pipeline as usize].pipeline);
                set = Some(step.pipeline);
            }
            pass.set_bind_group(0, &program.groups[step.group as usize], &[step.offset]);
            pass.dispatch_workgroups(step.groups[0], step.groups[1], 1);
        }
        drop(pass);
        self.micros = micros;
        end
    }
}
