//! NaN wherever nobody has written, for tests: what a kernel reads of it shows in what it gives.
//!
//! Memory that programs share is filled when it is new, and again before each program runs. Knows no
//! programs beyond their buffers. State and inputs begin as zeros, and so do the gaps between their tensors: one dispatch
//! goes over all tensors that are treated alike, and gaps of zeros stay zeros.

use super::Device;
use crate::error::Result;

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
        for buffer in &self.shared {
            let mut done = 0;
            while done < buffer.size() {
                let bytes = self.stock.size().min(buffer.size() - done);
                encoder.copy_buffer_to_buffer(&self.stock, 0, buffer, done, bytes);
                done += bytes;
            }
        }
    }
}

/// Fills a part of a buffer.
pub(super) fn fill(device: &Device, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<()> {
    let words = vec![WORD; (bytes / 4) as usize];
    device.upload("refused to be poisoned", buffer, offset, bytemuck::cast_slice(&words))
}
