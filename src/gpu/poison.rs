//! NaN wherever nobody has written, for tests: what a kernel reads of it shows in what it gives.
//!
//! Memory that programs share is filled when it is new, before each program runs, and value by value within a run when
//! nobody needs them any more. Of programs it knows their buffers, and what they say has expired. State and inputs begin as
//! zeros, and so do the gaps between their tensors: one dispatch goes over all tensors that are treated alike, and gaps of
//! zeros stay zeros.

use super::Device;
use crate::error::Result;
use crate::program::{Binding, Program, Segment};
use std::collections::HashMap;

/// A NaN as an f32, as two of f16, and as two of bf16; far out of range as an index.
const WORD: u32 = 0x7FFF_7FFF;
/// The most that is copied at once.
const LARGEST: u64 = 16 << 20;

/// A stock of NaN.
pub(super) struct Poison {
    stock: wgpu::Buffer,
    shared: Vec<wgpu::Buffer>,
}

impl Poison {
    /// For these shared buffers, which are filled before each program.
    pub fn new(device: &Device, shared: &[wgpu::Buffer]) -> Result<Poison> {
        let size = shared.iter().map(wgpu::Buffer::size).max().unwrap_or(4).min(LARGEST);
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let stock = device.buffer("poison", size, usage, None)?;
        fill(device, &stock, 0, size)?;
        Ok(Poison { stock, shared: shared.to_vec() })
    }

    /// Fills what is shared.
    pub fn spread(&self, encoder: &mut wgpu::CommandEncoder) {
        self.shared.iter().for_each(|buffer| self.over(encoder, buffer, 0, buffer.size()));
    }

    /// Fills a part of a buffer when the encoder's work before it is done.
    pub fn over(&self, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer, offset: u64, bytes: u64) {
        let mut done = 0;
        while done < bytes {
            let copied = self.stock.size().min(bytes - done);
            encoder.copy_buffer_to_buffer(&self.stock, 0, buffer, offset + done, copied);
            done += copied;
        }
    }
}

/// After which step of a run which ranges hold nothing any more. Of what is left after a program its outputs are still to
/// be read.
pub(super) fn expired(program: &Program) -> HashMap<usize, Vec<Binding>> {
    let mut step = 0;
    // When each dispatch runs for the last time, as they are listed.
    let mut last_runs = Vec::new();
    for segment in &program.segments {
        let (count, body) = match segment {
            Segment::Gpu(dispatches) => (1, dispatches.len()),
            Segment::Repeat { count, body, .. } => (*count as usize, body.len()),
            Segment::Host(_) => (0, 0),
        };
        let end = step + count * body;
        let never = usize::MAX;
        last_runs.extend((0..body).map(|index| if count == 0 { never } else { end - body + index }));
        step = end;
    }
    let mut ranges: HashMap<usize, Vec<Binding>> = HashMap::new();
    for expired in &program.expired {
        match last_runs.get(expired.after) {
            Some(&at) if at < step.saturating_sub(1) => ranges.entry(at).or_default().push(expired.range),
            _ => {}
        }
    }
    ranges
}

/// Fills a part of a buffer.
pub(super) fn fill(device: &Device, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<()> {
    let words = vec![WORD; (bytes / 4) as usize];
    device.upload("refused to be poisoned", buffer, offset, bytemuck::cast_slice(&words))
}
