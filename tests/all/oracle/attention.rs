//! Attention and its variants, rotary positions, and the attention layer.

use super::{Attributes, check, differences, load, weights};
use std::collections::HashMap;
use wgrad::autodiff::vjp;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::nn::{AttentionConfig, MultiHeadAttention, Parameters};
use wgrad::reference::eval;
use wgrad::tensor::{AttentionOptions, AttentionWindow, Rotary, RotaryScaling, alibi_slopes, segment_ids};

fn build<'g>(graph: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    let plain = AttentionOptions { causal: a.bool("causal", false), ..AttentionOptions::default() };
    let options = match op {
        // PyTorch's first query stands at the first source.
        "sdpa" | "grouped" => AttentionOptions { offset: Some(0), scale: scale(a), ..plain },
        "masked" => AttentionOptions { mask: Some(x[3]), scale: scale(a), ..plain },
        "window" => {
            let bound = |name: &str| a.has(name).then(|| a.usize(name, 0));
            let offset = a.has("offset").then(|| a.int("offset", 0) as isize);
            AttentionOptions {
                window: Some(AttentionWindow { before: bound("before"), after: bound("after") }),
                offset,
                ..plain
            }
        }
        "softcap" => AttentionOptions { softcap: Some(a.f64("cap", 1.0)), ..plain },
        "alibi" => AttentionOptions { alibi: Some(alibi_slopes(graph, x[0].shape()[2])), ..plain },
        "packed" => {
            let ids = segment_ids(x[3], x[0].shape()[1]);
            AttentionOptions { segments: Some((ids, ids)), ..plain }
        }
        "rotary" => return vec![x[0].rotary(&rotary(a))],
        "rotary_at" => return vec![x[0].rotary_at(x[1], &rotary(a))],
        other => panic!("no such case: {other}"),
    };
    vec![x[0].attention_with(x[1], x[2], &options)]
}

fn scale(a: &Attributes) -> Option<f64> {
    a.has("scale").then(|| a.f64("scale", 1.0))
}

fn rotary(a: &Attributes) -> Rotary {
    let factor = a.f64("factor", 1.0);
    Rotary {
        base: a.f64("base", 10_000.0),
        interleaved: a.bool("interleaved", false),
        features: a.has("features").then(|| a.usize("features", 0)),
        offset: a.usize("offset", 0),
        scaling: match &*a.str("kind", "") {
            "linear" => RotaryScaling::Linear { factor },
            "ntk" => RotaryScaling::Ntk { factor },
            "llama3" => RotaryScaling::Llama3 { factor, low: 1.0, high: 4.0, context: 64.0 },
            _ => RotaryScaling::None,
        },
    }
}

#[test]
fn attention() {
    check(include_bytes!("../../oracle/ops/attention.safetensors"), build);
}

/// The layer's output and its gradients, parameters and all, in the reference.
#[test]
fn attention_layer() {
    for case in &load(include_bytes!("../../oracle/ops/mha.safetensors")) {
        let width = |i: usize| Some(case.inputs[i].ty.shape[2]);
        let config = AttentionConfig {
            key_width: width(1),
            value_width: width(2),
            bias: case.inputs.len() > 7,
            ..AttentionConfig::new(case.inputs[0].ty.shape[2], case.attributes.usize("heads", 1))
        };
        let mut parameters = Parameters::new();
        let layer = MultiHeadAttention::new(&mut parameters, "mha", config);
        let (graph, mut inputs, mut states) = (Graph::new(), HashMap::new(), HashMap::new());
        let projections = ["q_proj", "k_proj", "v_proj", "out_proj"];
        let names =
            ["weight", "bias"].into_iter().flat_map(|kind| projections.map(|name| format!("mha.{name}.{kind}")));
        let mut wrt = Vec::new();
        for (name, array) in ["x", "key", "value"].map(String::from).into_iter().chain(names).zip(&case.inputs) {
            let (shape, dtype) = (&array.ty.shape, array.ty.dtype);
            let state = name.starts_with("mha");
            wrt.push(if state { graph.state(&name, shape, dtype) } else { graph.input(&name, shape, dtype) });
            if state { &mut states } else { &mut inputs }.insert(name, array.clone());
        }
        assert_eq!(parameters.specs().len(), states.len());
        let options = AttentionOptions { causal: case.attributes.bool("causal", false), ..AttentionOptions::default() };
        let output = layer.forward_cross(wrt[0], wrt[1], wrt[2], &options);
        let seed = graph.input("seed", output.shape(), DType::F32);
        inputs.insert("seed".into(), weights(&output.shape(), 0));
        let gradients = vjp(&[(output, seed)], &wrt).expect("gradients");
        let values: Vec<_> = std::iter::once(output).chain(gradients).map(|tensor| tensor.value()).collect();
        let arrays = eval(&graph, &values, &inputs, &states).expect("a reference run");
        let failures = differences("reference", case, &arrays, (2e-6, 2e-6));
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}
