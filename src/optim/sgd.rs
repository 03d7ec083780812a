//! Stochastic gradient descent with momentum, as `torch.optim.SGD` with dampening 0.

use super::{Operands, Optimizer, StepHyper, Updated};

/// SGD. The velocity is `momentum * v + g`, without the learning rate in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    pub momentum: f64,
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
        Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// With momentum.
    pub fn momentum(self, momentum: f64) -> Sgd {
        Sgd { momentum, ..self }
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

    fn slots(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["velocity"] }
    }

    fn scalars(&self) -> &'static [&'static str] {
        &["lr", "weight_decay"]
    }

    fn scalar_values(&self, at: StepHyper) -> Vec<f64> {
        vec![at.lr, at.weight_decay.unwrap_or(self.weight_decay)]
    }

    fn update<'g>(&self, old: Operands<'g, '_>) -> Updated<'g> {
        let (lr, weight_decay) = (old.scalars[0], old.scalars[1]);
        let g = old.gradient + old.parameter * weight_decay;
        let Some(&velocity) = old.slots.first() else {
            return Updated { parameter: old.parameter - g * lr, slots: Vec::new() };
        };
        // PyTorch starts the velocity at the first gradient, which is what 0 gives here.
        let velocity = velocity * self.momentum + g;
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
            let rule = Sgd { momentum: 0.9, nesterov, weight_decay: 0.01 };
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
        assert!(Sgd::new().slots().is_empty());
        let expected = by_hand([2.0, -1.0], 3, |_, w, g, _| w - 0.1 * g);
        assert_same(&run(&Sgd::new(), 0.1, [2.0, -1.0], 3).unwrap(), &expected, 1e-6);
    }
}
