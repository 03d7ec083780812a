//! Gradients as graph to graph: one loop here, one rule an operation in `rules.rs`.
//!
//! A rule receives the gradient of its node's outputs and returns one gradient an operand, nothing
//! else. Walking, leaving out what no one asked for, and summing happen only here. Autodiff
//! never sees kernels: gradients are taken of meaning.

mod combine;
mod rules;
mod scan;

use crate::error::{Error, Result};
use crate::graph::{Tensor, Value};
use combine::combine;
use std::collections::HashMap;

/// The gradients of a scalar `loss` with respect to each of `wrt` (weights, inputs, anything).
/// A tensor that the loss does not depend on gets zeros.
pub fn grad<'g>(loss: Tensor<'g>, wrt: &[Tensor<'g>]) -> Result<Vec<Tensor<'g>>> {
    Ok(or_zeros(grad_reached(loss, wrt)?, wrt))
}

/// As [`grad`], for a loss that is to be trained: an error if it depends on none of the parameters.
pub fn grad_of_parameters<'g>(loss: Tensor<'g>, parameters: &[Tensor<'g>]) -> Result<Vec<Tensor<'g>>> {
    let found = grad_reached(loss, parameters)?;
    if found.iter().all(Option::is_none) {
        let message = "the loss depends on no parameter, or only through operations that pass no gradient on";
        return Err(Error::no_gradient(message.into()));
    }
    Ok(or_zeros(found, parameters))
}

fn grad_reached<'g>(loss: Tensor<'g>, wrt: &[Tensor<'g>]) -> Result<Vec<Option<Tensor<'g>>>> {
    loss.graph().error()?;
    if loss.shape().numel() != 1 || !loss.dtype().is_float() {
        return Err(Error::no_gradient(format!(
            "the loss must be a float scalar, got {} {}; take its mean or sum first",
            loss.dtype(),
            loss.shape()
        )));
    }
    let seed = loss.scalar_like(1.0).broadcast_to(loss.shape());
    let grads = vjp_reached(&[(loss, seed)], wrt)?;
    loss.graph().error()?;
    Ok(grads)
}

/// Vector-Jacobian product: the gradients of `sum(output . seed)` with respect to each of `wrt`.
pub fn vjp<'g>(seeds: &[(Tensor<'g>, Tensor<'g>)], wrt: &[Tensor<'g>]) -> Result<Vec<Tensor<'g>>> {
    Ok(or_zeros(vjp_reached(seeds, wrt)?, wrt))
}

fn or_zeros<'g>(found: Vec<Option<Tensor<'g>>>, wrt: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
    found.into_iter().zip(wrt).map(|(gradient, tensor)| gradient.unwrap_or_else(|| tensor.zeros_like())).collect()
}

/// As [`vjp`], with `None` for what the outputs do not depend on.
fn vjp_reached<'g>(seeds: &[(Tensor<'g>, Tensor<'g>)], wrt: &[Tensor<'g>]) -> Result<Vec<Option<Tensor<'g>>>> {
    let Some(&(first, _)) = seeds.first() else { return Ok(vec![None; wrt.len()]) };
    let graph = first.graph();
    let last = seeds.iter().map(|(output, _)| output.value().node).max().unwrap_or(0);
    let wanted = depends_on(first, last, wrt);
    let mut pending: HashMap<Value, Vec<Tensor<'g>>> = HashMap::new();
    for (output, seed) in seeds {
        pending.entry(output.value()).or_default().push(*seed);
    }
    let mut found: HashMap<Value, Tensor<'g>> = HashMap::new();
    for index in (0..=last).rev() {
        if !wanted[index as usize] {
            continue;
        }
        let node = graph.node(index);
        let grads: Vec<Option<Tensor<'g>>> = (0..node.outputs.len() as u32)
            .map(|output| {
                let value = Value { node: index, output };
                let total = pending.remove(&value).map(|parts| graph.in_scope(&node.scope, || combine(parts)));
                if let Some(total) = total {
                    found.insert(value, total);
                }
                total
            })
            .collect();
        let needs_operands = node.inputs.iter().any(|input| wanted[input.node as usize]);
        if !needs_operands || grads.iter().all(Option::is_none) {
            continue;
        }
        let operand_grads = graph.in_scope(&node.scope, || rules::rule(graph, index, &node, &grads))?;
        for (input, gradient) in node.inputs.iter().zip(operand_grads) {
            if let Some(gradient) = gradient
                && wanted[input.node as usize]
            {
                pending.entry(*input).or_default().push(gradient);
            }
        }
    }
    Ok(wrt.iter().map(|tensor| found.get(&tensor.value()).copied()).collect())
}

/// Which nodes up to `last` lead from one of `wrt`.
fn depends_on(any: Tensor<'_>, last: u32, wrt: &[Tensor<'_>]) -> Vec<bool> {
    let mut wanted = vec![false; last as usize + 1];
    for tensor in wrt {
        if let Some(flag) = wanted.get_mut(tensor.value().node as usize) {
            *flag = true;
        }
    }
    for index in 0..=last {
        let node = any.graph().node(index);
        wanted[index as usize] |= node.inputs.iter().any(|input| wanted[input.node as usize]);
    }
    wanted
}
