//! Convolutions by the kernels of software adapters and by those of GPUs: several samples in one product, groups, odd sizes, windows
//! of one element, and what is fused behind them, against the reference.

use std::collections::HashMap;
use wgrad::autodiff::grad;
use wgrad::dtype::DType::F32;
use wgrad::gpu::Session;
use wgrad::graph::Graph;
use wgrad::kernels::{AdapterClass, Profile};
use wgrad::lower::lower;
use wgrad::program::StateLayout;
use wgrad::reference::{self, Array};
use wgrad::train::workloads::uniform;

struct Case {
    x: [usize; 4],
    w: [usize; 4],
    padding: [usize; 2],
    stride: usize,
    dilation: usize,
    groups: usize,
}

const fn case(x: [usize; 4], w: [usize; 4], padding: [usize; 2]) -> Case {
    Case { x, w, padding, stride: 1, dilation: 1, groups: 1 }
}

const CASES: [Case; 11] = [
    case([3, 4, 8, 8], [8, 4, 3, 3], [1, 1]),
    case([5, 3, 7, 7], [6, 3, 3, 3], [1, 1]),
    // Positions that go up in fours, of samples that do not fill a tile.
    case([3, 2, 6, 6], [20, 2, 3, 3], [1, 1]),
    // Windows of one element: each sample has a product to itself.
    case([3, 8, 4, 6], [5, 8, 1, 1], [0, 0]),
    // The gradient's windows go backwards along one axis alone, of one channel.
    case([1, 2, 8, 4], [1, 2, 3, 1], [1, 0]),
    case([2, 2, 8, 4], [1, 2, 3, 1], [2, 0]),
    case([1, 2, 1, 16], [1, 2, 1, 3], [0, 1]),
    Case { dilation: 4, ..case([1, 2, 1, 24], [1, 2, 1, 3], [0, 4]) },
    Case { groups: 2, ..case([3, 8, 5, 5], [8, 4, 3, 3], [1, 1]) },
    Case { stride: 2, ..case([3, 4, 9, 9], [8, 4, 3, 3], [1, 1]) },
    Case { dilation: 2, ..case([2, 4, 9, 9], [8, 4, 3, 3], [2, 2]) },
];

impl Case {
    /// A convolution with a bias for each channel and a ReLU, and its gradients.
    fn graph(&self) -> Graph {
        let graph = Graph::new();
        let (x, w) = (graph.input("x", self.x, F32), graph.input("w", self.w, F32));
        let bias = graph.input("bias", [self.w[0], 1, 1], F32);
        let (stride, dilation) = ([self.stride; 2], [self.dilation; 2]);
        let padding = self.padding.map(|by| [by; 2]);
        let y = (x.conv(w, &stride, &padding, &dilation, self.groups) + bias).relu();
        let loss = (y * y).sum_all();
        graph.output("y", y);
        for (name, gradient) in ["dx", "dw", "dbias"].iter().zip(grad(loss, &[x, w, bias]).expect("differentiable")) {
            graph.output(name, gradient);
        }
        graph
    }
}

#[test]
fn convolutions_of_every_adapter_are_right() {
    let device = crate::device();
    let gpu = Profile { class: AdapterClass::Discrete, subgroup: None, ..device.profile().clone() };
    for (case, profile) in CASES.iter().flat_map(|case| [(case, device.profile()), (case, &gpu)]) {
        let what = format!("{:?} x {:?}, groups {}, {:?}", case.x, case.w, case.groups, profile.class);
        let graph = case.graph();
        graph.error().unwrap_or_else(|error| panic!("{what}: {error}"));
        let program = lower("convolution", &graph, &StateLayout::default(), profile).expect(&what);
        let mut session = Session::new(&device, StateLayout::default(), vec![program]).expect(&what);
        let mut inputs = HashMap::new();
        let shapes = [("x", case.x.to_vec()), ("w", case.w.to_vec()), ("bias", vec![case.w[0], 1, 1])];
        for (stream, (name, shape)) in (1..).zip(shapes) {
            let values = uniform(0, stream, shape.iter().product(), 1.0);
            session.write_input(0, name, bytemuck::cast_slice(&values)).expect(&what);
            inputs.insert(name.to_string(), Array::floats(&shape[..], &values));
        }
        let ticket = session.run(&[0]).expect(&what);
        let found = session.fetch(ticket).expect(&what);
        for (name, wanted) in reference::run(&graph, &inputs, &HashMap::new()).expect(&what).outputs {
            let found = found.f32(&name).expect(&what);
            let size = wanted.data.iter().fold(1.0f64, |most, y| most.max(y.abs()));
            assert_eq!(found.len(), wanted.data.len(), "{name} of {what}");
            for (at, (found, wanted)) in found.iter().zip(&wanted.data).enumerate() {
                let off = (f64::from(*found) - wanted).abs();
                assert!(off <= 2e-6 * size, "{name} of {what}, element {at}: {found}, should be {wanted}");
            }
        }
    }
}
