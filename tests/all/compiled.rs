//! A step that was compiled before and kept as bytes trains like one that is compiled now.

use wgrad::dtype::DType;
use wgrad::error::Result;
use wgrad::graph::{Graph, Tensor};
use wgrad::io::HostTensor;
use wgrad::nn::Parameters;
use wgrad::nn::models::Mlp;
use wgrad::optim::LossScaling;
use wgrad::train::{Compiled, Trainer, TrainerBuilder};
#[cfg(all(feature = "cli", feature = "onnx"))]
use {crate::hostile::signed, wgrad::kernels::Profile, wgrad::nn::Gru};

const ROWS: usize = 8;

fn batch(step: usize) -> Vec<(&'static str, HostTensor)> {
    let x: Vec<f32> = (0..ROWS * 5).map(|i| (((i + 3 * step) * 7919 % 101) as f32 - 50.0) / 50.0).collect();
    let y: Vec<i32> = x.chunks(5).map(|x| i32::from(x[0] > 0.0) + i32::from(x[1] + x[2] > 0.0)).collect();
    vec![("x", HostTensor::f32([ROWS, 5], &x).expect("fits")), ("y", HostTensor::i32([ROWS], &y).expect("fits"))]
}

/// How a perceptron with so many hidden units is trained.
fn described(hidden: usize) -> (TrainerBuilder, Mlp) {
    let mut parameters = Parameters::new();
    let model = Mlp::new(&mut parameters, &[5, hidden, 3]);
    let scaling = LossScaling { init_scale: 1024.0, ..LossScaling::default() };
    (Trainer::builder(parameters).lr(0.02).clip(1.0).seed(3).loss_scaling(scaling), model)
}

fn loss<'g>(model: &Mlp, graph: &'g Graph) -> Tensor<'g> {
    let x = graph.input("x", [ROWS, 5], DType::F32);
    model.forward(x).cross_entropy(graph.input("y", [ROWS], DType::I32))
}

fn fresh(hidden: usize) -> Trainer {
    let (builder, model) = described(hidden);
    builder.build(&crate::device(), |graph| loss(&model, graph)).expect("compiles")
}

fn from_bytes(hidden: usize, bytes: &[u8]) -> Result<Trainer> {
    described(hidden).0.build_compiled(&crate::device(), Compiled::from_bytes(bytes)?)
}

/// Everything a few steps and a test give, as bits.
fn trained(trainer: &mut Trainer) -> Vec<u32> {
    let mut seen = Vec::new();
    for step in 0..6 {
        let report = trainer.step(&batch(step)).expect("trains");
        seen.extend([report.loss, report.grad_norm.expect("clipped")].map(f32::to_bits));
    }
    seen.push(trainer.evaluate(&batch(9)).expect("tests").to_bits());
    let weights = trainer.checkpoint().expect("reads back");
    seen.extend(weights.tensors.iter().flat_map(|tensor| &tensor.bytes).map(|&byte| u32::from(byte)));
    seen
}

#[test]
fn it_trains_like_a_step_that_is_compiled_now() {
    let mut now = fresh(7);
    let bytes = now.compiled().to_bytes();
    let mut kept = from_bytes(7, &bytes).expect("fits");
    assert_eq!((kept.dispatches(), kept.memory()), (now.dispatches(), now.memory()));
    assert_eq!(kept.outline(), now.outline());
    assert_eq!(trained(&mut kept), trained(&mut now));
    assert_eq!(kept.compiled().to_bytes(), bytes);
}

/// What the fuzzer begins with: `WGRAD_BLESS=1` writes it again.
#[cfg(all(feature = "cli", feature = "onnx"))]
#[test]
fn the_kept_ones_are_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/compiled");
    let (plain, model) = described(4);
    let small = Profile { max_binding_bytes: 512, ..Profile::baseline() };
    let mut parameters = Parameters::new();
    let cell = Gru::new(&mut parameters, "gru", 4, 4);
    let looped = Trainer::builder(parameters);
    let plans = [
        ("perceptron", plain.plan(&Profile::baseline(), |graph| loss(&model, graph))),
        ("pieces", described(40).0.plan(&small, |graph| loss(&described(40).1, graph))),
        (
            "loop",
            looped.plan(&Profile::baseline(), |graph| {
                let x = graph.input("x", [3, 2, 4], DType::F32);
                cell.forward(x, None).0.square().mean_all()
            }),
        ),
    ];
    for (name, plan) in plans {
        let bytes = Compiled::from(plan.expect("compiles")).to_bytes();
        let kept = &bytes[1 + Compiled::VERSION.len()..bytes.len() - 8];
        assert_eq!(signed(kept), bytes, "what is left out of the corpus");
        if std::env::var_os("WGRAD_BLESS").is_some() {
            std::fs::write(folder.join(name), kept).expect("a file of the corpus");
        }
        let file = std::fs::read(folder.join(name)).expect("a file of the corpus");
        Compiled::from_bytes(&signed(&file)).unwrap_or_else(|error| panic!("{name}: {error}; WGRAD_BLESS=1"));
    }
}

#[test]
fn another_models_is_refused() {
    let bytes = fresh(7).compiled().to_bytes();
    let Err(error) = from_bytes(9, &bytes).map(|_| ()) else { panic!("it has other sizes") };
    let error = error.to_string();
    assert!(error.contains("of another model") && error.contains("compile it again"), "{error}");
    // The same tensors, but other arithmetic; and what `build` refuses.
    let step = || Compiled::from_bytes(&bytes).expect("whole");
    for other in [described(7).0.clip(2.0), described(7).0.accumulate(2), described(7).0.loss_scaling(None)] {
        let Err(error) = other.build_compiled(&crate::device(), step()) else { panic!("it is trained otherwise") };
        assert!(error.to_string().contains("compile it again"), "{error}");
    }
    let Err(error) = described(7).0.clip(-1.0).build_compiled(&crate::device(), step()) else { panic!("no norm") };
    assert!(error.to_string().contains("positive norm"), "{error}");
    let Err(error) = from_bytes(7, &bytes[1..]).map(|_| ()) else { panic!("it is torn") };
    assert!(error.to_string().contains("not those that were written"), "{error}");
}
