//! One function for each parser of files that somebody else wrote: whatever the bytes, it returns, and without having
//! held more than four times their number and 16 MiB.
//!
//! What a parser accepts is used a little further, and must hold what the parser promises.

use super::allocations::measured;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wgrad::dtype::DType;
use wgrad::graph::Graph;
use wgrad::io::checkpoint::CheckpointStore;
use wgrad::io::choices::ChoiceFile;
use wgrad::io::safetensors::{Weights, element_bytes};
use wgrad::io::storage::{Storage, StorageFile};
use wgrad::io::text::{Corpus, TextSource};
use wgrad::io::{files, images, onnx};
use wgrad::reference::Array;
use wgrad::shape::Shape;
use wgrad::train::Compiled;
use wgrad::train::config::Config;
use wgrad::train::metrics;

/// A parser by the name of its target and of the folder of its corpus.
pub type Parser = (&'static str, fn(&[u8]));

/// Every parser.
pub const ALL: [Parser; 10] = [
    ("safetensors", safetensors),
    ("checkpoint", checkpoint),
    ("onnx", onnx),
    ("onnx_tensor", onnx_tensor),
    ("image", image),
    ("config", config),
    ("text", text),
    ("metrics", metrics),
    ("choices", choices),
    ("compiled", compiled),
];

/// What any file may take.
const ALLOWANCE: u64 = 16 << 20;

/// Work on a file's bytes, which are in memory already: three times more, and the allowance.
fn bounded<T>(file: &[u8], work: impl FnOnce() -> T) -> T {
    let (result, bytes) = measured(work);
    let most = 3 * file.len() as u64 + ALLOWANCE;
    assert!(bytes <= most, "{bytes} bytes were held for a file of {}, at most {most}", file.len());
    result
}

/// A file of weights.
pub fn safetensors(bytes: &[u8]) {
    let Ok(weights) = bounded(bytes, || Weights::from_bytes("fuzzed", bytes)) else { return };
    for tensor in &weights.tensors {
        let elements = tensor.bytes.len() as u64 / element_bytes(tensor.dtype);
        assert_eq!(tensor.shape.numel() as u64, elements, "{}", tensor.name);
        let floats = tensor.to_f32().map_or(elements, |values| values.len() as u64);
        assert_eq!(floats, elements, "{}", tensor.name);
    }
    let again = weights.to_bytes().expect("what was read can be written");
    let read = Weights::from_bytes("written", &again).expect("what was written can be read");
    assert_eq!(read.metadata, weights.metadata);
    assert_eq!(read.tensors.len(), weights.tensors.len());
}

/// A directory with a manifest, and the same bytes as each other file.
struct Directory {
    manifest: Vec<u8>,
    shard: Vec<u8>,
}

fn no_writing<T>() -> io::Result<T> {
    Err(io::ErrorKind::PermissionDenied.into())
}

impl Storage for Directory {
    fn create_directory(&self, _path: &Path) -> io::Result<()> {
        no_writing()
    }

    fn create(&self, _path: &Path) -> io::Result<Box<dyn StorageFile>> {
        no_writing()
    }

    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let manifest = path.file_name().is_some_and(|name| name == "manifest.json");
        let content = if manifest { &self.manifest } else { &self.shard };
        assert_eq!(path.parent(), Some(Path::new("run/step-7")), "a file elsewhere is read");
        if content.len() as u64 > most { Err(io::ErrorKind::InvalidData.into()) } else { Ok(content.clone()) }
    }

    fn list(&self, _path: &Path) -> io::Result<Vec<String>> {
        Ok(vec!["step-7".into()])
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        no_writing()
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        no_writing()
    }

    fn remove_file(&self, _path: &Path) -> io::Result<()> {
        no_writing()
    }

    fn remove_directory(&self, _path: &Path) -> io::Result<()> {
        no_writing()
    }
}

/// A checkpoint: a manifest, a zero byte, and what its shards are. `@BYTES@` and `@CRC@` in the manifest stand for the
/// shard's length and checksum, and its own checksum is added, so that chance does not have to find them.
pub fn checkpoint(bytes: &[u8]) {
    let cut = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (manifest, shard) = bytes.split_at(cut);
    let shard = shard.get(1..).unwrap_or_default().to_vec();
    let mut text = String::from_utf8_lossy(manifest).replace("@BYTES@", &shard.len().to_string());
    text = text.replace("@CRC@", &crc32c::crc32c(&shard).to_string());
    let sum = crc32c::crc32c(text.as_bytes());
    write_sum(&mut text, sum);
    let names = text.matches("\"name\"").count() as u64;
    let storage = Directory { manifest: text.into_bytes(), shard };
    let files = storage.manifest.len() as u64 + names * storage.shard.len() as u64;
    let store = CheckpointStore::new(Arc::new(storage), PathBuf::from("run"));
    let (result, held) = measured(|| store.latest());
    assert!(held <= 4 * files + ALLOWANCE, "{held} bytes were held for files of {files}");
    if let Ok(Some(found)) = result {
        assert!(found.rejected.is_empty());
        found.state.to_bytes().expect("what was read can be written");
    }
}

fn write_sum(text: &mut String, sum: u32) {
    text.push_str(&format!(",\n\"crc32c\":\"{sum:08x}\"\n}}\n"));
}

