//! Normalisations over channels, groups and several axes, under the names of `torch.nn.functional`.
//!
//! Tensors are `[samples, channels, ..]`: axis 1 counts channels, as in PyTorch. Gains and biases have
//! one number a channel. Running statistics are the caller's: layers keep them (`nn::BatchNorm`).

use crate::graph::{Eps, MacroOp, Op, Operand, Tensor};
use crate::shape::Shape;

/// What [`Tensor::batch_norm_train`] and [`Tensor::instance_norm_train`] give.
#[derive(Clone, Copy)]
pub struct BatchNormed<'g> {
    /// The normalised tensor.
    pub output: Tensor<'g>,
    /// Mean of each channel, `[channels]`.
    pub mean: Tensor<'g>,
    /// Biased variance of each channel, `[channels]`: the mean of the squared deviations.
    pub variance: Tensor<'g>,
    /// Elements behind each variance.
    pub count: usize,
}

impl<'g> BatchNormed<'g> {
    /// Running mean and variance `[channels]` with this share of the new batch, whose variance counts unbiased, as
    /// PyTorch keeps it: divided by one less than the number of elements. No gradient passes.
    #[track_caller]
    pub fn running(&self, mean: Tensor<'g>, variance: Tensor<'g>, share: impl Into<Operand<'g>>) -> [Tensor<'g>; 2] {
        let share = match share.into() {
            Operand::Tensor(share) => share,
            Operand::Number(share) => mean.scalar_like(share),
        };
        let unbiased = self.variance * (self.count as f64 / self.count.saturating_sub(1).max(1) as f64);
        let mix = |old: Tensor<'g>, new: Tensor<'g>| (old * (1.0 - share) + new * share).stop_gradient();
        [mix(mean, self.mean), mix(variance, unbiased)]
    }
}

impl<'g> Tensor<'g> {
    /// Each channel normalised by mean and biased variance of the batch, then scaled by `gain [channels]` and
    /// shifted by `bias [channels]`; `torch.nn.functional.batch_norm` with `training=True`. Refused where a
    /// channel has a single element, whose variance says nothing.
    #[track_caller]
    pub fn batch_norm_train(self, gain: Option<Tensor<'g>>, bias: Option<Tensor<'g>>, eps: f32) -> BatchNormed<'g> {
        let Some([samples, channels, size]) = self.channel_view("batch_norm", &[gain, bias]) else {
            return BatchNormed { output: self, mean: self, variance: self, count: 0 };
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
        let output = y.reshape(self.shape());
        BatchNormed { output, mean: y.output(1), variance: y.output(2), count: samples * size }
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

    /// Each sample's channels normalised in `groups` groups, then scaled by `gain [channels]` and shifted by
    /// `bias [channels]`; `torch.nn.functional.group_norm`.
    #[track_caller]
    pub fn group_norm(self, groups: usize, gain: Option<Tensor<'g>>, bias: Option<Tensor<'g>>, eps: f32) -> Tensor<'g> {
        let Some([samples, channels, size]) = self.channel_view("group_norm", &[gain, bias]) else { return self };
        if groups == 0 || !channels.is_multiple_of(groups) {
            let message = format!("the {channels} channels of {} cannot be split into {groups} groups", self.shape());
            self.graph().record_error("group_norm", message);
            return self;
        }
        if samples * (channels / groups) * size == 1 {
            let message = format!("needs more than one element in a group, got {} in {groups} groups", self.shape());
            self.graph().record_error("group_norm", message);
            return self;
        }
        let normal = self.reshape([samples * groups, channels / groups * size]).standardised(eps);
        self.scaled(normal.reshape(self.shape()), gain, bias)
    }

