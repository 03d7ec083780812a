//! Tensors that outlive runs, read and written from the host.
//!
//! Knows the state's layout, no programs.

use super::canary::{BYTES as TALLY, Canary, split, verify};
use super::readback::{Mapping, take_mapped};
use super::supply::CHUNK;
use super::{Device, check::whole_words};
use crate::error::{Error, ErrorKind, Result};
use crate::program::{StateEntry, StateLayout};
use std::sync::Arc;

/// With so much staging state can be read, if slowly.
const LEAST: u64 = 64 << 10;

/// The state's buffers with what lies in them.
pub(super) struct State {
    pub device: Device,
    pub layout: StateLayout,
    pub buffers: Vec<wgpu::Buffer>,
    pub canary: Arc<Canary>,
}

/// A part of a tensor on its way home.
struct Part<'a> {
    /// Index among the tensors that are read.
    tensor: usize,
    buffer: &'a wgpu::Buffer,
    from: u64,
    /// Where it goes in the staging buffer.
    to: u64,
    bytes: u64,
}

impl State {
    fn entry(&self, name: &str) -> Result<&StateEntry> {
        let unknown = || Error::feed(format!("the session has no state tensor `{name}`"));
        self.layout.entries.get(name).ok_or_else(unknown)
    }

    /// Writes a whole tensor, all its pieces.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.device.check()?;
        let entry = self.entry(name)?;
        let expected = entry.dtype.bytes(&entry.shape);
        if bytes.len() as u64 != expected {
            return Err(Error::feed(format!(
                "the state tensor `{name}` is {}{} of {expected} bytes; got {}",
                entry.dtype,
                entry.shape,
                bytes.len()
            )));
        }
        let mut rest = bytes;
        for piece in &entry.pieces {
            let (data, after) = rest.split_at(rest.len().min(piece.bytes as usize));
            self.device.upload("refused to write state", &self.buffers[piece.buffer], piece.offset, data)?;
            rest = after;
        }
        Ok(())
    }

    /// Reads a whole tensor through a temporary staging buffer, which the planned memory does not count.
    pub async fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.read_all(&[name]).await.map(|mut tensors| tensors.pop().unwrap_or_default())
    }

    /// Reads whole tensors, many in one copy: waiting for each alone would cost more than the copy of a small one.
    pub async fn read_all(&self, names: &[&str]) -> Result<Vec<Vec<u8>>> {
        self.device.settle().await?;
        let entries: Vec<&StateEntry> = names.iter().map(|name| self.entry(name)).collect::<Result<_>>()?;
        let pieces = || entries.iter().enumerate().flat_map(|(i, entry)| entry.pieces.iter().map(move |p| (i, p)));
        let total: u64 = pieces().map(|(_, piece)| whole_words(piece.bytes)).sum();
        let staging = self.staging(whole_words(total.min(CHUNK)))?;
        let room = staging.size() - TALLY;
        let reserved = |entry: &&StateEntry| Vec::with_capacity(entry.dtype.bytes(&entry.shape) as usize);
        let mut tensors: Vec<Vec<u8>> = entries.iter().map(reserved).collect();
        let (mut batch, mut filled) = (Vec::new(), 0);
        for (tensor, piece) in pieces() {
            let mut done = 0;
            while done < piece.bytes {
                if filled == room {
                    self.bring_home(&staging, &batch, &mut tensors).await?;
                    (batch, filled) = (Vec::new(), 0);
                }
                let bytes = (piece.bytes - done).min(room - filled);
                let from = piece.offset + done;
                batch.push(Part { tensor, buffer: &self.buffers[piece.buffer], from, to: filled, bytes });
                filled += whole_words(bytes);
                done += bytes;
            }
        }
        self.bring_home(&staging, &batch, &mut tensors).await?;
        staging.destroy();
        self.device.settle().await?;
        Ok(tensors)
    }

    /// Copies parts of tensors into the staging buffer, waits, and appends each to its tensor.
    async fn bring_home(&self, staging: &wgpu::Buffer, parts: &[Part<'_>], tensors: &mut [Vec<u8>]) -> Result<()> {
        let Some(last) = parts.last() else { return Ok(()) };
        let filled = last.to + whole_words(last.bytes);
        let what = "refused to read state";
        let (submission, tally) = self.device.caught(what, || {
            let mut encoder = self.device.wgpu_device().create_command_encoder(&Default::default());
            for part in parts {
                encoder.copy_buffer_to_buffer(part.buffer, part.from, staging, part.to, whole_words(part.bytes));
            }
            self.canary.submit(&self.device, what, encoder, Some((staging, filled)))
        })??;
        let mapping = self.device.caught(what, || Mapping::start(&self.device, staging, filled + TALLY))?;
        mapping.wait(&self.device, &submission).await?;
        let bytes = take_mapped(&self.device, staging, filled + TALLY)?;
        let (bytes, returned) = split(&bytes, filled)?;
        verify(&self.device, &tally, returned)?;
        for part in parts {
            let (from, to) = (part.to as usize, (part.to + part.bytes) as usize);
            tensors[part.tensor].extend_from_slice(&bytes[from..to]);
        }
        Ok(())
    }

    /// Room for so many bytes and a tally; where memory is short, for fewer.
    fn staging(&self, bytes: u64) -> Result<wgpu::Buffer> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let mut bytes = (bytes + TALLY).min(self.device.profile().max_buffer_bytes);
        loop {
            match self.device.twice(|| self.device.buffer("state readback", bytes, usage, None)) {
                Err(error) if bytes > LEAST && matches!(error.kind(), ErrorKind::Memory(_)) => {
                    bytes = LEAST.max(whole_words(bytes / 8));
                }
                other => return other,
            }
        }
    }
}

/// What a host step may do: read and write the session's state.
pub struct HostContext<'a> {
    #[cfg_attr(target_arch = "wasm32", expect(dead_code))]
    pub(super) state: &'a State,
}

#[cfg(not(target_arch = "wasm32"))]
impl HostContext<'_> {
    /// The bytes of a whole state tensor.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        pollster::block_on(self.state.read(name))
    }

    /// Replaces a whole state tensor.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.state.write(name, bytes)
    }

    /// The names of the state's tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.state.layout.entries.keys().map(String::as_str)
    }
}
