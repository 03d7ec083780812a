//! A disk in memory that fails when told to, and forgets what was not flushed when it crashes.
//!
//! It models what a journalling file system may do at worst: after a crash each file has its flushed
//! content, or a beginning of what was written since; each name in a directory is as it was when the
//! directory was last flushed, or as it is now, each on its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard};
use wgrad::io::storage::{Storage, StorageFile};
use wgrad::random::Stream;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full: this call and all later writes fail.
    NoSpace,
    /// This call fails.
    Io,
    /// This call was interrupted, and may be tried again.
    Interrupted,
    /// This write takes half of its bytes, which is no error.
    ShortWrite,
    /// The machine stops: this call and all later ones fail.
    Crash,
}

pub const FAULTS: [Fault; 5] = [Fault::NoSpace, Fault::Io, Fault::Interrupted, Fault::ShortWrite, Fault::Crash];

#[derive(Clone, Default)]
struct File {
    written: Vec<u8>,
    flushed: Vec<u8>,
}

type Names = BTreeMap<String, usize>;

#[derive(Clone)]
enum Node {
    File(File),
    Directory { now: Names, flushed: Names },
}

struct Inner {
    /// The root is the first.
    nodes: Vec<Node>,
    calls: usize,
    fault: Option<(usize, Fault)>,
    full: bool,
    stopped: bool,
}

/// The disk; clones are the same disk.
#[derive(Clone)]
pub struct FaultyDisk(Arc<Mutex<Inner>>);

