//! Operations against PyTorch: cases that scripts in `tests/oracle` have written to small files.
//!
//! The f64 reference is held against every case, forward and gradient; the device against the first
//! two cases of each operation, or all of them with `WGRAD_ORACLE=all`. What PyTorch refuses must be
//! refused here.

mod activations;
mod arrangements;
mod attention;
mod basics;
mod norms;
mod resize;
mod einsum;
mod losses;
mod pointwise;
mod statistics;
mod structure;
mod scan;
mod conv;
mod index;

use super::ops::harness::{compare, run_on_device};
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap};
use wgrad::autodiff::vjp;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::io::safetensors::{NamedTensor, Weights};
use wgrad::reference::{Array, eval};
use wgrad::shape::Shape;

/// From an operation's name, its operands and its attributes to its results.
pub type Build = for<'g> fn(&'g Graph, &str, &[Tensor<'g>], &Attributes) -> Vec<Tensor<'g>>;

/// A case's keyword arguments, read as what a group expects.
pub struct Attributes(Json);

#[allow(dead_code)] // Which of them are used depends on the groups.
impl Attributes {
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn f64(&self, name: &str, default: f64) -> f64 {
        self.get(name).map_or(default, |value| value.as_f64().unwrap_or_else(|| panic!("`{name}` is a number")))
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.get(name).map_or(default, |value| value.as_i64().unwrap_or_else(|| panic!("`{name}` is an integer")))
    }

    pub fn usize(&self, name: &str, default: usize) -> usize {
        usize::try_from(self.int(name, default as i64)).unwrap_or_else(|_| panic!("`{name}` is not negative"))
    }

    pub fn bool(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |value| value.as_bool().unwrap_or_else(|| panic!("`{name}` is a bool")))
    }

    pub fn str(&self, name: &str, default: &str) -> String {
        self.get(name).map_or(default, |value| value.as_str().unwrap_or_else(|| panic!("`{name}` is a text"))).into()
    }

    /// A list of integers; one integer is repeated to `rank`.
    pub fn ints(&self, name: &str, default: &[i64], rank: usize) -> Vec<i64> {
        match self.get(name) {
            None => default.to_vec(),
            Some(Json::Array(list)) => list.iter().filter_map(Json::as_i64).collect(),
            Some(one) => vec![one.as_i64().unwrap_or_else(|| panic!("`{name}` is a list of integers")); rank],
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

struct Case {
    op: String,
    attributes: Attributes,
    /// What was drawn; or, of a case that is refused, only shapes and types.
    inputs: Vec<Array>,
    outputs: Vec<Array>,
    gradients: Vec<Array>,
    tolerance: f64,
    refused: Option<String>,
}

/// Holds a group's cases against `build`.
pub fn check(file: &[u8], build: Build) {
    let cases = load(file);
    let mut by_op: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
    for case in &cases {
        by_op.entry(&case.op).or_default().push(case);
    }
    let mut failures = Vec::new();
    for (op, cases) in by_op {
        let (refused, accepted): (Vec<&Case>, Vec<&Case>) = cases.into_iter().partition(|case| case.refused.is_some());
        assert!(accepted.is_empty() || accepted.len() >= 8, "{op}: {} cases are too few", accepted.len());
        failures.extend(refused.into_iter().filter_map(|case| not_refused(case, build)));
        if !accepted.is_empty() {
            failures.extend(disagreements(op, &accepted, build));
        }
    }
    assert!(failures.is_empty(), "{} disagreements:\n{}", failures.len(), failures.join("\n"));
}

fn not_refused(case: &Case, build: Build) -> Option<String> {
    let graph = Graph::new();
    let inputs = declare(&graph, 0, case);
    let _ = build(&graph, &case.op, &inputs, &case.attributes);
    match graph.error() {
        Err(_) => None,
        Ok(()) => Some(format!(
            "{}{:?}: accepted, PyTorch says: {}",
            describe(case),
            case.attributes.0,
            case.refused.clone().unwrap_or_default()
        )),
    }
}

fn describe(case: &Case) -> String {
    let shapes: Vec<String> = case.inputs.iter().map(|array| array.ty.to_string()).collect();
    format!("{} ({}) {}", case.op, shapes.join(", "), case.attributes.0)
}

fn declare<'g>(graph: &'g Graph, index: usize, case: &Case) -> Vec<Tensor<'g>> {
    let name = |i: usize| format!("c{index}.x{i}");
    case.inputs.iter().enumerate().map(|(i, array)| graph.input(&name(i), &array.ty.shape, array.ty.dtype)).collect()
}

/// As `weights` in `common.py`.
fn weights(shape: &Shape, output: usize) -> Array {
    let data = (0..shape.numel()).map(|k| (((k * 37 + 11 * output) % 101) as f64 - 50.0) / 50.0);
    Array { data: data.map(|x| f64::from(x as f32)).collect(), ty: wgrad::graph::TensorType::new(shape, DType::F32) }
}

/// The results and gradients of one case, traced into a graph with others.
fn trace<'g>(
    graph: &'g Graph,
    index: usize,
    case: &Case,
    build: Build,
    feeds: &mut HashMap<String, Array>,
) -> Result<Vec<Tensor<'g>>, String> {
    let inputs = declare(graph, index, case);
    for (i, array) in case.inputs.iter().enumerate() {
        feeds.insert(format!("c{index}.x{i}"), array.clone());
    }
    let outputs = build(graph, &case.op, &inputs, &case.attributes);
    graph.error().map_err(|error| format!("{}: {error}", describe(case)))?;
    if outputs.len() != case.outputs.len() {
        return Err(format!("{}: {} outputs instead of {}", describe(case), outputs.len(), case.outputs.len()));
    }
    let mut seeds = Vec::new();
    for (i, output) in outputs.iter().enumerate().filter(|(_, output)| output.dtype() == DType::F32) {
        let name = format!("c{index}.seed{i}");
        feeds.insert(name.clone(), weights(&output.shape(), i));
        seeds.push((*output, graph.input(&name, output.shape(), DType::F32)));
    }
    let mut results = outputs;
    if !case.gradients.is_empty() {
        let floats: Vec<Tensor<'g>> = inputs.into_iter().filter(|x| x.dtype() == DType::F32).collect();
        results.extend(vjp(&seeds, &floats).map_err(|error| format!("{}: {error}", describe(case)))?);
    }
    graph.error().map_err(|error| format!("{}: {error}", describe(case)))?;
    Ok(results)
}

