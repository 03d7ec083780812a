//! The gradient of a scan: a scan the other way, whose body is the gradient of the body.
//!
//! Per step it is given the carries and products that the forward scan stacked up, and computes the
//! rest of the forward step again. Gradients of carries are its carries. Gradients of constants are
//! carried sums, except where they are products or sums over what a step computed: then that is
//! stacked up, and one large product behind the loop takes the place of one small product a step.

use super::vjp_reached;
use crate::error::{Error, Result};
use crate::graph::{Graph, Literal, Node, Op, PointwiseOp, ReduceKind, ScanBody, Tensor, TensorType, Value};
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

/// Where the gradient of an operand is found.
enum Found {
    Nothing,
    /// Among the last carries of the reverse scan.
    Carry(usize),
    /// In the stack of a value of the step.
    Stack(Value),
    Outside(Outside),
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
                return Err(Error::no_gradient(message.into()));
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
                    let zero = graph.constant(Literal::new(dtype, 0.0));
                    self.carries.push(seed.value(), zero.broadcast_to(&shape));
                }
            }
        }
    }

    /// Differentiates the body, pushes the reverse scan, and hands out its results.
    fn finish(mut self, graph: &'g Graph, node: &Node, steps: (usize, bool)) -> Result<Vec<Option<Tensor<'g>>>> {
        let gradients = self.differentiate()?;
        let (carries, varying) = (self.body.carries(), self.body.carries() + self.body.slices());
        // New carries: first the gradients of the forward carries, then sums.
        let (mut new, mut wanted, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for (index, gradient) in gradients.into_iter().enumerate() {
            let leaf = self.leaves[index];
            found.push(match gradient {
                _ if index < carries && leaf.dtype().is_float() => {
                    new.push(gradient.unwrap_or_else(|| leaf.zeros_like()).value());
                    Found::Carry(new.len() - 1)
                }
                None => Found::Nothing,
                Some(gradient) if index < varying => {
                    wanted.push(gradient.value());
                    Found::Stack(gradient.value())
                }
                Some(gradient) => match Outside::plan(self.inner, gradient.value()) {
                    Some(plan) => {
                        plan.values(&mut wanted);
                        Found::Outside(plan)
                    }
                    None => {
                        let sum = self.inner.input(&format!("sum {index}"), gradient.shape(), gradient.dtype());
                        self.carries.push(sum.value(), Tensor::new(graph, node.inputs[index]).zeros_like());
                        new.push((sum + gradient).value());
                        Found::Carry(new.len() - 1)
                    }
                },
            });
        }
        let (last, stacks) = self.push(graph, node, new, wanted, steps);
        let hand_out = |found: Found| match found {
            Found::Nothing => None,
            Found::Carry(index) => Some(last[index]),
            Found::Stack(value) => Some(stacks[&value]),
            Found::Outside(plan) => Some(plan.build(&stacks)),
        };
        Ok(found.into_iter().map(hand_out).collect())
    }

    /// The gradient of each operand of the body within one step, where it has one.
    fn differentiate(&self) -> Result<Vec<Option<Tensor<'i>>>> {
        let float = |leaf: &Tensor<'i>| leaf.dtype().is_float();
        let wrt: Vec<Tensor<'i>> = self.leaves.iter().copied().filter(float).collect();
        let mut found = vjp_reached(&self.seeds, &wrt)?.into_iter();
        self.inner.error()?;
        Ok(self.leaves.iter().map(|leaf| if float(leaf) { found.next().flatten() } else { None }).collect())
    }

    /// Pushes the reverse scan: its last carries, and the stack of every value that has one.
    fn push(
        &self,
        graph: &'g Graph,
        node: &Node,
        new: Vec<Value>,
        wanted: Vec<Value>,
        steps: (usize, bool),
    ) -> (Vec<Tensor<'g>>, HashMap<Value, Tensor<'g>>) {
        let counts = [new.len(), self.slices.inside.len()];
        let mut results = new;
        for value in wanted {
            if !self.slices.inside.contains(&value) && !results[counts[0]..].contains(&value) {
                results.push(value);
            }
        }
        let varying = self.body.carries() + self.body.slices();
        let inside = self.leaves[varying..].iter().map(|leaf| leaf.value());
        let inside: Vec<Value> = self.carries.inside.iter().chain(&self.slices.inside).copied().chain(inside).collect();
        let outside = node.inputs[varying..].iter().map(|&input| Tensor::new(graph, input));
        let outside: Vec<Tensor<'g>> =
            self.carries.outside.iter().chain(&self.slices.outside).copied().chain(outside).collect();
        let outputs = push_scan(graph, self.inner, &inside, counts, &results, &outside, steps);
        let known = self.slices.inside.iter().copied().zip(self.slices.outside.iter().copied());
        let stacked = results.iter().copied().zip(outputs.iter().copied()).skip(counts[0]);
        let stacks = stacked.chain(known).collect();
        (outputs[..counts[0]].to_vec(), stacks)
    }
}
