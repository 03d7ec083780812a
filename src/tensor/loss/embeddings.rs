//! Losses of embeddings: what should lie together and what apart.

use super::Reduction;
use crate::dtype::DType;
use crate::graph::{Operand, Tensor};

/// What PyTorch's `cosine_embedding_loss` adds to squared lengths.
const COSINE_EPS: f64 = 1e-12;

/// The keyword arguments of `torch.nn.functional.triplet_margin_loss`, with its defaults.
#[derive(Debug, Clone, Copy)]
pub struct TripletOptions {
    pub margin: f64,
    /// The order of the norm of distances.
    pub p: f64,
    /// Added to the differences.
    pub eps: f64,
    /// Takes the distance of the negative from the positive where that is smaller (Balntas et al. 2016).
    pub swap: bool,
    pub reduction: Reduction,
}

impl Default for TripletOptions {
    fn default() -> Self {
        TripletOptions { margin: 1.0, p: 2.0, eps: 1e-6, swap: false, reduction: Reduction::Mean }
    }
}

impl<'g> Tensor<'g> {
    /// For embeddings `[n, size]` or `[size]` and targets `[n]` or `[]`: `1 - cos` where the target is 1, `max(0, cos - margin)`
    /// where it is -1. `torch.nn.functional.cosine_embedding_loss`, whose default margin is 0.
    #[track_caller]
    pub fn cosine_embedding_loss(
        self,
        other: Tensor<'g>,
        target: Tensor<'g>,
        margin: f64,
        reduction: Reduction,
    ) -> Tensor<'g> {
        let op = "cosine_embedding_loss";
        if !self.same_shape(op, other) {
            return self;
        }
        let rank = self.rank();
        if rank == 0 || rank > 2 || target.rank() + 1 != rank {
            let message = format!(
                "takes embeddings [n, size] with targets [n], or [size] with a scalar, got {} and {}",
                self.shape(),
                target.shape()
            );
            self.graph().record_error(op, message);
            return self;
        }
        let lengths = (self.square().sum(&[-1]) + COSINE_EPS) * (other.square().sum(&[-1]) + COSINE_EPS);
        let cosine = (self * other).sum(&[-1]) / lengths.sqrt();
        let near = target.eq(1.0).select(1.0 - cosine, 0.0);
        let far = target.eq(-1.0).select((cosine - margin).clamp_min(0.0), 0.0);
        reduction.of(near + far)
    }

    /// `max(0, d(anchor, positive) - d(anchor, negative) + margin)` over the last axis, with this tensor as the anchor.
    /// `torch.nn.functional.triplet_margin_loss`.
    #[track_caller]
    pub fn triplet_margin_loss(
        self,
        positive: Tensor<'g>,
        negative: Tensor<'g>,
        options: &TripletOptions,
    ) -> Tensor<'g> {
        let TripletOptions { margin, p, eps, swap, reduction } = *options;
        if margin.is_nan() || margin <= 0.0 {
            self.graph().record_error("triplet_margin_loss", format!("the margin must be above 0, got {margin}"));
            return self;
        }
        if self.rank() != positive.rank() || self.rank() != negative.rank() {
            let message = format!(
                "takes embeddings of one rank, got {}, {} and {}",
                self.shape(),
                positive.shape(),
                negative.shape()
            );
            self.graph().record_error("triplet_margin_loss", message);
            return self;
        }
        let near = self.pairwise_distance(positive, p, eps);
        let far = self.pairwise_distance(negative, p, eps);
        let far = if swap { far.minimum(positive.pairwise_distance(negative, p, eps)) } else { far };
        reduction.of((near - far + margin).clamp_min(0.0))
    }

    /// Cosines of all pairs of rows: `[n, size]` and `[m, size]` to `[n, m]`.
    #[track_caller]
    fn cosines(self, op: &str, other: Tensor<'g>, square: bool) -> Option<Tensor<'g>> {
        let (a, b) = (self.shape(), other.shape());
        if a.rank() != 2 || b.rank() != 2 || a[1] != b[1] || (square && a[0] != b[0]) {
            let rows = if square { "as many rows of one size" } else { "rows of one size" };
            self.graph().record_error(op, format!("takes two matrices with {rows}, got {a} and {b}"));
            return None;
        }
        Some(self.normalize(2.0, -1, 1e-12).matmul(other.normalize(2.0, -1, 1e-12).t()))
    }

    /// InfoNCE (van den Oord et al. 2018): row `i` of `[n, size]` should find row `i` of the keys `[m, size]` (`m >= n`) among all
    /// of them, by cosine divided by the temperature. Mean cross-entropy.
    #[track_caller]
    pub fn info_nce(self, keys: Tensor<'g>, temperature: f64) -> Tensor<'g> {
        let Some(cosines) = self.cosines("info_nce", keys, false) else { return self };
        let (rows, columns) = (cosines.shape()[0], cosines.shape()[1]);
        if columns < rows {
            let message = format!("needs a key for each of {rows} rows, got {columns}");
            self.graph().record_error("info_nce", message);
            return self;
        }
        let own = self.graph().arange(0.0, rows as f64, 1.0, DType::I32);
        (cosines / temperature).cross_entropy(own)
    }

    /// The symmetric contrastive loss of CLIP (Radford et al. 2021): the mean of both cross-entropies of the cosines between rows
    /// `[n, size]` and rows `[n, size]` that belong together, times `scale` (a number, or a learned scalar).
    #[track_caller]
    pub fn clip_loss(self, other: Tensor<'g>, scale: impl Into<Operand<'g>>) -> Tensor<'g> {
        let Some(cosines) = self.cosines("clip_loss", other, true) else { return self };
        let logits = cosines * scale;
        let own = self.graph().arange(0.0, logits.shape()[0] as f64, 1.0, DType::I32);
        (logits.cross_entropy(own) + logits.t().cross_entropy(own)) * 0.5
    }
}
