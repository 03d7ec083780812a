//! Files that lie: nothing they say may panic, hang or take memory beyond measure.

use super::cases;
use prost::Message;
use std::time::{Duration, Instant};
use wgrad::dtype::DType;
use wgrad::graph::Graph;
use wgrad::io::onnx::{Model, parse_tensor};
use wgrad::random::Stream;
use wgrad::reference::Array;
use wgrad::shape::Shape;
use wgrad::{Error, ErrorKind};

/// As much of the format as hostile models are written with.
#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset: Vec<Opset>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

#[derive(Clone, PartialEq, Message)]
struct Opset {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<Named>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<Named>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "6")]
    graph: Option<GraphProto>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(message, repeated, tag = "13")]
    external: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "4")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    output: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "9")]
    opset: Vec<Opset>,
    #[prost(string, tag = "10")]
    domain: String,
}

fn node(op_type: &str, input: &[&str], output: &[&str]) -> Node {
    let texts = |list: &[&str]| list.iter().map(|text| text.to_string()).collect();
    Node { op_type: op_type.into(), input: texts(input), output: texts(output), ..Node::default() }
}

fn ints(name: &str, values: &[i64]) -> Tensor {
    let (dims, int64_data) = (vec![values.len() as i64], values.to_vec());
    Tensor { name: name.into(), data_type: 7, dims, int64_data, external: vec![] }
}

fn named(names: &[&str]) -> Vec<Named> {
    names.iter().map(|name| Named { name: name.to_string() }).collect()
}

fn opsets() -> Vec<Opset> {
    ["", "f"].map(|domain| Opset { domain: domain.into(), version: 17 }).to_vec()
}

/// A model of these nodes that gives `y`.
fn model(node: Vec<Node>, initializer: Vec<Tensor>, functions: Vec<Function>) -> Vec<u8> {
    let graph = GraphProto { node, initializer, input: vec![], output: named(&["y"]) };
    ModelProto { ir_version: 8, graph: Some(graph), opset: opsets(), functions }.encode_to_vec()
}

/// The error of a model without inputs, which must come soon.
fn refused(bytes: &[u8]) -> Error {
    let start = Instant::now();
    let graph = Graph::new();
    let outcome = Model::parse(bytes).and_then(|model| model.trace(&graph, &[], &[]).map(|_| ()));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "took {took:?}");
    match outcome {
        Ok(()) => panic!("should have been refused"),
        Err(error) => error,
    }
}

fn says(bytes: &[u8], word: &str) {
    let message = refused(bytes).to_string();
    assert!(message.contains(word), "no `{word}` in: {message}");
}

#[test]
fn sizes_beyond_all_bounds_are_refused() {
    let huge = || vec![ints("s", &[1 << 30, 1 << 30])];
    says(&model(vec![node("ConstantOfShape", &["s"], &["y"])], huge(), vec![]), "elements");
    says(&model(vec![node("ConstantOfShape", &["s"], &["y"])], vec![ints("s", &[-1])], vec![]), "not a shape");
    let one = ints("s", &[1]);
    let expand = vec![node("ConstantOfShape", &["s"], &["x"]), node("Expand", &["x", "t"], &["y"])];
    says(&model(expand, vec![one.clone(), ints("t", &[1 << 31, 1 << 31])], vec![]), "elements");
    let tile = vec![node("ConstantOfShape", &["s"], &["x"]), node("Tile", &["x", "t"], &["y"])];
    says(&model(tile, vec![one.clone(), ints("t", &[i64::MAX])], vec![]), "count");
    let pad = vec![node("ConstantOfShape", &["s"], &["x"]), node("Pad", &["x", "t"], &["y"])];
    says(&model(pad, vec![one, ints("t", &[i64::MAX, 1])], vec![]), "count");
    // Every step may be allowed, but not all of them together.
    let mut nodes = vec![node("ConstantOfShape", &["s"], &["x0"])];
    nodes.extend((0..80).map(|i| node("Concat", &[&format!("x{i}"), &format!("x{i}")], &[&format!("x{}", i + 1)])));
    nodes.push(node("Identity", &["x80"], &["y"]));
    nodes[1..81]
        .iter_mut()
        .for_each(|node| node.attribute = vec![Attribute { name: "axis".into(), ..Default::default() }]);
    says(&model(nodes, vec![ints("s", &[1 << 20])], vec![]), "elements");
}

#[test]
fn what_is_computed_while_importing_is_bounded_together() {
    let numbers = || vec![ints("zero", &[0]), ints("million", &[1_000_000]), ints("one", &[1])];
    let range = |output: &str| node("Range", &["zero", "million", "one"], &[output]);
    let mut ranges: Vec<Node> = (0..60).map(|i| range(&format!("x{i}"))).collect();
    ranges.push(node("Identity", &["x59"], &["y"]));
    says(&model(ranges, numbers(), vec![]), "computed while importing");
    // What the graph can compute is left to it.
    let mut sums = vec![range("x0")];
    sums.extend((0..60).map(|i| node("Add", &[&format!("x{i}"), "one"], &[&format!("x{}", i + 1)])));
    sums.push(node("Identity", &["x60"], &["y"]));
    let (graph, bytes) = (Graph::new(), model(sums, numbers(), vec![]));
    let model = Model::parse(&bytes).expect("a model");
    model.trace(&graph, &[], &[]).expect("a graph");
    assert!((20..60).contains(&graph.len()), "some sums are in the graph, not all: {}", graph.len());
}

