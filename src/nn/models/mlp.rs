//! A perceptron: linear layers with ReLU between them.

use crate::graph::Tensor;
use crate::nn::{Linear, Parameters};

/// Linear layers named `layer.0`, `layer.1`, …
#[derive(Debug, Clone)]
pub struct Mlp {
    pub layers: Vec<Linear>,
}

impl Mlp {
    /// `sizes` are the features of the input, of each hidden layer, and of the output.
    pub fn new(parameters: &mut Parameters, sizes: &[usize]) -> Mlp {
        let layer = |(i, pair): (usize, &[usize])| Linear::new(parameters, &format!("layer.{i}"), pair[0], pair[1]);
        Mlp { layers: sizes.windows(2).enumerate().map(layer).collect() }
    }

    /// `[samples, in]` to `[samples, out]`.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let last = self.layers.len().saturating_sub(1);
        self.layers.iter().enumerate().fold(x, |x, (i, layer)| {
            let y = layer.forward(x);
            if i < last { y.relu() } else { y }
        })
    }
}
