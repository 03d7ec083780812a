//! Loops as programs: their size, memory and legality, and what cannot be a loop.

use crate::legality;
use crate::ops::harness::refused;
use std::collections::HashMap;
use wgrad::autodiff::grad;
use wgrad::dtype::DType;
use wgrad::gpu::{Device, Session};
use wgrad::graph::{Graph, Tensor, TensorType};
use wgrad::io::HostTensor;
use wgrad::kernels::{AdapterClass, Profile};
use wgrad::lower::lower;
use wgrad::nn::{CellKind, Gru, Linear, Lstm, Parameters, RecurrentCell, RecurrentConfig, RecurrentOptions, Rnn};
use wgrad::optim::AdamW;
use wgrad::program::{Category, Program, Segment, StateLayout, StateSpec};
use wgrad::random::Stream;
use wgrad::reference::{Array, eval};
use wgrad::tensor::{CtcOptions, ScanOptions, scan};
use wgrad::train::Trainer;

fn f<'g>(graph: &'g Graph, name: &str, shape: &[usize]) -> Tensor<'g> {
    graph.input(name, shape, DType::F32)
}

/// The micro-step of a small recurrent classifier over `time` steps.
fn micro_step(time: usize, profile: &Profile) -> (Program, StateLayout) {
    let mut parameters = Parameters::new();
    let options = RecurrentOptions { bidirectional: true, ..RecurrentOptions::default() };
    let lstm = Lstm::with(&mut parameters, "lstm", 6, 8, RecurrentConfig { layers: 2, options, bias: true });
    let gru = Gru::new(&mut parameters, "gru", 16, 5);
    let head = Linear::new(&mut parameters, "head", 5, 3);
    let graph = Graph::new();
    graph.set_training(true);
    let (y, _) = lstm.forward(f(&graph, "x", &[4, time, 6]), None);
    let (_, last) = gru.forward(y, None);
    let value = head.forward(last.squeeze(0)).cross_entropy(graph.input("y", [4], DType::I32));
    let mut specs = Vec::new();
    let weights: Vec<Tensor<'_>> =
        parameters.trainable().map(|spec| graph.state(&spec.name, &spec.shape, DType::F32)).collect();
    let gradients = grad(value, &weights).expect("differentiable");
    for (spec, gradient) in parameters.trainable().zip(gradients) {
        graph.assign(&format!("grad/{}", spec.name), gradient);
        for (name, category) in
            [(spec.name.to_string(), Category::Weights), (format!("grad/{}", spec.name), Category::Gradients)]
        {
            specs.push(StateSpec { name, ty: TensorType::new(&spec.shape, DType::F32), category, group: "all".into() });
        }
    }
    graph.output("loss", value);
    let layout = StateLayout::build(&specs, 1 << 24).expect("fits");
    (lower("micro", &graph, &layout, profile).unwrap_or_else(|error| panic!("{time} steps: {error}")), layout)
}

/// A program's dispatches, less those that add up the chunks of a weight gradient's sum over many steps.
fn dispatch_lines(program: &Program) -> usize {
    let chunks = |kernel: usize| program.kernels[kernel].name == "matmul_sum_chunks";
    program.each_dispatch().filter(|dispatch| !chunks(dispatch.kernel)).count()
}

#[test]
fn a_program_does_not_grow_with_the_number_of_steps() {
    let profile = Profile::baseline();
    let [(short, _), (long, _)] = [8, 512].map(|time| micro_step(time, &profile));
    assert_eq!(dispatch_lines(&short), dispatch_lines(&long));
    let repeats = |program: &Program| -> Vec<(u32, usize)> {
        let repeat = |segment: &Segment| match segment {
            Segment::Repeat { count, body, .. } => Some((*count, body.len())),
            Segment::Gpu(_) | Segment::Host(_) => None,
        };
        program.segments.iter().filter_map(repeat).collect()
    };
    // Four directions of the LSTM and one of the GRU, forward and backward.
    let (eight, many) = (repeats(&short), repeats(&long));
    assert_eq!(eight.len(), 10);
    assert!(eight.iter().zip(&many).all(|(a, b)| a.0 == 8 && b.0 == 512 && a.1 == b.1));
    // A product and what follows from it; backward what led to it, and its transpose.
    // Only the GRU's gradient, whose gates mix products in both directions, takes more.
    let mut dispatches: Vec<usize> = eight.iter().map(|&(_, dispatches)| dispatches).collect();
    dispatches.sort_unstable();
    assert!(dispatches[..9].iter().all(|&count| count <= 2) && dispatches[9] <= 9, "{eight:?}");
}

