//! Stochastic gradient descent with momentum, as `torch.optim.SGD`.

use super::{Operands, Optimizer, Slot, StepHyper, Updated, require};
use crate::error::{Error, Result};
use crate::shape::Shape;

/// SGD. The velocity is `momentum * v + (1 - dampening) * g`, without the learning rate in it; it begins with the first
/// gradient, which is not dampened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    pub momentum: f64,
    pub dampening: f64,
    pub nesterov: bool,
    /// Added to the gradient as `weight_decay * w`.
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Sgd {
        Sgd::new()
    }
}

impl Sgd {
    /// Plain gradient descent.
    pub fn new() -> Sgd {
        Sgd { momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// With momentum.
    pub fn momentum(self, momentum: f64) -> Sgd {
        Sgd { momentum, ..self }
    }

    /// With gradients that enter the velocity by `1 - dampening`.
    pub fn dampening(self, dampening: f64) -> Sgd {
        Sgd { dampening, ..self }
    }

    /// With Nesterov's momentum.
    pub fn nesterov(self, momentum: f64) -> Sgd {
        Sgd { momentum, nesterov: true, ..self }
    }

    /// With weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> Sgd {
        Sgd { weight_decay, ..self }
    }
}

impl Optimizer for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn slots(&self, shape: &Shape) -> Vec<Slot> {
        Slot::alike(if self.momentum == 0.0 { &[] } else { &["velocity"] }, shape)
    }

    fn scalars(&self) -> &'static [&'static str] {
        if self.dampening == 0.0 { &["lr", "weight_decay"] } else { &["lr", "weight_decay", "share"] }
    }

    fn scalar_values(&self, at: StepHyper) -> Vec<f64> {
        let mut values = vec![at.lr, at.weight_decay.unwrap_or(self.weight_decay)];
        if self.dampening != 0.0 {
            values.push(if at.step <= 1 { 1.0 } else { 1.0 - self.dampening });
        }
        values
    }

    fn check(&self) -> Result<()> {
        require("sgd", "momentum", self.momentum, 0.0..f64::INFINITY)?;
        require("sgd", "dampening", self.dampening, 0.0..f64::INFINITY)?;
        require("sgd", "weight_decay", self.weight_decay, 0.0..f64::INFINITY)?;
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            let message = "sgd: nesterov needs a momentum above 0 and a dampening of 0";
            return Err(Error::config(message.into()));
        }
        Ok(())
    }

    fn update<'g>(&self, old: Operands<'g, '_>) -> Updated<'g> {
        let (lr, weight_decay) = (old.scalars[0], old.scalars[1]);
        let g = old.gradient + old.parameter * weight_decay;
        let Some(&velocity) = old.slots.first() else {
            return Updated { parameter: old.parameter - g * lr, slots: Vec::new() };
        };
        // PyTorch starts the velocity at the first gradient, which is what 0 gives here.
        let velocity = velocity * self.momentum + old.scalars.get(2).map_or(g, |&share| g * share);
        let direction = if self.nesterov { g + velocity * self.momentum } else { velocity };
        Updated { parameter: old.parameter - direction * lr, slots: vec![velocity] }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_same, by_hand, run};
    use super::*;

    #[test]
    fn momentum_is_pytorchs_formula() {
        for nesterov in [false, true] {
            let rule = Sgd { momentum: 0.9, nesterov, weight_decay: 0.01, ..Sgd::new() };
            let mut v = [0.0; 2];
            let expected = by_hand([2.0, -1.0], 4, |i, w, g, step| {
                let g = g + 0.01 * w;
                v[i] = if step == 1 { g } else { 0.9 * v[i] + g };
                w - 0.1 * if nesterov { g + 0.9 * v[i] } else { v[i] }
            });
            assert_same(&run(&rule, 0.1, [2.0, -1.0], 4).unwrap(), &expected, 1e-6);
        }
    }

    #[test]
    fn without_momentum_nothing_is_remembered() {
        assert!(Sgd::new().slots(&[2].into()).is_empty());
        let expected = by_hand([2.0, -1.0], 3, |_, w, g, _| w - 0.1 * g);
        assert_same(&run(&Sgd::new(), 0.1, [2.0, -1.0], 3).unwrap(), &expected, 1e-6);
    }

    #[test]
    fn options_that_cannot_be_meant_are_refused() {
        assert!(Sgd::new().nesterov(0.9).check().is_ok());
        for wrong in [Sgd::new().nesterov(0.0), Sgd::new().nesterov(0.9).dampening(0.1), Sgd::new().momentum(-0.1)] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        let message = Sgd::new().momentum(f64::NAN).check().unwrap_err().to_string();
        assert!(message.contains("sgd: momentum = NaN"), "{message}");
    }
}
