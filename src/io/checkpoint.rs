//! Checkpoints that are there whole or not at all.
//!
//! A checkpoint is a directory `step-N` with safetensors shards and a `manifest.json`, which holds
//! every file's size and CRC-32C and is written last. All of it is written into `step-N.tmp`, flushed
//! to disk, and renamed; the one before is never touched until the new one has been read back.
//! Checkpoints are found by scanning for manifests, so there is no pointer that could be wrong.
//! Knows nothing about models: a checkpoint is tensors and text.

use super::manifest::{FileEntry, MANIFEST, MANIFEST_BYTES, Manifest};
use super::safetensors::{NamedTensor, Weights, write_file};
use super::storage::Storage;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const FORMAT: &str = "checkpoint";
const TEMPORARY: &str = ".tmp";
/// A shard is closed when it holds this many bytes of tensors.
const SHARD_BYTES: u64 = 1 << 30;

/// The checkpoints of one run.
#[derive(Clone)]
pub struct CheckpointStore {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    keep: usize,
    shard_bytes: u64,
    /// The directory and those above it are known to survive a power cut.
    rooted: Arc<AtomicBool>,
}

/// A checkpoint that was found and verified.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub step: u64,
    pub path: PathBuf,
    /// Tensors, and the metadata that they were saved with.
    pub state: Weights,
    /// Newer ones that cannot be used.
    pub rejected: Vec<Rejected>,
}

/// A directory that claims to be a checkpoint and is damaged.
#[derive(Debug, Clone)]
pub struct Rejected {
    pub path: PathBuf,
    /// A line for the user.
    pub why: String,
}

impl CheckpointStore {
    /// Checkpoints in `directory`, which is made at the first save. Two are kept.
    pub fn new(storage: Arc<dyn Storage>, directory: impl Into<PathBuf>) -> CheckpointStore {
        CheckpointStore {
            storage,
            directory: directory.into(),
            keep: 2,
            shard_bytes: SHARD_BYTES,
            rooted: Arc::default(),
        }
    }

    /// How many checkpoints stay: at least two, so that one that turns out damaged has another before it.
    pub fn keep(self, keep: usize) -> CheckpointStore {
        CheckpointStore { keep: keep.max(2), ..self }
    }

    /// The size at which a shard is closed.
    pub fn shard_bytes(self, shard_bytes: u64) -> CheckpointStore {
        CheckpointStore { shard_bytes: shard_bytes.max(1), ..self }
    }

    /// Where the checkpoints lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a checkpoint and removes the oldest beyond those that are kept.
    ///
    /// [`ErrorKind::NotCommitted`]: it is not there, and everything is as before. [`ErrorKind::DurabilityUncertain`]:
    /// it is there, but may not survive a power cut.
    pub fn save(&self, step: u64, state: &Weights) -> Result<PathBuf> {
        state.check()?;
        let mut temporary = self.directory.join(format!("step-{step}{TEMPORARY}"));
        let written = self.root().and_then(|()| {
            self.remove_leftovers();
            self.check_room(state)?;
            let name = self.free_name(step)?;
            temporary = self.directory.join(format!("{name}{TEMPORARY}"));
            let path = self.directory.join(name);
            self.write(&temporary, step, state)?;
            self.storage.rename(&temporary, &path)?;
            Ok(path)
        });
        let path = written.map_err(|e| {
            // The first error is the one worth reporting; a leftover is only untidy, and the next save removes it.
            let _ = self.storage.remove_directory(&temporary);
            Error::not_committed(temporary.with_extension("").display().to_string(), e.to_string())
        })?;
        self.storage
            .sync_directory(&self.directory)
            .map_err(|e| Error::durability_uncertain(path.display().to_string(), e.to_string()))?;
        // Only a checkpoint that reads back may stand in for an older one.
        self.verify(&path)?;
        self.remove_oldest();
        Ok(path)
    }

