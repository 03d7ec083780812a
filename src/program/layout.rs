//! Where the state of a session lies: which tensors share which buffer.
//!
//! Tensors of one category, group and dtype lie side by side in one flat buffer, each at a
//! 256-byte boundary, in the order they are declared. Then one dispatch can update all
//! parameters of a group, and gaps hold zeros.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::TensorType;
use std::collections::BTreeMap;

/// What a state tensor is for; memory reports are by category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    Weights,
    Gradients,
    Optimizer,
    Other,
}

impl Category {
    fn name(self) -> &'static str {
        match self {
            Category::Weights => "weights",
            Category::Gradients => "gradients",
            Category::Optimizer => "optimizer",
            Category::Other => "other",
        }
    }
}

/// A tensor that outlives runs.
#[derive(Debug, Clone, PartialEq)]
pub struct StateSpec {
    pub name: String,
    pub ty: TensorType,
    pub category: Category,
    /// Tensors of one group are updated alike and lie together.
    pub group: String,
}

/// One device buffer of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateBuffer {
    pub label: String,
    pub category: Category,
    pub bytes: u64,
}

/// A run of a tensor's elements in one buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub buffer: usize,
    /// In bytes, a multiple of 256.
    pub offset: u64,
    pub bytes: u64,
}

/// A state tensor with its place. More than one piece where it exceeds a binding.
#[derive(Debug, Clone, PartialEq)]
pub struct StateEntry {
    pub dtype: DType,
    pub shape: crate::shape::Shape,
    pub pieces: Vec<Piece>,
}

/// The places of all state tensors.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StateLayout {
    pub buffers: Vec<StateBuffer>,
    pub entries: BTreeMap<String, StateEntry>,
}

const ALIGNMENT: u64 = 256;

impl StateLayout {
    /// Lays out the tensors; no buffer exceeds `max_binding` bytes. A larger tensor is split by rows.
    pub fn build(specs: &[StateSpec], max_binding: u64) -> Result<StateLayout> {
        let mut layout = StateLayout::default();
        let mut open: BTreeMap<(Category, String, DType), usize> = BTreeMap::new();
        for spec in specs {
            let key = (spec.category, spec.group.clone(), spec.ty.dtype);
            let mut pieces = Vec::new();
            for bytes in split(spec, max_binding)? {
                let padded = bytes.max(4).next_multiple_of(ALIGNMENT);
                let full = |&buffer: &usize| layout.buffers[buffer].bytes + padded > max_binding;
                if open.get(&key).is_none_or(full) {
                    open.insert(key.clone(), layout.buffers.len());
                    let label = format!("{}/{}", spec.category.name(), spec.group);
                    layout.buffers.push(StateBuffer { label, category: spec.category, bytes: 0 });
                }
                let buffer = open[&key];
                pieces.push(Piece { buffer, offset: layout.buffers[buffer].bytes, bytes });
                layout.buffers[buffer].bytes += padded;
            }
            let entry = StateEntry { dtype: spec.ty.dtype, shape: spec.ty.shape.clone(), pieces };
            if layout.entries.insert(spec.name.clone(), entry).is_some() {
                return Err(Error::config(format!(
                    "two state tensors are called `{}`; names must be unique",
                    spec.name
                )));
            }
        }
        Ok(layout)
    }

    /// Where a state, or one of its pieces by [`piece_name`], lies in one piece; all of them if it does not.
    pub(crate) fn find(&self, name: &str) -> Option<(&StateEntry, &[Piece])> {
        if let Some(entry) = self.entries.get(name) {
            return Some((entry, &entry.pieces));
        }
        let (own, index) = name.rsplit_once(" piece ")?;
        let (entry, index) = (self.entries.get(own)?, index.parse::<usize>().ok()?);
        Some((entry, entry.pieces.get(index..=index)?))
    }

    /// Bytes of all buffers of a category.
    pub fn bytes(&self, category: Category) -> u64 {
        self.buffers.iter().filter(|buffer| buffer.category == category).map(|buffer| buffer.bytes).sum()
    }
}

/// The sizes of a tensor's pieces.
fn split(spec: &StateSpec, max_binding: u64) -> Result<Vec<u64>> {
    let bytes = spec.ty.dtype.bytes(&spec.ty.shape);
    if bytes <= max_binding {
        return Ok(vec![bytes]);
    }
    let rows = spec.ty.shape.first().copied().unwrap_or(1);
    let row_bytes = bytes / (rows as u64).max(1);
    let per_piece = (max_binding / row_bytes.max(1)).min(rows as u64);
    if per_piece == 0 {
        return Err(Error::memory(format!(
            "one row of `{}` {} takes {row_bytes} bytes, more than the {max_binding} that the device lets a kernel bind",
            spec.name, spec.ty
        )));
    }
    Ok(even(rows, per_piece as usize).into_iter().map(|rows| rows as u64 * row_bytes).collect())
}

/// `length` rows in as few ranges of at most `most` as that takes, or in some more if these are all alike: then they share their
/// kernels. Ranges hold multiples of four rows, so that vectors of four elements stay whole.
pub fn even(length: usize, most: usize) -> Vec<usize> {
    let most = most.max(1);
    let least = length.div_ceil(most).max(1);
    let alike = |count: &usize| length.is_multiple_of(4 * count) && length / count <= most;
    if let Some(count) = (least..=least + least / 2).find(alike) {
        return vec![length / count; count];
    }
    let size = length.div_ceil(least);
    let size = [64, 4].iter().map(|step| size.next_multiple_of(*step)).find(|&size| size <= most);
    let size = size.unwrap_or(if most < 4 { most } else { most / 4 * 4 });
    (0..length.div_ceil(size)).map(|range| size.min(length - range * size)).collect()
}

/// The name of a piece of a state, as kernels' graphs call it.
pub fn piece_name(name: &str, piece: usize) -> String {
    format!("{name} piece {piece}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, shape: &[usize]) -> StateSpec {
        let ty = TensorType::new(shape, DType::F32);
        StateSpec { name: name.into(), ty, category: Category::Weights, group: "all".into() }
    }

    #[test]
    fn tensors_share_a_buffer_at_256_byte_steps_and_large_ones_are_split_by_rows() -> Result<()> {
        let layout = StateLayout::build(&[spec("a", &[3]), spec("b", &[100]), spec("c", &[40, 64])], 4096)?;
        assert_eq!(layout.entries["b"].pieces, [Piece { buffer: 0, offset: 256, bytes: 400 }]);
        let sizes: Vec<u64> = layout.entries["c"].pieces.iter().map(|piece| piece.bytes).collect();
        assert_eq!(sizes, [16 * 256, 16 * 256, 8 * 256]);
        assert_eq!(even(4096, 667), [512; 8]);
        assert_eq!(even(50_304, 43_690), [25_152; 2]);
        assert_eq!(even(50_257, 43_690), [25_152, 25_105]);
        assert_eq!((even(7, 3), even(3, 9), even(0, 5)), (vec![3, 3, 1], vec![3], vec![0]));
        assert!(layout.buffers.iter().all(|buffer| buffer.bytes <= 4096));
        Ok(())
    }

    #[test]
    fn a_row_that_cannot_be_bound_is_refused() {
        let error = StateLayout::build(&[spec("wide", &[2, 2048])], 4096).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("wide"), "{error}");
    }
}
