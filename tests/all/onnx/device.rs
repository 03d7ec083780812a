//! The node suite on the device: cases that pass on the reference, many in one program.

use super::super::ops::harness::{decode, words};
use super::cases::{self, Case, Loaded, Verdict};
use super::suite;
use std::collections::HashMap;
use wgrad::dtype::DType;
use wgrad::gpu::{Device, Session};
use wgrad::graph::{Graph, Tensor};
use wgrad::lower::lower;
use wgrad::program::{Category, StateLayout, StateSpec};
use wgrad::reference::Array;

/// Cases in one program.
const TOGETHER: usize = 40;
/// One in so many cases runs by default; the others take turns in the nightly tests.
const PART: usize = 8;
/// Sums in f32 of numbers around 1, and functions whose error WGSL bounds absolutely.
const ABSOLUTE: f64 = 2e-5;

/// Runs cases in one program; what is wrong with their answers.
fn run(device: &Device, cases: &[(Case, Loaded)]) -> Vec<String> {
    let graph = Graph::new();
    let (mut feeds, mut states): (HashMap<String, Array>, HashMap<String, Array>) = Default::default();
    let mut outputs: Vec<Vec<Tensor<'_>>> = Vec::new();
    for (index, (case, loaded)) in cases.iter().enumerate() {
        let placed =
            cases::place(&graph, loaded, &format!("{index}/")).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        for (number, output) in placed.outputs.iter().enumerate() {
            graph.output(&format!("{index}/out{number}"), *output);
        }
        outputs.push(placed.outputs);
        feeds.extend(placed.feeds);
        states.extend(placed.states);
    }
    let specs: Vec<StateSpec> = states
        .iter()
        .map(|(name, array)| StateSpec {
            name: name.clone(),
            ty: array.ty.clone(),
            category: Category::Weights,
            group: "frozen".into(),
        })
        .collect();
    let layout = StateLayout::build(&specs, 128 << 20).expect("fits");
    let names: Vec<&str> = cases.iter().map(|(case, _)| case.name.as_str()).collect();
    let program = lower("onnx", &graph, &layout, device.profile()).unwrap_or_else(|e| panic!("{names:?}: {e}"));
    let results: Vec<(String, DType)> = program.outputs.iter().map(|io| (io.name.clone(), io.dtype)).collect();
    let inputs: Vec<String> = program.inputs.iter().map(|io| io.name.clone()).collect();
    let scalars: Vec<String> = program.scalars.iter().map(|scalar| scalar.name.clone()).collect();
    let mut session = Session::new(device, layout, vec![program]).unwrap_or_else(|e| panic!("{names:?}: {e}"));
    for (name, array) in &states {
        session.write_state(name, &words(array)).expect("a state");
    }
    for name in &inputs {
        session.write_input(0, name, &words(&feeds[name])).expect("an input");
    }
    for name in &scalars {
        let word: [u8; 4] = words(&feeds[name]).try_into().expect("one word");
        session.write_scalar(0, name, u32::from_le_bytes(word)).expect("a scalar");
    }
    let ticket = session.run(&[0]).unwrap_or_else(|e| panic!("{names:?}: {e}"));
    let bytes = session.fetch(ticket).unwrap_or_else(|e| panic!("{names:?}: {e}"));
    let got: HashMap<String, Vec<f64>> = results
        .into_iter()
        .map(|(name, dtype)| (name.clone(), decode(bytes.bytes(&name).expect("an output"), dtype)))
        .collect();
    let mut wrong = Vec::new();
    for (index, (case, loaded)) in cases.iter().enumerate() {
        let arrays: Vec<Array> = outputs[index]
            .iter()
            .zip(&loaded.outputs)
            .enumerate()
            .map(|(number, (output, want))| {
                let mut data = got[&format!("{index}/out{number}")].clone();
                // A device may treat infinities and NaN as it likes.
                data.iter_mut()
                    .zip(&want.data)
                    .filter(|(_, want)| !want.is_finite())
                    .for_each(|(own, want)| *own = *want);
                Array::new(output.shape(), output.dtype(), data)
            })
            .collect();
        let case = Case { atol: case.atol.max(ABSOLUTE), ..case.clone() };
        if let Verdict::Wrong(message) = cases::compare(&case, &arrays, &loaded.outputs) {
            wrong.push(format!("{}: {message}", case.name));
        }
    }
    wrong
}

/// Cases whose inputs hold infinities or NaN, which a device may treat as it likes.
fn finite(loaded: &Loaded) -> bool {
    loaded.inputs.iter().all(|(_, array)| array.data.iter().all(|value| value.is_finite()))
}

fn run_part(pick: impl Fn(usize) -> bool) {
    let Some(folder) = cases::folder() else { return };
    let listed = suite::listed();
    let device = crate::device();
    let chosen: Vec<(Case, Loaded)> = cases::all(&folder)
        .into_iter()
        .filter(|case| listed.contains(&case.name))
        .enumerate()
        .filter(|(number, _)| pick(*number))
        .filter_map(|(_, case)| cases::load(&case, 0).ok().map(|loaded| (case, loaded)))
        .filter(|(_, loaded)| finite(loaded) && !loaded.outputs.is_empty())
        .collect();
    eprintln!("{} cases on the device", chosen.len());
    let wrong: Vec<String> = chosen.chunks(TOGETHER).flat_map(|batch| run(&device, batch)).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} cases are wrong on the device:\n{}",
        wrong.len(),
        chosen.len(),
        wrong.join("\n")
    );
}

#[test]
fn part_of_the_node_suite_on_the_device() {
    run_part(|number| number % PART == 0);
}

#[test]
#[ignore = "minutes: every kernel is compiled for one use"]
fn all_of_the_node_suite_on_the_device() {
    run_part(|_| true);
}