    /// Makes the directory, and flushes the names that lead to it.
    fn root(&self) -> io::Result<()> {
        if self.rooted.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.storage.create_directory(&self.directory)?;
        for above in self.directory.ancestors().skip(1) {
            match self.storage.sync_directory(above) {
                // A directory that we may not open was there before us.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => break,
                other => other?,
            }
        }
        self.rooted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Refuses what would not fit with a tenth to spare: half a checkpoint would take the room that records need.
    fn check_room(&self, state: &Weights) -> io::Result<()> {
        let bytes = state.tensors.iter().fold(0u64, |sum, tensor| sum.saturating_add(tensor.bytes.len() as u64));
        let needed = bytes.saturating_add(bytes / 10);
        match self.storage.free_bytes(&self.directory) {
            Some(free) if free < needed => {
                let [needed, free] = [needed, free].map(|bytes| bytes as f64 / f64::from(1 << 20));
                let message = format!(
                    "No space left: with a tenth to spare it takes {needed:.1} MiB, and {free:.1} MiB are free"
                );
                Err(io::Error::new(io::ErrorKind::StorageFull, message))
            }
            _ => Ok(()),
        }
    }

    /// Every file of the checkpoint, flushed, and the manifest last.
    fn write(&self, temporary: &Path, step: u64, state: &Weights) -> io::Result<()> {
        self.root()?;
        self.storage.create_directory(temporary)?;
        let shards = self.shards(&state.tensors);
        let mut files = Vec::with_capacity(shards.len());
        for (number, tensors) in (1u64..).zip(&shards) {
            let name = format!("state-{number:05}-of-{:05}.safetensors", shards.len());
            let (bytes, crc32c) =
                self.write_flushed(&temporary.join(&name), &mut |file| write_file(file, tensors, &BTreeMap::new()))?;
            files.push(FileEntry { name, bytes, crc32c });
        }
        let manifest = Manifest::new(step, files, state.metadata.clone()).to_text().map_err(io::Error::other)?;
        self.write_flushed(&temporary.join(MANIFEST), &mut |file| file.write_all(manifest.as_bytes()))?;
        self.storage.sync_directory(temporary)
    }

    /// Writes one file and flushes it to disk; its size and checksum.
    fn write_flushed(
        &self,
        path: &Path,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<(u64, u32)> {
        let mut file = self.storage.create(path)?;
        let mut counted = Counted { inner: &mut *file, bytes: 0, crc32c: 0 };
        content(&mut counted)?;
        let (bytes, crc32c) = (counted.bytes, counted.crc32c);
        file.flush()?;
        file.sync()?;
        Ok((bytes, crc32c))
    }

    /// `step-N`; where an earlier part of the run saved this step already, `step-N.1` and so on: what is
    /// there stays as it is until the new one has been read back.
    fn free_name(&self, step: u64) -> io::Result<String> {
        let taken = self.storage.list(&self.directory)?;
        let mut numbered = (0u64..).map(|n| if n == 0 { format!("step-{step}") } else { format!("step-{step}.{n}") });
        numbered.find(|name| !taken.contains(name)).ok_or_else(|| io::Error::other("no free name"))
    }

    /// Tensors by shard, in order; at least one shard.
    fn shards<'a>(&self, tensors: &'a [NamedTensor]) -> Vec<Vec<&'a NamedTensor>> {
        let (mut shards, mut filled) = (vec![Vec::new()], 0u64);
        for tensor in tensors {
            if filled >= self.shard_bytes {
                shards.push(Vec::new());
                filled = 0;
            }
            filled = filled.saturating_add(tensor.bytes.len() as u64);
            if let Some(last) = shards.last_mut() {
                last.push(tensor);
            }
        }
        shards
    }

    /// Unfinished saves of a process that is gone. A failure does not matter: they are never read.
    fn remove_leftovers(&self) {
        for name in self.storage.list(&self.directory).unwrap_or_default() {
            if name.starts_with("step-") && name.ends_with(TEMPORARY) {
                let _ = self.storage.remove_directory(&self.directory.join(name));
            }
        }
    }

    /// All but the newest `keep`; a failure leaves more than asked for, which does no harm.
    fn remove_oldest(&self) {
        let Ok(found) = self.names() else { return };
        for name in found.into_iter().skip(self.keep) {
            let _ = self.storage.remove_directory(&self.directory.join(name));
        }
    }

    /// Names of what may be checkpoints, newest first.
    fn names(&self) -> Result<Vec<String>> {
        Ok(self.numbered()?.into_iter().map(|(_, name)| name).collect())
    }

