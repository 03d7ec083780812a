//! ResNet: convolutions whose results are added to what they were computed from (He et al. 2015), in
//! torchvision's form, where a bottleneck's 3 x 3 convolution carries its stride.
//!
//! Parameters are named as torchvision's; the weight of `fc` is transposed.

use super::conv_norm::{ConvNorm, are_images, start_filters};
use crate::graph::Tensor;
use crate::nn::{Linear, Parameters};
use crate::tensor::{ConvOptions, PoolOptions};

/// The size of a [`Resnet`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResnetConfig {
    /// Blocks in each of the four stages.
    pub blocks: [usize; 4],
    /// Blocks of 1 x 1, 3 x 3 and 1 x 1 in place of twice 3 x 3; they give four times the channels.
    pub bottleneck: bool,
    /// Channels of the first stage; each later one has twice as many.
    pub width: usize,
    /// Channels of an image.
    pub channels: usize,
    pub classes: usize,
    /// For images of some 32 x 32: a 3 x 3 convolution without stride at the entrance, and no pooling.
    pub small_images: bool,
}

impl ResnetConfig {
    const fn imagenet(blocks: [usize; 4], bottleneck: bool) -> ResnetConfig {
        ResnetConfig { blocks, bottleneck, width: 64, channels: 3, classes: 1000, small_images: false }
    }

    /// 11,689,512 parameters (torchvision's `resnet18`).
    pub const fn resnet18() -> ResnetConfig {
        ResnetConfig::imagenet([2, 2, 2, 2], false)
    }

    /// 21,797,672 parameters (torchvision's `resnet34`).
    pub const fn resnet34() -> ResnetConfig {
        ResnetConfig::imagenet([3, 4, 6, 3], false)
    }

    /// 25,557,032 parameters (torchvision's `resnet50`).
    pub const fn resnet50() -> ResnetConfig {
        ResnetConfig::imagenet([3, 4, 6, 3], true)
    }
}

/// The model.
#[derive(Debug, Clone)]
pub struct Resnet {
    pub config: ResnetConfig,
    stem: ConvNorm,
    blocks: Vec<Block>,
    fc: Linear,
}

/// Convolutions, and what their result is added to.
#[derive(Debug, Clone)]
struct Block {
    name: String,
    convs: Vec<ConvNorm>,
    /// Brings the block's input to the shape of its result, where that differs.
    downsample: Option<ConvNorm>,
}

impl Resnet {
    /// Filters start as He et al. have them, `fc` as PyTorch's default.
    pub fn new(parameters: &mut Parameters, config: ResnetConfig) -> Resnet {
        let ResnetConfig { width, bottleneck, .. } = config;
        let (kernel, stride) = if config.small_images { (3, 1) } else { (7, 2) };
        let options = ConvOptions::new().stride(stride);
        let stem = ConvNorm::new(parameters, ["conv1", "bn1"], [config.channels, width], kernel, options);
        let (mut blocks, mut channels) = (Vec::new(), width);
        for (stage, count) in config.blocks.into_iter().enumerate() {
            let inner = width << stage;
            for index in 0..count {
                let name = format!("layer{}.{index}", stage + 1);
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                blocks.push(parameters.scope(&name, |p| {
                    if bottleneck {
                        Block::bottleneck(p, &name, channels, inner, stride)
                    } else {
                        Block::basic(p, &name, channels, inner, stride)
                    }
                }));
                channels = if bottleneck { 4 * inner } else { inner };
            }
        }
        let resnet = Resnet { config, stem, blocks, fc: Linear::new(parameters, "fc", channels, config.classes) };
        start_filters(parameters);
        resnet
    }

    /// Images `[b, channels, height, width]` to logits `[b, classes]`.
    #[track_caller]
    pub fn forward<'g>(&self, images: Tensor<'g>) -> Tensor<'g> {
        if !are_images("resnet", images, self.config.channels) {
            return images;
        }
        let mut x = self.stem.forward(images).relu();
        if !self.config.small_images {
            x = x.max_pool2d(PoolOptions::new([3, 3]).stride([2, 2]).padding([1, 1]));
        }
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.fc.forward(x.mean(&[2, 3]))
    }
}

impl Block {
    /// Twice 3 x 3.
    fn basic(p: &mut Parameters, name: &str, channels: usize, inner: usize, stride: usize) -> Block {
        let (plain, strided) = (ConvOptions::new(), ConvOptions::new().stride(stride));
        let convs = vec![
            ConvNorm::new(p, ["conv1", "bn1"], [channels, inner], 3, strided),
            ConvNorm::new(p, ["conv2", "bn2"], [inner, inner], 3, plain),
        ];
        Block { name: name.into(), convs, downsample: downsample(p, [channels, inner], strided) }
    }

    /// 1 x 1 to fewer channels, 3 x 3, 1 x 1 to four times as many.
    fn bottleneck(p: &mut Parameters, name: &str, channels: usize, inner: usize, stride: usize) -> Block {
        let (plain, strided) = (ConvOptions::new(), ConvOptions::new().stride(stride));
        let convs = vec![
            ConvNorm::new(p, ["conv1", "bn1"], [channels, inner], 1, plain),
            ConvNorm::new(p, ["conv2", "bn2"], [inner, inner], 3, strided),
            ConvNorm::new(p, ["conv3", "bn3"], [inner, 4 * inner], 1, plain),
        ];
        Block { name: name.into(), convs, downsample: downsample(p, [channels, 4 * inner], strided) }
    }

    fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.graph().scope(&self.name, || {
            let last = self.convs.len().saturating_sub(1);
            let branch = self.convs.iter().enumerate().fold(x, |y, (index, conv)| {
                let y = conv.forward(y);
                if index < last { y.relu() } else { y }
            });
            let skip = self.downsample.as_ref().map_or(x, |downsample| downsample.forward(x));
            (branch + skip).relu()
        })
    }
}

fn downsample(p: &mut Parameters, channels: [usize; 2], options: ConvOptions<2>) -> Option<ConvNorm> {
    let differs = channels[0] != channels[1] || options.stride != [1, 1];
    differs.then(|| ConvNorm::new(p, ["downsample.0", "downsample.1"], channels, 1, options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::graph::Graph;

    #[test]
    fn the_sizes_are_the_published_ones() {
        let configs = [ResnetConfig::resnet18(), ResnetConfig::resnet34(), ResnetConfig::resnet50()];
        for (config, wanted) in configs.into_iter().zip([11_689_512, 21_797_672, 25_557_032]) {
            let mut parameters = Parameters::new();
            let model = Resnet::new(&mut parameters, config);
            assert_eq!(parameters.count(), wanted);
            let graph = Graph::new();
            let logits = model.forward(graph.input("x", [2, 3, 64, 64], DType::F32));
            graph.error().unwrap();
            assert_eq!(logits.shape()[..], [2, 1000]);
        }
    }

    #[test]
    fn images_of_another_shape_are_refused() {
        let model = Resnet::new(&mut Parameters::new(), ResnetConfig::resnet18());
        let graph = Graph::new();
        model.forward(graph.input("x", [2, 1, 64, 64], DType::F32));
        assert!(graph.error().unwrap_err().to_string().contains("[samples, 3, height, width]"));
    }
}
