//! Running means of the weights: the states that hold them, and the evaluation that uses them.
//!
//! The update computes them in the optimizer's own kernel (`step.rs`), by the rule of [`crate::optim::Ema`].

use super::step::in_order;
use crate::dtype::DType;
use crate::graph::{Graph, Op, TensorType};
use crate::io::safetensors::Weights;
use crate::nn::{ParameterSpec, Parameters};
use crate::optim::Optimizers;
use crate::passes::rewrite;
use crate::program::{Category, StateSpec};
use std::collections::HashSet;

/// How the names of the states with means begin.
const MEANS: &str = "ema/";
/// Stands for a group of parameters in the name of the scalar that a mean is updated with.
pub(super) const GROUP: &str = "ema/";
/// What the weights enter the mean with.
pub(super) const SHARE: &str = "share";

/// The state that an evaluation with means reads a parameter or buffer from.
pub(super) fn used_name(spec: &ParameterSpec) -> String {
    if spec.trainable { format!("{MEANS}{}", spec.name) } else { spec.name.to_string() }
}

/// Whether a state is a mean.
pub(super) fn is_mean(state: &str) -> bool {
    state.starts_with(MEANS)
}

/// The states of the means, in the order of the weights, so that they are updated together.
pub(super) fn specs(parameters: &Parameters, optimizers: &Optimizers) -> Vec<StateSpec> {
    let spec = |spec: &ParameterSpec| StateSpec {
        name: used_name(spec),
        ty: TensorType::new(&spec.shape, DType::F32),
        category: Category::Optimizer,
        group: format!("{}/ema", parameters.groups()[spec.group].name),
    };
    in_order(parameters, optimizers).into_iter().map(spec).collect()
}

/// An evaluation that reads means in place of the weights that are trained.
pub(super) fn averaged(eval: &Graph, parameters: &Parameters) -> Graph {
    let trained: HashSet<&str> = parameters.trainable().map(|spec| &*spec.name).collect();
    rewrite(eval, |to, node, _| match &node.op {
        Op::State(name) if trained.contains(&**name) => {
            let ty = &node.outputs[0];
            Some(to.state(&format!("{MEANS}{name}"), &ty.shape, ty.dtype).value())
        }
        _ => None,
    })
}

/// The weights of a checkpoint that an evaluation uses: means, where it holds them, under the names of the parameters.
pub fn in_place(mut checkpoint: Weights) -> Weights {
    let means: Vec<_> = checkpoint.tensors.extract_if(.., |tensor| is_mean(&tensor.name)).collect();
    for mean in means {
        let name = &mean.name[MEANS.len()..];
        if let Some(own) = checkpoint.tensors.iter_mut().find(|tensor| tensor.name == name) {
            own.bytes = mean.bytes;
        }
    }
    checkpoint
}
