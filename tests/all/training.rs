//! What holds across layers: random masks, parameter groups, clipping, large tensors.

use crate::ops::harness::{compare, decode, words};
use std::collections::HashMap;
use wgrad::dtype::DType;
use wgrad::gpu::Session;
use wgrad::graph::{Graph, Tensor};
use wgrad::io::HostTensor;
use wgrad::lower::lower;
use wgrad::nn::models::{Gpt, GptConfig, Mlp};
use wgrad::nn::{Init, Parameters};
use wgrad::optim::Sgd;
use wgrad::program::StateLayout;
use wgrad::reference::{Array, eval};
use wgrad::train::{Generator, Sampling, Trainer, TrainerBuilder};

/// One run of a graph without states on the device: its outputs as f64.
fn run(graph: &Graph, feeds: &HashMap<String, Array>) -> HashMap<String, Vec<f64>> {
    let device = crate::device();
    let program = lower("test", graph, &StateLayout::default(), device.profile()).expect("compiles");
    let outputs: Vec<_> = program.outputs.iter().map(|io| (io.name.clone(), io.dtype)).collect();
    let inputs: Vec<_> = program.inputs.iter().map(|io| io.name.clone()).collect();
    let mut session = Session::new(&device, StateLayout::default(), vec![program]).expect("allocates");
    for name in inputs {
        session.write_input(0, &name, &words(&feeds[&name])).expect("fits");
    }
    let ticket = session.run(&[0]).expect("runs");
    let results = session.fetch(ticket).expect("comes back");
    outputs
        .into_iter()
        .map(|(name, dtype)| (name.clone(), decode(results.bytes(&name).expect("an output"), dtype)))
        .collect()
}

fn key(seed: u32, first_sample: u32) -> Array {
    Array::new([2], DType::U32, vec![f64::from(seed), f64::from(first_sample)])
}

fn dropout_graph(graph: &Graph, rows: usize) {
    graph.set_training(true);
    let x = graph.input("x", [rows, 24], DType::F32);
    graph.output("first", x.dropout(0.3));
    graph.output("second", x.dropout(0.3) * 2.0);
}

fn ramp(rows: usize, from: usize) -> Array {
    Array::new([rows, 24], DType::F32, (0..rows * 24).map(|i| (from * 24 + i) as f64 + 1.0).collect())
}

#[test]
fn dropout_masks_are_those_of_the_reference_and_differ_between_call_sites() {
    let graph = Graph::new();
    dropout_graph(&graph, 40);
    let feeds = HashMap::from([("x".to_string(), ramp(40, 0)), ("rng.key".to_string(), key(7, 100))]);
    let got = run(&graph, &feeds);
    let values: Vec<_> = graph.outputs().into_iter().map(|(_, value)| value).collect();
    let want = eval(&graph, &values, &feeds, &HashMap::new()).expect("evaluates");
    compare("first", &got["first"], &want[0].data, (1e-6, 0.0)).unwrap_or_else(|error| panic!("{error}"));
    compare("second", &got["second"], &want[1].data, (1e-6, 0.0)).unwrap_or_else(|error| panic!("{error}"));
    let zeros = |name: &str| got[name].iter().map(|&x| x == 0.0).collect::<Vec<bool>>();
    assert_ne!(zeros("first"), zeros("second"), "two call sites share a mask");
    // 960 draws at 0.3: four standard deviations are 57.
    let dropped = zeros("first").into_iter().filter(|&zero| zero).count() as f64;
    assert!((dropped - 288.0).abs() < 57.0, "{dropped} of 960 were dropped");
}

#[test]
fn dropout_masks_do_not_depend_on_how_a_batch_is_split() {
    let whole = Graph::new();
    dropout_graph(&whole, 8);
    let all = run(&whole, &HashMap::from([("x".to_string(), ramp(8, 0)), ("rng.key".to_string(), key(3, 50))]));
    let mut parts = Vec::new();
    for half in 0..2 {
        let graph = Graph::new();
        dropout_graph(&graph, 4);
        let feeds = HashMap::from([
            ("x".to_string(), ramp(4, 4 * half)),
            ("rng.key".to_string(), key(3, 50 + 4 * half as u32)),
        ]);
        parts.extend(run(&graph, &feeds)["first"].clone());
    }
    assert_eq!(all["first"], parts);
}

