//! A small convolutional network for pictures: convolutions, each halved by a maximum, then a perceptron.

use crate::graph::Tensor;
use crate::nn::{Conv2d, Linear, Parameters};
use crate::tensor::{ConvOptions, PoolOptions};

/// The sizes of a [`Cnn`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CnnConfig {
    /// Channels, height and width of a picture.
    pub picture: [usize; 3],
    /// Channels behind each convolution (3 x 3, ReLU), which is followed by a maximum over 2 x 2.
    pub channels: Vec<usize>,
    /// Features of the hidden linear layer.
    pub hidden: usize,
    pub classes: usize,
}

/// Layers named `conv.0`, `conv.1`, …, `fc` and `head`.
#[derive(Debug, Clone)]
pub struct Cnn {
    pub convs: Vec<Conv2d>,
    pub fc: Linear,
    pub head: Linear,
}

impl Cnn {
    pub fn new(parameters: &mut Parameters, config: &CnnConfig) -> Cnn {
        let [mut channels, mut height, mut width] = config.picture;
        let mut convs = Vec::new();
        for (i, &out) in config.channels.iter().enumerate() {
            let options = ConvOptions::new().padding(1);
            convs.push(Conv2d::new(parameters, &format!("conv.{i}"), [channels, out], [3, 3], options));
            (channels, height, width) = (out, height / 2, width / 2);
        }
        let fc = Linear::new(parameters, "fc", channels * height * width, config.hidden);
        Cnn { convs, fc, head: Linear::new(parameters, "head", config.hidden, config.classes) }
    }

    /// Pictures `[n, channels, height, width]` to logits `[n, classes]`.
    #[track_caller]
    pub fn forward<'g>(&self, x_nchw: Tensor<'g>) -> Tensor<'g> {
        let halved = |x: Tensor<'g>, conv: &Conv2d| conv.forward(x).relu().max_pool2d(PoolOptions::new([2, 2]));
        let features = self.convs.iter().fold(x_nchw, halved).flatten(1, -1);
        self.head.forward(self.fc.forward(features).relu())
    }
}
