//! Adam (Kingma and Ba 2015), as `torch.optim.Adam`: the weight decay is a part of the gradient.

use super::{Operands, Optimizer, Slot, StepHyper, Updated, check_adam, rounded};
use crate::error::Result;
use crate::shape::Shape;

/// Adam. For a decay beside the gradient see [`super::AdamW`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Added to the gradient as `weight_decay * w`.
    pub weight_decay: f64,
    /// Divides by the largest second moment so far (Reddi, Kale and Kumar 2018).
    pub amsgrad: bool,
}

impl Default for Adam {
    fn default() -> Adam {
        Adam::new()
    }
}

impl Adam {
    /// PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8, no weight decay.
    pub fn new() -> Adam {
        Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, amsgrad: false }
    }

    /// With other betas.
    pub fn betas(self, beta1: f64, beta2: f64) -> Adam {
        Adam { beta1, beta2, ..self }
    }

    /// With weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> Adam {
        Adam { weight_decay, ..self }
    }

    /// With the largest second moment so far.
    pub fn amsgrad(self) -> Adam {
        Adam { amsgrad: true, ..self }
    }
}

impl Optimizer for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn slots(&self, shape: &Shape) -> Vec<Slot> {
        Slot::alike(if self.amsgrad { &["m", "v", "v_max"] } else { &["m", "v"] }, shape)
    }

    fn scalars(&self) -> &'static [&'static str] {
        &["weight_decay", "step_size", "inverse_root_correction"]
    }

    fn scalar_values(&self, at: StepHyper) -> Vec<f64> {
        let [correction1, correction2] = at.bias_corrections(self.beta1, self.beta2);
        vec![at.weight_decay.unwrap_or(self.weight_decay), at.lr / correction1, 1.0 / correction2.sqrt()]
    }

    fn check(&self) -> Result<()> {
        check_adam("adam", [self.beta1, self.beta2], self.eps, self.weight_decay)
    }

    fn update<'g>(&self, old: Operands<'g, '_>) -> Updated<'g> {
        let (weight_decay, step_size, inverse_root_correction) = (old.scalars[0], old.scalars[1], old.scalars[2]);
        let g = old.gradient + old.parameter * weight_decay;
        let (beta1, beta2) = (rounded(self.beta1), rounded(self.beta2));
        let m = old.slots[0] * beta1 + g * (1.0 - beta1);
        let v = old.slots[1] * beta2 + g * g * (1.0 - beta2);
        let largest = old.slots.get(2).map(|&v_max| v_max.maximum(v));
        let denominator = largest.unwrap_or(v).sqrt() * inverse_root_correction + self.eps;
        let parameter = old.parameter - m * step_size / denominator;
        Updated { parameter, slots: [m, v].into_iter().chain(largest).collect() }
    }
}
