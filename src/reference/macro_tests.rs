//! The expansions of macro-ops against identities and central differences.

use super::*;
use crate::graph::{Eps, Sight};
use crate::random::Stream;
use crate::shape::Shape;

/// All outputs of a macro-op.
fn apply(op: MacroOp, operands: &[Array]) -> Vec<Array> {
    let graph = Graph::new();
    let mut inputs = HashMap::new();
    let mut values = Vec::new();
    for (index, operand) in operands.iter().enumerate() {
        let name = format!("x{index}");
        values.push(graph.input(&name, &operand.ty.shape, operand.ty.dtype).value());
        inputs.insert(name, operand.clone());
    }
    let node = graph.push(Op::Macro(op), &values).node;
    graph.verify().unwrap();
    let outputs = graph.node(node).outputs;
    let values: Vec<Value> = (0..outputs.len() as u32).map(|output| Value { node, output }).collect();
    let arrays = eval(&graph, &values, &inputs, &HashMap::new()).unwrap();
    for (array, ty) in arrays.iter().zip(&outputs) {
        assert_eq!((&array.ty, array.data.len()), (ty, ty.shape.numel()), "{}", op.name());
    }
    arrays
}

fn normal(shape: impl Into<Shape>, stream: u32) -> Array {
    let shape = shape.into();
    Array::floats(&shape, &Stream::new(7, stream).normal(shape.numel(), 0.3, 1.0))
}

fn dot(a: &Array, b: &Array) -> f64 {
    a.data.iter().zip(&b.data).map(|(a, b)| a * b).sum()
}

/// Holds `gradients[i]` to the central differences of `sum(op(x)[0] * dy)` with respect to `x[i]`.
fn assert_gradients(op: MacroOp, x: &[Array], dy: &Array, gradients: &[Array]) {
    const STEP: f64 = 1e-5;
    for (operand, gradient) in gradients.iter().enumerate() {
        for element in 0..x[operand].data.len() {
            let loss = |shift: f64| {
                let mut x = x.to_vec();
                x[operand].data[element] += shift;
                dot(&apply(op, &x)[0], dy)
            };
            let slope = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
            let given = gradient.data[element];
            assert!((slope - given).abs() < 1e-7, "{} operand {operand}[{element}]: {given}, not {slope}", op.name());
        }
    }
}

fn assert_close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?} against {b:?}");
}

#[test]
fn softmax_rows_sum_to_one_even_far_from_zero() {
    let mut x = normal([3, 5], 0);
    x.data.iter_mut().for_each(|value| *value += 1000.0);
    let y = apply(MacroOp::Softmax, std::slice::from_ref(&x)).remove(0);
    for row in y.data.chunks(5) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
    let log = apply(MacroOp::LogSoftmax, &[x]).remove(0);
    assert_close(&log.data.iter().map(|value| value.exp()).collect::<Vec<_>>(), &y.data);
    assert!(apply(MacroOp::Softmax, &[normal([2, 0], 0)])[0].data.is_empty());
    assert_eq!(apply(MacroOp::Softmax, &[normal([1], 0)])[0].data, [1.0]);
}

#[test]
fn layer_norm_centres_and_scales_and_its_gradient_is_the_slope() {
    let eps = Eps::new(1e-5);
    let (gain, bias) = (normal([5], 1), normal([5], 2));
    for shape in [vec![2, 3, 5], vec![5], vec![0, 5]] {
        let (x, dy) = (normal(shape.clone(), 3), normal(shape, 4));
        let gradients = apply(MacroOp::LayerNormGrad { eps }, &[x.clone(), gain.clone(), dy.clone()]);
        assert_gradients(MacroOp::LayerNorm { eps }, &[x, gain.clone(), bias.clone()], &dy, &gradients);
    }
    let (one, zero) = (Array::floats([4], &[1.0; 4]), Array::floats([4], &[0.0; 4]));
    let y = apply(MacroOp::LayerNorm { eps: Eps::new(1e-12) }, &[normal([2, 4], 5), one, zero]).remove(0);
    for row in y.data.chunks(4) {
        assert!(row.iter().sum::<f64>().abs() < 1e-9);
        assert!((row.iter().map(|value| value * value).sum::<f64>() - 4.0).abs() < 1e-6);
    }
}

#[test]
fn rms_norm_gradient_is_the_slope() {
    let eps = Eps::new(1e-5);
    let (x, gain, dy) = (normal([3, 4], 1), normal([4], 2), normal([3, 4], 3));
    let gradients = apply(MacroOp::RmsNormGrad { eps }, &[x.clone(), gain.clone(), dy.clone()]);
    assert_gradients(MacroOp::RmsNorm { eps }, &[x, gain], &dy, &gradients);
}

#[test]
fn batch_norm_gives_the_statistics_of_its_channels_and_its_gradient_is_the_slope() {
    let eps = Eps::new(1e-5);
    let (x, gain, bias, dy) = (normal([3, 2, 2], 1), normal([2], 2), normal([2], 3), normal([3, 2, 2], 4));
    let forward = [x.clone(), gain.clone(), bias];
    let found = apply(MacroOp::BatchNorm { eps }, &forward);
    for channel in 0..2 {
        let of: Vec<f64> = (0..12).filter(|i| i / 2 % 2 == channel).map(|i| x.data[i]).collect();
        let mean = of.iter().sum::<f64>() / 6.0;
        let variance = of.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 6.0;
        assert_close(&[found[1].data[channel], found[2].data[channel]], &[mean, variance]);
    }
    let operands = [x, gain, found[1].clone(), found[2].clone(), dy.clone()];
    assert_gradients(MacroOp::BatchNorm { eps }, &forward, &dy, &apply(MacroOp::BatchNormGrad { eps }, &operands));
    assert!(
        apply(MacroOp::BatchNorm { eps }, &[normal([0, 2, 3], 0), normal([2], 0), normal([2], 0)])[0].data.is_empty()
    );
}

