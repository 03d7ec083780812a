//! What a plan says about memory: how near it comes to what no plan can undercut, and that it is legal.

use std::collections::BTreeMap;
use wgrad::dtype::DType::{BF16, F32, I32};
use wgrad::gpu::{Device, Session};
use wgrad::graph::{Graph, Tensor};
use wgrad::kernels::Profile;
use wgrad::lower::{Recompute, lower, unpacked};
use wgrad::nn::Parameters;
use wgrad::nn::models::*;
use wgrad::optim::AdamW;
use wgrad::program::{Program, Role};
use wgrad::train::workloads::{Workload, integers, outline, setup, uniform};
use wgrad::train::{Budget, Precision, Trainer, TrainerBuilder};

type Loss = Box<dyn for<'g> Fn(&'g Graph) -> Tensor<'g>>;

/// The largest sum of bytes of values that are alive at the same dispatch, of a program whose transient buffers hold one
/// value each: no plan needs less. A value in a loop counts while it is touched, which is no more than it lives.
fn most_alive(program: &Program) -> u64 {
    let mut touched: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut end = 0;
    for (at, dispatch) in program.each_dispatch().enumerate() {
        for binding in &dispatch.bindings {
            touched.entry(binding.buffer).and_modify(|life| life.1 = at).or_insert((at, at));
        }
        end = at;
    }
    for output in &program.outputs {
        touched.entry(output.buffer).and_modify(|life| life.1 = end);
    }
    let lives = touched.iter().filter(|(buffer, _)| program.buffers[**buffer].role == Role::Transient);
    let lives: Vec<(u64, usize, usize)> =
        lives.map(|(&buffer, &(first, last))| (program.buffers[buffer].bytes, first, last)).collect();
    let alive = |at: usize| lives.iter().filter(|life| life.1 <= at && at <= life.2).map(|life| life.0).sum();
    (0..=end).map(alive).max().unwrap_or(0)
}

/// A device that grants large bindings, so that large models are planned whole.
fn roomy() -> Profile {
    Profile { max_binding_bytes: (2 << 30) - 4, max_buffer_bytes: 4 << 30, ..Profile::baseline() }
}

/// Bytes of transient memory as planned, and the most that lives at once.
fn planned(trainer: &TrainerBuilder, loss: &Loss, profile: &Profile) -> (u64, u64) {
    let plan = trainer.plan(profile, loss).expect("compiles");
    let graphs = trainer.trace(loss).expect("traces");
    let alive = |graph: &Graph| most_alive(&unpacked("program", graph, &plan.layout, profile).expect("compiles"));
    (plan.memory.transient, graphs.iter().map(alive).max().unwrap_or(0))
}

fn check(name: &str, trainer: &TrainerBuilder, loss: &Loss) {
    let (bytes, bound) = planned(trainer, loss, &roomy());
    println!("{name}: {bytes} bytes of transient memory, at least {bound} ({:.3})", bytes as f64 / bound as f64);
    assert!(bytes >= bound, "{name}: {bytes} bytes cannot hold {bound}");
    assert!(bytes * 10 <= bound * 11, "{name}: {bytes} bytes where {bound} live at once");
}

#[test]
fn plans_of_the_workloads_are_near_what_lives_at_once() {
    for workload in [Workload::W2, Workload::W3, Workload::W4, Workload::W5] {
        let (trainer, loss) = outline(workload).expect("a workload");
        check(&workload.to_string(), &trainer, &loss);
        let (trainer, loss) = outline(workload).expect("a workload");
        check(&format!("{workload} in f16"), &trainer.precision(Precision::F16), &loss);
    }
}

fn classify(shape: [usize; 4], model: impl for<'g> Fn(Tensor<'g>) -> Tensor<'g> + 'static) -> Loss {
    Box::new(move |graph| model(graph.input("x", shape, F32)).cross_entropy(graph.input("y", [shape[0]], I32)))
}

fn predict(samples: usize, time: usize, model: impl for<'g> Fn(Tensor<'g>) -> Tensor<'g> + 'static) -> Loss {
    Box::new(move |graph| {
        let input = |name| graph.input(name, [samples, time], I32);
        model(input("tokens")).cross_entropy(input("targets"))
    })
}

fn trainer(parameters: Parameters) -> TrainerBuilder {
    Trainer::builder(parameters).optimizer(AdamW::new()).clip(1.0)
}

