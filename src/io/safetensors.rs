//! Weights as safetensors files: named tensors and text metadata, nothing executable.
//!
//! Knows the file format, and not which model the tensors belong to. The same weights always give
//! the same bytes: tensors are laid out as the reference implementation does (widest element type
//! first, then by name), and metadata is sorted by key, which the `safetensors` crate's own writer
//! leaves to a hash map. Reading is that crate's, which checks every offset and size, after a look of our
//! own at what the header would cost and whether it says anything twice (`safetensors/header.rs`).

mod header;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::io::json::quoted;
use crate::shape::Shape;
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;

const FORMAT: &str = "safetensors";

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Its name, such as `blocks.0.attn.qkv.weight`.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Shape,
    /// The elements, row-major and little-endian, as tight as the file has them: [`element_bytes`]
    /// each. A device packs some types differently, see [`DType::bytes`].
    pub bytes: Vec<u8>,
}

/// The content of a safetensors file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights {
    /// The tensors, in the order of the file when read; any order when about to be written.
    pub tensors: Vec<NamedTensor>,
    /// Free text by key, the file's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

/// Bytes of one element in a file. A `bool` takes one there, and a whole word on a device.
pub fn element_bytes(dtype: DType) -> u64 {
    match dtype {
        DType::F32 | DType::I32 | DType::U32 => 4,
        DType::F16 | DType::BF16 => 2,
        DType::Bool | DType::U8 => 1,
    }
}

impl NamedTensor {
    /// An f32 tensor from its values.
    pub fn f32(name: impl Into<String>, shape: impl Into<Shape>, values: &[f32]) -> NamedTensor {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        NamedTensor { name: name.into(), dtype: DType::F32, shape: shape.into(), bytes }
    }

    /// The values as f32, widened if they are f16 or bf16; `None` for other element types.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let halves = || self.bytes.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes));
        match self.dtype {
            DType::F32 => {
                let words = self.bytes.as_chunks::<4>().0.iter();
                Some(words.map(|&bytes| f32::from_le_bytes(bytes)).collect())
            }
            DType::F16 => Some(halves().map(|bits| half::f16::from_bits(bits).to_f32()).collect()),
            DType::BF16 => Some(halves().map(|bits| half::bf16::from_bits(bits).to_f32()).collect()),
            DType::I32 | DType::U32 | DType::Bool | DType::U8 => None,
        }
    }

    /// The tensor that a file's header describes, whose elements lie somewhere in `data`.
    fn of_file(name: String, info: &TensorInfo, data: &[u8]) -> Result<NamedTensor, String> {
        let Some(dtype) = own_dtype(info.dtype) else {
            return Err(format!(
                "the tensor `{name}` has elements of type {:?}; supported are F32, F16, BF16, I32, U32, U8 and BOOL",
                info.dtype
            ));
        };
        // Sizes beside a zero count too: strides are products of them.
        let sizes = info.shape.iter().map(|&size| size.max(1) as u64).chain([element_bytes(dtype)]);
        if sizes.clone().try_fold(1u64, u64::checked_mul).is_none_or(|bytes| bytes > isize::MAX as u64) {
            return Err(format!("the tensor `{name}` has a shape that no machine could hold: {:?}", info.shape));
        }
        let (start, end) = info.data_offsets;
        let bytes = data.get(start..end).ok_or_else(|| format!("the tensor `{name}` lies beyond the file's end"))?;
        let tensor = NamedTensor { name, dtype, shape: info.shape.as_slice().into(), bytes: bytes.to_vec() };
        match tensor.expected_bytes() == Some(bytes.len() as u64) {
            true => Ok(tensor),
            false => {
                Err(format!("the tensor `{}` of shape {} cannot have {} bytes", tensor.name, tensor.shape, bytes.len()))
            }
        }
    }

    /// Bytes that the shape and the element type ask for; `None` if no machine could hold them.
    fn expected_bytes(&self) -> Option<u64> {
        let sizes = self.shape.iter().map(|&size| size as u64);
        sizes.chain([element_bytes(self.dtype)]).try_fold(1u64, u64::checked_mul)
    }
}