#[test]
fn evaluation_does_not_drop() {
    let graph = Graph::new();
    let x = graph.input("x", [4, 4], DType::F32);
    assert_eq!(x.dropout(0.5).value(), x.value());
}

#[test]
fn more_elements_than_one_row_of_workgroups() {
    // 17 million elements through scalar code: over 65,535 workgroups of 256.
    let (rows, cols) = (4099, 4201);
    let graph = Graph::new();
    let x = graph.input("x", [rows, cols], DType::F32);
    graph.output("y", (x.t() * 2.0 + 1.0).sum(&[0]));
    graph.output("z", x.t() + 0.5);
    let data: Vec<f64> = (0..rows * cols).map(|i| f64::from((i % 1009) as f32)).collect();
    let got = run(&graph, &HashMap::from([("x".to_string(), Array::new([rows, cols], DType::F32, data.clone()))]));
    for pick in (0..rows * cols).step_by(99_991) {
        let (row, col) = (pick / cols, pick % cols);
        assert_eq!(got["z"][col * rows + row], data[pick] + 0.5, "element {row}, {col}");
    }
    for row in (0..rows).step_by(997) {
        let want: f64 = data[row * cols..(row + 1) * cols].iter().map(|x| 2.0 * x + 1.0).sum();
        assert!((got["y"][row] - want).abs() <= 1e-5 * want, "row {row}: {} against {want}", got["y"][row]);
    }
}

/// A small classifier's batch.
fn batch() -> [(&'static str, HostTensor); 2] {
    let x: Vec<f32> = (0..6 * 5).map(|i| ((i * 37 % 19) as f32 - 9.0) / 9.0).collect();
    let y: Vec<i32> = (0..6).map(|i| i % 3).collect();
    [("x", HostTensor::f32([6, 5], &x).expect("30 values")), ("y", HostTensor::i32([6], &y).expect("6 values"))]
}

fn loss<'g>(model: &Mlp, graph: &'g Graph) -> Tensor<'g> {
    model.forward(graph.input("x", [6, 5], DType::F32)).cross_entropy(graph.input("y", [6], DType::I32))
}

fn weights(trainer: &mut Trainer) -> HashMap<String, Vec<f32>> {
    let weights = trainer.weights().expect("reads back");
    weights.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.to_f32().expect("f32"))).collect()
}

#[test]
fn groups_and_frozen_parameters_are_updated_as_told() {
    let mut parameters = Parameters::new();
    let model = Mlp::new(&mut parameters, &[5, 7, 3]);
    parameters.freeze(|name| name == "layer.0.bias");
    parameters.group_by("slow", |name, _| name.starts_with("layer.1")).lr_scale(0.5);
    let mut trainer = Trainer::builder(parameters)
        .optimizer(Sgd::new())
        .lr(0.1)
        .build(&crate::device(), |g| loss(&model, g))
        .expect("compiles");
    let before = weights(&mut trainer);
    trainer.step(&batch()).expect("trains");
    let after = weights(&mut trainer);
    assert_eq!(before["layer.0.bias"], after["layer.0.bias"], "a frozen parameter moved");

    // The same step with everything trained at one rate moves the slow group twice as far.
    let mut parameters = Parameters::new();
    let model = Mlp::new(&mut parameters, &[5, 7, 3]);
    let mut plain = Trainer::builder(parameters)
        .optimizer(Sgd::new())
        .lr(0.1)
        .build(&crate::device(), |g| loss(&model, g))
        .expect("compiles");
    assert_eq!(weights(&mut plain), before, "first values depend on groups or freezing");
    plain.step(&batch()).expect("trains");
    let full = weights(&mut plain);
    for name in ["layer.1.weight", "layer.1.bias"] {
        for ((before, half), full) in before[name].iter().zip(&after[name]).zip(&full[name]) {
            assert!(((half - before) * 2.0 - (full - before)).abs() < 1e-6, "{name}");
        }
    }
    assert_eq!(full["layer.0.weight"], after["layer.0.weight"]);
}

