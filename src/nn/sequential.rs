//! A model as a list of layers that are data: what a page or a file can say.
//!
//! Layers are named by their numbers, as `torch.nn.Sequential`'s, and find the sizes of their inputs themselves, by
//! being traced once. Knows nothing about losses.

use super::{BatchNorm, Conv2d, Dropout, Embedding, LayerNorm, Linear, Parameters};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{Graph, Tensor};
use crate::shape::Shape;
use crate::tensor::{AvgOptions, ConvOptions, PoolOptions};

/// One layer, with PyTorch's arguments under PyTorch's names.
#[derive(Debug, Clone, PartialEq)]
pub enum Layer {
    /// `torch.nn.Linear`, on the last axis.
    Linear(LinearSpec),
    /// `torch.nn.Conv2d` on `[channels, height, width]`.
    Conv2d(ConvSpec),
    MaxPool2d(PoolSpec),
    AvgPool2d(PoolSpec),
    /// The mean of each channel.
    GlobalAvgPool,
    /// `torch.nn.BatchNorm1d` and `2d`, on the first axis of a sample.
    BatchNorm,
    /// `torch.nn.LayerNorm` over the last axis.
    LayerNorm,
    Dropout(f64),
    /// A sample becomes one row.
    Flatten,
    /// `torch.nn.Embedding`: integers become vectors.
    Embedding(EmbeddingSpec),
    /// What goes in is added to what these layers make of it.
    Residual(Vec<Layer>),
    Relu,
    LeakyRelu(f64),
    Gelu,
    Silu,
    Tanh,
    Sigmoid,
}

/// Arguments of [`Layer::Linear`].
#[derive(Debug, Clone, PartialEq)]
pub struct LinearSpec {
    pub features: usize,
    pub bias: bool,
}

/// Arguments of [`Layer::Conv2d`].
#[derive(Debug, Clone, PartialEq)]
pub struct ConvSpec {
    /// Channels that come out.
    pub filters: usize,
    pub kernel: [usize; 2],
    pub stride: usize,
    pub padding: usize,
    pub groups: usize,
    pub bias: bool,
}

/// Arguments of [`Layer::MaxPool2d`] and [`Layer::AvgPool2d`].
#[derive(Debug, Clone, PartialEq)]
pub struct PoolSpec {
    pub kernel: [usize; 2],
    /// The kernel's size if it is not given.
    pub stride: Option<[usize; 2]>,
    pub padding: usize,
}

/// Arguments of [`Layer::Embedding`].
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingSpec {
    pub rows: usize,
    pub features: usize,
}

/// Sizes above this are mistakes.
const MOST: usize = 1 << 24;

/// A layer with its parameters.
#[derive(Debug, Clone)]
enum Built {
    Linear(Linear),
    Conv2d(Conv2d),
    BatchNorm(BatchNorm),
    LayerNorm(LayerNorm),
    Embedding(Embedding),
    Residual(Vec<Built>),
    /// Has none.
    Plain(Layer),
}

/// Layers one after the other; `torch.nn.Sequential`.
#[derive(Debug, Clone)]
pub struct Sequential {
    layers: Vec<Built>,
    output: Shape,
}

impl Sequential {
    /// For samples of this shape and type, without the axis of samples.
    pub fn new(parameters: &mut Parameters, layers: &[Layer], sample: &Shape, dtype: DType) -> Result<Sequential> {
        let graph = Graph::new();
        let shape: Shape = std::iter::once(1).chain(sample.iter().copied()).collect();
        let input = graph.input("x", shape, dtype);
        let (layers, output) = build(parameters, layers, input, "")?;
        graph.error()?;
        Ok(Sequential { layers, output: output.shape().iter().copied().skip(1).collect() })
    }

    /// `[samples, ..]` to `[samples, ..]`.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        self.layers.iter().fold(x, |x, layer| layer.forward(x))
    }

    /// Of what comes out for one sample.
    pub fn output(&self) -> &Shape {
        &self.output
    }
}

fn build<'g>(
    parameters: &mut Parameters,
    layers: &[Layer],
    input: Tensor<'g>,
    above: &str,
) -> Result<(Vec<Built>, Tensor<'g>)> {
    let (mut built, mut x) = (Vec::with_capacity(layers.len()), input);
    for (number, layer) in layers.iter().enumerate() {
        let name = format!("{above}{number}");
        let own = one_layer(parameters, layer, x, &name)?;
        x = own.forward(x);
        // The first layer that does not fit is named by its number.
        x.graph().error().map_err(|error| Error::config(format!("layer {name}: {error}")))?;
        built.push(own);
    }
    Ok((built, x))
}

