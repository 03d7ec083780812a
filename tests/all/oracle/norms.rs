//! Normalisations over channels and axes, with running statistics.

use super::{Attributes, check};
use wgrad::graph::{Graph, Tensor};
use wgrad::tensor::BatchNormed;

fn build<'g>(_: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    let eps = a.f64("eps", 1e-5) as f32;
    let [gain, bias] = [x.get(1).copied(), x.get(2).copied()];
    vec![match op {
        "batch_norm" => x[0].batch_norm_train(gain, bias, eps).output,
        "batch_norm_eval" => {
            let (mean, variance) = (x[1].stop_gradient(), x[2].stop_gradient());
            x[0].batch_norm(mean, variance, x.get(3).copied(), x.get(4).copied(), eps)
        }
        "batch_norm_layer" => return with_statistics(x, x[0].batch_norm_train(gain, bias, eps), a),
        "instance_norm_layer" => return with_statistics(x, x[0].instance_norm_train(gain, bias, eps), a),
        "group_norm" => x[0].group_norm(a.usize("groups", 1), gain, bias, eps),
        "instance_norm" => x[0].instance_norm(gain, bias, eps),
        "layer_norm" => {
            let over: Vec<usize> = a.ints("over", &[], 1).into_iter().map(|size| size as usize).collect();
            x[0].layer_norm_over(&over, gain, bias, eps)
        }
        "local_response_norm" => {
            let [alpha, beta, k] =
                [("alpha", 1e-4), ("beta", 0.75), ("k", 1.0)].map(|(name, value)| a.f64(name, value));
            x[0].local_response_norm(a.usize("size", 3), alpha, beta, k)
        }
        other => panic!("no such case: {other}"),
    }]
}

/// Output, running mean and running variance after one batch, from those given.
fn with_statistics<'g>(x: &[Tensor<'g>], normed: BatchNormed<'g>, a: &Attributes) -> Vec<Tensor<'g>> {
    let share = a.f64("momentum", 1.0 / (a.f64("batches", 0.0) + 1.0));
    let [mean, variance] = normed.running(x[3], x[4], share);
    vec![normed.output, mean, variance]
}

#[test]
fn norms() {
    check(include_bytes!("../../oracle/ops/norms.safetensors"), build);
}
