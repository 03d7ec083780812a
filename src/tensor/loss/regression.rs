//! Losses of predicted numbers.

use super::Reduction;
use crate::graph::Tensor;

impl<'g> Tensor<'g> {
    /// `(x - target)^2`; `torch.nn.functional.mse_loss`.
    #[track_caller]
    pub fn mse_loss(self, target: Tensor<'g>, reduction: Reduction) -> Tensor<'g> {
        reduction.of((self - target).square())
    }

    /// `|x - target|`; `torch.nn.functional.l1_loss`.
    #[track_caller]
    pub fn l1_loss(self, target: Tensor<'g>, reduction: Reduction) -> Tensor<'g> {
        reduction.of((self - target).abs())
    }

    /// With `d = |x - target|`: `d^2 / (2 beta)` below `beta`, `d - beta / 2` from there on;
    /// `torch.nn.functional.smooth_l1_loss`, whose default is 1.
    #[track_caller]
    pub fn smooth_l1_loss(self, target: Tensor<'g>, beta: f64, reduction: Reduction) -> Tensor<'g> {
        if beta.is_nan() || beta < 0.0 {
            self.graph().record_error("smooth_l1_loss", format!("beta must not be negative, got {beta}"));
            return self;
        }
        if beta == 0.0 {
            return self.l1_loss(target, reduction);
        }
        let d = self - target;
        let size = d.abs();
        reduction.of(size.lt(beta).select(d.square() * (0.5 / beta), size - 0.5 * beta))
    }

    /// With `d = |x - target|`: `d^2 / 2` up to `delta`, `delta (d - delta / 2)` beyond;
    /// `torch.nn.functional.huber_loss`, whose default is 1.
    #[track_caller]
    pub fn huber_loss(self, target: Tensor<'g>, delta: f64, reduction: Reduction) -> Tensor<'g> {
        if delta.is_nan() || delta <= 0.0 {
            self.graph().record_error("huber_loss", format!("delta must be above 0, got {delta}"));
            return self;
        }
        let d = self - target;
        let size = d.abs();
        reduction.of(size.le(delta).select(d.square() * 0.5, (size - 0.5 * delta) * delta))
    }

    /// Negative log-likelihood of `target` under a normal distribution with this mean and the variance `var`, which is
    /// raised to `eps`; with `full` the constant term is added. `var` has the mean's shape, or lacks its last axis or has
    /// it with size 1. `torch.nn.functional.gaussian_nll_loss`, whose defaults are `false` and 1e-6.
    #[track_caller]
    pub fn gaussian_nll_loss(
        self,
        target: Tensor<'g>,
        var: Tensor<'g>,
        full: bool,
        eps: f64,
        reduction: Reduction,
    ) -> Tensor<'g> {
        let (shape, given) = (self.shape(), var.shape());
        let lead = &shape[..shape.rank().saturating_sub(1)];
        let var = if shape.rank() > 0 && given[..] == *lead { var.unsqueeze(-1) } else { var };
        let one = given.rank() == shape.rank() && given.last() == Some(&1) && given[..lead.len()] == *lead;
        if given != shape && given[..] != *lead && !one {
            let message =
                format!("the variance must have the shape {shape} with or without its last axis, got {given}");
            self.graph().record_error("gaussian_nll_loss", message);
            return self;
        }
        let var = var.raised_to(eps);
        let losses = (var.log() + (self - target).square() / var) * 0.5;
        let constant = 0.5 * (2.0 * std::f64::consts::PI).ln();
        reduction.of(if full { losses + constant } else { losses })
    }

    /// Negative log-likelihood of counts `target` under a Poisson distribution whose rate is `exp(x)`, or `x` itself
    /// without `log_input` (then `log(x + eps)` is taken). With `full`, Stirling's approximation of the factorial is added
    /// for targets above 1. `torch.nn.functional.poisson_nll_loss`, whose defaults are `true`, `false` and 1e-8.
    #[track_caller]
    pub fn poisson_nll_loss(
        self,
        target: Tensor<'g>,
        log_input: bool,
        full: bool,
        eps: f64,
        reduction: Reduction,
    ) -> Tensor<'g> {
        let target = target.as_float();
        let losses = if log_input { self.exp() - target * self } else { self - target * (self + eps).log() };
        if !full {
            return reduction.of(losses);
        }
        let many = target.gt(1.0);
        let count = many.select(target, 1.0);
        let factorial = count * count.log() - count + (count * (2.0 * std::f64::consts::PI)).log() * 0.5;
        reduction.of(losses + many.select(factorial, 0.0))
    }
}
