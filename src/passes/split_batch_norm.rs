//! Batch normalisation as sums over channels and pointwise arithmetic, which fuses with its neighbours.

use super::Rewriter;
use crate::graph::{Eps, Graph, MacroOp, Op, Tensor, Value};
use crate::shape::Shape;

/// Replaces batch norms and their gradients by the sums that have kernels and what is made of them. Empty ones are
/// left to their definition.
pub fn split_batch_norm(graph: &Graph) -> Graph {
    let mut rewriter = Rewriter::new(graph);
    let live = graph.live();
    for (index, node) in graph.nodes().iter().enumerate().filter(|(index, _)| live[*index]) {
        let index = index as u32;
        let inputs = rewriter.inputs(node);
        let to = &rewriter.to;
        let x: Vec<Tensor<'_>> = inputs.iter().map(|&input| Tensor::new(to, input)).collect();
        let outputs = match node.op {
            Op::Macro(MacroOp::BatchNorm { eps }) if x[0].shape().numel() > 0 => {
                to.in_scope(&node.scope, || forward(x[0], x[1], x[2], eps))
            }
            Op::Macro(MacroOp::BatchNormGrad { eps }) if x[0].shape().numel() > 0 => {
                to.in_scope(&node.scope, || backward(&x, eps))
            }
            _ => {
                rewriter.copy(index);
                continue;
            }
        };
        let values = outputs.map(Tensor::value);
        for (output, value) in values.into_iter().enumerate() {
            rewriter.set(Value { node: index, output: output as u32 }, value);
        }
    }
    rewriter.finish()
}

/// `[c]` repeated to `[n, c, s]`.
fn spread<'g>(vector: Tensor<'g>, shape: &Shape) -> Tensor<'g> {
    vector.reshape([shape[1], 1]).broadcast_to(shape)
}

fn forward<'g>(x: Tensor<'g>, gain: Tensor<'g>, bias: Tensor<'g>, eps: Eps) -> [Tensor<'g>; 3] {
    let shape = x.shape();
    let mean = x.apply(Op::Macro(MacroOp::ChannelMoments), &[]);
    let variance = mean.output(1);
    // The root is taken for every element: that costs less than a kernel for as many numbers as there are channels.
    let inverse = (spread(variance, &shape) + f64::from(eps.value())).rsqrt();
    let y = (x - spread(mean, &shape)) * (inverse * spread(gain, &shape)) + spread(bias, &shape);
    [y, mean, variance]
}

/// With `i` the inverse deviation, `m` the elements of a channel and `g = gain * i`:
/// `dx = g * dy - (x - mean) * g * i^2 * sum(dy * (x - mean)) / m - g * sum(dy) / m`.
fn backward<'g>(x: &[Tensor<'g>], eps: Eps) -> [Tensor<'g>; 3] {
    let (x, gain, mean, variance, dy) = (x[0], x[1], x[2], x[3], x[4]);
    let shape = x.shape();
    let share = 1.0 / (shape[0] * shape[2]) as f64;
    let sum = dy.apply(Op::Macro(MacroOp::ChannelProducts), &[x, mean]);
    let product = sum.output(1);
    let inverse = (variance + f64::from(eps.value())).rsqrt();
    let (scale, dgain) = (gain * inverse, product * inverse);
    let (slope, offset) = (scale * inverse * dgain * -share, scale * sum * -share);
    let along = spread(slope, &shape) * (x - spread(mean, &shape));
    [dy * spread(scale, &shape) + along + spread(offset, &shape), dgain, sum]
}