#[test]
fn what_never_ends_is_refused() {
    // A function that calls itself, and functions that call the next one twice.
    let call = |name: &str, input: &str, output: &str| Node { domain: "f".into(), ..node(name, &[input], &[output]) };
    let function = |name: &str, nodes: Vec<Node>| Function {
        name: name.into(),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: nodes,
        opset: opsets(),
        domain: "f".into(),
    };
    let start = || vec![node("ConstantOfShape", &["s"], &["x"]), call("f0", "x", "y")];
    says(&model(start(), vec![ints("s", &[1])], vec![function("f0", vec![call("f0", "a", "b")])]), "nested");
    let doubling = |i: usize| {
        let next = format!("f{}", i + 1);
        function(&format!("f{i}"), vec![call(&next, "a", "c"), call(&next, "c", "b")])
    };
    let mut functions: Vec<Function> = (0..30).map(doubling).collect();
    functions.push(function("f30", vec![node("Identity", &["a"], &["b"])]));
    says(&model(start(), vec![ints("s", &[1])], functions), "nodes");
    let chain = (0..5000).map(|i| function(&format!("f{i}"), vec![call(&format!("f{}", i + 1), "a", "b")])).collect();
    says(&model(start(), vec![ints("s", &[1])], chain), "nested");
    // Loops within loops without a single node inside.
    let mut body = GraphProto { input: named(&["i", "c", "v"]), output: named(&["c", "v"]), ..Default::default() };
    for _ in 0..8 {
        let attribute = vec![Attribute { name: "body".into(), graph: Some(body), ..Default::default() }];
        let inner = Node { attribute, ..node("Loop", &["n", "", "v"], &["w"]) };
        body = GraphProto {
            node: vec![inner],
            input: named(&["i", "c", "v"]),
            output: named(&["c", "w"]),
            ..Default::default()
        };
    }
    let attribute = vec![Attribute { name: "body".into(), graph: Some(body), ..Default::default() }];
    let outer = Node { attribute, ..node("Loop", &["n", "", "s"], &["y"]) };
    says(&model(vec![outer], vec![ints("s", &[1]), ints("n", &[4000])], vec![]), "nodes");
}

#[test]
fn what_is_missing_or_elsewhere_is_refused() {
    says(&model(vec![node("Relu", &["x"], &["y"])], vec![], vec![]), "before any node");
    says(&model(vec![node("Relu", &[], &["y"])], vec![], vec![]), "missing");
    says(&model(vec![node("FooBar", &["s"], &["y"])], vec![ints("s", &[1])], vec![]), "no such operator");
    assert!(matches!(
        refused(&model(vec![node("RandomNormal", &[], &["y"])], vec![], vec![])).kind(),
        ErrorKind::Unsupported(_)
    ));
    says(&model(vec![], vec![], vec![]), "before any node");
    let path = Entry { key: "location".into(), value: "../../../etc/passwd".into() };
    let external = Tensor { external: vec![path], ..ints("s", &[1]) };
    says(&model(vec![node("Identity", &["s"], &["y"])], vec![external], vec![]), "another file");
    let short = Tensor { dims: vec![3], ..ints("s", &[1, 2]) };
    says(&model(vec![node("Identity", &["s"], &["y"])], vec![short], vec![]), "3 elements");
    says(&[], "no graph");
    says(b"not a model", "not a valid ONNX file");
}

/// A byte string changed in one of several ways.
fn mutated(bytes: &[u8], seed: u32) -> Vec<u8> {
    let draw = Stream::new(7, seed).uniform(6, 0.0, 1.0);
    let at = |part: f32| (part * bytes.len() as f32) as usize % bytes.len().max(1);
    let mut changed = bytes.to_vec();
    match (draw[0] * 4.0) as u32 {
        0 => changed.truncate(at(draw[1])),
        1 => changed[at(draw[1])] ^= 1 << (draw[2] * 8.0) as u32,
        2 => {
            for part in &draw[1..4] {
                changed[at(*part)] = (draw[5] * 256.0) as u8;
            }
        }
        // A number becomes a large or a negative one.
        _ => {
            let (start, end) = (at(draw[1]), at(draw[1]) + 1);
            changed.splice(
                start..end,
                [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]
                    .into_iter()
                    .take(1 + (draw[2] * 10.0) as usize),
            );
        }
    }
    changed
}

