//! Activations that draw random numbers: Gumbel softmax and randomized leaky ReLU.

use super::ops::harness::{compare, run_on_device};
use std::collections::HashMap;
use wgrad::autodiff::vjp;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::reference::{Array, eval};

const ROWS: usize = 600;

/// Results for `ROWS` rows of `row`, from the device; the reference must give the same.
fn run(row: &[f32], training: bool, build: impl for<'g> Fn(Tensor<'g>) -> Vec<Tensor<'g>>) -> Vec<Vec<f64>> {
    let graph = Graph::new();
    graph.set_training(training);
    let outputs = build(graph.input("x", [ROWS, row.len()], DType::F32));
    for (index, output) in outputs.iter().enumerate() {
        graph.output(&index.to_string(), *output);
    }
    graph.error().expect("traces");
    let feeds = HashMap::from([
        ("x".to_string(), Array::floats([ROWS, row.len()], &row.repeat(ROWS))),
        ("rng.key".to_string(), Array::new([2], DType::U32, vec![5.0, 1000.0])),
    ]);
    let values: Vec<_> = outputs.iter().map(|output| output.value()).collect();
    let wanted = eval(&graph, &values, &feeds, &HashMap::new()).expect("evaluates");
    let mut got = run_on_device("noise", &graph, &feeds);
    let results: Vec<Vec<f64>> = (0..outputs.len()).filter_map(|index| got.remove(&index.to_string())).collect();
    for (got, want) in results.iter().zip(&wanted) {
        compare("noise", got, &want.data, (2e-5, 2e-5)).expect("the device agrees");
    }
    results
}

/// The maximum of scores and Gumbel noise is distributed as their softmax.
#[test]
fn hard_gumbel_softmax_draws_from_the_softmax() {
    let drawn = run(&[0.0, 1.0, -1.0], false, |x| vec![x.gumbel_softmax(0.5, true, -1)]).remove(0);
    let probability = [0.2447, 0.6652, 0.0900];
    for (class, p) in probability.into_iter().enumerate() {
        let ones: f64 = drawn.iter().skip(class).step_by(3).sum();
        let spread = (ROWS as f64 * p * (1.0 - p)).sqrt();
        assert!((ones - ROWS as f64 * p).abs() < 4.0 * spread, "class {class}: {ones} of {ROWS}");
    }
    assert!(
        drawn.chunks(3).all(|row| row.iter().filter(|&&x| x == 1.0).count() == 1 && row.iter().sum::<f64>() == 1.0)
    );
}

#[test]
fn hard_gumbel_softmax_has_the_gradient_of_the_soft_one() {
    // The same noise twice: it is that of the first call site of each graph.
    let soft = run(&[0.5, -0.5], false, |x| {
        let soft = x.gumbel_softmax(1.0, false, 1);
        let seed = x.graph().arange(1.0, 3.0, 1.0, DType::F32).broadcast_to(x.shape());
        vec![soft, vjp(&[(soft, seed)], &[x]).expect("a gradient")[0]]
    });
    let hard = run(&[0.5, -0.5], false, |x| {
        let hard = x.gumbel_softmax(1.0, true, 1);
        let seed = x.graph().arange(1.0, 3.0, 1.0, DType::F32).broadcast_to(x.shape());
        vec![hard, vjp(&[(hard, seed)], &[x]).expect("a gradient")[0]]
    });
    compare("gradient", &hard[1], &soft[1], (1e-5, 1e-6)).expect("one gradient");
    assert!(soft[0].chunks(2).all(|row| (row[0] + row[1] - 1.0).abs() < 1e-5));
}

#[test]
fn randomized_slopes_lie_between_their_bounds() {
    let trained = run(&[-1.0, 2.0], true, |x| vec![x.rrelu(0.125, 0.375)]).remove(0);
    let slopes: Vec<f64> = trained.iter().step_by(2).map(|y| -y).collect();
    assert!(slopes.iter().all(|slope| (0.125..=0.375).contains(slope)));
    let mean = slopes.iter().sum::<f64>() / ROWS as f64;
    assert!((mean - 0.25).abs() < 4.0 * 0.25 / 12f64.sqrt() / (ROWS as f64).sqrt(), "mean slope {mean}");
    assert!(trained.iter().skip(1).step_by(2).all(|&y| y == 2.0));
    let evaluated = run(&[-1.0, 2.0], false, |x| vec![x.rrelu(0.125, 0.375)]).remove(0);
    assert!(evaluated.chunks(2).all(|row| row == [-0.25, 2.0]));
}
