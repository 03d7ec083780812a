//! Composites and macro-ops under the names of `torch.nn.functional`.

use crate::dtype::DType;
use crate::graph::{Eps, MacroOp, Op, Sight, Tensor};

impl<'g> Tensor<'g> {
    /// Normalised over the last axis, scaled by `gain [n]` and shifted by `bias [n]`; `torch.nn.LayerNorm`.
    #[track_caller]
    pub fn layer_norm(self, gain: Tensor<'g>, bias: Tensor<'g>, eps: f32) -> Tensor<'g> {
        self.apply(Op::Macro(MacroOp::LayerNorm { eps: Eps::new(eps) }), &[gain, bias])
    }

    /// Divided by the root mean square over the last axis and scaled by `gain [n]`; `torch.nn.RMSNorm`.
    #[track_caller]
    pub fn rms_norm(self, gain: Tensor<'g>, eps: f32) -> Tensor<'g> {
        self.apply(Op::Macro(MacroOp::RmsNorm { eps: Eps::new(eps) }), &[gain])
    }

    /// The cross-entropy of each row: logits `[.., classes]`, targets `[..]` i32, result `[rows]` (flattened).
    /// A target outside `0..classes` gives 0 and no gradient.
    #[track_caller]
    pub fn cross_entropy_rows(self, target: Tensor<'g>) -> Tensor<'g> {
        let shape = self.shape();
        if shape.rank() < 2 || target.shape()[..] != shape[..shape.rank() - 1] {
            let message = format!("logits must be [.., classes] and targets [..], got {shape} and {}", target.shape());
            self.graph().record_error("cross_entropy", message);
            return self;
        }
        let rows = target.shape().numel();
        let logits = self.reshape([rows, shape[shape.rank() - 1]]);
        logits.apply(Op::Macro(MacroOp::CrossEntropy), &[target.reshape([rows])])
    }

    /// Mean cross-entropy over all rows, as `torch.nn.functional.cross_entropy`: every target must be a class.
    #[track_caller]
    pub fn cross_entropy(self, target: Tensor<'g>) -> Tensor<'g> {
        self.cross_entropy_rows(target).mean_all()
    }

    /// Mean cross-entropy over the rows whose target is not `ignore`.
    #[track_caller]
    pub fn cross_entropy_ignoring(self, target: Tensor<'g>, ignore: i32) -> Tensor<'g> {
        let kept = target.ne(f64::from(ignore));
        // Outside every class, so that the kernel leaves the row out whatever `ignore` is.
        let losses = self.cross_entropy_rows(kept.select(target, -1.0));
        let count = kept.count_true();
        (losses.sum_all() / count.maximum(1.0)).with_count(count)
    }

    /// Scaled dot-product attention: this query `[batch, time, heads, size]`, keys and values
    /// `[batch, source, heads, size]` (or fewer heads, that divide these); result as the query. `torch.nn.functional.scaled_dot_product_attention`
    /// with scale `1 / sqrt(size)` and the time axis before the heads.
    #[track_caller]
    pub fn attention(self, key: Tensor<'g>, value: Tensor<'g>, causal: bool) -> Tensor<'g> {
        let size = self.shape().last().copied().unwrap_or(1).max(1);
        let scale = Eps::new(1.0 / (size as f32).sqrt());
        self.apply(Op::Macro(MacroOp::Attention { sight: Sight::new(causal), scale }), &[key, value])
    }

    /// Zeroes elements with probability `p` and scales the rest by `1 / (1 - p)`, while training.
    /// Axis 0 must count samples: the mask depends on the sample's global index, not on the batch.
    #[track_caller]
    pub fn dropout(self, p: f64) -> Tensor<'g> {
        if self.drops("dropout", p) { self.drop_by(self.shape(), p) } else { self }
    }

    /// Uniform numbers of this shape, strictly between 0 and 1 (multiples of 2^-24). Axis 0 counts samples.
    #[track_caller]
    pub(super) fn uniform_like(self) -> Tensor<'g> {
        let bits = super::drop::run_bits(self.graph(), self.shape());
        (bits.bitwise_right_shift(9).cast(DType::F32) + 0.5) * 2f64.powi(-23)
    }
}

/// The input that carries the run's random key: u32 `[2]`, the seed and the global index of the
/// first sample of the batch.
pub const RNG_KEY: &str = "rng.key";