fn one_layer<'g>(parameters: &mut Parameters, layer: &Layer, x: Tensor<'g>, name: &str) -> Result<Built> {
    let shape = x.shape();
    let axis = |axis: usize| shape.get(axis).copied().unwrap_or(1);
    let last = axis(shape.rank() - 1);
    let sizes = |wanted: &[usize]| match wanted.iter().find(|&&size| size == 0 || size > MOST) {
        Some(size) => Err(Error::config(format!("layer {name}: a size of {size} is not from 1 to {MOST}"))),
        None => Ok(()),
    };
    Ok(match layer {
        Layer::Linear(LinearSpec { features, bias }) => {
            sizes(&[*features])?;
            Built::Linear(match bias {
                true => Linear::new(parameters, name, last, *features),
                false => Linear::without_bias(parameters, name, last, *features),
            })
        }
        Layer::Conv2d(spec) => {
            sizes(&[spec.filters, spec.kernel[0], spec.kernel[1], spec.stride, spec.groups])?;
            let options = ConvOptions::new().stride(spec.stride).padding(spec.padding.min(MOST)).groups(spec.groups);
            let channels = [axis(1), spec.filters];
            Built::Conv2d(match spec.bias {
                true => Conv2d::new(parameters, name, channels, spec.kernel, options),
                false => Conv2d::without_bias(parameters, name, channels, spec.kernel, options),
            })
        }
        Layer::BatchNorm => Built::BatchNorm(BatchNorm::new(parameters, name, axis(1))),
        Layer::LayerNorm => Built::LayerNorm(LayerNorm::new(parameters, name, last)),
        Layer::Embedding(EmbeddingSpec { rows, features }) => {
            sizes(&[*rows, *features])?;
            Built::Embedding(Embedding::new(parameters, name, *rows, *features))
        }
        Layer::Residual(inner) => Built::Residual(build(parameters, inner, x, &format!("{name}."))?.0),
        Layer::MaxPool2d(spec) | Layer::AvgPool2d(spec) => {
            sizes(&spec.kernel)?;
            Built::Plain(layer.clone())
        }
        Layer::Dropout(p) if !(0.0..1.0).contains(p) => {
            return Err(Error::config(format!("layer {name}: dropout wants a probability from 0 to below 1, got {p}")));
        }
        Layer::GlobalAvgPool
        | Layer::Dropout(_)
        | Layer::Flatten
        | Layer::Relu
        | Layer::LeakyRelu(_)
        | Layer::Gelu
        | Layer::Silu
        | Layer::Tanh
        | Layer::Sigmoid => Built::Plain(layer.clone()),
    })
}

impl Built {
    #[track_caller]
    fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        match self {
            Built::Linear(layer) => layer.forward(x),
            Built::Conv2d(layer) => layer.forward(x),
            Built::BatchNorm(layer) => layer.forward(x),
            Built::LayerNorm(layer) => layer.forward(x),
            Built::Embedding(layer) => layer.forward(x),
            Built::Residual(layers) => x + layers.iter().fold(x, |x, layer| layer.forward(x)),
            Built::Plain(layer) => plain(layer, x),
        }
    }
}

/// What has no parameters.
#[track_caller]
fn plain<'g>(layer: &Layer, x: Tensor<'g>) -> Tensor<'g> {
    let windows = |spec: &PoolSpec| {
        let options = PoolOptions::new(spec.kernel).padding([spec.padding; 2]);
        options.stride(spec.stride.unwrap_or(spec.kernel))
    };
    match layer {
        Layer::MaxPool2d(spec) => x.max_pool2d(windows(spec)),
        Layer::AvgPool2d(spec) => x.avg_pool2d(windows(spec), AvgOptions::default()),
        Layer::GlobalAvgPool => x.global_avg_pool(),
        Layer::Dropout(p) => Dropout::new(*p).forward(x),
        Layer::Flatten => x.flatten(1, -1),
        Layer::Relu => x.relu(),
        Layer::LeakyRelu(slope) => x.leaky_relu(*slope),
        Layer::Gelu => x.gelu(),
        Layer::Silu => x.silu(),
        Layer::Tanh => x.tanh(),
        Layer::Sigmoid => x.sigmoid(),
        Layer::Linear(_)
        | Layer::Conv2d(_)
        | Layer::BatchNorm
        | Layer::LayerNorm
        | Layer::Embedding(_)
        | Layer::Residual(_) => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build_from(layers: &[Layer], sample: &[usize]) -> Result<(Parameters, Sequential)> {
        let mut parameters = Parameters::new();
        let model = Sequential::new(&mut parameters, layers, &sample.into(), DType::F32)?;
        Ok((parameters, model))
    }

    fn conv(kernel: usize, padding: usize, bias: bool) -> Layer {
        Layer::Conv2d(ConvSpec { filters: 4, kernel: [kernel; 2], stride: 1, padding, groups: 1, bias })
    }

    fn linear(features: usize) -> Layer {
        Layer::Linear(LinearSpec { features, bias: true })
    }

    fn pool(kernel: usize) -> Layer {
        Layer::MaxPool2d(PoolSpec { kernel: [kernel; 2], stride: None, padding: 0 })
    }

    #[test]
    fn layers_find_their_sizes_and_are_named_by_their_numbers() -> Result<()> {
        let residual = Layer::Residual(vec![conv(1, 0, false)]);
        let layers = [
            conv(3, 1, true),
            Layer::BatchNorm,
            Layer::Relu,
            pool(2),
            residual,
            Layer::Flatten,
            Layer::Dropout(0.5),
            linear(10),
        ];
        let (parameters, model) = build_from(&layers, &[1, 8, 6])?;
        let names: Vec<&str> = parameters.specs().iter().map(|spec| &*spec.name).collect();
        let norm = ["1.weight", "1.bias", "1.running_mean", "1.running_var"];
        let expected = [&["0.weight", "0.bias"][..], &norm, &["4.0.weight", "7.weight", "7.bias"]].concat();
        assert_eq!(names, expected);
        assert_eq!(parameters.specs()[7].shape[..], [4 * 4 * 3, 10]);
        assert_eq!(model.output()[..], [10]);
        let graph = Graph::new();
        assert_eq!(model.forward(graph.input("x", [5, 1, 8, 6], DType::F32)).shape()[..], [5, 10]);
        graph.error()
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_layers_number() {
        let message = |layers: &[Layer], sample: &[usize]| build_from(layers, sample).unwrap_err().to_string();
        assert!(message(&[Layer::Relu, pool(9)], &[1, 4, 4]).starts_with("layer 1: "));
        assert!(message(&[linear(0)], &[3]).contains("layer 0: a size of 0"));
        assert!(message(&[Layer::Dropout(1.5)], &[3]).contains("probability"));
        assert!(message(&[Layer::Residual(vec![linear(5)])], &[3]).starts_with("layer 0: "));
    }
}
