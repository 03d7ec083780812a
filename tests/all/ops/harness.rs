//! What a row of the op table is put through: the device against the f64 reference in values and
//! gradients, the reference's gradients against central differences.
//!
//! All samples of a row are traced into one program, so that a row costs one session.

use std::collections::HashMap;
use wgrad::autodiff::vjp;
use wgrad::dtype::DType;
use wgrad::gpu::{Device, Results, Session};
use wgrad::graph::{Graph, Tensor, TensorType};
use wgrad::lower::{lower, unpacked};
use wgrad::program::{Io, Program, StateLayout};
use wgrad::random::Stream;
use wgrad::reference::{Array, eval};
use wgrad::shape::Shape;

/// How an input of a sample is drawn.
#[derive(Clone)]
pub struct Draw {
    pub shape: Shape,
    pub dtype: DType,
    pub low: f64,
    pub high: f64,
}

pub fn f32s(shape: &[usize], low: f64, high: f64) -> Draw {
    Draw { shape: shape.into(), dtype: DType::F32, low, high }
}

/// Integers from `low` up to but not `high`.
pub fn i32s(shape: &[usize], low: i32, high: i32) -> Draw {
    Draw { shape: shape.into(), dtype: DType::I32, low: f64::from(low), high: f64::from(high) }
}

pub type Build = Box<dyn for<'g> Fn(&[Tensor<'g>]) -> Tensor<'g>>;

/// One use of an operation.
pub struct Sample {
    pub inputs: Vec<Draw>,
    pub build: Build,
    /// Whether float inputs get gradients.
    pub gradient: bool,
    /// Whether the reference's gradients are held against central differences.
    pub differences: bool,
    /// Relative and absolute tolerance of values; sums scale the absolute one by their size.
    pub tolerance: (f64, f64),
}

pub fn sample(inputs: &[Draw], build: impl for<'g> Fn(&[Tensor<'g>]) -> Tensor<'g> + 'static) -> Sample {
    let build = Box::new(build);
    Sample { inputs: inputs.to_vec(), build, gradient: true, differences: true, tolerance: (1.3e-6, 1e-5) }
}

impl Sample {
    pub fn no_gradient(mut self) -> Sample {
        self.gradient = false;
        self
    }

    /// At a point where the slopes on both sides differ.
    pub fn no_differences(mut self) -> Sample {
        self.differences = false;
        self
    }

    /// For sums of `k` products of numbers up to `size`: `2 k 2^-24 size`. Errors of a sum grow with the
    /// root of `k` times the partial sums, which of numbers of both signs grow with its root too.
    pub fn sums(mut self, k: usize, size: f64) -> Sample {
        self.tolerance.1 = self.tolerance.1.max(2.0 * k as f64 * 2f64.powi(-24) * size);
        self
    }

    pub fn tolerance(mut self, relative: f64, absolute: f64) -> Sample {
        self.tolerance = (relative, absolute);
        self
    }
}

/// The random array of an input.
pub fn draw(draw: &Draw, stream: u32) -> Array {
    let ty = TensorType { shape: draw.shape.clone(), dtype: draw.dtype };
    let values = Stream::new(17, stream).uniform(draw.shape.numel(), 0.0, 1.0);
    let scale = |x: f32| draw.low + f64::from(x) * (draw.high - draw.low);
    let data = values
        .into_iter()
        .map(|x| match draw.dtype {
            DType::F32 => f64::from(scale(x) as f32),
            DType::Bool => f64::from(u8::from(x > 0.5)),
            _ => scale(x).floor().min(draw.high - 1.0),
        })
        .collect();
    Array { ty, data }
}

