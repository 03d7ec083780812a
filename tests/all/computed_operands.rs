//! Products that compute an operand as they read it: weights of one byte are made numbers there, and are never stored as such.

use std::collections::HashMap;
use wgrad::autodiff::grad;
use wgrad::dtype::DType;
use wgrad::gpu::Session;
use wgrad::graph::{Graph, Tensor, TensorType};
use wgrad::kernels::{AdapterClass, Profile};
use wgrad::lower::lower;
use wgrad::program::{Category, Kernel, Program, StateLayout, StateSpec};
use wgrad::reference::{self, Array};
use wgrad::tensor::{ScanOptions, scan};
use wgrad::train::workloads::uniform;

/// What is made of numbers `x`, bytes `w` and a scalar `scale`.
type Build = for<'g> fn(Tensor<'g>, Tensor<'g>, Tensor<'g>) -> Tensor<'g>;

struct Case {
    name: &'static str,
    x: &'static [usize],
    w: &'static [usize],
    build: Build,
    /// Whether the bytes are made numbers by those who read them.
    computed: bool,
}

fn numbers(w: Tensor<'_>) -> Tensor<'_> {
    (w.cast(DType::F32) - 128.0) * 0.01
}

const CASES: [Case; 16] = [
    Case { name: "one row", x: &[1, 64], w: &[64, 48], build: |x, w, _| x.matmul(numbers(w)), computed: true },
    Case { name: "transposed", x: &[8, 64], w: &[48, 64], build: |x, w, _| x.matmul(numbers(w).t()), computed: true },
    Case {
        name: "pixels on the left, ten classes behind them",
        x: &[64, 10],
        w: &[40, 64],
        build: |x, w, _| (numbers(w).matmul(x) + 0.5).relu(),
        computed: true,
    },
    Case { name: "stacks", x: &[3, 16, 8], w: &[3, 4, 16], build: |x, w, _| numbers(w).matmul(x), computed: true },
    Case {
        name: "both operands",
        x: &[1],
        w: &[12, 40],
        build: |x, w, _| numbers(w).matmul(numbers(w).t()) * x.reshape([1, 1]),
        computed: true,
    },
    Case { name: "odd sizes", x: &[3, 77], w: &[77, 5], build: |x, w, _| x.matmul(numbers(w)), computed: true },
    Case {
        name: "odd rows",
        x: &[3, 77],
        w: &[79, 8],
        build: |x, w, _| x.matmul(numbers(w).slice(0, 1, 78)),
        computed: true,
    },
    Case {
        name: "a scalar before and behind",
        x: &[2, 32],
        w: &[32, 24],
        build: |x, w, scale| x.matmul(numbers(w) * scale) * (scale + 1.0),
        computed: true,
    },
    Case {
        name: "a sum that is cut",
        x: &[8192, 16],
        w: &[4, 8192],
        build: |x, w, _| numbers(w).matmul(x),
        computed: true,
    },
    Case {
        name: "forward and backward",
        x: &[64, 10],
        w: &[40, 64],
        build: |x, w, _| {
            let y = numbers(w).matmul(x);
            let loss = (y * y).mean_all();
            grad(loss, &[x]).expect("differentiable").remove(0) + loss
        },
        computed: true,
    },
    Case {
        name: "in a loop",
        x: &[2, 48],
        w: &[48, 48],
        build: |x, w, _| {
            let steps = ScanOptions { length: Some(3), ..ScanOptions::default() };
            scan(x.graph(), &[x], &[], &[w], steps, |c, _, w| (vec![c[0].matmul(numbers(w[0])) * 0.1], vec![])).0[0]
        },
        computed: true,
    },
    Case {
        name: "another one in each step of a loop",
        x: &[2, 48],
        w: &[3, 48, 48],
        build: |x, w, _| {
            let steps = ScanOptions::default();
            scan(x.graph(), &[x], &[w], &[], steps, |c, w, _| (vec![c[0].matmul(numbers(w[0])) * 0.1], vec![])).0[0]
        },
        computed: false,
    },
    Case { name: "many rows", x: &[80, 64], w: &[64, 48], build: |x, w, _| x.matmul(numbers(w)), computed: false },
    Case {
        name: "read by others too",
        x: &[2, 64],
        w: &[64, 48],
        build: |x, w, _| x.matmul(numbers(w)) + numbers(w).sum_all(),
        computed: false,
    },
    Case {
        name: "a row for all",
        x: &[2, 64],
        w: &[64, 48],
        build: |x, w, scale| x.matmul(numbers(w) * (scale + x.slice(0, 0, 1).reshape([64, 1]))),
        computed: false,
    },
    Case {
        name: "of two tensors of numbers",
        x: &[64, 64],
        w: &[4, 64],
        build: |x, w, _| numbers(w).matmul(x * (x.t() + 0.5)),
        computed: false,
    },
];

impl Case {
    fn graph(&self) -> Graph {
        let graph = Graph::new();
        let x = graph.input("x", self.x, DType::F32);
        let (w, scale) = (graph.input("w", self.w, DType::U8), graph.input("scale", [], DType::F32));
        graph.output("y", (self.build)(x, w, scale));
        graph.error().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        graph
    }

    fn data(&self) -> (Vec<f32>, Vec<u8>) {
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        (uniform(0, 1, count(self.x), 1.0), (0..count(self.w)).map(|i| (i * 37 % 251) as u8).collect())
    }
}

const SCALE: f32 = 0.75;

/// Whether every product that reads the numbers computes them.
fn computes(program: &Program) -> bool {
    let products: Vec<_> = program.kernels.iter().filter(|kernel| kernel.name.contains("matmul_")).collect();
    let reads = |kernel: &&Kernel| ["a_computed(", "b_computed("].iter().any(|call| kernel.wgsl.contains(call));
    let rest = program.kernels.iter().any(|kernel| kernel.name == "pointwise");
    assert!(!products.is_empty(), "{program:?}");
    products.iter().any(reads) && !rest
}

#[test]
fn operands_are_computed_where_few_read_them_and_are_right() {
    let device = crate::device();
    let gpu = Profile { class: AdapterClass::Discrete, subgroup: None, ..device.profile().clone() };
    for (case, profile) in CASES.iter().flat_map(|case| [(case, device.profile()), (case, &gpu)]) {
        let (graph, (x, w)) = (case.graph(), case.data());
        let program = lower("product", &graph, &StateLayout::default(), profile).expect(case.name);
        assert_eq!(computes(&program), case.computed, "{}", case.name);
        let mut session = Session::new(&device, StateLayout::default(), vec![program]).expect(case.name);
        session.write_input(0, "x", bytemuck::cast_slice(&x)).expect(case.name);
        // Whole words are fed.
        let words = [&w[..], &[0; 3]].concat();
        session.write_input(0, "w", &words[..w.len().next_multiple_of(4)]).expect(case.name);
        if session.program(0).scalars.iter().any(|scalar| scalar.name == "scale") {
            session.write_scalar(0, "scale", SCALE.to_bits()).expect(case.name);
        }
        let ticket = session.run(&[0]).expect(case.name);
        let found = session.fetch(ticket).expect(case.name).f32("y").expect(case.name);
        let inputs = HashMap::from([
            ("x".to_string(), Array::floats(case.x, &x)),
            ("w".to_string(), Array::new(case.w, DType::U8, w.iter().map(|&byte| f64::from(byte)).collect())),
            ("scale".to_string(), Array::floats([], &[SCALE])),
        ]);
        let wanted = reference::run(&graph, &inputs, &HashMap::new()).expect(case.name).outputs.remove(0).1;
        assert_eq!(found.len(), wanted.data.len(), "{}", case.name);
        let size = wanted.data.iter().fold(1.0f64, |most, y| most.max(y.abs()));
        for (at, (found, wanted)) in found.iter().zip(&wanted.data).enumerate() {
            let off = (f64::from(*found) - wanted).abs();
            assert!(off <= 1e-5 * size, "{}, element {at}: {found}, should be {wanted}", case.name);
        }
    }
}

/// What one product reads of halves in a state, with all else that `build` adds; only compiled.
fn of_state(build: for<'g> fn(&'g Graph, Tensor<'g>)) -> Program {
    let graph = Graph::new();
    let w = graph.state("w", [64, 48], DType::F16);
    graph.output("y", graph.input("x", [2, 64], DType::F32).matmul(numbers(w)));
    build(&graph, w);
    let ty = TensorType::new([64, 48], DType::F16);
    let spec = StateSpec { name: "w".into(), ty, category: Category::Other, group: "w".into() };
    let profile = Profile::baseline();
    let layout = StateLayout::build(&[spec], profile.max_binding_bytes).expect("fits");
    lower("product", &graph, &layout, &profile).expect("compiles")
}

#[test]
fn what_leaves_the_program_or_is_overwritten_is_stored() {
    assert!(computes(&of_state(|_, _| {})));
    assert!(!computes(&of_state(|graph, w| graph.output("numbers", numbers(w)))));
    assert!(!computes(&of_state(|graph, _| {
        graph.assign("w", graph.input("new", [64, 48], DType::F32).cast(DType::F16));
    })));
}
