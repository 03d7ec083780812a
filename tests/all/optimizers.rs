//! Optimizers and schedules against PyTorch: 100 steps on stored gradients, and rates step by step
//! (`tests/oracle/optimizers.py`).

use serde_json::Value as Json;
use std::collections::HashMap;
use wgrad::dtype::DType;
use wgrad::graph::Graph;
use wgrad::io::HostTensor;
use wgrad::nn::{Init, Parameters};
use wgrad::optim::{
    Adadelta, Adafactor, Adagrad, Adam, AdamW, AdamW8bit, AdjustLr, Lion, Maximize, Muon, Operands, Optimizer, Plateau,
    PlateauMode, RmsProp, Schedule, Sgd, Slot, StepHyper, ThresholdMode,
};
use wgrad::reference::{self, Array};
use wgrad::shape::Shape;
use wgrad::train::Trainer;

fn oracle() -> Json {
    serde_json::from_str(include_str!("../oracle/optimizers.json")).expect("the file is JSON")
}

fn numbers(json: &Json) -> Vec<f64> {
    json.as_array().expect("a list").iter().filter_map(Json::as_f64).collect()
}

/// The rule of a path, by PyTorch's names.
fn rule(path: &Json) -> Box<dyn Optimizer> {
    if flag(path, "maximize") {
        let mut path = path.clone();
        path["options"]["maximize"] = false.into();
        return Box::new(Maximize(rule(&path)));
    }
    let number = |name: &str, default: f64| path["options"][name].as_f64().unwrap_or(default);
    let flag = |name: &str| flag(path, name);
    let pair = |name: &str, default: (f64, f64)| match path["options"].get(name).map(numbers).as_deref() {
        Some([first, second]) => (*first, *second),
        _ => default,
    };
    let weight_decay = number("weight_decay", 0.0);
    let momentum = number("momentum", 0.0);
    let (beta1, beta2) = pair("betas", (0.9, 0.999));
    match path["optimizer"].as_str().expect("a name") {
        "SGD" => {
            Box::new(Sgd { momentum, dampening: number("dampening", 0.0), nesterov: flag("nesterov"), weight_decay })
        }
        "Adam" => Box::new(Adam { beta1, beta2, weight_decay, amsgrad: flag("amsgrad"), ..Adam::new() }),
        "AdamW" => {
            let weight_decay = number("weight_decay", 0.01);
            Box::new(AdamW { beta1, beta2, weight_decay, amsgrad: flag("amsgrad"), ..AdamW::new() })
        }
        "AdamW8bit" => Box::new(AdamW8bit { min_elements: 0, ..AdamW8bit::new() }),
        "RMSprop" => Box::new(RmsProp { momentum, centered: flag("centered"), weight_decay, ..RmsProp::new() }),
        "Adagrad" => Box::new(Adagrad {
            lr_decay: number("lr_decay", 0.0),
            weight_decay,
            initial_accumulator_value: number("initial_accumulator_value", 0.0),
            ..Adagrad::new()
        }),
        "Adadelta" => Box::new(Adadelta { rho: number("rho", 0.9), weight_decay, ..Adadelta::new() }),
        "Adafactor" => {
            let (eps1, eps2) = pair("eps", (0.0, 0.0));
            let (beta2_decay, d) = (number("beta2_decay", -0.8), number("d", 1.0));
            Box::new(Adafactor { beta2_decay, eps1, eps2, d, weight_decay })
        }
        "Muon" => Box::new(Muon {
            momentum: number("momentum", 0.95),
            nesterov: path["options"]["nesterov"].as_bool().unwrap_or(true),
            weight_decay: number("weight_decay", 0.1),
            ns_steps: number("ns_steps", 5.0) as usize,
            adjust_lr: match path["options"]["adjust_lr_fn"].as_str() {
                Some("match_rms_adamw") => AdjustLr::MatchRmsAdamW,
                Some("spectral_unclamped") => AdjustLr::SpectralUnclamped,
                _ => AdjustLr::Original,
            },
            ..Muon::new()
        }),
        "Lion" => {
            let (beta1, beta2) = pair("betas", (0.9, 0.99));
            Box::new(Lion { beta1, beta2, weight_decay })
        }
        other => panic!("no such optimizer: {other}"),
    }
}

