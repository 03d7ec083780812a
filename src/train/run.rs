//! A training run from its first step to its last, and the directory that it leaves behind.
//!
//! Knows files and the order of events: step, record, evaluate, save, stop. How it looks on a
//! terminal is told through a callback. Read before: `char_gpt.rs`, `trainer.rs`.

use super::char_gpt;
use super::config::Config;
use super::data::{DataSource, TextData};
use super::metrics::{MetricsWriter, Record};
use super::plot::LossCurve;
use super::tensorboard::EventWriter;
use super::trainer::{Pending, StepReport, Trainer};
use crate::error::{Error, Result};
use crate::gpu::Device;
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
/// The loss curve.
pub const CURVE: &str = "loss.svg";
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
    pub tokens_per_step: usize,
    /// Name, training bytes and validation bytes of the text.
    pub text: (String, u64, u64),
    /// Steps that an earlier part of the run has made.
    pub steps_done: u64,
    pub steps: u64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    pub steps: u64,
    /// Step and validation loss of the best weights, if there were evaluations.
    pub best: Option<(u64, f32)>,
    /// Whether early stopping ended it.
    pub stopped_early: bool,
}

/// A run, ready to go on.
pub struct Run {
    config: Config,
    directory: PathBuf,
    trainer: Trainer,
    data: TextData,
    metrics: MetricsWriter,
    events: Option<EventWriter>,
    history: Vec<Record>,
    best: Option<(u64, f32)>,
    /// Evaluations since the best.
    without_best: u64,
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
        let data = char_gpt::data(&config)?;
        let trainer = build(&config, device)?;
        std::fs::create_dir_all(directory).map_err(|e| Error::file(directory, &e))?;
        let metrics = MetricsWriter::create(directory.join(METRICS))?;
        Run::new(config, directory, trainer, data, metrics, None)
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
        let data = char_gpt::data(&config)?;
        let mut trainer = build(&config, device)?;
        trainer.resume(&checkpoint)?;
        let done = trainer.steps_done();
        if done >= config.train.steps {
            return Err(Error::Config(format!(
                "the run has made all of its {done} steps; to go on, give more with `--steps`, such as `--steps {}`",
                done * 2
            )));
        }
        let (metrics, history) = MetricsWriter::resume(directory.join(METRICS), done)?;
        let mut run = Run::new(config, directory, trainer, data, metrics, Some(done + 1))?;
        run.history = history;
        run.best = number(&checkpoint, "best_step").zip(number(&checkpoint, "best_loss"));
        run.without_best = number(&checkpoint, "evaluations_without_best").unwrap_or(0);
        run.clock.before = number(&checkpoint, "elapsed_s").unwrap_or(0.0);
        Ok(run)
    }

    fn new(
        config: Config,
        directory: &Path,
        trainer: Trainer,
        data: TextData,
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
        let (history, best, without_best) = (Vec::new(), None, 0);
        Ok(Run { config, directory, trainer, data, metrics, events, history, best, without_best, clock })
    }

    /// What can be said before the first step.
    pub fn overview(&self) -> Overview {
        let corpus = self.data.corpus();
        let length = |part: std::ops::Range<u64>| part.end - part.start;
        Overview {
            parameters: self.trainer.parameters().count(),
            memory: self.trainer.memory(),
            dispatches: self.trainer.dispatches(),
            tokens_per_step: self.data.tokens_per_batch(),
            text: (corpus.source().name(), length(corpus.training()), length(corpus.validation())),
            steps_done: self.trainer.steps_done(),
            steps: self.config.train.steps,
        }
    }

    /// Trains to the end, handing each record to `each`.
    pub fn train(&mut self, each: &mut dyn FnMut(&Record)) -> Result<Outcome> {
        let now = Instant::now();
        (self.clock.start, self.clock.last) = (now, now);
        let steps = self.config.train.steps;
        let mut in_flight: Option<Pending> = None;
        let mut stopped_early = false;
        for step in self.trainer.steps_done() + 1..=steps {
            let batch = self.data.training(self.trainer.seed(), self.trainer.samples_done())?;
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
            self.trainer.weights()?.save(self.directory.join(BEST))?;
        }
        Ok(Outcome { steps: self.trainer.steps_done(), best: self.best, stopped_early })
    }

    /// A step after which the run looks up from its work. Gives whether to stop early.
    fn pause(&mut self, pending: Pending, evaluates: bool, saves: bool, each: &mut dyn FnMut(&Record)) -> Result<bool> {
        let val_loss = if evaluates { Some(self.evaluate()?) } else { None };
        let step = self.trainer.steps_done();
        self.finish_step(pending, val_loss, each)?;
        if let Some(loss) = val_loss {
            self.keep_best(step, loss)?;
        }
        let patience = self.config.train.early_stopping;
        let stop = patience > 0 && self.without_best >= patience;
        if saves || stop {
            self.save_checkpoint()?;
        }
        self.draw_curve()?;
        Ok(stop)
    }

    /// Waits for a step and records it.
    fn finish_step(&mut self, pending: Pending, val_loss: Option<f32>, each: &mut dyn FnMut(&Record)) -> Result<()> {
        let report = self.trainer.wait(pending)?;
        let record = self.record(&report, val_loss);
        self.metrics.write(&record)?;
        if let Some(events) = &mut self.events {
            let mut values =
                vec![("loss/train", record.loss), ("lr", record.lr as f32), ("tokens_s", record.tokens_s as f32)];
            values.extend(report.grad_norm.map(|norm| ("grad_norm", norm)));
            values.extend(val_loss.map(|loss| ("loss/validation", loss)));
            events.scalars(record.step, &values)?;
        }
        each(&record);
        let failed = !record.loss.is_finite();
        self.history.push(record);
        if failed {
            self.draw_curve()?;
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

    fn record(&mut self, report: &StepReport, val_loss: Option<f32>) -> Record {
        let now = Instant::now();
        let seconds = now.duration_since(self.clock.last).as_secs_f64().max(1e-9);
        self.clock.last = now;
        Record {
            step: report.step,
            loss: report.loss,
            val_loss,
            lr: report.lr,
            tokens_s: self.data.tokens_per_batch() as f64 / seconds,
            grad_norm: report.grad_norm.unwrap_or(f32::NAN),
            elapsed_s: self.clock.elapsed(),
        }
    }

    /// Mean loss over the held-out batches.
    fn evaluate(&mut self) -> Result<f32> {
        let batches = self.config.train.eval_batches;
        let mut sum = 0.0;
        for index in 0..batches {
            sum += f64::from(self.trainer.evaluate(&self.data.validation(index, batches)?)?);
        }
        Ok((sum / batches as f64) as f32)
    }

    fn keep_best(&mut self, step: u64, loss: f32) -> Result<()> {
        if self.best.is_some_and(|(_, best)| loss >= best) || loss.is_nan() {
            self.without_best += 1;
            return Ok(());
        }
        (self.best, self.without_best) = (Some((step, loss)), 0);
        let mut weights = self.trainer.weights()?;
        weights.metadata = words(&[("step", step.to_string()), ("validation_loss", loss.to_string())]);
        weights.save(self.directory.join(BEST))
    }

    fn save_checkpoint(&mut self) -> Result<()> {
        let mut checkpoint = self.trainer.checkpoint()?;
        checkpoint.metadata.extend(words(&[
            ("elapsed_s", self.clock.elapsed().to_string()),
            ("evaluations_without_best", self.without_best.to_string()),
        ]));
        if let Some((step, loss)) = self.best {
            checkpoint.metadata.extend(words(&[("best_step", step.to_string()), ("best_loss", loss.to_string())]));
        }
        checkpoint.save(self.directory.join(LAST))
    }

    fn draw_curve(&self) -> Result<()> {
        let training: Vec<(u64, f32)> = self.history.iter().map(|record| (record.step, record.loss)).collect();
        let validation: Vec<(u64, f32)> =
            self.history.iter().filter_map(|record| Some((record.step, record.val_loss?))).collect();
        let title = self.directory.file_name().map_or("run".into(), |name| format!("Run {}", name.to_string_lossy()));
        let model = &self.config.model;
        let subtitle = format!(
            "{} parameters: {} layers of width {}, context {}",
            self.trainer.parameters().count(),
            model.layers,
            model.width,
            model.context
        );
        let curve = LossCurve { title: &title, subtitle: &subtitle, training: &training, validation: &validation };
        write_atomic(&self.directory.join(CURVE), curve.to_svg().as_bytes())
    }
}

impl Clock {
    fn elapsed(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }
}

fn build(config: &Config, device: &Device) -> Result<Trainer> {
    let (builder, gpt) = char_gpt::trainer(config);
    let batch = config.train.batch;
    builder.build(device, move |graph| char_gpt::loss(&gpt, batch, graph))
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
