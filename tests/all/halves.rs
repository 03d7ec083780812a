//! Half precision as storage: rounding bit by bit as the crate `half` does it, every operation on halves, and their bytes.

use std::collections::HashMap;
use wgrad::dtype::DType;
use wgrad::gpu::Session;
use wgrad::graph::{Graph, Tensor};
use wgrad::kernels::Profile;
use wgrad::lower::{lower, unpacked};
use wgrad::program::StateLayout;
use wgrad::random::Stream;
use wgrad::reference::{Array, eval};
use wgrad::train::workloads::{Workload, setup};

/// Runs a graph of one input `x` on the device: the bytes of its outputs.
fn run(graph: &Graph, x: &[f32]) -> HashMap<String, Vec<u8>> {
    let device = crate::device();
    let program = lower("halves", graph, &StateLayout::default(), device.profile()).expect("compiles");
    let names: Vec<String> = program.outputs.iter().map(|output| output.name.clone()).collect();
    let mut session = Session::new(&device, StateLayout::default(), vec![program]).expect("allocates");
    session.write_input(0, "x", &x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).expect("fits");
    let ticket = session.run(&[0]).expect("runs");
    let results = session.fetch(ticket).expect("comes back");
    names.into_iter().map(|name| (name.clone(), results.bytes(&name).expect("an output").to_vec())).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

/// Numbers of every size, both signs, and those around which rounding turns.
fn numbers() -> Vec<f32> {
    let draws = Stream::new(3, 0).uniform(4000, -1.0, 1.0);
    let exponents = Stream::new(3, 1).uniform(4000, -28.0, 18.0);
    let mut numbers: Vec<f32> = draws.iter().zip(exponents).map(|(x, e)| x * e.exp2()).collect();
    for edge in [0.0f32, 65_504.0, 65_519.99, 65_520.0, 65_536.0, 6e-8, 2.98e-8, 2.99e-8, 6.1e-5, 6.097e-5, 1.0, 3.0e38]
    {
        numbers.extend([edge, -edge, edge * (1.0 + 1.0 / 2048.0), -edge * (1.0 + 1.0 / 256.0)]);
    }
    // Exactly between two halves: to the even one.
    numbers.extend((0..64).map(|i| 1.0 + (i as f32 + 0.5) / 1024.0));
    numbers.extend((0..64).map(|i| 1.0 + (i as f32 + 0.5) / 128.0));
    numbers.resize(numbers.len().next_multiple_of(4), 0.5);
    numbers
}

#[test]
fn numbers_are_rounded_and_packed_as_the_standard_says() {
    let numbers = numbers();
    let graph = Graph::new();
    let x = graph.input("x", [numbers.len()], DType::F32);
    for dtype in [DType::F16, DType::BF16] {
        graph.output(&format!("{dtype}"), x.cast(dtype));
        graph.output(&format!("{dtype} back"), x.cast(dtype).cast(DType::F32));
    }
    let got = run(&graph, &numbers);
    let f16: Vec<u8> = numbers.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
    let bf16: Vec<u8> = numbers.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect();
    for (name, wanted) in [("f16", f16), ("bf16", bf16)] {
        assert_eq!(got[name].len(), wanted.len());
        for (index, (a, b)) in got[name].chunks(2).zip(wanted.chunks(2)).enumerate() {
            assert_eq!(a, b, "{name} of {:e}", numbers[index]);
        }
    }
    let back = numbers.iter().map(|&x| half::f16::from_f32(x).to_f32().to_bits());
    assert!(floats(&got["f16 back"]).iter().map(|x| x.to_bits()).eq(back));
    let back = numbers.iter().map(|&x| half::bf16::from_f32(x).to_f32().to_bits());
    assert!(floats(&got["bf16 back"]).iter().map(|x| x.to_bits()).eq(back));
}

type Build = for<'g> fn(Tensor<'g>) -> Tensor<'g>;

