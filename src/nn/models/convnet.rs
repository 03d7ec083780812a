//! Convolutional networks for small images: two convolutions for digits, and residual stages for pictures.

use super::conv_norm::{ConvNorm, are_images, start_filters};
use crate::graph::Tensor;
use crate::nn::{Conv2d, Dropout, Linear, Parameters};
use crate::tensor::{ConvOptions, PoolOptions};

/// The size of a [`LittleNet`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LittleNetConfig {
    /// Of the images.
    pub channels: usize,
    /// Pixels along a side of the images; even.
    pub side: usize,
    /// Channels of the first convolution; the second has twice as many.
    pub width: usize,
    pub classes: usize,
    /// Before the linear layers.
    pub dropout: f64,
}

/// Two convolutions, one pooling and two linear layers, after LeNet: enough to read digits.
#[derive(Debug, Clone)]
pub struct LittleNet {
    pub conv1: Conv2d,
    pub conv2: Conv2d,
    pub fc1: Linear,
    pub fc2: Linear,
    dropout: Dropout,
}

/// Features between the linear layers.
const HIDDEN: usize = 64;

impl LittleNet {
    pub fn new(parameters: &mut Parameters, config: LittleNetConfig) -> LittleNet {
        let LittleNetConfig { channels, side, width, classes, dropout } = config;
        let same = ConvOptions::new().padding(1);
        let pooled = side / 2 * (side / 2);
        LittleNet {
            conv1: Conv2d::new(parameters, "conv1", [channels, width], [3, 3], same),
            conv2: Conv2d::new(parameters, "conv2", [width, 2 * width], [3, 3], same),
            fc1: Linear::new(parameters, "fc1", 2 * width * pooled, HIDDEN),
            fc2: Linear::new(parameters, "fc2", HIDDEN, classes),
            dropout: Dropout::new(dropout),
        }
    }

    /// Images `[samples, channels, side, side]` to logits `[samples, classes]`.
    #[track_caller]
    pub fn forward<'g>(&self, images: Tensor<'g>) -> Tensor<'g> {
        let x = self.conv2.forward(self.conv1.forward(images).relu()).relu();
        let x = x.max_pool2d(PoolOptions::new([2, 2])).flatten(1, -1);
        self.fc2.forward(self.fc1.forward(self.dropout.forward(x)).relu())
    }
}

/// The size of a [`ConvNet`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvNetConfig {
    /// Of the images.
    pub channels: usize,
    /// Channels of the first stage; the following ones have twice, four and four times as many.
    pub width: usize,
    pub classes: usize,
    /// Before the linear layer.
    pub dropout: f64,
}

/// A small residual network: a stem and four stages that each halve the image, then the mean over what is left of it.
#[derive(Debug, Clone)]
pub struct ConvNet {
    channels: usize,
    stages: Vec<Stage>,
    pub fc: Linear,
    dropout: Dropout,
}

/// A convolution of stride 2, and one around which its input is added.
#[derive(Debug, Clone)]
struct Stage {
    down: ConvNorm,
    residual: ConvNorm,
}

impl ConvNet {
    pub fn new(parameters: &mut Parameters, config: ConvNetConfig) -> ConvNet {
        let widths = [1, 2, 4, 4].map(|times| times * config.width);
        let mut before = config.channels;
        let stages = widths.iter().enumerate().map(|(number, &width)| {
            let channels = std::mem::replace(&mut before, width);
            let (halved, same) = (ConvOptions::new().stride(2), ConvOptions::new());
            parameters.scope(&format!("stage.{number}"), |p| Stage {
                down: ConvNorm::new(p, ["conv1", "bn1"], [channels, width], 3, halved),
                residual: ConvNorm::new(p, ["conv2", "bn2"], [width, width], 3, same),
            })
        });
        let stages = stages.collect();
        start_filters(parameters);
        let fc = Linear::new(parameters, "fc", widths[3], config.classes);
        ConvNet { channels: config.channels, stages, fc, dropout: Dropout::new(config.dropout) }
    }

    /// Images `[samples, channels, height, width]` to logits `[samples, classes]`.
    #[track_caller]
    pub fn forward<'g>(&self, images: Tensor<'g>) -> Tensor<'g> {
        if !are_images("convnet", images, self.channels) {
            return images;
        }
        let x = self.stages.iter().fold(images, |x, stage| {
            let x = stage.down.forward(x).relu();
            (stage.residual.forward(x) + x).relu()
        });
        self.fc.forward(self.dropout.forward(x.mean(&[2, 3])))
    }
}
