//! Whatever fails while a checkpoint is written: an old or the new one loads, bit by bit.

use super::disk::{FAULTS, Fault, FaultyDisk};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wgrad::io::checkpoint::CheckpointStore;
use wgrad::io::safetensors::{NamedTensor, Weights};
use wgrad::io::storage::{Disk, Storage};
use wgrad::{Error, ErrorKind};

const RUN: &str = "run/checkpoints";

/// A small state that differs at every step; three shards.
fn state(step: u64) -> Weights {
    let tensor = |name: &str, n: usize| {
        let values: Vec<f32> = (0..n).map(|i| (step * 1000 + i as u64) as f32).collect();
        NamedTensor::f32(name, [n], &values)
    };
    let metadata = BTreeMap::from([("step".to_string(), step.to_string())]);
    Weights { tensors: vec![tensor("weight", 7), tensor("bias", 3), tensor("adam.m/weight", 7)], metadata }
}

fn store(disk: &FaultyDisk) -> CheckpointStore {
    CheckpointStore::new(Arc::new(disk.clone()), RUN).shard_bytes(20)
}

fn assert_same(found: &Weights, step: u64) {
    let want = state(step);
    assert_eq!(found.metadata, want.metadata);
    for tensor in &want.tensors {
        assert_eq!(found.get(&tensor.name), Some(tensor), "step {step}");
    }
}

/// What loads must be one of these steps, whole.
fn loads_one_of(disk: &FaultyDisk, steps: &[u64], what: &str) -> u64 {
    let found = store(disk).latest().unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = found.unwrap_or_else(|| panic!("{what}: there is no checkpoint"));
    assert!(steps.contains(&found.step), "{what}: step {} loads", found.step);
    assert_same(&found.state, found.step);
    found.step
}

/// Two committed checkpoints, then a third save of `step` whose `n`-th call fails.
fn third_save(step: u64, n: usize, fault: Fault) -> (FaultyDisk, Result<PathBuf, Error>) {
    let disk = FaultyDisk::new();
    for step in [10, 20] {
        store(&disk).save(step, &state(step)).expect("saves");
    }
    disk.fail(n, fault);
    let saved = store(&disk).save(step, &state(step));
    (disk, saved)
}

#[test]
fn each_call_of_a_save_may_fail() {
    // A new step, and one that an earlier part of the run has saved already.
    for step in [30, 20] {
        for fault in FAULTS {
            let mut n = 0;
            loop {
                let what = format!("step {step}, call {n}, {fault:?}");
                let (disk, saved) = third_save(step, n, fault);
                if !disk.failed() {
                    assert!(saved.is_ok(), "{what}: {saved:?}");
                    break;
                }
                assert!(n < 200, "{what}: a save has not so many calls");
                if saved.is_ok() {
                    assert_eq!(loads_one_of(&disk.repaired(), &[step], &what), step);
                } else {
                    loads_one_of(&disk.repaired(), &[20, step], &what);
                    assert!(
                        fault != Fault::ShortWrite
                            && !matches!(saved.as_ref().map_err(Error::kind), Err(ErrorKind::Format { .. })),
                        "{what}: {saved:?}"
                    );
                }
                for seed in 0..20 {
                    loads_one_of(&disk.after_crash(seed), &[20, step], &format!("{what}, crash {seed}"));
                }
                // The next save goes through and cleans up.
                let after = disk.repaired();
                store(&after).save(40, &state(40)).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(loads_one_of(&after, &[40], &what), 40);
                let names = after.list(Path::new(RUN)).expect("is there");
                assert!(names.len() == 2 && !names.iter().any(|name| name.ends_with(".tmp")), "{what}: {names:?}");
                n += 1;
            }
        }
    }
}

#[test]
fn an_interrupted_call_or_a_short_write_is_no_failure_where_it_can_be_repeated() {
    let mut survived = 0;
    for n in 0..60 {
        let (disk, saved) = third_save(30, n, Fault::ShortWrite);
        if disk.failed() {
            assert!(saved.is_ok(), "call {n}: {saved:?}");
            survived += 1;
        }
    }
    assert!(survived > 10);
}

#[test]
fn a_saved_checkpoint_survives_any_crash() {
    let disk = FaultyDisk::new();
    for step in [10, 20, 30, 40] {
        store(&disk).save(step, &state(step)).expect("saves");
        for seed in 0..50 {
            loads_one_of(&disk.after_crash(seed), &[step], &format!("crash {seed}"));
        }
    }
    assert_eq!(disk.list(Path::new(RUN)).expect("is there").len(), 2, "two are kept");
}

#[test]
fn every_flipped_bit_and_every_cut_is_detected() {
    let disk = FaultyDisk::new();
    store(&disk).save(10, &state(10)).expect("saves");
    let directory = store(&disk).save(20, &state(20)).expect("saves");
    for name in disk.list(&directory).expect("is there") {
        let path = directory.join(name);
        let bytes = disk.read(&path, u64::MAX).expect("reads").len();
        for bit in 0..bytes * 8 {
            let damaged = disk.repaired();
            damaged.flip(&path, bit);
            assert!(store(&damaged).read_verified(&directory).is_err(), "{} bit {bit}", path.display());
        }
        for length in 0..bytes {
            let damaged = disk.repaired();
            damaged.cut(&path, length);
            let found = store(&damaged).latest().expect("the one before loads").expect("is there");
            assert_eq!((found.step, found.rejected.len()), (10, 1), "{} cut to {length}", path.display());
        }
    }
}

#[test]
fn nothing_there_is_no_error_and_nothing_whole_is() {
    let disk = FaultyDisk::new();
    assert!(store(&disk).latest().expect("no error").is_none());
    let directory = store(&disk).save(10, &state(10)).expect("saves");
    disk.cut(&directory.join("manifest.json"), 5);
    let message = store(&disk).latest().expect_err("none is whole").to_string();
    assert!(message.contains("none of its 1 checkpoints is whole") && message.contains("manifest.json"), "{message}");
}

/// On a real file system, and on one that is full.
#[test]
fn a_full_disk_keeps_the_old_checkpoint() {
    let dir = tempfile::tempdir().expect("a directory");
    let mount = |arguments: &[&str]| {
        std::process::Command::new("mount").args(arguments).arg(dir.path()).output().is_ok_and(|o| o.status.success())
    };
    let mounted = mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"]);
    if !mounted {
        eprintln!("NOT TESTED: mounting a small tmpfs needs root");
        return;
    }
    let on_disk = CheckpointStore::new(Arc::new(Disk), dir.path().join("checkpoints"));
    on_disk.save(10, &state(10)).expect("saves");
    let huge = Weights { tensors: vec![NamedTensor::f32("huge", [400_000], &vec![1.0; 400_000])], ..state(20) };
    let message = on_disk.save(20, &huge).expect_err("does not fit").to_string();
    assert!(message.contains("step-20") && message.contains("untouched"), "{message}");
    let names = Disk.list(on_disk.directory()).expect("is there");
    assert_eq!(names, ["step-10"], "nothing is left behind");
    assert_same(&on_disk.latest().expect("loads").expect("is there").state, 10);
    on_disk.save(30, &state(30)).expect("there is room again");
    let _ = std::process::Command::new("umount").arg(dir.path()).status();
}
