//! How gradients change parameters: update rules written as tensors, and plain functions of the step.
//!
//! A rule sees one parameter at a time; the compiler fuses all of a group into few dispatches. What
//! depends on the step (learning rate, bias corrections) is computed on the host in f64 and fed as
//! scalars, so that no program changes from step to step. Nothing here knows programs or devices.

mod adafactor;
mod adagrad;
mod adam;
mod adamw;
mod adamw8bit;
mod by_group;
mod clip;
mod codes;
mod ema;
mod lion;
mod loss_scaling;
mod muon;
mod plateau;
mod rmsprop;
mod schedule;
mod sgd;

pub use adafactor::Adafactor;
pub use adagrad::{Adadelta, Adagrad};
pub use adam::Adam;
pub use adamw::AdamW;
pub use adamw8bit::AdamW8bit;
pub use by_group::{Maximize, Optimizers};
pub use clip::{clip_coefficient, global_norm};
pub use codes::{BLOCK, Codes};
pub use ema::Ema;
pub use lion::Lion;
pub use loss_scaling::{LossScaling, ScalerState};
pub use muon::{AdjustLr, Muon};
pub use plateau::{Plateau, PlateauMode, PlateauState, ThresholdMode};
pub(crate) use plateau::{exact, from_exact};
pub use rmsprop::RmsProp;
pub use schedule::Schedule;
pub use sgd::Sgd;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::Tensor;
use crate::shape::Shape;
use std::ops::Range;

/// An update rule.
pub trait Optimizer {
    /// A short name; the states of its slots are called `name.slot/parameter`.
    fn name(&self) -> &'static str;

    /// What it remembers of a parameter of this shape.
    fn slots(&self, shape: &Shape) -> Vec<Slot>;

    /// The scalars that [`Optimizer::update`] reads, the same for all parameters of a group.
    fn scalars(&self) -> &'static [&'static str];

    /// The values of those scalars in one step.
    fn scalar_values(&self, at: StepHyper) -> Vec<f64>;

    /// The new values of one parameter and its slots. `old.slots` and `old.scalars` are in the order
    /// of the lists above.
    fn update<'g>(&self, old: Operands<'g, '_>) -> Updated<'g>;

    /// Refuses options that cannot be meant, such as a beta of 1.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Why it cannot update a parameter of this shape, if it cannot.
    fn refuses(&self, _shape: &Shape) -> Option<&'static str> {
        None
    }
}

/// A rule that is chosen at run time.
impl Optimizer for Box<dyn Optimizer> {
    fn name(&self) -> &'static str {
        self.as_ref().name()
    }

    fn slots(&self, shape: &Shape) -> Vec<Slot> {
        self.as_ref().slots(shape)
    }

    fn scalars(&self) -> &'static [&'static str] {
        self.as_ref().scalars()
    }

    fn scalar_values(&self, at: StepHyper) -> Vec<f64> {
        self.as_ref().scalar_values(at)
    }

    fn update<'g>(&self, old: Operands<'g, '_>) -> Updated<'g> {
        self.as_ref().update(old)
    }

    fn check(&self) -> Result<()> {
        self.as_ref().check()
    }

    fn refuses(&self, shape: &Shape) -> Option<&'static str> {
        self.as_ref().refuses(shape)
    }
}

/// A tensor that a rule remembers of one parameter; all its bits are 0 before the first step.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    pub name: &'static str,
    pub shape: Shape,
    pub dtype: DType,
}

impl Slot {
    pub fn new(name: &'static str, shape: impl Into<Shape>, dtype: DType) -> Slot {
        Slot { name, shape: shape.into(), dtype }
    }

    /// Slots in f32 that have the parameter's shape: those of all parameters of a group are updated in one dispatch.
    pub fn alike(names: &[&'static str], shape: &Shape) -> Vec<Slot> {
        names.iter().map(|name| Slot::new(name, shape.clone(), DType::F32)).collect()
    }
}

/// What the host knows of one step and one group of parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepHyper {
    /// Number of this update, counted from 1.
    pub step: u64,
    /// Learning rate of the schedule times the group's scale.
    pub lr: f64,
    /// The group's own weight decay, if it has one.
    pub weight_decay: Option<f64>,
}

