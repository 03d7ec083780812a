//! Losses of one class out of several: cross-entropy with its options, and the likelihood it is made of.

use super::Reduction;
use crate::dtype::DType;
use crate::graph::{MacroOp, Op, Tensor};
use crate::shape::Shape;

/// The keyword arguments of `torch.nn.functional.cross_entropy`, with its defaults.
#[derive(Debug, Clone, Copy)]
pub struct CrossEntropyOptions<'g> {
    /// One factor for each class, `[classes]`.
    pub weight: Option<Tensor<'g>>,
    /// A target that counts for nothing; -100.
    pub ignore_index: i32,
    /// Share of the target that goes to all classes alike, 0 to 1.
    pub label_smoothing: f64,
    /// How rows become the result. The mean divides by the weights of the targets that count.
    pub reduction: Reduction,
}

impl Default for CrossEntropyOptions<'_> {
    fn default() -> Self {
        CrossEntropyOptions { weight: None, ignore_index: -100, label_smoothing: 0.0, reduction: Reduction::Mean }
    }
}

impl<'g> Tensor<'g> {
    /// Cross-entropy of logits `[n, classes, d1, ..]` or `[classes]`, as `torch.nn.functional.cross_entropy`: the classes lie
    /// along axis 1 (unlike in [`Tensor::cross_entropy`], where they come last). Targets are classes (i32, the logits' shape
    /// without that axis) or probabilities (floats, of the logits' shape; these cannot be ignored). Where nothing counts, the
    /// mean is 0 (NaN in PyTorch), and a target that is no class counts with loss 0.
    #[track_caller]
    pub fn cross_entropy_with(self, target: Tensor<'g>, options: &CrossEntropyOptions<'g>) -> Tensor<'g> {
        let op = "cross_entropy";
        let Some((logits, classes)) = self.classes_last(op) else { return self };
        let Some(weight) = self.class_weight(op, classes, options.weight) else { return self };
        let smoothing = options.label_smoothing;
        if !(0.0..=1.0).contains(&smoothing) {
            self.graph().record_error(op, format!("the label smoothing must lie in 0..=1, got {smoothing}"));
            return self;
        }
        if target.dtype().is_float() {
            return self.soft_cross_entropy(target, options);
        }
        if !self.is_class_target(op, target) {
            return self;
        }
        let kept = target.ne(f64::from(options.ignore_index));
        // Outside every class, so that kernels leave the row out whatever is ignored.
        let target = kept.select(target, -1.0);
        let share = weight.map_or(kept.cast(DType::F32), |weight| weight.gather(target));
        if smoothing == 0.0 {
            let rows = target.shape().numel();
            let flat = logits.reshape([rows, classes]);
            let losses = flat.apply(Op::Macro(MacroOp::CrossEntropy), &[target.reshape([rows])]);
            let losses = losses.reshape(target.shape());
            let losses = if weight.is_some() { losses * share } else { losses };
            return weighted(losses, share, options.reduction);
        }
        let log_p = logits.log_softmax(-1);
        let chosen = log_p.at_class(target) * share;
        let all = weight.map_or(log_p, |weight| log_p * weight).sum(&[-1]);
        let all = kept.select(all, 0.0);
        let losses = chosen * (smoothing - 1.0) - all * (smoothing / classes.max(1) as f64);
        weighted(losses, share, options.reduction)
    }

    /// Against probabilities `[n, classes, ..]`.
    #[track_caller]
    fn soft_cross_entropy(self, target: Tensor<'g>, options: &CrossEntropyOptions<'g>) -> Tensor<'g> {
        if !self.same_shape("cross_entropy", target) {
            return self;
        }
        if options.ignore_index >= 0 {
            let message = "targets that are probabilities cannot be ignored; leave `ignore_index` at -100";
            self.graph().record_error("cross_entropy", message.into());
            return self;
        }
        let axis = if self.rank() == 1 { 0 } else { 1 };
        let (smoothing, classes) = (options.label_smoothing, self.shape()[axis]);
        let smooth = target * (1.0 - smoothing) + smoothing / classes.max(1) as f64;
        let target = if smoothing > 0.0 { smooth } else { target };
        let last = |x: Tensor<'g>| x.movedim(axis as isize, -1);
        let share = options.weight.map_or(last(target), |weight| last(target) * weight);
        options.reduction.of(-(last(self).log_softmax(-1) * share).sum(&[-1]))
    }

    /// The negative of the target's entry in log-probabilities `[n, classes, d1, ..]` or `[classes]`, as
    /// `torch.nn.functional.nll_loss`. Targets are classes; `label_smoothing` is not used.
    #[track_caller]
    pub fn nll_loss(self, target: Tensor<'g>, options: &CrossEntropyOptions<'g>) -> Tensor<'g> {
        let Some((log_p, classes)) = self.classes_last("nll_loss") else { return self };
        let Some(weight) = self.class_weight("nll_loss", classes, options.weight) else { return self };
        if !self.is_class_target("nll_loss", target) {
            return self;
        }
        let kept = target.ne(f64::from(options.ignore_index));
        let target = kept.select(target, -1.0);
        let share = weight.map_or(kept.cast(DType::F32), |weight| weight.gather(target));
        weighted(-log_p.at_class(target) * share, share, options.reduction)
    }

    /// `max(0, margin - x[target] + x[i])^p` summed over the other classes `i` and divided by their number, for scores
    /// `[n, classes]` or `[classes]`; `p` is 1 or 2. `torch.nn.functional.multi_margin_loss`, whose defaults are 1 and 1.
    #[track_caller]
    pub fn multi_margin_loss(
        self,
        target: Tensor<'g>,
        p: u32,
        margin: f64,
        weight: Option<Tensor<'g>>,
        reduction: Reduction,
    ) -> Tensor<'g> {
        let op = "multi_margin_loss";
        if self.rank() > 2 || !(1..=2).contains(&p) {
            let message = format!("takes scores [n, classes] and p 1 or 2, got {} and p {p}", self.shape());
            self.graph().record_error(op, message);
            return self;
        }
        let Some((scores, classes)) = self.classes_last(op) else { return self };
        let Some(weight) = self.class_weight(op, classes, weight) else { return self };
        if !self.is_class_target(op, target) {
            return self;
        }
        let excess = (scores - scores.at_class(target).unsqueeze(-1) + margin).relu();
        let excess = if p == 2 { excess.square() } else { excess };
        let losses = scores.is_class(target).select(0.0, excess).sum(&[-1]) / classes.max(1) as f64;
        reduction.of(weight.map_or(losses, |weight| losses * weight.gather(target)))
    }

    // ---- helpers

    /// This tensor with its class axis (1, or 0 of a vector) moved to the end, and the number of classes.
    #[track_caller]
    fn classes_last(self, op: &str) -> Option<(Tensor<'g>, usize)> {
        if self.rank() == 0 || !self.dtype().is_float() {
            let message = format!("takes floats [n, classes, ..] or [classes], got {} {}", self.dtype(), self.shape());
            self.graph().record_error(op, message);
            return None;
        }
        let axis = if self.rank() == 1 { 0 } else { 1 };
        Some((self.movedim(axis, -1), self.shape()[axis as usize]))
    }

    /// The weights if they fit; `None` if they do not.
    #[track_caller]
    fn class_weight(self, op: &str, classes: usize, weight: Option<Tensor<'g>>) -> Option<Option<Tensor<'g>>> {
        match weight.map(|weight| weight.shape()) {
            Some(shape) if shape[..] != [classes] => {
                self.graph().record_error(op, format!("needs a weight for each of {classes} classes, got {shape}"));
                None
            }
            _ => Some(weight),
        }
    }

    #[track_caller]
    fn is_class_target(self, op: &str, target: Tensor<'g>) -> bool {
        let axis = if self.rank() == 1 { 0 } else { 1 };
        let wanted: Shape = self.shape().without(axis);
        let fits = target.shape() == wanted && target.dtype() == DType::I32;
        if !fits {
            let message = format!(
                "predictions {} want targets i32{wanted}, one class each, got {}{}",
                self.shape(),
                target.dtype(),
                target.shape()
            );
            self.graph().record_error(op, message);
        }
        fits
    }

    /// Of `[.., classes]` and targets `[..]`: where the class is the target.
    #[track_caller]
    fn is_class(self, target: Tensor<'g>) -> Tensor<'g> {
        self.graph().iota(self.shape(), self.rank() - 1).eq(target.unsqueeze(-1))
    }

    /// The target's entry along the last axis, 0 where the target is no class.
    #[track_caller]
    fn at_class(self, target: Tensor<'g>) -> Tensor<'g> {
        self.is_class(target).select(self, 0.0).sum(&[-1])
    }
}

/// Losses with their weights in them, reduced; the mean is that of the weights.
#[track_caller]
fn weighted<'g>(losses: Tensor<'g>, share: Tensor<'g>, reduction: Reduction) -> Tensor<'g> {
    match reduction {
        Reduction::Mean => {
            let total = share.sum_all();
            (losses.sum_all() / total.gt(0.0).select(total, 1.0)).with_count(total)
        }
        Reduction::None | Reduction::Sum | Reduction::BatchMean => reduction.of(losses),
    }
}
