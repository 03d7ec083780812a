//! Layers that remove something at random while training, and do nothing in evaluation.

use crate::graph::Tensor;
use crate::tensor::DropPathMode;

/// Zeroes whole channels with probability `p` while training; `torch.nn.Dropout1d`, `Dropout2d`, `Dropout3d`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelDropout {
    pub p: f64,
}

impl ChannelDropout {
    pub fn new(p: f64) -> ChannelDropout {
        ChannelDropout { p }
    }

    /// `[samples, channels, ..]` to the same shape.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.graph().scope("channel_dropout", || x.channel_dropout(self.p))
    }
}

/// Dropout that keeps mean 0 and variance 1, for SELU; `torch.nn.AlphaDropout`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlphaDropout {
    pub p: f64,
}

impl AlphaDropout {
    pub fn new(p: f64) -> AlphaDropout {
        AlphaDropout { p }
    }

    /// `[samples, ..]` to the same shape.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.graph().scope("alpha_dropout", || x.alpha_dropout(self.p))
    }
}

/// Leaves out a residual branch with probability `p` while training; `torchvision.ops.StochasticDepth`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropPath {
    pub p: f64,
    pub mode: DropPathMode,
}

impl DropPath {
    /// One draw a sample.
    pub fn new(p: f64) -> DropPath {
        DropPath { p, mode: DropPathMode::Row }
    }

    /// The branch `[samples, ..]`, before it is added to the residual stream, to the same shape.
    #[track_caller]
    pub fn forward<'g>(&self, branch: Tensor<'g>) -> Tensor<'g> {
        branch.graph().scope("drop_path", || branch.stochastic_depth(self.p, self.mode))
    }
}