impl StepHyper {
    /// `1 - beta^step` of both moments of Adam and its kin.
    pub fn bias_corrections(&self, beta1: f64, beta2: f64) -> [f64; 2] {
        // Beyond 2^31 steps the powers are 0 for every beta below 1.
        let step = i32::try_from(self.step).unwrap_or(i32::MAX);
        [1.0 - rounded(beta1).powi(step), 1.0 - rounded(beta2).powi(step)]
    }
}

/// A factor as kernels have it, in f32. Rules compute `1 - beta` and the bias correction from this number, so that what is
/// averaged over and what it is divided by agree however long a run is.
fn rounded(beta: f64) -> f64 {
    f64::from(beta as f32)
}

/// Refuses an option's number outside a range.
fn require(rule: &str, option: &str, value: f64, range: Range<f64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let bound = if range.end.is_finite() { format!(" and below {}", range.end) } else { String::new() };
    Err(Error::config(format!("{rule}: {option} = {value} must be a number of at least {}{bound}", range.start)))
}

/// What Adam and its kin have in common.
fn check_adam(rule: &str, betas: [f64; 2], eps: f64, weight_decay: f64) -> Result<()> {
    require(rule, "beta1", betas[0], 0.0..1.0)?;
    require(rule, "beta2", betas[1], 0.0..1.0)?;
    require(rule, "eps", eps, 0.0..f64::INFINITY)?;
    require(rule, "weight_decay", weight_decay, 0.0..f64::INFINITY)
}

/// What an update reads.
#[derive(Clone, Copy)]
pub struct Operands<'g, 'a> {
    pub parameter: Tensor<'g>,
    /// After clipping.
    pub gradient: Tensor<'g>,
    pub slots: &'a [Tensor<'g>],
    pub scalars: &'a [Tensor<'g>],
}

/// What an update gives.
pub struct Updated<'g> {
    pub parameter: Tensor<'g>,
    pub slots: Vec<Tensor<'g>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::reference::{self, Array};
    use std::collections::HashMap;

    /// Runs a rule on one parameter with the gradient `2 w - 1` of `w^2 - w`; the parameter after each step.
    pub(super) fn run(rule: &dyn Optimizer, lr: f64, start: [f32; 2], steps: u64) -> Result<Vec<Vec<f64>>> {
        let graph = Graph::new();
        let parameter = graph.state("w", [2], DType::F32);
        let names: Vec<&str> = rule.slots(&[2].into()).iter().map(|slot| slot.name).collect();
        let slots: Vec<_> = names.iter().map(|slot| graph.state(slot, [2], DType::F32)).collect();
        let scalars: Vec<_> = rule.scalars().iter().map(|name| graph.input(name, [], DType::F32)).collect();
        let gradient = parameter * 2.0 - 1.0;
        let new = rule.update(Operands { parameter, gradient, slots: &slots, scalars: &scalars });
        graph.assign("w", new.parameter);
        names.iter().zip(&new.slots).for_each(|(slot, value)| graph.assign(slot, *value));
        let mut states: HashMap<String, Array> =
            names.iter().map(|slot| (slot.to_string(), Array::full([2], DType::F32, 0.0))).collect();
        states.insert("w".into(), Array::floats([2], &start));
        let mut path = Vec::new();
        for step in 1..=steps {
            let values = rule.scalar_values(StepHyper { step, lr, weight_decay: None });
            let feed = |(name, value): (&&str, f64)| (name.to_string(), Array::full([], DType::F32, value));
            let inputs: HashMap<String, Array> = rule.scalars().iter().zip(values).map(feed).collect();
            states.extend(reference::run(&graph, &inputs, &states)?.states);
            path.push(states["w"].data.clone());
        }
        Ok(path)
    }

    /// The same with a rule written as plain numbers: `rule(w, g, step)`.
    pub(super) fn by_hand(
        start: [f32; 2],
        steps: u64,
        mut rule: impl FnMut(usize, f64, f64, u64) -> f64,
    ) -> Vec<Vec<f64>> {
        let mut w = start.map(f64::from);
        let mut path = Vec::new();
        for step in 1..=steps {
            for (i, w) in w.iter_mut().enumerate() {
                *w = rule(i, *w, 2.0 * *w - 1.0, step);
            }
            path.push(w.to_vec());
        }
        path
    }

    pub(super) fn assert_same(a: &[Vec<f64>], b: &[Vec<f64>], tolerance: f64) {
        assert_eq!(a.len(), b.len());
        for (step, (a, b)) in a.iter().zip(b).enumerate() {
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < tolerance), "step {step}: {a:?} {b:?}");
        }
    }
}