#[test]
fn operations_on_halves_compute_in_f32_and_round() {
    // x is [12, 16] in half precision.
    let builds: [Build; 14] = [
        |h| h + h * h,
        |h| h.t(),
        |h| h.t().relu() * 3.0,
        |h| h.slice(1, 4, 12) * h.slice(1, 0, 8),
        |h| h.matmul(h.t()),
        |h| h.sum(&[0]),
        |h| h.max(&[1]),
        |h| h.cast(DType::F32).softmax(-1).cast(h.dtype()),
        |h| wgrad::tensor::concat(h, &[h * 2.0], 0),
        |h| h.gather(h.graph().iota([8], 0)),
        |h| h.cast(DType::F32) - h.exp().cast(DType::F32),
        |h| h.reshape([4, 48]).permute(&[1, 0]),
        |h| h.cast(DType::BF16).cast(DType::F16).cast(DType::F32),
        |h| h.slice(0, 2, 3).broadcast_to([8, 16]).cast(DType::F32),
    ];
    let x = Stream::new(9, 0).uniform(12 * 16, -2.0, 2.0);
    for dtype in [DType::F16, DType::BF16] {
        let graph = Graph::new();
        let half = graph.input("x", [12, 16], DType::F32).cast(dtype);
        for (index, build) in builds.iter().enumerate() {
            graph.output(&format!("{index}"), build(half).cast(DType::F32));
        }
        graph.error().unwrap_or_else(|error| panic!("{dtype}: {error}"));
        let values: Vec<_> = graph.outputs().into_iter().map(|(_, value)| value).collect();
        let feeds = HashMap::from([("x".to_string(), Array::floats([12, 16], &x))]);
        let wanted = eval(&graph, &values, &feeds, &HashMap::new()).expect("evaluates");
        let got = run(&graph, &x);
        // A unit in the last place, on operands that are rounded too; the reference does not round.
        let unit = if dtype == DType::F16 { 1e-3 } else { 8e-3 };
        for (index, wanted) in wanted.iter().enumerate() {
            let got = floats(&got[&index.to_string()]);
            assert_eq!(got.len(), wanted.data.len());
            let size = wanted.data.iter().fold(1.0f64, |most, x| most.max(x.abs()));
            for (got, wanted) in got.iter().zip(&wanted.data) {
                let off = (f64::from(*got) - wanted).abs();
                assert!(off <= 6.0 * unit * size, "{dtype}, row {index}: {got}, should be {wanted}");
            }
        }
    }
}

/// What 704 numbers are made into by products, attention, convolutions and row kernels, read along either axis, at odd
/// elements, and by several batches.
const READERS: [Build; 12] = [
    |a| matrix(a).matmul(matrix(a).t()),
    |a| a.slice(0, 1, 193).reshape([12, 16]).matmul(matrix(a).t()),
    |a| matrix(a).t().matmul(a.slice(0, 3, 123).reshape([12, 10])),
    |a| {
        let left = a.slice(0, 192, 704).reshape([2, 8, 32]);
        left.matmul(a.slice(0, 0, 384).reshape([1, 32, 12]).broadcast_to([2, 32, 12]))
    },
    |a| {
        let q = a.slice(0, 192, 704).reshape([2, 8, 4, 8]);
        q.attention(a.slice(0, 4, 260).reshape([2, 8, 2, 8]), a.slice(0, 128, 384).reshape([2, 8, 2, 8]), true)
    },
    |a| {
        let image = a.slice(0, 0, 512).reshape([2, 4, 8, 8]);
        image.conv(a.slice(0, 512, 656).reshape([4, 4, 3, 3]), &[1, 1], &[[0, 0]; 2], &[1, 1], 1)
    },
    |a| {
        let image = a.slice(0, 0, 512).reshape([2, 4, 8, 8]);
        image.conv(a.slice(0, 512, 548).reshape([4, 1, 3, 3]), &[1, 1], &[[0, 0]; 2], &[1, 1], 4)
    },
    |a| matrix(a).softmax(-1),
    |a| matrix(a).log_softmax(-1),
    |a| matrix(a).layer_norm(a.slice(0, 200, 216), a.slice(0, 220, 236), 1e-5),
    |a| a.slice(0, 0, 70).reshape([7, 10]).rms_norm(a.slice(0, 100, 110), 1e-5),
    |a| a.sum_all() + matrix(a).sum(&[0]).max(&[0]),
];

