//! What a run keeps so that it can go on after anything: checkpoints, written beside the training.
//!
//! Knows where they lie, what stands in them beside tensors, and the latest state on the host; the bytes are
//! [`crate::io::checkpoint`]'s affair, and when to save is `run.rs`'s.

use super::saver::Saver;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::Device;
use crate::io::checkpoint::{Checkpoint, CheckpointStore};
use crate::io::safetensors::Weights;
use crate::io::storage::Disk;
use crate::kernels::Choices;
use crate::train::units::with_checked;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory of a run's checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";

/// Where a run stands, beside its tensors and the trainer's counters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// Step and validation loss of the best weights.
    pub best: Option<(u64, f32)>,
    /// Evaluations since then.
    pub without_best: u64,
    /// Seconds of training so far.
    pub elapsed_s: f64,
    /// Length of the metrics file: the records of the steps that were made.
    pub metrics_bytes: Option<u64>,
    /// The adapter that it trained on.
    pub adapter: String,
    /// The measured kernels that it was compiled with.
    pub choices: Choices,
    /// What was changed on the way so that the run could go on, and changes its numbers.
    pub changes: Vec<String>,
    /// The run's configuration as TOML, for a reader who has the checkpoint alone.
    pub config: String,
}

impl Standing {
    /// As words in a checkpoint's metadata.
    pub fn to_metadata(&self) -> BTreeMap<String, String> {
        let best = self.best.map(|(step, loss)| [("best_step", step.to_string()), ("best_loss", loss.to_string())]);
        let always = [
            ("evaluations_without_best", self.without_best.to_string()),
            ("elapsed_s", self.elapsed_s.to_string()),
            ("adapter", self.adapter.clone()),
            ("config", self.config.clone()),
        ];
        let length = self.metrics_bytes.map(|bytes| ("metrics_bytes", bytes.to_string()));
        let choices = (!self.choices.is_empty()).then(|| serde_json::to_string(&self.choices).ok()).flatten();
        let choices = choices.map(|text| ("choices", text));
        let changes = (!self.changes.is_empty()).then(|| ("changes", self.changes.join("\n")));
        let entries = always.into_iter().chain(changes).chain(best.into_iter().flatten()).chain(length).chain(choices);
        entries.map(|(key, text)| (key.to_string(), text)).collect()
    }

    /// From a checkpoint's metadata; what is not there is as at the beginning.
    pub fn of(state: &Weights) -> Standing {
        let text = |key: &str| state.metadata.get(key).cloned().unwrap_or_default();
        Standing {
            best: number(state, "best_step").zip(number(state, "best_loss")),
            without_best: number(state, "evaluations_without_best").unwrap_or(0),
            elapsed_s: number(state, "elapsed_s").unwrap_or(0.0),
            metrics_bytes: number(state, "metrics_bytes"),
            adapter: text("adapter"),
            choices: serde_json::from_str(&text("choices")).unwrap_or_default(),
            changes: text("changes").lines().map(String::from).collect(),
            config: text("config"),
        }
    }
}

/// The device with the kernels that a run began with; on another adapter, with those that rules choose.
pub fn as_before(device: &Device, state: Option<&Weights>) -> Device {
    match state.map(Standing::of) {
        None => device.clone(),
        Some(standing) if standing.adapter == device.name() => with_checked(device, standing.choices),
        Some(_) => device.with_choices(Choices::default()),
    }
}

fn number<T: std::str::FromStr>(state: &Weights, key: &str) -> Option<T> {
    state.metadata.get(key)?.parse().ok()
}

fn store(run: &Path) -> CheckpointStore {
    CheckpointStore::new(Arc::new(Disk), run.join(CHECKPOINTS))
}

/// The newest checkpoint of a run that is whole; `None` if it never saved one.
pub fn newest(run: &Path) -> Result<Option<Checkpoint>> {
    store(run).latest()
}

/// Gives checkpoints that were passed over another name, so that they do not count among those that are kept.
pub fn set_aside(run: &Path, found: &Checkpoint) {
    store(run).set_aside(found);
}

