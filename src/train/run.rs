//! A training run from its first step to its last, and the directory that it leaves behind.
//!
//! Knows files and the order of events: step, record, evaluate, save, stop. What is learned is a [`Task`]'s business, and
//! how a run looks on a terminal is told through a callback. A disk that is full does not end a run: it is told, and
//! what could not be written is tried again. Read before: `task.rs`, `trainer.rs`, `keeper.rs`.

use super::average::in_place;
use super::budget::Fitted;
use super::classify::{ACCURACY, Confusion};
use super::config::{Config, MAX_CONFIG};
use super::data::Batch;
use super::debug::is_fine;
use super::keeper::{Keeper, Standing, as_before, newest, set_aside};
use super::metrics::{MetricsWriter, Norms, Record};
use super::norms::ParameterNorms;
use super::pictures::Pictures;
use super::split::equal_parts;
use super::step::LOSS;
use super::task::{Contents, Subject, Task, Unit};
use super::tensorboard::EventWriter;
use super::trainer::{Pending, StepReport, Trainer, scalar};
use crate::error::{Error, Result};
use crate::gpu::{Device, Results};
use crate::io::checkpoint::Rejected;
use crate::io::files::{read_text, remove_leftovers, write_atomic};
use crate::io::safetensors::Weights;
use crate::kernels::matmul::Choices;
use crate::program::Memory;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use web_time::Instant;

mod nonfinite;
mod recover;
mod save;
mod shrink;

use nonfinite::BadSteps;
use recover::Losses;
use save::tell_saved;
use shrink::{build_to_fit, split_to_fit};

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
    if std::fs::metadata(&path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Err(Error::Config(format!(
            "there is no run in {}: it has no {CONFIG}; give the directory that `wgrad train` printed",
            directory.display()
        )));
    }
    Ok((path.display().to_string(), read_text(&path, MAX_CONFIG)?))
}

/// The best weights of a run; those of its newest checkpoint if it was never evaluated.
pub fn read_weights(directory: &Path) -> Result<Weights> {
    let best = directory.join(BEST);
    if best.exists() {
        return Weights::load(best);
    }
    let nothing = || {
        let shown = directory.display();
        Error::Config(format!("the run in {shown} has no weights yet: neither {BEST} nor a checkpoint"))
    };
    newest(directory)?.map(|checkpoint| in_place(checkpoint.state)).ok_or_else(nothing)
}

impl Run {
    /// A new run in a directory that holds none; the directory is made.
    pub fn begin(config: Config, directory: &Path, device: &Device) -> Result<Run> {
        Run::begin_task(config, directory, device, Box::new(Task::new))
    }