    /// Each channel of each sample normalised by itself, then scaled by `gain [channels]` and shifted by
    /// `bias [channels]`; `torch.nn.functional.instance_norm` without running statistics.
    #[track_caller]
    pub fn instance_norm(self, gain: Option<Tensor<'g>>, bias: Option<Tensor<'g>>, eps: f32) -> Tensor<'g> {
        let Some([samples, channels, size]) = self.channel_view("instance_norm", &[gain, bias]) else { return self };
        if size <= 1 {
            let message = format!("needs more than one element in a channel of a sample, got {}", self.shape());
            self.graph().record_error("instance_norm", message);
            return self;
        }
        let normal = self.reshape([samples * channels, size]).standardised(eps);
        self.scaled(normal.reshape(self.shape()), gain, bias)
    }

    /// As [`Tensor::instance_norm`], with means and variances for running statistics: their averages over the samples,
    /// as PyTorch's `InstanceNorm` keeps them.
    #[track_caller]
    pub fn instance_norm_train(self, gain: Option<Tensor<'g>>, bias: Option<Tensor<'g>>, eps: f32) -> BatchNormed<'g> {
        let output = self.instance_norm(gain, bias, eps);
        let Some([samples, channels, size]) = self.channel_view("instance_norm", &[]) else {
            return BatchNormed { output, mean: self, variance: self, count: 0 };
        };
        let rows = self.reshape([samples, channels, size]);
        let mean = rows.mean(&[2]);
        let variance = (rows - mean.unsqueeze(2)).square().mean(&[0, 2]);
        BatchNormed { output, mean: mean.mean(&[0]), variance, count: size }
    }

    /// Normalised over the last axes, whose sizes are `normalized_shape`, as are those of gain and bias;
    /// `torch.nn.functional.layer_norm`.
    #[track_caller]
    pub fn layer_norm_over(
        self,
        normalized_shape: &[usize],
        gain: Option<Tensor<'g>>,
        bias: Option<Tensor<'g>>,
        eps: f32,
    ) -> Tensor<'g> {
        let shape = self.shape();
        if normalized_shape.is_empty() || !shape.ends_with(normalized_shape) {
            let message = format!("the last axes must be {normalized_shape:?}, at least one of them; got {shape}");
            self.graph().record_error("layer_norm", message);
            return self;
        }
        for vector in [gain, bias].into_iter().flatten() {
            if vector.shape()[..] != *normalized_shape {
                let message = format!("gain and bias must have shape {normalized_shape:?}, got {}", vector.shape());
                self.graph().record_error("layer_norm", message);
                return self;
            }
        }
        let size: usize = normalized_shape.iter().product();
        let rows: usize = shape[..shape.rank() - normalized_shape.len()].iter().product();
        let flat = |vector: Option<Tensor<'g>>, value: f64| match vector {
            Some(vector) => vector.reshape([size]),
            None => self.scalar_like(value).broadcast_to([size]),
        };
        self.reshape([rows, size]).layer_norm(flat(gain, 1.0), flat(bias, 0.0), eps).reshape(shape)
    }

    /// Divided by `(k + alpha * mean)^beta`, where the mean is that of the squares of `size` neighbouring channels,
    /// `size / 2` of them before; beyond the ends they count as 0. `torch.nn.functional.local_response_norm`, where
    /// `alpha` is 1e-4, `beta` 0.75 and `k` 1 without further word.
    #[track_caller]
    pub fn local_response_norm(self, size: usize, alpha: f64, beta: f64, k: f64) -> Tensor<'g> {
        let shape = self.shape();
        if shape.rank() < 3 || size == 0 {
            let message = format!(
                "takes [samples, channels, ..] of at least three axes and a size above 0, got {shape} and {size}"
            );
            self.graph().record_error("local_response_norm", message);
            return self;
        }
        let channels = shape[1];
        // Channels further away than there are any contribute nothing.
        let (before, after) = ((size / 2).min(channels), ((size - 1) / 2).min(channels));
        let squares = self.square().pad(1, before, after, 0.0);
        let window = (0..=before + after).map(|start| squares.slice(1, start, start + channels));
        let sum = window.reduce(|sum, next| sum + next).unwrap_or(squares);
        self / (sum * (alpha / size as f64) + k).powf(beta)
    }

    /// This matrix with mean 0 and (biased) variance 1 in each row.
    #[track_caller]
    fn standardised(self, eps: f32) -> Tensor<'g> {
        let columns = self.shape()[1];
        let fill = |value: f64| self.scalar_like(value).broadcast_to([columns]);
        self.layer_norm(fill(1.0), fill(0.0), eps)
    }

    #[track_caller]
    fn scaled(self, normal: Tensor<'g>, gain: Option<Tensor<'g>>, bias: Option<Tensor<'g>>) -> Tensor<'g> {
        let scaled = gain.map_or(normal, |gain| normal * self.per_channel(gain));
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
