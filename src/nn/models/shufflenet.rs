//! ShuffleNet: 1 x 1 convolutions in groups, and a shuffle of the channels between them so that groups hear of each
//! other (Zhang et al. 2017, version 1).
//!
//! Shapes in names: `b` samples, `c` channels, `g` groups, `h` and `w` height and width.

use super::conv_norm::{ConvNorm, are_images, start_filters};
use crate::graph::Tensor;
use crate::nn::{Linear, Parameters};
use crate::tensor::{AvgOptions, ConvOptions, PoolOptions, concat};

/// The size of a [`Shufflenet`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShufflenetConfig {
    /// Groups of the 1 x 1 convolutions; divides a quarter of each of `widths`.
    pub groups: usize,
    /// Channels at the entrance.
    pub stem: usize,
    /// Channels of the three stages, each a multiple of four times `groups`.
    pub widths: [usize; 3],
    /// Units in each stage; the first of them halves height and width.
    pub units: [usize; 3],
    /// Channels of an image.
    pub channels: usize,
    pub classes: usize,
    /// For images of some 32 x 32: no stride at the entrance, and no pooling.
    pub small_images: bool,
}

impl ShufflenetConfig {
    /// The paper's ShuffleNet 1x with three groups (its table 1): 1,865,728 parameters, counted in PyTorch.
    pub const fn imagenet() -> ShufflenetConfig {
        let (stem, widths, units) = (24, [240, 480, 960], [4, 8, 4]);
        ShufflenetConfig { groups: 3, stem, widths, units, channels: 3, classes: 1000, small_images: false }
    }
}

/// The model.
#[derive(Debug, Clone)]
pub struct Shufflenet {
    pub config: ShufflenetConfig,
    stem: ConvNorm,
    units: Vec<Unit>,
    fc: Linear,
}

/// A grouped bottleneck around a depthwise convolution.
#[derive(Debug, Clone)]
struct Unit {
    name: String,
    groups: usize,
    /// The unit halves height and width, and its input, pooled, goes before its result instead of being added.
    halves: bool,
    squeeze: ConvNorm,
    depthwise: ConvNorm,
    expand: ConvNorm,
}

impl Shufflenet {
    /// Filters start as He et al. have them, `fc` as PyTorch's default.
    pub fn new(parameters: &mut Parameters, config: ShufflenetConfig) -> Shufflenet {
        let ShufflenetConfig { groups, stem, .. } = config;
        let entrance = ConvOptions::new().stride(if config.small_images { 1 } else { 2 });
        let first = ConvNorm::new(parameters, ["conv1", "bn1"], [config.channels, stem], 3, entrance);
        let (mut units, mut channels) = (Vec::new(), stem);
        for (stage, (width, count)) in config.widths.into_iter().zip(config.units).enumerate() {
            for index in 0..count {
                let name = format!("stage{}.{index}", stage + 2);
                // The entrance has too few channels for groups.
                let squeeze_groups = if stage == 0 && index == 0 { 1 } else { groups };
                let sizes = [channels, width];
                let unit = |p: &mut Parameters| Unit::new(p, &name, sizes, [squeeze_groups, groups], index == 0);
                units.push(parameters.scope(&name, unit));
                channels = width;
            }
        }
        let fc = Linear::new(parameters, "fc", channels, config.classes);
        start_filters(parameters);
        Shufflenet { config, stem: first, units, fc }
    }

    /// Images `[b, channels, height, width]` to logits `[b, classes]`.
    #[track_caller]
    pub fn forward<'g>(&self, images: Tensor<'g>) -> Tensor<'g> {
        if !are_images("shufflenet", images, self.config.channels) {
            return images;
        }
        let mut x = self.stem.forward(images).relu();
        if !self.config.small_images {
            x = x.max_pool2d(PoolOptions::new([3, 3]).stride([2, 2]).padding([1, 1]));
        }
        let x = self.units.iter().fold(x, |x, unit| unit.forward(x));
        self.fc.forward(x.mean(&[2, 3]))
    }
}

impl Unit {
    fn new(p: &mut Parameters, name: &str, [input, output]: [usize; 2], groups: [usize; 2], halves: bool) -> Unit {
        let inner = output / 4;
        let branch = if halves { output.saturating_sub(input) } else { output };
        let alone = ConvOptions::new().groups(inner).stride(if halves { 2 } else { 1 });
        let grouped = groups.map(|groups| ConvOptions::new().groups(groups));
        Unit {
            name: name.into(),
            groups: groups[1],
            halves,
            squeeze: ConvNorm::new(p, ["conv1", "bn1"], [input, inner], 1, grouped[0]),
            depthwise: ConvNorm::new(p, ["conv2", "bn2"], [inner, inner], 3, alone),
            expand: ConvNorm::new(p, ["conv3", "bn3"], [inner, branch], 1, grouped[1]),
        }
    }

    fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.graph().scope(&self.name, || {
            let y = shuffle(self.squeeze.forward(x).relu(), self.groups);
            let y = self.expand.forward(self.depthwise.forward(y));
            if self.halves {
                let pool = PoolOptions::new([3, 3]).stride([2, 2]).padding([1, 1]);
                concat(x.avg_pool2d(pool, AvgOptions::default()), &[y], 1).relu()
            } else {
                (x + y).relu()
            }
        })
    }
}

/// Channel `i` of group `j` becomes channel `j` of group `i`.
fn shuffle(x_bchw: Tensor<'_>, groups: usize) -> Tensor<'_> {
    let shape = x_bchw.shape();
    let (b, c, h, w) = (shape[0], shape[1], shape[2], shape[3]);
    x_bchw.reshape([b, groups, c / groups.max(1), h, w]).transpose(1, 2).reshape([b, c, h, w])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::graph::Graph;

    #[test]
    fn it_has_the_size_that_pytorch_counts() {
        let mut parameters = Parameters::new();
        let model = Shufflenet::new(&mut parameters, ShufflenetConfig::imagenet());
        assert_eq!(parameters.count(), 1_865_728);
        let graph = Graph::new();
        let logits = model.forward(graph.input("x", [2, 3, 64, 64], DType::F32));
        graph.error().unwrap();
        assert_eq!(logits.shape()[..], [2, 1000]);
    }
}
