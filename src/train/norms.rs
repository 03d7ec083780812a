//! The norm of each parameter and of its gradient, computed beside the update and read back with the loss.
//!
//! A few launches for all of them (`lower/squares.rs`); nothing that is trained depends on them.

use super::step::in_order;
use crate::error::Result;
use crate::gpu::Results;
use crate::graph::{Op, Tensor};
use crate::nn::Parameters;
use crate::optim::Optimizers;
use std::sync::Arc;

/// The output of the update with the norms of the gradients, in the order of [`names`].
const GRADIENTS: &str = "norms/gradients";
/// The output with those of the parameters.
const WEIGHTS: &str = "norms/weights";

/// Norms of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterNorms {
    pub name: Arc<str>,
    /// Of the gradient of the mean loss, before clipping.
    pub gradient: f32,
    /// Of the parameter before the update.
    pub weight: f32,
}

/// Adds the norms to an update. `factor` makes gradients of the mean loss of what is in their states.
pub(super) fn output<'g>(gradients: &[Tensor<'g>], weights: &[Tensor<'g>], factor: Option<Tensor<'g>>) {
    let norms = |tensors: &[Tensor<'g>]| {
        let (first, rest) = tensors.split_first()?;
        Some(first.apply(Op::SumSquares { each: true }, rest).sqrt())
    };
    let (Some(gradients), Some(weights)) = (norms(gradients), norms(weights)) else { return };
    let graph = gradients.graph();
    graph.output(GRADIENTS, factor.map_or(gradients, |factor| gradients * factor));
    graph.output(WEIGHTS, weights);
}

/// The trained parameters in the order of the norms.
pub(super) fn names(parameters: &Parameters, optimizers: &Optimizers) -> Vec<Arc<str>> {
    in_order(parameters, optimizers).into_iter().map(|spec| spec.name.clone()).collect()
}

/// The norms that a step gave.
pub(super) fn read(names: &[Arc<str>], results: &Results) -> Result<Vec<ParameterNorms>> {
    let (gradients, weights) = (results.f32(GRADIENTS)?, results.f32(WEIGHTS)?);
    let all = names.iter().zip(gradients.iter().zip(&weights[..]));
    Ok(all.map(|(name, (&gradient, &weight))| ParameterNorms { name: name.clone(), gradient, weight }).collect())
}
