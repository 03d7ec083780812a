//! Losses under the names of `torch.nn.functional`: composites, with the fused cross-entropy where that serves.
//!
//! Methods of the prediction, which take the target. Nothing here knows of layers or of training.

mod classes;
mod embeddings;
mod margins;
mod probabilities;
mod regression;

pub use classes::CrossEntropyOptions;
pub use embeddings::TripletOptions;
pub use probabilities::BceOptions;

use crate::dtype::DType;
use crate::graph::Tensor;

/// How the losses of elements become the result, as PyTorch's `reduction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// One loss an element.
    None,
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// Their sum divided by the size of axis 0: what `kl_div` calls `"batchmean"`.
    BatchMean,
}

impl Reduction {
    /// The losses reduced to a scalar, or as they are.
    #[track_caller]
    pub fn of(self, losses: Tensor<'_>) -> Tensor<'_> {
        match self {
            Reduction::None => losses,
            Reduction::Mean => losses.mean_all(),
            Reduction::Sum => losses.sum_all(),
            Reduction::BatchMean => losses.sum_all() / losses.shape().first().copied().unwrap_or(1).max(1) as f64,
        }
    }
}

impl<'g> Tensor<'g> {
    /// Whether prediction and target have one shape; else an error that shows both is recorded.
    #[track_caller]
    fn same_shape(self, op: &str, target: Tensor<'g>) -> bool {
        let same = self.shape() == target.shape();
        if !same {
            let message =
                format!("prediction and target must have one shape, got {} and {}", self.shape(), target.shape());
            self.graph().record_error(op, message);
        }
        same
    }

    /// A target that may be given as whole numbers, as floats.
    fn as_float(self) -> Tensor<'g> {
        if self.dtype().is_float() { self } else { self.cast(DType::F32) }
    }

    /// At least `low` in value, while the gradient passes as if nothing had been done.
    fn raised_to(self, low: f64) -> Tensor<'g> {
        self + (self.maximum(low) - self).stop_gradient()
    }
}
