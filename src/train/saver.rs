//! Writes checkpoints beside the training: the device goes on while a thread saves.
//!
//! At most one save is under way, and at most one copy of the state is on the host. Knows the store
//! and nothing of models. Native targets only.

use crate::error::{Error, Result};
use crate::io::checkpoint::CheckpointStore;
use crate::io::safetensors::Weights;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Saves into one store, one after another.
pub struct Saver {
    store: CheckpointStore,
    under_way: Option<JoinHandle<Result<PathBuf>>>,
}

impl Saver {
    pub fn new(store: CheckpointStore) -> Saver {
        Saver { store, under_way: None }
    }

    /// The store that is written to.
    pub fn store(&self) -> &CheckpointStore {
        &self.store
    }

    /// Waits until nothing is being written, so that a caller can take its copy of the state only then;
    /// the outcome of the save that was under way.
    pub fn settle(&mut self) -> Option<Result<PathBuf>> {
        let thread = self.under_way.take()?;
        let stopped = |_| Err(Error::not_committed(self.shown(), "its thread stopped".into()));
        Some(thread.join().unwrap_or_else(stopped))
    }

    /// The outcome of a save that has ended since the last question.
    pub fn poll(&mut self) -> Option<Result<PathBuf>> {
        let ended = self.under_way.as_ref().is_some_and(JoinHandle::is_finished);
        if ended { self.settle() } else { None }
    }

    /// Hands a state over to be written and returns at once. `first` runs before anything is written, on the
    /// thread that writes: what the state refers to must be on disk before it. Gives the outcome of the save
    /// before, which is waited for.
    pub fn save(
        &mut self,
        step: u64,
        state: Arc<Weights>,
        first: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Option<Result<PathBuf>> {
        let before = self.settle();
        let store = self.store.clone();
        let work = move || first().and_then(|()| store.save(step, &state));
        match std::thread::Builder::new().name("checkpoint".into()).spawn(work) {
            Ok(thread) => self.under_way = Some(thread),
            Err(e) => {
                let failed = Error::not_committed(self.shown(), format!("no thread to write it: {e}"));
                return Some(Err(failed));
            }
        }
        before
    }

    fn shown(&self) -> String {
        self.store.directory().display().to_string()
    }
}

/// A save that has begun is finished, also when training ends by an error.
impl Drop for Saver {
    fn drop(&mut self) {
        let _ = self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::safetensors::NamedTensor;
    use crate::io::storage::Disk;

    fn state(step: u64) -> Arc<Weights> {
        let tensors = vec![NamedTensor::f32("w", [2], &[step as f32, 1.0])];
        Arc::new(Weights { tensors, ..Weights::default() })
    }

    fn nothing() -> Result<()> {
        Ok(())
    }

    #[test]
    fn saves_follow_each_other_and_the_last_is_finished_on_drop() {
        let dir = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(Arc::new(Disk), dir.path().join("checkpoints"));
        let mut saver = Saver::new(store.clone());
        assert!(saver.save(1, state(1), nothing).is_none());
        assert!(saver.save(2, state(2), nothing).unwrap().unwrap().ends_with("step-1"));
        drop(saver);
        assert_eq!(store.latest().unwrap().unwrap().state.tensors, state(2).tensors);
    }

    #[test]
    fn nothing_is_saved_when_what_comes_first_fails() {
        let dir = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(Arc::new(Disk), dir.path().join("checkpoints"));
        let mut saver = Saver::new(store.clone());
        assert!(saver.save(1, state(1), || Err(Error::config("on purpose".into()))).is_none());
        assert_eq!(saver.settle().unwrap().unwrap_err().to_string(), "on purpose");
        assert!(store.latest().unwrap().is_none());
    }

    #[test]
    fn a_failure_comes_back_and_the_next_save_goes_through() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("taken");
        std::fs::write(&taken, "a file where the directory should be").unwrap();
        let mut saver = Saver::new(CheckpointStore::new(Arc::new(Disk), &taken));
        assert!(saver.save(1, state(1), nothing).is_none());
        let message = saver.settle().unwrap().unwrap_err().to_string();
        assert!(message.contains("was not written"), "{message}");
        std::fs::remove_file(&taken).unwrap();
        assert!(saver.save(2, state(2), nothing).is_none());
        saver.settle().unwrap().unwrap();
    }
}
