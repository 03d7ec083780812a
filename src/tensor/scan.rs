//! Loops: a body traced once and run for each index of its stacked operands.
//!
//! The body is written into a graph of its own. Layers may be used in it: the states (weights) and
//! inputs that it reads become constants of the scan, so that gradients reach them. Nothing here
//! knows how a scan is run; programs hold its body once, whatever the number of steps.

use crate::graph::{Graph, Literal, Op, PointwiseOp, ScanBody, Tensor, TensorType, Value};
use crate::shape::Shape;
use std::sync::Arc;

/// In which order, and how often where nothing is stacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScanOptions {
    /// From the last index down to 0; results are stacked at the index they were computed from.
    pub reverse: bool,
    /// Number of steps; only needed where there is no stacked operand.
    pub length: Option<usize>,
}

/// The tensors of a body: its carries, slices and constants as given, its carries and results as returned.
type Tensors<'g> = Vec<Tensor<'g>>;

/// Runs `body(carries, slices, constants) -> (new carries, results)` once for each index along axis 0 of
/// `stacked`; gives the last carries and the results stacked along a new axis 0. As `jax.lax.scan`.
///
/// `init` are the first carries; each keeps its shape and dtype. `stacked` are `[length, ..]`, of which a
/// step sees `[..]`. `constants` are the same in every step. Errors, which are deferred: different
/// lengths, a carry that changes its type, and a body that draws random numbers (draw them outside and
/// pass them in `stacked`), assigns states or contains another scan.
#[track_caller]
pub fn scan<'g>(
    graph: &'g Graph,
    init: &[Tensor<'g>],
    stacked: &[Tensor<'g>],
    constants: &[Tensor<'g>],
    options: ScanOptions,
    body: impl for<'b> FnOnce(&[Tensor<'b>], &[Tensor<'b>], &[Tensor<'b>]) -> (Tensors<'b>, Tensors<'b>),
) -> (Tensors<'g>, Tensors<'g>) {
    let Some(length) = length_of(graph, stacked, options.length) else { return (init.to_vec(), vec![]) };
    let inner = graph.nested();
    let slice = |tensor: &Tensor<'g>| Shape::from(&tensor.shape()[1..]);
    let shapes = init.iter().map(|t| (t.shape(), t.dtype()));
    let shapes = shapes.chain(stacked.iter().map(|t| (slice(t), t.dtype())));
    let shapes = shapes.chain(constants.iter().map(|t| (t.shape(), t.dtype())));
    let given: Vec<Tensor<'_>> =
        shapes.enumerate().map(|(i, (shape, dtype))| inner.input(&operand_name(i), shape, dtype)).collect();
    let (carries, slices) = (init.len(), stacked.len());
    let (new, results) = body(&given[..carries], &given[carries..carries + slices], &given[carries + slices..]);
    if let Err(error) = inner.error() {
        graph.record(error);
        return (init.to_vec(), stacks_like(graph, length, &results));
    }
    let problem = if new.len() != carries {
        Some(format!("the body is given {carries} carries and returns {}", new.len()))
    } else {
        let assigns = inner.nodes().iter().any(|node| matches!(node.op, Op::Assign(_)));
        assigns.then(|| "the body assigns a state; carry the value and assign it outside".to_string())
    };
    if let Some(message) = problem {
        graph.record_error("scan", message);
        return (init.to_vec(), stacks_like(graph, length, &results));
    }
    if length == 0 {
        return (init.to_vec(), stacks_like(graph, 0, &results));
    }
    let mut operands: Vec<Value> = given.iter().map(|tensor| tensor.value()).collect();
    let mut outer: Vec<Tensor<'g>> = [init, stacked, constants].concat();
    for (value, tensor) in lifted(graph, &inner, &operands) {
        operands.push(value);
        outer.push(tensor);
    }
    let user: Vec<Value> = new.iter().chain(&results).map(|tensor| tensor.value()).collect();
    let counts = [carries, slices];
    let outputs = push(graph, &inner, &operands, counts, &user, &outer, (length, options.reverse));
    let stacks = outputs.get(carries..user.len()).unwrap_or_default().to_vec();
    (outputs.into_iter().take(carries).collect(), stacks)
}

