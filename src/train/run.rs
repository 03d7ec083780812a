//! A training run from its first step to its last, and the directory that it leaves behind.
//!
//! Knows files and the order of events: step, record, evaluate, save, stop. What is learned is a [`Task`]'s business, and
//! how a run looks on a terminal is told through a callback. Read before: `task.rs`, `trainer.rs`.

use super::classify::{ACCURACY, Confusion};
use super::config::Config;
use super::data::Batch;
use super::metrics::{MetricsWriter, Record};
use super::pictures::Pictures;
use super::step::LOSS;
use super::task::{Contents, Subject, Task, Unit};
use super::tensorboard::EventWriter;
use super::trainer::{Pending, StepReport, Trainer, scalar};
use crate::error::{Error, Result};
use crate::gpu::{Device, Results};
use crate::io::files::write_atomic;
use crate::io::safetensors::Weights;
use crate::program::Memory;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use web_time::Instant;

/// The resolved configuration.
pub const CONFIG: &str = "config.toml";
/// One JSON line a step.
pub const METRICS: &str = "metrics.jsonl";
/// The parameters with the lowest validation loss.
pub const BEST: &str = "best.safetensors";
/// The latest parameters with the optimizer's state, to resume from.
pub const LAST: &str = "last.safetensors";

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
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub steps: u64,
    /// Step and validation loss of the best weights, if there were evaluations.
    pub best: Option<(u64, f32)>,
    /// What was taken for what after the last step, where there are classes.
    pub confusion: Option<Confusion>,
    /// Whether early stopping ended it.
    pub stopped_early: bool,
}

/// What happens while a run goes on.
pub enum Event<'a> {
    /// A step was recorded.
    Step(&'a Record),
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
    best: Option<(u64, f32)>,
    /// Evaluations since the best.
    without_best: u64,
    /// Of the last evaluation.
    confusion: Option<Confusion>,
    /// To be told when training begins.
    warning: Option<String>,
    clock: Clock,
}

/// Time over all parts of a run, and since the last record.
struct Clock {
    before: f64,
    start: Instant,
    last: Instant,
}

/// The first of `parent/1`, `parent/2`, … that does not exist.
pub fn next_free_directory(parent: &Path) -> PathBuf {
    let mut number = 1u64;
    while parent.join(number.to_string()).exists() {
        number += 1;
    }
    parent.join(number.to_string())
}

/// The configuration of the run in a directory, as TOML text, with its path for messages.
pub fn read_config(directory: &Path) -> Result<(String, String)> {
    let path = directory.join(CONFIG);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((path.display().to_string(), text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::Config(format!(
            "there is no run in {}: it has no {CONFIG}; give the directory that `wgrad train` printed",
            directory.display()
        ))),
        Err(e) => Err(Error::file(&path, &e)),
    }
}

/// The best weights of a run; those of its last checkpoint if it was never evaluated.
pub fn read_weights(directory: &Path) -> Result<Weights> {
    let files = [BEST, LAST].map(|name| directory.join(name));
    match files.iter().find(|path| path.exists()) {
        Some(path) => Weights::load(path),
        None => Err(Error::Config(format!(
            "the run in {} has no weights yet: neither {BEST} nor {LAST}",
            directory.display()
        ))),
    }
}

impl Run {
    /// A new run in a directory that holds none; the directory is made.
    pub fn begin(mut config: Config, directory: &Path, device: &Device) -> Result<Run> {
        if directory.join(CONFIG).exists() || directory.join(METRICS).exists() {
            let shown = directory.display();
            return Err(Error::Config(format!(
                "{shown} holds a run already; go on with it by `--resume {shown}`, or name another `--out`"
            )));
        }
        // Absolute, so that the run can be resumed from another directory.
        if let Some(path) = &mut config.data.path
            && let Ok(absolute) = std::fs::canonicalize(&*path)
        {
            *path = absolute.display().to_string();
        }
        let (trainer, subject) = build(&config, device)?;
        std::fs::create_dir_all(directory).map_err(|e| Error::file(directory, &e))?;
        let metrics = MetricsWriter::create(directory.join(METRICS))?;
        Run::new(config, directory, trainer, subject, metrics, None)
    }

