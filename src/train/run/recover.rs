//! When the device is lost: another one, the same programs, the last state on the host, and on with the same numbers.
//!
//! Knows that a step depends on the state and the number of its samples alone, so steps that are made again are the same.

use super::{CONFIG, Event, METRICS, Run, build_to_fit, tell_saved};
use crate::error::{Error, Result};
use crate::train::keeper::Standing;
use crate::train::keeper::newest;
use std::time::Duration;
use web_time::Instant;

/// Tries to go on without getting beyond the step that was reached.
const TRIES: u32 = 3;
/// Before the second try; four times that before the third.
const BACK_OFF: Duration = Duration::from_millis(500);

/// Losses of devices since the run last got further.
#[derive(Debug, Default)]
pub(super) struct Losses {
    tries: u32,
    /// The furthest step that was recorded when a device was lost.
    reached: u64,
}

impl Run {
    /// Goes on on another device from the last state on the host; an error if that fails three times.
    pub(super) fn recover(&mut self, message: String, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let reached = self.history.last().map_or(0, |record| record.step);
        if reached > self.losses.reached {
            self.losses = Losses { tries: 0, reached };
        }
        // What is being written does not need the device.
        if let Some(outcome) = self.keeper.settle() {
            tell_saved(&outcome, each);
        }
        let mut reason = message;
        while self.losses.tries < TRIES {
            if self.losses.tries > 0 {
                std::thread::sleep(BACK_OFF * 4u32.pow(self.losses.tries - 1));
            }
            self.losses.tries += 1;
            let lost = format!("the GPU device was lost after step {reached} ({reason})");
            match self.rebuild(each) {
                Ok(step) => {
                    let warning =
                        format!("{lost}; training goes on from step {step} on another, with the same numbers");
                    each(Event::Warning(&warning));
                    return Ok(());
                }
                Err(error) => {
                    each(Event::Warning(&format!("{lost}, and could not be replaced: {error}")));
                    reason = error.to_string();
                }
            }
        }
        Err(self.lost_for_good(&reason, each))
    }

    /// Another device with the last state; the step that it is at. After an error everything is as before.
    fn rebuild(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<u64> {
        let device = (self.reopen)()?.with_choices(self.choices.clone());
        let mut config = self.config.clone();
        let ((mut trainer, subject), change) = build_to_fit(&self.make, &mut config, &device)?;
        let standing = match self.keeper.latest()? {
            Some(state) => {
                trainer.resume(&state)?;
                Standing::of(&state)
            }
            None => Standing { metrics_bytes: Some(0), ..Standing::default() },
        };
        let done = trainer.steps_done();
        (self.trainer, self.subject) = (trainer, subject);
        self.adapter = device.name().to_string();
        self.stand(standing);
        self.take_up(config, change, each);
        Ok(done)
    }

    /// Takes up what belongs to the trainer's state, and forgets what was recorded after it.
    pub(super) fn stand(&mut self, standing: Standing) {
        let done = self.trainer.steps_done();
        self.history.retain(|record| record.step <= done);
        // A full disk is told with the next record.
        let _ = self.metrics.rewind(standing.metrics_bytes.unwrap_or(0));
        if self.best != standing.best {
            self.unsaved_best = None;
        }
        (self.best, self.without_best, self.confusion) = (standing.best, standing.without_best, None);
        if self.events.as_mut().is_some_and(|events| events.restart(done + 1).is_err()) {
            self.events = None;
        }
        self.clock.last = Instant::now();
    }

    /// What to tell the user, after making sure that the latest state is on disk if it can be.
    fn lost_for_good(&mut self, reason: &str, each: &mut dyn FnMut(Event<'_>)) -> Error {
        let recorded = self.metrics.flush().and_then(|()| self.metrics.syncing()).and_then(|sync| sync());
        if recorded.is_ok()
            && let Some(outcome) = self.keeper.retry()
        {
            tell_saved(&outcome, each);
        }
        let shown = self.directory.display();
        let saved = match newest(&self.directory) {
            Ok(Some(checkpoint)) => format!("the run is saved up to step {}", checkpoint.step),
            Ok(None) => format!("the run had not been saved yet; {CONFIG} and {METRICS} are there"),
            Err(error) => error.to_string(),
        };
        Error::device_lost(format!(
            "{reason}; it was tried {TRIES} times to go on. {saved}: `wgrad train --resume {shown}` goes on"
        ))
    }
}
