//! An imported model as a layer: its weights become parameters, so that it can be trained.
//!
//! Weights are the file's float initializers, and floats that it fills with `ConstantOfShape`. What batch norm remembers
//! (means and variances) and tables of constants become buffers, which keep their values. Nothing here knows how to train.

use super::trace::{Kind, Tracer};
use super::{Model, Traced};
use crate::error::Result;
use crate::graph::{Graph, Tensor, TensorType};
use crate::nn::{Init, Parameters};
use crate::reference::Array;
use std::collections::{HashMap, HashSet};

/// A model whose weights are registered as parameters.
///
/// ```
/// # use wgrad::{graph::{Graph, TensorType}, dtype::DType, io::onnx::{Model, Trainable}, nn::Parameters};
/// # fn example(bytes: &[u8]) -> wgrad::Result<()> {
/// let mut parameters = Parameters::new();
/// let inputs = [("image", TensorType::new([8, 3, 32, 32], DType::F32))];
/// let net = Trainable::new(&mut parameters, Model::parse(bytes)?.any_sizes(), &inputs, &[])?;
/// let loss = |graph: &Graph| {
///     let image = graph.input("image", [8, 3, 32, 32], DType::F32);
///     // ... a loss of net.forward(graph, &[("image", image)])
/// #   let _ = net.forward(graph, &[("image", image)]);
/// };
/// # loss(&Graph::new()); Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Trainable {
    model: Model,
    constants: Vec<(String, Array)>,
    /// Names of states here, and in full.
    names: HashMap<String, String>,
}

impl Trainable {
    /// Traces the model once, with inputs of these types and constants for those that decide about shapes, and registers
    /// what it reads: weights as parameters with the file's values, under the current scope of `parameters`.
    pub fn new(
        parameters: &mut Parameters,
        model: Model,
        inputs: &[(&str, TensorType)],
        constants: &[(&str, Array)],
    ) -> Result<Trainable> {
        let graph = Graph::new();
        let tracer = Tracer { filled_weights: true, ..Tracer::new(&model, &graph) };
        let tensors: Vec<(&str, Tensor<'_>)> =
            inputs.iter().map(|(name, ty)| (*name, graph.input(&format!("in/{name}"), &ty.shape, ty.dtype))).collect();
        model.run(&tracer, &tensors, constants)?;
        let statistics = statistics(&model);
        let mut names = HashMap::new();
        for (name, (array, kind)) in tracer.states.take() {
            let init = Init::Values(array.to_f32().into());
            let trained = kind == Kind::Weight && !statistics.contains(name.as_str());
            let full = match trained {
                true => parameters.add(&name, &array.ty.shape, init).name().to_string(),
                false => parameters.buffer(&name, &array.ty.shape, init).name().to_string(),
            };
            names.insert(name, full);
        }
        parameters.check()?;
        let constants = constants.iter().map(|(name, array)| (name.to_string(), array.clone())).collect();
        Ok(Trainable { names, constants, model })
    }

    /// The model's outputs by name. What goes wrong is the graph's error.
    pub fn forward<'g>(&self, graph: &'g Graph, inputs: &[(&str, Tensor<'g>)]) -> Vec<(String, Tensor<'g>)> {
        let names = Some(&self.names);
        let tracer = Tracer { filled_weights: true, parameters: names, ..Tracer::new(&self.model, graph) };
        let constants: Vec<(&str, Array)> =
            self.constants.iter().map(|(name, array)| (name.as_str(), array.clone())).collect();
        match self.model.run(&tracer, inputs, &constants) {
            Ok(Traced { outputs, .. }) => outputs,
            Err(error) => {
                graph.record(error);
                self.model.outputs().into_iter().map(|output| (output.name, graph.float(0.0))).collect()
            }
        }
    }

    /// The first output, of a model that has one.
    pub fn first<'g>(&self, graph: &'g Graph, inputs: &[(&str, Tensor<'g>)]) -> Tensor<'g> {
        self.forward(graph, inputs).first().map_or_else(|| graph.float(0.0), |(_, tensor)| *tensor)
    }
}

/// The means and variances that batch norms read.
fn statistics(model: &Model) -> HashSet<&str> {
    let norms = model.graph.node.iter().filter(|node| node.op_type.as_deref() == Some("BatchNormalization"));
    norms.flat_map(|node| node.input.iter().skip(3).map(String::as_str)).collect()
}