#[test]
fn trainings_that_cannot_be_meant_are_refused() {
    let builder = || {
        let mut parameters = Parameters::new();
        let model = Mlp::new(&mut parameters, &[5, 7, 3]);
        (Trainer::builder(parameters), model)
    };
    let message = |change: &dyn Fn(TrainerBuilder) -> TrainerBuilder| {
        let (builder, model) = builder();
        change(builder).trace(&move |g: &Graph| loss(&model, g)).err().map(|error| error.to_string())
    };
    for rate in [f64::NAN, f64::INFINITY, -0.1] {
        let said = message(&|builder| builder.lr(rate)).expect("refused");
        assert!(said.contains("learning rate"), "{said}");
    }
    for norm in [f64::NAN, 0.0, -1.0] {
        let said = message(&|builder| builder.clip(norm)).expect("refused");
        assert!(said.contains("positive norm"), "{said}");
    }
    assert_eq!(message(&|builder| builder.lr(0.0).clip(f64::INFINITY)), None);
    for micro_batches in [1, 2] {
        let (builder, model) = builder();
        let builder = builder.accumulate(micro_batches);
        let traced = builder.trace(&move |g: &Graph| loss(&model, g).stop_gradient());
        let said = traced.err().map(|error| error.to_string()).expect("refused");
        assert!(said.contains("the loss depends on no parameter"), "{said}");
    }
}

#[test]
fn the_gradients_are_clipped_by_their_global_norm() {
    let run = |clip: Option<f64>| {
        let mut parameters = Parameters::new();
        let model = Mlp::new(&mut parameters, &[5, 7, 3]);
        let builder = Trainer::builder(parameters).optimizer(Sgd::new()).lr(1.0);
        let builder = match clip {
            Some(norm) => builder.clip(norm),
            None => builder,
        };
        let mut trainer = builder.build(&crate::device(), |g| loss(&model, g)).expect("compiles");
        let before = weights(&mut trainer);
        let norm = trainer.step(&batch()).expect("trains").grad_norm;
        let after = weights(&mut trainer);
        let moved: HashMap<String, Vec<f32>> = before
            .iter()
            .map(|(name, old)| (name.clone(), after[name].iter().zip(old).map(|(a, b)| a - b).collect()))
            .collect();
        (moved, norm)
    };
    let (plain, none) = run(None);
    assert!(none.is_none());
    let squares: f32 = plain.values().flatten().map(|x| x * x).sum();
    let norm = squares.sqrt();
    let (clipped, reported) = run(Some(0.01));
    assert!((reported.expect("reported when clipping") - norm).abs() < 1e-4 * norm);
    let scale = 0.01 / (norm + 1e-6);
    for (name, moved) in &plain {
        for (plain, clipped) in moved.iter().zip(&clipped[name]) {
            assert!((plain * scale - clipped).abs() < 1e-6, "{name}: {clipped} should be {}", plain * scale);
        }
    }
}

#[test]
fn a_checkpoint_goes_on_with_the_same_bits() {
    let build = || {
        let mut parameters = Parameters::new();
        let model = Mlp::new(&mut parameters, &[5, 7, 3]);
        Trainer::builder(parameters)
            .lr(0.01)
            .clip(1.0)
            .build(&crate::device(), move |g| loss(&model, g))
            .expect("compiles")
    };
    let mut straight = build();
    let losses: Vec<u32> = (0..8).map(|_| straight.step(&batch()).expect("trains").loss.to_bits()).collect();
    let mut first = build();
    (0..4).for_each(|_| drop(first.step(&batch()).expect("trains")));
    let checkpoint = first.checkpoint().expect("reads back");
    let mut second = build();
    second.resume(&checkpoint).expect("fits");
    let resumed: Vec<u32> = (0..4).map(|_| second.step(&batch()).expect("trains").loss.to_bits()).collect();
    assert_eq!(losses[4..], resumed[..]);
    assert_eq!(weights(&mut straight), weights(&mut second));
}

