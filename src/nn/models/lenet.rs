//! LeNet-5: two convolutions and three linear layers for images of 28 x 28 (LeCun et al. 1998), with tanh
//! and means over windows, and every map of the second convolution seeing all of the first.

use crate::graph::Tensor;
use crate::nn::{Conv2d, Linear, Parameters};
use crate::tensor::{AvgOptions, ConvOptions, PoolOptions};

/// The size of a [`Lenet`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LenetConfig {
    pub classes: usize,
}

impl LenetConfig {
    /// For digits: 61,706 parameters (Zhang et al., "Dive into Deep Learning", section 7.6).
    pub const fn digits() -> LenetConfig {
        LenetConfig { classes: 10 }
    }
}

/// The model.
#[derive(Debug, Clone)]
pub struct Lenet {
    pub config: LenetConfig,
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
}

impl Lenet {
    pub fn new(parameters: &mut Parameters, config: LenetConfig) -> Lenet {
        Lenet {
            config,
            conv1: Conv2d::new(parameters, "conv1", [1, 6], [5, 5], ConvOptions::new().padding(2)),
            conv2: Conv2d::new(parameters, "conv2", [6, 16], [5, 5], ConvOptions::new()),
            fc1: Linear::new(parameters, "fc1", 16 * 5 * 5, 120),
            fc2: Linear::new(parameters, "fc2", 120, 84),
            fc3: Linear::new(parameters, "fc3", 84, config.classes),
        }
    }

    /// Images `[b, 1, 28, 28]` to logits `[b, classes]`.
    #[track_caller]
    pub fn forward<'g>(&self, images: Tensor<'g>) -> Tensor<'g> {
        let (graph, shape) = (images.graph(), images.shape());
        if shape.rank() != 4 || shape[1..] != [1, 28, 28] {
            graph.record_error("lenet", format!("images must be [samples, 1, 28, 28], got {shape}"));
            return images;
        }
        let halve = |x: Tensor<'g>| x.avg_pool2d(PoolOptions::new([2, 2]), AvgOptions::default());
        let x = halve(self.conv1.forward(images).tanh());
        let x = halve(self.conv2.forward(x).tanh()).flatten(1, 3);
        self.fc3.forward(self.fc2.forward(self.fc1.forward(x).tanh()).tanh())
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
        let model = Lenet::new(&mut parameters, LenetConfig::digits());
        assert_eq!(parameters.count(), 61_706);
        let graph = Graph::new();
        let logits = model.forward(graph.input("x", [3, 1, 28, 28], DType::F32));
        graph.error().unwrap();
        assert_eq!(logits.shape()[..], [3, 10]);
        model.forward(graph.input("y", [3, 1, 30, 30], DType::F32));
        assert!(graph.error().unwrap_err().to_string().contains("[samples, 1, 28, 28]"));
    }
}
