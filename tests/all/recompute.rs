//! Activations that are computed twice: less memory, and not one bit of difference.

use wgrad::dtype::DType::{self, F32, I32};
use wgrad::graph::{Graph, Tensor};
use wgrad::io::HostTensor;
use wgrad::kernels::Profile;
use wgrad::lower::{MOST_EXTRA, Recompute};
use wgrad::nn::Parameters;
use wgrad::nn::models::{Gpt, GptConfig, LstmLm, LstmLmConfig, Mlp, Resnet, ResnetConfig};
use wgrad::train::workloads::{Workload, integers, outline, setup, uniform};
use wgrad::train::{Precision, Trainer, TrainerBuilder};

type Loss = Box<dyn for<'g> Fn(&'g Graph) -> Tensor<'g>>;
type Batch = Vec<(&'static str, HostTensor)>;

/// Losses, gradients and weights of some steps, as bits, and what was computed twice.
fn trained(
    policy: Recompute,
    model: &dyn Fn() -> (TrainerBuilder, Loss),
    batch: &Batch,
) -> (Vec<u32>, Vec<Vec<u8>>, u64) {
    let (builder, loss) = model();
    let builder = builder.recompute(policy);
    let device = crate::device();
    let planned = builder.plan(device.profile(), &loss).expect("compiles");
    let mut trainer = builder.build(&device, loss).expect("compiles");
    assert_eq!(trainer.created_bytes(), planned.memory.total());
    let losses = (0..3).map(|_| trainer.step(batch).expect("trains").loss.to_bits()).collect();
    let (weights, gradients) = (trainer.weights().expect("reads back"), trainer.gradients().expect("reads back"));
    let states = weights.tensors.into_iter().chain(gradients.tensors).map(|tensor| tensor.bytes).collect();
    (losses, states, planned.recomputed.dispatches as u64)
}

/// The same bits whatever is computed twice.
fn agrees(name: &str, model: &dyn Fn() -> (TrainerBuilder, Loss), batch: &Batch, policies: &[Recompute]) {
    let (losses, states, none) = trained(Recompute::None, model, batch);
    assert_eq!(none, 0, "{name}");
    for &policy in policies {
        let (again, others, twice) = trained(policy, model, batch);
        println!("{name}, {policy:?}: {twice} dispatches twice");
        assert!(twice > 0, "{name}, {policy:?}: nothing was computed twice");
        assert_eq!(losses, again, "{name}, {policy:?}: the losses differ");
        assert_eq!(states.len(), others.len());
        for (index, (a, b)) in states.iter().zip(&others).enumerate() {
            assert_eq!(a, b, "{name}, {policy:?}: state {index} differs");
        }
    }
}

fn text(samples: usize, time: usize, vocabulary: u32) -> Batch {
    let tokens = |stream| -> Vec<i32> {
        integers(0, stream, samples * time).into_iter().map(|h| (h % vocabulary) as i32).collect()
    };
    let tensor = |stream| HostTensor::i32([samples, time], &tokens(stream)).expect("tokens");
    vec![("tokens", tensor(1)), ("targets", tensor(2))]
}

fn predict(samples: usize, time: usize, model: impl for<'g> Fn(Tensor<'g>) -> Tensor<'g> + 'static) -> Loss {
    Box::new(move |graph| {
        let input = |name| graph.input(name, [samples, time], I32);
        model(input("tokens")).cross_entropy(input("targets"))
    })
}

fn gpt_in_f16() -> (TrainerBuilder, Loss) {
    let (builder, loss) = gpt(0.2, 1, DType::F16);
    (builder.precision(Precision::F16), loss)
}

fn gpt(dropout: f64, accumulate: usize, saved: DType) -> (TrainerBuilder, Loss) {
    let mut parameters = Parameters::new();
    let config = GptConfig { vocabulary: 40, context: 32, layers: 3, heads: 2, width: 32, dropout, tied: true };
    let model = Gpt::new(&mut parameters, config);
    let builder = Trainer::builder(parameters).clip(1.0).accumulate(accumulate).save_activations(saved);
    (builder, predict(4, 32, move |tokens| model.forward(tokens)))
}

const TIGHT: [Recompute; 2] = [Recompute::Auto, Recompute::Within(0)];

#[test]
fn a_gpt_with_dropout_has_the_same_bits() {
    agrees("gpt", &|| gpt(0.2, 1, F32), &text(4, 32, 40), &TIGHT);
    agrees("gpt, accumulated", &|| gpt(0.2, 2, F32), &text(8, 32, 40), &[Recompute::Within(0)]);
    agrees("gpt, saved in half", &|| gpt(0.2, 1, DType::BF16), &text(4, 32, 40), &[Recompute::Within(0)]);
    agrees("gpt in f16, its loss scaled", &gpt_in_f16, &text(4, 32, 40), &[Recompute::Within(0)]);
}