#[test]
fn channel_sums_are_what_the_gradient_of_batch_norm_is_made_of() {
    let (dy, x) = (normal([3, 2, 4], 1), normal([3, 2, 4], 2));
    let moments = apply(MacroOp::ChannelMoments, std::slice::from_ref(&x));
    let sums = apply(MacroOp::ChannelProducts, &[dy.clone(), x.clone(), moments[0].clone()]);
    let one = Array::floats([2], &[1.0, 1.0]);
    let operands = [x, one, moments[0].clone(), moments[1].clone(), dy];
    let gradients = apply(MacroOp::BatchNormGrad { eps: Eps::new(0.0) }, &operands);
    assert_close(&gradients[2].data, &sums[0].data);
    let scaled: Vec<f64> = (0..2).map(|c| sums[1].data[c] / moments[1].data[c].sqrt()).collect();
    assert_close(&gradients[1].data, &scaled);
}

#[test]
fn cross_entropy_ignores_targets_outside_and_its_gradient_is_the_slope() {
    let logits = normal([4, 3], 1);
    let target = Array::ints([4], &[2, -1, 0, 3]);
    let g = normal([4], 2);
    let loss = apply(MacroOp::CrossEntropy, &[logits.clone(), target.clone()]).remove(0);
    let log = apply(MacroOp::LogSoftmax, std::slice::from_ref(&logits)).remove(0);
    assert_close(&loss.data, &[-log.data[2], 0.0, -log.data[6], 0.0]);
    let operands = [logits, target, g];
    let gradient = apply(MacroOp::CrossEntropyGrad, &operands).remove(0);
    assert!(gradient.data[3..6].iter().chain(&gradient.data[9..]).all(|&value| value == 0.0));
    assert_gradients(MacroOp::CrossEntropy, &operands[..2], &operands[2], std::slice::from_ref(&gradient));
    assert_eq!(apply(MacroOp::CrossEntropyWithGrad, &operands), [loss, gradient]);
}

/// Attention written as loops: `(o, lse)`.
fn attention_by_loops(q: &Array, k: &Array, v: &Array, causal: bool, scale: f64) -> (Vec<f64>, Vec<f64>) {
    let (b, t, h, d, s) = (q.ty.shape[0], q.ty.shape[1], q.ty.shape[2], q.ty.shape[3], k.ty.shape[1]);
    let (mut o, mut lse) = (vec![0.0; b * t * h * d], vec![0.0; b * h * t]);
    for (batch, time, head) in (0..b * t * h).map(|i| (i / h / t, i / h % t, i % h)) {
        let seen = if causal { (time + 1 + s).saturating_sub(t) } else { s };
        let row = |length: usize, position: usize| ((batch * length + position) * h + head) * d;
        let score = |j: usize| (0..d).map(|c| q.data[row(t, time) + c] * k.data[row(s, j) + c]).sum::<f64>() * scale;
        let total: f64 = (0..seen).map(|j| score(j).exp()).sum();
        for c in 0..d {
            o[row(t, time) + c] = (0..seen).map(|j| score(j).exp() / total * v.data[row(s, j) + c]).sum();
        }
        lse[(batch * h + head) * t + time] = total.ln();
    }
    (o, lse)
}

#[test]
fn attention_is_the_loops_and_its_gradient_is_the_slope() {
    let scale = Eps::new(0.5);
    for (causal, t, s) in [(false, 3, 2), (true, 3, 3), (true, 2, 4), (false, 1, 1)] {
        let (q, dy) = (normal([2, t, 2, 3], 1), normal([2, t, 2, 3], 4));
        let (k, v) = (normal([2, s, 2, 3], 2), normal([2, s, 2, 3], 3));
        let op = MacroOp::Attention { sight: Sight::new(causal), scale };
        let outputs = apply(op, &[q.clone(), k.clone(), v.clone()]);
        let (o, lse) = attention_by_loops(&q, &k, &v, causal, 0.5);
        assert_close(&outputs[0].data, &o);
        assert_close(&outputs[1].data, &lse);
        let operands = [q, k, v, outputs[0].clone(), outputs[1].clone(), dy];
        let gradients = apply(MacroOp::AttentionGrad { sight: Sight::new(causal), scale }, &operands);
        assert_gradients(op, &operands[..3], &operands[5], &gradients);
    }
}

#[test]
fn a_query_that_sees_nothing_gives_zero_and_no_gradient() {
    let scale = Eps::new(1.0);
    let (q, dy) = (normal([1, 3, 1, 2], 1), normal([1, 3, 1, 2], 4));
    let (k, v) = (normal([1, 2, 1, 2], 2), normal([1, 2, 1, 2], 3));
    let op = MacroOp::Attention { sight: Sight::new(true), scale };
    let outputs = apply(op, &[q.clone(), k.clone(), v.clone()]);
    assert_eq!(outputs[0].data[..2], [0.0, 0.0]);
    assert!(outputs[1].data[0] < -1e29 && outputs[1].data[0].is_finite());
    let operands = [q, k, v, outputs[0].clone(), outputs[1].clone(), dy];
    let gradients = apply(MacroOp::AttentionGrad { sight: Sight::new(true), scale }, &operands);
    assert_eq!(gradients[0].data[..2], [0.0, 0.0]);
    assert_gradients(op, &operands[..3], &operands[5], &gradients);
}