/// Device words of an array.
pub fn words(array: &Array) -> Vec<u8> {
    let word = |x: f64| match array.ty.dtype {
        DType::F32 | DType::F16 | DType::BF16 => (x as f32).to_bits(),
        DType::I32 => x as i32 as u32,
        DType::U32 | DType::Bool | DType::U8 => x as u32,
    };
    if array.ty.dtype == DType::U8 {
        let mut bytes: Vec<u8> = array.data.iter().map(|&x| x as u8).collect();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        return bytes;
    }
    array.data.iter().flat_map(|&x| word(x).to_le_bytes()).collect()
}

/// What the device computed, as f64.
pub fn decode(bytes: &[u8], dtype: DType) -> Vec<f64> {
    let words = bytes.chunks_exact(4).map(|chunk| u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
    words
        .map(|word| match dtype {
            DType::F32 | DType::F16 | DType::BF16 => f64::from(f32::from_bits(word)),
            DType::I32 => f64::from(word as i32),
            DType::U32 | DType::Bool | DType::U8 => f64::from(word),
        })
        .collect()
}

/// The first element that is too far off, as a message.
pub fn compare(what: &str, got: &[f64], want: &[f64], (relative, absolute): (f64, f64)) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{what}: {} elements instead of {}", got.len(), want.len()));
    }
    let off = |(got, want): (&f64, &f64)| match got == want || (got.is_nan() && want.is_nan()) {
        true => f64::NEG_INFINITY,
        // An infinity or a NaN in one of them only is no small difference.
        false if got.is_finite() != want.is_finite() || !want.is_finite() => f64::INFINITY,
        false => (got - want).abs() - (absolute + relative * want.abs()),
    };
    let worst = got.iter().zip(want).enumerate().max_by(|a, b| off(a.1).total_cmp(&off(b.1)));
    match worst {
        Some((index, (got, want))) if off((got, want)) > 0.0 => {
            Err(format!("{what}: element {index} is {got}, should be {want} (rtol {relative:e}, atol {absolute:e})"))
        }
        _ => Ok(()),
    }
}

pub struct Traced<'g> {
    output: Tensor<'g>,
    inputs: Vec<Tensor<'g>>,
    /// Weights of the output in the scalar whose gradient is taken.
    seed: Option<Tensor<'g>>,
    gradients: Vec<Tensor<'g>>,
}

fn trace<'g>(graph: &'g Graph, index: usize, sample: &Sample) -> Traced<'g> {
    let inputs: Vec<Tensor<'g>> = sample
        .inputs
        .iter()
        .enumerate()
        .map(|(i, draw)| graph.input(&format!("s{index}.x{i}"), &draw.shape, draw.dtype))
        .collect();
    let output = (sample.build)(&inputs);
    let mut traced = Traced { output, inputs, seed: None, gradients: vec![] };
    if sample.gradient && output.dtype() == DType::F32 {
        let seed = graph.input(&format!("s{index}.seed"), output.shape(), DType::F32);
        let floats: Vec<Tensor<'g>> = traced.inputs.iter().copied().filter(|x| x.dtype() == DType::F32).collect();
        traced.gradients = vjp(&[(output, seed)], &floats).unwrap_or_else(|error| panic!("sample {index}: {error}"));
        traced.seed = Some(seed);
    }
    traced
}

/// All samples of a row in one graph, with numbers for their inputs and what the reference makes of them.
pub struct Prepared<'g> {
    graph: &'g Graph,
    traced: Vec<Traced<'g>>,
    pub feeds: HashMap<String, Array>,
    reference: HashMap<String, Array>,
}

/// Traces the samples of a row into an empty graph, whose outputs are their values and gradients.
pub fn trace_all<'g>(name: &str, samples: &[Sample], graph: &'g Graph) -> Vec<Traced<'g>> {
    let traced: Vec<Traced<'g>> =
        samples.iter().enumerate().map(|(index, sample)| trace(graph, index, sample)).collect();
    graph.error().unwrap_or_else(|error| panic!("{name}: {error}"));
    for (index, traced) in traced.iter().enumerate() {
        graph.output(&format!("s{index}.y"), traced.output);
        for (i, gradient) in traced.gradients.iter().enumerate() {
            graph.output(&format!("s{index}.g{i}"), *gradient);
        }
    }
    traced
}

