//! Runs that earlier versions have left (`tests/golden/runs`, by version) can be read and gone on with, for ever.
//!
//! `WGRAD_BLESS=1` adds the run of the present version if there is none; those that are there are never written again.

use super::runs::{METRICS, train};
use std::path::{Path, PathBuf};
use wgrad::train::config::{Config, RawConfig};
use wgrad::train::keeper::{Standing, newest};
use wgrad::train::run::{CONFIG, Ended, Run, read_config};
use wgrad::train::task::{Model, Task};

/// Small, and with every kind of state.
const STORED: [&str; 12] = [
    "model.layers=1",
    "model.heads=1",
    "model.width=2",
    "model.context=2",
    "model.dropout=0.1",
    "train.batch=4",
    "train.accumulate=2",
    "train.precision=f16",
    "train.steps=8",
    "train.warmup=2",
    "train.eval_every=2",
    "train.eval_batches=1",
];
/// Steps that a stored run has made.
const MADE: u64 = 4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/runs")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes a directory");
    for entry in std::fs::read_dir(from).expect("is there").flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("copies")),
        }
    }
}

/// Trains the steps of a stored run, and keeps what going on needs.
fn store(version: &Path) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut raw = RawConfig::default();
    STORED.iter().for_each(|pair| raw.set_pair(pair).expect("a key"));
    raw.set_pair(&format!("train.checkpoint_every={MADE}")).expect("a key");
    let run = dir.path().join("run");
    // To its end, so that the first checkpoint is that of the very step.
    train(&mut Run::begin(raw.resolve().expect("resolves"), &run, &crate::device()).expect("begins"), None);
    for name in [CONFIG, METRICS] {
        std::fs::create_dir_all(version).expect("makes a directory");
        std::fs::copy(run.join(name), version.join(name)).expect("copies");
    }
    let step = format!("checkpoints/step-{MADE}");
    copy(&run.join(&step), &version.join(&step));
}

fn stored_config(run: &Path) -> Config {
    let (path, text) = read_config(run).expect("is there");
    Config::from_toml(&path, &text).expect("is read")
}

/// Every number comes back from a trainer as it was stored.
fn goes_into_a_trainer_and_out(run: &Path, config: &Config) {
    let found = newest(run).expect("reads").expect("is there");
    assert_eq!((found.step, found.rejected.len()), (MADE, 0));
    let standing = Standing::of(&found.state);
    assert!(standing.best.is_some() && standing.metrics_bytes.is_some() && !standing.adapter.is_empty());
    let Task { model: Model { trainer, loss }, .. } = Task::new(config).expect("a task");
    let mut trainer = trainer.build(&crate::device(), loss).expect("compiles");
    trainer.resume(&found.state).expect("fits");
    let again = trainer.checkpoint().expect("reads back");
    assert!(again.tensors.len() > 20, "{}", again.tensors.len());
    for tensor in &again.tensors {
        assert!(found.state.get(&tensor.name) == Some(tensor), "`{}` differs", tensor.name);
    }
    for (key, text) in &again.metadata {
        assert_eq!(found.state.metadata.get(key), Some(text), "{key}");
    }
}

#[test]
fn runs_of_all_versions_can_be_gone_on_with() {
    let current = folder().join(env!("CARGO_PKG_VERSION"));
    if std::env::var_os("WGRAD_BLESS").is_some() && !current.exists() {
        store(&current);
    }
    let versions = std::fs::read_dir(folder()).expect("is there").flatten().map(|entry| entry.path());
    let versions: Vec<PathBuf> = versions.collect();
    assert!(versions.contains(&current), "`WGRAD_BLESS=1` stores the run of this version");
    for version in versions {
        let dir = tempfile::tempdir().expect("a directory");
        let run = dir.path().join("run");
        copy(&version, &run);
        let config = stored_config(&run);
        goes_into_a_trainer_and_out(&run, &config);
        let (outcome, warnings) = train(&mut Run::resume(config, &run, &crate::device()).expect("resumes"), None);
        assert_eq!((outcome.ended, outcome.steps), (Ended::Finished, 8), "{}", version.display());
        // Only that the adapter is another.
        assert!(warnings.iter().all(|warning| warning.contains("goes on on")), "{warnings:?}");
        let records = wgrad::train::metrics::read(run.join(METRICS)).expect("metrics");
        let steps: Vec<u64> = records.iter().map(|record| record.step).collect();
        assert_eq!(steps, (1..=8).collect::<Vec<u64>>());
    }
}
