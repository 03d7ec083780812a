//! The cases of the ONNX node suite on disk, and what running one gives.
//!
//! A case is a model with inputs and the outputs that it should give. `tests/oracle/onnx_cases.sh` writes them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use wgrad::Error;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::io::onnx::{Model, parse_tensor};
use wgrad::reference::{Array, eval};

/// One line of the manifest.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub folder: PathBuf,
    pub rtol: f64,
    pub atol: f64,
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Passed,
    /// A typed error, in its words.
    Refused(String),
    /// An answer, but not the right one.
    Wrong(String),
}

/// Where the cases are: `WGRAD_ONNX_CASES`, or where the script puts them.
pub fn folder() -> Option<PathBuf> {
    let path = match std::env::var_os("WGRAD_ONNX_CASES") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/onnx-cases"),
    };
    path.join("manifest.json").is_file().then_some(path)
}

/// All cases, by name.
pub fn all(folder: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&text).expect("a manifest");
    let field = |entry: &serde_json::Value, key: &str| entry[key].as_f64().expect("a number");
    let mut cases: Vec<Case> = manifest
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| {
            let name = entry["name"].as_str().expect("a name").to_string();
            Case { folder: folder.join(&name), rtol: field(entry, "rtol"), atol: field(entry, "atol"), name }
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// A case read from its files.
pub struct Loaded {
    pub model: Model,
    /// The model's inputs in order.
    pub inputs: Vec<(String, Array)>,
    pub outputs: Vec<Array>,
    /// Names of the inputs that are given as constants.
    pub constants: Vec<String>,
}

/// Reads a case; its data set of that number.
pub fn load(case: &Case, set: usize) -> Result<Loaded, Error> {
    let read = |path: PathBuf| std::fs::read(&path).map_err(|error| Error::file(&path, &error));
    // Some operators have cases of doubles only.
    let model = Model::parse(&read(case.folder.join("model.onnx"))?)?.doubles_as_floats();
    let data = case.folder.join(format!("test_data_set_{set}"));
    let unsupported = |name: &str| Error::unsupported(format!("`{name}` is not a tensor of a supported type"));
    let mut inputs = Vec::new();
    for (index, input) in model.inputs().into_iter().enumerate() {
        input.dtype.ok_or_else(|| unsupported(&input.name))?;
        inputs.push((input.name, parse_tensor(&read(data.join(format!("input_{index}.pb")))?)?));
    }
    let mut outputs = Vec::new();
    for (index, output) in model.outputs().into_iter().enumerate() {
        output.dtype.ok_or_else(|| unsupported(&output.name))?;
        outputs.push(parse_tensor(&read(data.join(format!("output_{index}.pb")))?)?);
    }
    let constants = model.constant_inputs();
    Ok(Loaded { model, inputs, outputs, constants })
}

/// A case traced into a graph, under a prefix of its own.
pub struct Placed<'g> {
    pub outputs: Vec<Tensor<'g>>,
    pub feeds: HashMap<String, Array>,
    pub states: HashMap<String, Array>,
}

/// Traces a case into a graph.
pub fn place<'g>(graph: &'g Graph, loaded: &Loaded, prefix: &str) -> Result<Placed<'g>, Error> {
    let mut feeds = HashMap::new();
    let mut tensors: Vec<(&str, Tensor<'g>)> = Vec::new();
    let mut constants: Vec<(&str, Array)> = Vec::new();
    for (name, array) in &loaded.inputs {
        if loaded.constants.contains(name) {
            constants.push((name, array.clone()));
        } else {
            let key = format!("{prefix}{name}");
            tensors.push((name, graph.input(&key, &array.ty.shape, array.ty.dtype)));
            feeds.insert(key, array.clone());
        }
    }
    let traced = loaded.model.clone().prefixed(prefix).trace(graph, &tensors, &constants)?;
    let outputs = traced.outputs.into_iter().map(|(_, tensor)| tensor).collect();
    Ok(Placed { outputs, feeds, states: traced.states.into_iter().collect() })
}

/// Runs a case on the reference.
pub fn run(case: &Case) -> Verdict {
    let loaded = match load(case, 0) {
        Ok(loaded) => loaded,
        Err(error) => return Verdict::Refused(error.to_string()),
    };
    let graph = Graph::new();
    let outcome = place(&graph, &loaded, "").and_then(|placed| {
        let values: Vec<_> = placed.outputs.iter().map(|output| output.value()).collect();
        eval(&graph, &values, &placed.feeds, &placed.states)
    });
    match outcome {
        Ok(arrays) => compare(case, &arrays, &loaded.outputs),
        Err(error) => Verdict::Refused(error.to_string()),
    }
}

/// What should come out was computed in f32 itself: its small elements carry the rounding of the largest.
const ROUNDING: f64 = 1.0 / (1 << 22) as f64;

/// Holds outputs against what they should be, as `numpy.testing.assert_allclose` does.
pub fn compare(case: &Case, got: &[Array], want: &[Array]) -> Verdict {
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        if got.ty != want.ty {
            return Verdict::Wrong(format!("output {index} is {}, should be {}", got.ty, want.ty));
        }
        let exact = want.ty.dtype != DType::F32;
        let largest =
            want.data.iter().filter(|value| value.is_finite()).fold(0.0f64, |most, value| most.max(value.abs()));
        let least = case.atol.max(ROUNDING * largest);
        for (element, (&a, &b)) in got.data.iter().zip(&want.data).enumerate() {
            let near = (a - b).abs() <= if exact { 0.0 } else { least + case.rtol * b.abs() };
            if !(near || a == b || a.is_nan() && b.is_nan()) {
                return Verdict::Wrong(format!("element {element} of output {index} is {a}, should be {b}"));
            }
        }
    }
    if got.len() == want.len() { Verdict::Passed } else { Verdict::Wrong(format!("{} outputs", got.len())) }
}