fn flag(path: &Json, name: &str) -> bool {
    path["options"][name].as_bool().unwrap_or(false)
}

/// What a path starts from, and its gradients; as in the script.
struct Course {
    shape: Shape,
    start: Vec<f64>,
    gradients: Vec<Vec<f64>>,
}

impl Course {
    fn of(oracle: &Json, path: &Json) -> Course {
        let rounded = |list: Vec<f64>| list.into_iter().map(|x| f64::from(x as f32)).collect::<Vec<f64>>();
        let lists = |name: &str| -> Vec<Vec<f64>> {
            oracle[name].as_array().expect("a list").iter().map(|list| rounded(numbers(list))).collect()
        };
        let sizes: Option<Vec<usize>> =
            path["shape"].as_array().map(|sizes| sizes.iter().filter_map(|n| Some(n.as_u64()? as usize)).collect());
        match sizes.as_deref() {
            None => {
                let start = rounded(numbers(&oracle["start"]));
                Course { shape: [start.len()].into(), start, gradients: lists("gradients") }
            }
            Some(&[size]) => {
                let steps = oracle["gradients"].as_array().expect("a list").len();
                let gradients = (0..steps).map(|step| many(step, size)).collect();
                Course { shape: [size].into(), start: many(steps, size), gradients }
            }
            Some(sizes) => {
                let start = rounded(numbers(&oracle["matrix_start"]));
                Course { shape: sizes.into(), start, gradients: lists("matrix_gradients") }
            }
        }
    }

    /// Those parameters that the script keeps.
    fn kept(all: &[f64]) -> Vec<f64> {
        all.iter().copied().step_by((all.len() / 60).max(1)).collect()
    }
}

/// Gradients for many elements, which need not be stored.
fn many(step: usize, size: usize) -> Vec<f64> {
    let one = |i: usize| {
        let whole = (i * 7919 + step * 104_729 + i * step * 31) % 2003;
        (whole as f64 / 1001.0 - 1.0) * [1.0, 0.03, 0.001][i % 3]
    };
    (0..size).map(one).collect()
}

/// The reference's parameters after each step.
fn by_reference(rule: &dyn Optimizer, lr: f64, course: &Course) -> Vec<Vec<f64>> {
    let graph = Graph::new();
    let parameter = graph.state("w", &course.shape, DType::F32);
    let gradient = graph.input("g", &course.shape, DType::F32);
    let kinds = rule.slots(&course.shape);
    let slots: Vec<_> = kinds.iter().map(|slot| graph.state(slot.name, &slot.shape, slot.dtype)).collect();
    let scalars: Vec<_> = rule.scalars().iter().map(|name| graph.input(name, [], DType::F32)).collect();
    let new = rule.update(Operands { parameter, gradient, slots: &slots, scalars: &scalars });
    graph.assign("w", new.parameter);
    kinds.iter().zip(&new.slots).for_each(|(slot, value)| graph.assign(slot.name, *value));
    let array = |data: &[f64]| Array { data: data.to_vec(), ..Array::full(&course.shape, DType::F32, 0.0) };
    let zeros = |slot: &Slot| (slot.name.to_string(), Array::full(&slot.shape, slot.dtype, 0.0));
    let mut states: HashMap<String, Array> = kinds.iter().map(zeros).collect();
    states.insert("w".into(), array(&course.start));
    let mut after = Vec::new();
    for (step, gradient) in course.gradients.iter().enumerate() {
        let values = rule.scalar_values(StepHyper { step: step as u64 + 1, lr, weight_decay: None });
        let mut inputs: HashMap<String, Array> = HashMap::from([("g".to_string(), array(gradient))]);
        inputs.extend(
            rule.scalars().iter().zip(values).map(|(name, value)| {
                (name.to_string(), Array { data: vec![value], ..Array::full([], DType::F32, 0.0) })
            }),
        );
        states.extend(reference::run(&graph, &inputs, &states).expect("runs").states);
        after.push(states["w"].data.clone());
    }
    after
}