/// Inputs as a model declares them, or small ones.
fn trace(bytes: &[u8]) {
    let Ok(model) = Model::parse(bytes) else { return };
    let graph = Graph::new();
    let constants = model.constant_inputs();
    let declared = model.inputs();
    let sized: Vec<(String, Shape, DType)> = declared
        .into_iter()
        .map(|input| {
            let sizes = input.shape.unwrap_or_default();
            let shape: Shape = sizes.into_iter().map(|size| size.unwrap_or(2).min(64)).take(8).collect();
            (input.name, shape, input.dtype.unwrap_or(DType::F32))
        })
        .filter(|(_, shape, _): &(String, Shape, DType)| shape.numel() <= 1 << 16)
        .collect();
    let known: Vec<(&str, Array)> = sized
        .iter()
        .filter(|(name, ..)| constants.contains(name))
        .map(|(name, shape, dtype)| (name.as_str(), Array::full(shape, *dtype, 1.0)))
        .collect();
    let tensors: Vec<_> = sized
        .iter()
        .filter(|(name, ..)| !constants.contains(name))
        .map(|(name, shape, dtype)| (name.as_str(), graph.input(name, shape, *dtype)))
        .collect();
    let _ = model.any_sizes().trace(&graph, &tensors, &known);
}

/// How many changes of each case are tried: `WGRAD_ONNX_MUTATIONS`.
fn rounds() -> u32 {
    std::env::var("WGRAD_ONNX_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(2)
}

/// Traces a model that may be anything; what is wrong with how that went.
fn harm(what: String, bytes: &[u8]) -> Option<String> {
    let start = Instant::now();
    if std::panic::catch_unwind(|| trace(bytes)).is_err() {
        return Some(format!("{what} panics"));
    }
    let took = start.elapsed();
    (took > Duration::from_secs(5)).then(|| format!("{what} takes {took:?}"))
}

#[test]
fn changed_files_do_no_harm() {
    let Some(folder) = cases::folder() else { return };
    let mut found = Vec::new();
    for (number, case) in cases::all(&folder).iter().enumerate() {
        let bytes = std::fs::read(case.folder.join("model.onnx")).expect("a case");
        for round in 0..rounds() {
            let seed = number as u32 * 1000 + round;
            found.extend(harm(format!("{} with seed {seed}", case.name), &mutated(&bytes, seed)));
        }
        if number % 16 == 0 {
            let tensor = std::fs::read(case.folder.join("test_data_set_0/output_0.pb")).unwrap_or_default();
            for round in 0..if tensor.is_empty() { 0 } else { 8 * rounds() } {
                let _ = parse_tensor(&mutated(&tensor, number as u32 * 1000 + round));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A model whose parts are kept as they are but for its nodes.
#[derive(Clone, PartialEq, Message)]
struct RawModel {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<RawGraph>,
    #[prost(message, repeated, tag = "8")]
    opset: Vec<Opset>,
}

#[derive(Clone, PartialEq, Message)]
struct RawGraph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<RawNode>,
    #[prost(bytes = "vec", repeated, tag = "5")]
    initializer: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "11")]
    input: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "12")]
    output: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct RawNode {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(bytes = "vec", repeated, tag = "5")]
    attribute: Vec<Vec<u8>>,
    #[prost(string, tag = "7")]
    domain: String,
}

/// Every operator with the inputs and attributes of others: none may take for granted what it is given.
#[test]
fn operators_refuse_the_inputs_of_others() {
    let Some(folder) = cases::folder() else { return };
    let models: Vec<(String, RawModel)> = cases::all(&folder)
        .iter()
        .filter_map(|case| {
            let bytes = std::fs::read(case.folder.join("model.onnx")).ok()?;
            Some((case.name.clone(), RawModel::decode(bytes.as_slice()).ok()?))
        })
        .collect();
    let nodes: Vec<RawNode> =
        models.iter().filter_map(|(_, model)| model.graph.as_ref()?.node.first().cloned()).collect();
    let mut found = Vec::new();
    for (number, (name, model)) in models.iter().enumerate() {
        for round in 0..4 * rounds() {
            let draw = Stream::new(8, number as u32 * 4000 + round).uniform(5, 0.0, 1.0);
            let mut model = model.clone();
            let Some(graph) = &mut model.graph else { continue };
            let Some(node) = graph.node.first_mut() else { continue };
            let other = &nodes[((draw[0] * nodes.len() as f32) as usize).min(nodes.len() - 1)];
            node.op_type = other.op_type.clone();
            node.domain = other.domain.clone();
            if draw[1] < 0.6 {
                node.attribute = other.attribute.clone();
            }
            if draw[2] < 0.3 && !node.input.is_empty() {
                let last = node.input.len() - 1;
                node.input.swap(0, last);
            }
            if draw[3] < 0.3 {
                node.input.extend(node.input.clone());
            }
            if draw[4] < 0.2 {
                node.input.pop();
            }
            let version = model.opset.first().map_or(20, |opset| opset.version);
            model.opset.push(Opset { domain: other.domain.clone(), version });
            let what = format!("{} in {name}, round {round}", other.op_type);
            found.extend(harm(what, &model.encode_to_vec()));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
