//! Adafactor (Shazeer and Stern 2018), as `torch.optim.Adafactor`: of a matrix's second moments only the means of its
//! rows and columns are remembered, and steps are as large as the parameter is.

use super::{Operands, Optimizer, Slot, StepHyper, Updated, require};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{Op, Tensor};
use crate::shape::Shape;

/// Adafactor. Its learning rate is an upper bound: step `t` uses at most `1 / sqrt(t)`, relative to the parameter's
/// root mean square.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adafactor {
    /// Step `t` averages with `1 - beta2 = t^beta2_decay`; below 0.
    pub beta2_decay: f64,
    /// What second moments are at least, by its square; the mean of the rows' by itself.
    pub eps1: f64,
    /// What the parameter's root mean square counts at least.
    pub eps2: f64,
    /// The root mean square that an update has at most, before the learning rate.
    pub d: f64,
    /// Beside the gradient, as in AdamW.
    pub weight_decay: f64,
}

impl Default for Adafactor {
    fn default() -> Adafactor {
        Adafactor::new()
    }
}

impl Adafactor {
    /// PyTorch's defaults: a beta2 decay of -0.8, eps of 2^-23 and 1e-3, d 1, no weight decay. Its learning rate is 1e-2.
    pub fn new() -> Adafactor {
        Adafactor { beta2_decay: -0.8, eps1: f64::from(f32::EPSILON), eps2: 1e-3, d: 1.0, weight_decay: 0.0 }
    }

    /// With weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> Adafactor {
        Adafactor { weight_decay, ..self }
    }

    /// The estimate of the second moments, and the new slots.
    fn second_moments<'g>(&self, old: &Operands<'g, '_>) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let (g, share) = (old.gradient, old.scalars[0]);
        let lerp = |old: Tensor<'g>, new: Tensor<'g>| old + (new - old) * share;
        let rank = g.rank() as isize;
        if rank < 2 {
            let variance = lerp(old.slots[0], g * g);
            return (variance, vec![variance]);
        }
        let mean = |x: Tensor<'g>, axis: isize| {
            let size = x.shape()[(rank + axis) as usize] as f64;
            (x.sum(&[axis]) / size).unsqueeze(axis)
        };
        let squares = g * g;
        let rows = lerp(old.slots[0], mean(squares, -1));
        let columns = lerp(old.slots[1], mean(squares, -2));
        let all = mean(rows, -2).clamp_min(self.eps1);
        (rows * columns / all, vec![rows, columns])
    }
}

/// The root of the mean square of all elements.
fn root_mean_square(x: Tensor<'_>) -> Tensor<'_> {
    (x.apply(Op::SumSquares { each: false }, &[]) / x.shape().numel().max(1) as f64).sqrt()
}

impl Optimizer for Adafactor {
    fn name(&self) -> &'static str {
        "adafactor"
    }

    fn slots(&self, shape: &Shape) -> Vec<Slot> {
        let rank = shape.rank();
        if rank < 2 {
            return Slot::alike(&["variance"], shape);
        }
        let without = |axis: usize| {
            let mut sizes = shape.to_vec();
            sizes[axis] = 1;
            Shape::from(sizes)
        };
        let means = [("row_var", without(rank - 1)), ("col_var", without(rank - 2))];
        means.into_iter().map(|(name, shape)| Slot::new(name, shape, DType::F32)).collect()
    }

    fn scalars(&self) -> &'static [&'static str] {
        &["share", "rho", "keep"]
    }

    fn scalar_values(&self, at: StepHyper) -> Vec<f64> {
        let step = at.step.max(1) as f64;
        let weight_decay = at.weight_decay.unwrap_or(self.weight_decay);
        vec![step.powf(self.beta2_decay), at.lr.min(1.0 / step.sqrt()), 1.0 - at.lr * weight_decay]
    }

    fn check(&self) -> Result<()> {
        if self.beta2_decay.partial_cmp(&0.0) == Some(std::cmp::Ordering::Greater) || !self.beta2_decay.is_finite() {
            let decay = self.beta2_decay;
            return Err(Error::config(format!("adafactor: beta2_decay = {decay} must be a number of at most 0")));
        }
        require("adafactor", "eps1", self.eps1, 0.0..f64::INFINITY)?;
        require("adafactor", "eps2", self.eps2, 0.0..f64::INFINITY)?;
        require("adafactor", "d", self.d, 1.0..f64::INFINITY)?;
        require("adafactor", "weight_decay", self.weight_decay, 0.0..f64::INFINITY)
    }

    fn update<'g>(&self, old: Operands<'g, '_>) -> Updated<'g> {
        let (rho, keep) = (old.scalars[1], old.scalars[2]);
        let step = root_mean_square(old.parameter).clamp_min(self.eps2) * rho;
        let (variance, slots) = self.second_moments(&old);
        let update = old.gradient * variance.clamp_min(self.eps1 * self.eps1).rsqrt();
        let excess = (root_mean_square(update) / self.d).clamp_min(1.0);
        Updated { parameter: old.parameter * keep - update * (step / excess), slots }
    }
}
