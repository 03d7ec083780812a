//! Normalisations over channels, groups and several axes, under the names of `torch.nn.functional`.
//!
//! Tensors are `[samples, channels, ..]`: axis 1 counts channels, as in PyTorch. Gains and biases have
//! one number a channel. Running statistics are the caller's: layers keep them (`nn::BatchNorm`).

use crate::graph::{Eps, MacroOp, Op, Tensor};
use crate::shape::Shape;

/// What [`Tensor::batch_norm_train`] gives.
#[derive(Clone, Copy)]
pub struct BatchNormed<'g> {
    /// The normalised tensor.
    pub output: Tensor<'g>,
    /// Mean of each channel, `[channels]`.
    pub mean: Tensor<'g>,
    /// Biased variance of each channel, `[channels]`: the mean of the squared deviations.
    pub variance: Tensor<'g>,
}

impl<'g> Tensor<'g> {
    /// Each channel normalised by mean and biased variance of the batch, then scaled by `gain [channels]` and
    /// shifted by `bias [channels]`; `torch.nn.functional.batch_norm` with `training=True`. Refused where a
    /// channel has a single element, whose variance says nothing.
    #[track_caller]
    pub fn batch_norm_train(self, gain: Option<Tensor<'g>>, bias: Option<Tensor<'g>>, eps: f32) -> BatchNormed<'g> {
        let Some([samples, channels, size]) = self.channel_view("batch_norm", &[gain, bias]) else {
            return BatchNormed { output: self, mean: self, variance: self };
        };
        if samples * size <= 1 {
            let message = format!(
                "needs more than one element in each channel to train, got {}; use a larger batch, or evaluate",
                self.shape()
            );
            self.graph().record_error("batch_norm", message);
        }
        let fill = |value: f64| self.scalar_like(value).broadcast_to([channels]);
        let operands = [gain.unwrap_or_else(|| fill(1.0)), bias.unwrap_or_else(|| fill(0.0))];
        let op = Op::Macro(MacroOp::BatchNorm { eps: Eps::new(eps) });
        let y = self.reshape([samples, channels, size]).apply(op, &operands);
        BatchNormed { output: y.reshape(self.shape()), mean: y.output(1), variance: y.output(2) }
    }

    /// Each channel normalised by a given mean and variance `[channels]`, then scaled and shifted;
    /// `torch.nn.functional.batch_norm` with `training=False`.
    #[track_caller]
    pub fn batch_norm(
        self,
        mean: Tensor<'g>,
        variance: Tensor<'g>,
        gain: Option<Tensor<'g>>,
        bias: Option<Tensor<'g>>,
        eps: f32,
    ) -> Tensor<'g> {
        if self.channel_view("batch_norm", &[Some(mean), Some(variance), gain, bias]).is_none() {
            return self;
        }
        let inverse = (variance + f64::from(eps)).rsqrt();
        let scale = gain.map_or(inverse, |gain| inverse * gain);
        let scaled = (self - self.per_channel(mean)) * self.per_channel(scale);
        bias.map_or(scaled, |bias| scaled + self.per_channel(bias))
    }

    /// A vector `[channels]` as `[channels, 1, ..]`, which broadcasts along axis 1 of this tensor.
    #[track_caller]
    pub(super) fn per_channel(self, vector: Tensor<'g>) -> Tensor<'g> {
        let ones = self.rank().saturating_sub(2);
        vector.reshape(vector.shape().iter().copied().chain(std::iter::repeat_n(1, ones)).collect::<Shape>())
    }

    /// `[samples, channels, size of the rest]`, if there are channels and every vector has one number for each.
    #[track_caller]
    fn channel_view(self, op: &str, vectors: &[Option<Tensor<'g>>]) -> Option<[usize; 3]> {
        let shape = self.shape();
        if shape.rank() < 2 {
            self.graph().record_error(op, format!("takes [samples, channels, ..], got {shape}"));
            return None;
        }
        for vector in vectors.iter().flatten() {
            if vector.shape()[..] != [shape[1]] {
                let message = format!(
                    "gain, bias and statistics must have one number for each of the {} channels of {shape}, got {}",
                    shape[1],
                    vector.shape()
                );
                self.graph().record_error(op, message);
                return None;
            }
        }
        Some([shape[0], shape[1], shape[2..].iter().product()])
    }
}
