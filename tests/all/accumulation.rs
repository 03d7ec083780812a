//! A batch in micro-batches is the batch: gradients, losses, updates, masks, and checkpoints in between.

use std::collections::HashMap;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::io::HostTensor;
use wgrad::io::safetensors::Weights;
use wgrad::kernels::Profile;
use wgrad::nn::Parameters;
use wgrad::nn::models::{Gpt, GptConfig, Mlp};
use wgrad::optim::{AdamW, Optimizer, Sgd};
use wgrad::tensor::Reduction;
use wgrad::train::workloads::{Workload, setup};
use wgrad::train::{Trainer, TrainerBuilder};

const SIZE: GptConfig =
    GptConfig { vocabulary: 13, context: 8, layers: 2, heads: 2, width: 16, dropout: 0.2, tied: true };

type Feed = Vec<(&'static str, HostTensor)>;

/// Texts whose targets are ignored (-1) where `keep` says no.
fn texts(batch: usize, keep: impl Fn(usize, usize) -> bool) -> Feed {
    let tokens: Vec<i32> = (0..batch * 8).map(|i| (i * 31 % 89 % 13) as i32).collect();
    let target = |i: usize| if keep(i / 8, i % 8) { (tokens[i] * 5 + 3) % 13 } else { -1 };
    let targets: Vec<i32> = (0..batch * 8).map(target).collect();
    let tensor = |values: &[i32]| HostTensor::i32([batch, 8], values).expect("fits");
    vec![("tokens", tensor(&tokens)), ("targets", tensor(&targets))]
}

/// A small GPT with dropout, compiled for `rows` texts at once.
fn gpt(rows: usize, accumulate: usize, describe: impl Fn(TrainerBuilder) -> TrainerBuilder) -> Trainer {
    let mut parameters = Parameters::new();
    let gpt = Gpt::new(&mut parameters, SIZE);
    let builder = describe(Trainer::builder(parameters).seed(5)).accumulate(accumulate);
    builder.build(&crate::device(), |graph| mean_loss(&gpt, graph, rows)).expect("compiles")
}

fn mean_loss<'g>(gpt: &Gpt, graph: &'g Graph, rows: usize) -> Tensor<'g> {
    let input = |name| graph.input(name, [rows, 8], DType::I32);
    gpt.forward(input("tokens")).cross_entropy_ignoring(input("targets"), -1)
}

fn values(weights: &Weights, start: &str) -> HashMap<String, Vec<f32>> {
    let own = weights.tensors.iter().filter(|tensor| tensor.name.starts_with(start));
    own.map(|tensor| (tensor.name.clone(), tensor.to_f32().expect("f32"))).collect()
}

/// What has been added up: gradients divided by the count.
fn gradients(trainer: &Trainer) -> HashMap<String, Vec<f32>> {
    let state = trainer.checkpoint().expect("reads back");
    let count = values(&state, "accumulated/count")["accumulated/count"][0];
    let divided = |(name, sum): (String, Vec<f32>)| (name, sum.into_iter().map(|g| g / count).collect());
    values(&state, "grad/").into_iter().map(divided).collect()
}

fn distance(a: &HashMap<String, Vec<f32>>, b: &HashMap<String, Vec<f32>>) -> f64 {
    assert!(!a.is_empty() && a.len() == b.len());
    let (mut off, mut all) = (0.0, 0.0);
    for (name, a) in a {
        for (a, b) in a.iter().zip(&b[name]) {
            off += f64::from(a - b).powi(2);
            all += f64::from(*b).powi(2);
        }
    }
    assert!(all > 0.0);
    (off / all).sqrt()
}

/// How far the weights went.
fn moved(trainer: &Trainer, before: &Weights) -> HashMap<String, Vec<f32>> {
    let after = values(&trainer.weights().expect("reads back"), "");
    let difference = |(name, old): (String, Vec<f32>)| {
        let moved = old.iter().zip(&after[&name]).map(|(old, new)| new - old).collect();
        (name, moved)
    };
    values(before, "").into_iter().map(difference).collect()
}

