//! The gradient of a scan: a scan the other way, whose body is the gradient of the body.
//!
//! Per step it is given the carries and products that the forward scan stacked up, and computes the
//! rest of the forward step again. Gradients of carries are its carries. Gradients of constants are
//! carried sums, except where they are products or sums over what a step computed: then that is
//! stacked up, and one large product behind the loop takes the place of one small product a step.

use super::vjp_reached;
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, PointwiseOp, ReduceKind, ScanBody, Tensor, TensorType, Value};
use crate::shape::Shape;
use crate::tensor::{concat, push_scan};
use std::collections::HashMap;

/// The gradient of a constant as it is computed behind the loop, from stacked values of the steps.
enum Outside {
    Sum(Box<Outside>, Box<Outside>),
    Permute(Vec<usize>, Box<Outside>),
    Reshape(Shape, Box<Outside>),
    /// `sum of a^T b` over the steps.
    Product(Value, Value),
    /// The sum over the steps and over axes of each.
    Reduce(Value, Vec<usize>),
}

impl Outside {
    /// How `value`, of which the sum over the steps is wanted, can be had outside; if it can.
    fn plan(graph: &Graph, value: Value) -> Option<Outside> {
        let node = graph.node(value.node);
        let inner = |index: usize| Outside::plan(graph, node.inputs[index]).map(Box::new);
        match &node.op {
            Op::Pointwise(PointwiseOp::Add) => Some(Outside::Sum(inner(0)?, inner(1)?)),
            Op::Permute(axes) => Some(Outside::Permute(axes.clone(), inner(0)?)),
            Op::Reshape(shape) => Some(Outside::Reshape(shape.clone(), inner(0)?)),
            Op::Reduce { kind: ReduceKind::Sum, axes } => Some(Outside::Reduce(node.inputs[0], axes.clone())),
            Op::MatMul if node.outputs[0].shape.rank() == 2 => {
                let left = graph.node(node.inputs[0].node);
                matches!(&left.op, Op::Permute(axes) if axes[..] == [1, 0])
                    .then(|| Outside::Product(left.inputs[0], node.inputs[1]))
            }
            _ => None,
        }
    }

    /// The values of a step that have to be stacked for it.
    fn values(&self, found: &mut Vec<Value>) {
        match self {
            Outside::Sum(a, b) => [a, b].into_iter().for_each(|part| part.values(found)),
            Outside::Permute(_, part) | Outside::Reshape(_, part) => part.values(found),
            Outside::Product(a, b) => found.extend([*a, *b]),
            Outside::Reduce(value, _) => found.push(*value),
        }
    }

    /// The gradient, given the stacked values.
    fn build<'g>(&self, stacks: &HashMap<Value, Tensor<'g>>) -> Tensor<'g> {
        let rows = |value: &Value| stacks[value].flatten(0, 1);
        match self {
            Outside::Sum(a, b) => a.build(stacks) + b.build(stacks),
            Outside::Permute(axes, part) => part.build(stacks).permute(axes),
            Outside::Reshape(shape, part) => part.build(stacks).reshape(shape),
            Outside::Product(a, b) => rows(a).t().matmul(rows(b)),
            Outside::Reduce(value, axes) => {
                let axes: Vec<isize> = std::iter::once(0).chain(axes.iter().map(|&axis| axis as isize + 1)).collect();
                stacks[value].sum(&axes)
            }
        }
    }
}

/// Operands of the reverse scan: what its body calls them, and what they are outside.
#[derive(Default)]
struct Operands<'g> {
    inside: Vec<Value>,
    outside: Vec<Tensor<'g>>,
}

impl<'g> Operands<'g> {
    fn push(&mut self, inside: Value, outside: Tensor<'g>) {
        self.inside.push(inside);
        self.outside.push(outside);
    }
}

/// The reverse scan while it is put together.
struct Reverse<'g, 'i> {
    body: &'i ScanBody,
    inner: &'i Graph,
    leaves: Vec<Tensor<'i>>,
    seeds: Vec<(Tensor<'i>, Tensor<'i>)>,
    carries: Operands<'g>,
    slices: Operands<'g>,
}

/// The gradients of a scan's operands.
pub(super) fn rule<'g>(
    graph: &'g Graph,
    index: u32,
    node: &Node,
    grads: &[Option<Tensor<'g>>],
) -> Result<Vec<Option<Tensor<'g>>>> {
    let Op::Scan { body, length, reverse } = &node.op else { return Ok(vec![]) };
    let inner = graph.nested();
    let leaves = body.declare(&inner);
    let results = body.write(&inner, &leaves);
    let (carries, slices) = (Operands::default(), Operands::default());
    let mut backward = Reverse { body, inner: &inner, leaves, seeds: vec![], carries, slices };
    backward.stacks(graph, index, node, &results)?;
    backward.seeds(graph, &results, grads);
    backward.finish(graph, node, (*length, !reverse))
}