fn matrix(a: Tensor<'_>) -> Tensor<'_> {
    a.slice(0, 0, 192).reshape([12, 16])
}

/// A result of numbers that are stored as they are or in half precision, and with `gradient` what it gives backwards.
fn reader(build: Build, dtype: DType, gradient: bool) -> Graph {
    let graph = Graph::new();
    let stored = graph.input("x", [704], DType::F32).cast(dtype).cast(DType::F32);
    let y = build(stored);
    graph.output("y", y);
    if gradient {
        let gradients = wgrad::autodiff::grad(y.square().mean_all(), &[stored]).expect("has a gradient");
        graph.output("gradient", gradients[0]);
    }
    graph
}

#[test]
fn kernels_read_halves_where_they_lie_and_give_the_same_bits() {
    let profile = crate::device().profile().clone();
    let draws = Stream::new(21, 0).uniform(704, -2.0, 2.0);
    for dtype in [DType::F16, DType::BF16] {
        // Already rounded, some of them so small that they are subnormal in f16.
        let rounded = |(index, x): (usize, &f32)| {
            let x = if index % 7 == 3 { x * 1e-5 } else { *x };
            if dtype == DType::F16 { half::f16::from_f32(x).to_f32() } else { half::bf16::from_f32(x).to_f32() }
        };
        let x: Vec<f32> = draws.iter().enumerate().map(rounded).collect();
        for (index, build) in READERS.into_iter().enumerate() {
            for gradient in [false, true] {
                let graphs = [DType::F32, dtype].map(|dtype| reader(build, dtype, gradient));
                let [wide, half] = [0, 1].map(|i| run(&graphs[i], &x));
                assert_eq!(wide, half, "{dtype}, row {index}, gradient {gradient}");
                let [wide, half] = [0, 1].map(|i| {
                    let program = lower("reader", &graphs[i], &StateLayout::default(), &profile).expect("compiles");
                    program.dispatches()
                });
                // One more, which rounds; nothing is copied to be read. (A gradient's windows are padded copies.)
                assert!(half <= wide + 1, "{dtype}, row {index}, gradient {gradient}: {half} dispatches, not {wide}");
            }
        }
    }
}

#[test]
fn a_stored_half_takes_two_bytes_and_an_odd_number_of_them_is_refused() {
    let transient = |dtype: DType, shape: [usize; 2]| {
        let graph = Graph::new();
        let x = graph.input("x", shape, DType::F32);
        // Read by a product: it has to lie somewhere.
        let kept = (x * 2.0).cast(dtype);
        graph.output("y", kept.cast(DType::F32).t().matmul(x).sum_all());
        let program = unpacked("halves", &graph, &StateLayout::default(), &Profile::baseline())?;
        Ok::<_, wgrad::Error>(program)
    };
    let texts = [DType::F32, DType::F16].map(|dtype| transient(dtype, [64, 64]).expect("compiles").to_text());
    assert!(texts[1].contains("8192 bytes, transient") && !texts[0].contains("8192 bytes"), "{}", texts[1]);
    let message = transient(DType::F16, [3, 5]).map(|_| ()).expect_err("odd").to_string();
    assert!(message.contains("four at a time") && message.contains("[3, 5]"), "{message}");
}

#[test]
fn kernels_of_halves_are_legal_everywhere() {
    for (_, profile) in crate::legality::profiles() {
        let graph = Graph::new();
        let x = graph.input("x", [32, 16], DType::F32);
        for dtype in [DType::F16, DType::BF16] {
            let half = x.gelu().cast(dtype);
            graph.output(&format!("a {dtype}"), half.matmul(half.t()));
            graph.output(&format!("b {dtype}"), half.t().cast(DType::F32) * x.t());
        }
        let program = lower("halves", &graph, &StateLayout::default(), &profile).expect("compiles");
        crate::legality::check(&program);
    }
}

#[test]
fn activations_saved_in_half_take_less_memory_and_leave_the_losses() {
    let device = crate::device();
    for (workload, steps) in [(Workload::W2, 12), (Workload::W4, 6)] {
        let plan = |dtype: DType| {
            let setup = setup(workload, 0).expect("a workload");
            setup.trainer.save_activations(dtype).plan(&Profile::baseline(), &setup.loss).expect("compiles").memory
        };
        let [full, half] = [DType::F32, DType::BF16].map(|dtype| plan(dtype).transient);
        let losses = |dtype: DType| -> Vec<f32> {
            let setup = setup(workload, 0).expect("a workload");
            let mut trainer = setup.trainer.save_activations(dtype).build(&device, setup.loss).expect("compiles");
            (0..steps).map(|_| trainer.step(&setup.batch).expect("trains").loss).collect()
        };
        let wanted = losses(DType::F32);
        for dtype in [DType::F16, DType::BF16] {
            let got = losses(dtype);
            // The first loss is that of the same weights, computed in the same way.
            assert_eq!(got[0], wanted[0], "{workload}, {dtype}");
            for (step, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
                let off = (got - wanted).abs();
                assert!(off <= 0.01 * wanted + 1e-3, "{workload}, {dtype}, step {step}: {got}, not {wanted}");
            }
        }
        assert!(workload != Workload::W4 || half * 10 < full * 9, "{workload}: {full} and {half} bytes");
    }
    let setup = setup(Workload::W2, 0).expect("a workload");
    let refused = setup.trainer.save_activations(DType::I32).plan(&Profile::baseline(), &setup.loss);
    assert!(refused.map(|_| ()).expect_err("no float").to_string().contains("not in i32"));
}
