//! Lion (Chen et al. 2023, algorithm 2): the sign of an interpolated momentum.

use super::{Operands, Optimizer, Slot, StepHyper, Updated, require};
use crate::error::Result;
use crate::shape::Shape;

/// Lion. Its learning rate is usually three to ten times smaller than AdamW's, its weight decay as many times larger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lion {
    /// How much of the momentum is in the direction.
    pub beta1: f64,
    /// How much of the momentum is kept.
    pub beta2: f64,
    /// Beside the gradient, as in AdamW.
    pub weight_decay: f64,
}

impl Default for Lion {
    fn default() -> Lion {
        Lion::new()
    }
}

impl Lion {
    /// The paper's defaults: betas 0.9 and 0.99, no weight decay.
    pub fn new() -> Lion {
        Lion { beta1: 0.9, beta2: 0.99, weight_decay: 0.0 }
    }

    /// With other betas.
    pub fn betas(self, beta1: f64, beta2: f64) -> Lion {
        Lion { beta1, beta2, ..self }
    }

    /// With weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> Lion {
        Lion { weight_decay, ..self }
    }
}

impl Optimizer for Lion {
    fn name(&self) -> &'static str {
        "lion"
    }

    fn slots(&self, shape: &Shape) -> Vec<Slot> {
        Slot::alike(&["m"], shape)
    }

    fn scalars(&self) -> &'static [&'static str] {
        &["keep", "lr"]
    }

    fn scalar_values(&self, at: StepHyper) -> Vec<f64> {
        vec![1.0 - at.lr * at.weight_decay.unwrap_or(self.weight_decay), at.lr]
    }

    fn check(&self) -> Result<()> {
        require("lion", "beta1", self.beta1, 0.0..1.0)?;
        require("lion", "beta2", self.beta2, 0.0..1.0)?;
        require("lion", "weight_decay", self.weight_decay, 0.0..f64::INFINITY)
    }

    fn update<'g>(&self, old: Operands<'g, '_>) -> Updated<'g> {
        let (keep, lr, m, g) = (old.scalars[0], old.scalars[1], old.slots[0], old.gradient);
        let direction = (m * self.beta1 + g * (1.0 - self.beta1)).sign();
        let m = m * self.beta2 + g * (1.0 - self.beta2);
        Updated { parameter: old.parameter * keep - direction * lr, slots: vec![m] }
    }
}