fn disagreements(op: &str, cases: &[&Case], build: Build) -> Vec<String> {
    let mut failures = Vec::new();
    let device_too = if std::env::var("WGRAD_ORACLE").is_ok_and(|value| value == "all") { cases.len() } else { 2 };
    let (graph, mut feeds, mut wanted) = (Graph::new(), HashMap::new(), Vec::new());
    for (index, case) in cases.iter().enumerate() {
        // A graph of its own, so that one case's error does not hide the others.
        let (alone, mut own) = (Graph::new(), HashMap::new());
        let results = match trace(&alone, index, case, build, &mut own) {
            Ok(results) => results,
            Err(message) => {
                failures.push(message);
                continue;
            }
        };
        let values: Vec<_> = results.iter().map(|result| result.value()).collect();
        match eval(&alone, &values, &own, &HashMap::new()) {
            Err(error) => failures.push(format!("{}: reference: {error}", describe(case))),
            Ok(arrays) => failures.extend(differences("reference", case, &arrays, (2e-6, 2e-6))),
        }
        if index < device_too
            && let Ok(results) = trace(&graph, index, case, build, &mut feeds)
        {
            for (i, result) in results.iter().enumerate() {
                graph.output(&format!("c{index}.r{i}"), *result);
            }
            wanted.push((index, results.len()));
        }
    }
    if failures.is_empty() && !wanted.is_empty() {
        let got = run_on_device(op, &graph, &feeds);
        for (index, count) in wanted {
            let arrays: Vec<Array> = (0..count)
                .zip(cases[index].outputs.iter().chain(&cases[index].gradients))
                .map(|(i, want)| Array { data: got[&format!("c{index}.r{i}")].clone(), ty: want.ty.clone() })
                .collect();
            failures.extend(differences("device", cases[index], &arrays, (2e-5, 2e-5)));
        }
    }
    failures
}

