//! When memory does not suffice: the same step in more, smaller micro-batches.
//!
//! That changes the last bits of numbers (and what batch norm sees), so it is done only where `device.memory` says that the
//! run is to be made to fit, and it is kept: `config.toml` says how the batch is cut from then on, and checkpoints say since when.
//! What a plan can tell is known before anything is created; what only the device knows, when it refuses a buffer, at the
//! beginning, when a lost device is replaced, or in the middle of the run.

use super::{CONFIG, Event, MakeTask, Run, build, get_over};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::Device;
use crate::io::files::write_atomic;
use crate::kernels::Profile;
use crate::lower::Rates;
use crate::train::config::Config;
use crate::train::keeper::Standing;
use crate::train::task::{Model, Subject, Task};
use crate::train::trainer::Trainer;

/// Numbers of micro-batches that the batch can be cut into, from the present one.
fn cuts(config: &Config) -> impl Iterator<Item = usize> + use<> {
    let (present, batch) = (config.train.accumulate, config.train.batch);
    (present..=batch).filter(move |parts| batch.is_multiple_of(*parts))
}

/// Of the estimated time: a cut changes the last bits, which computing twice does not, so it must be so much cheaper.
const WORTH: f64 = 0.95;

/// Cuts the batch into more micro-batches where the memory that is allowed asks for it, or where they take less time than
/// the activations that would be computed twice. The configuration says so from then on, so that the run can be made again
/// anywhere.
pub(crate) fn split_to_fit(
    make: &dyn Fn(&Config) -> Result<Task>,
    config: &mut Config,
    profile: &Profile,
) -> Result<()> {
    if config.device.memory.is_none() {
        return Ok(());
    }
    let (rates, mut refused, mut best) = (Rates::typical(profile), None, None);
    for parts in cuts(config) {
        let mut split = config.clone();
        split.train.accumulate = parts;
        let Model { trainer, loss } = make(&split)?.model;
        match trainer.plan(profile, loss) {
            Ok(plan) => {
                let time = parts as f64 * rates.program(&plan.programs[0]);
                // Planning a large model takes seconds: no further than to the first cut that does not pay.
                if best.as_ref().is_some_and(|(least, _)| time >= WORTH * least) {
                    break;
                }
                best = Some((time, split));
                if plan.recomputed.dispatches == 0 {
                    break;
                }
            }
            // That of the batch as it was asked for says most.
            Err(error) if matches!(error.kind(), ErrorKind::Memory(_)) => refused = refused.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    match best {
        Some((_, split)) => *config = split,
        None => refused.map_or(Ok(()), Err)?,
    }
    Ok(())
}

/// Builds the trainer, with more micro-batches where the device has no memory for fewer and the configuration allows it,
/// which says so from then on. Gives what was changed.
pub(super) fn build_to_fit(
    make: &MakeTask,
    config: &mut Config,
    device: &Device,
) -> Result<((Trainer, Subject), Option<String>)> {
    let (before, mut refused) = (config.train.accumulate, None);
    for parts in cuts(config) {
        let mut split = config.clone();
        split.train.accumulate = parts;
        match build(make, &split, device) {
            Ok(built) => {
                *config = split;
                let change = refused.map(|why: Error| {
                    format!("train.accumulate = {parts} instead of {before}, because the device did not have the memory ({why})")
                });
                return Ok((built, change));
            }
            Err(error) => match error.kind() {
                ErrorKind::Memory(_) if config.device.memory.is_some() => refused = refused.or(Some(error)),
                ErrorKind::Memory(message) => {
                    return Err(Error::memory(format!(
                        "{message}. With device.memory set (`--memory auto`) the batch is cut into micro-batches that fit"
                    )));
                }
                _ => return Err(error),
            },
        }
    }
    Err(refused.unwrap_or_else(|| Error::config("the batch cannot be cut".into())))
}

impl Run {
    /// Whether smaller micro-batches are allowed and possible.
    pub(super) fn may_shrink(&self) -> bool {
        self.config.device.memory.is_some() && cuts(&self.config).nth(1).is_some()
    }

    /// Goes on from the last state on the host with the next number of micro-batches.
    pub(super) fn shrink(&mut self, why: &str, each: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        if let Some(outcome) = self.keeper.settle() {
            super::tell_saved(&outcome, each);
        }
        let (device, mut config) = (self.trainer.device().clone(), self.config.clone());
        let before = config.train.accumulate;
        config.train.accumulate = cuts(&config).nth(1).unwrap_or(before);
        // There is no room for two.
        self.trainer.free();
        let ((mut trainer, subject), more) = build_to_fit(&self.make, &mut config, &device)?;
        let standing = match self.keeper.latest()? {
            Some(state) => {
                trainer.resume(&state)?;
                Standing::of(&state)
            }
            None => Standing { metrics_bytes: Some(0), ..Standing::default() },
        };
        (self.trainer, self.subject) = (trainer, subject);
        self.stand(standing);
        let change = more.unwrap_or_else(|| {
            let parts = config.train.accumulate;
            format!(
                "train.accumulate = {parts} instead of {before}, because the device did not have the memory ({why})"
            )
        });
        self.take_up(config, Some(change), each);
        self.save_checkpoint(each)
    }

    /// Trains as this configuration says from now on, and keeps what was changed.
    pub(super) fn take_up(&mut self, config: Config, change: Option<String>, each: &mut dyn FnMut(Event<'_>)) {
        let Some(change) = change else { return };
        self.config = config;
        each(Event::Warning(&self.kept(change)));
        let written =
            self.config.to_toml().and_then(|text| write_atomic(&self.directory.join(CONFIG), text.as_bytes()));
        get_over(written, each);
    }

    /// As [`Run::take_up`] before training begins.
    pub(super) fn note_change(&mut self, change: Option<String>) {
        if let Some(change) = change {
            let told = self.kept(change);
            self.warnings.push(told);
        }
    }

    /// Notes a change for the checkpoints; in words.
    fn kept(&mut self, change: String) -> String {
        let change = format!("from step {} on: {}", self.trainer.steps_done() + 1, change.replace('\n', " "));
        self.changes.push(change.clone());
        format!("{change}; numbers will differ in their last bits")
    }
}
