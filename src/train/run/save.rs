//! What a run writes beside its records: checkpoints and the best weights.
//!
//! Knows what belongs into them; when to save is the parent's affair.

use super::{BEST, Event, Run};
use crate::error::{ErrorKind, Result};
use crate::train::keeper::Standing;
use std::path::PathBuf;

impl Run {
    /// Writes the best weights, if they are new or could not be written before.
    pub(super) fn write_best(&mut self) -> Result<()> {
        if let Some(weights) = &self.unsaved_best {
            weights.save(self.directory.join(BEST))?;
            self.unsaved_best = None;
        }
        Ok(())
    }

    /// Copies the state to the host and has it written while training goes on. A checkpoint refers to the records of
    /// its steps, so they are flushed to disk before it is committed.
    pub(super) fn save_checkpoint(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        if let Some(outcome) = self.keeper.make_room() {
            tell_saved(&outcome, each);
        }
        let mut state = self.trainer.checkpoint()?;
        let recorded = self.metrics.flush().and_then(|()| self.metrics.syncing());
        let standing = Standing {
            best: self.best,
            without_best: self.without_best,
            elapsed_s: self.clock.elapsed(),
            metrics_bytes: Some(self.metrics.length()),
            adapter: self.adapter.clone(),
            choices: self.choices.clone(),
            changes: self.changes.clone(),
            config: self.config.to_toml()?,
        };
        state.metadata.extend(self.subject.metadata());
        state.metadata.extend(standing.to_metadata());
        let first = move || recorded.and_then(|sync| sync());
        if let Some(outcome) = self.keeper.save(self.trainer.steps_done(), state, first) {
            tell_saved(&outcome, each);
        }
        Ok(())
    }

    /// Waits for the last checkpoint, and fails if it, or something else that should stay, cannot be written.
    pub(super) fn finish_saving(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        match self.keeper.settle() {
            Some(Err(error)) if !matches!(error.kind(), ErrorKind::DurabilityUncertain { .. }) => return Err(error),
            Some(outcome) => tell_saved(&outcome, each),
            None => {}
        }
        self.write_best()
    }
}

/// Tells what became of a save.
pub(super) fn tell_saved(outcome: &Result<PathBuf>, each: &mut dyn FnMut(Event<'_>)) {
    match outcome {
        Ok(path) => each(Event::Saved(path)),
        Err(error) => {
            let what = match error.kind() {
                ErrorKind::DurabilityUncertain { .. } => return each(Event::Warning(&error.to_string())),
                ErrorKind::NotCommitted { .. } => "",
                _ => "a checkpoint was not written: ",
            };
            each(Event::Warning(&format!("{what}{error}; training goes on, and the next one is tried as usual")));
        }
    }
}