impl FaultyDisk {
    pub fn new() -> FaultyDisk {
        let root = Node::Directory { now: Names::new(), flushed: Names::new() };
        let inner = Inner { nodes: vec![root], calls: 0, fault: None, full: false, stopped: false };
        FaultyDisk(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The `n`-th call from now on fails, counted from 0.
    pub fn fail(&self, n: usize, fault: Fault) {
        let mut inner = self.lock();
        inner.calls = 0;
        inner.fault = Some((n, fault));
    }

    /// Whether the fault has come about.
    pub fn failed(&self) -> bool {
        let inner = self.lock();
        inner.fault.is_some_and(|(n, _)| inner.calls > n)
    }

    /// What is on the disk after the machine has stopped and started again, by chance of `seed`.
    pub fn after_crash(&self, seed: u64) -> FaultyDisk {
        let inner = self.lock();
        let mut chance = Stream::new(seed, 0).uniform(4096, 0.0, 1.0).into_iter().cycle();
        let mut draw = move || chance.next().unwrap_or(0.5);
        let mut nodes = inner.nodes.clone();
        for node in &mut nodes {
            match node {
                Node::File(file) => {
                    let kept = file.written.starts_with(&file.flushed).then(|| {
                        let more = (file.written.len() - file.flushed.len()) as f32;
                        file.flushed.len() + (draw() * (more + 1.0)) as usize
                    });
                    let content = kept.map_or_else(
                        || file.flushed.clone(),
                        |kept| file.written[..kept.min(file.written.len())].to_vec(),
                    );
                    *file = File { written: content.clone(), flushed: content };
                }
                Node::Directory { now, flushed } => {
                    let names: BTreeSet<String> = now.keys().chain(flushed.keys()).cloned().collect();
                    let pick = |name: String| {
                        let entry = if draw() < 0.5 { now.get(&name) } else { flushed.get(&name) };
                        entry.map(|&node| (name, node))
                    };
                    let kept: Names = names.into_iter().filter_map(pick).collect();
                    *node = Node::Directory { now: kept.clone(), flushed: kept };
                }
            }
        }
        let restarted = Inner { nodes, calls: 0, fault: None, full: false, stopped: false };
        FaultyDisk(Arc::new(Mutex::new(restarted)))
    }

    /// The same disk without faults, nothing lost.
    pub fn repaired(&self) -> FaultyDisk {
        let nodes = self.lock().nodes.clone();
        FaultyDisk(Arc::new(Mutex::new(Inner { nodes, calls: 0, fault: None, full: false, stopped: false })))
    }

    /// Flips one bit of a file.
    pub fn flip(&self, path: &Path, bit: usize) {
        self.edit(path, |content| content[bit / 8] ^= 1 << (bit % 8));
    }

    /// Cuts a file short.
    pub fn cut(&self, path: &Path, length: usize) {
        self.edit(path, |content| content.truncate(length));
    }

    fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.lock();
        let node = inner.find(path).expect("the file is there");
        if let Node::File(file) = &mut inner.nodes[node] {
            change(&mut file.written);
            file.flushed = file.written.clone();
        }
    }
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Inner {
    /// One more call; fails if it is the one that should. A write learns how many bytes it may take.
    fn call(&mut self, write: Option<usize>) -> io::Result<usize> {
        let index = self.calls;
        self.calls += 1;
        let whole = write.unwrap_or(0);
        if self.stopped {
            return Err(io::Error::other("the machine has stopped"));
        }
        if self.full && write.is_some() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let Some((_, fault)) = self.fault.filter(|(n, _)| *n == index) else { return Ok(whole) };
        match fault {
            Fault::NoSpace => {
                self.full = true;
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            Fault::Io => Err(io::Error::other("input/output error")),
            Fault::Interrupted => Err(io::Error::from(io::ErrorKind::Interrupted)),
            Fault::ShortWrite => Ok(whole.div_ceil(2)),
            Fault::Crash => {
                self.stopped = true;
                Err(io::Error::other("the machine has stopped"))
            }
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut at = 0;
        for part in path.components().filter(|part| matches!(part, Component::Normal(_))) {
            let name = part.as_os_str().to_string_lossy();
            match &self.nodes[at] {
                Node::Directory { now, .. } => at = *now.get(&*name).ok_or_else(not_found)?,
                Node::File(_) => return Err(not_found()),
            }
        }
        Ok(at)
    }

    fn names(&mut self, directory: &Path) -> io::Result<&mut Names> {
        let at = self.find(directory)?;
        match &mut self.nodes[at] {
            Node::Directory { now, .. } => Ok(now),
            Node::File(_) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        }
    }

    fn enter(&mut self, path: &Path, node: usize) -> io::Result<()> {
        let (parent, name) = split(path)?;
        self.names(parent)?.insert(name, node);
        Ok(())
    }
}

fn split(path: &Path) -> io::Result<(&Path, String)> {
    let name = path.file_name().ok_or_else(not_found)?.to_string_lossy().into_owned();
    Ok((path.parent().unwrap_or(Path::new("")), name))
}

struct OpenFile {
    disk: FaultyDisk,
    node: usize,
}

impl Write for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.disk.lock();
        let taken = inner.call(Some(bytes.len()))?;
        if let Node::File(file) = &mut inner.nodes[self.node] {
            file.written.extend_from_slice(&bytes[..taken]);
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StorageFile for OpenFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut inner = self.disk.lock();
        inner.call(None)?;
        if let Node::File(file) = &mut inner.nodes[self.node] {
            file.flushed = file.written.clone();
        }
        Ok(())
    }
}

impl Storage for FaultyDisk {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.call(None)?;
        let mut above = std::path::PathBuf::new();
        for part in path.components().filter(|part| matches!(part, Component::Normal(_))) {
            above.push(part);
            if inner.find(&above).is_err() {
                inner.nodes.push(Node::Directory { now: Names::new(), flushed: Names::new() });
                let node = inner.nodes.len() - 1;
                inner.enter(&above, node)?;
            }
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let mut inner = self.lock();
        inner.call(None)?;
        inner.nodes.push(Node::File(File::default()));
        let node = inner.nodes.len() - 1;
        inner.enter(path, node)?;
        Ok(Box::new(OpenFile { disk: self.clone(), node }))
    }

    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let mut inner = self.lock();
        inner.call(None)?;
        let node = inner.find(path)?;
        match &inner.nodes[node] {
            Node::File(file) if file.written.len() as u64 <= most => Ok(file.written.clone()),
            Node::File(_) => Err(io::Error::from(io::ErrorKind::InvalidData)),
            Node::Directory { .. } => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut inner = self.lock();
        inner.call(None)?;
        Ok(inner.names(path)?.keys().cloned().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.call(None)?;
        let (parent, name) = split(from)?;
        let node = inner.names(parent)?.remove(&name).ok_or_else(not_found)?;
        inner.enter(to, node)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.call(None)?;
        let at = inner.find(path)?;
        if let Node::Directory { now, flushed } = &mut inner.nodes[at] {
            *flushed = now.clone();
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.call(None)?;
        let (parent, name) = split(path)?;
        inner.names(parent)?.remove(&name).map(|_| ()).ok_or_else(not_found)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.remove_file(path)
    }
}
