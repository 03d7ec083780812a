//! Models whose tensors exceed a binding: computed in parts, they train as they do whole.

use std::collections::HashMap;
use wgrad::dtype::DType;
use wgrad::gpu::{Device, Session};
use wgrad::graph::{Graph, Tensor};
use wgrad::io::HostTensor;
use wgrad::io::safetensors::Weights;
use wgrad::kernels::Profile;
use wgrad::lower::Recompute;
use wgrad::nn::Parameters;
use wgrad::nn::models::{Gpt, GptConfig, Mlp};
use wgrad::optim::{Adafactor, AdamW, AdamW8bit, Optimizer};
use wgrad::train::workloads::{Workload, outline};
use wgrad::train::{Budget, Plan, Precision, Trainer, TrainerBuilder};
use wgrad::{Error, ErrorKind};

const TEXTS: usize = 4;
const TIME: usize = 8;
const WORDS: usize = 252;
/// Less than the table of 252 words, the logits of 32 tokens, and the wide layer of an MLP need; more than all else does.
const LIMIT: u64 = 8 << 10;
/// Less than most tensors of the models need.
const TIGHT: u64 = 2 << 10;

type Feed = Vec<(&'static str, HostTensor)>;

fn texts(step: usize) -> Feed {
    let token = |i: usize| ((i * 31 + step * 7) % 251) as i32;
    let tokens: Vec<i32> = (0..TEXTS * TIME).map(token).collect();
    // Some targets are ignored.
    let targets: Vec<i32> =
        tokens.iter().map(|token| if token % 9 == 4 { -1 } else { (token * 5 + 3) % 252 }).collect();
    let tensor = |values: &[i32]| HostTensor::i32([TEXTS, TIME], values).expect("fits");
    vec![("tokens", tensor(&tokens)), ("targets", tensor(&targets))]
}

fn device(limit: Option<u64>) -> Device {
    let device = crate::device();
    limit.map_or(device.clone(), |limit| device.with_binding_limit(limit))
}

/// What is trained, for so many texts at once.
struct Setup<'a> {
    tied: bool,
    rows: usize,
    describe: &'a dyn Fn(TrainerBuilder) -> TrainerBuilder,
}

impl Setup<'_> {
    fn trainer(&self, limit: Option<u64>) -> Trainer {
        let mut parameters = Parameters::new();
        let config = GptConfig {
            vocabulary: WORDS,
            context: TIME,
            layers: 2,
            heads: 2,
            width: 16,
            dropout: 0.1,
            tied: self.tied,
        };
        let gpt = Gpt::new(&mut parameters, config);
        parameters.group_by("no_decay", |_, shape| shape.rank() < 2).weight_decay(0.0);
        let rows = self.rows;
        let builder = (self.describe)(Trainer::builder(parameters).optimizer(AdamW::new()).lr(3e-3).seed(5));
        let built = builder.build(&device(limit), |graph| mean_loss(&gpt, graph, rows));
        built.unwrap_or_else(|error| panic!("{limit:?}: {error}"))
    }
}

fn mean_loss<'g>(gpt: &Gpt, graph: &'g Graph, rows: usize) -> Tensor<'g> {
    let input = |name| graph.input(name, [rows, TIME], DType::I32);
    gpt.forward(input("tokens")).cross_entropy_ignoring(input("targets"), -1)
}

/// The losses of some steps and the evaluation behind them.
fn train(trainer: &mut Trainer, steps: usize) -> Vec<f32> {
    let mut losses: Vec<f32> = (0..steps).map(|step| trainer.step(&texts(step)).expect("trains").loss).collect();
    if trainer.samples_per_micro_batch() == TEXTS {
        losses.push(trainer.evaluate(&texts(0)).expect("evaluates"));
    }
    losses
}

fn values(weights: &Weights) -> HashMap<String, Vec<f32>> {
    weights.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.to_f32().expect("f32"))).collect()
}

/// How far two sets of weights lie apart, by norm.
fn distance(a: &Weights, b: &Weights) -> f64 {
    let (a, b) = (values(a), values(b));
    assert!(!a.is_empty() && a.len() == b.len());
    let (mut off, mut all) = (0.0, 0.0);
    for (name, a) in &a {
        assert_eq!(a.len(), b[name].len(), "{name}");
        off += a.iter().zip(&b[name]).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        all += a.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>();
    }
    (off / all).sqrt()
}