    /// Goes on with a run at its last checkpoint.
    pub fn resume(config: Config, directory: &Path, device: &Device) -> Result<Run> {
        let path = directory.join(LAST);
        if !path.exists() {
            return Err(Error::Config(format!(
                "{} has no {LAST} to resume from: the run ended before its first checkpoint; begin again with another `--out`",
                directory.display()
            )));
        }
        let checkpoint = Weights::load(&path)?;
        let (mut trainer, subject) = build(&config, device)?;
        let warning = subject.check_same(&checkpoint)?;
        trainer.resume(&checkpoint)?;
        let done = trainer.steps_done();
        if done >= config.train.steps {
            return Err(Error::Config(format!(
                "the run has made all of its {done} steps; to go on, give more with `--steps`, such as `--steps {}`",
                done * 2
            )));
        }
        let (metrics, history) = MetricsWriter::resume(directory.join(METRICS), done)?;
        let mut run = Run::new(config, directory, trainer, subject, metrics, Some(done + 1))?;
        run.history = history;
        run.warning = warning;
        run.best = number(&checkpoint, "best_step").zip(number(&checkpoint, "best_loss"));
        run.without_best = number(&checkpoint, "evaluations_without_best").unwrap_or(0);
        run.clock.before = number(&checkpoint, "elapsed_s").unwrap_or(0.0);
        Ok(run)
    }

    fn new(
        config: Config,
        directory: &Path,
        trainer: Trainer,
        subject: Subject,
        metrics: MetricsWriter,
        resume_at: Option<u64>,
    ) -> Result<Run> {
        write_atomic(&directory.join(CONFIG), config.to_toml()?.as_bytes())?;
        let events = match config.train.tensorboard {
            true => Some(EventWriter::create(directory, resume_at)?),
            false => None,
        };
        let (directory, now) = (directory.to_path_buf(), Instant::now());
        let clock = Clock { before: 0.0, start: now, last: now };
        let parameters = trainer.parameters().count();
        let pictures = Pictures::new(&directory, format!("{parameters} parameters: {}", subject.model));
        Ok(Run {
            config,
            directory,
            trainer,
            subject,
            pictures,
            metrics,
            events,
            history: Vec::new(),
            best: None,
            without_best: 0,
            confusion: None,
            warning: None,
            clock,
        })
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
        }
    }

    /// Trains to the end, telling `each` what happens.
    pub fn train(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
        let now = Instant::now();
        (self.clock.start, self.clock.last) = (now, now);
        let steps = self.config.train.steps;
        if let Some(warning) = self.warning.take() {
            each(Event::Warning(&warning));
        }
        let mut in_flight: Option<Pending> = None;
        let mut stopped_early = false;
        for step in self.trainer.steps_done() + 1..=steps {
            let batch = self.subject.data.training(self.trainer.seed(), self.trainer.samples_done())?;
            self.subject.data.warnings().iter().for_each(|warning| each(Event::Warning(warning)));
            let submitted = self.trainer.submit(&batch)?;
            // The loss of the step before: while it was on its way, the device already had this one.
            if let Some(before) = in_flight.replace(submitted) {
                self.finish_step(before, None, each)?;
            }
            let evaluates = due(step, self.config.train.eval_every, steps);
            let saves = due(step, self.config.train.checkpoint_every, steps) || step == steps;
            if (evaluates || saves)
                && let Some(pending) = in_flight.take()
            {
                stopped_early = self.pause(pending, evaluates, saves, each)?;
            }
            if stopped_early {
                break;
            }
        }
        if self.best.is_none() {
            let mut weights = self.trainer.weights()?;
            weights.metadata = self.subject.metadata();
            weights.save(self.directory.join(BEST))?;
        }
        let confusion = self.confusion.take();
        Ok(Outcome { steps: self.trainer.steps_done(), best: self.best, confusion, stopped_early })
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
            if let (Some(classes), Some(confusion)) = (&self.subject.classes, &found.confusion) {
                self.pictures.confusion(classes, confusion, step)?;
            }
            self.confusion = found.confusion;
        }
        let patience = self.config.train.early_stopping;
        let stop = patience > 0 && self.without_best >= patience;
        if saves || stop {
            self.save_checkpoint()?;
        }
        self.pictures.curves(&self.history)?;
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
        self.metrics.write(&record)?;
        if let Some(events) = &mut self.events {
            let mut values = vec![("loss/train", record.loss), ("lr", record.lr as f32)];
            let known = [
                ("loss/validation", record.val_loss),
                ("accuracy/train", record.accuracy),
                ("accuracy/validation", record.val_accuracy),
                ("grad_norm", report.grad_norm),
                ("tokens_s", record.tokens_s.map(|rate| rate as f32)),
                ("images_s", record.images_s.map(|rate| rate as f32)),
            ];
            values.extend(known.into_iter().filter_map(|(name, value)| Some((name, value?))));
            events.scalars(record.step, &values)?;
        }
        each(Event::Step(&record));
        let failed = !record.loss.is_finite();
        self.history.push(record);
        if failed {
            self.pictures.curves(&self.history)?;
            return Err(Error::Config(format!(
                "the loss is not a finite number at step {} (learning rate {:e}); lower train.lr, or set train.clip = 1. \
                 The record is in {}",
                report.step,
                report.lr,
                self.directory.display()
            )));
        }
        Ok(())
    }

    fn record(&mut self, report: &StepReport, found: Option<&Evaluation>) -> Result<Record> {
        let now = Instant::now();
        let seconds = now.duration_since(self.clock.last).as_secs_f64().max(1e-9);
        self.clock.last = now;
        let rate = |unit: Unit| (unit == self.subject.unit).then(|| self.subject.per_step as f64 / seconds);
        let accuracy = match self.subject.classes {
            Some(_) => report.results.f32(ACCURACY)?.first().copied(),
            None => None,
        };
        Ok(Record {
            step: report.step,
            loss: report.loss,
            val_loss: found.map(|found| found.loss),
            accuracy,
            val_accuracy: found.and_then(|found| found.confusion.as_ref()).map(Confusion::accuracy),
            lr: report.lr,
            tokens_s: rate(Unit::Tokens),
            images_s: rate(Unit::Images),
            grad_norm: report.grad_norm.unwrap_or(f32::NAN),
            elapsed_s: self.clock.elapsed(),
        })
    }

    fn evaluate(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<Evaluation> {
        let found = evaluate(&self.subject, &mut |batch| self.trainer.evaluate_outputs(batch))?;
        self.subject.data.warnings().iter().for_each(|warning| each(Event::Warning(warning)));
        Ok(found)
    }

    fn keep_best(&mut self, step: u64, loss: f32) -> Result<()> {
        if self.best.is_some_and(|(_, best)| loss >= best) || loss.is_nan() {
            self.without_best += 1;
            return Ok(());
        }
        (self.best, self.without_best) = (Some((step, loss)), 0);
        let mut weights = self.trainer.weights()?;
        weights.metadata = self.subject.metadata();
        weights.metadata.extend(words(&[("step", step.to_string()), ("validation_loss", loss.to_string())]));
        weights.save(self.directory.join(BEST))
    }

    fn save_checkpoint(&mut self) -> Result<()> {
        let mut checkpoint = self.trainer.checkpoint()?;
        checkpoint.metadata.extend(self.subject.metadata());
        checkpoint.metadata.extend(words(&[
            ("elapsed_s", self.clock.elapsed().to_string()),
            ("evaluations_without_best", self.without_best.to_string()),
        ]));
        if let Some((step, loss)) = self.best {
            checkpoint.metadata.extend(words(&[("best_step", step.to_string()), ("best_loss", loss.to_string())]));
        }
        checkpoint.save(self.directory.join(LAST))
    }
}

