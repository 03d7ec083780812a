//! Running means of the weights: PyTorch's formula, their evaluation, and that training does not notice them.

use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::io::HostTensor;
use wgrad::io::safetensors::Weights;
use wgrad::kernels::Profile;
use wgrad::nn::Parameters;
use wgrad::nn::models::Mlp;
use wgrad::optim::{AdamW, Ema, LossScaling, Sgd};
use wgrad::train::workloads::{Workload, setup};
use wgrad::train::{Precision, Trainer, TrainerBuilder};

const ROWS: usize = 8;

fn batch(step: usize) -> Vec<(&'static str, HostTensor)> {
    let x: Vec<f32> = (0..ROWS * 5).map(|i| (((i + 3 * step) * 7919 % 101) as f32 - 50.0) / 50.0).collect();
    let y: Vec<i32> = x.chunks(5).map(|x| i32::from(x[0] > 0.0) + i32::from(x[1] + x[2] > 0.0)).collect();
    vec![("x", HostTensor::f32([ROWS, 5], &x).expect("fits")), ("y", HostTensor::i32([ROWS], &y).expect("fits"))]
}

/// A perceptron, one layer of which is frozen.
fn trainer(describe: impl Fn(TrainerBuilder) -> TrainerBuilder) -> Trainer {
    let mut parameters = Parameters::new();
    let model = Mlp::new(&mut parameters, &[5, 7, 6, 3]);
    parameters.freeze(|name| name.starts_with("layer.1"));
    parameters.group_by("no_decay", |_, shape| shape.rank() < 2).weight_decay(0.0);
    let builder = describe(Trainer::builder(parameters).lr(0.02).seed(3));
    builder.build(&crate::device(), |graph| loss(&model, graph)).expect("compiles")
}

fn loss<'g>(model: &Mlp, graph: &'g Graph) -> Tensor<'g> {
    let x = graph.input("x", [ROWS, 5], DType::F32);
    model.forward(x).cross_entropy(graph.input("y", [ROWS], DType::I32))
}

fn numbers(weights: &Weights) -> Vec<f64> {
    weights.tensors.iter().flat_map(|tensor| tensor.to_f32().expect("f32")).map(f64::from).collect()
}

/// `AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))` on the weights after each step: the first are copied,
/// then `averaged.lerp_(weights, 1 - decay)`.
fn follows(ema: Ema, decay: impl Fn(f64) -> f64) {
    let mut trainer = trainer(|builder| builder.optimizer(Sgd::new().momentum(0.9)).ema(ema));
    let before = numbers(&trainer.averaged_weights().expect("reads back"));
    assert_eq!(before, numbers(&trainer.weights().expect("reads back")));
    let mut mean: Vec<f64> = Vec::new();
    for step in 0..100 {
        trainer.step(&batch(step)).expect("trains");
        let weights = numbers(&trainer.weights().expect("reads back"));
        match step {
            0 => mean = weights,
            _ => {
                let share = 1.0 - decay(step as f64);
                mean.iter_mut().zip(weights).for_each(|(mean, weight)| *mean += (weight - *mean) * share);
            }
        }
        let found = trainer.averaged_weights().expect("reads back");
        assert_eq!(found.tensors[0].name, trainer.parameters().specs()[0].name.to_string());
        for (found, wanted) in numbers(&found).into_iter().zip(&mean) {
            assert!((found - wanted).abs() <= 2e-6 * wanted.abs().max(0.1), "step {step}: {found}, not {wanted}");
        }
    }
    let off = mean.iter().zip(&before).map(|(mean, before)| (mean - before).abs()).fold(0.0, f64::max);
    assert!(off > 0.1, "the weights hardly moved: {off}");
}

#[test]
fn means_are_those_of_pytorchs_averaged_model() {
    follows(Ema::new(0.95), |_| 0.95);
    follows(Ema::new(0.95).warm_up(), |before| f64::min(0.95, (1.0 + before) / (10.0 + before)));
}

#[test]
fn evaluation_is_that_of_the_means_and_training_does_not_notice() {
    let mut plain = trainer(|builder| builder.clip(1.0));
    let mut averaged = trainer(|builder| builder.clip(1.0).ema(Ema::new(0.9)));
    for step in 0..20 {
        let [a, b] = [&mut plain, &mut averaged].map(|trainer| trainer.step(&batch(step)).expect("trains").loss);
        assert_eq!(a.to_bits(), b.to_bits());
    }
    assert!(plain.weights().expect("reads back") == averaged.weights().expect("reads back"));
    let means = averaged.averaged_weights().expect("reads back");
    assert!(means != averaged.weights().expect("reads back"));
    let found = averaged.evaluate(&batch(50)).expect("evaluates");
    assert_ne!(found.to_bits(), plain.evaluate(&batch(50)).expect("evaluates").to_bits());
    plain.load(&means).expect("fits");
    assert_eq!(found.to_bits(), plain.evaluate(&batch(50)).expect("evaluates").to_bits());
    // Without means the weights themselves are used.
    assert!(plain.averaged_weights().expect("reads back") == plain.weights().expect("reads back"));
}