    /// A new run whose parameters begin with the values in a file of weights. They are saved as a checkpoint before the
    /// first step, so that what happens to the run has not to know of the file.
    pub fn begin_from(config: Config, directory: &Path, device: &Device, weights: &Weights) -> Result<Run> {
        let mut run = Run::start(config, directory, device, Box::new(Task::new), Some(weights))?;
        let mut told = Vec::new();
        let mut each = |event: Event<'_>| {
            if let Event::Warning(warning) = event {
                told.push(warning.to_string());
            }
        };
        run.save_checkpoint(&mut each)?;
        if let Some(outcome) = run.keeper.settle() {
            tell_saved(&outcome, &mut each);
        }
        run.warnings = told;
        Ok(run)
    }

    /// A new run of a task of one's own, made from the configuration.
    pub fn begin_task(config: Config, directory: &Path, device: &Device, make: MakeTask) -> Result<Run> {
        Run::start(config, directory, device, make, None)
    }

    fn start(
        mut config: Config,
        directory: &Path,
        device: &Device,
        make: MakeTask,
        weights: Option<&Weights>,
    ) -> Result<Run> {
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
        split_to_fit(&make, &mut config, device)?;
        let (mut built, change) = build_to_fit(&make, &mut config, device)?;
        weights.map_or(Ok(()), |weights| built.0.load(weights))?;
        std::fs::create_dir_all(directory).map_err(|e| Error::file(directory, &e))?;
        // Before anything else: a run that dies from now on can be resumed.
        write_atomic(&directory.join(CONFIG), config.to_toml()?.as_bytes())?;
        let metrics = MetricsWriter::create(directory.join(METRICS))?;
        let mut run = Run::new(config, directory, device, make, built, metrics, None)?;
        run.note_change(change);
        Ok(run)
    }

    /// Goes on with a run at its newest checkpoint that is whole; from its beginning if it ended before it had saved one.
    pub fn resume(config: Config, directory: &Path, device: &Device) -> Result<Run> {
        Run::resume_task(config, directory, device, Box::new(Task::new))
    }

    /// Goes on with a run of a task of one's own.
    pub fn resume_task(mut config: Config, directory: &Path, device: &Device, make: MakeTask) -> Result<Run> {
        let checkpoint = newest(directory)?;
        let device = &as_before(device, checkpoint.as_ref().map(|found| &found.state));
        let ((mut trainer, subject), change) = build_to_fit(&make, &mut config, device)?;
        let mut standing = Standing::default();
        let mut warnings = Vec::new();
        match &checkpoint {
            Some(found) => {
                let passed_over = |it: &Rejected| format!("a newer checkpoint cannot be used: {}", it.why);
                warnings.extend(found.rejected.iter().map(passed_over));
                warnings.extend(subject.check_same(&found.state)?);
                trainer.resume(&found.state)?;
                standing = Standing::of(&found.state);
            }
            None => warnings.push("the run ended before its first checkpoint; it begins again".into()),
        }
        may_go_on(&config, trainer.steps_done(), &standing)?;
        if !standing.adapter.is_empty() && standing.adapter != device.name() {
            let (then, now) = (&standing.adapter, device.name());
            warnings
                .push(format!("the run began on {then} and goes on on {now}; numbers will differ in their last bits"));
        }
        let done = trainer.steps_done();
        // Of a run without a checkpoint no record stays.
        let length = if checkpoint.is_some() { standing.metrics_bytes } else { Some(0) };
        let (metrics, history) = MetricsWriter::resume(directory.join(METRICS), done, length)?;
        if length.is_some_and(|length| metrics.length() < length) {
            warnings.push(format!("{METRICS} is shorter than it was; the record of the run has a gap"));
        }
        write_atomic(&directory.join(CONFIG), config.to_toml()?.as_bytes())?;
        checkpoint.iter().for_each(|found| set_aside(directory, found));
        remove_leftovers(directory);
        let mut run = Run::new(config, directory, device, make, (trainer, subject), metrics, Some(done + 1))?;
        (run.history, run.warnings, run.changes) = (history, warnings, standing.changes);
        run.note_change(change);
        (run.best, run.without_best, run.clock.before) = (standing.best, standing.without_best, standing.elapsed_s);
        Ok(run)
    }

    fn new(
        config: Config,
        directory: &Path,
        device: &Device,
        make: MakeTask,
        (trainer, subject): (Trainer, Subject),
        metrics: MetricsWriter,
        resume_at: Option<u64>,
    ) -> Result<Run> {
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
            keeper: Keeper::new(&directory),
            directory,
            trainer,
            subject,
            pictures,
            metrics,
            events,
            history: Vec::new(),
            best: None,
            unsaved_best: None,
            without_best: 0,
            records_wait: false,
            stop: Arc::default(),
            adapter: device.name().to_string(),
            choices: device.profile().choices.clone(),
            reopen: Box::new(device.reopener()),
            losses: Losses::default(),
            make,
            bad: None,
            bad_steps: BadSteps::default(),
            confusion: None,
            changes: Vec::new(),
            warnings: Vec::new(),
            clock,
        })
    }

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
            outcome = match (outcome, self.bad.take()) {
                (Err(Error::DeviceLost { message }), _) => {
                    self.recover(message, each)?;
                    self.attempt(each)
                }
                (Err(Error::Memory(message)), _) if self.may_shrink() => match self.shrink(&message, each) {
                    Ok(()) => self.attempt(each),
                    Err(error) => Err(error),
                },
                (Err(Error::NotFinite { .. }), Some(record)) => match self.not_finite(record, each) {
                    Ok(()) => self.attempt(each),
                    Err(error) => Err(error),
                },
                (Err(Error::NotFinite { step, message }), None) => match self.overflowed(step, message, each) {
                    Error::DeviceLost { message } => Err(Error::DeviceLost { message }),
                    error => return Err(error),
                },
                (Err(error), _) => {
                    if let Some(outcome) = self.keeper.settle() {
                        tell_saved(&outcome, each);
                    }
                    return Err(error);
                }
                (Ok(outcome), _) => return Ok(outcome),
            }
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
            return Err(Error::NotFinite { step, message });
        }
        self.write_record(&record, report.grad_norm, each);
        each(Event::Step(&record));
        // The history is for curves, which have no norms.
        self.history.push(Record { grad_norms: Norms::default(), weight_norms: Norms::default(), ..record });
        Ok(())
    }

    /// Into the metrics and, if wanted, the events for TensorBoard. What a full disk refuses is told once.
    fn write_record(&mut self, record: &Record, grad_norm: Option<f32>, each: &mut dyn FnMut(Event<'_>)) {
        let written = self.metrics.write(record);
        if let Err(error) = &written
            && !self.records_wait
        {
            let warning = format!("{error}; training goes on, and the records wait until there is room");
            each(Event::Warning(&warning));
        }
        self.records_wait = written.is_err();
        let Some(events) = &mut self.events else { return };
        let mut values = vec![("loss/train", record.loss), ("lr", record.lr as f32)];
        let known = [
            ("loss/validation", record.val_loss),
            ("accuracy/train", record.accuracy),
            ("accuracy/validation", record.val_accuracy),
            ("grad_norm", grad_norm),
            ("loss_scale", record.loss_scale),
            ("skipped_steps", record.skipped_steps.map(|steps| steps as f32)),
            ("tokens_s", record.tokens_s.map(|rate| rate as f32)),
            ("images_s", record.images_s.map(|rate| rate as f32)),
        ];
        values.extend(known.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let norms = [("grad_norm", &record.grad_norms), ("weight_norm", &record.weight_norms)];
        let norms = norms
            .into_iter()
            .flat_map(|(kind, Norms(all))| all.iter().map(move |(name, norm)| (format!("{kind}/{name}"), *norm)));
        let norms: Vec<(String, f32)> = norms.collect();
        values.extend(norms.iter().map(|(name, norm)| (name.as_str(), *norm)));
        if let Err(error) = events.scalars(record.step, &values) {
            // A part of an event may be in the file, and nothing behind it could be read.
            self.events = None;
            each(Event::Warning(&format!("{error}; there will be no more events for TensorBoard")));
        }
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
        let logs = due(report.step, self.config.train.norms_every, self.config.train.steps);
        let norms = |which: fn(&ParameterNorms) -> f32| {
            let of_all = report.norms.iter().filter(|_| logs);
            Norms(of_all.map(|one| (one.name.clone(), which(one))).collect())
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
            loss_scale: report.scaling.map(|scaling| scaling.scale),
            skipped_steps: report.scaling.map(|scaling| scaling.skipped_steps),
            elapsed_s: self.clock.elapsed(),
            grad_norms: norms(|one| one.gradient),
            weight_norms: norms(|one| one.weight),
        })
    }

    fn evaluate(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<Evaluation> {
        let found = evaluate(&self.subject, &mut |batch| self.trainer.evaluate_outputs(batch))?;
        self.subject.data.warnings().iter().for_each(|warning| each(Event::Warning(warning)));
        Ok(found)
    }

    /// Tells the learning rate of the steps that follow, if it depends on evaluations.
    fn observe(&mut self, loss: f32, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        if self.trainer.has_plateau() && self.trainer.observe(f64::from(loss))? {
            each(Event::Slower { step: self.trainer.steps_done(), lr: self.trainer.next_lr() });
        }
        Ok(())
    }

    fn keep_best(&mut self, step: u64, loss: f32) -> Result<()> {
        if self.best.is_some_and(|(_, best)| loss >= best) || loss.is_nan() {
            self.without_best += 1;
            return Ok(());
        }
        (self.best, self.without_best) = (Some((step, loss)), 0);
        let mut weights = self.trainer.averaged_weights()?;
        weights.metadata = self.subject.metadata();
        let about = [("step", step.to_string()), ("validation_loss", loss.to_string())];
        weights.metadata.extend(about.map(|(key, text)| (key.to_string(), text)));
        self.unsaved_best = Some(weights);
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

/// An error if there is nothing left to train.
fn may_go_on(config: &Config, done: u64, standing: &Standing) -> Result<()> {
    if done >= config.train.steps {
        return Err(Error::Config(format!(
            "the run has made all of its {done} steps; to go on, give more with `--steps`, such as `--steps {}`",
            done.saturating_mul(2)
        )));
    }
    if out_of_patience(config, standing.without_best) {
        let without = standing.without_best;
        return Err(Error::Config(format!(
            "the run was stopped early after {without} evaluations without a better loss; to go on, allow more with \
             `--set train.early_stopping={}`, or 0 for any number",
            without.saturating_mul(2)
        )));
    }
    Ok(())
}

impl Clock {
    fn elapsed(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }
}

fn build(make: &MakeTask, config: &Config, device: &Device) -> Result<(Trainer, Subject)> {
    let Task { model, subject } = make(config)?;
    device.set_timeout(Duration::from_secs(config.device.timeout));
    Ok((model.trainer.build(device, model.loss)?, subject))
}

/// Goes through the held-out batches; `outputs` applies the model to one.
pub fn evaluate(subject: &Subject, outputs: &mut dyn FnMut(&Batch) -> Result<Results>) -> Result<Evaluation> {
    let batches = subject.eval_batches;
    let mut confusion = subject.classes.as_ref().map(|classes| Confusion::new(classes.names.len()));
    let mut sum = 0.0;
    for index in 0..batches {
        for part in equal_parts(&subject.data.validation(index, batches)?, subject.parts)? {
            let results = outputs(&part)?;
            match &mut confusion {
                Some(confusion) => confusion.add(&part, &results)?,
                None => sum += f64::from(scalar(&results, LOSS)?),
            }
        }
    }
    let loss = confusion.as_ref().map_or((sum / (batches * subject.parts) as f64) as f32, Confusion::loss);
    Ok(Evaluation { loss, confusion })
}

/// Whether something happens after this step: every so many steps, and after the last; 0 is never.
pub(super) fn due(step: u64, every: u64, steps: u64) -> bool {
    every > 0 && (step.is_multiple_of(every) || step == steps)
}
