//! Optimizers and schedules against PyTorch: 100 steps on stored gradients, and rates step by step
//! (`tests/oracle/optimizers.py`).

use serde_json::Value as Json;
use std::collections::HashMap;
use wgrad::dtype::DType;
use wgrad::graph::Graph;
use wgrad::io::HostTensor;
use wgrad::nn::{Init, Parameters};
use wgrad::optim::{Adadelta, Adagrad, Adam, AdamW, Lion, Operands, Optimizer, RmsProp, Schedule, Sgd, StepHyper};
use wgrad::reference::{self, Array};
use wgrad::train::Trainer;

fn oracle() -> Json {
    serde_json::from_str(include_str!("../oracle/optimizers.json")).expect("the file is JSON")
}

fn numbers(json: &Json) -> Vec<f64> {
    json.as_array().expect("a list").iter().filter_map(Json::as_f64).collect()
}

/// The rule of a path, by PyTorch's names.
fn rule(path: &Json) -> Box<dyn Optimizer> {
    let number = |name: &str, default: f64| path["options"][name].as_f64().unwrap_or(default);
    let flag = |name: &str| path["options"][name].as_bool().unwrap_or(false);
    let betas = |first: f64, second: f64| match numbers(path["options"].get("betas").unwrap_or(&Json::Array(vec![])))[..]
    {
        [beta1, beta2] => (beta1, beta2),
        _ => (first, second),
    };
    let weight_decay = number("weight_decay", 0.0);
    match path["optimizer"].as_str().expect("a name") {
        "SGD" => Box::new(Sgd { momentum: number("momentum", 0.0), nesterov: flag("nesterov"), weight_decay }),
        "Adam" => {
            let (beta1, beta2) = betas(0.9, 0.999);
            Box::new(Adam { beta1, beta2, weight_decay, amsgrad: flag("amsgrad"), ..Adam::new() })
        }
        "AdamW" => {
            let (beta1, beta2) = betas(0.9, 0.999);
            Box::new(AdamW::new().betas(beta1, beta2).weight_decay(number("weight_decay", 0.01)))
        }
        "RMSprop" => Box::new(RmsProp {
            momentum: number("momentum", 0.0),
            centered: flag("centered"),
            weight_decay,
            ..RmsProp::new()
        }),
        "Adagrad" => Box::new(Adagrad {
            lr_decay: number("lr_decay", 0.0),
            weight_decay,
            initial_accumulator_value: number("initial_accumulator_value", 0.0),
            ..Adagrad::new()
        }),
        "Adadelta" => Box::new(Adadelta { rho: number("rho", 0.9), weight_decay, ..Adadelta::new() }),
        "Lion" => {
            let (beta1, beta2) = betas(0.9, 0.99);
            Box::new(Lion { beta1, beta2, weight_decay })
        }
        other => panic!("no such optimizer: {other}"),
    }
}

/// The reference's parameters after each step.
fn by_reference(rule: &dyn Optimizer, lr: f64, start: &[f64], gradients: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let size = start.len();
    let graph = Graph::new();
    let parameter = graph.state("w", [size], DType::F32);
    let gradient = graph.input("g", [size], DType::F32);
    let slots: Vec<_> = rule.slots().iter().map(|slot| graph.state(slot, [size], DType::F32)).collect();
    let scalars: Vec<_> = rule.scalars().iter().map(|name| graph.input(name, [], DType::F32)).collect();
    let new = rule.update(Operands { parameter, gradient, slots: &slots, scalars: &scalars });
    graph.assign("w", new.parameter);
    rule.slots().iter().zip(&new.slots).for_each(|(slot, value)| graph.assign(slot, *value));
    let array = |data: &[f64]| Array { data: data.to_vec(), ..Array::full([size], DType::F32, 0.0) };
    let mut states: HashMap<String, Array> =
        rule.slots().iter().map(|slot| (slot.to_string(), array(&vec![0.0; size]))).collect();
    states.insert("w".into(), array(start));
    let mut after = Vec::new();
    for (step, gradient) in gradients.iter().enumerate() {
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
    let start = numbers(&oracle["start"]);
    let gradients: Vec<Vec<f64>> = oracle["gradients"].as_array().expect("a list").iter().map(numbers).collect();
    let kept: Vec<usize> = numbers(&oracle["kept"]).into_iter().map(|step| step as usize).collect();
    for path in oracle["paths"].as_array().expect("a list") {
        let after = by_reference(&*rule(path), path["lr"].as_f64().expect("a rate"), &start, &gradients);
        for (step, want) in kept.iter().zip(path["parameters"].as_array().expect("a list")) {
            let off = distance(&after[step - 1], &numbers(want));
            assert!(off <= 2e-6, "{} {} after {step} steps: off by {off:e}", path["optimizer"], path["options"]);
        }
    }
}

#[test]
fn optimizers_on_the_device_agree_with_pytorch() {
    let oracle = oracle();
    let device = crate::device();
    let floats = |json: &Json| numbers(json).into_iter().map(|x| x as f32).collect::<Vec<f32>>();
    let start = floats(&oracle["start"]);
    let gradients: Vec<Vec<f32>> = oracle["gradients"].as_array().expect("a list").iter().map(floats).collect();
    let size = start.len();
    for path in oracle["paths"].as_array().expect("a list") {
        let mut parameters = Parameters::new();
        let w = parameters.add("w", [size], Init::Values(start.clone().into()));
        let lr = path["lr"].as_f64().expect("a rate");
        // A loss whose gradient is what is fed.
        let builder = Trainer::builder(parameters).optimizer(rule(path)).lr(lr);
        let mut trainer = builder
            .build(&device, |graph: &Graph| (w.tensor(graph) * graph.input("g", [size], DType::F32)).sum_all())
            .expect("compiles");
        for gradient in &gradients {
            trainer.step(&[("g", HostTensor::f32([size], gradient).expect("a gradient"))]).expect("a step");
        }
        let weights = trainer.weights().expect("reads back");
        let found: Vec<f64> =
            weights.get("w").and_then(|w| w.to_f32()).expect("w").into_iter().map(f64::from).collect();
        let want = numbers(path["parameters"].as_array().and_then(|all| all.last()).expect("the last"));
        let off = distance(&found, &want);
        assert!(off <= 1e-5, "{} {}: off by {off:e}", path["optimizer"], path["options"]);
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
            "polynomial" => Schedule::Polynomial { lr, power: 1.5, steps: 30 },
            "restarts" => Schedule::CosineRestarts { lr, min_lr: 0.01, period: 5, factor: 2 },
            "equal_restarts" => Schedule::CosineRestarts { lr, min_lr: 0.0, period: 7, factor: 1 },
            "step" => Schedule::Step { lr, gamma: 0.5, size: 6 },
            "exponential" => Schedule::Step { lr, gamma: 0.9, size: 1 },
            "stable" => Schedule::WarmupStableDecay { lr, min_lr: 0.03, warmup: 5, decay: 9, steps: 40 },
            other => panic!("no such schedule: {other}"),
        };
        for (step, want) in numbers(&entry["rates"]).into_iter().enumerate() {
            let rate = schedule.lr(step as u64);
            assert!((rate - want).abs() <= 1e-12, "{} in update {step}: {rate}, not {want}", entry["schedule"]);
        }
    }
}