/// `|a - b|` beside the size of `b`, which may cross 0 on its way.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(0.1)).fold(0.0, f64::max)
}

#[test]
fn optimizers_agree_with_pytorch() {
    let oracle = oracle();
    let kept: Vec<usize> = numbers(&oracle["kept"]).into_iter().map(|step| step as usize).collect();
    for path in oracle["paths"].as_array().expect("a list") {
        let course = Course::of(&oracle, path);
        let after = by_reference(&*rule(path), path["lr"].as_f64().expect("a rate"), &course);
        for (step, want) in kept.iter().zip(path["parameters"].as_array().expect("a list")) {
            let off = distance(&Course::kept(&after[step - 1]), &numbers(want));
            assert!(off <= 2e-6, "{} {} after {step} steps: off by {off:e}", path["optimizer"], path["options"]);
        }
    }
}

#[test]
fn optimizers_on_the_device_agree_with_pytorch() {
    let oracle = oracle();
    let device = crate::device();
    for path in oracle["paths"].as_array().expect("a list") {
        let course = Course::of(&oracle, path);
        let start: Vec<f32> = course.start.iter().map(|&x| x as f32).collect();
        let mut parameters = Parameters::new();
        let w = parameters.add("w", &course.shape, Init::Values(start.into()));
        let lr = path["lr"].as_f64().expect("a rate");
        // A loss whose gradient is what is fed.
        let builder = Trainer::builder(parameters).optimizer(rule(path)).lr(lr);
        let mut trainer = builder
            .build(&device, |graph: &Graph| (w.tensor(graph) * graph.input("g", &course.shape, DType::F32)).sum_all())
            .expect("compiles");
        for gradient in &course.gradients {
            let gradient: Vec<f32> = gradient.iter().map(|&x| x as f32).collect();
            trainer.step(&[("g", HostTensor::f32(&course.shape, &gradient).expect("a gradient"))]).expect("a step");
        }
        let weights = trainer.weights().expect("reads back");
        let found: Vec<f64> =
            weights.get("w").and_then(|w| w.to_f32()).expect("w").into_iter().map(f64::from).collect();
        let want = numbers(path["parameters"].as_array().and_then(|all| all.last()).expect("the last"));
        let off = distance(&Course::kept(&found), &want);
        // A moment that lies in the middle of two codes may take the other one in f32.
        let allowed = if path["optimizer"] == "AdamW8bit" { 2e-3 } else { 1e-5 };
        assert!(off <= allowed, "{} {}: off by {off:e}", path["optimizer"], path["options"]);
    }
}

#[test]
fn schedules_are_pytorchs() {
    let lr = 0.3;
    for entry in oracle()["schedules"].as_array().expect("a list") {
        let schedule = match entry["schedule"].as_str().expect("a name") {
            "one_cycle" => Schedule::one_cycle(lr, 40),
            "cosine" => Schedule::Cosine { lr, min_lr: 0.03, warmup: 0, steps: 40 },
            "linear" => Schedule::Linear { lr, end_lr: 0.03, warmup: 0, steps: 40 },
            "polynomial" => Schedule::Polynomial { lr, power: 1.5, warmup: 0, steps: 30 },
            "restarts" => Schedule::CosineRestarts { lr, min_lr: 0.01, warmup: 0, period: 5, factor: 2 },
            "equal_restarts" => Schedule::CosineRestarts { lr, min_lr: 0.0, warmup: 0, period: 7, factor: 1 },
            "step" => Schedule::Step { lr, gamma: 0.5, size: 6 },
            "exponential" => Schedule::Step { lr, gamma: 0.9, size: 1 },
            "stable" => Schedule::WarmupStableDecay { lr, min_lr: 0.03, warmup: 5, decay: 9, steps: 40 },
            "warm_constant" => Schedule::Constant { lr, warmup: 5 },
            "warm_cosine" => Schedule::Cosine { lr, min_lr: 0.03, warmup: 5, steps: 40 },
            "warm_linear" => Schedule::Linear { lr, end_lr: 0.03, warmup: 5, steps: 40 },
            "warm_polynomial" => Schedule::Polynomial { lr, power: 1.5, warmup: 5, steps: 30 },
            "warm_restarts" => Schedule::CosineRestarts { lr, min_lr: 0.01, warmup: 5, period: 5, factor: 2 },
            other => panic!("no such schedule: {other}"),
        };
        for (step, want) in numbers(&entry["rates"]).into_iter().enumerate() {
            let rate = schedule.lr(step as u64);
            assert!((rate - want).abs() <= 1e-12, "{} in update {step}: {rate}, not {want}", entry["schedule"]);
        }
    }
}

