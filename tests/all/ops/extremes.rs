//! Sizes, bounds and numbers at the end of what there is: refused with a message, or meant as they say.

use super::harness::{compare, refused, run_on_device};
use std::collections::HashMap;
use wgrad::autodiff::vjp;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor, TensorType};
use wgrad::reference::{Array, eval};
use wgrad::tensor::{AttentionOptions, AttentionWindow, ConvOptions, Padding};

type Case<'a> = (&'a str, &'a dyn for<'g> Fn(Tensor<'g>));

const MOST: usize = usize::MAX;

/// Only what was recorded counts.
fn note<T>(_: T) {}

#[test]
fn sizes_that_cannot_be_counted_are_refused() {
    let cases: [Case<'_>; 22] = [
        ("reshape", &|x| note(x.reshape([MOST, 2]))),
        ("pad", &|x| note(x.pad(0, MOST, MOST, 0.0))),
        ("pad", &|x| note(x.pad_axes(&[isize::MAX, isize::MAX], Padding::Constant(0.0)))),
        ("pad", &|x| note(x.pad_axes(&[isize::MIN, isize::MIN], Padding::Replicate))),
        ("pad", &|x| note(x.pad_axes(&[isize::MAX, 1], Padding::Circular))),
        ("expand", &|x| note(x.repeat(&[MOST, 3]))),
        ("expand", &|x| note(x.repeat_interleave(MOST, 0))),
        ("iota", &|x| note(x.cast(DType::I32).one_hot(MOST))),
        ("pixel_shuffle", &|x| note(x.reshape([1, 1, 4]).pixel_shuffle(MOST))),
        ("pixel_unshuffle", &|x| note(x.reshape([1, 1, 4]).pixel_unshuffle(MOST))),
        ("split", &|x| note(x.split_sizes(&[MOST, 5], 0))),
        ("pad", &|x| note(x.diag_embed(isize::MIN))),
        ("pad", &|x| note(x.diag_embed(isize::MAX))),
        ("expand", &|x| note(x.graph().zeros([MOST, 2], DType::F32))),
        ("input", &|x| note(x.graph().input("large", [1 << 40, 1 << 40], DType::F32))),
        ("adaptive_avg_pool1d", &|x| note(x.reshape([1, 1, 4]).adaptive_avg_pool1d([MOST]))),
        ("adaptive_max_pool1d", &|x| note(x.reshape([1, 1, 4]).adaptive_max_pool1d([MOST]))),
        ("iota", &|x| note(x.graph().linspace(0.0, 1.0, MOST))),
        ("scatter_add", &|x| note(x.cast(DType::I32).bincount(MOST))),
        ("expand", &|x| note(x.graph().ones([1 << 40, 1], DType::F32) + x.graph().ones([1, 1 << 40], DType::F32))),
        ("slice", &|x| note(x.slice(0, 1, MOST))),
        ("one_hot", &|x| note(x.cast(DType::I32).one_hot(0))),
    ];
    for (word, case) in cases {
        refused(&[word], |g| case(g.input("x", [4], DType::F32)));
    }
}

#[test]
fn sizes_at_the_end_that_have_a_meaning_are_taken() {
    let graph = Graph::new();
    let x = graph.input("x", [2, 3], DType::F32);
    assert_eq!(x.diagonal(isize::MIN, 0, 1).shape()[..], [0]);
    assert_eq!(x.diagonal(isize::MAX, 0, 1).shape()[..], [0]);
    assert_eq!(x.split(MOST, 1).len(), 1);
    assert_eq!(graph.input("none", [0, 1 << 50], DType::F32).shape().numel(), 0);
    assert!(graph.error().is_ok());
}

#[test]
fn same_padding_wants_stride_1_and_dropout_a_probability() {
    for options in [ConvOptions::<1>::new().stride(2).same([3]), ConvOptions::<1>::new().same([3]).stride(2)] {
        refused(&["conv1d", "stride 1 only"], |g| {
            let weight = g.input("w", [1, 1, 3], DType::F32);
            g.input("x", [1, 1, 5], DType::F32).conv1d(weight, options);
        });
    }
    for dropout in [2.0, -0.1, f64::NAN] {
        refused(&["attention", "0..=1"], |g| {
            let x = g.input("x", [1, 2, 1, 4], DType::F32);
            x.attention_with(x, x, &AttentionOptions { dropout, ..AttentionOptions::default() });
        });
    }
}

/// The graph's outputs by the reference and by the device, of one input `x`.
fn both(graph: &Graph, x: &[f64]) -> [HashMap<String, Vec<f64>>; 2] {
    let shape = graph.nodes()[0].outputs[0].shape.clone();
    let feeds = HashMap::from([("x".to_string(), Array { ty: TensorType::new(shape, DType::F32), data: x.to_vec() })]);
    let outputs = graph.outputs();
    let values: Vec<_> = outputs.iter().map(|(_, value)| *value).collect();
    let arrays = eval(graph, &values, &feeds, &HashMap::new()).expect("has a meaning");
    let reference = outputs.iter().zip(arrays).map(|((name, _), array)| (name.to_string(), array.data)).collect();
    [reference, run_on_device("extremes", graph, &feeds)]
}

#[test]
fn bounds_beyond_every_position_are_none() {
    let graph = Graph::new();
    let x = graph.input("x", [1, 3, 2, 4], DType::F32);
    let window = |before, after| Some(AttentionWindow { before, after });
    let capped = AttentionOptions { softcap: Some(30.0), ..AttentionOptions::default() };
    let with = |window, offset| {
        let options = AttentionOptions { window, ..AttentionOptions::default() };
        // One that kernels do, and one that is written in primitives.
        [options, AttentionOptions { offset, softcap: Some(30.0), ..options }].map(|o| x.attention_with(x, x, &o))
    };
    let all = [AttentionOptions::default(), capped].map(|options| x.attention_with(x, x, &options));
    let output = |name: &str, pair: [Tensor<'_>; 2]| {
        for (kind, tensor) in ["kernel", "primitives"].into_iter().zip(pair) {
            graph.output(&format!("{name}.{kind}"), tensor);
        }
    };
    output("all", all);
    output("wide", with(window(Some(MOST), Some(MOST)), None));
    output("far", with(window(Some(MOST), None), Some(isize::MAX)));
    output("back", with(window(None, Some(MOST)), Some(isize::MIN)));
    let alibi = AttentionOptions { alibi: Some(graph.ones([2], DType::F32)), ..capped };
    graph.output("alibi.near", x.attention_with(x, x, &AttentionOptions { offset: Some(100), ..alibi }));
    graph.output("alibi.far", x.attention_with(x, x, &AttentionOptions { offset: Some(isize::MAX), ..alibi }));
    let hidden = AttentionOptions { offset: Some(isize::MAX), ..capped };
    graph.output("hidden", x.attention_with(x, x, &AttentionOptions { window: window(Some(5), None), ..hidden }));
    let matrix = x.reshape([6, 4]);
    for (name, tensor) in [("tril", matrix.tril(isize::MAX)), ("triu", matrix.triu(isize::MIN))] {
        graph.output(name, tensor);
    }
    graph.output("none", matrix.tril(isize::MIN).abs() + matrix.triu(isize::MAX).abs());
    let data: Vec<f64> = (0..24).map(|i| f64::from(((i * 7) % 11) as f32 / 5.0 - 1.0)).collect();
    for got in both(&graph, &data) {
        let close = |name: &str, want: &[f64]| compare(name, &got[name], want, (1e-5, 1e-5)).expect("agrees");
        for kind in ["kernel", "primitives"] {
            for name in ["wide", "far", "back"] {
                close(&format!("{name}.{kind}"), &got[&format!("all.{kind}")]);
            }
        }
        close("alibi.far", &got["alibi.near"]);
        close("hidden", &[0.0; 24]);
        close("none", &[0.0; 24]);
        close("tril", &data);
        close("triu", &data);
    }
}

#[test]
fn logarithms_of_sums_take_infinities() {
    const INF: f64 = f64::INFINITY;
    let graph = Graph::new();
    let x = graph.input("x", [5, 2], DType::F32);
    let results = [
        ("sum", x.logsumexp(&[1])),
        ("running", x.logcumsumexp(1)),
        ("pair", x.slice(1, 0, 1).logaddexp(x.slice(1, 1, 2))),
        ("empty", x.slice(1, 0, 0).logsumexp(&[1])),
    ];
    for (name, result) in results {
        let seed = graph.ones(result.shape(), DType::F32);
        let gradient = vjp(&[(result, seed)], &[x]).expect("has a gradient")[0];
        graph.output(name, result);
        graph.output(&format!("grad.{name}"), gradient);
    }
    let data = [-INF, -INF, INF, 0.0, 0.0, -INF, -INF, 3.0, INF, -INF];
    let [reference, device] = both(&graph, &data);
    for got in [reference, device] {
        let want = [-INF, INF, 0.0, 3.0, INF];
        assert_eq!(got["sum"], want);
        assert_eq!(got["pair"], want);
        assert_eq!(got["running"], [-INF, -INF, INF, INF, 0.0, 0.0, -INF, 3.0, INF, INF]);
        assert_eq!(got["empty"], [-INF; 5]);
        for name in ["sum", "running", "pair", "empty"] {
            assert!(got[&format!("grad.{name}")].iter().all(|g| g.is_finite()), "{name}: {:?}", got);
        }
        assert_eq!(got["grad.sum"][4..8], [1.0, 0.0, 0.0, 1.0]);
    }
}
