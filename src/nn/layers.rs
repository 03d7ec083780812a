//! Layers: a struct of parameters, a `new` that registers them, a `forward` that writes tensors.
//!
//! First values are PyTorch's defaults; [`Parameters::init_by`] changes them. Shapes in names:
//! `i` features in, `o` features out, `..` any leading axes.

use super::param::{Init, Param, Parameters};
use crate::graph::Tensor;
use std::sync::Arc;

/// `y = x W + b` with `W` of shape `[in, out]`. As `torch.nn.Linear`, whose weight is transposed.
#[derive(Debug, Clone)]
pub struct Linear {
    name: Arc<str>,
    pub weight: Param,
    pub bias: Option<Param>,
}

impl Linear {
    /// With a bias. Both start uniform within `1 / sqrt(features_in)`.
    pub fn new(parameters: &mut Parameters, name: &str, features_in: usize, features_out: usize) -> Linear {
        let mut linear = Linear::without_bias(parameters, name, features_in, features_out);
        let init = Init::Uniform(bound(features_in));
        linear.bias = Some(parameters.scope(name, |p| p.add("bias", [features_out], init)));
        linear
    }

    /// Without a bias.
    pub fn without_bias(parameters: &mut Parameters, name: &str, features_in: usize, features_out: usize) -> Linear {
        let init = Init::Uniform(bound(features_in));
        let weight = parameters.scope(name, |p| p.add("weight", [features_in, features_out], init));
        Linear { name: name.into(), weight, bias: None }
    }

    /// `[.., in]` to `[.., out]`.
    #[track_caller]
    pub fn forward<'g>(&self, x_i: Tensor<'g>) -> Tensor<'g> {
        let graph = x_i.graph();
        graph.scope(&self.name, || {
            let y_o = x_i.matmul(self.weight.tensor(graph));
            self.bias.as_ref().map_or(y_o, |bias| y_o + bias.tensor(graph))
        })
    }
}

fn bound(features_in: usize) -> f32 {
    1.0 / (features_in.max(1) as f32).sqrt()
}

/// A table of vectors looked up by index; `torch.nn.Embedding`. Starts normal with deviation 1.
#[derive(Debug, Clone)]
pub struct Embedding {
    name: Arc<str>,
    pub weight: Param,
}

impl Embedding {
    /// `rows` vectors of `features` numbers.
    pub fn new(parameters: &mut Parameters, name: &str, rows: usize, features: usize) -> Embedding {
        let weight = parameters.scope(name, |p| p.add("weight", [rows, features], Init::Normal(1.0)));
        Embedding { name: name.into(), weight }
    }

    /// Indices `[..]` (i32 or u32) to vectors `[.., features]`; an index outside the table gives zeros.
    #[track_caller]
    pub fn forward<'g>(&self, index: Tensor<'g>) -> Tensor<'g> {
        let graph = index.graph();
        graph.scope(&self.name, || self.weight.tensor(graph).gather(index))
    }
}

/// Normalisation over the last axis, or several, with gain and bias; `torch.nn.LayerNorm`, eps 1e-5.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    name: Arc<str>,
    pub weight: Param,
    pub bias: Param,
    pub eps: f32,
}

impl LayerNorm {
    pub fn new(parameters: &mut Parameters, name: &str, features: usize) -> LayerNorm {
        parameters.scope(name, |p| LayerNorm {
            name: name.into(),
            weight: p.add("weight", [features], Init::Ones),
            bias: p.add("bias", [features], Init::Zeros),
            eps: 1e-5,
        })
    }

    /// With another eps, which is added to the variance.
    pub fn with_eps(self, eps: f32) -> LayerNorm {
        LayerNorm { eps, ..self }
    }

    /// `[.., features]` to the same shape.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let graph = x.graph();
        graph.scope(&self.name, || x.layer_norm(self.weight.tensor(graph), self.bias.tensor(graph), self.eps))
    }
}

/// Division by the root mean square over the last axis, with a gain; `torch.nn.RMSNorm`, eps 1e-6.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    name: Arc<str>,
    pub weight: Param,
    pub eps: f32,
}

impl RmsNorm {
    pub fn new(parameters: &mut Parameters, name: &str, features: usize) -> RmsNorm {
        let weight = parameters.scope(name, |p| p.add("weight", [features], Init::Ones));
        RmsNorm { name: name.into(), weight, eps: 1e-6 }
    }

    /// With another eps, which is added to the mean square.
    pub fn with_eps(self, eps: f32) -> RmsNorm {
        RmsNorm { eps, ..self }
    }

    /// `[.., features]` to the same shape.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let graph = x.graph();
        graph.scope(&self.name, || x.rms_norm(self.weight.tensor(graph), self.eps))
    }
}

/// Zeroes elements with probability `p` while training; `torch.nn.Dropout`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    pub p: f64,
}

impl Dropout {
    pub fn new(p: f64) -> Dropout {
        Dropout { p }
    }

    /// `[samples, ..]` to the same shape.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.graph().scope("dropout", || x.dropout(self.p))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::graph::Graph;

    #[test]
    fn layers_name_their_parameters_and_infer_their_shapes() {
        let mut parameters = Parameters::new();
        let linear = Linear::new(&mut parameters, "fc", 3, 5);
        let norm = LayerNorm::new(&mut parameters, "ln", 5);
        let rms = RmsNorm::new(&mut parameters, "rms", 5);
        let table = Embedding::new(&mut parameters, "wte", 7, 3);
        let graph = Graph::new();
        let index = graph.input("index", [2, 4], DType::I32);
        let y = rms.forward(norm.forward(linear.forward(table.forward(index))));
        assert_eq!(y.shape()[..], [2, 4, 5]);
        graph.error().unwrap();
        let names: Vec<&str> = parameters.specs().iter().map(|spec| &*spec.name).collect();
        assert_eq!(names, ["fc.weight", "fc.bias", "ln.weight", "ln.bias", "rms.weight", "wte.weight"]);
    }

    #[test]
    fn dropout_acts_in_training_only() {
        let graph = Graph::new();
        let x = graph.input("x", [2, 3], DType::F32);
        assert_eq!(Dropout::new(0.5).forward(x).value(), x.value());
        graph.set_training(true);
        assert_ne!(Dropout::new(0.5).forward(x).value(), x.value());
    }
}
