//! Host tensors of the reference, and what it means to round a number to an element type.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::TensorType;
use crate::shape::Shape;

/// How the reference rounds the results of operations on floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Not at all: every float type is computed in f64. For gradients by finite differences.
    #[default]
    F64,
    /// To the element type (f32, f16 or bf16) after every operation; sums within one operation stay in f64.
    F32,
}

/// A tensor on the host: row-major elements in f64, in which integers and bools (0 or 1) are exact.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub ty: TensorType,
    pub data: Vec<f64>,
}

impl Array {
    /// A tensor of these elements, row-major.
    pub fn new(shape: impl Into<Shape>, dtype: DType, data: Vec<f64>) -> Array {
        Array { ty: TensorType::new(shape, dtype), data }
    }

    /// An f32 tensor.
    pub fn floats(shape: impl Into<Shape>, data: &[f32]) -> Array {
        Array::new(shape, DType::F32, data.iter().map(|&value| f64::from(value)).collect())
    }

    /// An i32 tensor.
    pub fn ints(shape: impl Into<Shape>, data: &[i32]) -> Array {
        Array::new(shape, DType::I32, data.iter().map(|&value| f64::from(value)).collect())
    }

    /// A tensor filled with one value.
    pub fn full(shape: impl Into<Shape>, dtype: DType, value: f64) -> Array {
        let ty = TensorType::new(shape, dtype);
        Array { data: vec![value; ty.shape.numel()], ty }
    }

    /// The elements rounded to f32.
    pub fn to_f32(&self) -> Vec<f32> {
        self.data.iter().map(|&value| value as f32).collect()
    }

    /// The array, if it is what `name` was declared to be.
    pub(super) fn check(&self, kind: &str, name: &str, wanted: &TensorType) -> Result<()> {
        if self.ty != *wanted {
            return Err(Error::feed(format!("{kind} `{name}` is {wanted}, but was given {}", self.ty)));
        }
        let (have, want) = (self.data.len(), wanted.shape.numel());
        if have != want {
            return Err(Error::feed(format!("{kind} `{name}` is {wanted} ({want} elements), but was given {have}")));
        }
        Ok(())
    }
}

/// The nearest value of the element type. Integers wrap around; floats follow the precision.
pub(super) fn settle(value: f64, dtype: DType, precision: Precision) -> f64 {
    match dtype {
        // The cast to i64 is exact: integer operations hand in whole numbers below 2^63.
        DType::I32 => f64::from(value as i64 as i32),
        DType::U32 => f64::from(value as i64 as u32),
        DType::U8 => f64::from(value as i64 as u8),
        DType::Bool => f64::from(u8::from(value != 0.0)),
        DType::F32 | DType::F16 | DType::BF16 => match precision {
            Precision::F64 => value,
            Precision::F32 => round_float(value as f32, dtype),
        },
    }
}

fn round_float(value: f32, dtype: DType) -> f64 {
    match dtype {
        DType::F16 => half::f16::from_f32(value).to_f64(),
        DType::BF16 => half::bf16::from_f32(value).to_f64(),
        DType::F32 | DType::I32 | DType::U32 | DType::Bool | DType::U8 => f64::from(value),
    }
}