/// A model trained whole and in parts: losses within `bound` of each other, relatively, weights within ten times that.
fn same(name: &str, setup: &Setup<'_>, limit: u64, bound: f64) {
    let [mut whole, mut parts] = [None, Some(limit)].map(|limit| setup.trainer(limit));
    assert!(parts.dispatches() > whole.dispatches(), "{name}: nothing was split");
    assert!(
        distance(&whole.weights().expect("reads"), &parts.weights().expect("reads")) == 0.0,
        "{name}: other weights"
    );
    let [one, other] = [&mut whole, &mut parts].map(|trainer| train(trainer, 5));
    let off = distance(&whole.weights().expect("reads"), &parts.weights().expect("reads"));
    println!(
        "{name}: {} and {} dispatches, {one:?} and {other:?}, weights {off:e} apart",
        whole.dispatches(),
        parts.dispatches()
    );
    for (a, b) in one.iter().zip(&other) {
        assert!(f64::from((a - b).abs()) < bound * f64::from(*a), "{name}: {one:?} and {other:?}");
    }
    // Adam divides by what may be as small as a rounding.
    assert!(off < 10.0 * bound, "{name}: weights differ by {off:e} of their norm");
    assert_eq!(parts.memory().total(), parts.created_bytes());
}

fn plain(builder: TrainerBuilder) -> TrainerBuilder {
    builder
}

#[test]
fn a_gpt_whose_table_and_logits_exceed_a_binding_trains_as_it_does_whole() {
    for tied in [true, false] {
        let setup = Setup { tied, rows: TEXTS, describe: &plain };
        same(&format!("tied {tied}"), &setup, LIMIT, 2e-6);
        same(&format!("tied {tied}, all in parts"), &setup, TIGHT, 2e-6);
    }
}

#[test]
fn parts_go_together_with_what_else_a_step_has() {
    let clipped = |builder: TrainerBuilder| builder.clip(0.5);
    same("clipped", &Setup { tied: true, rows: TEXTS, describe: &clipped }, LIMIT, 2e-6);
    let added = |builder: TrainerBuilder| builder.clip(0.5).accumulate(2);
    same("accumulated", &Setup { tied: true, rows: TEXTS / 2, describe: &added }, TIGHT, 2e-6);
    let again = |builder: TrainerBuilder| builder.recompute(Recompute::Auto);
    same("computed twice", &Setup { tied: true, rows: TEXTS, describe: &again }, LIMIT, 2e-6);
    for precision in [Precision::F16, Precision::BF16] {
        let half = |builder: TrainerBuilder| builder.precision(precision).clip(0.5);
        // A sum in another order may round to the other neighbour in half precision.
        same(&format!("{precision:?}"), &Setup { tied: true, rows: TEXTS, describe: &half }, LIMIT, 2e-3);
        same(&format!("{precision:?}"), &Setup { tied: true, rows: TEXTS, describe: &half }, TIGHT, 2e-3);
    }
}

#[test]
fn optimizers_that_look_beyond_an_element_update_tables_in_parts() {
    fn with(rule: impl Optimizer + Clone + 'static) -> impl Fn(TrainerBuilder) -> TrainerBuilder {
        move |builder| builder.optimizer(rule.clone())
    }
    let adafactor = with(Adafactor::new());
    same("adafactor", &Setup { tied: true, rows: TEXTS, describe: &adafactor }, LIMIT, 1e-5);
    // A code may be the other neighbour.
    let eight_bits = with(AdamW8bit { min_elements: 1024, ..AdamW8bit::new() });
    same("adamw8bit", &Setup { tied: true, rows: TEXTS, describe: &eight_bits }, LIMIT, 1e-3);
}

#[test]
fn an_mlp_with_a_layer_beyond_a_binding_trains_as_it_does_whole() {
    let trainer = |limit: Option<u64>| {
        let mut parameters = Parameters::new();
        let mlp = Mlp::new(&mut parameters, &[20, 300, 36, 10]);
        let builder = Trainer::builder(parameters).optimizer(AdamW::new()).lr(1e-3).clip(1.0).seed(3);
        let built = builder.build(&device(limit), |graph| classes(&mlp, graph));
        built.unwrap_or_else(|error| panic!("{limit:?}: {error}"))
    };
    let x: Vec<f32> = (0..32 * 20).map(|i| ((i * 37 % 101) as f32) / 50.0 - 1.0).collect();
    let y: Vec<i32> = (0..32).map(|i| i % 10).collect();
    let batch = [("x", HostTensor::f32([32, 20], &x).expect("fits")), ("y", HostTensor::i32([32], &y).expect("fits"))];
    let mut whole = trainer(None);
    let reports: Vec<f32> = (0..5).map(|_| whole.step(&batch).expect("trains").loss).collect();
    for limit in [16 << 10, 3 << 10] {
        let mut parts = trainer(Some(limit));
        for wanted in &reports {
            let loss = parts.step(&batch).expect("trains").loss;
            assert!((loss - wanted).abs() < 2e-6 * wanted, "{limit}: {loss} and {wanted}");
        }
        let off = distance(&whole.weights().expect("reads"), &parts.weights().expect("reads"));
        assert!(parts.dispatches() > whole.dispatches() && off < 2e-5, "{limit}: {off:e}");
    }
}

