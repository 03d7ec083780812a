//! TensorBoard event files: scalars by step, for `tensorboard --logdir runs`.
//!
//! A file is a sequence of TFRecords (length, masked CRC32C of it, data, masked CRC32C of that),
//! each holding a serialised `Event` of `tensorboard/compat/proto/event.proto`. Only the few fields
//! that scalars need are written, by hand. Knows nothing about what the scalars mean.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Appends events to one file. A resumed run opens another file in the same directory.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Begins a file `events.out.tfevents.<seconds>.<host>` in a directory that exists.
    ///
    /// `resume_at` is the step a resumed run begins with: TensorBoard then forgets what earlier
    /// files of the directory say about that step and later ones.
    pub fn create(directory: impl AsRef<Path>, resume_at: Option<u64>) -> Result<EventWriter> {
        let now = wall_time();
        let mut name = format!("events.out.tfevents.{:010}.{}", now as u64, host_name());
        let path = directory.as_ref().join(&name);
        let open = |path: &Path| OpenOptions::new().append(true).create_new(true).open(path);
        let (file, path) = match open(&path) {
            // Two starts within a second: TensorBoard reads files in the order of their names.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                name.push_str(&format!(".{}", std::process::id()));
                let path = directory.as_ref().join(&name);
                (open(&path).map_err(|e| Error::file(&path, &e))?, path)
            }
            opened => (opened.map_err(|e| Error::file(&path, &e))?, path),
        };
        let mut writer = EventWriter { file, path };
        writer.append(&version_event(now))?;
        if let Some(step) = resume_at {
            writer.append(&session_start_event(now, step))?;
        }
        Ok(writer)
    }

    /// Goes on from an earlier step: TensorBoard forgets what was recorded of it and later ones.
    pub fn restart(&mut self, step: u64) -> Result<()> {
        self.append(&session_start_event(wall_time(), step))
    }

    /// Records one value of a step, such as `("loss/train", 2.5)`, at the present time.
    pub fn scalar(&mut self, step: u64, tag: &str, value: f32) -> Result<()> {
        self.scalars(step, &[(tag, value)])
    }

    /// Records several values of a step as one event.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f32)]) -> Result<()> {
        self.append(&scalars_event(wall_time(), step, values))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn append(&mut self, event: &[u8]) -> Result<()> {
        let written = self.file.write_all(&record(event)).and_then(|()| self.file.flush());
        written.map_err(|e| Error::file(&self.path, &e))
    }
}

/// The first event of a file: what format it has.
fn version_event(time: f64) -> Vec<u8> {
    let mut event = event_at(time, 0);
    bytes_field(&mut event, 3, b"brain.Event:2");
    event
}

/// `SessionLog { status: START }`.
fn session_start_event(time: f64, step: u64) -> Vec<u8> {
    let mut session = Vec::new();
    varint_field(&mut session, 1, 1);
    let mut event = event_at(time, step);
    bytes_field(&mut event, 7, &session);
    event
}

/// `Summary { value: [{ tag, simple_value }] }`.
fn scalars_event(time: f64, step: u64, values: &[(&str, f32)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut entry = Vec::new();
        bytes_field(&mut entry, 1, tag.as_bytes());
        entry.push(2 << 3 | FIXED32);
        entry.extend_from_slice(&value.to_le_bytes());
        bytes_field(&mut summary, 1, &entry);
    }
    let mut event = event_at(time, step);
    bytes_field(&mut event, 5, &summary);
    event
}

/// `Event { wall_time, step }`, to be extended by what happened.
fn event_at(time: f64, step: u64) -> Vec<u8> {
    let mut event = vec![1 << 3 | FIXED64];
    event.extend_from_slice(&time.to_le_bytes());
    if step > 0 {
        varint_field(&mut event, 2, step);
    }
    event
}

// The wire types of protocol buffers: the low three bits of a field's key.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

fn varint_field(message: &mut Vec<u8>, field: u8, value: u64) {
    message.push(field << 3 | VARINT);
    varint(message, value);
}

fn bytes_field(message: &mut Vec<u8>, field: u8, content: &[u8]) {
    message.push(field << 3 | BYTES);
    varint(message, content.len() as u64);
    message.extend_from_slice(content);
}

/// Seven bits a byte, lowest first; the high bit says that more follow.
fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// Frames data as a TFRecord.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked_crc(data).to_le_bytes());
    record
}

/// The mask keeps a CRC over data that itself holds CRCs from degenerating.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Seconds since 1970.
fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The machine's name, as far as a file name can hold it.
fn host_name() -> String {
    let name = std::fs::read_to_string("/etc/hostname").ok();
    let name = name.or_else(|| std::env::var("COMPUTERNAME").ok()).or_else(|| std::env::var("HOSTNAME").ok());
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let name: String = name.unwrap_or_default().trim().chars().filter(allowed).take(64).collect();
    if name.is_empty() { "localhost".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_bytes_are_those_that_tensorboard_writes_and_reads() {
        // Checked once against tensorboard 2.21: its `RecordWriter` gives these bytes for these
        // events, and its `EventAccumulator` reads them.
        assert_eq!(
            hex(&record(&version_event(1.5))),
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c"
        );
        assert_eq!(
            hex(&record(&scalars_event(1.5, 300, &[("loss/train", 2.5)]))),
            "2100000000000000017becf609000000000000f83f10ac022a130a110a0a6c6f73732f747261696e15000020409dc3af86"
        );
        assert_eq!(
            hex(&record(&session_start_event(1.5, 7))),
            "0f000000000000006d532b0909000000000000f83f10073a020801774771c7"
        );
    }

    #[test]
    fn a_file_holds_its_version_and_then_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = EventWriter::create(dir.path(), None).unwrap();
        let second = EventWriter::create(dir.path(), Some(5)).unwrap();
        assert_ne!(first.path(), second.path());
        let name = first.path().file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with("events.out.tfevents.1") || name.starts_with("events.out.tfevents.2"), "{name}");
        first.scalar(1, "loss", 1.0).unwrap();
        first.scalars(2, &[("loss", 0.5), ("lr", f32::NAN)]).unwrap();

        let bytes = std::fs::read(first.path()).unwrap();
        let (mut at, mut events) = (0, Vec::new());
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            events.push(&bytes[at + 12..at + 12 + length]);
            assert_eq!(record(events[events.len() - 1]), bytes[at..at + length + 16]);
            at += length + 16;
        }
        assert_eq!(events.len(), 3);
        assert!(events[0].ends_with(b"brain.Event:2"));
        assert!(std::fs::read(second.path()).unwrap().len() > 60);
        assert!(EventWriter::create(dir.path().join("absent"), None).is_err());
    }
}
