//! The manifest of a checkpoint: what belongs to it, how long each file is, and its checksum.
//!
//! JSON whose last entry is a CRC-32C of all that stands before it, so that no bit of it can change
//! unnoticed either. Knows nothing about where files lie.

use super::json::check_cost;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub const MANIFEST: &str = "manifest.json";
/// A manifest is not read beyond this many bytes.
pub const MANIFEST_BYTES: u64 = 64 << 20;
/// Raised when files written by a newer version cannot be read by an older one.
const FORMAT_VERSION: u32 = 1;
const CHECKSUM: &str = ",\n\"crc32c\":\"";

/// One file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub name: String,
    pub bytes: u64,
    pub crc32c: u32,
}

/// What a checkpoint consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Version of the library that wrote it.
    pub engine: String,
    pub step: u64,
    pub files: Vec<FileEntry>,
    pub metadata: BTreeMap<String, String>,
}

impl Manifest {
    pub fn new(step: u64, files: Vec<FileEntry>, metadata: BTreeMap<String, String>) -> Manifest {
        Manifest { format: FORMAT_VERSION, engine: env!("CARGO_PKG_VERSION").into(), step, files, metadata }
    }

    /// As JSON text, with the checksum at its end.
    pub fn to_text(&self) -> serde_json::Result<String> {
        let mut text = serde_json::to_string_pretty(self)?;
        // The closing brace goes behind the checksum.
        text.truncate(text.trim_end_matches('}').trim_end().len());
        let crc = crc32c::crc32c(text.as_bytes());
        Ok(format!("{text}{CHECKSUM}{crc:08x}\"\n}}\n"))
    }

    /// Reads and checks the text; `path` is only for messages.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest> {
        let refuse = |message: String| Error::format(path.display().to_string(), "checkpoint manifest", message);
        let damaged = || refuse("it is cut short or damaged: its checksum does not fit".into());
        let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
        let (content, checksum) = text.rsplit_once(CHECKSUM).ok_or_else(damaged)?;
        if checksum != format!("{:08x}\"\n}}\n", crc32c::crc32c(content.as_bytes())) {
            return Err(damaged());
        }
        check_cost(bytes, bytes.len() as u64).map_err(refuse)?;
        let manifest: Manifest = serde_json::from_str(&format!("{content}\n}}"))
            .map_err(|e| refuse(format!("it is not what it claims: {e}")))?;
        if manifest.format != FORMAT_VERSION {
            return Err(refuse(format!(
                "it has format {}, this version of wgrad reads format {FORMAT_VERSION}; it was written by wgrad {}",
                manifest.format, manifest.engine
            )));
        }
        let mut names = BTreeSet::new();
        for entry in &manifest.files {
            let plain =
                !entry.name.is_empty() && !entry.name.contains(['/', '\\', ':']) && !entry.name.starts_with('.');
            if !plain || !names.insert(&entry.name) {
                return Err(refuse(format!("`{}` is not the name of a file beside it, or is there twice", entry.name)));
            }
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let file = FileEntry { name: "state.safetensors".into(), bytes: 12, crc32c: 0xdead_beef };
        Manifest::new(7, vec![file], BTreeMap::from([("key".into(), "a \"value\" } of ours".into())]))
    }

    #[test]
    fn a_manifest_reads_back_and_is_json() {
        let text = manifest().to_text().unwrap();
        assert_eq!(Manifest::parse(Path::new("m"), text.as_bytes()).unwrap(), manifest());
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["files"][0]["bytes"], 12);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let text = manifest().to_text().unwrap().into_bytes();
        for bit in 0..text.len() * 8 {
            let mut damaged = text.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::parse(Path::new("m"), &damaged).is_err(), "bit {bit}");
        }
        for length in 0..text.len() {
            assert!(Manifest::parse(Path::new("m"), &text[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["../weights", "/etc/passwd", "a/b", "", ".hidden", "c:\\x"] {
            let mut evil = manifest();
            evil.files[0].name = name.into();
            let text = evil.to_text().unwrap();
            let message = Manifest::parse(Path::new("m"), text.as_bytes()).unwrap_err().to_string();
            assert!(message.contains("not the name"), "{message}");
        }
        let mut future = manifest();
        future.format = 9;
        let message = Manifest::parse(Path::new("m"), future.to_text().unwrap().as_bytes()).unwrap_err().to_string();
        assert!(message.contains("format 9"), "{message}");
    }
}
