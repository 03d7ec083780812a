//! Gradient accumulation, written as graphs: the gradients of micro-batches are added up as sums, and the update
//! divides by the number of samples or tokens that all of them had.
//!
//! So the mean is taken over the whole batch, however unevenly its samples or tokens are spread over the
//! micro-batches. The additions are part of the graph, and ride on the kernels that make the gradients. Knows no device;
//! `step.rs` has the step that is not split. Read next: `trainer.rs`, which feeds one micro-batch after the other.

use super::scaler;
use super::step::{self, LOSS, LossFn, gradient_name};
use crate::autodiff;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, Tensor, TensorType, Value};
use crate::nn::{ParameterSpec, Parameters};
use crate::program::{Category, StateSpec};
use crate::tensor::RNG_KEY;
use std::collections::BTreeSet;

/// How the names of what is added up beside the gradients begin.
const SUMS: &str = "accumulated/";
/// The state that counts the samples or tokens of the micro-batches so far.
const COUNT: &str = "accumulated/count";

/// Forward, loss and gradients of one micro-batch, added to what its predecessors left in the gradient states.
///
/// Scalar outputs in f32 (the loss, an accuracy) become means over the micro-batches so far, weighted by their counts:
/// behind the last micro-batch they are those of the whole batch. Other outputs are those of one micro-batch. `scaled` is as
/// in [`super::trace_micro_step`].
pub fn trace_micro_batch(parameters: &Parameters, loss: &LossFn<'_>, scaled: bool) -> Result<Graph> {
    let graph = Graph::new();
    graph.set_training(true);
    let loss = loss(&graph);
    graph.output(LOSS, loss);
    let count = count(loss)?;
    let weights: Vec<Tensor<'_>> = parameters.trainable().map(|spec| step::weight(&graph, spec)).collect();
    graph.error()?;
    // The gradient of the mean times the count: that of the sum.
    let sum = loss * count;
    let sum = if scaled { sum * scaler::scale(&graph) } else { sum };
    let gradients = autodiff::grad_of_parameters(sum, &weights)?;
    for (spec, gradient) in parameters.trainable().zip(gradients) {
        let name = gradient_name(&spec.name);
        let before = graph.state(&name, &spec.shape, DType::F32);
        graph.assign(&name, before + gradient);
    }
    average_outputs(&graph, count);
    graph.error()?;
    Ok(graph)
}

/// One over the count of all micro-batches: from sums to means.
pub(super) fn share(graph: &Graph) -> Tensor<'_> {
    graph.scope("accumulate", || {
        let count = graph.state(COUNT, [], DType::F32);
        // Nothing counted: the gradients are zeros, and stay so.
        count.gt(0.0).select(1.0 / count, 0.0)
    })
}

/// Zeros for the next batch in place of a gradient, whatever it is. They are made of it, so that the optimizer's kernel
/// writes them along.
pub(super) fn clear(graph: &Graph, spec: &ParameterSpec, gradient: Tensor<'_>) {
    let zeros = || graph.assign(&gradient_name(&spec.name), gradient.gt(gradient).cast(DType::F32));
    graph.scope("accumulate", zeros);
}

/// Zeros in place of what was added up beside the gradients.
pub(super) fn clear_sums(graph: &Graph, sums: &[StateSpec]) {
    graph.scope("accumulate", || {
        for StateSpec { name, ty, .. } in sums {
            graph.assign(name, graph.state(name, &ty.shape, ty.dtype).zeros_like());
        }
    });
}

/// The states that a micro-batch adds to beside the gradients.
pub(super) fn sums(micro_batch: &Graph) -> Vec<StateSpec> {
    let mut specs = Vec::new();
    for node in micro_batch.nodes() {
        if let Op::Assign(name) = &node.op
            && name.starts_with(SUMS)
        {
            let TensorType { shape, dtype } = micro_batch.type_of(node.inputs[0]);
            let (name, group) = (name.to_string(), "accumulated".to_string());
            specs.push(StateSpec { name, ty: TensorType { shape, dtype }, category: Category::Gradients, group });
        }
    }
    specs
}

/// Over how many samples or tokens the loss is a mean: what was said by [`Tensor::with_count`] of the loss or of the
/// scalars that it is made of, else the number of samples.
fn count(loss: Tensor<'_>) -> Result<Tensor<'_>> {
    let graph = loss.graph();
    let (mut waiting, mut seen, mut found) = (vec![loss.value()], BTreeSet::new(), BTreeSet::new());
    while let Some(value) = waiting.pop() {
        if !seen.insert(value) || graph.type_of(value).shape.numel() != 1 {
            continue;
        }
        match graph.count_of(value) {
            Some(count) => {
                found.insert(count);
            }
            None => waiting.extend(graph.node(value.node).inputs),
        }
    }
    let found: Vec<Value> = found.into_iter().collect();
    match found[..] {
        [] => Ok(graph.float(samples(graph) as f64)),
        [count] => Ok(Tensor::new(graph, count).reshape([]).stop_gradient()),
        _ => Err(Error::config(format!(
            "the loss is made of means over {} different counts, so that micro-batches have no one weight; say over how \
             many samples or tokens it is a mean by `loss.with_count(count)`",
            found.len()
        ))),
    }
}

/// Samples of a micro-batch: axis 0 of the first input that has axes.
fn samples(graph: &Graph) -> usize {
    let batch = |node: &crate::graph::Node| match &node.op {
        Op::Input(name) if **name != *RNG_KEY => node.outputs[0].shape.first().copied(),
        _ => None,
    };
    graph.nodes().iter().find_map(batch).unwrap_or(1).max(1)
}

/// Replaces scalar outputs by their means over the micro-batches so far.
fn average_outputs(graph: &Graph, count: Tensor<'_>) {
    graph.scope("accumulate", || {
        let counted = graph.state(COUNT, [], DType::F32) + count;
        graph.assign(COUNT, counted);
        let share = counted.gt(0.0).select(1.0 / counted, 0.0);
        for (name, value) in graph.outputs() {
            let output = Tensor::new(graph, value);
            if output.shape().numel() != 1 || output.dtype() != DType::F32 {
                continue;
            }
            let state = format!("accumulated/output/{name}");
            // A count of 0 says that the mean means nothing.
            let own = count.gt(0.0).select(output.reshape([]) * count, 0.0);
            let sum = graph.state(&state, [], DType::F32) + own;
            graph.assign(&state, sum);
            graph.replace_output(&name, (sum * share).reshape(output.shape()));
        }
    });
}
