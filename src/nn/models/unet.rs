//! U-Net: an image is halved again and again and grown back, each size joined with what it was on the way
//! down, to a class for every pixel (Ronneberger et al. 2015), with padded convolutions and batch norm.
//!
//! Shapes in names: `b` samples, `c` channels, `h` and `w` height and width.

use super::conv_norm::{ConvNorm, are_images, start_filters};
use crate::graph::Tensor;
use crate::nn::{Conv2d, ConvTranspose2d, Parameters};
use crate::tensor::{ConvOptions, PoolOptions, concat};

/// The size of a [`Unet`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnetConfig {
    /// Channels of an image.
    pub channels: usize,
    pub classes: usize,
    /// Channels at full size; each halving doubles them.
    pub width: usize,
    /// How often the image is halved.
    pub depth: usize,
}

impl UnetConfig {
    /// The paper's numbers of channels for colour images: 31,037,698 parameters (the `UNet` of
    /// `milesial/Pytorch-UNet` with transposed convolutions), counted in PyTorch.
    pub const fn colour(classes: usize) -> UnetConfig {
        UnetConfig { channels: 3, classes, width: 64, depth: 4 }
    }
}

/// The model.
#[derive(Debug, Clone)]
pub struct Unet {
    pub config: UnetConfig,
    /// From full size to the smallest.
    down: Vec<Double>,
    /// From the smallest to full size.
    up: Vec<(ConvTranspose2d, Double)>,
    head: Conv2d,
}

/// Two convolutions.
#[derive(Debug, Clone)]
struct Double {
    name: String,
    convs: [ConvNorm; 2],
}

impl Unet {
    /// Filters start as He et al. have them.
    pub fn new(parameters: &mut Parameters, config: UnetConfig) -> Unet {
        let UnetConfig { channels, classes, width, depth } = config;
        let wide = |level: usize| width << level;
        let down = (0..=depth).map(|level| {
            let input = if level == 0 { channels } else { wide(level - 1) };
            Double::new(parameters, &format!("down.{level}"), [input, wide(level)])
        });
        let down = down.collect();
        let up = (0..depth).rev().enumerate().map(|(index, level)| {
            let (name, options) = (format!("up.{index}"), ConvOptions::new().stride(2));
            let sizes = [wide(level + 1), wide(level)];
            let grow = ConvTranspose2d::new(parameters, &format!("{name}.grow"), sizes, [2, 2], options);
            (grow, Double::new(parameters, &name, sizes))
        });
        let up = up.collect();
        let head = Conv2d::new(parameters, "head", [width, classes], [1, 1], ConvOptions::new());
        start_filters(parameters);
        Unet { config, down, up, head }
    }

    /// Images `[b, channels, h, w]` to logits `[b, classes, h, w]`; `h` and `w` are multiples of `2^depth`.
    #[track_caller]
    pub fn forward<'g>(&self, images: Tensor<'g>) -> Tensor<'g> {
        let (shape, multiple) = (images.shape(), 1 << self.config.depth);
        if !are_images("unet", images, self.config.channels) {
            return images;
        }
        if shape[2] % multiple != 0 || shape[3] % multiple != 0 {
            let message = format!("height and width must be multiples of {multiple}, got {shape}; pad the images");
            images.graph().record_error("unet", message);
            return images;
        }
        let (mut x, mut sizes) = (images, Vec::new());
        for (level, double) in self.down.iter().enumerate() {
            x = if level == 0 { x } else { x.max_pool2d(PoolOptions::new([2, 2])) };
            x = double.forward(x);
            sizes.push(x);
        }
        // What was joined last on the way down is the smallest itself.
        for ((grow, double), same) in self.up.iter().zip(sizes.into_iter().rev().skip(1)) {
            x = double.forward(concat(same, &[grow.forward(x)], 1));
        }
        self.head.forward(x)
    }
}

impl Double {
    fn new(parameters: &mut Parameters, name: &str, [input, output]: [usize; 2]) -> Double {
        parameters.scope(name, |p| Double {
            name: name.into(),
            convs: [
                ConvNorm::new(p, ["conv1", "bn1"], [input, output], 3, ConvOptions::new()),
                ConvNorm::new(p, ["conv2", "bn2"], [output, output], 3, ConvOptions::new()),
            ],
        })
    }

    fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.graph().scope(&self.name, || self.convs.iter().fold(x, |x, conv| conv.forward(x).relu()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::graph::Graph;

    #[test]
    fn it_has_the_published_size() {
        let mut parameters = Parameters::new();
        let model = Unet::new(&mut parameters, UnetConfig::colour(2));
        assert_eq!(parameters.count(), 31_037_698);
        let graph = Graph::new();
        let logits = model.forward(graph.input("x", [1, 3, 32, 48], DType::F32));
        graph.error().unwrap();
        assert_eq!(logits.shape()[..], [1, 2, 32, 48]);
        model.forward(graph.input("y", [1, 3, 40, 48], DType::F32));
        assert!(graph.error().unwrap_err().to_string().contains("multiples of 16"));
    }
}
