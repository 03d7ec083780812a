//! Safetensors files in a page: their header is JSON, which the page's own parser reads.
//!
//! Everything that the header claims is checked before a tensor is made: types, shapes, offsets that follow each
//! other without gaps, and lengths. Writing is `io::safetensors`'s affair.

use super::object::{get, sizes};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::io::safetensors::{NamedTensor, Weights, element_bytes};
use js_sys::{Array, JSON, Object};
use std::collections::BTreeMap;
use wasm_bindgen::JsCast;

/// Longer headers are refused, as by the reference implementation.
const MOST_HEADER: usize = 100_000_000;

fn refused(message: impl Into<String>) -> Error {
    Error::format("the file".into(), "safetensors", message.into())
}

/// Reads a file from its bytes.
pub fn read(bytes: &[u8]) -> Result<Weights> {
    let short = || refused(format!("it is cut off: {} bytes", bytes.len()));
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|&length| length <= MOST_HEADER);
    let (header, data) = length.and_then(|length| rest.split_at_checked(length)).ok_or_else(short)?;
    let header = std::str::from_utf8(header).ok().and_then(|text| JSON::parse(text).ok());
    let header =
        header.and_then(|value| value.dyn_into::<Object>().ok()).ok_or_else(|| refused("its header is not JSON"))?;
    let mut weights = Weights { tensors: Vec::new(), metadata: BTreeMap::new() };
    let mut found = Vec::new();
    for entry in Object::entries(&header).iter() {
        let entry: Array = entry.into();
        let name = entry.get(0).as_string().unwrap_or_default();
        match (&*name, entry.get(1).dyn_ref::<Object>()) {
            ("__metadata__", Some(texts)) => metadata(texts, &mut weights.metadata)?,
            (_, Some(about)) => found.push(tensor(&name, about, data)?),
            _ => return Err(refused(format!("`{name}` is not described by an object"))),
        }
    }
    crate::sort::sort_by_key(&mut found, |(offsets, _)| *offsets);
    let mut end = 0;
    for ([from, to], tensor) in found {
        if from != end {
            return Err(refused(format!("the tensor `{}` begins at {from}, not at {end}", tensor.name)));
        }
        end = to;
        weights.tensors.push(tensor);
    }
    if end != data.len() {
        return Err(refused(format!("its tensors have {end} bytes, the file has {}", data.len())));
    }
    Ok(weights)
}

fn metadata(texts: &Object, all: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in Object::entries(texts).iter() {
        let entry: Array = entry.into();
        let text = entry.get(1).as_string().ok_or_else(|| refused("its metadata is not text"))?;
        all.insert(entry.get(0).as_string().unwrap_or_default(), text);
    }
    Ok(())
}

/// A tensor with its place in the data.
fn tensor(name: &str, about: &Object, data: &[u8]) -> Result<([usize; 2], NamedTensor)> {
    let wrong = |what: &str| refused(format!("the tensor `{name}` {what}"));
    let dtype = match get(about, "dtype").and_then(|dtype| dtype.as_string()).as_deref() {
        Some("F32") => DType::F32,
        Some("F16") => DType::F16,
        Some("BF16") => DType::BF16,
        Some("I32") => DType::I32,
        Some("U32") => DType::U32,
        Some("U8") => DType::U8,
        Some("BOOL") => DType::Bool,
        _ => return Err(wrong("has elements of another type than F32, F16, BF16, I32, U32, U8 and BOOL")),
    };
    let shape = get(about, "shape").and_then(|shape| sizes(&shape)).ok_or_else(|| wrong("has no shape"))?;
    let offsets = get(about, "data_offsets").and_then(|offsets| sizes(&offsets));
    let offsets = offsets.and_then(|list| <[usize; 2]>::try_from(list).ok()).ok_or_else(|| wrong("has no place"))?;
    let bytes = data.get(offsets[0]..offsets[1]).ok_or_else(|| wrong("lies outside of the file"))?;
    let expected = shape.iter().try_fold(element_bytes(dtype), |bytes, &size| bytes.checked_mul(size as u64));
    if expected != Some(bytes.len() as u64) {
        return Err(wrong("has another number of bytes than its shape"));
    }
    Ok((offsets, NamedTensor { name: name.into(), dtype, shape: shape.into(), bytes: bytes.to_vec() }))
}
