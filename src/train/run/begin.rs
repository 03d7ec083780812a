//! How a run begins: anew, from weights, or where it was left.

use super::nonfinite::BadSteps;
use super::record::Clock;
use super::recover::Losses;
use super::save::tell_saved;
use super::shrink::{build_to_fit, split_to_fit};
use super::{CONFIG, Event, METRICS, MakeTask, Run, out_of_patience};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::io::checkpoint::Rejected;
use crate::io::files::{remove_leftovers, write_atomic};
use crate::io::safetensors::Weights;
use crate::train::config::Config;
use crate::train::keeper::{Keeper, Standing, as_before, newest, set_aside};
use crate::train::metrics::MetricsWriter;
use crate::train::pictures::Pictures;
use crate::train::task::{Subject, Task};
use crate::train::tensorboard::EventWriter;
use crate::train::trainer::Trainer;
use std::path::Path;
use std::sync::Arc;
use web_time::Instant;

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
            return Err(Error::config(format!(
                "{shown} holds a run already; go on with it by `--resume {shown}`, or name another `--out`"
            )));
        }
        // Absolute, so that the run can be resumed from another directory.
        if let Some(path) = &mut config.data.path
            && let Ok(absolute) = std::fs::canonicalize(&*path)
        {
            *path = absolute.display().to_string();
        }
        split_to_fit(&*make, &mut config, device.profile())?;
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
}

/// An error if there is nothing left to train.
fn may_go_on(config: &Config, done: u64, standing: &Standing) -> Result<()> {
    if done >= config.train.steps {
        return Err(Error::config(format!(
            "the run has made all of its {done} steps; to go on, give more with `--steps`, such as `--steps {}`",
            done.saturating_mul(2)
        )));
    }
    if out_of_patience(config, standing.without_best) {
        let without = standing.without_best;
        return Err(Error::config(format!(
            "the run was stopped early after {without} evaluations without a better loss; to go on, allow more with \
             `--set train.early_stopping={}`, or 0 for any number",
            without.saturating_mul(2)
        )));
    }
    Ok(())
}
