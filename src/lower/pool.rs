//! Transient buffers handed from dead values to new ones. Knows sizes, not values.

use super::place::Placement;
use crate::program::Role;

/// Transient buffers that are free to be handed on.
#[derive(Default)]
pub(super) struct Pool {
    free: Vec<usize>,
    kept: Vec<usize>,
}

impl Pool {
    /// The smallest free buffer that fits; else the largest, grown; else a new one.
    pub(super) fn take(&mut self, placement: &mut Placement, bytes: u64) -> usize {
        let bytes = bytes.max(4).next_multiple_of(16);
        let size = |buffer: &usize| placement.buffers[*buffer].bytes;
        let fitting =
            self.free.iter().copied().filter(|buffer| size(buffer) >= bytes).min_by_key(|buffer| size(buffer));
        let chosen = fitting.or_else(|| self.free.iter().copied().max_by_key(|buffer| size(buffer)));
        match chosen {
            Some(buffer) => {
                self.free.retain(|&other| other != buffer);
                placement.buffers[buffer].bytes = placement.buffers[buffer].bytes.max(bytes);
                buffer
            }
            None => placement.declare(Role::Transient, bytes),
        }
    }

    /// A free buffer of just this size, else a new one: for values that are made small to be kept long, which must not
    /// hold a large buffer meanwhile.
    pub(super) fn take_alike(&mut self, placement: &mut Placement, bytes: u64) -> usize {
        let bytes = bytes.max(4).next_multiple_of(16);
        match self.free.iter().position(|&buffer| placement.buffers[buffer].bytes == bytes) {
            Some(at) => self.free.remove(at),
            None => placement.declare(Role::Transient, bytes),
        }
    }

    /// A buffer that passes from a dying value to a new one in place.
    pub(super) fn keep(&mut self, buffer: usize) {
        self.kept.push(buffer);
    }

    pub(super) fn give(&mut self, buffer: usize) {
        match self.kept.iter().position(|&kept| kept == buffer) {
            Some(at) => {
                self.kept.swap_remove(at);
            }
            None if !self.free.contains(&buffer) => self.free.push(buffer),
            None => {}
        }
    }
}
