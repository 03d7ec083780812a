//! Operations on tensors beyond the binding limit: computed in parts, they give what the reference gives of the whole.

use super::harness::{Draw, Sample, compare, decode, draw, f32s, words};
use std::collections::{BTreeMap, HashMap};
use wgrad::autodiff::vjp;
use wgrad::dtype::DType;
use wgrad::gpu::Session;
use wgrad::graph::{Graph, Tensor, TensorType};
use wgrad::kernels::Profile;
use wgrad::lower::lower;
use wgrad::program::{Category, Program, StateLayout, StateSpec};
use wgrad::reference::{Array, run};
use wgrad::tensor::ConvOptions;
use wgrad::{Error, ErrorKind};

/// Small enough that the rows' samples exceed it, and as large as a buffer of scalars.
const LIMIT: u64 = 1024;
/// Larger samples say nothing more and take long.
const MOST: u64 = 12 << 10;
/// Samples of one session.
const TOGETHER: usize = 24;

/// Traces a sample whose operands and results are states: they may exceed a binding.
fn trace(graph: &Graph, index: usize, sample: &Sample) -> BTreeMap<String, Draw> {
    let mut states = BTreeMap::new();
    let mut state = |name: String, draw: Draw| {
        let tensor = graph.state(&name, &draw.shape, draw.dtype);
        states.insert(name, draw);
        tensor.value()
    };
    let operands = sample.inputs.iter().enumerate().map(|(i, draw)| state(format!("s{index}.x{i}"), draw.clone()));
    let x: Vec<Tensor<'_>> = operands.map(|value| Tensor::new(graph, value)).collect();
    let y = (sample.build)(&x);
    let mut results = vec![(format!("s{index}.y"), y)];
    if sample.gradient && y.dtype() == DType::F32 {
        let seed = state(format!("s{index}.seed"), f32s(&y.shape(), -1.0, 1.0));
        let floats: Vec<Tensor<'_>> = x.iter().copied().filter(|x| x.dtype() == DType::F32).collect();
        let gradients = vjp(&[(y, Tensor::new(graph, seed))], &floats).expect("a gradient");
        results.extend(gradients.into_iter().enumerate().map(|(i, gradient)| (format!("s{index}.g{i}"), gradient)));
    }
    for (name, result) in results {
        states.insert(name.clone(), Draw { shape: result.shape(), dtype: result.dtype(), low: 0.0, high: 1.0 });
        graph.assign(&name, result);
    }
    states
}

fn layout(states: &BTreeMap<String, Draw>) -> Result<StateLayout, Error> {
    let spec = |(name, draw): (&String, &Draw)| StateSpec {
        name: name.clone(),
        ty: TensorType::new(&draw.shape, draw.dtype),
        category: Category::Other,
        // Each alone, since a kernel may read one and write another.
        group: name.clone(),
    };
    StateLayout::build(&states.iter().map(spec).collect::<Vec<_>>(), LIMIT)
}

fn profile() -> Profile {
    Profile { max_binding_bytes: LIMIT, ..super::super::device().profile().clone() }
}

fn compiled(
    graph: &Graph,
    states: &BTreeMap<String, Draw>,
    profile: &Profile,
) -> Result<(StateLayout, Program), Error> {
    let layout = layout(states)?;
    let program = lower("parts", graph, &layout, profile)?;
    Ok((layout, program))
}

/// The samples that have something to split, and can be.
fn in_parts(samples: Vec<Sample>) -> (Vec<Sample>, Vec<String>) {
    let (mut taken, mut refused, profile) = (Vec::new(), Vec::new(), profile());
    for sample in samples {
        let graph = Graph::new();
        let states = trace(&graph, 0, &sample);
        let largest = states.values().map(|draw| draw.dtype.bytes(&draw.shape)).max().unwrap_or(0);
        let odd = states.values().any(|draw| draw.dtype.per_word() > 1);
        if largest <= LIMIT || largest > MOST || odd || layout(&states).is_err() {
            continue;
        }
        match compiled(&graph, &states, &profile).map_err(Error::into_kind) {
            Ok(_) => taken.push(sample),
            Err(ErrorKind::Memory(message)) => refused.push(message),
            Err(kind) => panic!("{kind}\n{}", graph.to_text()),
        }
    }
    (taken, refused)
}