    /// The same with their steps; unfinished ones have no number behind the point.
    fn numbered(&self) -> Result<Vec<(u64, String)>> {
        let names = match self.storage.list(&self.directory) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(e) => return Err(Error::file(&self.directory, &e)),
        };
        let mut found: Vec<((u64, u64), String)> = names
            .into_iter()
            .filter_map(|name| {
                let numbers = name.strip_prefix("step-")?;
                let (step, again) = numbers.split_once('.').unwrap_or((numbers, "0"));
                Some(((step.parse().ok()?, again.parse().ok()?), name))
            })
            .collect();
        found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        Ok(found.into_iter().map(|((step, _), name)| (step, name)).collect())
    }

    /// The newest checkpoint that is whole, with the reasons against newer ones; `None` if there is no
    /// directory that claims to be one.
    pub fn latest(&self) -> Result<Option<Checkpoint>> {
        self.latest_of(self.names()?)
    }

    /// The newest that is whole among those of steps before `step`.
    pub fn latest_before(&self, step: u64) -> Result<Option<Checkpoint>> {
        let before = self.numbered()?.into_iter().filter(|(own, _)| *own < step);
        self.latest_of(before.map(|(_, name)| name).collect())
    }

    fn latest_of(&self, found: Vec<String>) -> Result<Option<Checkpoint>> {
        let mut rejected = Vec::new();
        for name in &found {
            let path = self.directory.join(name);
            match self.read_verified(&path) {
                Ok((step, state)) => return Ok(Some(Checkpoint { step, path, state, rejected })),
                Err(error) => rejected.push(Rejected { path, why: error.to_string() }),
            }
        }
        let reasons: Vec<String> = rejected.into_iter().map(|one| one.why).collect();
        match reasons.is_empty() {
            true => Ok(None),
            false => Err(Error::format(
                self.directory.display().to_string(),
                FORMAT,
                format!("none of its {} checkpoints is whole: {}", found.len(), reasons.join("; ")),
            )),
        }
    }

    /// Renames damaged checkpoints to `damaged-step-N`: kept for whoever wants to see them, but no longer counted
    /// among the newest. A failure leaves them where they are, where they are passed over again.
    pub fn set_aside(&self, found: &Checkpoint) {
        for rejected in &found.rejected {
            let name = rejected.path.file_name().map(|name| format!("damaged-{}", name.to_string_lossy()));
            let _ = name.map(|name| self.storage.rename(&rejected.path, &self.directory.join(name)));
        }
    }

    /// Renames the checkpoints of `step` and later ones to `abandoned-step-N`, because training goes on from an earlier one.
    pub fn abandon_from(&self, step: u64) -> Result<()> {
        for (_, name) in self.numbered()?.iter().filter(|(own, _)| *own >= step) {
            let (from, to) = (self.directory.join(name), self.directory.join(format!("abandoned-{name}")));
            self.storage.rename(&from, &to).map_err(|e| Error::file(&from, &e))?;
        }
        self.storage.sync_directory(&self.directory).map_err(|e| Error::file(&self.directory, &e))
    }

    /// The checkpoint in one directory, every byte of it checked.
    pub fn read_verified(&self, path: &Path) -> Result<(u64, Weights)> {
        let manifest = self.manifest(path)?;
        let mut state = Weights { tensors: Vec::new(), metadata: manifest.metadata };
        for entry in &manifest.files {
            let file = path.join(&entry.name);
            let bytes = self.storage.read(&file, entry.bytes).map_err(|e| Error::file(&file, &e))?;
            check_sum(&file, entry, (bytes.len() as u64, crc32c::crc32c(&bytes)))?;
            state.tensors.extend(Weights::from_bytes(&file.display().to_string(), &bytes)?.tensors);
        }
        state.check()?;
        Ok((manifest.step, state))
    }

    /// That every byte reads back as the manifest says, without holding them: the state is on the host already.
    fn verify(&self, path: &Path) -> Result<()> {
        for entry in &self.manifest(path)?.files {
            let file = path.join(&entry.name);
            let found = self.storage.checksum(&file, entry.bytes).map_err(|e| Error::file(&file, &e))?;
            check_sum(&file, entry, found)?;
        }
        Ok(())
    }

    fn manifest(&self, path: &Path) -> Result<Manifest> {
        let path = path.join(MANIFEST);
        let bytes = self.storage.read(&path, MANIFEST_BYTES).map_err(|e| Error::file(&path, &e))?;
        Manifest::parse(&path, &bytes)
    }
}

/// Compares a file's length and checksum with what the manifest says.
fn check_sum(path: &Path, entry: &FileEntry, found: (u64, u32)) -> Result<()> {
    if found == (entry.bytes, entry.crc32c) {
        return Ok(());
    }
    let message = "its size or checksum is not that of the manifest: the file was damaged".into();
    Err(Error::format(path.display().to_string(), FORMAT, message))
}

/// Counts and sums up what passes through.
struct Counted<'a> {
    inner: &'a mut dyn Write,
    bytes: u64,
    crc32c: u32,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        let passed = bytes.get(..written).ok_or_else(|| io::Error::other("more was written than given"))?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, passed);
        self.bytes = self.bytes.saturating_add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
