//! Adagrad (Duchi, Hazan and Singer 2011) and Adadelta (Zeiler 2012), as `torch.optim.Adagrad` and `Adadelta`.

use super::{Operands, Optimizer, Slot, StepHyper, Updated, require};
use crate::error::Result;
use crate::shape::Shape;

/// Adagrad: divides by the root of the sum of all squares so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adagrad {
    /// The rate of update `t`, counted from 1, is `lr / (1 + (t - 1) lr_decay)`.
    pub lr_decay: f64,
    /// Added to the gradient as `weight_decay * w`.
    pub weight_decay: f64,
    /// What the sums start with.
    pub initial_accumulator_value: f64,
    pub eps: f64,
}

impl Default for Adagrad {
    fn default() -> Adagrad {
        Adagrad::new()
    }
}

impl Adagrad {
    /// PyTorch's defaults: no decay, sums from 0, eps 1e-10.
    pub fn new() -> Adagrad {
        Adagrad { lr_decay: 0.0, weight_decay: 0.0, initial_accumulator_value: 0.0, eps: 1e-10 }
    }

    /// With weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> Adagrad {
        Adagrad { weight_decay, ..self }
    }
}

impl Optimizer for Adagrad {
    fn name(&self) -> &'static str {
        "adagrad"
    }

    fn slots(&self, shape: &Shape) -> Vec<Slot> {
        Slot::alike(&["sum"], shape)
    }

    fn scalars(&self) -> &'static [&'static str] {
        &["lr", "weight_decay"]
    }

    fn scalar_values(&self, at: StepHyper) -> Vec<f64> {
        let lr = at.lr / (1.0 + at.step.saturating_sub(1) as f64 * self.lr_decay);
        vec![lr, at.weight_decay.unwrap_or(self.weight_decay)]
    }

    fn check(&self) -> Result<()> {
        require("adagrad", "lr_decay", self.lr_decay, 0.0..f64::INFINITY)?;
        require("adagrad", "weight_decay", self.weight_decay, 0.0..f64::INFINITY)?;
        require("adagrad", "initial_accumulator_value", self.initial_accumulator_value, 0.0..f64::INFINITY)?;
        require("adagrad", "eps", self.eps, 0.0..f64::INFINITY)
    }

    fn update<'g>(&self, old: Operands<'g, '_>) -> Updated<'g> {
        let (lr, weight_decay) = (old.scalars[0], old.scalars[1]);
        let g = old.gradient + old.parameter * weight_decay;
        // Slots start at 0, so the first value stands beside the sum.
        let sum = old.slots[0] + g * g;
        let all = if self.initial_accumulator_value == 0.0 { sum } else { sum + self.initial_accumulator_value };
        Updated { parameter: old.parameter - g * lr / (all.sqrt() + self.eps), slots: vec![sum] }
    }
}

/// Adadelta: steps as large as earlier ones, whatever the gradient's unit. Its usual learning rate is 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adadelta {
    /// How much of the running means is kept.
    pub rho: f64,
    pub eps: f64,
    /// Added to the gradient as `weight_decay * w`.
    pub weight_decay: f64,
}

impl Default for Adadelta {
    fn default() -> Adadelta {
        Adadelta::new()
    }
}

impl Adadelta {
    /// PyTorch's defaults: rho 0.9, eps 1e-6, no weight decay.
    pub fn new() -> Adadelta {
        Adadelta { rho: 0.9, eps: 1e-6, weight_decay: 0.0 }
    }
}

impl Optimizer for Adadelta {
    fn name(&self) -> &'static str {
        "adadelta"
    }

    fn slots(&self, shape: &Shape) -> Vec<Slot> {
        Slot::alike(&["square_avg", "acc_delta"], shape)
    }

    fn scalars(&self) -> &'static [&'static str] {
        &["lr", "weight_decay"]
    }

    fn scalar_values(&self, at: StepHyper) -> Vec<f64> {
        vec![at.lr, at.weight_decay.unwrap_or(self.weight_decay)]
    }

    fn check(&self) -> Result<()> {
        require("adadelta", "rho", self.rho, 0.0..1.0)?;
        require("adadelta", "eps", self.eps, 0.0..f64::INFINITY)?;
        require("adadelta", "weight_decay", self.weight_decay, 0.0..f64::INFINITY)
    }

    fn update<'g>(&self, old: Operands<'g, '_>) -> Updated<'g> {
        let (lr, weight_decay) = (old.scalars[0], old.scalars[1]);
        let g = old.gradient + old.parameter * weight_decay;
        let square_avg = old.slots[0] * self.rho + g * g * (1.0 - self.rho);
        let delta = g * ((old.slots[1] + self.eps).sqrt() / (square_avg + self.eps).sqrt());
        let acc_delta = old.slots[1] * self.rho + delta * delta * (1.0 - self.rho);
        Updated { parameter: old.parameter - delta * lr, slots: vec![square_avg, acc_delta] }
    }
}
