//! An app that owns a `wgpu::Device` trains on it, and keeps its own error handlers.
//!
//! `cargo run --release --example custom_device`

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wgrad::dtype::DType::F32;
use wgrad::gpu::Device;
use wgrad::graph::Graph;
use wgrad::io::HostTensor;
use wgrad::nn::{Linear, Parameters};
use wgrad::optim::Sgd;
use wgrad::train::{SAME_BATCH, Trainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The app's part: its instance, adapter, device, and what it does about errors.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;
    let errors = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&errors);
    device.on_uncaptured_error(Arc::new(move |error| {
        eprintln!("the app's own handler: {error}");
        counter.fetch_add(1, Ordering::Relaxed);
    }));

    // wgrad's part. What kernels may use follows from what the app asked the device for.
    let borrowed = Device::borrow(device.clone(), queue.clone(), &adapter.get_info());
    println!("training on the app's device: {} ({})", borrowed.name(), borrowed.profile().tier());
    let mut parameters = Parameters::new();
    let line = Linear::new(&mut parameters, "line", 1, 1);
    let mut trainer = Trainer::builder(parameters).optimizer(Sgd::new().momentum(0.9)).lr(0.1).build(
        &borrowed,
        |graph: &Graph| {
            let (x, y) = (graph.input("x", [32, 1], F32), graph.input("y", [32, 1], F32));
            (line.forward(x) - y).square().mean_all()
        },
    )?;
    let x: Vec<f32> = (0..32).map(|i| i as f32 / 16.0 - 1.0).collect();
    let y: Vec<f32> = x.iter().map(|x| 3.0 * x - 1.0).collect();
    let mut report = trainer.step(&[("x", HostTensor::f32([32, 1], &x)?), ("y", HostTensor::f32([32, 1], &y)?)])?;
    for _ in 0..200 {
        report = trainer.step(SAME_BATCH)?;
    }
    println!("loss {:.2e} after step {}", report.loss, report.step);
    assert!(report.loss < 1e-6, "the line was not learned");
    for tensor in trainer.weights()?.tensors {
        println!("{} = {:?}", tensor.name, tensor.to_f32());
    }

    // The handler is still the app's: this buffer is larger than any device has.
    let _refused = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("too large"),
        size: u64::MAX / 8 * 4,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    assert_eq!(errors.load(Ordering::Relaxed), 1, "the app's handler was not called, or for errors of ours");
    Ok(())
}
