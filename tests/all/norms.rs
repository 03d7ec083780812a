//! Norms of each parameter and its gradient, against the host's; what they cost, and that training does not notice.

use std::path::Path;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::io::HostTensor;
use wgrad::io::safetensors::Weights;
use wgrad::kernels::Profile;
use wgrad::nn::Parameters;
use wgrad::nn::models::{Gpt, GptConfig};
use wgrad::optim::LossScaling;
use wgrad::train::workloads::{Workload, setup};
use wgrad::train::{ParameterNorms, Trainer, TrainerBuilder};

const SIZE: GptConfig =
    GptConfig { vocabulary: 13, context: 8, layers: 2, heads: 2, width: 12, dropout: 0.0, tied: true };

/// A small GPT, whose tensors are of many lengths, for `rows` texts at once.
fn trainer(rows: usize, describe: impl Fn(TrainerBuilder) -> TrainerBuilder) -> Trainer {
    let mut parameters = Parameters::new();
    let gpt = Gpt::new(&mut parameters, SIZE);
    parameters.group_by("no_decay", |_, shape| shape.rank() < 2).weight_decay(0.0);
    parameters.freeze(|name| name == "wpe.weight");
    let builder = describe(Trainer::builder(parameters).lr(0.01).seed(5));
    builder.build(&crate::device(), |graph| loss(&gpt, graph, rows)).expect("compiles")
}

fn loss<'g>(gpt: &Gpt, graph: &'g Graph, rows: usize) -> Tensor<'g> {
    let input = |name| graph.input(name, [rows, 8], DType::I32);
    gpt.forward(input("tokens")).cross_entropy(input("targets"))
}

fn texts(rows: usize, step: usize) -> Vec<(&'static str, HostTensor)> {
    let tokens: Vec<i32> = (0..rows * 8).map(|i| ((i + step) * 31 % 89 % 13) as i32).collect();
    let targets: Vec<i32> = tokens.iter().map(|token| (token * 5 + 3) % 13).collect();
    let tensor = |values: &[i32]| HostTensor::i32([rows, 8], values).expect("fits");
    vec![("tokens", tensor(&tokens)), ("targets", tensor(&targets))]
}