#[test]
fn a_convolutional_network_with_running_statistics_has_the_same_bits() {
    let model = || {
        let mut parameters = Parameters::new();
        let (bottleneck, small_images) = (false, true);
        let config =
            ResnetConfig { blocks: [1, 1, 1, 1], bottleneck, width: 8, channels: 3, classes: 10, small_images };
        let model = Resnet::new(&mut parameters, config);
        let loss: Loss = Box::new(move |graph| {
            model.forward(graph.input("x", [4, 3, 16, 16], F32)).cross_entropy(graph.input("y", [4], I32))
        });
        (Trainer::builder(parameters), loss)
    };
    let x = HostTensor::f32([4, 3, 16, 16], &uniform(0, 1, 4 * 3 * 16 * 16, 1.7)).expect("images");
    let y = HostTensor::i32([4], &[1, 2, 3, 4]).expect("classes");
    agrees("resnet", &model, &vec![("x", x), ("y", y)], &[Recompute::Within(0)]);
}

#[test]
fn loops_are_computed_once_and_what_surrounds_them_twice() {
    let model = || {
        let mut parameters = Parameters::new();
        let config = LstmLmConfig { vocabulary: 30, width: 16, hidden: 24, layers: 2, dropout: 0.1 };
        let model = LstmLm::new(&mut parameters, config);
        (Trainer::builder(parameters), predict(3, 9, move |tokens| model.forward(tokens, None).0))
    };
    agrees("lstm", &model, &text(3, 9, 30), &[Recompute::Within(0)]);
}

#[test]
fn half_the_memory_is_enough_for_the_workloads_with_layers() {
    for workload in [Workload::W4, Workload::W5] {
        let profile = Profile { max_binding_bytes: (2 << 30) - 4, max_buffer_bytes: 4 << 30, ..Profile::baseline() };
        let (builder, loss) = outline(workload).expect("a workload");
        let whole = builder.plan(&profile, &loss).expect("compiles").memory.transient;
        let plan = builder.recompute(Recompute::Auto).plan(&profile, &loss).expect("compiles");
        let (part, report) = (plan.memory.transient, plan.recomputed);
        println!("{workload}: {part} of {whole} bytes, {report:?}");
        assert!(report.extra <= MOST_EXTRA, "{workload}: {report:?}");
        if workload == Workload::W4 {
            assert!(2 * part <= whole, "{part} of {whole} bytes");
        }
    }
}

#[test]
fn w4_has_the_same_bits() {
    let batch = setup(Workload::W4, 0).expect("a workload").batch;
    let model = || setup(Workload::W4, 0).map(|setup| (setup.trainer, setup.loss)).expect("a workload");
    agrees("W4", &model, &batch, &[Recompute::Auto]);
}

/// A perceptron whose layers are marked, or not.
fn marked(marks: bool) -> (TrainerBuilder, Loss) {
    let mut parameters = Parameters::new();
    let widths = [16, 16, 16, 16, 16, 16, 16];
    let parts: Vec<Mlp> =
        (0..4).map(|part| parameters.scope(&format!("part.{part}"), |p| Mlp::new(p, &widths))).collect();
    let loss: Loss = Box::new(move |graph| {
        let mut x = graph.input("x", [64, 16], F32);
        for part in &parts {
            x = if marks { graph.checkpoint(|| part.forward(x)) } else { part.forward(x) };
        }
        x.cross_entropy(graph.input("y", [64], I32))
    });
    (Trainer::builder(parameters), loss)
}

#[test]
fn marked_parts_are_computed_twice() {
    let x = HostTensor::f32([64, 16], &uniform(0, 1, 64 * 16, 1.0)).expect("samples");
    let y = HostTensor::i32([64], &[3; 64]).expect("classes");
    let batch = vec![("x", x), ("y", y)];
    let (losses, states, none) = trained(Recompute::None, &|| marked(false), &batch);
    let (again, others, twice) = trained(Recompute::None, &|| marked(true), &batch);
    assert_eq!((none, &losses, &states), (0, &again, &others));
    assert!(twice >= 12, "{twice} dispatches twice");
    let alive = |marks: bool| {
        let (builder, loss) = marked(marks);
        builder.plan(&Profile::baseline(), loss).expect("compiles").recomputed.after
    };
    assert!(3 * alive(true) < 2 * alive(false), "{} of {} bytes", alive(true), alive(false));
}