/// Traces the samples of a row into an empty graph, and lets the reference compute them.
pub fn prepare<'g>(name: &str, samples: &[Sample], graph: &'g Graph) -> Prepared<'g> {
    let traced = trace_all(name, samples, graph);
    let mut feeds = HashMap::new();
    for (index, (sample, traced)) in samples.iter().zip(&traced).enumerate() {
        for (i, input) in sample.inputs.iter().enumerate() {
            feeds.insert(format!("s{index}.x{i}"), draw(input, (index * 16 + i) as u32));
        }
        if let Some(seed) = traced.seed {
            let range = f32s(&seed.shape(), -1.0, 1.0);
            feeds.insert(format!("s{index}.seed"), draw(&range, (index * 16 + 15) as u32));
        }
    }
    let (names, wanted): (Vec<_>, Vec<_>) = graph.outputs().into_iter().unzip();
    let expected =
        eval(graph, &wanted, &feeds, &HashMap::new()).unwrap_or_else(|error| panic!("{name}: reference: {error}"));
    let reference = names.iter().map(|name| name.to_string()).zip(expected).collect();
    Prepared { graph, traced, feeds, reference }
}

impl Prepared<'_> {
    /// What a device computed that the reference did not.
    pub fn failures(&self, name: &str, samples: &[Sample], device: &HashMap<String, Vec<f64>>) -> Vec<String> {
        let mut failures = Vec::new();
        for (index, (sample, traced)) in samples.iter().zip(&self.traced).enumerate() {
            let label = label(name, index, sample);
            let mut held = |what: String, key: String, tolerance| {
                let verdict =
                    compare(&format!("{label}: {what}"), &device[&key], &self.reference[&key].data, tolerance);
                failures.extend(verdict.err());
            };
            held("value".into(), format!("s{index}.y"), sample.tolerance);
            for i in 0..traced.gradients.len() {
                held(format!("gradient {i}"), format!("s{index}.g{i}"), (1e-4, 1e-5f64.max(sample.tolerance.1)));
            }
        }
        failures
    }

    /// What the reference's gradients have that its values do not.
    fn slopes(&self, name: &str, samples: &[Sample]) -> Vec<String> {
        let check = |(index, (sample, traced)): (usize, (&Sample, &Traced<'_>))| {
            let label = label(name, index, sample);
            central_differences(&label, self.graph, traced, index, &self.feeds, &self.reference).err()
        };
        samples
            .iter()
            .zip(&self.traced)
            .enumerate()
            .filter(|(_, (sample, _))| sample.differences)
            .filter_map(check)
            .collect()
    }
}

fn label(name: &str, index: usize, sample: &Sample) -> String {
    let shapes: Vec<_> = sample.inputs.iter().map(|draw| draw.shape.to_string()).collect();
    format!("{name}, sample {index} ({})", shapes.join(", "))
}