#[test]
fn loops_are_legal_under_every_profile() {
    let baseline = Profile::baseline();
    let profiles = [
        baseline.clone(),
        Profile { class: AdapterClass::Cpu, subgroup: Some(8), ..baseline.clone() },
        Profile { class: AdapterClass::Discrete, subgroup: Some(32), ..baseline },
    ];
    for profile in profiles {
        let (program, layout) = micro_step(5, &profile);
        legality::check(&program);
        let device = Device::fake(&Profile { subgroup: None, ..profile.clone() }).expect("wgpu's noop backend");
        if profile.subgroup.is_none() {
            let planned = Session::plan(&layout, std::slice::from_ref(&program));
            let mut session = Session::new(&device, layout, vec![program]).expect("legal under the baseline's limits");
            assert_eq!(session.created_bytes(), planned.total());
            session.run(&[0]).expect("encodes without a validation error");
        }
    }
}

/// Sequences of plus and minus one, and at each place the sign of the sum so far: what a network learns only if
/// it remembers.
fn sums_so_far(batch: usize, time: usize, seed: u32) -> [(&'static str, HostTensor); 2] {
    let draws = Stream::new(u64::from(seed), 0).uniform(batch * time, 0.0, 1.0);
    let signs: Vec<f32> = draws.into_iter().map(|x| if x < 0.5 { -1.0 } else { 1.0 }).collect();
    let mut targets = Vec::new();
    for sequence in signs.chunks(time) {
        let mut sum = 0.0;
        targets.extend(sequence.iter().map(|sign| {
            sum += sign;
            i32::from(sum > 0.0)
        }));
    }
    [
        ("x", HostTensor::f32([batch, time, 1], &signs).expect("the size")),
        ("y", HostTensor::i32([batch, time], &targets).expect("the size")),
    ]
}

#[test]
fn an_lstm_learns_to_count() {
    let (batch, time) = (32, 12);
    let mut parameters = Parameters::new();
    let lstm = Lstm::new(&mut parameters, "lstm", 1, 12);
    let head = Linear::new(&mut parameters, "head", 12, 2);
    let builder = Trainer::builder(parameters).optimizer(AdamW::new()).lr(0.02).clip(1.0).seed(3);
    let mut trainer = builder
        .build(&crate::device(), |graph: &Graph| {
            let (y, _) = lstm.forward(f(graph, "x", &[batch, time, 1]), None);
            head.forward(y).cross_entropy(graph.input("y", [batch, time], DType::I32))
        })
        .expect("compiles");
    let first = trainer.step(&sums_so_far(batch, time, 0)).expect("trains").loss;
    for seed in 1..120 {
        trainer.step(&sums_so_far(batch, time, seed)).expect("trains");
    }
    let unseen = trainer.evaluate(&sums_so_far(batch, time, 1000)).expect("evaluates");
    assert!(first > 0.6 && unseen < 0.15, "loss {first} at first, {unseen} on unseen sequences");
}

#[test]
fn layers_in_a_body_are_trained() {
    let mut parameters = Parameters::new();
    let cell = RecurrentCell::new(&mut parameters, "cell", CellKind::Gru, [3, 4], true);
    let graph = Graph::new();
    let x = f(&graph, "x", &[5, 2, 3]);
    let zero = graph.float(0.0).broadcast_to([2, 4]);
    let (last, _) =
        scan(&graph, &[zero], &[x], &[], ScanOptions::default(), |h, x, _| (cell.forward(x[0], Some(h)), vec![]));
    let wrt: Vec<Tensor<'_>> =
        parameters.specs().iter().map(|spec| graph.state(&spec.name, &spec.shape, DType::F32)).collect();
    let gradients = grad(last[0].square().sum_all(), &wrt).expect("differentiable");
    let values: Vec<_> = gradients.iter().map(|gradient| gradient.value()).collect();
    let states: HashMap<String, Array> = parameters
        .specs()
        .iter()
        .enumerate()
        .map(|(i, spec)| {
            let values = parameters.initial_values(i, 7).expect("has first values");
            (spec.name.to_string(), Array::floats(&spec.shape, &values))
        })
        .collect();
    let feeds = HashMap::from([("x".to_string(), Array::full([5, 2, 3], DType::F32, 0.5))]);
    for (gradient, spec) in eval(&graph, &values, &feeds, &states).expect("evaluates").iter().zip(parameters.specs()) {
        assert!(gradient.data.iter().any(|&x| x != 0.0), "`{}` has no gradient", spec.name);
    }
}

#[test]
fn second_derivatives_go_through_loops() {
    // y = x^(2^3): three squarings; y'' = 56 x^6.
    let graph = Graph::new();
    let x = f(&graph, "x", &[3]);
    let options = ScanOptions { length: Some(3), ..ScanOptions::default() };
    let (last, _) = scan(&graph, &[x], &[], &[], options, |c, _, _| (vec![c[0] * c[0]], vec![]));
    let first = grad(last[0].sum_all(), &[x]).expect("differentiable")[0];
    let second = grad(first.sum_all(), &[x]).expect("twice")[0];
    let feeds = HashMap::from([("x".to_string(), Array::floats([3], &[0.5, 1.0, -1.5]))]);
    let got = &eval(&graph, &[second.value()], &feeds, &HashMap::new()).expect("evaluates")[0].data;
    for (got, x) in got.iter().zip([0.5f64, 1.0, -1.5]) {
        let want = 56.0 * x.powi(6);
        assert!((got - want).abs() < 1e-9 * want.abs(), "{got}, should be {want}");
    }
}

#[test]
fn no_steps_give_the_first_carries() {
    let graph = Graph::new();
    let (c, x) = (f(&graph, "c", &[2]), f(&graph, "x", &[0, 3]));
    let (last, stacked) =
        scan(&graph, &[c], &[x], &[], ScanOptions::default(), |c, x, _| (vec![c[0] * 2.0], vec![x[0].sum_all()]));
    assert_eq!((last[0].value(), &stacked[0].shape()[..]), (c.value(), &[0][..]));
    graph.error().expect("nothing is wrong");
}

/// A scan over `x` `[4, 3]` from `c` `[3]` whose body must be refused.
fn body_refused(words: &[&str], body: impl for<'b> Fn(Tensor<'b>, Tensor<'b>) -> Vec<Tensor<'b>>) {
    refused(words, |g| {
        let (c, x) = (f(g, "c", &[3]), f(g, "x", &[4, 3]));
        scan(g, &[c], &[x], &[], ScanOptions::default(), |c, x, _| (body(c[0], x[0]), vec![]));
    });
}

#[test]
fn bodies_that_are_no_loops_are_refused() {
    body_refused(&["carry 0", "f32[3]", "f32[1, 3]"], |c, _| vec![c.unsqueeze(0)]);
    body_refused(&["carry 0", "f32", "i32"], |c, _| vec![c.cast(DType::I32)]);
    body_refused(&["1 carries", "returns 2"], |c, x| vec![c, x]);
    body_refused(&["add", "[3]", "[2]", "scans.rs"], |c, x| vec![c + x.slice(0, 0, 2)]);
    body_refused(&["random_bits", "outside"], |c, x| {
        let key = c.graph().input("key", [2], DType::U32);
        vec![c.graph().random_bits(key, [3]).ge(c.graph().random_bits(key, [3])).select(c, x)]
    });
    body_refused(&["assigns a state"], |c, x| {
        c.graph().assign("s", x);
        vec![c]
    });
    body_refused(&["loop in a loop"], |c, x| {
        scan(c.graph(), &[c], &[x], &[], ScanOptions::default(), |c, _, _| (vec![c[0] * 2.0], vec![])).0
    });
}

#[test]
fn stacks_that_do_not_fit_are_refused() {
    refused(&["scan", "4 steps", "5"], |g| {
        let (a, b) = (f(g, "a", &[5, 3]), f(g, "b", &[4, 3]));
        scan(g, &[], &[a, b], &[], ScanOptions::default(), |_, x, _| (vec![], vec![x[0]]));
    });
    refused(&["scan", "scalar"], |g| {
        scan(g, &[], &[f(g, "a", &[])], &[], ScanOptions::default(), |_, x, _| (vec![], vec![x[0]]));
    });
    refused(&["scan", "length"], |g| {
        scan(g, &[f(g, "a", &[2])], &[], &[], ScanOptions::default(), |c, _, _| (c.to_vec(), vec![]));
    });
    refused(&["another graph", "constants"], |g| {
        let other = Graph::new();
        let _ = f(g, "a", &[2]) * f(&other, "b", &[2]);
    });
}

#[test]
fn recurrent_layers_refuse_what_does_not_fit() {
    let mut parameters = Parameters::new();
    let lstm = Lstm::new(&mut parameters, "lstm", 3, 4);
    let rnn = Rnn::new(&mut parameters, "rnn", 3, 4);
    refused(&["lstm", "[5, 4 * hidden]", "[3, 16]"], |g| {
        lstm.forward(f(g, "x", &[2, 6, 5]), None);
    });
    refused(&["rnn", "three axes"], |g| {
        rnn.forward(f(g, "x", &[2, 3]), None);
    });
    refused(&["rnn", "no steps"], |g| {
        rnn.forward(f(g, "x", &[2, 0, 3]), None);
    });
    refused(&["rnn", "[1, 2, 4]", "[1, 3, 4]"], |g| {
        rnn.forward(f(g, "x", &[2, 5, 3]), Some(f(g, "h", &[1, 3, 4])));
    });
    refused(&["ctc_loss", "classes"], |g| {
        let lengths = || g.input("n", [2], DType::I32);
        let targets = g.input("t", [2, 3], DType::I32);
        f(g, "x", &[6, 2, 4]).ctc_loss(targets, lengths(), lengths(), CtcOptions { blank: 4, ..CtcOptions::default() });
    });
}
