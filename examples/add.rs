//! A graph by hand: trace it, differentiate it, compile it, run it.
//!
//! `cargo run --example add`

use wgrad::autodiff::grad;
use wgrad::dtype::DType;
use wgrad::gpu::{Device, Session};
use wgrad::graph::Graph;
use wgrad::lower::lower;
use wgrad::program::StateLayout;

fn main() -> wgrad::Result<()> {
    // Trace: nothing is computed yet.
    let graph = Graph::new();
    let a = graph.input("a", [2, 3], DType::F32);
    let b = graph.input("b", [3], DType::F32);
    let y = (a * 2.0 + b).tanh();
    let grads = grad(y.sum_all(), &[a, b])?;
    graph.output("y", y);
    graph.output("da", grads[0]);
    graph.output("db", grads[1]);
    print!("{}", graph.to_text());

    // Compile: kernels and buffers for this device. There is no state, so the layout is empty.
    let device = Device::open(None)?;
    let layout = StateLayout::default();
    let program = lower("add", &graph, &layout, device.profile())?;
    print!("\n{}", program.to_text());

    // Run, as often as one likes.
    let mut session = Session::new(&device, layout, vec![program])?;
    session.write_input(0, "a", bytemuck::cast_slice(&[0.0f32, 0.1, 0.2, 0.3, 0.4, 0.5]))?;
    session.write_input(0, "b", bytemuck::cast_slice(&[0.0f32, -0.1, 0.1]))?;
    let ticket = session.run(&[0])?;
    let results = session.fetch(ticket)?;
    for name in ["y", "da", "db"] {
        println!("{name} = {:?}", results.f32(name)?);
    }
    Ok(())
}