#[test]
fn a_checkpoint_that_does_not_fit_changes_nothing() {
    let mut parameters = Parameters::new();
    let model = Mlp::new(&mut parameters, &[5, 7, 3]);
    let mut trainer = Trainer::builder(parameters).build(&crate::device(), move |g| loss(&model, g)).expect("compiles");
    let mut checkpoint = trainer.checkpoint().expect("reads back");
    trainer.step(&batch()).expect("trains");
    let before = weights(&mut trainer);
    let last = checkpoint.tensors.last_mut().expect("has tensors");
    (last.shape, last.bytes) = ([1].into(), vec![0; 4]);
    let message = trainer.resume(&checkpoint).expect_err("does not fit").to_string();
    assert!(message.contains("shape [1]"), "{message}");
    assert_eq!((weights(&mut trainer), trainer.steps_done()), (before, 1));
}

#[test]
fn feeding_something_else_is_refused_by_name() {
    let mut parameters = Parameters::new();
    let model = Mlp::new(&mut parameters, &[5, 7, 3]);
    let mut trainer = Trainer::builder(parameters).build(&crate::device(), |g| loss(&model, g)).expect("compiles");
    let [x, y] = batch();
    let message = |result: wgrad::Result<_>| match result {
        Ok(_) => panic!("should have been refused"),
        Err(error) => wgrad::Error::to_string(&error),
    };
    let step =
        |trainer: &mut Trainer, feed: &[(&str, HostTensor)]| message(trainer.step(feed).map(|report| report.loss));
    assert!(step(&mut trainer, std::slice::from_ref(&x)).contains("`y`"));
    assert!(step(&mut trainer, &[("z", x.1.clone())]).contains("`z`"));
    let wrong = HostTensor::f32([5, 6], &[0.0; 30]).expect("30 values");
    assert!(step(&mut trainer, &[("x", wrong), y]).contains("[6, 5]"));
}

#[test]
fn parameters_of_one_element_are_updated_like_all_others() {
    let mut parameters = Parameters::new();
    let slope = parameters.add("slope", [], Init::Zeros);
    let shift = parameters.add("shift", [1], Init::Zeros);
    let bend = parameters.add("bend", [1, 1], Init::Zeros);
    let mut trainer = Trainer::builder(parameters)
        .optimizer(Sgd::new().momentum(0.9))
        .lr(0.1)
        .clip(10.0)
        .build(&crate::device(), |graph| {
            let (x, y) = (graph.input("x", [32], DType::F32), graph.input("y", [32], DType::F32));
            let bend = bend.tensor(graph).reshape([]);
            let fitted = x * x * bend + x * slope.tensor(graph) + shift.tensor(graph);
            (fitted - y).square().mean_all()
        })
        .expect("compiles");
    let x: Vec<f32> = (0..32).map(|i| i as f32 / 16.0 - 1.0).collect();
    let y: Vec<f32> = x.iter().map(|x| 2.0 * x * x + 3.0 * x - 1.0).collect();
    let batch = [("x", &x), ("y", &y)].map(|(name, values)| (name, HostTensor::f32([32], values).expect("32 values")));
    for _ in 0..300 {
        trainer.step(&batch).expect("trains");
    }
    let found = weights(&mut trainer);
    for (name, want) in [("bend", 2.0), ("slope", 3.0), ("shift", -1.0)] {
        assert!((found[name][0] - want).abs() < 1e-2, "{name} is {}", found[name][0]);
    }
}

