//! Buffers: what a batch norm remembers is updated in training, used in evaluation, and kept in checkpoints.

use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::io::HostTensor;
use wgrad::io::safetensors::Weights;
use wgrad::nn::{BatchNorm, BatchNormConfig, Conv2d, Init, InstanceNorm, Linear, Parameters};
use wgrad::optim::Sgd;
use wgrad::tensor::ConvOptions;
use wgrad::train::Trainer;

const BATCH: usize = 6;

struct Model {
    first: Linear,
    norm: BatchNorm,
    second: Linear,
}

impl Model {
    fn new(parameters: &mut Parameters, config: BatchNormConfig) -> Model {
        Model {
            first: Linear::new(parameters, "first", 5, 4),
            norm: BatchNorm::with(parameters, "norm", 4, config),
            second: Linear::new(parameters, "second", 4, 3),
        }
    }

    fn loss<'g>(&self, graph: &'g Graph) -> Tensor<'g> {
        let x = graph.input("x", [BATCH, 5], DType::F32);
        let hidden = self.first.forward(x);
        graph.output("hidden", hidden);
        self.second.forward(self.norm.forward(hidden).relu()).cross_entropy(graph.input("y", [BATCH], DType::I32))
    }
}

fn trainer(config: BatchNormConfig) -> Trainer {
    let mut parameters = Parameters::new();
    let model = Model::new(&mut parameters, config);
    parameters.group_by("no_decay", |_, shape| shape.rank() < 2).weight_decay(0.0);
    Trainer::builder(parameters)
        .lr(0.05)
        .clip(1.0)
        .build(&crate::device(), move |graph| model.loss(graph))
        .expect("compiles")
}

fn batch(step: usize) -> [(&'static str, HostTensor); 2] {
    let x: Vec<f32> = (0..BATCH * 5).map(|i| (((i + step * 7) * 37 % 19) as f32 - 6.0) / 5.0).collect();
    let y: Vec<i32> = (0..BATCH as i32).map(|i| i % 3).collect();
    [("x", HostTensor::f32([BATCH, 5], &x).expect("30 values")), ("y", HostTensor::i32([BATCH], &y).expect("6 values"))]
}

fn values(weights: &Weights, name: &str) -> Vec<f64> {
    let tensor = weights.get(name).unwrap_or_else(|| panic!("no `{name}`"));
    tensor.to_f32().expect("f32").into_iter().map(f64::from).collect()
}

fn assert_close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + b.abs())), "{got:?}, should be {want:?}");
}

/// Mean and unbiased variance of each column of `[BATCH, 4]`.
fn statistics(hidden: &[f32]) -> [Vec<f64>; 2] {
    let column = |c: usize| (0..BATCH).map(move |row| f64::from(hidden[row * 4 + c]));
    let mean: Vec<f64> = (0..4).map(|c| column(c).sum::<f64>() / BATCH as f64).collect();
    let square = |c: usize| column(c).map(|x| (x - mean[c]).powi(2)).sum::<f64>() / (BATCH - 1) as f64;
    let variance = (0..4).map(square).collect();
    [mean, variance]
}

#[test]
fn running_statistics_follow_pytorchs_formula() {
    for momentum in [Some(0.1), Some(0.4), None] {
        let mut trainer = trainer(BatchNormConfig { momentum, ..BatchNormConfig::default() });
        let mut want = [vec![0.0; 4], vec![1.0; 4]];
        for step in 0..3 {
            let report = trainer.step(&batch(step)).expect("trains");
            let share = momentum.unwrap_or(1.0 / (step + 1) as f64);
            for (running, new) in want.iter_mut().zip(statistics(&report.results.f32("hidden").expect("an output"))) {
                running.iter_mut().zip(new).for_each(|(old, new)| *old += share * (new - *old));
            }
        }
        // Evaluation reads them and leaves them alone.
        trainer.evaluate(&batch(9)).expect("evaluates");
        let weights = trainer.weights().expect("reads back");
        assert_close(&values(&weights, "norm.running_mean"), &want[0]);
        assert_close(&values(&weights, "norm.running_var"), &want[1]);
        assert_eq!(weights.get("norm.num_batches_tracked").is_some(), momentum.is_none());
    }
}

#[test]
fn a_checkpoint_with_running_statistics_goes_on_with_the_same_bits() {
    let config = BatchNormConfig::default();
    let losses = |trainer: &mut Trainer, steps: std::ops::Range<usize>| -> Vec<u32> {
        steps.map(|step| trainer.step(&batch(step)).expect("trains").loss.to_bits()).collect()
    };
    let mut straight = trainer(config);
    let all = losses(&mut straight, 0..8);
    let mut first = trainer(config);
    losses(&mut first, 0..4);
    let file = first.checkpoint().expect("reads back").to_bytes().expect("a file");
    let mut second = trainer(config);
    second.resume(&Weights::from_bytes("checkpoint", &file).expect("a checkpoint")).expect("fits");
    assert_eq!(all[4..], losses(&mut second, 4..8)[..]);
    let evaluate = |trainer: &mut Trainer| trainer.evaluate(&batch(9)).expect("evaluates").to_bits();
    let last = evaluate(&mut straight);
    assert_eq!(last, evaluate(&mut second));

    // Weights alone carry the statistics too, and evaluation depends on them.
    let mut weights = straight.weights().expect("reads back");
    let mut third = trainer(config);
    third.load(&weights).expect("fits");
    assert_eq!(last, evaluate(&mut third));
    weights
        .tensors
        .iter_mut()
        .filter(|tensor| tensor.name == "norm.running_mean")
        .for_each(|tensor| tensor.bytes.fill(0));
    third.load(&weights).expect("fits");
    assert_ne!(last, evaluate(&mut third));
    weights.tensors.retain(|tensor| tensor.name != "norm.running_var");
    assert!(third.load(&weights).unwrap_err().to_string().contains("norm.running_var"));
}

