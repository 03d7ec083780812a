//! Dynamic loss scaling: the sequence of PyTorch's `GradScaler`, decided on the device (`tests/oracle/loss_scaling.py`).

use std::collections::VecDeque;
use wgrad::dtype::DType;
use wgrad::graph::Graph;
use wgrad::io::HostTensor;
use wgrad::nn::{Init, Parameters};
use wgrad::optim::{AdamW, LossScaling, Optimizer, Sgd};
use wgrad::train::{StepReport, Trainer, TrainerBuilder};

const FIRST: [f32; 5] = [0.1, 0.2, -0.3, 0.4, -0.5];
const TRUTH: [f32; 5] = [1.0, -2.0, 0.5, 3.0, -1.0];
/// As in the script.
const OVERFLOW: [(usize, f32); 7] = [(2, 1e38), (3, 1e38), (9, 3e37), (20, 1e38), (21, 1e38), (22, 1e38), (31, 2e37)];

/// What the script's GradScaler is made with.
fn scaling() -> LossScaling {
    LossScaling { init_scale: 64.0, growth_interval: 4, ..LossScaling::default() }
}

/// Samples `rows` of a step's six.
fn batch(step: usize, rows: std::ops::Range<usize>) -> Vec<(&'static str, HostTensor)> {
    let x: Vec<f32> = rows
        .clone()
        .flat_map(|i| (0..5).map(move |j| ((i * 37 + j * 11 + step * 7) % 23) as f32 / 11.0 - 1.0))
        .collect();
    let y: Vec<f32> = x.chunks(5).map(|x| x.iter().zip(TRUTH).map(|(x, w)| x * w).sum::<f32>() + 0.25).collect();
    let factor = OVERFLOW.iter().find(|(own, _)| *own == step).map_or(1.0, |(_, factor)| *factor);
    let tensor = |shape: &[usize], values: &[f32]| HostTensor::f32(shape, values).expect("fits");
    vec![("x", tensor(&[rows.len(), 5], &x)), ("y", tensor(&[rows.len()], &y)), ("factor", tensor(&[1], &[factor]))]
}

/// A linear model whose loss has a factor, for `rows` samples at once.
fn trainer(rows: usize, describe: impl Fn(TrainerBuilder) -> TrainerBuilder) -> Trainer {
    let mut parameters = Parameters::new();
    let w = parameters.add("w", [5], Init::Zeros);
    let b = parameters.add("b", [1], Init::Zeros);
    let builder = describe(Trainer::builder(parameters).lr(0.05));
    let mut trainer = builder
        .build(&crate::device(), |graph: &Graph| {
            let (x, y) = (graph.input("x", [rows, 5], DType::F32), graph.input("y", [rows], DType::F32));
            let found = (x * w.tensor(graph)).sum(&[-1]) + b.tensor(graph);
            (found - y).square().mean_all() * graph.input("factor", [1], DType::F32).reshape([])
        })
        .expect("compiles");
    let mut weights = trainer.weights().expect("reads back");
    weights.tensors[0].bytes = FIRST.iter().flat_map(|w| w.to_le_bytes()).collect();
    trainer.load(&weights).expect("fits");
    trainer
}

fn weights(trainer: &Trainer) -> Vec<f32> {
    let weights = trainer.weights().expect("reads back");
    weights.tensors.iter().flat_map(|tensor| tensor.to_f32().expect("f32")).collect()
}

fn golden(run: &str) -> Vec<serde_json::Value> {
    let all: serde_json::Value = serde_json::from_str(include_str!("../golden/loss_scaling.json")).expect("JSON");
    all[run].as_array().cloned().expect("a run of the script")
}

fn assert_row(step: usize, report: &StepReport, row: &serde_json::Value) {
    let found = report.scaling.expect("the loss is scaled");
    assert_eq!(f64::from(found.scale), row["scale"].as_f64().expect("a number"), "step {step}");
    assert_eq!(Some(found.skipped), row["skipped"].as_bool(), "step {step}");
    assert_eq!(Some(found.good_steps), row["made"].as_u64(), "step {step}");
    assert_eq!(found.skipped_steps + found.good_steps, step as u64 + 1);
}

fn assert_weights(step: usize, trainer: &Trainer, row: &serde_json::Value) {
    let wanted = row["weights"].as_array().expect("numbers").iter().filter_map(serde_json::Value::as_f64);
    for (found, wanted) in weights(trainer).into_iter().zip(wanted) {
        assert!((f64::from(found) - wanted).abs() < 2e-6, "step {step}: {found}, should be {wanted}");
    }
}

