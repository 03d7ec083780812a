//! Muon (Jordan et al. 2024), as `torch.optim.Muon`: a matrix's momentum is made orthogonal by Newton-Schulz iterations
//! before it is a step. For the matrices of hidden layers; what is no matrix, and embeddings, want another rule.

use super::{Operands, Optimizer, Slot, StepHyper, Updated, require, rounded};
use crate::error::{Error, Result};
use crate::graph::{Op, Tensor};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// Muon. The iterations are computed in f32, where PyTorch's are in bf16.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Muon {
    /// How much of the gradients' running mean is kept.
    pub momentum: f64,
    pub nesterov: bool,
    /// Beside the gradient, as in AdamW.
    pub weight_decay: f64,
    /// `a`, `b` and `c` of `a X + (b X X' + c (X X')^2) X`.
    pub ns_coefficients: [f64; 3],
    /// What the matrix is divided by at least before the iterations.
    pub eps: f64,
    /// Iterations.
    pub ns_steps: usize,
    pub adjust_lr: AdjustLr,
}

/// What the learning rate is multiplied by, so that steps suit a matrix of `a` rows and `b` columns.
/// The names in configurations are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdjustLr {
    /// `sqrt(max(1, a / b))`: Jordan's.
    Original,
    /// `0.2 sqrt(max(a, b))`: steps have the root mean square of AdamW's, whose learning rate may be used
    /// (Liu et al. 2025, Moonlight).
    #[serde(rename = "match_rms_adamw")]
    MatchRmsAdamW,
    /// `sqrt(a / b)` (Bernstein 2025).
    SpectralUnclamped,
}

impl AdjustLr {
    fn factor(self, rows: usize, columns: usize) -> f64 {
        let (a, b) = (rows as f64, columns.max(1) as f64);
        match self {
            AdjustLr::Original => (a / b).max(1.0).sqrt(),
            AdjustLr::MatchRmsAdamW => 0.2 * a.max(b).sqrt(),
            AdjustLr::SpectralUnclamped => (a / b).sqrt(),
        }
    }
}

impl Default for Muon {
    fn default() -> Muon {
        Muon::new()
    }
}

impl Muon {
    /// PyTorch's defaults: momentum 0.95 in Nesterov's form, weight decay 0.1, five iterations. Its learning rate is 1e-3.
    pub fn new() -> Muon {
        Muon {
            momentum: 0.95,
            nesterov: true,
            weight_decay: 0.1,
            ns_coefficients: [3.4445, -4.7750, 2.0315],
            eps: 1e-7,
            ns_steps: 5,
            adjust_lr: AdjustLr::Original,
        }
    }

    /// With another momentum.
    pub fn momentum(self, momentum: f64) -> Muon {
        Muon { momentum, ..self }
    }

    /// With another weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> Muon {
        Muon { weight_decay, ..self }
    }

    /// With another adjustment of the learning rate.
    pub fn adjust_lr(self, adjust_lr: AdjustLr) -> Muon {
        Muon { adjust_lr, ..self }
    }

    /// Nearly the nearest orthogonal matrix: singular values between about 0.7 and 1.2.
    fn orthogonal<'g>(&self, matrix: Tensor<'g>) -> Tensor<'g> {
        let [a, b, c] = self.ns_coefficients;
        let norm = matrix.apply(Op::SumSquares { each: false }, &[]).sqrt().clamp_min(self.eps);
        let shape = matrix.shape();
        let tall = shape[0] > shape[1];
        let mut x = matrix / norm;
        if tall {
            x = x.t();
        }
        for _ in 0..self.ns_steps {
            let gram = x.matmul(x.t());
            let polynomial = gram * b + gram.matmul(gram) * c;
            x = x * a + polynomial.matmul(x);
        }
        if tall { x.t() } else { x }
    }
}

impl Optimizer for Muon {
    fn name(&self) -> &'static str {
        "muon"
    }

    fn slots(&self, shape: &Shape) -> Vec<Slot> {
        Slot::alike(&["momentum"], shape)
    }

    fn scalars(&self) -> &'static [&'static str] {
        &["lr", "keep"]
    }

    fn scalar_values(&self, at: StepHyper) -> Vec<f64> {
        vec![at.lr, 1.0 - at.lr * at.weight_decay.unwrap_or(self.weight_decay)]
    }

    fn check(&self) -> Result<()> {
        require("muon", "momentum", self.momentum, 0.0..1.0)?;
        require("muon", "weight_decay", self.weight_decay, 0.0..f64::INFINITY)?;
        require("muon", "eps", self.eps, 0.0..f64::INFINITY)?;
        if self.ns_steps >= 100 || self.ns_coefficients.iter().any(|x| !x.is_finite()) {
            return Err(Error::config(
                "muon: fewer than 100 iterations, with finite coefficients, are possible".into(),
            ));
        }
        Ok(())
    }

    fn refuses(&self, shape: &Shape) -> Option<&'static str> {
        (shape.rank() != 2 || shape.numel() == 0).then_some("it makes matrices orthogonal, and this is none")
    }

    fn update<'g>(&self, old: Operands<'g, '_>) -> Updated<'g> {
        let (lr, keep, g) = (old.scalars[0], old.scalars[1], old.gradient);
        let kept = rounded(self.momentum);
        let mean = old.slots[0] * kept + g * (1.0 - kept);
        let direction = if self.nesterov { g * (1.0 - kept) + mean * kept } else { mean };
        let shape = old.parameter.shape();
        let factor = self.adjust_lr.factor(shape[0], shape[1]);
        Updated { parameter: old.parameter * keep - self.orthogonal(direction) * (lr * factor), slots: vec![mean] }
    }
}
