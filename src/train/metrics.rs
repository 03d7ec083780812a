//! `metrics.jsonl`: one line of JSON for each recorded step, appended as training goes.
//!
//! A line is handed to the system before the next step begins, so a killed run loses at most the
//! line being written. A checkpoint says how long the file was; a resumed run cuts it to that length, so
//! that no step is missing and none occurs twice. What a full disk refuses waits in memory and is
//! written with the next line that goes through. Knows nothing about what the numbers mean.

use crate::error::{Error, Result};
use crate::io::files::{read_whole, write_atomic};
use serde::{Deserialize, Serialize, Serializer};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// No line that can be read has fewer bytes.
const SHORTEST: usize = r#"{"step":1,"loss":1,"lr":1,"grad_norm":1,"elapsed_s":1}"#.len();

/// What is recorded of one step. A value that is not finite is `null` in the file, since JSON has
/// no word for it, and NaN when read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The step, counted from 1.
    pub step: u64,
    /// Mean training loss of the step, in nats per token (or per image).
    #[serde(with = "nullable")]
    pub loss: f32,
    /// Mean loss over the held-out part, in the steps that evaluate.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "nullable_option")]
    pub val_loss: Option<f32>,
    /// Fraction of the batch that was classified right, where there are classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f32>,
    /// Fraction of the held-out part that was classified right, in the steps that evaluate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_accuracy: Option<f32>,
    /// Learning rate of the step.
    pub lr: f64,
    /// Tokens trained on per second, over the time since the last record; of a language model.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "nullable_f64")]
    pub tokens_s: Option<f64>,
    /// Images trained on per second likewise.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "nullable_f64")]
    pub images_s: Option<f64>,
    /// Global norm of the gradient before clipping.
    #[serde(with = "nullable")]
    pub grad_norm: f32,
    /// What the loss was multiplied by before it was differentiated, if losses are scaled.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "nullable_option")]
    pub loss_scale: Option<f32>,
    /// Steps that were left out so far because their gradients overflowed, this one included, if losses are scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_steps: Option<u64>,
    /// Seconds of training so far, over all resumed parts.
    pub elapsed_s: f64,
    /// Norms of each parameter's gradient before clipping, in the steps that record them. Written, but not read back: they
    /// are for those who draw them.
    #[serde(skip_deserializing, skip_serializing_if = "Norms::is_empty")]
    pub grad_norms: Norms,
    /// Norms of each parameter before the update, in the same steps.
    #[serde(skip_deserializing, skip_serializing_if = "Norms::is_empty")]
    pub weight_norms: Norms,
}

/// Norms by the names of parameters; one that is not finite is `null` in the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Norms(pub Vec<(Arc<str>, f32)>);

impl Norms {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Norms {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, norm)| (name, norm.is_finite().then_some(norm))))
    }
}

/// Appends records to a file.
#[derive(Debug)]
pub struct MetricsWriter {
    file: File,
    path: PathBuf,
    /// Whole lines in the file.
    written: u64,
    /// Lines that the disk did not take yet.
    waiting: Vec<u8>,
    /// A failed write may have left a part of a line behind `written`.
    torn: bool,
}

impl MetricsWriter {
    /// Begins a file, which must not exist yet: another run's record is not overwritten.
    pub fn create(path: impl AsRef<Path>) -> Result<MetricsWriter> {
        let path = path.as_ref();
        let file = OpenOptions::new().append(true).create_new(true).open(path);
        let file = file.map_err(|e| Error::file(path, &e))?;
        Ok(MetricsWriter { file, path: path.into(), written: 0, waiting: Vec::new(), torn: false })
    }

    /// Goes on with a file after step `last_step`, when it was `length` bytes long: what follows, later
    /// records and a torn last line are removed. Returns the records that stay. A missing file is begun anew.
    pub fn resume(path: impl AsRef<Path>, last_step: u64, length: Option<u64>) -> Result<(MetricsWriter, Vec<Record>)> {
        let path = path.as_ref();
        if !path.exists() {
            return Ok((MetricsWriter::create(path)?, Vec::new()));
        }
        let whole = read_whole(path, u64::MAX)?;
        let known = length.and_then(|length| usize::try_from(length).ok());
        let length = known.map_or(whole.len(), |length| whole.len().min(length));
        let lines = parse(path, whole.get(..length).unwrap_or_default())?;
        let lines: Vec<_> = lines.into_iter().filter(|(_, r)| r.step <= last_step).collect();
        let mut kept = Vec::with_capacity(length);
        for (line, _) in &lines {
            kept.extend_from_slice(line);
            kept.push(b'\n');
        }
        if kept != whole {
            write_atomic(path, &kept)?;
        }
        let file = OpenOptions::new().append(true).open(path).map_err(|e| Error::file(path, &e))?;
        let records = lines.into_iter().map(|(_, record)| record).collect();
        let written = kept.len() as u64;
        Ok((MetricsWriter { file, path: path.into(), written, waiting: Vec::new(), torn: false }, records))
    }

