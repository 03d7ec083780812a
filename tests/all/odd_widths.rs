//! Training in every precision where widths are odd: halves are stored four at a time, and what does not go up in fours stays
//! in f32, rows of odd length within a larger tensor are packed across their ends, and nothing is refused.

use std::collections::HashMap;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::io::HostTensor;
use wgrad::nn::models::{Gpt, GptConfig};
use wgrad::nn::{Conv2d, LayerNorm, Linear, Parameters};
use wgrad::optim::{AdamW, Sgd};
use wgrad::reference::{self, Array};
use wgrad::tensor::{ConvOptions, PoolOptions};
use wgrad::train::{Precision, StepReport, Trainer, TrainerBuilder};

type LossFn<'a> = dyn for<'g> Fn(&'g Graph) -> Tensor<'g> + 'a;
type Loss = Box<LossFn<'static>>;
type Feed = Vec<(&'static str, HostTensor)>;
type Model = fn(usize) -> (Parameters, Loss, Feed);

fn numbers(count: usize, shift: usize) -> Vec<f32> {
    (0..count).map(|i| (((i * 37 + shift * 11) % 101) as f32 - 50.0) / 40.0).collect()
}

fn labels(count: usize, classes: usize) -> Vec<i32> {
    (0..count).map(|i| ((i * 7 + 3) % classes) as i32).collect()
}

/// A convolution, a norm and two linear layers, all of odd sizes, for so many pictures.
fn network(batch: usize) -> (Parameters, Loss, Feed) {
    let mut parameters = Parameters::new();
    let p = &mut parameters;
    let conv = Conv2d::new(p, "conv", [3, 5], [3, 3], ConvOptions::new().padding(1));
    let (norm, fc, head) = (LayerNorm::new(p, "norm", 30), Linear::new(p, "fc", 30, 7), Linear::new(p, "head", 7, 5));
    let shape = [batch, 3, 5, 7];
    let loss: Loss = Box::new(move |graph| {
        let (x, y) = (graph.input("x", shape, DType::F32), graph.input("y", [batch], DType::I32));
        let pooled = conv.forward(x).relu().max_pool2d(PoolOptions::new([2, 2])).flatten(1, -1);
        head.forward(fc.forward(norm.forward(pooled)).relu()).cross_entropy(y)
    });
    let x = HostTensor::f32(shape, &numbers(batch * 105, 1)).expect("fits");
    (parameters, loss, vec![("x", x), ("y", HostTensor::i32([batch], &labels(batch, 5)).expect("fits"))])
}

/// A language model of 13 words, 7 positions and heads of 3.
fn text(batch: usize) -> (Parameters, Loss, Feed) {
    let mut parameters = Parameters::new();
    let config = GptConfig { vocabulary: 13, context: 7, layers: 1, heads: 3, width: 9, dropout: 0.0, tied: false };
    let gpt = Gpt::new(&mut parameters, config);
    let shape = [batch, 7];
    let loss: Loss = Box::new(move |graph| {
        let input = |name| graph.input(name, shape, DType::I32);
        gpt.forward(input("tokens")).cross_entropy(input("targets"))
    });
    let of = |shift: usize| labels(batch * 7 + 1, 13)[shift..shift + batch * 7].to_vec();
    let tensor = |values: Vec<i32>| HostTensor::i32(shape, &values).expect("fits");
    (parameters, loss, vec![("tokens", tensor(of(0))), ("targets", tensor(of(1)))])
}

/// Three samples, of which no tensor goes up in fours, and four, of which all do and no row does.
const CASES: [(&str, Model, usize); 4] =
    [("network", network, 3), ("network", network, 4), ("text", text, 3), ("text", text, 4)];

fn values(trainer: &Trainer) -> HashMap<String, Vec<f32>> {
    let weights = trainer.weights().expect("reads back").tensors;
    weights.iter().map(|tensor| (tensor.name.clone(), tensor.to_f32().expect("f32"))).collect()
}

fn array(tensor: &HostTensor) -> Array {
    let words = tensor.bytes.as_chunks::<4>().0.iter();
    let data = match tensor.dtype {
        DType::I32 => words.map(|word| f64::from(i32::from_le_bytes(*word))).collect(),
        _ => words.map(|word| f64::from(f32::from_le_bytes(*word))).collect(),
    };
    Array::new(tensor.shape.clone(), tensor.dtype, data)
}

/// The loss and the gradients of the first step by the reference.
fn wanted(
    builder: TrainerBuilder,
    loss: &LossFn<'_>,
    feed: &Feed,
    weights: &HashMap<String, Vec<f32>>,
) -> (f64, HashMap<String, Array>) {
    let shapes: HashMap<String, Vec<usize>> =
        builder.parameters().specs().iter().map(|spec| (spec.name.to_string(), spec.shape.to_vec())).collect();
    let [micro, ..] = builder.trace(loss).expect("traces");
    let inputs = feed.iter().map(|(name, tensor)| (name.to_string(), array(tensor))).collect();
    let state = |(name, values): (&String, &Vec<f32>)| (name.clone(), Array::floats(shapes[name].clone(), values));
    let outcome = reference::run(&micro, &inputs, &weights.iter().map(state).collect()).expect("runs");
    (outcome.outputs[0].1.data[0], outcome.states)
}

#[test]
fn gradients_of_odd_widths_are_those_of_the_reference_in_every_precision() {
    for (name, model, batch) in CASES {
        // A number near the middle between two halves may fall to either side.
        for (precision, bound) in [(Precision::F32, 1e-5), (Precision::F16, 2e-3), (Precision::BF16, 1.6e-2)] {
            let (parameters, loss, feed) = model(batch);
            let builder = |parameters| {
                let builder = Trainer::builder(parameters).optimizer(Sgd::new()).lr(1.0).precision(precision);
                builder.loss_scaling(None)
            };
            let mut trainer = builder(parameters).build(&crate::device(), &*loss).expect("compiles");
            let before = values(&trainer);
            let report: StepReport = trainer.step(&feed).expect("trains");
            let after = values(&trainer);
            let (loss, gradients) = wanted(builder(model(batch).0), &*loss, &feed, &before);
            let case = format!("{name} of {batch} in {precision}");
            assert!((f64::from(report.loss) - loss).abs() < bound * loss, "{case}: {} and {loss}", report.loss);
            for (parameter, old) in &before {
                let wanted = &gradients[&format!("grad/{parameter}")].data;
                let size = wanted.iter().fold(1e-3f64, |most, x| most.max(x.abs()));
                for ((old, new), wanted) in old.iter().zip(&after[parameter]).zip(wanted) {
                    let got = f64::from(old - new);
                    // What was subtracted from the parameter was rounded with it.
                    let rounding = f64::from(f32::EPSILON * old.abs());
                    assert!(
                        (got - wanted).abs() < bound * size + rounding,
                        "{case}: {parameter}: {got}, should be {wanted}"
                    );
                }
            }
        }
    }
}

#[test]
fn odd_widths_learn_in_every_precision() {
    for (name, model, batch) in CASES {
        let losses = |precision: Precision| {
            let (parameters, loss, feed) = model(batch);
            let builder = Trainer::builder(parameters).optimizer(AdamW::new()).lr(0.01).precision(precision);
            let mut trainer = builder.build(&crate::device(), &*loss).expect("compiles");
            (0..40).map(|_| trainer.step(&feed).expect("trains").loss).collect::<Vec<f32>>()
        };
        let full = losses(Precision::F32);
        for precision in [Precision::F16, Precision::BF16] {
            let half = losses(precision);
            let mean = |losses: &[f32]| losses[20..].iter().sum::<f32>() / 20.0;
            assert!(mean(&half) < 0.8 * half[0], "{name} of {batch} in {precision}: {half:?}");
            assert!((mean(&half) - mean(&full)).abs() < 0.02 * full[0], "{name} of {batch} in {precision}");
        }
    }
}
