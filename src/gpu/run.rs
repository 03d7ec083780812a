//! The loop over dispatches: one encoder and submission a run, one compute pass a segment.
//!
//! Allocates nothing per dispatch and decides nothing: everything was resolved before.

use super::readback::{Slot, Ticket};
use super::resolve::{Resolved, Stretch};
use super::session::Session;
use super::{Device, HostContext};
use crate::error::{Error, Result};
use std::ops::Range;

/// Estimated work of one submission. Windows resets a GPU that is busy for two seconds, and the
/// estimates are crude.
const SUBMISSION_MICROS: f32 = 200_000.0;

impl Session {
    /// Runs these programs one after the other and returns at once, unless a host step has to be waited
    /// for. A program that occurs twice leaves the outputs of its last turn. Where [`super::READBACK_RING`]
    /// runs are in flight, the oldest is waited for and its results kept (in a browser that is an error:
    /// await it first).
    pub fn run(&mut self, programs: &[usize]) -> Result<Ticket> {
        self.state.device.check()?;
        self.check_run(programs)?;
        let device = self.state.device.clone();
        let slot = self.ring.claim(&device, programs)?;
        let submission =
            device.guarded_if_borrowed("refused a run", || self.record(&device, programs, Some(&slot)))??;
        let start = || self.ring.start(slot, submission);
        device.guarded_if_borrowed("refused to return results", start)
    }

    /// As [`Session::run`] where nobody asks for outputs: what counts is in the state.
    pub fn run_unread(&mut self, programs: &[usize]) -> Result<()> {
        self.state.device.check()?;
        self.check_run(programs)?;
        let device = self.state.device.clone();
        device.guarded_if_borrowed("refused a run", || self.record(&device, programs, None))??;
        Ok(())
    }

    fn check_run(&self, programs: &[usize]) -> Result<()> {
        for &index in programs {
            self.known(index)?;
            for stretch in &self.resolved[index].stretches {
                let Stretch::Host(name) = stretch else { continue };
                if cfg!(target_arch = "wasm32") {
                    let message = format!("the host step `{name}` has to wait for the GPU, which a browser forbids");
                    return Err(Error::Config(message));
                }
                if !self.host_steps.contains_key(name) {
                    let message = format!("no host step `{name}` is set; call `set_host_step` before the run");
                    return Err(Error::Config(message));
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, device: &Device, programs: &[usize], slot: Option<&Slot>) -> Result<wgpu::SubmissionIndex> {
        for &index in programs {
            self.resolved[index].write_scalars(device);
        }
        let mut recorder = Recorder { device, encoder: None, micros: 0.0 };
        // So that every run, even one without outputs, touches its slot, whose mapping then follows the run.
        if let Some(slot) = slot {
            recorder.encoder().clear_buffer(&slot.buffer, 0, Some(4));
        }
        for &index in programs {
            for stretch in 0..self.resolved[index].stretches.len() {
                let program = &self.resolved[index];
                match &program.stretches[stretch] {
                    Stretch::Gpu(steps) => recorder.segment(program, steps.clone()),
                    Stretch::Host(name) => {
                        let (name, submission) = (name.clone(), recorder.submit());
                        self.call_host(&name, &submission)?;
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
        Ok(recorder.submit())
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
    encoder: Option<wgpu::CommandEncoder>,
    micros: f32,
}

impl Recorder<'_> {
    fn encoder(&mut self) -> &mut wgpu::CommandEncoder {
        let device = self.device.wgpu_device();
        self.encoder.get_or_insert_with(|| device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()))
    }

    fn submit(&mut self) -> wgpu::SubmissionIndex {
        self.micros = 0.0;
        let commands = self.encoder.take().map(wgpu::CommandEncoder::finish);
        self.device.wgpu_queue().submit(commands)
    }

    /// A segment in one pass, or in several submissions where it would take too long.
    fn segment(&mut self, program: &Resolved, mut steps: Range<usize>) {
        while !steps.is_empty() {
            steps.start = self.pass(program, steps.clone());
            if !steps.is_empty() {
                self.submit();
            }
        }
    }

    /// Encodes steps until the submission is full; gives the first that was left out.
    fn pass(&mut self, program: &Resolved, steps: Range<usize>) -> usize {
        let mut micros = self.micros;
        let mut pass = self.encoder().begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        let mut set = None;
        let mut end = steps.end;
        for index in steps {
            let step = &program.steps[index];
            if micros > 0.0 && micros + step.micros > SUBMISSION_MICROS {
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