#[test]
fn plans_of_language_models_are_near_what_lives_at_once() {
    let mut parameters = Parameters::new();
    let model = BertPretraining::new(&mut parameters, BertConfig { layers: 3, ..BertConfig::base() });
    let loss: Loss = Box::new(move |graph| {
        let input = |name| graph.input(name, [8, 128], I32);
        let (types, mask) = (Some(input("types")), Some(input("mask").ne(0)));
        let (words, follows) = model.forward(BertInput { tokens: input("tokens"), types, mask });
        words.cross_entropy_ignoring(input("targets"), -100) + follows.cross_entropy(graph.input("next", [8], I32))
    });
    check("bert", &trainer(parameters), &loss);
    let mut parameters = Parameters::new();
    let config = LlamaConfig {
        vocabulary: 4000,
        layers: 4,
        heads: 8,
        key_heads: 4,
        width: 256,
        hidden: 688,
        ..LlamaConfig::llama2_7b()
    };
    let model = Llama::new(&mut parameters, config);
    check("llama", &trainer(parameters), &predict(4, 256, move |tokens| model.forward(tokens)));
    let mut parameters = Parameters::new();
    let config = LstmLmConfig { vocabulary: 1000, width: 128, hidden: 256, layers: 2, dropout: 0.2 };
    let model = LstmLm::new(&mut parameters, config);
    check("lstm_lm", &trainer(parameters), &predict(16, 64, move |tokens| model.forward(tokens, None).0));
    let mut parameters = Parameters::new();
    let model = Gpt::new(
        &mut parameters,
        GptConfig { vocabulary: 1000, context: 128, layers: 3, heads: 4, width: 128, dropout: 0.1, tied: true },
    );
    check("gpt", &trainer(parameters), &predict(8, 128, move |tokens| model.forward(tokens)));
}

#[test]
fn plans_of_vision_models_are_near_what_lives_at_once() {
    let mut parameters = Parameters::new();
    let config = VitConfig {
        image: 64,
        patch: 8,
        channels: 3,
        classes: 10,
        layers: 4,
        heads: 4,
        width: 192,
        hidden: 768,
        dropout: 0.1,
    };
    let model = Vit::new(&mut parameters, config);
    check("vit", &trainer(parameters), &classify([16, 3, 64, 64], move |x| model.forward(x)));
    for (bottleneck, small_images) in [(false, true), (true, false)] {
        let mut parameters = Parameters::new();
        let config =
            ResnetConfig { blocks: [2, 2, 2, 2], bottleneck, width: 16, channels: 3, classes: 10, small_images };
        let model = Resnet::new(&mut parameters, config);
        check("resnet", &trainer(parameters), &classify([8, 3, 64, 64], move |x| model.forward(x)));
    }
    let mut parameters = Parameters::new();
    let config =
        MobilenetConfig { width: 0.5, channels: 3, classes: 10, features: 256, small_images: true, dropout: 0.2 };
    let model = MobilenetV2::new(&mut parameters, config);
    check("mobilenet", &trainer(parameters), &classify([8, 3, 32, 32], move |x| model.forward(x)));
    let mut parameters = Parameters::new();
    let config = ShufflenetConfig {
        groups: 2,
        stem: 24,
        widths: [48, 96, 192],
        units: [4, 8, 4],
        channels: 3,
        classes: 10,
        small_images: true,
    };
    let model = Shufflenet::new(&mut parameters, config);
    check("shufflenet", &trainer(parameters), &classify([8, 3, 32, 32], move |x| model.forward(x)));
    let mut parameters = Parameters::new();
    let model = Lenet::new(&mut parameters, LenetConfig::digits());
    check("lenet", &trainer(parameters), &classify([64, 1, 28, 28], move |x| model.forward(x)));
    let mut parameters = Parameters::new();
    let model = Unet::new(&mut parameters, UnetConfig { channels: 3, classes: 4, width: 16, depth: 3 });
    let loss: Loss = Box::new(move |graph| {
        let logits = model.forward(graph.input("x", [4, 3, 64, 64], F32));
        logits.permute(&[0, 2, 3, 1]).cross_entropy(graph.input("y", [4, 64, 64], I32))
    });
    check("unet", &trainer(parameters), &loss);
}

// ---- budgets