/// Writes a safetensors file of tensors that [`Weights::check`] has accepted, without a copy of them.
pub(super) fn write_file(
    file: &mut dyn std::io::Write,
    tensors: &[&NamedTensor],
    metadata: &BTreeMap<String, String>,
) -> std::io::Result<()> {
    let mut sorted = tensors.to_vec();
    crate::sort::sort_by(&mut sorted, |a, b| {
        alignment(b.dtype).cmp(&alignment(a.dtype)).then_with(|| a.name.cmp(&b.name))
    });
    let mut entries = Vec::with_capacity(sorted.len().saturating_add(1));
    if !metadata.is_empty() {
        let pairs = metadata.iter().map(|(key, value)| format!("{}:{}", quoted(key), quoted(value)));
        entries.push(format!("\"__metadata__\":{{{}}}", pairs.collect::<Vec<_>>().join(",")));
    }
    let mut offset = 0usize;
    for tensor in &sorted {
        let (name, shape) =
            (quoted(&tensor.name), tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(","));
        let (dtype, end) = (file_dtype(tensor.dtype), tensor.bytes.len().saturating_add(offset));
        entries
            .push(format!("{name}:{{\"dtype\":\"{dtype:?}\",\"shape\":[{shape}],\"data_offsets\":[{offset},{end}]}}"));
        offset = end;
    }
    let mut header = format!("{{{}}}", entries.join(",")).into_bytes();
    // The data begins at a multiple of 8, so that a memory-mapped reader can use it in place.
    header.resize(header.len().next_multiple_of(8), b' ');
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    sorted.iter().try_for_each(|tensor| file.write_all(&tensor.bytes))
}

impl Weights {
    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&NamedTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The bytes of a safetensors file. Fails if two tensors have one name, or if a tensor's bytes
    /// do not fit its shape.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.check()?;
        let tensors: Vec<&NamedTensor> = self.tensors.iter().collect();
        let mut file = Vec::with_capacity(tensors.iter().map(|tensor| tensor.bytes.len().saturating_add(128)).sum());
        write_file(&mut file, &tensors, &self.metadata).map_err(|e| Error::file("safetensors", &e))?;
        Ok(file)
    }

    /// Reads a safetensors file from its bytes; `path` is only for messages.
    pub fn from_bytes(path: &str, bytes: &[u8]) -> Result<Weights> {
        header::check(bytes).map_err(|message| refused(path, bytes, &message))?;
        let (size, header) = SafeTensors::read_metadata(bytes).map_err(|e| refused(path, bytes, &e.to_string()))?;
        let data = size.checked_add(8).and_then(|start| bytes.get(start..)).unwrap_or_default();
        let names = header.offset_keys();
        let mut tensors = Vec::with_capacity(names.len());
        for name in names {
            let tensor = header.info(&name).map(|info| NamedTensor::of_file(name, info, data));
            let read = tensor.unwrap_or_else(|| Err("its header contradicts itself".into()));
            let failed = |message| Error::format(path.into(), FORMAT, message);
            tensors.push(read.map_err(failed)?);
        }
        let mut weights = Weights { tensors, metadata: BTreeMap::new() };
        weights.metadata.extend(header.metadata().clone().unwrap_or_default());
        Ok(weights)
    }

    /// Writes the file so that a crash leaves either the old one or the new one.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        super::files::write_atomic(path.as_ref(), &self.to_bytes()?)
    }

    /// Reads a file.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(path: impl AsRef<std::path::Path>) -> Result<Weights> {
        let path = path.as_ref();
        let bytes = super::files::read_whole(path, u64::MAX)?;
        Weights::from_bytes(&path.display().to_string(), &bytes)
    }

    /// Whether the tensors can be written: names that differ, bytes that fit the shapes.
    pub(super) fn check(&self) -> Result<()> {
        let mut names: Vec<&str> = self.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        crate::sort::sort(&mut names);
        if let Some((name, _)) = names.iter().zip(names.iter().skip(1)).find(|(name, next)| name == next) {
            return Err(Error::feed(format!("two tensors to be saved are both named `{name}`")));
        }
        if names.contains(&"__metadata__") {
            return Err(Error::feed("a safetensors file reserves the name `__metadata__`".into()));
        }
        for tensor in &self.tensors {
            if tensor.expected_bytes() != Some(tensor.bytes.len() as u64) {
                return Err(Error::feed(format!(
                    "the tensor `{}` of type {} and shape {} cannot have {} bytes",
                    tensor.name,
                    tensor.dtype,
                    tensor.shape,
                    tensor.bytes.len()
                )));
            }
        }
        Ok(())
    }
}