/// The options of an entry, as PyTorch names them.
fn plateau(options: &Json) -> Plateau {
    let mut plateau = Plateau::default();
    for (name, value) in options.as_object().expect("options") {
        let (number, count) = (|| value.as_f64().expect("a number"), || value.as_u64().expect("a count"));
        match (name.as_str(), value.as_str()) {
            ("mode", Some("max")) => plateau.mode = PlateauMode::Max,
            ("threshold_mode", Some("abs")) => plateau.threshold_mode = ThresholdMode::Absolute,
            ("factor", _) => plateau.factor = number(),
            ("threshold", _) => plateau.threshold = number(),
            ("min_lr", _) => plateau.min_lr = number(),
            ("eps", _) => plateau.eps = number(),
            ("patience", _) => plateau.patience = count(),
            ("cooldown", _) => plateau.cooldown = count(),
            other => panic!("no such option: {other:?}"),
        }
    }
    plateau
}

#[test]
fn plateaus_lower_the_rate_as_pytorch_does_also_across_a_checkpoint() {
    let oracle = oracle();
    let metrics = numbers(&oracle["metrics"]);
    for entry in oracle["plateaus"].as_array().expect("a list") {
        let options = plateau(&entry["options"]);
        let make = || {
            let mut parameters = Parameters::new();
            let w = parameters.add("w", [1], Init::Ones);
            let builder = Trainer::builder(parameters).optimizer(Sgd::new()).lr(0.3).plateau(options);
            builder.build(&crate::device(), |graph: &Graph| w.tensor(graph).square().sum_all()).expect("compiles")
        };
        let (mut trainer, mut lowered, mut rate) = (make(), 0, 0.3);
        for (step, (&metric, &then)) in metrics.iter().zip(&numbers(&entry["rates"])).enumerate() {
            let report = trainer.step(wgrad::train::SAME_BATCH).expect("trains");
            assert!((report.lr - rate).abs() <= 1e-15, "{options:?}, step {step}: {}, not {rate}", report.lr);
            assert_eq!(trainer.observe(metric).expect("is wanted"), then < rate, "{options:?}, step {step}");
            lowered += u32::from(then < rate);
            rate = then;
            if step % 7 == 3 {
                let checkpoint = trainer.checkpoint().expect("reads back");
                trainer = make();
                trainer.resume(&checkpoint).expect("fits");
            }
        }
        assert!(lowered >= 2, "{options:?}: lowered {lowered} times");
    }
}

