//! Losses that ask for a margin between scores.

use super::Reduction;
use crate::dtype::DType;
use crate::graph::Tensor;

impl<'g> Tensor<'g> {
    /// `max(0, -target (x - other) + margin)` for targets 1 (`x` should be larger) and -1;
    /// `torch.nn.functional.margin_ranking_loss`, whose default margin is 0.
    #[track_caller]
    pub fn margin_ranking_loss(
        self,
        other: Tensor<'g>,
        target: Tensor<'g>,
        margin: f64,
        reduction: Reduction,
    ) -> Tensor<'g> {
        if self.rank() != other.rank() || self.rank() != target.rank() {
            let message = format!(
                "takes inputs and targets of one rank, got {}, {} and {}",
                self.shape(),
                other.shape(),
                target.shape()
            );
            self.graph().record_error("margin_ranking_loss", message);
            return self;
        }
        reduction.of((margin - target.as_float() * (self - other)).clamp_min(0.0))
    }

    /// `x` where the target is 1, `max(0, margin - x)` where it is -1; `torch.nn.functional.hinge_embedding_loss`, whose
    /// default margin is 1.
    #[track_caller]
    pub fn hinge_embedding_loss(self, target: Tensor<'g>, margin: f64, reduction: Reduction) -> Tensor<'g> {
        let near = target.ne(-1.0).select(self, 0.0);
        let far = target.ne(1.0).select((margin - self).clamp_min(0.0), 0.0);
        reduction.of(near + far)
    }

    /// Scores `[n, classes]` or `[classes]` against lists of classes of the same shape (i32), each ended by the first -1: the sum
    /// of `max(0, 1 - x[target] + x[other])` over the listed and the other classes, divided by the number of classes.
    /// `torch.nn.functional.multilabel_margin_loss`. Takes memory for `classes^2` numbers a row.
    #[track_caller]
    pub fn multilabel_margin_loss(self, target: Tensor<'g>, reduction: Reduction) -> Tensor<'g> {
        let op = "multilabel_margin_loss";
        if !self.same_shape(op, target) {
            return self;
        }
        let rank = self.rank();
        if rank == 0 || rank > 2 || target.dtype() != DType::I32 {
            let message = format!(
                "takes scores [n, classes] and targets i32 of that shape, got {} and {}",
                self.shape(),
                target.dtype()
            );
            self.graph().record_error(op, message);
            return self;
        }
        let classes = self.shape()[rank - 1];
        // [list, class]: where place `l` of the list stands at or behind place `m`, or names class `c`.
        let list = self.graph().iota([classes, classes], 0);
        let class = self.graph().iota([classes, classes], 1);
        let ended = target.lt(0.0).unsqueeze(-2).logical_and(class.le(list)).any(&[-1]);
        let named = target.unsqueeze(-1).eq(class).logical_and(ended.logical_not().unsqueeze(-1));
        let is_target = named.any(&[-2]);
        let score = named.select(self.unsqueeze(-2), 0.0).sum(&[-1]);
        let excess = (1.0 - score.unsqueeze(-1) + self.unsqueeze(-2)).relu();
        let counts = ended.logical_or(is_target.all(&[-1]).unsqueeze(-1)).logical_not().unsqueeze(-1);
        let counts = counts.logical_and(is_target.logical_not().unsqueeze(-2));
        reduction.of(counts.select(excess, 0.0).sum(&[-2, -1]) / classes.max(1) as f64)
    }
}
