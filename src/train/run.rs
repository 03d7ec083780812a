//! A training run from its first step to its last, and the directory that it leaves behind.
//!
//! Knows files and the order of events: step, record, evaluate, save, stop. What is learned is a [`Task`]'s business, and
//! how a run looks on a terminal is told through a callback. A disk that is full does not end a run: it is told, and
//! what could not be written is tried again. Read before: `task.rs`, `trainer.rs`, `keeper.rs`.

use super::budget::Fitted;
use super::classify::Confusion;
use super::config::Config;
use super::debug::is_fine;
use super::keeper::Keeper;
use super::metrics::{MetricsWriter, Norms, Record};
use super::pictures::Pictures;
use super::task::{Contents, Subject, Task, Unit};
use super::tensorboard::EventWriter;
use super::trainer::{Pending, Trainer};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::Device;
use crate::io::safetensors::Weights;
use crate::kernels::Choices;
use crate::program::Memory;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use web_time::Instant;

mod begin;
mod directory;
mod nonfinite;
mod record;
mod recover;
mod save;
mod shrink;

pub use directory::{next_free_directory, read_config, read_weights};
pub use record::evaluate;
#[cfg(feature = "cli")]
pub(crate) use shrink::split_to_fit;

use nonfinite::BadSteps;
use record::Clock;
use recover::Losses;
use save::tell_saved;
use shrink::build_to_fit;

/// The resolved configuration.
pub const CONFIG: &str = "config.toml";
/// One JSON line a step.
pub const METRICS: &str = "metrics.jsonl";
/// The parameters with the lowest validation loss.
pub const BEST: &str = "best.safetensors";

/// How a configuration becomes a task; [`Task::new`] without further word.
pub type MakeTask = Box<dyn Fn(&Config) -> Result<Task>>;

/// What is known before the first step.
#[derive(Debug, Clone)]
pub struct Overview {
    pub parameters: usize,
    /// Bytes on the device: the exact peak.
    pub memory: Memory,
    /// Kernel launches of a step.
    pub dispatches: usize,
    /// Tokens or images of a step.
    pub per_step: usize,
    pub unit: Unit,
    /// What there is to learn from.
    pub contents: Contents,
    /// Steps that an earlier part of the run has made.
    pub steps_done: u64,
    pub steps: u64,
    /// Micro-batches of a step.
    pub micro_batches: usize,
    /// What was done to fit the memory that is allowed.
    pub fitted: Option<Fitted>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub steps: u64,
    /// Step and validation loss of the best weights, if there were evaluations.
    pub best: Option<(u64, f32)>,
    /// What was taken for what after the last step, where there are classes.
    pub confusion: Option<Confusion>,
    pub ended: Ended,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All steps are made.
    Finished,
    /// The validation loss did not get better for long enough.
    StoppedEarly,
    /// It was asked to stop; everything is saved, and [`Run::resume`] goes on.
    Interrupted,
}

