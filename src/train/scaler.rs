//! The state of loss scaling in a training session, and what stands between gradients and update because of it.
//!
//! Scale, counters and the decision to leave a step out stay on the device. The optimizer's rule wants its scalars
//! (bias corrections) for the number of good steps, which the host knows only after a while: it uploads them for the
//! next few possible counts, and the update picks one. Read before: `optim/loss_scaling.rs`.

use super::step::scalar_name;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::{Results, Session};
use crate::graph::{Graph, Op, Tensor, TensorType};
use crate::optim::{LossScaling, ScalerState};
use crate::program::{Category, StateSpec};

/// Possible counts of good steps for which scalars are uploaded.
pub(super) const CANDIDATES: u64 = 4;
/// Steps left out one after the other that end the training.
const HOPELESS: i32 = 50;

const SCALE: &str = "scaler/scale";
const STREAK: &str = "scaler/streak";
/// The state, and the output of the update, that counts good steps.
pub(super) const GOOD: &str = "scaler/good";
const SKIPPED: &str = "scaler/skipped";
const SKIPPED_IN_ROW: &str = "scaler/skipped_in_row";
/// The scalar that says which count of good steps the first of the uploaded scalars are for.
const BASE: &str = "scaler.base";
/// The output with the scale of the step, before it changes.
const USED: &str = "scaler/used";

/// What the loss is multiplied by.
pub(super) fn scale(graph: &Graph) -> Tensor<'_> {
    graph.state(SCALE, [], DType::F32)
}

/// The states of loss scaling.
pub(super) fn specs() -> Vec<StateSpec> {
    let spec = |(name, dtype): (&str, DType)| StateSpec {
        name: name.into(),
        ty: TensorType::new([], dtype),
        category: Category::Other,
        group: "scaler".into(),
    };
    let counters = [STREAK, GOOD, SKIPPED, SKIPPED_IN_ROW].map(|name| (name, DType::I32));
    [(SCALE, DType::F32)].into_iter().chain(counters).map(spec).collect()
}

/// Writes the first scale.
pub(super) fn initialise(session: &mut Session, scaling: &LossScaling) -> Result<()> {
    session.write_state(SCALE, &(scaling.init_scale as f32).to_le_bytes())
}

/// Loss scaling in the trace of an update.
pub(super) struct Guard<'g> {
    scaling: LossScaling,
    state: ScalerState<'g>,
    /// Whether all gradients are finite: a step that is not is left out.
    ok: Tensor<'g>,
    /// Which of the uploaded scalars belong to this count of good steps.
    candidate: Tensor<'g>,
}

impl<'g> Guard<'g> {
    pub fn new(graph: &'g Graph, scaling: LossScaling, gradients: &[Tensor<'g>]) -> Option<Guard<'g>> {
        let (first, rest) = gradients.split_first()?;
        graph.scope("scaler", || {
            let counter = |name: &str| graph.state(name, [], DType::I32);
            let state = ScalerState {
                scale: scale(graph),
                streak: counter(STREAK),
                good: counter(GOOD),
                skipped: counter(SKIPPED),
                skipped_in_row: counter(SKIPPED_IN_ROW),
            };
            // The sum of squares is wanted for clipping anyway. It is infinite or NaN as soon as one gradient is, and
            // where their norm is beyond 1e19, which is no better.
            let ok = first.apply(Op::SumSquares { each: false }, rest).isfinite();
            let candidate = state.good - graph.input(BASE, [], DType::I32);
            Some(Guard { scaling, state, ok, candidate })
        })
    }

    /// What gradients are multiplied by to undo the scale.
    pub fn inverse(&self) -> Tensor<'g> {
        1.0 / self.state.scale
    }

    /// The new value of a good step, else the old one.
    pub fn keep(&self, new: Tensor<'g>, old: Tensor<'g>) -> Tensor<'g> {
        self.ok.select(new, old)
    }

    /// One of the optimizer's scalars for the count of good steps.
    pub fn scalar(&self, group: &str, scalar: &str) -> Tensor<'g> {
        let graph = self.ok.graph();
        let input = |ahead: u64| graph.input(&candidate_name(group, scalar, ahead), [], DType::F32);
        let last = input(CANDIDATES - 1);
        (0..CANDIDATES - 1).rev().fold(last, |later, ahead| self.candidate.eq(ahead as i32).select(input(ahead), later))
    }

    /// Gives the states their new values, and outputs what the host wants to know.
    pub fn finish(self) {
        let graph = self.ok.graph();
        graph.scope("scaler", || {
            let new = self.scaling.update(self.state, self.ok);
            graph.output(USED, self.state.scale);
            let counters = [(GOOD, new.good), (SKIPPED, new.skipped), (SKIPPED_IN_ROW, new.skipped_in_row)];
            graph.assign(SCALE, new.scale);
            graph.assign(STREAK, new.streak);
            for (name, value) in counters {
                graph.assign(name, value);
                graph.output(name, value);
            }
        });
    }
}