/// The order of data in the file: the reference implementation's enum, widest last.
fn alignment(dtype: DType) -> usize {
    let narrow_first = [DType::Bool, DType::U8, DType::F16, DType::BF16, DType::I32, DType::U32, DType::F32];
    narrow_first.iter().position(|&other| other == dtype).unwrap_or(narrow_first.len())
}

/// The name of an element type in the file is the `Debug` form of this.
fn file_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I32 => Dtype::I32,
        DType::U32 => Dtype::U32,
        DType::Bool => Dtype::BOOL,
        DType::U8 => Dtype::U8,
    }
}

fn own_dtype(dtype: Dtype) -> Option<DType> {
    let all = [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32, DType::Bool, DType::U8];
    all.into_iter().find(|&own| file_dtype(own) == dtype)
}

/// What is said of a pickle, wherever one is given.
pub(super) const PICKLE: &str = "it is a PyTorch pickle (.pt, .pth, .ckpt, .bin), which can run code when it is opened, and \
    is never read; convert it where it was made, with PyTorch: `safetensors.torch.save_file({k: v.contiguous() for k, v in \
    torch.load(PATH, weights_only=True).items()}, \"model.safetensors\")`";

/// Whether a file begins as a pickle does, by itself or in the archive that PyTorch writes.
pub(super) fn is_pickle(start: &[u8]) -> bool {
    let archive = start.starts_with(b"PK\x03\x04") && start.windows(8).take(256).any(|name| name == b"data.pkl");
    archive || start.first() == Some(&0x80) && matches!(start.get(1), Some(2..=5))
}