/// What happens while a run goes on.
pub enum Event<'a> {
    /// A step was recorded. After the loss of a device steps come again, with the same numbers.
    Step(&'a Record),
    /// A checkpoint is on disk, in this directory.
    Saved(&'a Path),
    /// The validation loss stopped getting better, and after this step the learning rate is lower.
    Slower { step: u64, lr: f64 },
    /// Something went wrong that the run got over.
    Warning(&'a str),
}

/// What an evaluation found.
pub struct Evaluation {
    /// Mean loss in nats.
    pub loss: f32,
    /// What was taken for what, where there are classes.
    pub confusion: Option<Confusion>,
}

/// A run, ready to go on.
pub struct Run {
    config: Config,
    directory: PathBuf,
    trainer: Trainer,
    subject: Subject,
    pictures: Pictures,
    metrics: MetricsWriter,
    events: Option<EventWriter>,
    history: Vec<Record>,
    keeper: Keeper,
    best: Option<(u64, f32)>,
    /// The best weights while the disk does not take them.
    unsaved_best: Option<Weights>,
    /// Evaluations since the best.
    without_best: u64,
    /// A record waits because the disk did not take it, which was told.
    records_wait: bool,
    stop: Arc<AtomicBool>,
    adapter: String,
    /// The measured kernels that its programs are compiled with.
    choices: Choices,
    /// Opens another device when this one is lost.
    reopen: Box<dyn FnMut() -> Result<Device>>,
    losses: Losses,
    /// Makes the task, also when it has to be made again.
    make: MakeTask,
    /// The record of a step that gave something else than finite numbers, until it is dealt with.
    bad: Option<Record>,
    bad_steps: BadSteps,
    /// Of the last evaluation.
    confusion: Option<Confusion>,
    /// What was changed on the way so that it could go on.
    changes: Vec<String>,
    /// To be told when training begins.
    warnings: Vec<String>,
    clock: Clock,
}

impl Run {
    /// Setting this from any thread asks the run to save everything and end after the step it is at.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Lets another flag ask the run to stop, in place of its own.
    pub fn stop_with(&mut self, flag: Arc<AtomicBool>) {
        self.stop = flag;
    }

    /// How another device is opened when this one is lost, in place of [`Device::reopener`]: on a device that the app
    /// lends, the app is asked.
    pub fn reopen_with(&mut self, reopen: impl FnMut() -> Result<Device> + 'static) {
        self.reopen = Box::new(reopen);
    }

    /// What can be said before the first step.
    pub fn overview(&self) -> Overview {
        Overview {
            parameters: self.trainer.parameters().count(),
            memory: self.trainer.memory(),
            dispatches: self.trainer.dispatches(),
            per_step: self.subject.per_step,
            unit: self.subject.unit,
            contents: self.subject.contents.clone(),
            steps_done: self.trainer.steps_done(),
            steps: self.config.train.steps,
            micro_batches: self.config.train.accumulate,
            fitted: self.trainer.fitted(),
        }
    }

    /// Where the time of a step goes: the least time of each dispatch over `rounds` steps on the last batch. They
    /// change the weights, but nothing on disk: for after [`Run::train`].
    pub fn profile(&mut self, rounds: usize) -> Result<super::profile::Profile> {
        self.trainer.profile(rounds)
    }

    /// Trains to the end, or until it is asked to stop, telling `each` what happens.
    pub fn train(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
        let now = Instant::now();
        (self.clock.start, self.clock.last) = (now, now);
        std::mem::take(&mut self.warnings).iter().for_each(|warning| each(Event::Warning(warning)));
        let mut outcome = self.attempt(each);
        loop {
            let error = match outcome {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            let mended = match (error.into_kind(), self.bad.take()) {
                (ErrorKind::DeviceLost { message }, _) => {
                    self.recover(message, each)?;
                    Ok(())
                }
                (ErrorKind::Memory(message), _) if self.may_shrink() => self.shrink(&message, each),
                (ErrorKind::NotFinite { .. }, Some(record)) => self.not_finite(record, each),
                (ErrorKind::NotFinite { step, message }, None) => {
                    let error = self.overflowed(step, message, each);
                    if !matches!(error.kind(), ErrorKind::DeviceLost { .. }) {
                        return Err(error);
                    }
                    Err(error)
                }
                (kind, _) => {
                    if let Some(outcome) = self.keeper.settle() {
                        tell_saved(&outcome, each);
                    }
                    return Err(Error::new(kind));
                }
            };
            outcome = mended.and_then(|()| self.attempt(each));
        }
    }

    fn attempt(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
        let ended = self.advance(each)?;
        if self.best.is_none() && ended != Ended::Interrupted {
            let mut weights = self.trainer.averaged_weights()?;
            weights.metadata = self.subject.metadata();
            weights.save(self.directory.join(BEST))?;
        }
        self.finish_saving(each)?;
        let confusion = self.confusion.take();
        Ok(Outcome { steps: self.trainer.steps_done(), best: self.best, confusion, ended })
    }

    fn advance(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<Ended> {
        let steps = self.config.train.steps;
        if out_of_patience(&self.config, self.without_best) {
            return Ok(Ended::StoppedEarly);
        }
        let mut in_flight: Option<Pending> = None;
        for step in self.trainer.steps_done() + 1..=steps {
            let batch = self.subject.data.training(self.trainer.seed(), self.trainer.samples_done())?;
            self.subject.data.warnings().iter().for_each(|warning| each(Event::Warning(warning)));
            let submitted = self.trainer.submit(&batch)?;
            // The loss of the step before: while it was on its way, the device already had this one.
            if let Some(before) = in_flight.replace(submitted) {
                self.finish_step(before, None, each)?;
            }
            if let Some(outcome) = self.keeper.poll() {
                tell_saved(&outcome, each);
            }
            let stops = self.stop.load(Ordering::Relaxed);
            let evaluates = due(step, self.config.train.eval_every, steps);
            let saves = due(step, self.config.train.checkpoint_every, steps) || step == steps || stops;
            if (evaluates || saves)
                && let Some(pending) = in_flight.take()
                && self.pause(pending, evaluates, saves, each)?
            {
                return Ok(Ended::StoppedEarly);
            }
            if stops && step < steps {
                return Ok(Ended::Interrupted);
            }
        }
        Ok(Ended::Finished)
    }

    /// A step after which the run looks up from its work. Gives whether to stop early.
    fn pause(
        &mut self,
        pending: Pending,
        evaluates: bool,
        saves: bool,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Result<bool> {
        let found = if evaluates { Some(self.evaluate(each)?) } else { None };
        let step = self.trainer.steps_done();
        self.finish_step(pending, found.as_ref(), each)?;
        if let Some(found) = found {
            self.keep_best(step, found.loss)?;
            self.observe(found.loss, each)?;
            if let (Some(classes), Some(confusion)) = (&self.subject.classes, &found.confusion) {
                get_over(self.pictures.confusion(classes, confusion, step), each);
            }
            self.confusion = found.confusion;
        }
        get_over(self.write_best(), each);
        let stop = out_of_patience(&self.config, self.without_best);
        if saves || stop {
            self.save_checkpoint(each)?;
        }
        get_over(self.pictures.curves(&self.history), each);
        Ok(stop)
    }

    /// Waits for a step and records it.
    fn finish_step(
        &mut self,
        pending: Pending,
        found: Option<&Evaluation>,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let report = self.trainer.wait(pending)?;
        let record = self.record(&report, found)?;
        if !is_fine(&report) {
            let (step, message) = (record.step, "the loss is not a finite number".into());
            self.bad = Some(record);
            return Err(Error::not_finite(step, message));
        }
        self.write_record(&record, report.grad_norm, each);
        each(Event::Step(&record));
        // The history is for curves, which have no norms.
        self.history.push(Record { grad_norms: Norms::default(), weight_norms: Norms::default(), ..record });
        Ok(())
    }
}

/// Tells a failure that does not matter to the training.
fn get_over(result: Result<()>, each: &mut dyn FnMut(Event<'_>)) {
    if let Err(error) = result {
        each(Event::Warning(&format!("{error}; training goes on")));
    }
}

fn out_of_patience(config: &Config, without_best: u64) -> bool {
    let patience = config.train.early_stopping;
    patience > 0 && without_best >= patience
}

fn build(make: &MakeTask, config: &Config, device: &Device) -> Result<(Trainer, Subject)> {
    let Task { model, subject } = make(config)?;
    device.set_timeout(Duration::from_secs(config.device.timeout));
    Ok((model.trainer.build(device, model.loss)?, subject))
}

/// Whether something happens after this step: every so many steps, and after the last; 0 is never.
pub(super) fn due(step: u64, every: u64, steps: u64) -> bool {
    every > 0 && (step.is_multiple_of(every) || step == steps)
}
