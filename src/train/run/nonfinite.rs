//! When the loss or the norm of the gradients is not a finite number: stop and say where it began, leave the batch out,
//! or go back and learn more slowly.
//!
//! Knows that the state before the step can be had again: the last state on the host, and the steps since, which are
//! made again with the same numbers. So a bad step leaves no trace in what is trained.

use super::{Event, Run, tell_saved};
use crate::error::{Error, ErrorKind, Result};
use crate::io::safetensors::Weights;
use crate::train::config::NonFinite;
use crate::train::debug::{examine, replay};
use crate::train::keeper::Standing;
use crate::train::metrics::Record;
use std::sync::Arc;

/// Batches that are left out one after another before the run stops.
const SKIPS: u32 = 50;
/// Times that it goes back without getting further before the run stops.
const ROLLBACKS: u32 = 10;
/// What the learning rate is multiplied by each time.
const SLOWER: f64 = 0.5;

/// Bad steps since the run last got further.
#[derive(Debug, Default)]
pub(super) struct BadSteps {
    step: u64,
    times: u32,
}

impl Run {
    /// Does what the configuration says about a bad step. After an error the run is over.
    pub(super) fn not_finite(&mut self, record: Record, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let step = record.step;
        if let Some(outcome) = self.keeper.settle() {
            tell_saved(&outcome, each);
        }
        if step > self.bad_steps.step {
            self.bad_steps = BadSteps { step, times: 0 };
        }
        self.bad_steps.times += 1;
        let what = format!(
            "at step {step} (learning rate {:e}) the loss is {} and the norm of the gradients {}",
            record.lr, record.loss, record.grad_norm
        );
        let policy = self.config.train.on_nonfinite;
        match policy {
            NonFinite::Skip if self.bad_steps.times <= SKIPS => self.leave_out(step, &what, each),
            NonFinite::Rollback if self.bad_steps.times <= ROLLBACKS => self.roll_back(step, &what, each),
            NonFinite::Stop | NonFinite::Skip | NonFinite::Rollback => {
                let message = self.stop_before(record, each)?;
                let tried = match policy {
                    NonFinite::Stop => String::new(),
                    NonFinite::Skip => format!(" {SKIPS} batches were left out before."),
                    NonFinite::Rollback => format!(" {ROLLBACKS} times a lower learning rate was tried."),
                };
                Err(Error::not_finite(step, format!("{what}; {message}.{tried}")))
            }
        }
    }

    /// The batch of a step is as if it had never been.
    fn leave_out(&mut self, step: u64, what: &str, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        self.go_back()?;
        replay(&mut self.trainer, &self.subject, &self.config.train, step - 1)?;
        let batch = self.subject.data.training(self.trainer.seed(), self.trainer.samples_done())?;
        let rows = batch.first().and_then(|(_, tensor)| tensor.shape.first().copied());
        self.trainer.skip_samples(rows.unwrap_or(0) as u64);
        each(Event::Warning(&format!("{what}; its batch is left out")));
        self.save_checkpoint(each)
    }

    /// On from the last checkpoint with a lower learning rate; from an older one where the bad step is the first after
    /// the last, because no learning rate changes that.
    fn roll_back(&mut self, step: u64, what: &str, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let mut standing = self.go_back()?;
        let (done, scale) = (self.trainer.steps_done(), self.trainer.lr_scale());
        if done > 0 && done + 1 >= step {
            let older = self.keeper.abandon_from(done)?;
            standing = self.go_to(older)?;
        }
        self.stand(standing);
        self.trainer.scale_lr(SLOWER * scale / self.trainer.lr_scale());
        let (done, scale) = (self.trainer.steps_done(), self.trainer.lr_scale());
        each(Event::Warning(&format!(
            "{what}; the run goes back to step {done}, with the learning rate times {scale}"
        )));
        self.save_checkpoint(each)
    }

    /// What ends a run whose loss scaling gave up at a step: with what overflows first. The steps before that one
    /// overflowed too and changed nothing, so one of them is looked at.
    pub(super) fn overflowed(&mut self, step: u64, message: String, each: &mut dyn FnMut(Event<'_>)) -> Error {
        if let Some(outcome) = self.keeper.settle() {
            tell_saved(&outcome, each);
        }
        match self.look_at(step.saturating_sub(1), each) {
            Ok(found) => {
                let shown = self.directory.display();
                let message = format!("{message}. {found}. The state before it is saved in {shown}");
                Error::not_finite(step, message)
            }
            Err(error) if matches!(error.kind(), ErrorKind::DeviceLost { .. }) => error,
            Err(_) => Error::not_finite(step, message),
        }
    }

    /// Saves the state before a bad step, and finds where it began.
    fn look_at(&mut self, step: u64, each: &mut dyn FnMut(Event<'_>)) -> Result<String> {
        self.go_back()?;
        replay(&mut self.trainer, &self.subject, &self.config.train, step.saturating_sub(2))?;
        let earlier = self.trainer.checkpoint()?;
        replay(&mut self.trainer, &self.subject, &self.config.train, step - 1)?;
        self.save_checkpoint(each)?;
        if let Some(outcome) = self.keeper.settle() {
            tell_saved(&outcome, each);
        }
        let device = self.trainer.device().clone();
        let found =
            (self.make)(&self.config).and_then(|task| examine(task, &self.config.train, &device, &earlier, step));
        match found {
            Ok(findings) => Ok(findings.first()),
            Err(error) if matches!(error.kind(), ErrorKind::DeviceLost { .. }) => Err(error),
            Err(error) => Ok(format!("the step could not be looked at ({error})")),
        }
    }

    /// Records a bad step, and says where it began.
    fn stop_before(&mut self, record: Record, each: &mut dyn FnMut(Event<'_>)) -> Result<String> {
        let found = self.look_at(record.step, each)?;
        let grad_norm = Some(record.grad_norm);
        self.write_record(&record, grad_norm, each);
        each(Event::Step(&record));
        self.history.push(record);
        super::get_over(self.pictures.curves(&self.history), each);
        let shown = self.directory.display();
        let advice = if self.config.train.clip > 0.0 { "" } else { ", or set train.clip = 1" };
        Ok(format!(
            "{found}. Lower train.lr{advice}. The state before it is saved: `wgrad debug --run {shown}` looks \
             at the step again, and `--resume {shown}` goes on"
        ))
    }

    /// Puts the trainer back to the last state on the host, or to the beginning.
    fn go_back(&mut self) -> Result<Standing> {
        let latest = self.keeper.latest()?;
        self.go_to(latest)
    }

    fn go_to(&mut self, state: Option<Arc<Weights>>) -> Result<Standing> {
        match state {
            Some(state) => {
                self.trainer.resume(&state)?;
                Ok(Standing::of(&state))
            }
            None => {
                self.trainer.begin_again()?;
                Ok(Standing { metrics_bytes: Some(0), ..Standing::default() })
            }
        }
    }
}