#[test]
fn without_running_statistics_evaluation_uses_its_batch() {
    let config = BatchNormConfig { track_running_stats: false, affine: false, ..BatchNormConfig::default() };
    let mut trainer = trainer(config);
    let evaluated = trainer.evaluate(&batch(0)).expect("evaluates");
    let trained = trainer.step(&batch(0)).expect("trains").loss;
    assert!((evaluated - trained).abs() < 1e-6, "{evaluated} against {trained}");
    assert!(trainer.weights().expect("reads back").tensors.iter().all(|tensor| !tensor.name.starts_with("norm")));
}

#[test]
fn a_norm_applied_twice_updates_twice() {
    let mut parameters = Parameters::new();
    let norm = BatchNorm::new(&mut parameters, "norm", 1);
    let mut trainer = Trainer::builder(parameters)
        .optimizer(Sgd::new())
        .build(&crate::device(), |graph| {
            let x = graph.input("x", [4, 1], DType::F32);
            (norm.forward(x) + norm.forward(x + 10.0)).square().mean_all()
        })
        .expect("compiles");
    let x = HostTensor::f32([4, 1], &[1.0, 2.0, 3.0, 6.0]).expect("4 values");
    trainer.step(&[("x", x)]).expect("trains");
    let weights = trainer.weights().expect("reads back");
    assert_close(&values(&weights, "norm.running_mean"), &[0.9 * 0.1 * 3.0 + 0.1 * 13.0]);
    let unbiased = 14.0 / 3.0;
    assert_close(&values(&weights, "norm.running_var"), &[0.9 * (0.9 + 0.1 * unbiased) + 0.1 * unbiased]);
}

#[test]
fn instance_norm_keeps_the_average_over_its_samples() {
    let mut parameters = Parameters::new();
    let config = BatchNormConfig { affine: false, momentum: Some(0.5), ..BatchNormConfig::default() };
    let norm = InstanceNorm::with(&mut parameters, "norm", 1, config);
    let scale = parameters.add("scale", [1], Init::Ones);
    let mut trainer = Trainer::builder(parameters)
        .lr(0.0)
        .build(&crate::device(), |graph| {
            let x = graph.input("x", [2, 1, 2], DType::F32);
            (norm.forward(x) * scale.tensor(graph)).square().sum_all()
        })
        .expect("compiles");
    let x = [("x", HostTensor::f32([2, 1, 2], &[1.0, 3.0, 2.0, 10.0]).expect("4 values"))];
    let trained = trainer.step(&x).expect("trains").loss;
    assert!((trained - 4.0).abs() < 1e-3, "{trained}");
    let weights = trainer.weights().expect("reads back");
    // Means 2 and 6, unbiased variances 2 and 32.
    assert_close(&values(&weights, "norm.running_mean"), &[0.5 * 4.0]);
    assert_close(&values(&weights, "norm.running_var"), &[0.5 + 0.5 * 17.0]);
    let squares: f64 = [1.0f64, 3.0, 2.0, 10.0].into_iter().map(|x| (x - 2.0).powi(2) / (9.0 + 1e-5)).sum();
    assert_close(&[f64::from(trainer.evaluate(&x).expect("evaluates"))], &[squares]);
}

/// The norm that clipping goes by is that of the gradients, which plain descent shows as the way that the weights
/// have gone; also where tensors of odd lengths lie side by side.
#[test]
fn the_gradient_norm_counts_nothing_between_tensors() {
    for channels in [3, 5, 6, 7, 8, 9] {
        let mut parameters = Parameters::new();
        let conv = Conv2d::new(&mut parameters, "conv", [3, channels], [3, 3], ConvOptions::new().padding(1));
        let norm = BatchNorm::new(&mut parameters, "norm", channels);
        let head = Linear::new(&mut parameters, "head", channels, 3);
        let builder = Trainer::builder(parameters).optimizer(Sgd::new()).lr(1.0).clip(1e9).seed(1);
        let mut trainer = builder
            .build(&crate::device(), move |graph| {
                let x = graph.input("x", [BATCH, 3, 5, 5], DType::F32);
                let planes = norm.forward(conv.forward(x)).relu();
                head.forward(planes.global_avg_pool()).cross_entropy(graph.input("y", [BATCH], DType::I32))
            })
            .expect("compiles");
        for step in 0..3 {
            let x: Vec<f32> = (0..BATCH * 75).map(|i| (((i + step * 7) * 37 % 19) as f32 - 6.0) / 5.0).collect();
            let before = trainer.weights().expect("reads back");
            let x = HostTensor::f32([BATCH, 3, 5, 5], &x).expect("images");
            let report = trainer.step(&[("x", &x), ("y", &batch(step)[1].1)]).expect("a step");
            let after = trainer.weights().expect("reads back");
            let moved = ["conv.weight", "conv.bias", "norm.weight", "norm.bias", "head.weight", "head.bias"];
            let squares = moved.iter().flat_map(|name| {
                values(&before, name).into_iter().zip(values(&after, name)).map(|(a, b)| (a - b).powi(2))
            });
            let (way, norm) = (squares.sum::<f64>().sqrt(), f64::from(report.grad_norm.expect("clipped")));
            assert!((norm - way).abs() < 1e-4 * way, "{channels} channels, step {step}: norm {norm}, way {way}");
        }
    }
}
