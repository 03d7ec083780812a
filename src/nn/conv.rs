//! Convolution layers: data channels first, weights as PyTorch's, first values too.
//!
//! Poolings carry no state and are methods of a tensor (`tensor/pool.rs`).

use super::param::{Init, Param, Parameters};
use crate::graph::Tensor;
use crate::shape::Shape;
use crate::tensor::ConvOptions;
use std::sync::Arc;

/// Convolution over `N` spatial axes: weight `[out, in / groups, ..kernel]`.
#[derive(Debug, Clone)]
pub struct Conv<const N: usize> {
    name: Arc<str>,
    pub weight: Param,
    pub bias: Option<Param>,
    pub options: ConvOptions<N>,
}

/// `torch.nn.Conv1d`.
pub type Conv1d = Conv<1>;
/// `torch.nn.Conv2d`.
pub type Conv2d = Conv<2>;

impl<const N: usize> Conv<N> {
    /// From `channels[0]` to `channels[1]`, with a bias. Both start uniform within `1 / sqrt(fan in)`, the fan in
    /// being the elements of a window that one output sees.
    pub fn new(
        parameters: &mut Parameters,
        name: &str,
        channels: [usize; 2],
        kernel: [usize; N],
        options: ConvOptions<N>,
    ) -> Conv<N> {
        let mut conv = Conv::without_bias(parameters, name, channels, kernel, options);
        let init = Init::Uniform(bound(&conv.weight.shape()[1..]));
        conv.bias = Some(parameters.scope(name, |p| p.add("bias", [channels[1]], init)));
        conv
    }

    /// Without a bias.
    pub fn without_bias(
        parameters: &mut Parameters,
        name: &str,
        channels: [usize; 2],
        kernel: [usize; N],
        options: ConvOptions<N>,
    ) -> Conv<N> {
        let shape = [&[channels[1], channels[0] / options.groups.max(1)], &kernel[..]].concat();
        let init = Init::Uniform(bound(&shape[1..]));
        let weight = parameters.scope(name, |p| p.add("weight", shape, init));
        Conv { name: name.into(), weight, bias: None, options }
    }

    /// `[n, in, ..]` to `[n, out, ..]`; or one sample without `n`.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let graph = x.graph();
        graph.scope(&self.name, || {
            let y = x.conv_by("conv", self.weight.tensor(graph), &self.options);
            with_bias(y, self.bias.as_ref(), N)
        })
    }
}

/// Transposed convolution over `N` spatial axes: weight `[in, out / groups, ..kernel]`.
#[derive(Debug, Clone)]
pub struct ConvTranspose<const N: usize> {
    name: Arc<str>,
    pub weight: Param,
    pub bias: Option<Param>,
    pub options: ConvOptions<N>,
    /// Lengthens the result behind; see [`Tensor::conv_transpose2d`].
    pub output_padding: [usize; N],
}

/// `torch.nn.ConvTranspose1d`.
pub type ConvTranspose1d = ConvTranspose<1>;
/// `torch.nn.ConvTranspose2d`.
pub type ConvTranspose2d = ConvTranspose<2>;

impl<const N: usize> ConvTranspose<N> {
    /// From `channels[0]` to `channels[1]`, with a bias. Both start uniform within
    /// `1 / sqrt(out / groups * kernel)`, as PyTorch's do.
    pub fn new(
        parameters: &mut Parameters,
        name: &str,
        channels: [usize; 2],
        kernel: [usize; N],
        options: ConvOptions<N>,
    ) -> ConvTranspose<N> {
        let mut conv = ConvTranspose::without_bias(parameters, name, channels, kernel, options);
        let init = Init::Uniform(bound(&conv.weight.shape()[1..]));
        conv.bias = Some(parameters.scope(name, |p| p.add("bias", [channels[1]], init)));
        conv
    }

    /// Without a bias.
    pub fn without_bias(
        parameters: &mut Parameters,
        name: &str,
        channels: [usize; 2],
        kernel: [usize; N],
        options: ConvOptions<N>,
    ) -> ConvTranspose<N> {
        let shape = [&[channels[0], channels[1] / options.groups.max(1)], &kernel[..]].concat();
        let init = Init::Uniform(bound(&shape[1..]));
        let weight = parameters.scope(name, |p| p.add("weight", shape, init));
        ConvTranspose { name: name.into(), weight, bias: None, options, output_padding: [0; N] }
    }

    /// The same with a longer result.
    pub fn output_padding(self, output_padding: [usize; N]) -> ConvTranspose<N> {
        ConvTranspose { output_padding, ..self }
    }

    /// `[n, in, ..]` to `[n, out, ..]`; or one sample without `n`.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let graph = x.graph();
        let ConvOptions { stride, padding, dilation, groups, keeps_size: _ } = &self.options;
        graph.scope(&self.name, || {
            let weight = self.weight.tensor(graph);
            let y = x.conv_transpose(weight, stride, padding, dilation, *groups, &self.output_padding);
            with_bias(y, self.bias.as_ref(), N)
        })
    }
}

fn bound(seen: &[usize]) -> f32 {
    1.0 / (seen.iter().product::<usize>().max(1) as f32).sqrt()
}

/// One number added to each channel.
#[track_caller]
fn with_bias<'g>(y: Tensor<'g>, bias: Option<&Param>, axes: usize) -> Tensor<'g> {
    bias.map_or(y, |bias| {
        let shape: Shape = bias.shape().iter().copied().chain(vec![1; axes]).collect();
        y + bias.tensor(y.graph()).reshape(shape)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::graph::Graph;

    #[test]
    fn layers_have_the_shapes_and_first_values_of_pytorch() {
        let mut parameters = Parameters::new();
        let options = ConvOptions::new().stride(2).padding(1).groups(2);
        let down = Conv2d::new(&mut parameters, "down", [4, 6], [3, 3], options);
        let up = ConvTranspose2d::new(&mut parameters, "up", [6, 4], [3, 3], options).output_padding([1, 1]);
        let line = Conv1d::without_bias(&mut parameters, "line", [4, 8], [5], ConvOptions::new());
        let graph = Graph::new();
        let x = graph.input("x", [2, 4, 8, 8], DType::F32);
        let y = up.forward(down.forward(x));
        assert_eq!(y.shape()[..], [2, 4, 8, 8]);
        assert_eq!(line.forward(y.reshape([2, 4, 64])).shape()[..], [2, 8, 60]);
        graph.error().unwrap();
        let shapes: Vec<_> = parameters.specs().iter().map(|spec| (&*spec.name, spec.shape.to_vec())).collect();
        assert_eq!(shapes[0], ("down.weight", vec![6, 2, 3, 3]));
        assert_eq!(shapes[2], ("up.weight", vec![6, 2, 3, 3]));
        assert_eq!(shapes.len(), 5);
        assert_eq!(parameters.specs()[1].init, Init::Uniform(1.0 / 18f32.sqrt()));
    }
}