#[test]
fn a_budget_is_kept_without_changing_a_bit_where_that_is_enough() {
    let profile = Profile::baseline();
    let plan = |budget: Option<u64>| {
        let (trainer, loss) = outline(Workload::W4).expect("a workload");
        match budget {
            Some(bytes) => trainer.memory(Budget::Bytes(bytes)).plan(&profile, loss),
            None => trainer.plan(&profile, loss),
        }
    };
    let whole = plan(None).expect("compiles").memory;
    let easy = plan(Some(whole.total())).expect("fits as it is");
    assert_eq!((easy.memory, easy.recomputed.dispatches), (whole, 0));
    let budget = whole.total() - whole.transient / 2;
    let tight = plan(Some(budget)).expect("fits with activations computed twice");
    let fitted = tight.fitted.expect("a budget was given");
    println!("{fitted}");
    assert!(tight.memory.total() <= budget && tight.recomputed.dispatches > 0);
    assert_eq!((fitted.saved, fitted.before), (F32, whole.total()));
    // What a device grants is a budget too.
    let (trainer, loss) = outline(Workload::W4).expect("a workload");
    let granted = trainer.memory(Budget::Auto).plan(&profile, loss).expect("fits").fitted.expect("a budget was given");
    assert_eq!((granted.budget, granted.extra), (2 * profile.max_buffer_bytes, 0.0));
    let error = plan(Some(10 << 20)).map(|_| ()).expect_err("the states alone need more").to_string();
    assert!(
        error.contains("10485760") && error.contains("largest tensor is `block.") && error.contains("smaller"),
        "{error}"
    );
}

#[test]
fn activations_wait_in_half_where_that_is_cheaper() {
    let deep = || {
        let mut parameters = Parameters::new();
        let model = Mlp::new(&mut parameters, &[256; 12]);
        (trainer(parameters), classify_rows([4096, 256], move |x| model.forward(x)))
    };
    let profile = Profile::baseline();
    let (builder, loss) = deep();
    let whole = builder.plan(&profile, loss).expect("compiles").memory;
    let fit = |part: f64| {
        let (builder, loss) = deep();
        let budget = whole.total() - (whole.transient as f64 * (1.0 - part)) as u64;
        let plan = builder.memory(Budget::Bytes(budget)).plan(&profile, loss).ok()?;
        let fitted = plan.fitted.expect("a budget was given");
        println!("{part}: {fitted}");
        assert!(plan.memory.total() <= budget, "{:?}", plan.memory);
        Some(fitted)
    };
    let exact = fit(0.9).expect("little is computed twice");
    assert!(exact.saved == F32 && exact.extra > 0.0, "{exact:?}");
    let halved = fit(0.6).expect("fits in half");
    assert!(halved.saved == BF16 && halved.extra == 0.0 && halved.to_string().contains("bf16"), "{halved:?}");
    let both = fit(0.5).expect("fits in half, with some computed twice");
    assert!(both.saved == BF16 && both.extra > 0.0, "{both:?}");
    assert_eq!(fit(0.3), None);
}

fn classify_rows(shape: [usize; 2], model: impl for<'g> Fn(Tensor<'g>) -> Tensor<'g> + 'static) -> Loss {
    Box::new(move |graph| model(graph.input("x", shape, F32)).cross_entropy(graph.input("y", [shape[0]], I32)))
}

#[test]
fn gpt2_trains_within_4_gib() {
    let (trainer, loss) = outline(Workload::W5).expect("a workload");
    let trainer = trainer.precision(Precision::F16).recompute(Recompute::Auto);
    let plan = trainer.plan(&roomy(), loss).expect("compiles");
    println!("{:?}, {:?}", plan.memory, plan.recomputed);
    assert!(plan.memory.total() < 4 << 30, "{:?}", plan.memory);
    let (trainer, loss) = outline(Workload::W5).expect("a workload");
    let plan = trainer.memory(Budget::Bytes(4 << 30)).plan(&roomy(), loss).expect("fits");
    println!("{}", plan.fitted.expect("a budget was given"));
    assert!(plan.memory.total() <= 4 << 30 && plan.fitted.is_some_and(|fitted| fitted.saved == F32));
}

// ---- leaks

/// What wgpu counts of a device: buffers and their bytes, allocations, bind groups, pipelines and shaders.
fn counted(device: &Device) -> [isize; 6] {
    let counters = device.wgpu_device().get_internal_counters().hal;
    let (buffers, memory) = (counters.buffers.read(), counters.buffer_memory.read());
    let (groups, pipelines) = (counters.bind_groups.read(), counters.compute_pipelines.read());
    [buffers, memory, counters.memory_allocations.read(), groups, pipelines, counters.shader_modules.read()]
}