impl<'g, 'i> Reverse<'g, 'i> {
    /// What the forward scan was given or gave step by step.
    fn stacks(&mut self, graph: &'g Graph, index: u32, node: &Node, results: &[Tensor<'i>]) -> Result<()> {
        let (carries, slices) = (self.body.carries(), self.body.slices());
        for (leaf, &input) in self.leaves.iter().zip(&node.inputs).skip(carries).take(slices) {
            self.slices.push(leaf.value(), Tensor::new(graph, input));
        }
        for (output, result) in results.iter().enumerate().skip(carries) {
            if !self.slices.inside.contains(&result.value()) {
                let stack = Tensor::new(graph, Value { node: index, output: output as u32 });
                self.slices.push(result.value(), stack);
            }
        }
        for (index, leaf) in self.leaves.iter().enumerate().take(carries) {
            let Some(at) = self.slices.inside.iter().position(|&value| value == results[index].value()) else {
                let message = "a scan that does not stack its carries has none; write it with `tensor::scan`";
                return Err(Error::NoGradient(message.into()));
            };
            if !self.slices.inside.contains(&leaf.value()) {
                let entered = self.before(Tensor::new(graph, node.inputs[index]), self.slices.outside[at], node);
                self.slices.push(leaf.value(), entered);
            }
        }
        Ok(())
    }

    /// What a carry is when each step begins, from its first value and what it is when each step ends.
    fn before(&self, init: Tensor<'g>, after: Tensor<'g>, node: &Node) -> Tensor<'g> {
        let (first, steps) = (init.unsqueeze(0), after.shape()[0]);
        match node.op {
            Op::Scan { reverse: true, .. } => concat(after.slice(0, 1, steps), &[first], 0),
            _ => concat(first, &[after.slice(0, 0, steps - 1)], 0),
        }
    }

    /// The gradients that come from outside: of the last carries and of each stacked result.
    fn seeds(&mut self, graph: &'g Graph, results: &[Tensor<'i>], grads: &[Option<Tensor<'g>>]) {
        for (output, (&result, grad)) in results.iter().zip(grads).enumerate() {
            let TensorType { shape, dtype } = self.body.result_type(output).clone();
            let carry = output < self.body.carries();
            if !dtype.is_float() || (grad.is_none() && !carry) {
                continue;
            }
            let seed = self.inner.input(&format!("gradient {output}"), &shape, dtype);
            self.seeds.push((result, seed));
            match grad {
                Some(grad) if carry => self.carries.push(seed.value(), *grad),
                Some(grad) => self.slices.push(seed.value(), *grad),
                None => {
                    let zero = graph.constant(crate::graph::Literal::new(dtype, 0.0));
                    self.carries.push(seed.value(), zero.broadcast_to(&shape));
                }
            }
        }
    }

    /// Differentiates the body, pushes the reverse scan, and hands out its results.
    fn finish(mut self, graph: &'g Graph, node: &Node, steps: (usize, bool)) -> Result<Vec<Option<Tensor<'g>>>> {
        let float = |leaf: &Tensor<'i>| leaf.dtype().is_float();
        let wrt: Vec<Tensor<'i>> = self.leaves.iter().copied().filter(float).collect();
        let mut found = vjp_reached(&self.seeds, &wrt)?.into_iter();
        self.inner.error()?;
        let gradients: Vec<Option<Tensor<'i>>> =
            self.leaves.iter().map(|leaf| if float(leaf) { found.next().flatten() } else { None }).collect();
        let (carries, varying) = (self.body.carries(), self.body.carries() + self.body.slices());
        // First the new gradients of the carries, then sums, then what is stacked.
        let mut results: Vec<Value> = Vec::new();
        for (leaf, gradient) in self.leaves.iter().zip(&gradients).take(carries).filter(|(leaf, _)| float(leaf)) {
            results.push(gradient.unwrap_or_else(|| leaf.zeros_like()).value());
        }
        let mut outside: HashMap<usize, Outside> = HashMap::new();
        let mut summed: HashMap<usize, usize> = HashMap::new();
        let mut wanted: Vec<Value> = gradients[carries..varying].iter().flatten().map(|g| g.value()).collect();
        for (index, gradient) in gradients.iter().enumerate().skip(varying) {
            let Some(gradient) = gradient else { continue };
            if let Some(plan) = Outside::plan(self.inner, gradient.value()) {
                plan.values(&mut wanted);
                outside.insert(index, plan);
                continue;
            }
            let sum = self.inner.input(&format!("sum {index}"), gradient.shape(), gradient.dtype());
            self.carries.push(sum.value(), Tensor::new(graph, node.inputs[index]).zeros_like());
            summed.insert(index, results.len());
            results.push((sum + *gradient).value());
        }
        let known = self.slices.inside.len();
        wanted.retain(|value| !self.slices.inside.contains(value));
        for value in wanted {
            if !results[self.carries.inside.len()..].contains(&value) {
                results.push(value);
            }
        }
        let counts = [self.carries.inside.len(), known];
        let constants = self.leaves.iter().skip(varying).map(|leaf| leaf.value());
        let operands: Vec<Value> =
            self.carries.inside.iter().chain(&self.slices.inside).copied().chain(constants).collect();
        let constants = node.inputs[varying..].iter().map(|&input| Tensor::new(graph, input));
        let outer: Vec<Tensor<'g>> =
            self.carries.outside.iter().chain(&self.slices.outside).copied().chain(constants).collect();
        let outputs = push_scan(graph, self.inner, &operands, counts, &results, &outer, steps);
        let mut stacks: HashMap<Value, Tensor<'g>> =
            self.slices.inside.iter().copied().zip(self.slices.outside.iter().copied()).collect();
        for (value, output) in results.iter().zip(&outputs).skip(counts[0]) {
            stacks.entry(*value).or_insert(*output);
        }
        let mut floats = 0;
        Ok(gradients
            .iter()
            .enumerate()
            .map(|(index, gradient)| {
                if index < carries {
                    let carried = self.leaves[index].dtype().is_float();
                    floats += usize::from(carried);
                    return carried.then(|| outputs[floats - 1]);
                }
                let gradient = gradient.as_ref()?;
                Some(match (outside.get(&index), summed.get(&index)) {
                    (Some(plan), _) => plan.build(&stacks),
                    (None, Some(&carry)) => outputs[carry],
                    (None, None) => stacks[&gradient.value()],
                })
            })
            .collect())
    }
}