#[test]
fn means_go_on_with_the_same_bits_and_begin_where_there_are_none() {
    let describe = |builder: TrainerBuilder| builder.ema(Ema::new(0.9).warm_up());
    let mut straight = trainer(describe);
    (0..7).for_each(|step| drop(straight.step(&batch(step)).expect("trains")));
    let checkpoint = straight.checkpoint().expect("reads back");
    let mut resumed = trainer(describe);
    resumed.resume(&checkpoint).expect("fits");
    for trainer in [&mut straight, &mut resumed] {
        (7..15).for_each(|step| drop(trainer.step(&batch(step)).expect("trains")));
    }
    let state = |trainer: &Trainer| trainer.checkpoint().expect("reads back");
    assert!(state(&straight).tensors == state(&resumed).tensors, "other bits");
    // A run that had none goes on with means from then on, and one that has them can do without.
    let mut without = trainer(|builder| builder);
    without.resume(&checkpoint).expect("fits");
    let earlier = without.checkpoint().expect("reads back");
    assert!(!earlier.tensors.iter().any(|tensor| tensor.name.starts_with("ema/")));
    resumed.resume(&earlier).expect("fits");
    assert!(resumed.averaged_weights().expect("reads back") == resumed.weights().expect("reads back"));
    // What is loaded is what is evaluated.
    (0..3).for_each(|step| drop(resumed.step(&batch(step)).expect("trains")));
    let weights = straight.weights().expect("reads back");
    resumed.load(&weights).expect("fits");
    assert!(resumed.averaged_weights().expect("reads back") == weights);
}

#[test]
fn a_step_that_overflows_leaves_the_means_alone() {
    let scaling = LossScaling { init_scale: 1e22, ..LossScaling::default() };
    let mut trainer = trainer(|builder| builder.loss_scaling(scaling).ema(Ema::new(0.5)));
    let mut before = trainer.averaged_weights().expect("reads back");
    let (mut skipped, mut made) = (0, Vec::new());
    for step in 0..60 {
        let report = trainer.step(&batch(step)).expect("trains").scaling.expect("scaled");
        let means = trainer.averaged_weights().expect("reads back");
        if report.skipped {
            skipped += 1;
            assert!(means == before, "step {step}");
            continue;
        }
        before = means.clone();
        let weights = numbers(&trainer.weights().expect("reads back"));
        // The first step that is made is the first of the mean, however many were left out.
        let wanted: Vec<f64> = match made.last() {
            None => weights,
            Some(mean) => weights.iter().zip::<&Vec<f64>>(mean).map(|(w, mean)| mean + (w - mean) * 0.5).collect(),
        };
        for (found, wanted) in numbers(&means).into_iter().zip(&wanted) {
            assert!((found - wanted).abs() <= 2e-6 * wanted.abs().max(0.1), "step {step}: {found}, not {wanted}");
        }
        made.push(wanted);
    }
    assert!(skipped > 0 && made.len() > 5, "{skipped} steps were left out");
}

#[test]
fn means_ride_on_the_optimizers_kernels_everywhere() {
    for workload in [Workload::W2, Workload::W3, Workload::W4] {
        let plans = [None, Some(Ema::new(0.999))].map(|ema| {
            let setup = setup(workload, 0).expect("a workload");
            let builder = match ema {
                Some(ema) => setup.trainer.ema(ema),
                None => setup.trainer,
            };
            builder.plan(&Profile::baseline(), &setup.loss).expect("compiles")
        });
        let [without, with] = plans.each_ref().map(|plan| plan.programs[1].dispatches());
        assert_eq!(without, with, "{workload}: dispatches of the update");
        let [without, with] = plans.map(|plan| plan.memory);
        assert_eq!(with.optimizer - without.optimizer, without.weights, "{workload}");
    }
    // With everything else that an update may do, within the bindings of the baseline.
    for (name, profile) in crate::legality::profiles() {
        let setup = setup(Workload::W2, 0).expect("a workload");
        let builder = setup.trainer.optimizer(AdamW::new().amsgrad()).ema(Ema::new(0.999)).clip(1.0).accumulate(2);
        let plan = builder.precision(Precision::F16).plan(&profile, &setup.loss);
        let plan = plan.unwrap_or_else(|error| panic!("{name}: {error}"));
        plan.programs.iter().for_each(crate::legality::check);
    }
}

#[test]
fn a_decay_of_one_is_refused() {
    let mut parameters = Parameters::new();
    let model = Mlp::new(&mut parameters, &[5, 3]);
    let refused = Trainer::builder(parameters).ema(Ema::new(1.0)).trace(&move |graph: &Graph| loss(&model, graph));
    let message = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(message.contains("ema: decay = 1"), "{message}");
}
