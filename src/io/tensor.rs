//! A tensor on the host, in the bytes that a device takes.
//!
//! Knows nothing about files: [`super::safetensors`] has its own, tightly packed form.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::Shape;

/// Data to be fed to a program: row-major elements, packed as on the device ([`DType::bytes`]).
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    pub dtype: DType,
    pub shape: Shape,
    /// Little-endian words.
    pub bytes: Vec<u8>,
}

impl HostTensor {
    /// A tensor of these f32 values, which must be as many as the shape says.
    pub fn f32(shape: impl Into<Shape>, values: &[f32]) -> Result<HostTensor> {
        HostTensor::new(DType::F32, shape.into(), values.len(), values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// A tensor of these i32 values: tokens, classes, positions.
    pub fn i32(shape: impl Into<Shape>, values: &[i32]) -> Result<HostTensor> {
        HostTensor::new(DType::I32, shape.into(), values.len(), values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// A tensor of these u32 values.
    pub fn u32(shape: impl Into<Shape>, values: &[u32]) -> Result<HostTensor> {
        HostTensor::new(DType::U32, shape.into(), values.len(), values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// A tensor of bytes, four to a word on the device.
    pub fn u8(shape: impl Into<Shape>, values: &[u8]) -> Result<HostTensor> {
        let mut bytes = values.to_vec();
        bytes.resize(values.len().next_multiple_of(4), 0);
        HostTensor::new(DType::U8, shape.into(), values.len(), bytes)
    }

    /// Some of the rows along axis 0; `None` for a scalar, or rows beyond the end.
    pub fn rows(&self, rows: std::ops::Range<usize>) -> Option<HostTensor> {
        let all = *self.shape.first()?;
        if rows.start > rows.end || rows.end > all {
            return None;
        }
        let shape: Shape = std::iter::once(rows.len()).chain(self.shape.iter().skip(1).copied()).collect();
        let before: Shape = std::iter::once(rows.start).chain(self.shape.iter().skip(1).copied()).collect();
        let width = 4usize.checked_div(self.dtype.per_word())?;
        let (start, length) = (before.numel().checked_mul(width)?, shape.numel().checked_mul(width)?);
        let mut bytes = self.bytes.get(start..start.checked_add(length)?)?.to_vec();
        bytes.resize(length.next_multiple_of(4), 0);
        Some(HostTensor { dtype: self.dtype, shape, bytes })
    }

    fn new(dtype: DType, shape: Shape, given: usize, bytes: Vec<u8>) -> Result<HostTensor> {
        if shape.numel() != given {
            let wanted = shape.numel();
            return Err(Error::feed(format!(
                "a tensor of shape {shape} has {wanted} elements, but {given} were given"
            )));
        }
        Ok(HostTensor { dtype, shape, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_device() -> Result<()> {
        let tensors = [
            HostTensor::f32([2], &[1.0, -2.0])?,
            HostTensor::i32([1, 1], &[-1])?,
            HostTensor::u32([], &[7])?,
            HostTensor::u8([5], &[1, 2, 3, 4, 5])?,
            HostTensor::u8([0], &[])?,
        ];
        for tensor in tensors {
            assert_eq!(tensor.bytes.len() as u64, tensor.dtype.bytes(&tensor.shape), "{tensor:?}");
        }
        assert!(HostTensor::f32([2, 2], &[0.0]).unwrap_err().to_string().contains("4 elements, but 1"));
        Ok(())
    }
}
