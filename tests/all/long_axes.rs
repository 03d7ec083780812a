//! Axes of millions of elements: a kernel that walks along one comes to its end, or is refused. lavapipe leaves a shader's loops
//! after 65,535 turns altogether, without a word.

use std::collections::HashMap;
use wgrad::dtype::DType;
use wgrad::gpu::Session;
use wgrad::graph::{Graph, Tensor};
use wgrad::kernels::{AdapterClass, Profile};
use wgrad::lower::lower;
use wgrad::program::StateLayout;
use wgrad::reference::{Array, eval};
use wgrad::shape::Shape;

const N: usize = 1 << 22;

type Build = for<'g> fn(Tensor<'g>) -> Tensor<'g>;

/// What walks along all of `x` `[N]`, or along a large part of it.
const WALKS: [(&str, Build); 13] = [
    ("sum", |x| x.sum_all()),
    ("sums of rows", |x| x.reshape([2, N / 2]).sum(&[1])),
    ("sums of columns", |x| x.reshape([N / 4, 4]).sum(&[0])),
    ("sums of the middle", |x| x.reshape([2, N / 4, 2]).sum(&[1])),
    ("squares", |x| x.square().sum_all()),
    ("maximum", |x| x.max(&[0])),
    ("softmax", |x| x.softmax(0).slice(0, N - 16, N) * N as f32),
    ("log-softmax", |x| x.log_softmax(0).slice(0, N - 16, N)),
    ("cumulative sum", |x| x.cumsum(0).slice(0, N - 16, N)),
    ("layer norm", |x| {
        let row = x.reshape([1, N]);
        row.layer_norm(x.zeros_like() + 1.0, x.zeros_like(), 1e-5).slice(1, N - 16, N)
    }),
    ("product", |x| x.reshape([8, N / 8]).matmul(x.reshape([N / 8, 8]))),
    ("product of columns", |x| x.reshape([N / 8, 8]).t().matmul(x.reshape([N / 8, 8]))),
    ("rows added to one", |x| {
        let place = x.graph().iota([N / 4], 0).minimum(0);
        x.reshape([N / 4, 4]).scatter_add(place, 3)
    }),
];

/// What no second kernel could add up.
const REFUSED: [(&str, Build); 2] = [
    ("argmax", |x| x.argmax(0).cast(DType::F32)),
    ("row times column", |x| x.reshape([1, N]).matmul(x.reshape([N, 1]))),
];

#[test]
fn what_a_software_adapter_would_leave_in_its_middle_is_refused() {
    let gpu = Profile { class: AdapterClass::Discrete, ..Profile::baseline() };
    let cpu = Profile { class: AdapterClass::Cpu, ..Profile::baseline() };
    for (name, build) in REFUSED {
        let graph = Graph::new();
        graph.output("y", build(graph.input("x", [N], DType::F32)));
        let lowered = |profile: &Profile| lower(name, &graph, &StateLayout::default(), profile);
        assert!(lowered(&gpu).is_ok(), "{name}");
        let message = lowered(&cpu).expect_err(name).to_string();
        assert!(message.contains("software adapter") && message.contains("needs a GPU"), "{message}");
    }
}

#[test]
fn kernels_come_to_the_end_of_axes_of_millions() {
    let device = crate::device();
    // Sums of it are exact in f32; the largest element stands near the end.
    let data: Vec<f32> = (0..N).map(|i| if i == N - 3 { 2.0 } else { f32::from(u8::from(i * 37 % 5 == 0)) }).collect();
    let fed = HashMap::from([(
        "x".to_string(),
        Array::new(Shape::from([N]), DType::F32, data.iter().map(|&x| f64::from(x)).collect()),
    )]);
    let mut wrong = Vec::new();
    for (name, build) in WALKS {
        let graph = Graph::new();
        let y = build(graph.input("x", [N], DType::F32));
        graph.output("y", y);
        graph.error().expect("fits");
        let program = lower(name, &graph, &StateLayout::default(), device.profile()).expect("compiles");
        let mut session = Session::new(&device, StateLayout::default(), vec![program]).expect("allocates");
        session.write_input(0, "x", bytemuck::cast_slice(&data)).expect("fits");
        let ticket = session.run(&[0]).expect("runs");
        let got = session.fetch(ticket).expect("comes back").f32("y").expect("floats");
        let want = eval(&graph, &[y.value()], &fed, &HashMap::new()).expect("a reference");
        let off = got.iter().zip(&want[0].data).map(|(&y, want)| (f64::from(y) - want).abs() / want.abs().max(1.0));
        let off = off.fold(0.0, f64::max);
        if off.is_nan() || off > 1e-6 {
            wrong.push(format!("{name}: off by {off:.1e}, {:?} for {:?}", &got[..1], &want[0].data[..1]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