/// Saves one run's checkpoints.
pub struct Keeper {
    saver: Saver,
    /// The state that was saved last: one copy, which the saving thread shares.
    snapshot: Option<(u64, Arc<Weights>)>,
    /// It could not be written.
    failed: bool,
}

impl Keeper {
    /// For the run in a directory.
    pub fn new(run: &Path) -> Keeper {
        Keeper { saver: Saver::new(store(run)), snapshot: None, failed: false }
    }

    /// Waits for the save that is under way, and lets go of its copy, so that there is room for another. Gives the
    /// outcome of that save.
    pub fn make_room(&mut self) -> Option<Result<PathBuf>> {
        let outcome = self.settle();
        self.snapshot = None;
        outcome
    }

    /// Begins to save a state; see [`Saver::save`]. After [`Keeper::make_room`] nothing has to be waited for.
    pub fn save(
        &mut self,
        step: u64,
        state: Weights,
        first: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Option<Result<PathBuf>> {
        let state = Arc::new(state);
        self.snapshot = Some((step, Arc::clone(&state)));
        let outcome = self.saver.save(step, state, first);
        self.note(outcome)
    }

    /// The outcome of a save that has ended since the last question.
    pub fn poll(&mut self) -> Option<Result<PathBuf>> {
        let outcome = self.saver.poll();
        self.note(outcome)
    }

    /// Waits for the save that is under way.
    pub fn settle(&mut self) -> Option<Result<PathBuf>> {
        let outcome = self.saver.settle();
        self.note(outcome)
    }

    fn note(&mut self, outcome: Option<Result<PathBuf>>) -> Option<Result<PathBuf>> {
        if let Some(outcome) = &outcome {
            self.failed =
                !matches!(outcome.as_ref().map_err(Error::kind), Ok(_) | Err(ErrorKind::DurabilityUncertain { .. }));
        }
        outcome
    }

    /// Tries once more what could not be written; for when training cannot go on.
    pub fn retry(&mut self) -> Option<Result<PathBuf>> {
        let (step, state) = self.snapshot.as_ref().filter(|_| self.failed)?;
        let outcome = self.saver.store().save(*step, state);
        self.note(Some(outcome))
    }

    /// The newest state from before a step, in place of that of this step and all later ones.
    pub fn abandon_from(&mut self, step: u64) -> Result<Option<Arc<Weights>>> {
        let older = self.saver.store().latest_before(step)?;
        self.saver.store().abandon_from(step)?;
        self.snapshot = None;
        Ok(older.map(|checkpoint| Arc::new(checkpoint.state)))
    }

    /// The latest state on the host; else, from disk, the newest that was saved.
    pub fn latest(&self) -> Result<Option<Arc<Weights>>> {
        match &self.snapshot {
            Some((_, state)) => Ok(Some(Arc::clone(state))),
            None => Ok(self.saver.store().latest()?.map(|checkpoint| Arc::new(checkpoint.state))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_comes_back_from_metadata_to_the_bit() {
        let choices: Choices = serde_json::from_str(r#"{"a product": "Direct"}"#).unwrap();
        let standing = Standing {
            best: Some((7, 0.1 + f32::EPSILON)),
            without_best: 3,
            elapsed_s: 1.0 / 3.0,
            metrics_bytes: Some(u64::MAX),
            adapter: "a GPU".into(),
            choices,
            changes: vec!["from step 2 on".into(), "from step 7 on".into()],
            config: "task = \"text\"\n".into(),
        };
        let state = Weights { metadata: standing.to_metadata(), ..Weights::default() };
        assert_eq!(Standing::of(&state), standing);
        assert_eq!(Standing::of(&Weights::default()), Standing::default());
    }

    #[test]
    fn before_another_copy_of_the_state_is_taken_the_last_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(dir.path());
        assert!(keeper.save(1, Weights::default(), || Ok(())).is_none());
        let copy = keeper.snapshot.as_ref().map(|(_, state)| Arc::downgrade(state)).unwrap();
        assert!(copy.upgrade().is_some());
        keeper.make_room().unwrap().unwrap();
        assert!(copy.upgrade().is_none(), "two copies would be held");
        // It is on disk meanwhile.
        assert!(keeper.latest().unwrap().is_some());
    }
}