    /// Appends one record, in one write, so that a reader or a crash sees whole lines. After an error the
    /// record waits, and goes with the next one or with [`MetricsWriter::flush`].
    pub fn write(&mut self, record: &Record) -> Result<()> {
        serde_json::to_writer(&mut self.waiting, record).map_err(|e| Error::file(&self.path, &e.into()))?;
        self.waiting.push(b'\n');
        self.flush()
    }

    /// Writes what waits.
    pub fn flush(&mut self) -> Result<()> {
        let written = self.try_flush();
        written.map_err(|e| Error::file(&self.path, &e))
    }

    fn try_flush(&mut self) -> std::io::Result<()> {
        if self.torn {
            self.file.set_len(self.written)?;
            self.torn = false;
        }
        self.torn = true;
        self.file.write_all(&self.waiting)?;
        self.torn = false;
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Bytes of all records, those that wait too: a checkpoint refers to it once they are written.
    pub fn length(&self) -> u64 {
        self.written + self.waiting.len() as u64
    }

    /// Forgets what was recorded beyond an earlier length.
    pub fn rewind(&mut self, length: u64) -> Result<()> {
        if length >= self.written {
            self.waiting.truncate((length - self.written) as usize);
        } else {
            self.waiting.clear();
            self.written = length;
            self.torn = true;
        }
        self.flush()
    }

    /// Work for any thread: returns once the records written so far would survive a power cut.
    pub fn syncing(&self) -> Result<impl FnOnce() -> Result<()> + Send + 'static> {
        let (file, path) = (self.file.try_clone(), self.path.clone());
        let file = file.map_err(|e| Error::file(&path, &e))?;
        Ok(move || file.sync_all().map_err(|e| Error::file(&path, &e)))
    }
}

/// Reads all records; a torn last line is left out.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<Record>> {
    let path = path.as_ref();
    let bytes = read_whole(path, u64::MAX)?;
    Ok(parse(path, &bytes)?.into_iter().map(|(_, record)| record).collect())
}

/// The lines of a file's bytes with their records; `path` is for messages. Only the last line may be damaged, by a
/// crash in its middle.
pub fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<(&'a [u8], Record)>> {
    // Room at once: a list that grows takes twice what it needs.
    let mut records = Vec::with_capacity(bytes.len() / SHORTEST + 1);
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, behind) = rest.split_at(end);
        let record = serde_json::from_slice(line).map_err(|e| {
            Error::format(path.display().to_string(), "metrics", format!("line {}: {e}", records.len() + 1))
        })?;
        records.push((line, record));
        rest = behind.get(1..).unwrap_or_default();
    }
    // What stands behind the last line end: nothing, or what was torn.
    if let Ok(record) = serde_json::from_slice(rest) {
        records.push((rest, record));
    }
    Ok(records)
}

/// f32 with `null` for what is not finite.
mod nullable {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
        Ok(Option::<f32>::deserialize(deserializer)?.unwrap_or(f32::NAN))
    }
}

/// f64 that may be absent, with `null` for what is not finite.
mod nullable_f64 {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.filter(|value| value.is_finite()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Ok(Some(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN)))
    }
}

/// A value that may be absent; present but `null` is one that is not finite.
mod nullable_option {
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
        super::nullable::serialize(&value.unwrap_or(f32::NAN), serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
        super::nullable::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u64) -> Record {
        Record {
            step,
            loss: 5.5 / step as f32,
            val_loss: step.is_multiple_of(2).then_some(2.25),
            accuracy: None,
            val_accuracy: None,
            lr: 1e-3,
            tokens_s: Some(1234.5),
            images_s: None,
            grad_norm: 0.75,
            loss_scale: None,
            skipped_steps: None,
            elapsed_s: step as f64 * 0.25,
            grad_norms: Norms::default(),
            weight_norms: Norms::default(),
        }
    }