fn classes<'g>(mlp: &Mlp, graph: &'g Graph) -> Tensor<'g> {
    mlp.forward(graph.input("x", [32, 20], DType::F32)).cross_entropy(graph.input("y", [32], DType::I32))
}

#[test]
fn checkpoints_go_from_whole_tensors_to_parts_and_back() {
    let setup = Setup { tied: true, rows: TEXTS, describe: &plain };
    let same_bits = |a: &Weights, b: &Weights| {
        a.tensors.iter().zip(&b.tensors).all(|(a, b)| (&a.name, &a.bytes) == (&b.name, &b.bytes))
            && a.tensors.len() == b.tensors.len()
    };
    for (from, to) in [(None, Some(TIGHT)), (Some(LIMIT), None), (Some(TIGHT), Some(LIMIT))] {
        let [mut first, mut second] = [from, to].map(|limit| setup.trainer(limit));
        train(&mut first, 3);
        let taken = first.checkpoint().expect("reads back");
        second.resume(&taken).expect("the same tensors");
        assert!(same_bits(&taken, &second.checkpoint().expect("reads back")), "{from:?} to {to:?}");
        let [one, other] = [&mut first, &mut second].map(|trainer| train(trainer, 2));
        for (a, b) in one.iter().zip(&other) {
            assert!((a - b).abs() < 2e-6 * a, "{from:?} to {to:?}: {one:?} and {other:?}");
        }
    }
}

#[test]
fn what_cannot_be_in_parts_is_refused_by_name() {
    let refused = |build: &dyn Fn(&Graph)| {
        let graph = Graph::new();
        build(&graph);
        let profile = Profile { max_binding_bytes: 1024, ..Profile::baseline() };
        match wgrad::lower::lower("p", &graph, &Default::default(), &profile).map_err(Error::into_kind) {
            Err(ErrorKind::Memory(message)) => message,
            other => panic!("should have been refused: {:?}", other.map(|program| program.dispatches())),
        }
    };
    let message = refused(&|graph| graph.output("y", graph.input("x", [400], DType::F32).exp()));
    assert!(message.contains("`y`") || message.contains("`x`"), "{message}");
    assert!(message.contains("1600 bytes") && message.contains("1024") && message.contains("smaller"), "{message}");
    let message = refused(&|graph| {
        let x = graph.input("x", [200], DType::F32).reshape([200, 1]).broadcast_to([200, 2]).reshape([400]);
        graph.output("y", (x * 2.0).cumsum(0).sum(&[0]));
    });
    assert!(message.contains("cumsum") && message.contains("1600 bytes"), "{message}");
}

// ---- GPT-2

fn legal(plan: Plan, profile: &Profile) {
    for program in &plan.programs {
        crate::legality::check(program);
        for dispatch in program.each_dispatch() {
            for binding in &dispatch.bindings {
                assert!(binding.bytes <= 128 << 20, "{}: {} bytes", dispatch.label, binding.bytes);
            }
        }
        assert!(program.buffers.iter().all(|buffer| buffer.bytes <= 256 << 20), "{}", program.name);
    }
    assert!(plan.layout.buffers.iter().all(|buffer| buffer.bytes <= 128 << 20));
    let device = Device::fake(profile).expect("wgpu's noop backend");
    let mut session = Session::new(&device, plan.layout, plan.programs).expect("legal under these limits");
    session.run(&[0, 1]).expect("encodes without a validation error");
}

#[test]
fn gpt2_is_legal_with_the_bindings_of_webgpu_and_trains_within_4_gib() {
    let profile = Profile::baseline();
    let plan = |describe: &dyn Fn(TrainerBuilder) -> TrainerBuilder| {
        let (trainer, loss) = outline(Workload::W5).expect("a workload");
        let plan = describe(trainer).plan(&profile, loss).expect("compiles");
        println!("{:?}, {} dispatches", plan.memory, plan.programs.iter().map(|p| p.dispatches()).sum::<usize>());
        plan
    };
    legal(plan(&plain), &profile);
    let half = plan(&|trainer| trainer.precision(Precision::F16).recompute(Recompute::Auto));
    assert!(half.memory.total() < 4 << 30, "{:?}", half.memory);
    legal(half, &profile);
    let budget = plan(&|trainer| trainer.memory(Budget::Bytes(4 << 30)));
    println!("{}", budget.fitted.expect("a budget was given"));
    assert!(budget.memory.total() <= 4 << 30, "{:?}", budget.memory);
}