#[test]
fn decoding_with_a_cache_agrees_with_the_whole_sequence() {
    const CONFIG: GptConfig =
        GptConfig { vocabulary: 11, context: 6, layers: 2, heads: 2, width: 8, dropout: 0.0, tied: false };
    let mut parameters = Parameters::new();
    let gpt = Gpt::new(&mut parameters, CONFIG);
    // Larger than the usual start, so that attention matters.
    parameters.init_by(|_, shape| (shape.rank() == 2).then_some(Init::Normal(0.5)));
    let device = crate::device();
    let mut trainer = Trainer::builder(parameters)
        .lr(0.0)
        .build(&device, |graph| {
            let input = |name| graph.input(name, [1, CONFIG.context], DType::I32);
            let logits = gpt.forward(input("tokens"));
            graph.output("logits", logits);
            logits.cross_entropy(input("targets"))
        })
        .expect("compiles");
    let tokens = HostTensor::i32([1, 6], &[3, 1, 10, 0, 7, 7]).expect("6 tokens");
    let report = trainer.step(&[("tokens", &tokens), ("targets", &tokens)]).expect("trains");
    let whole: Vec<f64> = report.results.f32("logits").expect("an output").into_iter().map(f64::from).collect();

    let mut generator = Generator::new(&device, CONFIG, &trainer.weights().expect("reads back")).expect("compiles");
    for (place, token) in [3, 1, 10, 0, 7, 7].into_iter().enumerate() {
        let logits = pollster::block_on(generator.next_logits(token)).expect("decodes");
        let logits: Vec<f64> = logits.into_iter().map(f64::from).collect();
        compare("logits", &logits, &whole[place * 11..(place + 1) * 11], (1e-4, 1e-4))
            .unwrap_or_else(|error| panic!("position {place}: {error}"));
    }

    // Beyond the context, and the same again for the same seed.
    let mut texts = Vec::new();
    for _ in 0..2 {
        let mut text = Vec::new();
        generator.generate(&[3, 1], 20, Sampling::default(), |token| text.push(token)).expect("writes");
        texts.push(text);
    }
    assert_eq!((texts[0].len(), &texts[0]), (20, &texts[1]));
    assert!(generator.generate(&[11], 1, Sampling::default(), |_| ()).is_err(), "a token outside the vocabulary");
}

#[test]
fn the_gradient_norm_counts_no_padding() {
    // Gradients that are not zero where everything is zero, in tensors that do not fill whole vectors.
    for (a, b, wanted) in [(3usize, 5usize, 8.0f32), (4, 8, 12.0), (1, 1, 2.0)] {
        let mut parameters = Parameters::new();
        let first = parameters.add("a", [a], wgrad::nn::Init::Zeros);
        let second = parameters.add("b", [b], wgrad::nn::Init::Zeros);
        let mut trainer = Trainer::builder(parameters)
            .clip(1e9)
            .build(&crate::device(), |g| first.tensor(g).exp().sum_all() + second.tensor(g).exp().sum_all())
            .expect("compiles");
        let norm = trainer.step(wgrad::train::SAME_BATCH).expect("trains").grad_norm.expect("clipped");
        assert!((norm - wanted.sqrt()).abs() < 1e-5, "[{a}] and [{b}]: {norm}, should be {}", wanted.sqrt());
    }
}

#[test]
fn a_profiled_step_trains_as_any_other_and_times_every_dispatch() {
    let build = || {
        let mut parameters = Parameters::new();
        let mlp = Mlp::new(&mut parameters, &[6, 8, 4]);
        let trainer = Trainer::builder(parameters).lr(0.1).build(&crate::device(), move |graph: &Graph| {
            let (x, y) = (graph.input("x", [4, 6], DType::F32), graph.input("y", [4], DType::I32));
            mlp.forward(x).cross_entropy(y)
        });
        trainer.expect("compiles")
    };
    let x = HostTensor::f32([4, 6], &(0..24).map(|i| i as f32 / 24.0).collect::<Vec<_>>()).expect("fits");
    let batch = [("x", x), ("y", HostTensor::i32([4], &[0, 1, 2, 3]).expect("fits"))];
    let (mut profiled, mut plain) = (build(), build());
    profiled.step(&batch).expect("trains");
    let profile = profiled.profile(2).expect("is timed");
    (0..4).for_each(|_| drop(plain.step(&batch).expect("trains")));
    assert_eq!(profiled.steps_done(), plain.steps_done());
    let next = |trainer: &mut Trainer| trainer.step(&batch).expect("trains").loss.to_bits();
    assert_eq!(next(&mut profiled), next(&mut plain));
    assert_eq!(profile.dispatches.len(), profiled.dispatches());
    assert!(profile.dispatches.iter().all(|timed| timed.micros.is_finite() && timed.micros >= 0.0));
    assert!(profile.micros() > 0.0 && profile.table(None).contains("layer.1/matmul"));
}