/// Pushes a scan of what `results` (carries first) need of `inner`; all its outputs.
///
/// Behind the results that were asked for it stacks what a gradient would want: each step's new carries and
/// products. What no one uses of that, a pass takes out again.
#[track_caller]
pub(crate) fn push<'g>(
    graph: &'g Graph,
    inner: &Graph,
    operands: &[Value],
    [carries, slices]: [usize; 2],
    results: &[Value],
    outer: &[Tensor<'g>],
    (length, reverse): (usize, bool),
) -> Tensors<'g> {
    let mut results = results.to_vec();
    let wanted = ScanBody::new(inner, operands, carries, slices, &results);
    let float = |value: &Value| inner.type_of(*value).dtype.is_float();
    let saved = results[..carries].iter().copied().chain(products(inner, operands, &results));
    let mut saved: Vec<Value> = saved.filter(|value| !results[carries..].contains(value)).collect();
    crate::sort::sort(&mut saved);
    saved.dedup();
    // Without floats in or out there is no gradient to save for.
    if operands.iter().any(float) && results.iter().any(float) {
        results.extend(saved);
    }
    let body = if results.len() > wanted.results() {
        ScanBody::new(inner, operands, carries, slices, &results)
    } else {
        wanted
    };
    let inputs: Vec<Value> = outer.iter().map(|tensor| tensor.value()).collect();
    let first = graph.push(Op::Scan { body: Arc::new(body), length, reverse }, &inputs);
    (0..results.len() as u32).map(|output| Tensor::new(graph, Value { output, ..first })).collect()
}

/// The products that results depend on, which are too dear to compute again for the gradient: what is added to
/// one and nothing else is saved with it.
fn products(inner: &Graph, operands: &[Value], results: &[Value]) -> Vec<Value> {
    let nodes = inner.nodes();
    let given = |index: usize| operands.iter().any(|value| value.node as usize == index);
    let mut needed = vec![false; nodes.len()];
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    results.iter().for_each(|value| needed[value.node as usize] = true);
    for index in (0..nodes.len()).rev().filter(|&index| !given(index)) {
        if needed[index] {
            for input in &nodes[index].inputs {
                needed[input.node as usize] = true;
                users[input.node as usize].push(index);
            }
        }
    }
    let saved = |product: usize| {
        let mut last = product;
        while let [user] = users[last][..]
            && matches!(nodes[user].op, Op::Pointwise(PointwiseOp::Add | PointwiseOp::Sub | PointwiseOp::Neg))
            && !results.iter().any(|value| value.node as usize == last)
        {
            last = user;
        }
        Value { node: last as u32, output: 0 }
    };
    let product = |&index: &usize| needed[index] && !given(index) && nodes[index].op == Op::MatMul;
    let mut found: Vec<Value> = (0..nodes.len()).filter(product).map(saved).collect();
    found.dedup();
    found
}

/// The number of steps, or an error and none.
#[track_caller]
fn length_of(graph: &Graph, stacked: &[Tensor<'_>], given: Option<usize>) -> Option<usize> {
    let mut length = given;
    for (index, tensor) in stacked.iter().enumerate() {
        let shape = tensor.shape();
        let Some(&size) = shape.first() else {
            graph.record_error("scan", format!("stacked operand {index} is a scalar; it has no axis to step along"));
            return None;
        };
        match length {
            Some(length) if length != size => {
                let message = format!("stacked operand {index} {shape} has {size} steps where {length} are expected");
                graph.record_error("scan", message);
                return None;
            }
            _ => length = Some(size),
        }
    }
    if length.is_none() {
        graph.record_error("scan", "nothing is stacked: give the number of steps in `ScanOptions::length`".into());
    }
    length
}

/// Leaves of the body that it was not given, with their tensors outside.
#[track_caller]
fn lifted<'g>(graph: &'g Graph, inner: &Graph, operands: &[Value]) -> Vec<(Value, Tensor<'g>)> {
    let mut found = Vec::new();
    for (index, node) in inner.nodes().iter().enumerate() {
        let value = Value { node: index as u32, output: 0 };
        if operands.contains(&value) {
            continue;
        }
        let TensorType { shape, dtype } = &node.outputs[0];
        match &node.op {
            Op::State(name) => found.push((value, graph.state(name, shape, *dtype))),
            Op::Input(name) => found.push((value, graph.input(name, shape, *dtype))),
            _ => {}
        }
    }
    found
}

/// Zeros in the shapes that the results would have.
fn stacks_like<'g>(graph: &'g Graph, length: usize, results: &[Tensor<'_>]) -> Tensors<'g> {
    let zeros = |result: &Tensor<'_>| {
        let shape: Shape = std::iter::once(length).chain(result.shape().iter().copied()).collect();
        graph.constant(Literal::new(result.dtype(), 0.0)).broadcast_to(shape)
    };
    results.iter().map(zeros).collect()
}

/// A name that no input of a user has.
fn operand_name(index: usize) -> String {
    format!("scan operand {index}")
}
