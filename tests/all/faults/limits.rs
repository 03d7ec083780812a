//! No room, in each way that a system knows: a look at what is free, `/dev/full`, a small file system, a limit on the
//! size of files. Training goes on, the user is told, and nothing half written is left.

use super::runs::{Program, SmallDisk};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use wgrad::io::checkpoint::CheckpointStore;
use wgrad::io::safetensors::{NamedTensor, Weights};
use wgrad::io::storage::{Disk, Storage, StorageFile};

/// The file system, of which something else is said.
struct Odd {
    /// Bytes that are free, if it tells.
    free: Option<u64>,
    /// Shards are written to a device that is always full.
    full: bool,
}

impl Storage for Odd {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        Disk.create_directory(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let shard = path.extension().is_some_and(|ending| ending == "safetensors");
        Disk.create(path)?;
        Disk.create(if self.full && shard { Path::new("/dev/full") } else { path })
    }

    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        Disk.read(path, most)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Disk.list(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        Disk.sync_directory(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        Disk.remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        Disk.remove_directory(path)
    }

    fn free_bytes(&self, _path: &Path) -> Option<u64> {
        self.free
    }
}

/// A state of so many floats.
fn state(step: u64, floats: usize) -> Weights {
    let tensors = vec![NamedTensor::f32("weight", [floats], &vec![step as f32; floats])];
    Weights { tensors, ..Weights::default() }
}

/// A save that must fail after one that went through, leaving nothing; its message.
fn refused(directory: &Path, storage: impl Storage + 'static, floats: usize) -> String {
    let before = CheckpointStore::new(Arc::new(Disk), directory);
    before.save(10, &state(10, 100)).expect("saves");
    let store = CheckpointStore::new(Arc::new(storage), directory);
    let message = store.save(20, &state(20, floats)).expect_err("has no room").to_string();
    assert!(message.contains("step-20") && message.contains("No space left"), "{message}");
    assert!(message.contains("untouched"), "{message}");
    assert_eq!(Disk.list(directory).expect("is there"), ["step-10"], "nothing is left behind");
    assert_eq!(before.latest().expect("loads").expect("is there").state, state(10, 100));
    message
}

#[test]
fn room_is_looked_for_before_a_save_with_a_tenth_to_spare() {
    let dir = tempfile::tempdir().expect("a directory");
    let directory = dir.path().join("checkpoints");
    // 4 MB need 4.4.
    let message = refused(&directory, Odd { free: Some(4_399_999), full: false }, 1_000_000);
    assert!(message.contains("takes 4.2 MiB, and 4.2 MiB are free"), "{message}");
    for free in [Some(4_400_000), None] {
        let store = CheckpointStore::new(Arc::new(Odd { free, full: false }), &directory);
        store.save(30, &state(30, 1_000_000)).expect("has room");
    }
    // The system tells.
    let free = Disk.free_bytes(dir.path());
    assert!(!cfg!(unix) || free.is_some_and(|free| free > 0), "{free:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_device_that_is_full_leaves_the_old_checkpoint() {
    let dir = tempfile::tempdir().expect("a directory");
    refused(&dir.path().join("checkpoints"), Odd { free: None, full: true }, 100);
}

#[test]
fn a_small_file_system_says_how_much_is_free_and_is_not_half_filled() {
    let Some(disk) = SmallDisk::mount() else { return eprintln!("NOT TESTED: mounting a small tmpfs needs root") };
    let message = refused(&disk.join("looked"), Disk, 400_000);
    assert!(message.contains("MiB are free"), "{message}");
    // Where the system does not tell, the write fails.
    let message = refused(&disk.join("met"), Odd { free: None, full: false }, 400_000);
    assert!(!message.contains("MiB are free"), "{message}");
    let free = Disk.free_bytes(&disk.join("met")).expect("a tmpfs tells");
    assert!(free < 1 << 20, "{free}");
}

#[test]
fn a_copy_on_disk_is_checked_without_another_in_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = CheckpointStore::new(Arc::new(Disk), dir.path().join("checkpoints"));
    let state = state(10, 8 << 20);
    let (saved, held) = crate::hostile::allocations::measured(|| store.save(10, &state));
    saved.expect("saves");
    assert!(held < 4 << 20, "{held} bytes were held for a state of {}", 32 << 20);
}

/// The program with files of at most so many blocks of 512 bytes.
#[cfg(unix)]
fn limited(program: &Program, blocks: usize) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -f {blocks} && exec \"$0\" \"$@\"")]);
    let own = program.command();
    shell.arg(own.get_program()).args(own.get_args());
    shell.stdin(Stdio::null()).output().expect("starts")
}

#[cfg(unix)]
fn leftovers(run: &Path) -> Vec<PathBuf> {
    let inside = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = inside(run.to_path_buf()).chain(inside(run.join("checkpoints")));
    all.filter(|path| path.extension().is_some_and(|ending| ending == "tmp")).collect()
}

#[test]
#[cfg(unix)]
fn a_limit_on_the_size_of_files_is_told_and_training_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = |name: &str| Program { run: dir.path().join(name), steps: 30, every: 7 };
    let whole = program("whole");
    whole.finish();
    // Records fit and checkpoints do not; then neither does.
    for (blocks, records_fit) in [(40, true), (4, false)] {
        let run = program(&format!("limited-{blocks}"));
        let output = limited(&run, blocks);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        // The last checkpoint is missing, which is what the exit code says.
        assert_eq!(output.status.code(), Some(2), "{blocks} blocks: {text}");
        assert!(text.contains("was not written") && text.contains("File too large"), "{text}");
        assert_eq!(text.contains("records wait"), !records_fit, "{text}");
        assert!(text.matches("training goes on").count() >= 4, "{text}");
        assert!(text.contains("step 28"), "it ended before its last evaluation: {text}");
        assert_eq!(leftovers(&run.run), Vec::<PathBuf>::new());
        assert!(records_fit == (run.recorded() == 30), "{} records", run.recorded());
        // Without the limit it begins again, since nothing was saved, and comes to the same end.
        run.finish();
        super::runs::assert_same(&run.run, &whole.run, &format!("{blocks} blocks"));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_goes_nowhere_is_no_panic() {
    let dir = tempfile::tempdir().expect("a directory");
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
    let program = |name: &str| Program { run: dir.path().join(name), steps: 5, every: 0 };
    // Progress that cannot be shown does not matter.
    let silent = program("silent");
    let status = silent.command().stderr(full()).stdout(Stdio::null()).status().expect("starts");
    assert!(status.success() && silent.recorded() == 5, "{status}");
    // Results that cannot be told do.
    let output = program("mute").command().stdout(full()).stderr(Stdio::piped()).output().expect("starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("standard output: No space left"), "{text}");
}