/// A model: read, and traced with inputs of the sizes that it declares, or small ones.
pub fn onnx(bytes: &[u8]) {
    let Ok(model) = bounded(bytes, || onnx::Model::parse(bytes)) else { return };
    let graph = Graph::new();
    let constants = model.constant_inputs();
    let mut inputs: Vec<(String, Shape, DType)> = Vec::new();
    for input in model.inputs() {
        let sizes = input.shape.unwrap_or_default();
        let shape: Shape = sizes.into_iter().map(|size| size.unwrap_or(2).min(64)).take(8).collect();
        if shape.numel() <= 1 << 16 {
            inputs.push((input.name, shape, input.dtype.unwrap_or(DType::F32)));
        }
    }
    let known = |name: &String| constants.contains(name);
    let given: Vec<(&str, Array)> = inputs
        .iter()
        .filter(|(name, ..)| known(name))
        .map(|(name, shape, dtype)| (name.as_str(), Array::full(shape, *dtype, 1.0)))
        .collect();
    let tensors: Vec<_> = inputs
        .iter()
        .filter(|(name, ..)| !known(name))
        .map(|(name, shape, dtype)| (name.as_str(), graph.input(name, shape, *dtype)))
        .collect();
    let _ = model.any_sizes().trace(&graph, &tensors, &given);
}

/// A tensor on its own.
pub fn onnx_tensor(bytes: &[u8]) {
    if let Ok(array) = bounded(bytes, || onnx::parse_tensor(bytes)) {
        assert_eq!(array.data.len(), array.ty.shape.numel());
    }
}

/// A file of a folder of images. Its pixels come on top of what a file may take.
pub fn image(bytes: &[u8]) {
    let (result, held) = measured(|| images::image_of_bytes("fuzzed", bytes, 8, images::CHANNELS));
    let unpacked: u64 = 512 << 20;
    assert!(held <= 3 * unpacked + ALLOWANCE, "{held} bytes were held");
    if let Ok(planes) = result {
        assert_eq!(planes.len(), 8 * 8 * images::CHANNELS);
    }
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    // Longer ones are not read (`MAX_CONFIG`).
    let bytes = bytes.get(..64 << 10).unwrap_or(bytes);
    let read = bounded(bytes, || {
        let text = files::text_of("fuzzed", bytes.to_vec())?;
        Config::from_toml("fuzzed", &text)
    });
    if let Ok(config) = read {
        let text = config.to_toml().expect("what was read can be written");
        assert_eq!(Config::from_toml("written", &text).expect("what was written can be read"), config);
    }
}

/// A text: of any length, in any encoding. The first two bytes choose the windows.
pub fn text(bytes: &[u8]) {
    let Some(([context, batch], text)) = bytes.split_first_chunk::<2>() else { return };
    let (context, batch) = (usize::from(*context), usize::from(*batch % 16));
    let Ok(corpus) = Corpus::new(TextSource::Memory(text.to_vec()), context, 0.1) else { return };
    let windows =
        bounded(text, || corpus.sample_batch(u64::MAX, u64::MAX, batch)).expect("windows of a text that fits");
    let held_out = bounded(text, || corpus.validation_batch(3, 5, batch)).expect("windows of the end");
    for windows in [windows, held_out] {
        assert_eq!(windows.bytes.len(), batch * (context + 1));
        assert_eq!((windows.inputs().len(), windows.targets().len()), (batch * context, batch * context));
    }
}

/// `metrics.jsonl`.
pub fn metrics(bytes: &[u8]) {
    let Ok(records) = bounded(bytes, || metrics::parse(Path::new("fuzzed"), bytes)) else { return };
    let mut written = Cursor::new(Vec::new());
    for (line, _) in &records {
        written.write_all(line).and_then(|()| written.write_all(b"\n")).expect("memory");
    }
    let again = metrics::parse(Path::new("written"), written.get_ref()).map(|lines| lines.len());
    assert_eq!(again.expect("whole lines"), records.len());
}

/// A table of measured kernels, as `wgrad tune --import` reads it.
pub fn choices(bytes: &[u8]) {
    let read = bounded(bytes, || {
        let text = files::text_of("fuzzed", bytes.to_vec()).map_err(|error| error.to_string())?;
        ChoiceFile::parse(&text)
    });
    if let Ok(table) = read {
        let text = serde_json::to_string(&table).expect("what was read can be written");
        assert_eq!(ChoiceFile::parse(&text).as_ref(), Ok(&table));
    }
}

/// A compiled step, without its version, which would stand in front, and its checksum (FNV-1a), which chance would not find.
pub fn compiled(bytes: &[u8]) {
    let bytes = signed(bytes);
    if let Ok(step) = bounded(&bytes, || Compiled::from_bytes(&bytes)) {
        let again = Compiled::from_bytes(&step.to_bytes()).expect("what was written can be read");
        assert_eq!(again, step);
    }
}

/// What a corpus keeps of a compiled step, with what it leaves out.
pub fn signed(kept: &[u8]) -> Vec<u8> {
    let version = Compiled::VERSION.as_bytes();
    let mut bytes = [&[version.len() as u8], version, kept].concat();
    let add = |sum: u64, &byte: &u8| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325, add);
    bytes.extend(sum.to_le_bytes());
    bytes
}
