//! Layers that change the size of images and have no parameters.

use crate::graph::Tensor;
use crate::tensor::{Interpolation, Resize};

/// Resamples all axes after the channels; `torch.nn.Upsample`.
#[derive(Debug, Clone, PartialEq)]
pub struct Upsample {
    pub to: Resize,
    pub mode: Interpolation,
}

impl Upsample {
    /// To a size or by a factor.
    pub fn new(to: Resize, mode: Interpolation) -> Upsample {
        Upsample { to, mode }
    }

    /// `factor` times larger by repeating elements, as `torch.nn.Upsample(scale_factor=factor)`.
    pub fn nearest(factor: usize) -> Upsample {
        Upsample::new(Resize::Scale(vec![factor as f64]), Interpolation::Nearest)
    }

    /// `[samples, channels, ..]`.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.graph().scope("upsample", || x.interpolate(&self.to, self.mode))
    }
}
