//! What is asked of a device and may be refused: buffers, uploads, submissions.
//!
//! Memory that is short is asked for twice: in between, what the device holds for nobody is given back. Knows no programs;
//! what a smaller step could do with less is the affair of `train`.

use super::Device;
use super::device::device_error;
use super::faults::Fault;
use crate::error::{Error, ErrorKind, Result};
use std::sync::atomic::Ordering::Relaxed;

/// Large downloads go in pieces of this size, so that staging stays small beside the planned memory.
pub(super) const CHUNK: u64 = 64 << 20;

/// Uploads are handed over after so many bytes, for the same reason: until then each has staging memory of its own. Small
/// enough that allocators give the next piece the memory of an earlier one.
const UPLOADED_AT_ONCE: u64 = 16 << 20;

impl Device {
    /// A new buffer. What it is for stands in the error if there is no memory: `holds` says what of it is largest.
    pub(super) fn buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
        holds: Option<(&str, u64)>,
    ) -> Result<wgpu::Buffer> {
        let largest = holds
            .map_or(String::new(), |(name, bytes)| format!(", of which the largest tensor, `{name}`, takes {bytes}"));
        let what = format!("{bytes} bytes for `{label}`{largest}");
        let explain = move |error: wgpu::Error| match error {
            wgpu::Error::OutOfMemory { .. } => Error::memory(format!("the device refused {what}")),
            wgpu::Error::Validation { .. } | wgpu::Error::Internal { .. } => device_error("refused a buffer", &error),
        };
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size: bytes, usage, mapped_at_creation: false };
        let injected = self.faults().error(Fault::Creation);
        self.judged(injected, explain, || self.wgpu_device().create_buffer(&descriptor))
    }

    /// Does what needs memory, and once more after [`Device::release`] if there is none.
    pub(super) fn twice<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        match work() {
            Err(error) if matches!(error.kind(), ErrorKind::Memory(_)) => {
                self.release()?;
                work()
            }
            other => other,
        }
    }

    /// Gives back what the device holds for nobody: kernels that no session uses, and what was dropped while work used it,
    /// which wgpu frees when it learns that the work is done.
    pub(super) fn release(&self) -> Result<()> {
        self.cache().release();
        #[cfg(not(target_arch = "wasm32"))]
        self.synchronize()?;
        #[cfg(target_arch = "wasm32")]
        self.check()?;
        Ok(())
    }

    /// Waits until all that was handed to the device so far is done, as `torch.cuda.synchronize`.
    ///
    /// # Errors
    /// [`ErrorKind::DeviceLost`] and [`ErrorKind::DeviceHung`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn synchronize(&self) -> Result<()> {
        let submitted = self.caught("refused to be waited for", || self.wgpu_queue().submit([]));
        let waited = submitted.and_then(|submission| self.wait_for(&submission));
        // A loss is known when its callback has run, and explains the rest.
        self.check().and(waited)
    }

    /// Writes bytes at a word-aligned offset; a last incomplete word is filled with zeros.
    pub(super) fn upload(&self, what: &'static str, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        self.twice(|| {
            let injected = self.faults().error(Fault::Creation);
            if injected.is_none() && cfg!(target_arch = "wasm32") {
                return self.caught(what, || self.write_words(buffer, offset, bytes));
            }
            let explain = move |error| device_error(what, &error);
            self.judged(injected, explain, || self.write_words(buffer, offset, bytes))
        })
    }

    fn write_words(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        let (whole, rest) = bytes.split_at(bytes.len() / 4 * 4);
        let write = |at: u64, part: &[u8]| {
            self.wgpu_queue().write_buffer(buffer, at, part);
            if self.uploaded().fetch_add(part.len() as u64, Relaxed) + part.len() as u64 >= UPLOADED_AT_ONCE {
                // Frees the staging memory soon.
                self.wgpu_queue().submit([]);
                self.uploaded().store(0, Relaxed);
            }
        };
        for (at, part) in (offset..).step_by(UPLOADED_AT_ONCE as usize).zip(whole.chunks(UPLOADED_AT_ONCE as usize)) {
            write(at, part);
        }
        if !rest.is_empty() {
            let mut word = [0; 4];
            word[..rest.len()].copy_from_slice(rest);
            write(offset + whole.len() as u64, &word);
        }
    }

    /// Hands work to the queue.
    pub(super) fn submit(
        &self,
        what: &'static str,
        commands: Option<wgpu::CommandBuffer>,
    ) -> Result<wgpu::SubmissionIndex> {
        self.faults().count_submission();
        self.uploaded().store(0, Relaxed);
        let injected = self.faults().error(Fault::Submission);
        let lost = injected.is_some() || self.faults().due(Fault::Dropped);
        let submit = || self.wgpu_queue().submit(commands.filter(|_| !lost));
        match injected {
            None => self.caught(what, submit),
            injected => self.judged(injected, move |error| device_error(what, &error), submit),
        }
    }
}