fn follows(run: &str, optimizer: impl Optimizer + Clone + 'static, clip: Option<f64>) {
    let describe = |builder: TrainerBuilder| {
        let builder = builder.optimizer(optimizer.clone()).loss_scaling(scaling());
        match clip {
            Some(norm) => builder.clip(norm),
            None => builder,
        }
    };
    let rows = golden(run);
    let mut one = trainer(6, describe);
    for (step, row) in rows.iter().enumerate() {
        let report = one.step(&batch(step, 0..6)).expect("trains");
        assert_row(step, &report, row);
        assert_weights(step, &one, row);
    }
    // However long the host waits with its questions.
    for lag in [1, 3, 7] {
        let mut late = trainer(6, describe);
        let mut flying = VecDeque::new();
        for step in 0..rows.len() {
            flying.push_back((step, late.submit(&batch(step, 0..6)).expect("submits")));
            if flying.len() > lag {
                let (step, pending) = flying.pop_front().expect("some");
                assert_row(step, &late.wait(pending).expect("trains"), &rows[step]);
            }
        }
        assert_eq!(weights(&late), weights(&one), "{lag} steps in flight");
    }
}

#[test]
fn the_sequence_is_that_of_grad_scaler() {
    follows("adamw", AdamW::new(), None);
    follows("adamw_clipped", AdamW::new(), Some(0.7));
    follows("sgd", Sgd::new().momentum(0.9), None);
}

#[test]
fn a_scaled_run_goes_on_with_the_same_bits() {
    let describe = |builder: TrainerBuilder| builder.loss_scaling(scaling());
    let mut straight = trainer(6, describe);
    (0..10).for_each(|step| drop(straight.step(&batch(step, 0..6)).expect("trains")));
    let checkpoint = straight.checkpoint().expect("reads back");
    let mut resumed = trainer(6, describe);
    resumed.resume(&checkpoint).expect("fits");
    for step in 10..25 {
        let [a, b] = [&mut straight, &mut resumed].map(|trainer| trainer.step(&batch(step, 0..6)).expect("trains"));
        assert_eq!((a.scaling, a.loss.to_bits()), (b.scaling, b.loss.to_bits()), "step {step}");
    }
    assert_eq!(weights(&straight), weights(&resumed));
}

#[test]
fn micro_batches_and_scaling_go_together() {
    let rows = golden("adamw");
    let mut split = trainer(2, |builder| builder.loss_scaling(scaling()).accumulate(3));
    for (step, row) in rows.iter().enumerate() {
        let report = split.step(&batch(step, 0..6)).expect("trains");
        assert_row(step, &report, row);
        assert_weights(step, &split, row);
    }
    // One of the parts is enough to overflow, and is forgotten with its step.
    let mut split = trainer(2, |builder| builder.loss_scaling(scaling()).accumulate(3));
    split.add(&batch(0, 0..2)).expect("adds");
    split.add(&batch(2, 2..4)).expect("adds");
    let report = split.step(&batch(0, 4..6)).expect("trains").scaling.expect("scaled");
    assert!(report.skipped && report.good_steps == 0);
    assert_eq!(weights(&split)[..5], FIRST);
    let report = split.step(&batch(0, 0..6)).expect("trains").scaling.expect("scaled");
    assert!(!report.skipped && report.scale == 32.0);
    assert_weights(0, &split, &rows[0]);
}

#[test]
fn fifty_overflows_in_a_row_end_the_training() {
    let mut hopeless = trainer(6, |builder| builder.loss_scaling(LossScaling::default()));
    for step in 0..49 {
        let report = hopeless.step(&batch(2, 0..6)).expect("is left out").scaling.expect("scaled");
        assert!(report.skipped && report.scale == (65_536.0f32 / (1u64 << step.min(16)) as f32).max(1.0), "{report:?}");
    }
    let error = hopeless.step(&batch(2, 0..6)).map(|_| ()).expect_err("ends").to_string();
    assert!(error.contains("gradient that does is that of `w`") && error.contains("down to 1"), "{error}");
    assert_eq!(weights(&hopeless)[..5], FIRST);
}

#[test]
fn a_power_of_two_changes_nothing_but_gradients_too_small_for_half_precision() {
    // Without an overflow, losses and weights are those of a run that does not scale.
    let [mut plain, mut scaled] = [None, Some(LossScaling::default())].map(|scaling| {
        trainer(6, |builder| match scaling {
            Some(scaling) => builder.loss_scaling(scaling),
            None => builder,
        })
    });
    for step in (0..30).map(|step| if step < 9 { 0 } else { 10 + step % 7 }) {
        let [a, b] = [&mut plain, &mut scaled].map(|trainer| trainer.step(&batch(step, 0..6)).expect("trains").loss);
        assert!((a - b).abs() <= 1e-6 * a.abs(), "{a} and {b}");
    }
    assert!(scaled.step(&batch(0, 0..6)).expect("trains").scaling.is_some_and(|report| report.skipped_steps == 0));
}
