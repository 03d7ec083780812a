//! Random removal of channels, samples and elements: what is removed together, how often, and that neither the
//! reference nor a split of the batch disagrees.

use crate::ops::harness::{compare, run_on_device};
use std::collections::HashMap;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::reference::{Array, eval};
use wgrad::tensor::DropPathMode;

const CHANNELS: usize = 6;
const SIZE: usize = 4;

/// `body` on ones `[samples, CHANNELS, SIZE]` in a training graph, on the device and held against the reference.
fn run(samples: usize, first: u32, body: impl for<'g> Fn(Tensor<'g>) -> Tensor<'g>) -> Vec<f64> {
    let graph = Graph::new();
    graph.set_training(true);
    let y = body(graph.input("x", [samples, CHANNELS, SIZE], DType::F32));
    graph.output("y", y);
    let feeds = HashMap::from([
        ("x".to_string(), Array::full([samples, CHANNELS, SIZE], DType::F32, 1.0)),
        ("rng.key".to_string(), Array::new([2], DType::U32, vec![11.0, f64::from(first)])),
    ]);
    let got = run_on_device("drops", &graph, &feeds).remove("y").expect("an output");
    let want = eval(&graph, &[y.value()], &feeds, &HashMap::new()).expect("evaluates");
    compare("y", &got, &want[0].data, (1e-6, 1e-6)).unwrap_or_else(|error| panic!("{error}"));
    got
}

/// How many of the values are `dropped`, every run of `together` values being alike and none but the two given.
fn count(values: &[f64], together: usize, dropped: f64, kept: f64) -> usize {
    let near = |a: f64, b: f64| (a - b).abs() < 1e-5;
    values
        .chunks(together)
        .filter(|run| {
            let all = |value: f64| run.iter().all(|&x| near(x, value));
            assert!(all(dropped) || all(kept), "{run:?} is neither {dropped} nor {kept}");
            all(dropped)
        })
        .count()
}

/// Four standard deviations around the expectation.
fn assert_often(count: usize, draws: usize, p: f64) {
    let (mean, deviation) = (draws as f64 * p, (draws as f64 * p * (1.0 - p)).sqrt());
    assert!((count as f64 - mean).abs() < 4.0 * deviation, "{count} of {draws} at {p}");
}

#[test]
fn channel_dropout_zeroes_whole_channels() {
    let dropped = count(&run(50, 0, |x| x.channel_dropout(0.3)), SIZE, 0.0, 1.0 / 0.7);
    assert_often(dropped, 50 * CHANNELS, 0.3);
}

#[test]
fn drop_path_takes_samples_or_the_whole_batch() {
    assert_often(
        count(&run(200, 0, |x| x.stochastic_depth(0.2, DropPathMode::Row)), CHANNELS * SIZE, 0.0, 1.25),
        200,
        0.2,
    );
    let batch = |index: u32| run(3, 3 * index, |x| x.stochastic_depth(0.5, DropPathMode::Batch));
    let batches = (0..12).map(|index| count(&batch(index), 3 * CHANNELS * SIZE, 0.0, 2.0)).sum::<usize>();
    assert!((1..12).contains(&batches), "{batches} of 12 batches");
}

#[test]
fn alpha_dropout_keeps_mean_and_variance() {
    let p: f64 = 0.4;
    let floor = 1.0507009873554805 * 1.6732632423543772;
    let scale = 1.0 / ((1.0 - p) * (1.0 + p * floor * floor)).sqrt();
    let (kept, dropped) = (scale + scale * floor * p, scale * floor * p - scale * floor);
    assert_often(count(&run(40, 0, |x| x.alpha_dropout(p)), 1, dropped, kept), 40 * CHANNELS * SIZE, p);
    assert_often(count(&run(60, 0, |x| x.feature_alpha_dropout(p)), SIZE, dropped, kept), 60 * CHANNELS, p);
    // Of a variable with mean 0 and variance 1: E[y] and E[y^2] by hand.
    let (off, on) = (dropped, scale * floor * p);
    assert!(((1.0 - p) * on + p * off).abs() < 1e-9);
    assert!(((1.0 - p) * (scale * scale + on * on) + p * off * off - 1.0).abs() < 1e-9);
}

#[test]
fn masks_do_not_depend_on_how_a_batch_is_split() {
    fn all(x: Tensor<'_>) -> Tensor<'_> {
        let paths = x.stochastic_depth(0.5, DropPathMode::Row) + x.channel_dropout(0.5) * 10.0;
        paths + x.feature_alpha_dropout(0.5) * 100.0 + x.alpha_dropout(0.5) * 1000.0
    }
    let whole = run(8, 40, all);
    let halves: Vec<f64> = [40, 44].into_iter().flat_map(|first| run(4, first, all)).collect();
    assert_eq!(whole, halves);
}

#[test]
fn everything_is_dropped_at_one_and_nothing_in_evaluation() {
    fn gone(x: Tensor<'_>) -> Tensor<'_> {
        x.dropout(1.0) + x.channel_dropout(1.0) + x.alpha_dropout(1.0) + x.stochastic_depth(1.0, DropPathMode::Batch)
    }
    assert!(run(2, 0, gone).iter().all(|&x| x == 0.0));
    let graph = Graph::new();
    let x = graph.input("x", [2, 3, 4], DType::F32);
    let same = [x.channel_dropout(0.5), x.alpha_dropout(0.5), x.stochastic_depth(0.5, DropPathMode::Row)];
    assert!(same.iter().all(|y| y.value() == x.value()));
}