/// Says what a file is that is not safetensors, and how to make one of it.
fn refused(path: &str, bytes: &[u8], reason: &str) -> Error {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    let message = if starts(b"PK\x03\x04") || is_pickle(bytes) {
        PICKLE.to_string()
    } else if starts(b"version https://git-lfs") {
        "it is a Git LFS pointer, not the weights; fetch them with `git lfs pull`".to_string()
    } else if starts(b"GGUF") {
        "it is a GGUF file".to_string()
    } else if starts(b"\x89HDF") {
        "it is an HDF5 file".to_string()
    } else if bytes.is_empty() {
        "it is empty".to_string()
    } else {
        format!("{reason} (cut off or damaged? {} bytes)", bytes.len())
    };
    Error::format(path.into(), FORMAT, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Weights {
        let raw = |name: &str, dtype, shape: &[usize], bytes: &[u8]| NamedTensor {
            name: name.into(),
            dtype,
            shape: shape.into(),
            bytes: bytes.to_vec(),
        };
        Weights {
            tensors: vec![
                raw("mask", DType::Bool, &[3], &[1, 0, 1]),
                NamedTensor::f32("w", [2, 2], &[1.0, -2.5, f32::NAN, 0.0]),
                NamedTensor::f32("b \"quoted\"", [], &[3.0]),
                raw("half", DType::F16, &[3], &[0, 0x3c, 0, 0xc0, 0, 0]),
                NamedTensor::f32("empty", [0, 4], &[]),
            ],
            metadata: (0..9).map(|i| (format!("key{i}"), format!("value\n{i}"))).collect(),
        }
    }

    #[test]
    fn a_file_round_trips_and_depends_only_on_its_content() {
        let weights = sample();
        let bytes = weights.to_bytes().unwrap();
        let read = Weights::from_bytes("x", &bytes).unwrap();
        assert_eq!(read.metadata, weights.metadata);
        let names: Vec<&str> = read.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["b \"quoted\"", "empty", "w", "half", "mask"]);
        assert!(read.tensors.iter().all(|tensor| Some(&tensor.bytes) == weights.get(&tensor.name).map(|t| &t.bytes)));
        assert_eq!(read.to_bytes().unwrap(), bytes);
        assert_eq!(read.get("half").unwrap().to_f32().unwrap(), [1.0, -2.0, 0.0]);
        assert_eq!(read.get("mask").unwrap().to_f32(), None);

        let mut shuffled = weights;
        shuffled.tensors.reverse();
        assert_eq!(shuffled.to_bytes().unwrap(), bytes);
    }

    #[test]
    fn the_bytes_are_those_of_the_reference_writer() {
        let mut weights = sample();
        weights.metadata = [("format".to_string(), "pt".to_string())].into();
        let views: Vec<_> = weights
            .tensors
            .iter()
            .map(|t| {
                let view = safetensors::tensor::TensorView::new(file_dtype(t.dtype), t.shape.to_vec(), &t.bytes);
                (t.name.clone(), view.unwrap())
            })
            .collect();
        let info = weights.metadata.clone().into_iter().collect();
        assert_eq!(weights.to_bytes().unwrap(), safetensors::serialize(views, Some(info)).unwrap());
        let nothing = Weights::default();
        assert_eq!(Weights::from_bytes("x", &nothing.to_bytes().unwrap()).unwrap(), nothing);
    }

    #[test]
    fn what_cannot_be_saved_is_refused() {
        let save = |tensors: Vec<NamedTensor>| {
            Weights { tensors, metadata: BTreeMap::new() }.to_bytes().unwrap_err().to_string()
        };
        let one = |name: &str| NamedTensor::f32(name, [1], &[0.0]);
        assert!(save(vec![one("w"), one("v"), one("w")]).contains("both named `w`"));
        assert!(save(vec![one("__metadata__")]).contains("reserves"));
        let long = NamedTensor::f32("w", [3], &[0.0]);
        assert!(save(vec![long]).contains("shape [3] cannot have 4 bytes"));
        let huge = NamedTensor::f32("w", [usize::MAX, 8], &[0.0]);
        assert!(save(vec![huge]).contains("cannot have"));
    }

    #[test]
    fn other_and_damaged_files_are_told_apart() {
        let refuse = |bytes: &[u8]| Weights::from_bytes("model.pt", bytes).unwrap_err().to_string();
        for torch in [&b"PK\x03\x04rest of a zip archive"[..], b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."] {
            assert!(refuse(torch).contains("safetensors.torch.save_file"), "{}", refuse(torch));
        }
        assert!(refuse(b"").contains("empty"));
        assert!(refuse(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
        assert!(refuse(b"GGUF\x03\0\0\0").contains("GGUF"));
        let bytes = sample().to_bytes().unwrap();
        for cut in 0..bytes.len() {
            assert!(Weights::from_bytes("x", &bytes[..cut]).is_err(), "cut at {cut}");
        }
        // Every byte of the header changed: an error or other content, never a panic.
        for at in 0..200 {
            let mut changed = bytes.clone();
            changed[at] ^= 0x15;
            let _ = Weights::from_bytes("x", &changed);
        }
        let header = br#"{"w":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#;
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header);
        file.extend_from_slice(&[0; 8]);
        assert!(refuse(&file).contains("F64"), "{}", refuse(&file));
    }

    #[test]
    fn a_header_of_640_bytes_is_not_taken_for_a_pickle() {
        // Its length begins with the two bytes that a pickle begins with.
        let mut weights = Weights::default();
        weights.metadata.insert("k".into(), "v".repeat(610));
        let bytes = weights.to_bytes().unwrap();
        assert_eq!(bytes[..2], [0x80, 0x02]);
        assert_eq!(Weights::from_bytes("x", &bytes).unwrap(), weights);
    }

    #[test]
    fn files_are_saved_and_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("best.safetensors");
        let weights = Weights { tensors: vec![NamedTensor::f32("w", [2], &[1.0, 2.0])], ..Weights::default() };
        weights.save(&path).unwrap();
        assert_eq!(Weights::load(&path).unwrap(), weights);
        let message = Weights::load(dir.path()).unwrap_err().to_string();
        assert!(message.contains("directory"), "{message}");
    }
}
