//! Element types, and how many bytes a tensor of them takes.

use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// The type of a tensor's elements.
///
/// `F16` and `BF16` are stored packed, two to a 32-bit word; `U8` is an input format, packed four
/// to a word and read as `u32`. A `Bool` takes a whole word on the device (0 or 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DType {
    F32,
    F16,
    BF16,
    I32,
    U32,
    Bool,
    U8,
}

impl DType {
    /// Bytes that a tensor of this shape occupies on the device, whole words.
    ///
    /// Sizes come from here and never from element count times element size, because packed
    /// types do not have one.
    pub fn bytes(self, shape: &Shape) -> u64 {
        let elements = shape.numel() as u64;
        match self {
            DType::F32 | DType::I32 | DType::U32 | DType::Bool => elements * 4,
            DType::F16 | DType::BF16 => elements.div_ceil(2) * 4,
            DType::U8 => elements.div_ceil(4) * 4,
        }
    }

    /// Elements held by one 32-bit word of storage.
    pub fn per_word(self) -> usize {
        match self {
            DType::F32 | DType::I32 | DType::U32 | DType::Bool => 1,
            DType::F16 | DType::BF16 => 2,
            DType::U8 => 4,
        }
    }

    /// Floating point: has gradients.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::BF16)
    }

    /// An integer on which arithmetic is defined.
    pub fn is_int(self) -> bool {
        matches!(self, DType::I32 | DType::U32)
    }

    /// The name that PyTorch-like texts and our messages use.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::Bool => "bool",
            DType::U8 => "u8",
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
