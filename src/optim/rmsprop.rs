//! RMSprop (Tieleman and Hinton 2012), as `torch.optim.RMSprop`.

use super::{Operands, Optimizer, Slot, StepHyper, Updated, require};
use crate::error::Result;
use crate::shape::Shape;

/// RMSprop. eps is added outside the square root, as in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsProp {
    /// How much of the squares' running mean is kept.
    pub alpha: f64,
    pub eps: f64,
    pub momentum: f64,
    /// Divides by the standard deviation instead of the root mean square.
    pub centered: bool,
    /// Added to the gradient as `weight_decay * w`.
    pub weight_decay: f64,
}

impl Default for RmsProp {
    fn default() -> RmsProp {
        RmsProp::new()
    }
}

impl RmsProp {
    /// PyTorch's defaults: alpha 0.99, eps 1e-8, no momentum, not centered, no weight decay.
    pub fn new() -> RmsProp {
        RmsProp { alpha: 0.99, eps: 1e-8, momentum: 0.0, centered: false, weight_decay: 0.0 }
    }

    /// With momentum.
    pub fn momentum(self, momentum: f64) -> RmsProp {
        RmsProp { momentum, ..self }
    }

    /// Centered.
    pub fn centered(self) -> RmsProp {
        RmsProp { centered: true, ..self }
    }

    /// With weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> RmsProp {
        RmsProp { weight_decay, ..self }
    }
}

impl Optimizer for RmsProp {
    fn name(&self) -> &'static str {
        "rmsprop"
    }

    fn slots(&self, shape: &Shape) -> Vec<Slot> {
        let names: &[&'static str] = match (self.centered, self.momentum != 0.0) {
            (false, false) => &["square_avg"],
            (true, false) => &["square_avg", "grad_avg"],
            (false, true) => &["square_avg", "momentum"],
            (true, true) => &["square_avg", "grad_avg", "momentum"],
        };
        Slot::alike(names, shape)
    }

    fn scalars(&self) -> &'static [&'static str] {
        &["lr", "weight_decay"]
    }

    fn scalar_values(&self, at: StepHyper) -> Vec<f64> {
        vec![at.lr, at.weight_decay.unwrap_or(self.weight_decay)]
    }

    fn check(&self) -> Result<()> {
        require("rmsprop", "alpha", self.alpha, 0.0..1.0)?;
        require("rmsprop", "eps", self.eps, 0.0..f64::INFINITY)?;
        require("rmsprop", "momentum", self.momentum, 0.0..f64::INFINITY)?;
        require("rmsprop", "weight_decay", self.weight_decay, 0.0..f64::INFINITY)
    }

    fn update<'g>(&self, old: Operands<'g, '_>) -> Updated<'g> {
        let (lr, weight_decay) = (old.scalars[0], old.scalars[1]);
        let g = old.gradient + old.parameter * weight_decay;
        let square_avg = old.slots[0] * self.alpha + g * g * (1.0 - self.alpha);
        let mut slots = vec![square_avg];
        let mut variance = square_avg;
        if self.centered {
            let grad_avg = old.slots[1] * self.alpha + g * (1.0 - self.alpha);
            slots.push(grad_avg);
            // Rounding may take it below 0, where there is nothing to divide by but eps.
            variance = (square_avg - grad_avg * grad_avg).clamp_min(0.0);
        }
        let mut direction = g / (variance.sqrt() + self.eps);
        if self.momentum != 0.0 {
            direction = old.slots[slots.len()] * self.momentum + direction;
            slots.push(direction);
        }
        Updated { parameter: old.parameter - direction * lr, slots }
    }
}
