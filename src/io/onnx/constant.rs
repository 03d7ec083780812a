//! Tensors whose elements are known while a model is imported: weights, shapes, axes, counts.
//!
//! Elements are held in f64, in which everything but the largest 64-bit integers is exact. It knows the encodings of
//! `TensorProto`, and nothing of operators. Read next: `trace.rs`.

use super::limits::{MAX_ELEMENTS, MAX_RANK};
use super::proto::{TensorProto, data_type};
use crate::dtype::DType;
use crate::reference::Array;
use crate::shape::Shape;

/// Element types of constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elem {
    F32,
    /// Only while importing: no tensor of a graph has it.
    F64,
    I32,
    /// Becomes i32 in a graph; a value out of range is an error there.
    I64,
    Bool,
}

impl Elem {
    /// The element type of that number in the format.
    pub fn from_number(number: i32) -> Option<Elem> {
        match number {
            data_type::FLOAT => Some(Elem::F32),
            data_type::DOUBLE => Some(Elem::F64),
            data_type::INT32 => Some(Elem::I32),
            data_type::INT64 => Some(Elem::I64),
            data_type::BOOL => Some(Elem::Bool),
            _ => None,
        }
    }

    /// What it is in a graph; a double has no place there.
    pub fn dtype(self) -> DType {
        match self {
            Elem::F32 | Elem::F64 => DType::F32,
            Elem::I32 | Elem::I64 => DType::I32,
            Elem::Bool => DType::Bool,
        }
    }

    /// How elements of that type in a graph are called here.
    pub fn of(dtype: DType) -> Elem {
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => Elem::F32,
            DType::I32 | DType::U32 | DType::U8 => Elem::I64,
            DType::Bool => Elem::Bool,
        }
    }

    pub fn is_int(self) -> bool {
        matches!(self, Elem::I32 | Elem::I64)
    }
}

/// A tensor of known elements, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    pub elem: Elem,
    pub shape: Shape,
    pub data: Vec<f64>,
}

/// Integers beyond this are not exact in f64; only the two ends of i64 are let through, which mean "all".
const EXACT: u64 = 1 << 53;

impl Constant {
    /// A list of integers.
    pub fn ints(values: &[i64]) -> Constant {
        let data = values.iter().map(|&value| value as f64).collect();
        Constant { elem: Elem::I64, shape: [values.len()].into(), data }
    }

    /// A list of floats.
    pub fn floats(values: &[f32]) -> Constant {
        let data = values.iter().map(|&value| f64::from(value)).collect();
        Constant { elem: Elem::F32, shape: [values.len()].into(), data }
    }

    /// One number without axes.
    pub fn scalar(elem: Elem, value: f64) -> Constant {
        Constant { elem, shape: Shape::scalar(), data: vec![value] }
    }

    /// The same as a tensor of the reference.
    pub fn to_array(&self) -> Array {
        Array::new(&self.shape, self.elem.dtype(), self.data.clone())
    }

    /// From a tensor of the reference; 64-bit integers are what the format has most of.
    pub fn from_array(array: Array) -> Constant {
        Constant { elem: Elem::of(array.ty.dtype), shape: array.ty.shape, data: array.data }
    }

    /// Doubles as f32.
    pub fn rounded(self) -> Constant {
        match self.elem {
            Elem::F64 => Constant {
                elem: Elem::F32,
                data: self.data.into_iter().map(|value| f64::from(value as f32)).collect(),
                shape: self.shape,
            },
            Elem::F32 | Elem::I32 | Elem::I64 | Elem::Bool => self,
        }
    }

    /// The elements as integers; those of floats must be whole.
    pub fn to_ints(&self) -> Option<Vec<i64>> {
        self.data.iter().map(|&value| (value.fract() == 0.0).then_some(value as i64)).collect()
    }

    /// Whether all elements fit what the graph has for their type.
    pub fn fits(&self) -> bool {
        let range = f64::from(i32::MIN)..=f64::from(i32::MAX);
        !self.elem.is_int() || self.data.iter().all(|value| range.contains(value))
    }

    /// Reads the elements of a `TensorProto`, in whichever field they are.
    pub fn decode(proto: &TensorProto) -> Result<Constant, String> {
        if proto.data_location.unwrap_or(0) != 0 || !proto.external_data.is_empty() {
            return Err("its elements lie in another file, which is not read; save the model with its data inside \
                (`onnx.save(model, path, save_as_external_data=False)`)"
                .into());
        }
        if proto.segment.is_some() {
            return Err("it is only a segment of a tensor".into());
        }
        let number = proto.data_type.unwrap_or(0);
        let elem = Elem::from_number(number).ok_or_else(|| unsupported_elements(number))?;
        let shape = shape_of(&proto.dims)?;
        let data = match &proto.raw_data {
            Some(raw) => from_bytes(elem, raw, shape.numel())?,
            None => from_lists(elem, proto),
        };
        if data.len() != shape.numel() {
            return Err(format!("its shape {shape} has {} elements, but {} are given", shape.numel(), data.len()));
        }
        if elem == Elem::I64 && data.iter().any(|&value| inexact(value)) {
            return Err("it has integers beyond 2^53, which are not read exactly".into());
        }
        Ok(Constant { elem, shape, data })
    }
}

