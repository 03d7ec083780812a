//! Finds the tensor that went bad first: a step is made again with every value looked at.
//!
//! Knows tasks and states; when to look, and what to do then, is `run`'s affair.

use super::config::{Config, TrainConfig};
use super::keeper::{as_before, newest};
use super::run::{due, evaluate};
use super::task::{Subject, Task};
use super::trainer::{StepReport, Trainer};
use super::watch::{Bad, bad};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::io::safetensors::Weights;
use std::collections::BTreeSet;
use std::path::Path;

/// What was found in one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    pub step: u64,
    pub loss: f32,
    pub grad_norm: Option<f32>,
    /// Values that are not finite in this step and were in the one before, if that was looked at; the first that was
    /// computed first.
    pub bad: Vec<Bad>,
}

impl Findings {
    /// The first tensor that went bad, in words.
    pub fn first(&self) -> String {
        match self.bad.first() {
            Some(first) => {
                format!("the first tensor that went bad is {}: {} elements are not finite", first.what, first.elements)
            }
            None => "with every value kept, none is bad".into(),
        }
    }
}

/// Whether a step gave a loss and gradients that are finite, or was left out by loss scaling.
pub fn is_fine(report: &StepReport) -> bool {
    report.scaling.is_some_and(|scaling| scaling.skipped)
        || report.loss.is_finite() && report.grad_norm.is_none_or(f32::is_finite)
}

/// Looks at every value of a step. `state` is from one or two steps before it; of two, the first shows which values are
/// not finite although nothing is wrong, such as masks. Needs memory for all values at once.
pub fn examine(task: Task, train: &TrainConfig, device: &Device, state: &Weights, step: u64) -> Result<Findings> {
    let mut trainer = task.model.trainer.watched().build(device, task.model.loss)?;
    trainer.resume(state)?;
    let mut usual = BTreeSet::new();
    loop {
        let report = step_again(&mut trainer, &task.subject, train)?;
        let mut found = bad(&report.results)?;
        if report.step >= step {
            found.retain(|one| !usual.contains(&one.what));
            return Ok(Findings { step, loss: report.loss, grad_norm: report.grad_norm, bad: found });
        }
        // A step that loss scaling left out shows what overflows, not what is usual.
        if is_fine(&report) && report.scaling.is_none_or(|scaling| !scaling.skipped) {
            usual = found.into_iter().map(|one| one.what).collect();
        }
    }
}

/// Makes steps again, without a record, until so many are done.
pub fn replay(trainer: &mut Trainer, task: &Subject, train: &TrainConfig, done: u64) -> Result<()> {
    while trainer.steps_done() < done {
        step_again(trainer, task, train)?;
    }
    Ok(())
}

/// One step without a record; with the evaluation after it, where the learning rate of the next depends on that.
fn step_again(trainer: &mut Trainer, task: &Subject, train: &TrainConfig) -> Result<StepReport> {
    let report = trainer.step(&task.data.training(trainer.seed(), trainer.samples_done())?)?;
    if trainer.has_plateau() && due(report.step, train.eval_every, train.steps) {
        let found = evaluate(task, &mut |batch| trainer.evaluate_outputs(batch))?;
        trainer.observe(f64::from(found.loss))?;
    }
    Ok(report)
}

/// Goes on with a run from its newest checkpoint, without a record, to a step or to the first one that is not fine, and
/// looks at every value of that. `None`: all steps to the end of the run are fine.
pub fn debug(config: &Config, run: &Path, device: &Device, step: Option<u64>) -> Result<Option<Findings>> {
    let checkpoint = newest(run)?;
    let device = &as_before(device, checkpoint.as_ref().map(|found| &found.state));
    let Task { model, subject } = Task::new(config)?;
    let mut trainer = model.trainer.build(device, model.loss)?;
    if let Some(found) = &checkpoint {
        trainer.resume(&found.state)?;
    }
    let done = trainer.steps_done();
    if let Some(step) = step.filter(|&step| step <= done) {
        return Err(Error::config(format!("the newest checkpoint is after step {done}; step {step} lies before it")));
    }
    let mut before = trainer.checkpoint()?;
    let wanted = match step {
        Some(step) => step,
        None => loop {
            if trainer.steps_done() >= config.train.steps {
                return Ok(None);
            }
            let report = step_again(&mut trainer, &subject, &config.train)?;
            if !is_fine(&report) {
                break report.step;
            }
        },
    };
    if trainer.steps_done() >= wanted {
        trainer.resume(&before)?;
    }
    replay(&mut trainer, &subject, &config.train, wanted.saturating_sub(2))?;
    before = trainer.checkpoint()?;
    drop(trainer);
    examine(Task::new(config)?, &config.train, device, &before, wanted).map(Some)
}
