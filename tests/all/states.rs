//! Assignments read the states as they were when the program started, however they cross.

use wgrad::dtype::DType;
use wgrad::gpu::Session;
use wgrad::graph::{Graph, TensorType};
use wgrad::lower::lower;
use wgrad::program::{Category, StateLayout, StateSpec};

/// Runs a program over the states `a` and `b` (4 x 4) once; what they hold after it.
fn after(a: [f32; 16], b: [f32; 16], trace: impl Fn(&Graph)) -> [Vec<f32>; 2] {
    let device = crate::device();
    let spec = |name: &str| StateSpec {
        name: name.into(),
        ty: TensorType::new([4, 4], DType::F32),
        category: Category::Other,
        group: "all".into(),
    };
    let layout = StateLayout::build(&[spec("a"), spec("b")], 1 << 20).expect("fits");
    let graph = Graph::new();
    trace(&graph);
    let program = lower("states", &graph, &layout, device.profile()).expect("compiles");
    crate::legality::check(&program);
    let mut session = Session::new(&device, layout, vec![program]).expect("allocates");
    session.write_state("a", bytemuck::cast_slice(&a)).expect("fits");
    session.write_state("b", bytemuck::cast_slice(&b)).expect("fits");
    let ticket = session.run(&[0]).expect("runs");
    session.fetch(ticket).expect("finishes");
    ["a", "b"].map(|name| bytemuck::pod_collect_to_vec(&session.read_state(name).expect("reads back")))
}

fn ramp(from: f32) -> [f32; 16] {
    std::array::from_fn(|i| from + i as f32)
}

fn both(graph: &Graph) -> [wgrad::graph::Tensor<'_>; 2] {
    ["a", "b"].map(|name| graph.state(name, [4, 4], DType::F32))
}

#[test]
fn two_states_exchange_their_values() {
    let [a, b] = after(ramp(0.0), ramp(100.0), |graph| {
        let [a, b] = both(graph);
        graph.assign("a", b);
        graph.assign("b", a);
    });
    assert_eq!((a, b), (ramp(100.0).to_vec(), ramp(0.0).to_vec()));
}

#[test]
fn a_state_is_multiplied_by_itself() {
    let [a, _] = after(ramp(0.0), ramp(0.0), |graph| {
        let [a, _] = both(graph);
        graph.assign("a", a.matmul(a));
    });
    let old = ramp(0.0);
    let want: Vec<f32> = (0..16).map(|i| (0..4).map(|k| old[i / 4 * 4 + k] * old[k * 4 + i % 4]).sum()).collect();
    assert_eq!(a, want);
}

#[test]
fn one_value_goes_into_two_states() {
    let [a, b] = after(ramp(0.0), ramp(100.0), |graph| {
        let [a, b] = both(graph);
        let sum = a + b.t();
        graph.assign("a", sum);
        graph.assign("b", sum);
        graph.output("sum", sum);
    });
    let want: Vec<f32> = (0..16).map(|i| i as f32 + 100.0 + (i % 4 * 4 + i / 4) as f32).collect();
    assert_eq!((a, b), (want.clone(), want));
}

#[test]
fn a_state_is_transposed_in_place() {
    let [a, b] = after(ramp(0.0), ramp(0.0), |graph| {
        let [a, b] = both(graph);
        graph.assign("a", a.t());
        graph.assign("b", b + a.slice(0, 0, 1));
    });
    let transposed: Vec<f32> = (0..16).map(|i| (i % 4 * 4 + i / 4) as f32).collect();
    let sums: Vec<f32> = (0..16).map(|i| i as f32 + (i % 4) as f32).collect();
    assert_eq!((a, b), (transposed, sums));
}