/// The scalar of a rule for a count of good steps that many above the base.
fn candidate_name(group: &str, scalar: &str, ahead: u64) -> String {
    match ahead {
        0 => scalar_name(group, scalar),
        _ => format!("{}.{ahead}", scalar_name(group, scalar)),
    }
}

/// What a step reports of loss scaling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScaleReport {
    /// What the loss was multiplied by.
    pub scale: f32,
    /// Whether the gradients overflowed and the step was left out.
    pub skipped: bool,
    /// Updates made so far, this one included.
    pub good_steps: u64,
    /// Steps left out so far, this one included.
    pub skipped_steps: u64,
}

/// What the host knows of the counters on the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// After this step ..
    step: u64,
    /// .. so many were good.
    good: u64,
}

impl Known {
    pub fn new(step: u64, good: u64) -> Known {
        Known { step, good }
    }

    /// From a checkpoint's counter.
    pub fn resumed(step: u64, good: Option<Vec<u8>>) -> Result<Known> {
        let counter = good.and_then(|bytes| Some(i32::from_le_bytes(bytes.first_chunk().copied()?)));
        let good = counter.and_then(|count| u64::try_from(count).ok());
        let missing = || Error::feed(format!("the checkpoint's counter `{GOOD}` cannot be read"));
        Ok(Known { step, good: good.ok_or_else(missing)? })
    }

    /// The first of the counts that the update after `step` may have; `None` if there are too many to upload.
    fn base(&self, step: u64) -> Option<u64> {
        (step - self.step < CANDIDATES).then_some(self.good)
    }

    /// Reads the results of a step.
    pub fn learn(&mut self, step: u64, results: &Results) -> Result<(ScaleReport, bool)> {
        let count = |name: &str| -> Result<i32> { Ok(results.i32(name)?.first().copied().unwrap_or(0)) };
        let (good, in_row) = (count(GOOD)?.max(0) as u64, count(SKIPPED_IN_ROW)?);
        if step > self.step {
            *self = Known { step, good };
        }
        let skipped_steps = count(SKIPPED)?.max(0) as u64;
        let scale = results.f32(USED)?.first().copied().unwrap_or(f32::NAN);
        Ok((ScaleReport { scale, skipped: in_row > 0, good_steps: good, skipped_steps }, in_row >= HOPELESS))
    }

    /// Uploads, before the update after `step`, the base and each group's scalars; `values` gives those of an update
    /// number.
    pub fn upload(
        &mut self,
        session: &mut Session,
        update: usize,
        step: u64,
        mut values: impl FnMut(u64) -> Vec<(String, &'static str, f64)>,
    ) -> Result<()> {
        let base = match self.base(step) {
            Some(base) => base,
            None => {
                // Nobody has waited for a report in a long time.
                *self = Known::resumed(step, Some(read_now(session)?))?;
                self.good
            }
        };
        session.write_scalar(update, BASE, base as u32)?;
        for ahead in 0..CANDIDATES {
            for (group, scalar, value) in values(base + ahead + 1) {
                let name = candidate_name(&group, scalar, ahead);
                if session.program(update).scalars.iter().any(|scalar| scalar.name == name) {
                    session.write_scalar(update, &name, (value as f32).to_bits())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn read_now(session: &Session) -> Result<Vec<u8>> {
    session.read_state(GOOD)
}

#[cfg(target_arch = "wasm32")]
fn read_now(_: &Session) -> Result<Vec<u8>> {
    let message = format!("with loss scaling, await the report of a step before {CANDIDATES} others are submitted");
    Err(Error::feed(message))
}