    fn written(dir: &Path, steps: std::ops::RangeInclusive<u64>) -> PathBuf {
        let path = dir.join("metrics.jsonl");
        let mut writer = MetricsWriter::create(&path).unwrap();
        steps.for_each(|step| writer.write(&record(step)).unwrap());
        path
    }

    #[test]
    fn a_line_is_plain_json_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 1..=2);
        let text = std::fs::read_to_string(&path).unwrap();
        let first = r#"{"step":1,"loss":5.5,"lr":0.001,"tokens_s":1234.5,"grad_norm":0.75,"elapsed_s":0.25}"#;
        assert_eq!(text.lines().next().unwrap(), first);
        assert!(text.lines().nth(1).unwrap().contains(r#""loss":2.75,"val_loss":2.25,"#));
        assert_eq!(read(&path).unwrap(), [record(1), record(2)]);
        assert!(MetricsWriter::create(&path).is_err());
    }

    #[test]
    fn what_a_task_does_not_have_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let images = Record {
            accuracy: Some(0.5),
            val_accuracy: Some(0.25),
            tokens_s: None,
            images_s: Some(100.0),
            ..record(1)
        };
        MetricsWriter::create(&path).unwrap().write(&images).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""accuracy":0.5,"val_accuracy":0.25,"#) && !text.contains("tokens_s"), "{text}");
        assert_eq!(read(&path).unwrap(), [images]);
    }

    #[test]
    fn scales_and_norms_are_written_where_there_are_some() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let norms = |values: [f32; 2]| Norms(vec![("a.weight".into(), values[0]), ("b".into(), values[1])]);
        let scaled = Record { loss_scale: Some(1024.0), skipped_steps: Some(3), ..record(1) };
        let full =
            Record { grad_norms: norms([0.5, f32::INFINITY]), weight_norms: norms([2.0, 1.0]), ..scaled.clone() };
        MetricsWriter::create(&path).unwrap().write(&full).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""loss_scale":1024.0,"skipped_steps":3,"#), "{text}");
        let norms = r#""grad_norms":{"a.weight":0.5,"b":null},"weight_norms":{"a.weight":2.0,"b":1.0}}"#;
        assert!(text.trim_end().ends_with(norms), "{text}");
        assert_eq!(read(&path).unwrap(), [scaled]);
    }

    #[test]
    fn values_that_are_not_finite_become_null() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let broken = Record { loss: f32::NAN, val_loss: Some(f32::INFINITY), grad_norm: f32::NAN, ..record(1) };
        MetricsWriter::create(&path).unwrap().write(&broken).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains(r#""loss":null,"val_loss":null"#));
        let back = read(&path).unwrap().remove(0);
        assert!(back.loss.is_nan() && back.val_loss.is_some_and(f32::is_nan) && back.grad_norm.is_nan());
    }

    #[test]
    fn resuming_removes_later_steps_and_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 1..=5);
        let whole = std::fs::read(&path).unwrap();
        for cut in (0..whole.len()).step_by(5) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut writer, kept) = MetricsWriter::resume(&path, 3, None).unwrap();
            let next = kept.len() as u64 + 1;
            assert!(next <= 4, "cut at {cut}");
            writer.write(&record(next)).unwrap();
            let steps: Vec<u64> = read(&path).unwrap().iter().map(|record| record.step).collect();
            assert_eq!(steps, (1..=next).collect::<Vec<_>>(), "cut at {cut}");
        }
    }

    #[test]
    fn resuming_cuts_to_the_length_that_a_checkpoint_knows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::create(&path).unwrap();
        (1..=3).for_each(|step| writer.write(&record(step)).unwrap());
        let length = writer.length();
        writer.syncing().unwrap()().unwrap();
        (4..=5).for_each(|step| writer.write(&record(step)).unwrap());
        let (mut writer, kept) = MetricsWriter::resume(&path, 3, Some(length)).unwrap();
        assert_eq!((kept.len(), writer.length()), (3, length));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
        writer.write(&record(4)).unwrap();
        writer.rewind(length).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
    }

    #[test]
    fn zeros_left_by_a_power_cut_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 1..=2);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend([0; 100]);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(MetricsWriter::resume(&path, 9, None).unwrap().1.len(), 2);
        assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len() - 100);
    }

    #[test]
    fn damage_elsewhere_is_an_error_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 1..=1);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}nonsense\n{text}")).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("line 2"), "{message}");
        let (_, none) = MetricsWriter::resume(dir.path().join("new.jsonl"), 0, None).unwrap();
        assert!(none.is_empty());
    }
}