/// Gradients and loss of 64 texts at once and of eight times eight, dropout included, and those of a plain step.
fn one_against_eight(keep: impl Fn(usize, usize) -> bool + Copy) {
    let batch = texts(64, keep);
    let [mut whole, mut split] = [(64, 2), (8, 9)].map(|(rows, most)| gpt(rows, most, |builder| builder));
    whole.add(&batch).expect("adds");
    split.add(&batch).expect("adds");
    assert_eq!((whole.micro_batches_added(), split.micro_batches_added()), (1, 8));
    let off = distance(&gradients(&split), &gradients(&whole));
    assert!(off < 1e-6, "gradients differ by {off:e} of their norm");
    assert_eq!(split.samples_done(), 64);

    // With this rule and rate the step is the gradient.
    let sgd = |builder: TrainerBuilder| builder.optimizer(Sgd::new()).lr(1.0).clip(1e9);
    let [mut plain, mut split] = [(64, 1), (8, 8)].map(|(rows, most)| gpt(rows, most, sgd));
    let before = plain.weights().expect("reads back");
    let [one, eight] = [&mut plain, &mut split].map(|trainer| trainer.step(&batch).expect("trains"));
    assert!((one.loss - eight.loss).abs() < 1e-6 * one.loss, "{} and {}", one.loss, eight.loss);
    let [one, eight] = [one, eight].map(|report| report.grad_norm.expect("clipped"));
    assert!((one - eight).abs() < 1e-5 * one, "{one} and {eight}");
    let off = distance(&moved(&split, &before), &moved(&plain, &before));
    assert!(off < 1e-5, "steps differ by {off:e}, more than rounding");
}

#[test]
fn eight_micro_batches_are_one_batch() {
    one_against_eight(|_, _| true);
}

#[test]
fn the_mean_is_over_all_tokens_of_the_batch() {
    // Texts of different lengths, and a last micro-batch of three texts.
    one_against_eight(|text, place| text < 59 && place <= text % 7);
    // And one that counts nothing at all.
    one_against_eight(|text, place| text < 56 && place != text % 3);
}

/// A perceptron with dropout, for `rows` samples at once.
fn perceptron(rows: usize, accumulate: usize, optimizer: impl Optimizer + 'static) -> Trainer {
    let mut parameters = Parameters::new();
    let model = Mlp::new(&mut parameters, &[6, 16, 4]);
    let builder = Trainer::builder(parameters).optimizer(optimizer).lr(1e-2).clip(0.5).accumulate(accumulate);
    let built = builder.build(&crate::device(), |graph| {
        let logits = model.forward(graph.input("x", [rows, 6], DType::F32).dropout(0.1));
        let y = graph.input("y", [rows], DType::I32);
        graph.output("accuracy", logits.argmax(-1).eq(y).cast(DType::F32).mean_all());
        logits.cross_entropy(y)
    });
    built.expect("compiles")
}

fn points(rows: usize, from: usize) -> Feed {
    let x: Vec<f32> = (from * 6..(from + rows) * 6).map(|i| ((i * 7919 % 1013) as f32 / 506.0) - 1.0).collect();
    let y: Vec<i32> = x.chunks(6).map(|x| (x[0] > 0.0) as i32 * 2 + (x[1] + x[2] > 0.0) as i32).collect();
    vec![("x", HostTensor::f32([rows, 6], &x).expect("fits")), ("y", HostTensor::i32([rows], &y).expect("fits"))]
}