/// Puts all samples of a row to the test.
#[cfg(test)]
pub fn check(name: &str, samples: &[Sample]) {
    assert!(samples.len() >= 8, "{name}: too few samples");
    let graph = Graph::new();
    let prepared = prepare(name, samples, &graph);
    let device = run_on_device(name, &graph, &prepared.feeds);
    let mut failures = prepared.failures(name, samples, &device);
    failures.extend(prepared.slopes(name, samples));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What the device computes. Twice: with values packed into shared memory, as always, and with a buffer for each, full of NaN
/// before the first of it is written. A kernel that reads what nobody has written, where another value has been, shows so.
#[cfg(test)]
pub fn run_on_device(name: &str, graph: &Graph, feeds: &HashMap<String, Array>) -> HashMap<String, Vec<f64>> {
    let (device, layout) = (crate::device(), StateLayout::default());
    let packed = lower(name, graph, &layout, device.profile()).unwrap_or_else(|error| panic!("{name}: {error}"));
    crate::legality::check(&packed);
    let apart = unpacked(name, graph, &layout, device.profile()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let outputs = packed.outputs.clone();
    let [packed, apart] = [packed, apart].map(|program| {
        pollster::block_on(run(&device, program, feeds)).unwrap_or_else(|error| panic!("{name}: {error}"))
    });
    for output in &outputs {
        let bytes = |results: &Results| results.bytes(&output.name).expect("an output").to_vec();
        assert!(bytes(&packed) == bytes(&apart), "{name}: `{}` depends on where values lie", output.name);
    }
    decoded(&outputs, &packed)
}

/// The outputs of a program without state, on any target.
pub async fn run(device: &Device, program: Program, feeds: &HashMap<String, Array>) -> wgrad::Result<Results> {
    let fed: Vec<String> = program.inputs.iter().map(|io| io.name.clone()).collect();
    let scalars: Vec<String> = program.scalars.iter().map(|scalar| scalar.name.clone()).collect();
    let mut session = Session::new_async(device, StateLayout::default(), vec![program]).await?;
    for input in fed {
        session.write_input(0, &input, &words(&feeds[&input]))?;
    }
    for scalar in scalars {
        let bytes = words(&feeds[&scalar]);
        session.write_scalar(0, &scalar, u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))?;
    }
    let ticket = session.run(&[0])?;
    session.fetch_async(ticket).await
}

/// Results by name, as f64.
pub fn decoded(outputs: &[Io], results: &Results) -> HashMap<String, Vec<f64>> {
    let value = |io: &Io| (io.name.clone(), decode(results.bytes(&io.name).expect("an output"), io.dtype));
    outputs.iter().map(value).collect()
}

/// A central difference of the weighted output in a few elements of each float input.
fn central_differences(
    label: &str,
    graph: &Graph,
    traced: &Traced<'_>,
    index: usize,
    feeds: &HashMap<String, Array>,
    reference: &HashMap<String, Array>,
) -> Result<(), String> {
    let Some(seed) = traced.seed else { return Ok(()) };
    let weights = &feeds[&format!("s{index}.seed")].data;
    assert_eq!(weights.len(), seed.shape().numel());
    let weighted = |feeds: &HashMap<String, Array>| -> f64 {
        let output = &eval(graph, &[traced.output.value()], feeds, &HashMap::new()).expect("evaluates")[0];
        output.data.iter().zip(weights).map(|(y, w)| y * w).sum()
    };
    let mut gradient = 0;
    for (i, input) in traced.inputs.iter().enumerate() {
        if input.dtype() != DType::F32 {
            continue;
        }
        let size = input.shape().numel();
        let exact = &reference[&format!("s{index}.g{gradient}")].data;
        gradient += 1;
        for pick in 0..size.min(if size > 5000 { 1 } else { 3 }) {
            let element = (pick * 7919) % size;
            let key = format!("s{index}.x{i}");
            let step = 1e-6;
            let moved = |by: f64| {
                let mut feeds = feeds.clone();
                if let Some(array) = feeds.get_mut(&key) {
                    array.data[element] += by;
                }
                weighted(&feeds)
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            let bound = 1e-5 + 1e-3 * exact[element].abs();
            if (slope - exact[element]).abs() > bound.max(1e-9 * weights.len() as f64) {
                return Err(format!(
                    "{label}: the gradient of input {i} at {element} is {}, central differences give {slope}",
                    exact[element]
                ));
            }
        }
    }
    Ok(())
}

/// A graph that must be refused, with words in the message.
pub fn refused(words: &[&str], build: impl for<'g> Fn(&'g Graph)) {
    let graph = Graph::new();
    build(&graph);
    let message = match graph.error() {
        Ok(()) => panic!("should have been refused with a message about {words:?}"),
        Err(error) => error.to_string(),
    };
    for word in words {
        assert!(message.contains(word), "the message should mention `{word}`: {message}");
    }
}