#[test]
fn operations_in_parts_agree_with_the_reference() {
    let samples: Vec<Sample> =
        super::structural_rows().into_iter().flat_map(|(_, rows)| rows).chain(larger()).collect();
    let (samples, refused) = in_parts(samples);
    println!("{} samples in parts, {} refused:\n{}", samples.len(), refused.len(), refused.join("\n"));
    let mut covered: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for samples in samples.chunks(TOGETHER) {
        let graph = Graph::new();
        let mut states = BTreeMap::new();
        for (index, sample) in samples.iter().enumerate() {
            states.extend(trace(&graph, index, sample));
        }
        graph.nodes().iter().for_each(|node| *covered.entry(node.op.name().to_string()).or_default() += 1);
        failures.extend(failures_of(&graph, samples, &states));
    }
    println!("{covered:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(samples.len() > 45, "only {} samples", samples.len());
    for op in ["matmul", "gather", "scatter_add", "softmax", "cross_entropy", "rms_norm_grad", "conv", "max_pool"] {
        assert!(covered.contains_key(op), "`{op}` is not among {covered:?}");
    }
}

fn failures_of(graph: &Graph, samples: &[Sample], states: &BTreeMap<String, Draw>) -> Vec<String> {
    let (layout, program) = compiled(graph, states, &profile()).expect("each compiles alone");
    super::super::legality::check(&program);
    for dispatch in program.each_dispatch() {
        assert!(dispatch.bindings.iter().all(|binding| binding.bytes <= LIMIT), "{}", dispatch.label);
    }
    let device = super::super::device();
    let mut session = Session::new(&device, layout, vec![program]).expect("legal");
    let values: HashMap<String, Array> =
        states.iter().enumerate().map(|(stream, (name, how))| (name.clone(), draw(how, stream as u32))).collect();
    for (name, value) in &values {
        session.write_state(name, &words(value)).expect("the declared size");
    }
    session.run_unread(&[0]).expect("runs");
    let wanted = run(graph, &HashMap::new(), &values).expect("evaluates").states;
    let mut failures = Vec::new();
    for (name, wanted) in wanted {
        let index: usize = name[1..].split('.').next().and_then(|index| index.parse().ok()).expect("a sample");
        let got = decode(&session.read_state(&name).expect("reads back"), wanted.ty.dtype);
        let (relative, absolute) = samples[index].tolerance;
        // Sums over parts are added up in another order.
        let tolerance = if name.contains(".y") { (relative.max(4e-6), absolute) } else { (1e-4, absolute.max(1e-5)) };
        let ops: Vec<String> = samples[index].inputs.iter().map(|draw| draw.shape.to_string()).collect();
        failures.extend(compare(&format!("{name} of {}", ops.join(", ")), &got, &wanted.data, tolerance).err());
    }
    failures
}

/// What the rows have only small samples of, or none whose rows fit.
fn larger() -> Vec<Sample> {
    use super::harness::{i32s, sample};
    let u = |shape: &[usize]| f32s(shape, -1.0, 1.0);
    vec![
        // A tied table: looked up, and a product of its transpose, with the loss behind it.
        sample(&[u(&[44, 12]), i32s(&[6, 5], -2, 46)], |x| {
            let h = x[0].gather(x[1]).tanh();
            h.matmul(x[0].t()).reshape([30, 44]).cross_entropy(x[1].reshape([30]))
        })
        .no_differences(),
        sample(&[u(&[40, 24]), u(&[24, 36])], |x| x[0].matmul(x[1]).softmax(-1)),
        sample(&[u(&[3, 20, 8]), u(&[3, 8, 24]), u(&[24])], |x| x[0].matmul(x[1]).layer_norm(x[2], x[2], 1e-5)),
        sample(&[u(&[64, 9])], |x| x[0].t().reshape([3, 3, 64]).exp().sum(&[1])),
        sample(&[u(&[16, 40])], |x| x[0].reshape([4, 4, 40]).permute(&[1, 0, 2]).sin().reshape([16, 40])),
        sample(&[u(&[40, 16]), u(&[40, 16])], |x| wgrad::tensor::concat(x[0], &[x[1]], 0).cumsum(1)),
        sample(&[u(&[48, 16])], |x| x[0].slice(0, 5, 43).max(&[0])),
        sample(&[u(&[6, 8, 8, 8]), u(&[8, 8, 3, 3])], |x| x[0].conv2d(x[1], ConvOptions::new().padding(1))),
    ]
}