/// Says which element types there are.
pub fn unsupported_elements(number: i32) -> String {
    format!(
        "elements of type {} are not supported; supported are FLOAT, INT32, INT64 (as 32 bits) and BOOL",
        data_type::name(number)
    )
}

fn inexact(value: f64) -> bool {
    let ends = [i64::MIN as f64, i64::MAX as f64];
    value.abs() > EXACT as f64 && !ends.contains(&value)
}

/// Sizes of a file as a shape, if they can be one.
pub fn shape_of(dims: &[i64]) -> Result<Shape, String> {
    if dims.len() > MAX_RANK {
        return Err(format!("a tensor of {} axes; at most {MAX_RANK} are supported", dims.len()));
    }
    let sizes: Option<Vec<usize>> = dims.iter().map(|&size| usize::try_from(size).ok()).collect();
    let sizes = sizes.ok_or_else(|| format!("{dims:?} is not a shape"))?;
    // Sizes beside a zero count too: they are multiplied by each other elsewhere.
    let elements = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size.max(1)));
    match elements {
        Some(elements) if elements <= MAX_ELEMENTS => Ok(sizes.into()),
        _ => Err(format!("the shape {dims:?} has more than {MAX_ELEMENTS} elements")),
    }
}

/// Elements from little-endian bytes; checks their number before anything is allocated.
fn from_bytes(elem: Elem, raw: &[u8], elements: usize) -> Result<Vec<f64>, String> {
    let each = match elem {
        Elem::F32 | Elem::I32 => 4,
        Elem::F64 | Elem::I64 => 8,
        Elem::Bool => 1,
    };
    if elements.checked_mul(each) != Some(raw.len()) {
        return Err(format!("{elements} elements of {each} bytes do not take {} bytes", raw.len()));
    }
    let four = || raw.as_chunks::<4>().0.iter();
    let eight = || raw.as_chunks::<8>().0.iter();
    Ok(match elem {
        Elem::F32 => four().map(|&bytes| f64::from(f32::from_le_bytes(bytes))).collect(),
        Elem::I32 => four().map(|&bytes| f64::from(i32::from_le_bytes(bytes))).collect(),
        Elem::F64 => eight().map(|&bytes| f64::from_le_bytes(bytes)).collect(),
        Elem::I64 => eight().map(|&bytes| i64::from_le_bytes(bytes) as f64).collect(),
        Elem::Bool => raw.iter().map(|&byte| f64::from(u8::from(byte != 0))).collect(),
    })
}

fn from_lists(elem: Elem, proto: &TensorProto) -> Vec<f64> {
    match elem {
        Elem::F32 => proto.float_data.iter().map(|&value| f64::from(value)).collect(),
        Elem::F64 => proto.double_data.clone(),
        Elem::I32 => proto.int32_data.iter().map(|&value| f64::from(value)).collect(),
        Elem::I64 => proto.int64_data.iter().map(|&value| value as f64).collect(),
        Elem::Bool => proto.int32_data.iter().map(|&value| f64::from(u8::from(value != 0))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::bytes::Bytes;

    fn proto(data_type: i32, dims: &[i64], raw: &[u8]) -> TensorProto {
        TensorProto {
            dims: dims.to_vec(),
            data_type: Some(data_type),
            raw_data: Some(Bytes::copy_from_slice(raw)),
            ..TensorProto::default()
        }
    }

    #[test]
    fn elements_are_read_from_bytes_and_from_lists() -> Result<(), String> {
        let raw: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(Constant::decode(&proto(data_type::FLOAT, &[2, 1], &raw))?.data, [1.5, -2.0]);
        let listed =
            TensorProto { int64_data: vec![-1, i64::MAX], raw_data: None, ..proto(data_type::INT64, &[2], &[]) };
        let read = Constant::decode(&listed)?;
        assert_eq!(read.to_ints(), Some(vec![-1, i64::MAX]));
        assert!(!read.fits());
        Ok(())
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |proto: TensorProto, word: &str| {
            let message = Constant::decode(&proto).unwrap_err();
            assert!(message.contains(word), "{message}");
        };
        refused(proto(data_type::FLOAT, &[3], &[0; 8]), "8 bytes");
        refused(proto(data_type::FLOAT, &[1 << 40, 1 << 40], &[]), "more than");
        refused(proto(data_type::FLOAT, &[0, i64::MAX], &[]), "more than");
        refused(proto(data_type::FLOAT, &[-1], &[]), "not a shape");
        refused(proto(data_type::FLOAT, &[1; 100], &[0; 4]), "axes");
        refused(proto(8, &[1], &[0]), "STRING");
        refused(proto(data_type::INT64, &[1], &((1i64 << 60) + 1).to_le_bytes()), "2^53");
        let external = TensorProto { data_location: Some(1), ..proto(data_type::FLOAT, &[1], &[0; 4]) };
        refused(external, "another file");
    }
}