#[test]
fn parameters_and_scalar_outputs_follow_those_of_whole_batches() {
    let [mut whole, mut split] = [(64, 1), (8, 8)].map(|(rows, most)| perceptron(rows, most, AdamW::new()));
    for step in 0..10 {
        let batch = points(64, step * 64);
        let [one, eight] = [&mut whole, &mut split].map(|trainer| trainer.step(&batch).expect("trains"));
        let accuracy = |results: &wgrad::gpu::Results| results.f32("accuracy").expect("an output")[0];
        assert!((accuracy(&one.results) - accuracy(&eight.results)).abs() < 1e-6, "step {step}");
        assert!((one.loss - eight.loss).abs() < 1e-5 * one.loss, "step {step}: {} and {}", one.loss, eight.loss);
    }
    let [one, eight] = [&whole, &split].map(|trainer| values(&trainer.weights().expect("reads back"), ""));
    for (name, one) in &one {
        let most = one.iter().zip(&eight[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most < 1e-2 * 1e-2, "{name} differs by {most:e}");
    }
}

#[test]
fn small_batches_add_up_to_a_step_and_fewer_may_do() {
    let [mut parts, mut whole] = [8, 20].map(|rows| perceptron(rows, 8, Sgd::new()));
    // 40 samples: three batches of 8 beforehand and two with the step, or twice 20.
    parts.add(&points(8, 0)).expect("adds");
    parts.add(&points(16, 8)).expect("adds");
    let last = parts.step(&points(16, 24)).expect("trains");
    let all = whole.step(&points(40, 0)).expect("trains");
    assert!((last.loss - all.loss).abs() < 1e-5, "{} and {}", last.loss, all.loss);
    assert_eq!((parts.steps_done(), parts.samples_done(), parts.micro_batches_added()), (1, 40, 0));
    let [parts, whole] = [parts, whole].map(|trainer| values(&trainer.weights().expect("reads back"), ""));
    assert!(distance(&parts, &whole) < 1e-6);
}

/// Four numbers predicted for `rows` samples; `filled`: of those that the mask keeps.
fn regression(rows: usize, accumulate: usize, filled: bool) -> Trainer {
    let mut parameters = Parameters::new();
    let model = Mlp::new(&mut parameters, &[6, 16, 4]);
    let builder = Trainer::builder(parameters).optimizer(Sgd::new()).lr(1.0).seed(3).accumulate(accumulate);
    let built = builder.build(&crate::device(), |graph| {
        let input = |name, width| graph.input(name, [rows, width], DType::F32);
        let losses = model.forward(input("x", 6)).mse_loss(input("y", 4), Reduction::None).mean(&[-1]);
        if !filled {
            return losses.mean_all();
        }
        let mask = graph.input("mask", [rows], DType::F32);
        let count = mask.sum_all();
        ((losses * mask).sum_all() / count.maximum(1.0)).with_count(count)
    });
    built.expect("compiles")
}

#[test]
fn rows_that_only_fill_up_a_last_batch_count_nothing() {
    let numbers = |count: usize, factor: usize| -> Vec<f32> {
        (0..count).map(|i| (i * factor % 1013) as f32 / 506.0 - 1.0).collect()
    };
    // The last of eight micro-batches has three samples, or three micro-batches have none.
    for samples in [59, 37] {
        let feed = |rows: usize| -> Feed {
            let rest = |mut values: Vec<f32>, each: usize| {
                // What fills up is anything.
                values[samples * each..].fill(7.5);
                HostTensor::f32([rows, each], &values).expect("fits")
            };
            vec![("x", rest(numbers(rows * 6, 7919), 6)), ("y", rest(numbers(rows * 4, 5003), 4))]
        };
        let mask: Vec<f32> = (0..64).map(|row| if row < samples { 1.0 } else { 0.0 }).collect();
        let mut filled = feed(64);
        filled.push(("mask", HostTensor::f32([64], &mask).expect("fits")));
        let mut plain = regression(samples, 1, false);
        let mut split = regression(8, 8, true);
        let before = plain.weights().expect("reads back");
        let one = plain.step(&feed(samples)).expect("trains").loss;
        let eight = split.step(&filled).expect("trains").loss;
        assert!((one - eight).abs() < 1e-6 * one, "{samples}: {one} and {eight}");
        let off = distance(&moved(&split, &before), &moved(&plain, &before));
        assert!(off < 1e-6, "{samples}: steps differ by {off:e} of their norm");
    }
}

#[test]
fn a_run_resumed_within_a_step_goes_on_with_the_same_bits() {
    let mut straight = perceptron(8, 8, AdamW::new());
    let mut losses = vec![straight.step(&points(64, 0)).expect("trains").loss];
    (0..5).for_each(|part| straight.add(&points(8, 64 + part * 8)).expect("adds"));
    let checkpoint = straight.checkpoint().expect("reads back");
    let mut resumed = perceptron(8, 8, AdamW::new());
    // What was added before is forgotten.
    resumed.add(&points(8, 1)).expect("adds");
    resumed.resume(&checkpoint).expect("fits");
    assert_eq!((resumed.micro_batches_added(), resumed.samples_done()), (5, 104));
    let rest = |trainer: &mut Trainer| {
        let last = trainer.step(&points(24, 104)).expect("trains").loss;
        [last, trainer.step(&points(64, 128)).expect("trains").loss]
    };
    losses.extend(rest(&mut straight));
    assert_eq!(rest(&mut resumed), losses[1..]);
    assert!(straight.weights().expect("reads back") == resumed.weights().expect("reads back"));

    // Back to a checkpoint between steps: nothing of the present one is left.
    let between = straight.checkpoint().expect("reads back");
    let next = straight.step(&points(64, 192)).expect("trains").loss;
    resumed.add(&points(8, 3)).expect("adds");
    resumed.resume(&between).expect("fits");
    assert_eq!(resumed.step(&points(64, 192)).expect("trains").loss, next);

    let message = perceptron(64, 1, AdamW::new()).resume(&checkpoint).expect_err("cannot go on").to_string();
    assert!(message.contains("after 5 of its micro-batches"), "{message}");
}

#[test]
fn what_cannot_be_split_is_refused() {
    let mut trainer = perceptron(8, 4, Sgd::new());
    let message =
        |result: wgrad::Result<_>| result.err().map_or_else(String::new, |error: wgrad::Error| error.to_string());
    assert!(message(trainer.step(&points(20, 0)).map(|_| ())).contains("no whole number"));
    assert!(message(trainer.step(&points(40, 0)).map(|_| ())).contains("5 micro-batches"));
    assert!(message(trainer.add(&points(32, 0))).contains("given to `step`"));
    assert_eq!((trainer.steps_done(), trainer.samples_done(), trainer.micro_batches_added()), (0, 0, 0));
    assert!(message(perceptron(8, 1, Sgd::new()).add(&points(8, 0))).contains("accumulate(n)"));

    let two_counts = |graph: &Graph| {
        let x = graph.input("x", [4, 3], DType::F32);
        let weight = graph.state("w", [3, 3], DType::F32);
        let logits = x.matmul(weight);
        let loss = |name| logits.cross_entropy_ignoring(graph.input(name, [4], DType::I32), -1);
        (loss("a") + loss("b")).value()
    };
    let build = |counted: bool| {
        let mut parameters = Parameters::new();
        parameters.add("w", [3, 3], wgrad::nn::Init::Zeros);
        let builder = Trainer::builder(parameters).accumulate(2);
        builder.trace(&move |graph: &Graph| {
            let loss = Tensor::new(graph, two_counts(graph));
            if counted { loss.with_count(graph.float(4.0)) } else { loss }
        })
    };
    assert!(message(build(false).map(|_| ())).contains("with_count"));
    assert!(build(true).is_ok());
}

#[test]
fn additions_ride_on_the_kernels_that_make_the_gradients() {
    for workload in [Workload::W2, Workload::W3, Workload::W4] {
        let plans = [1, 2].map(|accumulate| {
            let trainer = setup(workload, 0).expect("a workload");
            let builder = trainer.trainer.accumulate(accumulate);
            builder.plan(&Profile::baseline(), &trainer.loss).expect("compiles")
        });
        let dispatches = |program: usize| plans.each_ref().map(|plan| plan.programs[program].dispatches());
        // Those of biases and gains too, which a kernel makes beside its main result.
        let [plain, added] = dispatches(0);
        assert!(added <= plain, "{workload}: {plain} and {added} dispatches");
        // The count's inverse, and zeros for the two sums.
        let [plain, divided] = dispatches(1);
        assert!(divided <= plain + 3, "{workload}: {plain} and {divided} dispatches");
    }
}
