//! What the convolutional networks here are made of: a convolution without a bias, then batch norm.

use crate::graph::Tensor;
use crate::nn::{BatchNorm, Conv2d, Fan, Init, Parameters};
use crate::tensor::ConvOptions;

/// Convolution and batch norm; what a bias would add, the norm takes away.
#[derive(Debug, Clone)]
pub(super) struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    /// Called `names[0]` and `names[1]`, from `channels[0]` to `channels[1]`. A square kernel of odd size keeps
    /// height and width at stride 1.
    pub(super) fn new(
        parameters: &mut Parameters,
        names: [&str; 2],
        channels: [usize; 2],
        kernel: usize,
        options: ConvOptions<2>,
    ) -> ConvNorm {
        let options = options.padding(kernel / 2);
        ConvNorm {
            conv: Conv2d::without_bias(parameters, names[0], channels, [kernel, kernel], options),
            norm: BatchNorm::new(parameters, names[1], channels[1]),
        }
    }

    /// `[b, channels in, height, width]` to `[b, channels out, ..]`.
    #[track_caller]
    pub(super) fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        self.norm.forward(self.conv.forward(x))
    }
}

/// Filters start normal as He et al. (2015) have it, by the elements that a filter's window writes to: PyTorch's
/// `kaiming_normal_` with `mode="fan_out"`.
pub(super) fn start_filters(parameters: &mut Parameters) {
    let init = Init::KaimingNormal { fan: Fan::Out, gain: std::f64::consts::SQRT_2 };
    parameters.init_by(|_, shape| (shape.rank() == 4).then(|| init.clone()));
}

/// Whether images are `[b, channels, height, width]`; if not, that is recorded as an error.
#[track_caller]
pub(super) fn are_images(model: &str, images: Tensor<'_>, channels: usize) -> bool {
    let shape = images.shape();
    let fit = shape.rank() == 4 && shape[1] == channels;
    if !fit {
        let message = format!("images must be [samples, {channels}, height, width], got {shape}");
        images.graph().record_error(model, message);
    }
    fit
}