impl Clock {
    fn elapsed(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }
}

fn build(config: &Config, device: &Device) -> Result<(Trainer, Subject)> {
    let Task { model, subject } = Task::new(config)?;
    Ok((model.trainer.build(device, model.loss)?, subject))
}

/// Goes through the held-out batches; `outputs` applies the model to one.
pub fn evaluate(subject: &Subject, outputs: &mut dyn FnMut(&Batch) -> Result<Results>) -> Result<Evaluation> {
    let batches = subject.eval_batches;
    let mut confusion = subject.classes.as_ref().map(|classes| Confusion::new(classes.names.len()));
    let mut sum = 0.0;
    for index in 0..batches {
        let batch = subject.data.validation(index, batches)?;
        let results = outputs(&batch)?;
        match &mut confusion {
            Some(confusion) => confusion.add(&batch, &results)?,
            None => sum += f64::from(scalar(&results, LOSS)?),
        }
    }
    let loss = confusion.as_ref().map_or((sum / batches as f64) as f32, Confusion::loss);
    Ok(Evaluation { loss, confusion })
}

/// Whether something happens after this step: every so many steps, and after the last; 0 is never.
fn due(step: u64, every: u64, steps: u64) -> bool {
    every > 0 && (step.is_multiple_of(every) || step == steps)
}

fn words(entries: &[(&str, String)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, text)| (key.to_string(), text.clone())).collect()
}

fn number<T: std::str::FromStr>(checkpoint: &Weights, key: &str) -> Option<T> {
    checkpoint.metadata.get(key)?.parse().ok()
}
