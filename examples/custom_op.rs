//! An operation of one's own: WGSL for its value, its gradient in terms of other operations, and its
//! meaning on the CPU. It fits a bump `a * exp(-(b x)^2)` to samples of one.
//!
//! `cargo run --release --example custom_op`

use std::collections::HashMap;
use std::sync::Arc;
use wgrad::Result;
use wgrad::autodiff::grad;
use wgrad::dtype::DType::F32;
use wgrad::gpu::Device;
use wgrad::graph::{CustomOp, Graph, Op, Tensor};
use wgrad::io::HostTensor;
use wgrad::nn::{Init, Parameters};
use wgrad::optim::Schedule;
use wgrad::reference::{self, Array};
use wgrad::train::{SAME_BATCH, Trainer};

const POINTS: usize = 64;
const STEPS: u64 = 400;

/// `exp(-x^2)`, element by element.
fn bump(x: Tensor<'_>) -> Tensor<'_> {
    let op = CustomOp {
        name: "bump".into(),
        infer: |inputs| match inputs {
            [x] if x.dtype == F32 => Ok(x.clone()),
            _ => Err("takes one f32 tensor".into()),
        },
        meaning: |_, inputs| inputs[0].iter().map(|x| (-x * x).exp()).collect(),
        // d/dx exp(-x^2) = -2 x exp(-x^2)
        gradient: Some(|gradient, inputs, output| vec![Some(gradient * output * inputs[0] * -2.0)]),
        wgsl: "fn element(i: u32) -> f32 { let x = in0[i]; return exp(-x * x); }".into(),
    };
    x.apply(Op::Custom(Arc::new(op)), &[])
}

fn main() -> Result<()> {
    check_gradient()?;
    let device = Device::open(None)?;
    let mut parameters = Parameters::new();
    let height = parameters.add("height", [1], Init::Ones);
    let sharpness = parameters.add("sharpness", [1], Init::Ones);
    let mut trainer =
        Trainer::builder(parameters).lr(Schedule::cosine(0.1, 0, STEPS)).build(&device, |graph: &Graph| {
            let (x, y) = (graph.input("x", [POINTS], F32), graph.input("y", [POINTS], F32));
            let fitted = bump(x * sharpness.tensor(graph)) * height.tensor(graph);
            (fitted - y).square().mean_all()
        })?;

    let x: Vec<f32> = (0..POINTS).map(|i| i as f32 / 16.0 - 2.0).collect();
    let y: Vec<f32> = x.iter().map(|x| 3.0 * (-(2.0 * x).powi(2)).exp()).collect();
    trainer.step(&[("x", HostTensor::f32([POINTS], &x)?), ("y", HostTensor::f32([POINTS], &y)?)])?;
    for step in 2..=STEPS {
        let report = trainer.step(SAME_BATCH)?;
        if step % 100 == 0 {
            println!("step {step}: loss {:.6}", report.loss);
        }
    }
    for (tensor, wanted) in trainer.weights()?.tensors.iter().zip([3.0, 2.0]) {
        let found = tensor.to_f32().unwrap_or_default()[0];
        println!("{} = {found:.3}", tensor.name);
        assert!((found - wanted).abs() < 0.05, "{} should be {wanted}", tensor.name);
    }
    Ok(())
}

/// The gradient rule against central differences of the CPU meaning, in f64 on the reference.
fn check_gradient() -> Result<()> {
    let graph = Graph::new();
    let x = graph.input("x", [3], F32);
    let loss = bump(x).sum_all();
    let slope = grad(loss, &[x])?[0];
    let points = [-0.7, 0.2, 1.5];
    let eval = |value: Tensor<'_>, points: [f64; 3]| -> Result<Vec<f64>> {
        let inputs = HashMap::from([("x".to_string(), Array::new([3], F32, points.to_vec()))]);
        Ok(reference::eval(&graph, &[value.value()], &inputs, &HashMap::new())?.remove(0).data)
    };
    let found = eval(slope, points)?;
    for i in 0..3 {
        let moved = |by: f64| {
            let mut points = points;
            points[i] += by;
            eval(loss, points)
        };
        let expected = (moved(1e-6)?[0] - moved(-1e-6)?[0]) / 2e-6;
        assert!((found[i] - expected).abs() < 1e-8, "element {i}: {} but {expected}", found[i]);
    }
    println!("the gradient agrees with central differences");
    Ok(())
}
