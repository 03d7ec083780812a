//! AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019), as `torch.optim.AdamW`.

use super::{Operands, Optimizer, Slot, StepHyper, Updated, check_adam, rounded};
use crate::error::Result;
use crate::shape::Shape;

/// AdamW. The decay comes before the update, eps is added outside the square root.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Divides by the largest second moment so far (Reddi, Kale and Kumar 2018).
    pub amsgrad: bool,
}

impl Default for AdamW {
    fn default() -> AdamW {
        AdamW::new()
    }
}

impl AdamW {
    /// PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8, weight decay 0.01.
    pub fn new() -> AdamW {
        AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, amsgrad: false }
    }

    /// With another weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> AdamW {
        AdamW { weight_decay, ..self }
    }

    /// With other betas.
    pub fn betas(self, beta1: f64, beta2: f64) -> AdamW {
        AdamW { beta1, beta2, ..self }
    }

    /// With the largest second moment so far.
    pub fn amsgrad(self) -> AdamW {
        AdamW { amsgrad: true, ..self }
    }
}

impl Optimizer for AdamW {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn slots(&self, shape: &Shape) -> Vec<Slot> {
        Slot::alike(if self.amsgrad { &["m", "v", "v_max"] } else { &["m", "v"] }, shape)
    }

    fn scalars(&self) -> &'static [&'static str] {
        &["keep", "step_size", "inverse_root_correction"]
    }

    fn scalar_values(&self, at: StepHyper) -> Vec<f64> {
        let weight_decay = at.weight_decay.unwrap_or(self.weight_decay);
        let [correction1, correction2] = at.bias_corrections(self.beta1, self.beta2);
        vec![1.0 - at.lr * weight_decay, at.lr / correction1, 1.0 / correction2.sqrt()]
    }

    fn check(&self) -> Result<()> {
        check_adam("adamw", [self.beta1, self.beta2], self.eps, self.weight_decay)
    }

    fn update<'g>(&self, old: Operands<'g, '_>) -> Updated<'g> {
        let (g, m, v) = (old.gradient, old.slots[0], old.slots[1]);
        let (keep, step_size, inverse_root_correction) = (old.scalars[0], old.scalars[1], old.scalars[2]);
        let (beta1, beta2) = (rounded(self.beta1), rounded(self.beta2));
        let m = m * beta1 + g * (1.0 - beta1);
        let v = v * beta2 + g * g * (1.0 - beta2);
        let largest = old.slots.get(2).map(|&v_max| v_max.maximum(v));
        let denominator = largest.unwrap_or(v).sqrt() * inverse_root_correction + self.eps;
        let parameter = old.parameter * keep - m * step_size / denominator;
        Updated { parameter, slots: [m, v].into_iter().chain(largest).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_same, by_hand, run};
    use super::*;

    #[test]
    fn it_is_pytorchs_formula() {
        let rule = AdamW::new().weight_decay(0.1);
        let (mut m, mut v, lr) = ([0.0; 2], [0.0; 2], 0.05);
        let expected = by_hand([2.0, -1.0], 5, |i, w, g, step| {
            let w = w - lr * 0.1 * w;
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            let (c1, c2) = (1.0 - 0.9f64.powi(step as i32), 1.0 - 0.999f64.powi(step as i32));
            w - lr / c1 * m[i] / ((v[i] / c2).sqrt() + 1e-8)
        });
        assert_same(&run(&rule, lr, [2.0, -1.0], 5).unwrap(), &expected, 1e-6);
    }

    #[test]
    fn a_group_may_have_its_own_decay() {
        let at = StepHyper { step: 1, lr: 0.5, weight_decay: Some(0.0) };
        assert_eq!(AdamW::new().scalar_values(at)[0], 1.0);
        assert_eq!(AdamW::new().scalar_values(StepHyper { weight_decay: None, ..at })[0], 1.0 - 0.5 * 0.01);
    }
}
