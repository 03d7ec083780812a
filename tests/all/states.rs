//! Assignments read the states as they were when the program started, however they cross.

use crate::ops::harness;
use std::collections::HashMap;
use wgrad::dtype::DType;
use wgrad::gpu::Session;
use wgrad::graph::{Graph, TensorType};
use wgrad::kernels::Profile;
use wgrad::lower::lower;
use wgrad::program::{Category, StateLayout, StateSpec};
use wgrad::reference::{self, Array};

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

/// Scalars of every type, in states and beside them: some that a sum reads and some that follow from it.
fn counters(graph: &Graph) {
    let scalar = |name: &str, dtype: DType| graph.state(name, [], dtype);
    let (scale, best) = (scalar("scale", DType::F32), scalar("best", DType::F32));
    let (good, bad, bits) = (scalar("good", DType::I32), scalar("bad", DType::I32), scalar("bits", DType::U32));
    let x = graph.state("x", [64], DType::F32);
    let factor = (scale + 1.0).sqrt() / best;
    graph.output("factor", factor);
    let total = (x * factor * scale).square().sum(&[0]);
    let ok = total.lt(best * 1e3);
    let odd = good.gt(bad);
    graph.output("total", total);
    graph.output("ok", ok);
    graph.output("odd", odd);
    graph.assign("scale", ok.select(scale * 2.0, scale * 0.5));
    graph.assign("best", best.minimum(total));
    graph.assign("good", ok.select(good + 1, good));
    graph.assign("bad", ok.select(bad, bad + 1));
    graph.assign("bits", odd.select(bits + 3, bits));
    graph.output("seen", good + bad);
    graph.assign("x", x * ok.select(total, factor) + best);
}

#[test]
fn scalars_share_kernels_and_bindings() {
    let device = crate::device();
    let types =
        [("scale", DType::F32), ("good", DType::I32), ("bad", DType::I32), ("best", DType::F32), ("bits", DType::U32)];
    let spec = |name: &str, shape: &[usize], dtype, group: &str| StateSpec {
        name: name.into(),
        ty: TensorType::new(shape, dtype),
        category: Category::Other,
        group: group.into(),
    };
    let scalars = types.iter().map(|(name, dtype)| spec(name, &[], *dtype, "scalars"));
    let specs: Vec<_> = scalars.chain([spec("x", &[64], DType::F32, "vectors")]).collect();
    let layout = StateLayout::build(&specs, 1 << 20).expect("fits");
    let graph = Graph::new();
    counters(&graph);
    for profile in [device.profile().clone(), Profile::baseline()] {
        let program = lower("counters", &graph, &layout, &profile).expect("compiles");
        crate::legality::check(&program);
        // What the sum reads, the sum with all that follows, what reads its results; and scalars that the sum read.
        assert!(program.dispatches() <= 5, "{}", program.to_text());
    }
    for start in [[0.25, 3.0], [4.0, 3.0], [4.0, 0.001]] {
        let mut states: HashMap<String, Array> = types
            .iter()
            .zip([start[0], 3.0, 5.0, start[1], 7.0])
            .map(|((name, dtype), value)| (name.to_string(), Array::full([], *dtype, value)))
            .collect();
        let x: Vec<f32> = (0..64).map(|i| 0.1 * i as f32 - 3.0).collect();
        states.insert("x".into(), Array::floats([64], &x));
        against_reference(&graph, &layout, &states);
    }
}

/// One run from these states: outputs and states are those of the reference.
fn against_reference(graph: &Graph, layout: &StateLayout, states: &HashMap<String, Array>) {
    let device = crate::device();
    let want = reference::run(graph, &HashMap::new(), states).expect("evaluates");
    let program = lower("states", graph, layout, device.profile()).expect("compiles");
    crate::legality::check(&program);
    let outputs = program.outputs.clone();
    let mut session = Session::new(&device, layout.clone(), vec![program]).expect("allocates");
    for (name, value) in states {
        session.write_state(name, &harness::words(value)).expect("fits");
    }
    let results = session.run(&[0]).and_then(|ticket| session.fetch(ticket)).expect("runs");
    let got = harness::decoded(&outputs, &results);
    for (name, want) in &want.outputs {
        harness::compare(name, &got[name], &want.data, (1e-5, 1e-6)).unwrap_or_else(|error| panic!("{error}"));
    }
    for (name, want) in &want.states {
        let got = harness::decode(&session.read_state(name).expect("reads back"), want.ty.dtype);
        harness::compare(name, &got, &want.data, (1e-5, 1e-6)).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The gradients of a linear layer, weight and bias, added to what is there; `also` is done with the sums `[width]`.
fn accumulated(width: usize, also: impl Fn(&Graph, wgrad::graph::Tensor<'_>)) -> (Graph, StateLayout) {
    let shapes = [("x", vec![24, 8]), ("g", vec![24, width]), ("weight", vec![8, width]), ("bias", vec![width])];
    let shapes = shapes.into_iter().chain([("other", vec![width])]);
    let graph = Graph::new();
    let specs = shapes.map(|(name, shape)| StateSpec {
        name: name.into(),
        ty: TensorType::new(shape.as_slice(), DType::F32),
        category: Category::Other,
        group: "all".into(),
    });
    let specs: Vec<StateSpec> = specs.collect();
    let state = |index: usize| graph.state(&specs[index].name, specs[index].ty.shape.clone(), DType::F32);
    graph.assign("weight", state(2) + state(0).t().matmul(state(1)));
    also(&graph, state(1).sum(&[0]));
    let layout = StateLayout::build(&specs, 1 << 20).expect("fits");
    (graph, layout)
}

#[test]
fn sums_beside_a_product_are_added_to_a_state_where_nobody_else_sees_them() {
    for width in [12, 7] {
        fn bias(graph: &Graph, width: usize) -> wgrad::graph::Tensor<'_> {
            graph.state("bias", [width], DType::F32)
        }
        let plain = accumulated(width, |graph, sums| graph.assign("bias", sums + bias(graph, width)));
        let seen = accumulated(width, |graph, sums| {
            graph.assign("bias", bias(graph, width) + sums);
            graph.output("sums", sums);
        });
        let kept = accumulated(width, |graph, sums| {
            graph.assign("bias", bias(graph, width) + sums);
            graph.assign("other", bias(graph, width) * 2.0);
        });
        let elsewhere = accumulated(width, |graph, sums| graph.assign("other", bias(graph, width) + sums));
        let taken = accumulated(width, |graph, sums| graph.assign("bias", bias(graph, width) - sums));
        let dispatches = |(graph, layout): &(Graph, StateLayout)| {
            let program = lower("states", graph, layout, crate::device().profile()).expect("compiles");
            program.dispatches()
        };
        assert_eq!(dispatches(&plain), 1, "{width}");
        for (graph, layout) in [plain, seen, kept, elsewhere, taken] {
            let values = layout.entries.iter().map(|(name, entry)| {
                let shape = entry.shape.clone();
                let numbers: Vec<f32> = (0..shape.numel()).map(|i| (i * 37 % 101) as f32 / 25.0 - 2.0).collect();
                (name.clone(), Array::floats(shape, &numbers))
            });
            against_reference(&graph, &layout, &values.collect());
        }
    }
}
