//! MobileNetV2: inverted residuals, which widen by a 1 x 1 convolution, look at each channel alone (a depthwise
//! 3 x 3), and narrow again without an activation (Sandler et al. 2018).
//!
//! Parameters are named as torchvision's; the weight of the classifier is transposed.

use super::conv_norm::{ConvNorm, are_images, start_filters};
use crate::graph::Tensor;
use crate::nn::{Dropout, Linear, Parameters};
use crate::tensor::ConvOptions;

/// The size of a [`MobilenetV2`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MobilenetConfig {
    /// Factor on the numbers of channels, which are rounded to multiples of 8.
    pub width: f64,
    /// Channels of an image.
    pub channels: usize,
    pub classes: usize,
    /// Features before the classifier, multiplied by `width` if that is above 1.
    pub features: usize,
    /// For images of some 32 x 32: no stride at the entrance.
    pub small_images: bool,
    /// Probability, before the classifier.
    pub dropout: f64,
}

impl MobilenetConfig {
    /// 3,504,872 parameters (torchvision's `mobilenet_v2`).
    pub const fn imagenet() -> MobilenetConfig {
        let (channels, classes, features) = (3, 1000, 1280);
        MobilenetConfig { width: 1.0, channels, classes, features, small_images: false, dropout: 0.2 }
    }
}

/// Factor of widening, channels, blocks, and stride of the first of them (the paper's table 2).
const STAGES: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

/// The model.
#[derive(Debug, Clone)]
pub struct MobilenetV2 {
    pub config: MobilenetConfig,
    first: ConvNorm,
    blocks: Vec<Block>,
    last: ConvNorm,
    dropout: Dropout,
    classifier: Linear,
}

/// An inverted residual.
#[derive(Debug, Clone)]
struct Block {
    name: String,
    widen: Option<ConvNorm>,
    depthwise: ConvNorm,
    narrow: ConvNorm,
    /// Whether the result has the shape of the input, which is added to it then.
    residual: bool,
}

impl MobilenetV2 {
    /// Filters start as He et al. have them, the classifier as PyTorch's default.
    pub fn new(parameters: &mut Parameters, config: MobilenetConfig) -> MobilenetV2 {
        let wide = |channels: usize| whole_eighths(channels as f64 * config.width);
        let (mut channels, mut blocks) = (wide(32), Vec::new());
        let entrance = ConvOptions::new().stride(if config.small_images { 1 } else { 2 });
        let names = ["features.0.0", "features.0.1"];
        let first = ConvNorm::new(parameters, names, [config.channels, channels], 3, entrance);
        for (factor, out, count, stride) in STAGES {
            for index in 0..count {
                let name = format!("features.{}", blocks.len() + 1);
                let stride = if index == 0 { stride } else { 1 };
                let block = |p: &mut Parameters| Block::new(p, &name, [channels, wide(out)], factor, stride);
                blocks.push(parameters.scope(&name, block));
                channels = wide(out);
            }
        }
        let features = whole_eighths(config.features as f64 * config.width.max(1.0));
        let [conv, norm] = ["0", "1"].map(|part| format!("features.{}.{part}", blocks.len() + 1));
        let last = ConvNorm::new(parameters, [&conv, &norm], [channels, features], 1, ConvOptions::new());
        let classifier = Linear::new(parameters, "classifier.1", features, config.classes);
        start_filters(parameters);
        MobilenetV2 { config, first, blocks, last, dropout: Dropout::new(config.dropout), classifier }
    }

    /// Images `[b, channels, height, width]` to logits `[b, classes]`.
    #[track_caller]
    pub fn forward<'g>(&self, images: Tensor<'g>) -> Tensor<'g> {
        if !are_images("mobilenet", images, self.config.channels) {
            return images;
        }
        let x = self.first.forward(images).relu6();
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let features = self.last.forward(x).relu6().mean(&[2, 3]);
        self.classifier.forward(self.dropout.forward(features))
    }
}

impl Block {
    fn new(p: &mut Parameters, name: &str, [input, output]: [usize; 2], factor: usize, stride: usize) -> Block {
        let (hidden, plain) = (input * factor, ConvOptions::new());
        let widened = factor != 1;
        let widen = widened.then(|| ConvNorm::new(p, ["conv.0.0", "conv.0.1"], [input, hidden], 1, plain));
        // torchvision numbers the layers that are there.
        let names = if widened {
            [["conv.1.0", "conv.1.1"], ["conv.2", "conv.3"]]
        } else {
            [["conv.0.0", "conv.0.1"], ["conv.1", "conv.2"]]
        };
        let alone = ConvOptions::new().stride(stride).groups(hidden);
        Block {
            name: name.into(),
            widen,
            depthwise: ConvNorm::new(p, names[0], [hidden, hidden], 3, alone),
            narrow: ConvNorm::new(p, names[1], [hidden, output], 1, plain),
            residual: stride == 1 && input == output,
        }
    }

    fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.graph().scope(&self.name, || {
            let wide = self.widen.as_ref().map_or(x, |widen| widen.forward(x).relu6());
            let narrow = self.narrow.forward(self.depthwise.forward(wide).relu6());
            if self.residual { x + narrow } else { narrow }
        })
    }
}

/// The nearest multiple of 8, at least 8 and at most a tenth below; torchvision's `_make_divisible`.
fn whole_eighths(channels: f64) -> usize {
    let nearest = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (nearest as f64) < 0.9 * channels { nearest + 8 } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::graph::Graph;

    #[test]
    fn it_has_the_published_size() {
        let mut parameters = Parameters::new();
        let model = MobilenetV2::new(&mut parameters, MobilenetConfig::imagenet());
        assert_eq!(parameters.count(), 3_504_872);
        let graph = Graph::new();
        let logits = model.forward(graph.input("x", [2, 3, 64, 64], DType::F32));
        graph.error().unwrap();
        assert_eq!(logits.shape()[..], [2, 1000]);
        model.forward(graph.input("y", [2, 64, 64, 3], DType::F32));
        assert!(graph.error().unwrap_err().to_string().contains("[samples, 3, height, width]"));
    }

    #[test]
    fn channels_are_multiples_of_eight() {
        let rounded = [8.0, 4.0, 11.2, 24.0 * 0.35, 96.0 * 0.75, 12.0].map(whole_eighths);
        assert_eq!(rounded, [8, 8, 16, 8, 72, 16]);
    }
}