/// Trains a matrix and a vector whose gradients are fed.
fn matrix_and_vector(describe: impl Fn(wgrad::train::TrainerBuilder) -> wgrad::train::TrainerBuilder) -> Vec<Vec<f32>> {
    let start = |size: usize| Init::Values(many(50, size).into_iter().map(|x| x as f32).collect::<Vec<_>>().into());
    let mut parameters = Parameters::new();
    let matrix = parameters.add("matrix", [6, 4], start(24));
    let vector = parameters.add("vector", [5], start(5));
    parameters.group_by("vectors", |_, shape| shape.rank() < 2).weight_decay(0.0).lr_scale(2.0);
    let builder = describe(Trainer::builder(parameters).lr(0.01));
    let built = builder.build(&crate::device(), |graph: &Graph| {
        let fed = |name: &str, shape: &[usize]| graph.input(name, shape, DType::F32);
        (matrix.tensor(graph) * fed("a", &[6, 4])).sum_all() + (vector.tensor(graph) * fed("b", &[5])).sum_all()
    });
    let mut trainer = built.expect("compiles");
    for step in 0..10 {
        let feed = |name: &'static str, shape: &[usize]| {
            let values: Vec<f32> = many(step, shape.iter().product()).into_iter().map(|x| x as f32).collect();
            (name, HostTensor::f32(shape, &values).expect("fits"))
        };
        trainer.step(&[feed("a", &[6, 4]), feed("b", &[5])]).expect("trains");
    }
    trainer.weights().expect("reads back").tensors.iter().map(|tensor| tensor.to_f32().expect("f32")).collect()
}

#[test]
fn several_rules_in_one_step_are_each_the_rule_alone() {
    let both = matrix_and_vector(|builder| builder.optimizer(Muon::new()).optimizer_of("vectors", AdamW::new()));
    let other = matrix_and_vector(|builder| builder.optimizer(Lion::new()).optimizer_of("vectors", AdamW::new()));
    let alone = matrix_and_vector(|builder| builder.optimizer(AdamW::new()));
    // Not a bit of either depends on what rule the other has.
    assert_eq!(both[1], alone[1]);
    assert!(both[1] == other[1] && both[0] != other[0] && both[0] != alone[0]);
    // Muon alone refuses vectors, and a rule for nobody is a mistake.
    let refused = |describe: fn(wgrad::train::TrainerBuilder) -> wgrad::train::TrainerBuilder| {
        let mut parameters = Parameters::new();
        let w = parameters.add("w", [4], Init::Ones);
        let traced = describe(Trainer::builder(parameters)).trace(&move |graph: &Graph| w.tensor(graph).sum_all());
        traced.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let message = refused(|builder| builder.optimizer(Muon::new()));
    assert!(message.contains("cannot update `w` [4]") && message.contains("group_by"), "{message}");
    let message = refused(|builder| builder.optimizer_of("matrices", Muon::new()));
    assert!(message.contains("in which no parameter is trained; the groups are `default`"), "{message}");
}

#[test]
fn a_group_has_its_own_decay_and_rate() {
    // Without gradients only the decay moves: `w (1 - lr decay)` each step, nothing where it is off.
    let mut parameters = Parameters::new();
    let weight = parameters.add("weight", [2, 2], Init::Ones);
    let gain = parameters.add("gain", [2], Init::Ones);
    parameters.group_by("no_decay", |_, shape| shape.rank() < 2).weight_decay(0.0);
    parameters.group_by("slow", |name, _| name == "weight").lr_scale(0.5);
    let builder = Trainer::builder(parameters).optimizer(AdamW::new().weight_decay(0.1)).lr(0.2);
    let built = builder.build(&crate::device(), |graph: &Graph| {
        let zero = graph.input("zero", [1], DType::F32).reshape([]);
        (weight.tensor(graph).sum_all() + gain.tensor(graph).sum_all()) * zero
    });
    let mut trainer = built.expect("compiles");
    let zero = [("zero", HostTensor::f32([1], &[0.0]).expect("fits"))];
    (0..5).for_each(|_| drop(trainer.step(&zero).expect("trains")));
    let weights = trainer.weights().expect("reads back");
    let of = |name: &str| weights.get(name).and_then(|tensor| tensor.to_f32()).expect("is there");
    assert_eq!(of("gain"), [1.0, 1.0]);
    let wanted = (1.0 - 0.2 * 0.5 * 0.1f64).powi(5);
    assert!(of("weight").iter().all(|w| (f64::from(*w) - wanted).abs() < 1e-6), "{:?}", of("weight"));
}