/// Ten times, when nothing is under way, wgpu counts what it counted the first time; in between, device memory stays where it is.
fn no_leak(steps: usize) {
    let device = crate::device();
    let setup = setup(Workload::W2, 0).expect("a workload");
    let mut trainer = setup.trainer.clip(1.0).build(&device, setup.loss).expect("compiles");
    let planned = trainer.memory().total();
    let (mut early, mut at_rest) = (None, None);
    for step in 0..steps {
        if step % 2 == 0 {
            trainer.step(&setup.batch).expect("trains");
        } else {
            trainer.evaluate(&setup.batch).expect("evaluates");
        }
        let now = device.allocated();
        if step > 0 && step % (steps / 10) == 0 {
            device.synchronize().expect("waits");
            let now = counted(&device);
            assert!(now[0] > 0 && now[1] as u64 >= planned, "wgpu counts nothing: {now:?}");
            assert_eq!(*at_rest.get_or_insert(now), now, "step {step}");
        }
        if step == steps / 10 {
            early = now;
        } else if step > steps / 10 {
            let (Some(early), Some(now)) = (early, now) else { continue };
            // Staging for uploads comes and goes; planned buffers are there all the time.
            assert!(now.0 <= early.0 + 8 && now.1 <= early.1 + (8 << 20), "step {step}: {now:?}, at first {early:?}");
        }
    }
    assert_eq!(trainer.created_bytes(), planned);
    if let Some((_, bytes)) = device.allocated() {
        println!("{planned} bytes planned, {bytes} allocated");
        assert!(bytes >= planned);
    }
    drop(trainer);
    let left = device.allocated();
    println!("after the trainer: {left:?}");
    assert!(left.is_none_or(|(_, bytes)| bytes < planned), "{left:?} of {planned} bytes");
}

#[test]
fn five_hundred_steps_take_no_more_memory_than_fifty() {
    no_leak(500);
}

#[test]
#[ignore = "minutes: nightly"]
fn ten_thousand_steps_take_no_more_memory_than_a_thousand() {
    no_leak(10_000);
}

// ---- shared memory

/// The loss and all states after one run, as bytes; inputs and weights are made up.
fn after_a_run(program: Program, specs: &[wgrad::program::StateSpec]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let device = crate::device();
    let inputs = program.inputs.clone();
    let mut session = Session::new(&device, crate::models::layout(specs), vec![program]).expect("legal");
    for (stream, spec) in specs.iter().enumerate() {
        let values = uniform(0, stream as u32 + 10, spec.ty.shape.numel(), 0.2);
        session.write_state(&spec.name, bytemuck::cast_slice(&values)).expect("fits");
    }
    for input in &inputs {
        let count = input.shape.numel();
        let words: Vec<u32> = match input.dtype {
            F32 => uniform(0, 1, count, 1.0).into_iter().map(f32::to_bits).collect(),
            _ => integers(0, 2, count).into_iter().map(|h| h % 7).collect(),
        };
        session.write_input(0, &input.name, bytemuck::cast_slice(&words)).expect("fits");
    }
    let ticket = session.run(&[0]).expect("runs");
    let loss = session.fetch(ticket).expect("fetches").f32("loss").expect("a loss");
    let states = specs.iter().map(|spec| session.read_state(&spec.name).expect("reads back")).collect();
    (bytemuck::cast_slice(&loss).to_vec(), states)
}

#[test]
fn values_that_share_memory_do_not_disturb_each_other() {
    use crate::models::{cnn, gpt, layout, mlp};
    let device = crate::device();
    for (name, traced) in [("mlp", mlp(16)), ("cnn", cnn(3)), ("gpt", gpt(2, 16, 32, 2, 4, 20))] {
        let places = layout(&traced.specs);
        let apart = unpacked(name, &traced.graph, &places, device.profile()).expect("compiles");
        let packed = lower(name, &traced.graph, &places, device.profile()).expect("compiles");
        assert!(packed.buffers.len() < apart.buffers.len());
        let (wanted, got) = (after_a_run(apart, &traced.specs), after_a_run(packed, &traced.specs));
        assert!(wanted == got, "{name}: packing changed a result");
    }
}

#[cfg(feature = "cli")]
#[test]
fn a_run_with_a_budget_splits_its_batch_where_nothing_else_is_enough() {
    use wgrad::train::config::Config;
    use wgrad::train::run::Run;
    let directory = tempfile::tempdir().expect("a directory");
    let (budget, device) = (4 << 20, crate::device());
    let mut config = Config::default();
    config.device.memory = Some(Budget::Bytes(budget));
    let run = Run::begin(config.clone(), &directory.path().join("run"), &device).expect("fits");
    let overview = run.overview();
    assert!(overview.memory.total() <= budget, "{:?}", overview.memory);
    assert!(overview.micro_batches > 1 && overview.fitted.is_some_and(|fitted| fitted.saved == F32));
    let written = std::fs::read_to_string(directory.path().join("run/config.toml")).expect("a configuration");
    assert!(written.contains(&format!("accumulate = {}", overview.micro_batches)), "{written}");
    drop(run);
    config.device.memory = Some(Budget::Bytes(1 << 20));
    let refused = Run::begin(config, &directory.path().join("none"), &device).map(|_| ());
    assert!(refused.expect_err("the states need more").to_string().contains("1048576"));
}
