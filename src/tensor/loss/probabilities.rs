//! Losses of probabilities that are independent of each other, and of distributions.

use super::Reduction;
use crate::graph::Tensor;

/// The keyword arguments of `torch.nn.functional.binary_cross_entropy` and `.._with_logits`.
#[derive(Debug, Clone, Copy, Default)]
pub struct BceOptions<'g> {
    /// A factor for each loss; broadcasts.
    pub weight: Option<Tensor<'g>>,
    /// A factor for the losses of positive targets; broadcasts. With logits only.
    pub pos_weight: Option<Tensor<'g>>,
    pub reduction: Reduction,
}

/// Below this, `binary_cross_entropy` takes logarithms to be -100, as PyTorch does.
const SMALLEST: f64 = 1e-38;

impl<'g> Tensor<'g> {
    /// Binary cross-entropy of logits against targets from 0 to 1 of the same shape, stable on both sides;
    /// `torch.nn.functional.binary_cross_entropy_with_logits`.
    #[track_caller]
    pub fn binary_cross_entropy_with_logits(self, target: Tensor<'g>, options: &BceOptions<'g>) -> Tensor<'g> {
        if !self.same_shape("binary_cross_entropy_with_logits", target) {
            return self;
        }
        let target = target.as_float();
        let losses = match options.pos_weight {
            None => self.softplus() - self * target,
            Some(positive) => {
                let factor = target * (positive - 1.0) + 1.0;
                (1.0 - target) * self + factor * (-self).softplus()
            }
        };
        options.reduction.of(options.weight.map_or(losses, |weight| losses * weight))
    }

    /// Binary cross-entropy of probabilities against targets from 0 to 1 of the same shape. Logarithms are at least -100, and
    /// the gradient is that of PyTorch: its divisor `x (1 - x)` is at least 1e-12. `torch.nn.functional.binary_cross_entropy`.
    #[track_caller]
    pub fn binary_cross_entropy(self, target: Tensor<'g>, options: &BceOptions<'g>) -> Tensor<'g> {
        if !self.same_shape("binary_cross_entropy", target) {
            return self;
        }
        if options.pos_weight.is_some() {
            let message = "has no `pos_weight`: that belongs to `binary_cross_entropy_with_logits`";
            self.graph().record_error("binary_cross_entropy", message.into());
            return self;
        }
        let (x, target) = (self.stop_gradient(), target.as_float());
        let (some, rest) = (x.gt(SMALLEST), x.lt(1.0));
        let log_x = some.select(some.select(x, 1.0).log(), -100.0);
        let log_rest = rest.select((-rest.select(x, 0.0)).log1p(), -100.0);
        let value = -(target * log_x + (1.0 - target) * log_rest);
        // 0 in value: it carries the gradient alone.
        let slope = ((x - target) / (x * (1.0 - x)).maximum(1e-12)).stop_gradient();
        let losses = value + slope * (self - x);
        options.reduction.of(options.weight.map_or(losses, |weight| losses * weight))
    }

    /// `log(1 + exp(-target x))` for targets -1 and 1; `torch.nn.functional.soft_margin_loss`.
    #[track_caller]
    pub fn soft_margin_loss(self, target: Tensor<'g>, reduction: Reduction) -> Tensor<'g> {
        reduction.of((-(target.as_float() * self)).softplus())
    }

    /// Binary cross-entropy of logits `[.., classes]` averaged over the classes, with a factor for each class;
    /// `torch.nn.functional.multilabel_soft_margin_loss`.
    #[track_caller]
    pub fn multilabel_soft_margin_loss(
        self,
        target: Tensor<'g>,
        weight: Option<Tensor<'g>>,
        reduction: Reduction,
    ) -> Tensor<'g> {
        let options = BceOptions { weight, pos_weight: None, reduction: Reduction::None };
        reduction.of(self.binary_cross_entropy_with_logits(target, &options).mean(&[-1]))
    }

    /// Binary cross-entropy of logits in which what is already right counts little (Lin et al. 2017):
    /// `alpha_t (1 - p_t)^gamma` times it, with `p_t` the probability of the target and `alpha_t` `alpha` for positive targets
    /// and `1 - alpha` for others (1 without `alpha`). `torchvision.ops.sigmoid_focal_loss`, whose defaults are 0.25, 2 and no
    /// reduction.
    #[track_caller]
    pub fn sigmoid_focal_loss(
        self,
        target: Tensor<'g>,
        alpha: Option<f64>,
        gamma: f64,
        reduction: Reduction,
    ) -> Tensor<'g> {
        if let Some(alpha) = alpha.filter(|alpha| !(0.0..=1.0).contains(alpha)) {
            self.graph().record_error("sigmoid_focal_loss", format!("alpha must lie in 0..=1, got {alpha}"));
            return self;
        }
        let target = target.as_float();
        let plain = BceOptions { reduction: Reduction::None, ..Default::default() };
        let wrong = target * (-self).sigmoid() + (1.0 - target) * self.sigmoid();
        let losses = self.binary_cross_entropy_with_logits(target, &plain) * wrong.powf(gamma);
        let share = |alpha: f64| target * alpha + (1.0 - target) * (1.0 - alpha);
        reduction.of(alpha.map_or(losses, |alpha| losses * share(alpha)))
    }

    /// Dice loss of probabilities against targets from 0 to 1 of the same shape: `1 - (2 sum(x t) + smooth) / (sum(x) + sum(t)
    /// + smooth)`, summed over `axes` (for `[n, classes, height, width]` usually 2 and 3); Milletari et al. 2016 without the squares.
    #[track_caller]
    pub fn dice_loss(self, target: Tensor<'g>, axes: &[isize], smooth: f64, reduction: Reduction) -> Tensor<'g> {
        if !self.same_shape("dice_loss", target) {
            return self;
        }
        let target = target.as_float();
        let common = (self * target).sum(axes) * 2.0 + smooth;
        let total = self.sum(axes) + target.sum(axes) + smooth;
        reduction.of(1.0 - common / total)
    }

    /// Kullback-Leibler divergence from log-probabilities to `target`: `target (log(target) - x)`, of probabilities, or of their
    /// logarithms with `log_target`. `torch.nn.functional.kl_div`; [`Reduction::BatchMean`] is the mathematical definition.
    #[track_caller]
    pub fn kl_div(self, target: Tensor<'g>, log_target: bool, reduction: Reduction) -> Tensor<'g> {
        let losses = if log_target { target.exp() * (target - self) } else { target.xlogy(target) - target * self };
        reduction.of(losses)
    }
}