fn norm(weights: &Weights, name: &str) -> f64 {
    let values = weights.get(name).and_then(|tensor| tensor.to_f32()).unwrap_or_else(|| panic!("no {name}"));
    values.into_iter().map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

fn assert_norms(found: &[ParameterNorms], before: &Weights, gradients: &Weights, factor: f64) {
    let trained = before.tensors.iter().filter(|tensor| tensor.name != "wpe.weight").count();
    assert_eq!(found.len(), trained);
    for ParameterNorms { name, gradient, weight } in found {
        let close = |found: f32, wanted: f64| (f64::from(found) - wanted).abs() <= 2e-6 * wanted.max(1e-3);
        let wanted = norm(before, name);
        assert!(close(*weight, wanted), "{name}: {weight}, not {wanted}");
        let wanted = norm(gradients, &format!("grad/{name}")) * factor;
        assert!(close(*gradient, wanted), "gradient of {name}: {gradient}, not {wanted}");
    }
}

#[test]
fn norms_are_those_of_the_host() {
    let mut plain = trainer(4, |builder| builder.norms(true));
    // Clipped to a millionth: what is reported is what was there before.
    let mut clipped = trainer(4, |builder| builder.norms(true).clip(1e-6));
    // Gradients are in their states times the scale.
    let scaling = LossScaling { init_scale: 1024.0, ..LossScaling::default() };
    let mut scaled = trainer(4, |builder| builder.norms(true).loss_scaling(scaling));
    for step in 0..3 {
        for (trainer, factor) in [(&mut plain, 1.0), (&mut clipped, 1.0), (&mut scaled, 1.0 / 1024.0)] {
            let before = trainer.weights().expect("reads back");
            let report = trainer.step(&texts(4, step)).expect("trains");
            let gradients = trainer.gradients().expect("reads back");
            assert_norms(&report.norms, &before, &gradients, factor);
            let all = report.norms.iter().map(|one| f64::from(one.gradient).powi(2)).sum::<f64>().sqrt();
            let known = report.grad_norm.map_or(all, f64::from);
            assert!((all - known).abs() < 1e-5 * all, "{all} and {known}");
        }
    }
}

#[test]
fn norms_are_those_of_the_whole_batch_and_change_nothing() {
    let mut whole = trainer(4, |builder| builder.norms(true).clip(1.0));
    let mut split = trainer(2, |builder| builder.norms(true).clip(1.0).accumulate(2));
    let mut without = trainer(4, |builder| builder.clip(1.0));
    for step in 0..5 {
        let [a, b] = [&mut whole, &mut split].map(|trainer| trainer.step(&texts(4, step)).expect("trains"));
        for (a, b) in a.norms.iter().zip(&b.norms) {
            let near = |a: f32, b: f32| (a - b).abs() <= 1e-3 * a.abs().max(1e-4);
            assert!(a.name == b.name && near(a.gradient, b.gradient) && near(a.weight, b.weight), "{a:?} and {b:?}");
        }
        let report = without.step(&texts(4, step)).expect("trains");
        assert!(report.norms.is_empty() && report.loss.to_bits() == a.loss.to_bits());
    }
    assert!(whole.weights().expect("reads back") == without.weights().expect("reads back"));
}

#[test]
fn norms_take_a_few_launches_for_all_parameters() {
    let device = crate::device();
    for (workload, groups) in [(Workload::W2, 1), (Workload::W3, 1), (Workload::W4, 2)] {
        let plan = |norms: bool, profile: &Profile| {
            let setup = setup(workload, 0).expect("a workload");
            let plan = setup.trainer.clip(1.0).norms(norms).plan(profile, &setup.loss);
            plan.unwrap_or_else(|error| panic!("{workload}: {error}"))
        };
        let [without, with] = [false, true].map(|norms| plan(norms, device.profile()).programs[1].dispatches());
        println!("{workload}: {without} dispatches of the update, {with} with norms");
        // A run of gradients and one of weights for each group, and the two that end it.
        assert!(with <= without + 2 * groups + 2, "{workload}: {without} and {with} dispatches");
        for (name, profile) in crate::legality::profiles() {
            println!("{workload} for {name}");
            crate::legality::check(&plan(true, &profile).programs[1]);
        }
    }
}

/// The records of a run that asks for norms every third step.
#[cfg(feature = "cli")]
#[test]
fn a_run_records_norms_and_tensorboard_gets_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = dir.path().join("run");
    let more = ["train.steps=7", "train.norms_every=3", "train.tensorboard=true", "train.precision=f16"];
    let config = crate::faults::runs::small(&more);
    let begun = wgrad::train::run::Run::begin(config, &run, &crate::device());
    crate::faults::runs::train(&mut begun.expect("begins"), None);
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    for (line, step) in text.lines().zip(1u64..) {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let scale = value["loss_scale"].as_f64();
        assert!(scale.is_some_and(|scale| scale >= 1.0) && value["skipped_steps"].is_u64(), "{line}");
        let logged = step.is_multiple_of(3) || step == 7;
        for key in ["grad_norms", "weight_norms"] {
            let of = value[key].as_object().and_then(|norms| norms.get("block.0.attn.qkv.weight")?.as_f64());
            assert_eq!(of.is_some_and(|norm| norm > 0.0), logged, "step {step}: {line}");
        }
    }
    let tags = events(&run);
    for tag in ["grad_norm/block.0.attn.qkv.weight", "weight_norm/lnf.weight", "loss_scale", "skipped_steps"] {
        assert!(tags.contains(tag), "no events for {tag}");
    }
}

/// The bytes of the event file as text: tags stand in it as they are.
#[cfg(feature = "cli")]
fn events(run: &Path) -> String {
    let files = std::fs::read_dir(run).expect("reads").filter_map(|entry| Some(entry.ok()?.path()));
    let path = files.into_iter().find(|path| path.display().to_string().contains("tfevents")).expect("events");
    String::from_utf8_lossy(&std::fs::read(path).expect("reads")).into_owned()
}
