//! Products whose long sum is cut into chunks: right in every layout, the same bits each time, and cut only where that gives a
//! device more to do.

use std::collections::HashMap;
use wgrad::dtype::DType;
use wgrad::gpu::Session;
use wgrad::graph::{Graph, Tensor};
use wgrad::kernels::{AdapterClass, Profile};
use wgrad::lower::lower;
use wgrad::program::{Program, StateLayout};
use wgrad::random::Stream;
use wgrad::reference::{Array, eval};

/// The kernels of a GPU, within the limits of the adapter that is there.
fn gpu() -> Profile {
    Profile { class: AdapterClass::Discrete, subgroup: None, ..crate::device().profile().clone() }
}

fn lowered(graph: &Graph, profile: &Profile) -> Program {
    lower("long sums", graph, &StateLayout::default(), profile).expect("compiles")
}

fn is_cut(program: &Program) -> bool {
    program.kernels.iter().any(|kernel| kernel.name == "matmul_sum_chunks")
}

type Build = for<'g> fn(Tensor<'g>, Tensor<'g>, Tensor<'g>) -> Tensor<'g>;

const LENGTHS: [usize; 3] = [1 << 16, 3 << 16, 128];

/// With how far a result may be off: where it is rounded to a half, by a half's last digit.
const PRODUCTS: [(Build, f32); 6] = [
    (|a, b, _| a.reshape([32, 2048]).matmul(b.slice(0, 0, 1 << 16).reshape([2048, 32])), 1e-3),
    (|a, b, _| a.reshape([2048, 32]).t().matmul(b.slice(0, 0, 1 << 16).reshape([32, 2048]).t()), 1e-3),
    // Rows and columns that fill no tile, and something fused that tells them apart.
    (
        |a, b, c| {
            let bias = c.slice(0, 0, 44) + c.slice(0, 100, 113).reshape([13, 1]) * 4.0;
            let product =
                a.slice(0, 0, 13 << 12).reshape([13, 4096]).matmul(b.slice(0, 0, 44 << 12).reshape([44, 4096]).t());
            (product + bias).relu()
        },
        1e-3,
    ),
    // A stack, one operand of which is the same for all.
    (
        |a, b, c| {
            let stack = a.slice(0, 0, 24 << 11).reshape([3, 8, 2048]);
            let shared = b.slice(0, 4, 4 + (12 << 11)).reshape([1, 2048, 12]).broadcast_to([3, 2048, 12]);
            stack.matmul(shared) * c.slice(0, 0, 3).reshape([3, 1, 1])
        },
        1e-3,
    ),
    // From halves to halves.
    (
        |a, b, _| {
            let [x, w] = [a, b.slice(0, 0, 1 << 16)].map(|x| x.cast(DType::F16).cast(DType::F32).reshape([16, 4096]));
            let y = x.matmul(w.t()).cast(DType::F16).cast(DType::F32);
            y + y.sum(&[1]).reshape([16, 1]) * 0.0625
        },
        0.04,
    ),
    // 195 times 16 steps, which are not many chunks of the same length.
    (|a, b, _| a.slice(0, 0, 62_400).reshape([20, 3120]).matmul(b.slice(0, 0, 62_400).reshape([3120, 20])), 1e-3),
];

fn traced(build: Build) -> Graph {
    let graph = Graph::new();
    let [a, b, c] = [0, 1, 2].map(|i| graph.input(["a", "b", "c"][i], [LENGTHS[i]], DType::F32));
    graph.output("y", build(a, b, c));
    graph
}

#[test]
fn sums_in_chunks_are_right_and_the_same_each_time() {
    let device = crate::device();
    // As f16 has them, which the reference does not round to.
    let half = |x: f32| half::f16::from_f32(x).to_f32();
    let draw = |i: usize| Stream::new(31, i as u32).uniform(LENGTHS[i], -1.0, 1.0).into_iter().map(half).collect();
    let draws: Vec<Vec<f32>> = (0..3).map(draw).collect();
    // A software adapter cuts fewer of them.
    let rows = |profile: Profile| PRODUCTS.into_iter().enumerate().map(move |row| (profile.clone(), row));
    for (profile, (index, (build, tolerance))) in rows(gpu()).chain(rows(device.profile().clone())) {
        let graph = traced(build);
        let program = lowered(&graph, &profile);
        assert!(is_cut(&program) || profile.class == AdapterClass::Cpu, "product {index} is not cut");
        crate::legality::check(&program);
        let feeds = ["a", "b", "c"].into_iter().zip(&draws);
        let feeds: HashMap<String, Array> =
            feeds.map(|(name, x)| (name.to_string(), Array::floats([x.len()], x))).collect();
        let values: Vec<_> = graph.outputs().iter().map(|(_, value)| *value).collect();
        let wanted = eval(&graph, &values, &feeds, &HashMap::new()).expect("evaluates").remove(0).data;
        let mut session = Session::new(&device, StateLayout::default(), vec![program]).expect("allocates");
        for (name, x) in ["a", "b", "c"].iter().zip(&draws) {
            // What a product has no use for is no input of its program.
            if session.program(0).inputs.iter().any(|input| input.name == *name) {
                session.write_input(0, name, bytemuck::cast_slice(x)).expect("fits");
            }
        }
        let mut run = || {
            let ticket = session.run(&[0]).expect("runs");
            session.fetch(ticket).expect("comes back").f32("y").expect("an output")
        };
        let (first, second) = (run(), run());
        assert_eq!(first, second, "product {index} gives other bits each time");
        assert_eq!(first.len(), wanted.len());
        for (at, (found, wanted)) in first.iter().zip(&wanted).enumerate() {
            assert!(
                (f64::from(*found) - wanted).abs() <= f64::from(tolerance),
                "product {index}, {at}: {found}, not {wanted}"
            );
        }
    }
}

#[test]
fn sums_are_cut_only_where_tiles_are_few_and_sums_long() {
    let cut = |m: usize, k: usize, n: usize, profile: &Profile| {
        let graph = Graph::new();
        let product = graph.input("a", [m, k], DType::F32).matmul(graph.input("b", [k, n], DType::F32));
        graph.output("y", product);
        is_cut(&lowered(&graph, profile))
    };
    let gpu = gpu();
    assert!(cut(64, 2048, 64, &gpu) && cut(128, 4096, 256, &gpu));
    // Short, many tiles, no vectors, nothing that divides it, and no more tiles than the cores of a software adapter.
    for [m, k, n] in [[64, 2032, 64], [512, 4096, 512], [64, 4096, 63], [64, 4093, 64]] {
        assert!(!cut(m, k, n, &gpu), "{m} x {k} x {n}");
    }
    let software = Profile { class: AdapterClass::Cpu, ..gpu };
    assert!(cut(32, 8192, 32, &software) && !cut(64, 8192, 64, &software) && !cut(32, 2048, 32, &software));
}
