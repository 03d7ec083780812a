//! A perceptron learns two spirals: model, loss, trainer, loop.
//!
//! `cargo run --release --example mlp`

use wgrad::Result;
use wgrad::dtype::DType::{F32, I32};
use wgrad::gpu::Device;
use wgrad::graph::Graph;
use wgrad::io::HostTensor;
use wgrad::nn::Parameters;
use wgrad::nn::models::Mlp;
use wgrad::optim::{AdamW, Schedule};
use wgrad::random::Stream;
use wgrad::train::{SAME_BATCH, Trainer};

const POINTS: usize = 256;
const STEPS: u64 = 300;

fn main() -> Result<()> {
    let device = Device::open(None)?;
    let mut parameters = Parameters::new();
    let model = Mlp::new(&mut parameters, &[2, 64, 64, 2]);

    let mut trainer = Trainer::builder(parameters)
        .optimizer(AdamW::new().weight_decay(1e-4))
        .lr(Schedule::one_cycle(2e-2, STEPS))
        .clip(1.0)
        .build(&device, |graph: &Graph| {
            let (x, y) = (graph.input("x", [POINTS, 2], F32), graph.input("y", [POINTS], I32));
            let logits = model.forward(x);
            graph.output("correct", logits.argmax(-1).eq(y).count_true());
            logits.cross_entropy(y)
        })?;
    println!("{}: {} dispatches a step, {} bytes", device.name(), trainer.dispatches(), trainer.memory().total());

    let (x, y) = spirals()?;
    let mut report = trainer.step(&[("x", &x), ("y", &y)])?;
    for step in 2..=STEPS {
        report = trainer.step(SAME_BATCH)?;
        if step % 50 == 0 {
            let correct = report.results.f32("correct")?[0];
            println!("step {step}: loss {:.4}, {:.1}% correct", report.loss, 100.0 * correct / POINTS as f32);
        }
    }
    assert!(report.loss < 0.2, "the spirals were not learned: loss {}", report.loss);
    Ok(())
}

/// Two arms that wind around each other, with some noise.
fn spirals() -> Result<(HostTensor, HostTensor)> {
    let noise = Stream::new(1, 0).normal(2 * POINTS, 0.0, 0.02);
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for point in 0..POINTS {
        let arm = point % 2;
        let t = point as f32 / POINTS as f32;
        let angle = 6.0 * t + std::f32::consts::PI * arm as f32;
        x.extend([t * angle.cos() + noise[2 * point], t * angle.sin() + noise[2 * point + 1]]);
        y.push(arm as i32);
    }
    Ok((HostTensor::f32([POINTS, 2], &x)?, HostTensor::i32([POINTS], &y)?))
}