fn differences(who: &str, case: &Case, got: &[Array], (relative, absolute): (f64, f64)) -> Vec<String> {
    let tolerance = (relative.max(case.tolerance), absolute.max(case.tolerance));
    let mut failures = Vec::new();
    for (i, (got, want)) in got.iter().zip(case.outputs.iter().chain(&case.gradients)).enumerate() {
        let what = match i.checked_sub(case.outputs.len()) {
            None => format!("{}: {who}: output {i}", describe(case)),
            Some(gradient) => format!("{}: {who}: gradient {gradient}", describe(case)),
        };
        if got.ty.shape != want.ty.shape {
            failures.push(format!("{what}: shape {} instead of {}", got.ty.shape, want.ty.shape));
        } else {
            failures.extend(compare(&what, &got.data, &want.data, tolerance).err());
        }
    }
    failures
}

// ---- the file

fn load(file: &[u8]) -> Vec<Case> {
    let weights = Weights::from_bytes("cases", file).expect("a safetensors file");
    let tensors: HashMap<&str, &NamedTensor> =
        weights.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let cases: Vec<Json> = serde_json::from_str(&weights.metadata["cases"]).expect("the list of cases");
    let count = |case: &Json, key: &str| case[key].as_u64().unwrap_or(0) as usize;
    cases
        .iter()
        .enumerate()
        .map(|(index, case)| {
            let arrays = |kind: &str, n: usize| -> Vec<Array> {
                (0..n).map(|i| array(tensors[format!("{index}.{kind}{i}").as_str()])).collect()
            };
            let refused = case["refused"].as_str().map(String::from);
            Case {
                op: case["op"].as_str().unwrap_or_default().into(),
                attributes: Attributes(case["attrs"].clone()),
                inputs: if refused.is_some() { blanks(&case["operands"]) } else { arrays("in", count(case, "inputs")) },
                outputs: arrays("out", count(case, "outputs")),
                gradients: arrays("grad", count(case, "grads")),
                tolerance: case["tol"].as_f64().unwrap_or(0.0),
                refused,
            }
        })
        .collect()
}

fn array(tensor: &NamedTensor) -> Array {
    let words = || tensor.bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
    let data = match tensor.dtype {
        DType::F32 => words().map(|b| f64::from(f32::from_le_bytes(b))).collect(),
        DType::I32 => words().map(|b| f64::from(i32::from_le_bytes(b))).collect(),
        _ => tensor.bytes.iter().map(|&b| f64::from(b)).collect(),
    };
    Array { data, ty: wgrad::graph::TensorType::new(&tensor.shape, tensor.dtype) }
}

fn blanks(operands: &Json) -> Vec<Array> {
    let one = |operand: &Json| {
        let sizes = operand["shape"].as_array().cloned().unwrap_or_default();
        let shape: Shape = sizes.iter().filter_map(Json::as_u64).map(|size| size as usize).collect();
        let dtype = match operand["dtype"].as_str() {
            Some("i32") => DType::I32,
            Some("bool") => DType::Bool,
            _ => DType::F32,
        };
        Array { data: vec![0.0; shape.numel()], ty: wgrad::graph::TensorType::new(&shape, dtype) }
    };
    operands.as_array().map_or(vec![], |list| list.iter().map(one).collect())
}
