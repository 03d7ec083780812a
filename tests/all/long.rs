//! The nightly tier (`scripts/nightly.sh`): what takes minutes.

use crate::ops::harness::decode;
use wgrad::dtype::DType;
use wgrad::gpu::Session;
use wgrad::graph::pointwise::{TABLE, TypeRule};
use wgrad::graph::{Graph, PointwiseOp};
use wgrad::lower::lower;
use wgrad::program::StateLayout;

#[test]
#[ignore = "minutes: nightly"]
fn unary_functions_over_a_million_numbers_of_their_range() {
    const N: usize = 1 << 20;
    let device = crate::device();
    println!("{:<16} largest error relative to max(|y|, 1)", "function");
    let of_floats = |rule: TypeRule| !matches!(rule, TypeRule::Logic | TypeRule::Integer);
    for row in TABLE.iter().filter(|row| row.arity == 1 && of_floats(row.rule)) {
        let graph = Graph::new();
        let x = graph.input("x", [N], DType::F32);
        graph.output("y", x.pointwise(row.op, &[]));
        let program = lower(row.name, &graph, &StateLayout::default(), device.profile()).expect("compiles");
        let mut session = Session::new(&device, StateLayout::default(), vec![program]).expect("allocates");
        let (low, high) = row.range;
        let inputs: Vec<f32> = (0..N).map(|i| (low + (high - low) * (i as f64 + 0.5) / N as f64) as f32).collect();
        session.write_input(0, "x", bytemuck::cast_slice(&inputs)).expect("fits");
        let ticket = session.run(&[0]).expect("runs");
        let results = session.fetch(ticket).expect("comes back");
        let got = decode(results.bytes("y").expect("an output"), DType::F32);
        let worst = inputs.iter().zip(&got).map(|(&x, y)| {
            let want = (row.op.host())(&[f64::from(x)]);
            (y - want).abs() / want.abs().max(1.0)
        });
        let worst = worst.fold(0.0, f64::max);
        println!("{:<16} {worst:.1e}", row.name);
        // WGSL allows exp an error of 3 + 2 |x| ULP; everything else here is tighter.
        assert!(worst <= if row.op == PointwiseOp::Exp { 3e-6 } else { 2e-6 }, "{}: {worst:e}", row.name);
    }
}
