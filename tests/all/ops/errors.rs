//! What each operation refuses, and that the message says what was given and what fits.

use super::harness::refused;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Literal, Op, Tensor};
use wgrad::nn::{Conv2d, Linear, Lstm, Parameters};
use wgrad::tensor::concat;

fn f<'g>(graph: &'g Graph, name: &str, shape: &[usize]) -> Tensor<'g> {
    graph.input(name, shape, DType::F32)
}

fn i<'g>(graph: &'g Graph, name: &str, shape: &[usize]) -> Tensor<'g> {
    graph.input(name, shape, DType::I32)
}

#[test]
fn shapes_that_do_not_fit_are_refused_with_both_shapes() {
    refused(&["add", "[2, 3]", "[4]"], |g| {
        let _ = f(g, "a", &[2, 3]) + f(g, "b", &[4]);
    });
    refused(&["matmul", "3 columns", "4 rows"], |g| {
        f(g, "a", &[2, 3]).matmul(f(g, "b", &[4, 5]));
    });
    refused(&["matmul", "matrices"], |g| {
        f(g, "a", &[3]).matmul(f(g, "b", &[3, 5]));
    });
    refused(&["matmul", "broadcast"], |g| {
        f(g, "a", &[2, 4, 3]).matmul(f(g, "b", &[5, 3, 5]));
    });
    refused(&["reshape", "6 elements", "8 elements"], |g| {
        f(g, "a", &[2, 3]).reshape([8]);
    });
    refused(&["permute"], |g| {
        f(g, "a", &[2, 3]).permute(&[0, 0]);
    });
    refused(&["transpose", "axis 2"], |g| {
        f(g, "a", &[2, 3]).transpose(0, 2);
    });
    refused(&["expand", "size 1"], |g| {
        f(g, "a", &[2, 3]).broadcast_to([4, 3]);
    });
    refused(&["slice", "does not lie within"], |g| {
        f(g, "a", &[2, 3]).slice(1, 1, 5);
    });
    refused(&["slice", "range"], |g| {
        f(g, "a", &[2, 3]).slice(1, 2, 1);
    });
    refused(&["concat", "agree"], |g| {
        concat(f(g, "a", &[2, 3]), &[f(g, "b", &[3, 4])], 0);
    });
    refused(&["sum", "axis -3"], |g| {
        f(g, "a", &[2, 3]).sum(&[-3]);
    });
    refused(&["max", "empty"], |g| {
        f(g, "a", &[2, 0]).max(&[1]);
    });
    refused(&["argmax", "empty"], |g| {
        f(g, "a", &[2, 0]).argmax(1);
    });
    refused(&["squeeze", "size 1"], |g| {
        f(g, "a", &[2, 3]).squeeze(0);
    });
    refused(&["flatten"], |g| {
        f(g, "a", &[2, 3]).flatten(1, 0);
    });
    refused(&["layer_norm", "last axis"], |g| {
        f(g, "a", &[2, 3]).layer_norm(f(g, "g", &[2]), f(g, "b", &[3]), 1e-5);
    });
    refused(&["rms_norm", "last axis"], |g| {
        f(g, "a", &[2, 3]).rms_norm(f(g, "g", &[2]), 1e-5);
    });
    refused(&["cross_entropy", "classes"], |g| {
        f(g, "a", &[2, 3]).cross_entropy(i(g, "t", &[3]));
    });
    refused(&["attention", "[batch, time, heads, size]"], |g| {
        f(g, "q", &[1, 2, 2, 4]).attention(f(g, "k", &[1, 2, 3, 4]), f(g, "v", &[1, 2, 3, 4]), true);
    });
    refused(&["dynamic_slice", "do not fit"], |g| {
        f(g, "a", &[2, 3]).dynamic_slice(0, i(g, "s", &[]), 3);
    });
    refused(&["dynamic_update", "cannot write"], |g| {
        f(g, "a", &[2, 3]).dynamic_update(0, f(g, "u", &[3, 3]), i(g, "s", &[]));
    });
    refused(&["scatter_add", "index"], |g| {
        f(g, "a", &[2, 3]).scatter_add(i(g, "s", &[3]), 4);
    });
    refused(&["gather", "one axis"], |g| {
        f(g, "a", &[]).gather(i(g, "s", &[3]));
    });
    refused(&["iota", "axis"], |g| {
        g.iota([3], 1);
    });
    refused(&["random_bits", "key"], |g| {
        g.random_bits(g.input("k", [3], DType::U32), [4]);
    });
    refused(&["dropout", "0..=1"], |g| {
        f(g, "a", &[2, 3]).dropout(1.5);
    });
    refused(&["softmax", "axis"], |g| {
        f(g, "a", &[2, 3]).softmax(2);
    });
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    use wgrad::tensor::{AvgOptions, ConvOptions, PoolOptions};
    let plain = ConvOptions::<2>::new();
    refused(&["conv", "4 channels", "3 channels"], |g| {
        f(g, "x", &[1, 3, 5, 5]).conv2d(f(g, "w", &[2, 4, 3, 3]), plain);
    });
    refused(&["conv", "kernel of [7, 3]", "padded size [5, 5]"], |g| {
        f(g, "x", &[1, 3, 5, 5]).conv2d(f(g, "w", &[2, 3, 7, 3]), plain);
    });
    refused(&["conv2d", "groups", "0"], |g| {
        f(g, "x", &[1, 3, 5, 5]).conv2d(f(g, "w", &[2, 3, 3, 3]), plain.groups(0));
    });
    refused(&["conv2d", "stride [0, 0]", "at least 1"], |g| {
        f(g, "x", &[1, 3, 5, 5]).conv2d(f(g, "w", &[2, 3, 3, 3]), plain.stride(0));
    });
    refused(&["conv1d", "[batch, channels, ..]"], |g| {
        f(g, "x", &[5]).conv1d(f(g, "w", &[2, 3, 3]), ConvOptions::new());
    });
    refused(&["conv", "f32", "i32"], |g| {
        f(g, "x", &[1, 3, 5, 5]).conv2d(i(g, "w", &[2, 3, 3, 3]), plain);
    });
    refused(&["conv_transpose2d", "output padding [1, 1]", "stride [1, 1]"], |g| {
        f(g, "x", &[1, 3, 5, 5]).conv_transpose2d(f(g, "w", &[3, 2, 3, 3]), plain, [1, 1]);
    });
    refused(&["conv_transpose2d", "leaves nothing"], |g| {
        f(g, "x", &[1, 3, 1, 1]).conv_transpose2d(f(g, "w", &[3, 2, 3, 3]), plain.padding(2), [0, 0]);
    });
    refused(&["max_pool2d", "at most half"], |g| {
        f(g, "x", &[1, 3, 5, 5]).max_pool2d(PoolOptions::new([2, 2]).padding([2, 0]));
    });
    refused(&["max_pool2d", "does not fit"], |g| {
        f(g, "x", &[1, 3, 5, 5]).max_pool2d(PoolOptions::new([6, 2]));
    });
    refused(&["avg_pool2d", "divisor"], |g| {
        let options = AvgOptions { divisor_override: Some(0), ..AvgOptions::default() };
        f(g, "x", &[1, 3, 5, 5]).avg_pool2d(PoolOptions::new([2, 2]), options);
    });
    refused(&["adaptive_avg_pool2d", "at least 1"], |g| {
        f(g, "x", &[1, 3, 5, 5]).adaptive_avg_pool2d([0, 2]);
    });
    refused(&["window", "does not fit into 4"], |g| {
        f(g, "x", &[4]).unfold(0, 5, 1);
    });
    refused(&["fold", "3 windows do not fit into 4 elements"], |g| {
        f(g, "x", &[3, 3]).apply(Op::Fold { axis: 0, length: 4, stride: 1, dilation: 1 }, &[]);
    });
}

#[test]
fn dtypes_that_do_not_fit_are_refused_by_name() {
    refused(&["add", "f32", "i32", "cast"], |g| {
        let _ = f(g, "a", &[2]) + i(g, "b", &[2]);
    });
    refused(&["exp", "floating-point", "i32"], |g| {
        i(g, "a", &[2]).exp();
    });
    refused(&["logical_and", "bool"], |g| {
        f(g, "a", &[2]).logical_and(f(g, "b", &[2]));
    });
    refused(&["select", "bool condition"], |g| {
        f(g, "a", &[2]).select(f(g, "b", &[2]), 0.0);
    });
    refused(&["matmul", "float"], |g| {
        i(g, "a", &[2, 2]).matmul(i(g, "b", &[2, 2]));
    });
    refused(&["gather", "indices", "f32"], |g| {
        f(g, "a", &[2, 2]).gather(f(g, "b", &[2]));
    });
    refused(&["neg", "u32"], |g| {
        let _ = -g.input("a", [2], DType::U32);
    });
    refused(&["pad", "i32"], |g| {
        f(g, "a", &[2]).apply(Op::Pad { before: vec![0], after: vec![1], value: Literal::new(DType::I32, 0.0) }, &[]);
    });
    refused(&["sum", "bool"], |g| {
        g.input("a", [2], DType::Bool).sum(&[0]);
    });
    refused(&["cross_entropy", "i32"], |g| {
        f(g, "a", &[2, 3]).cross_entropy(f(g, "t", &[2]));
    });
    refused(&["declared as"], |g| {
        f(g, "a", &[2]);
        i(g, "a", &[2]);
    });
    refused(&["sum_squares", "f32"], |g| {
        i(g, "a", &[2]).apply(Op::SumSquares { each: false }, &[]);
    });
    refused(&["cast", "input format"], |g| {
        f(g, "a", &[2]).cast(DType::U8);
    });
}

#[test]
fn the_message_names_the_callers_line() {
    let graph = Graph::new();
    let _ = f(&graph, "a", &[2]) + f(&graph, "b", &[3]);
    let message = graph.error().unwrap_err().to_string();
    assert!(message.contains("errors.rs"), "{message}");
    let graph = Graph::new();
    f(&graph, "x", &[1, 3, 5, 5])
        .conv2d(f(&graph, "w", &[2, 4, 3, 3]), Default::default())
        .max_pool2d(wgrad::tensor::PoolOptions::new([2, 2]));
    let message = graph.error().unwrap_err().to_string();
    assert!(message.contains("errors.rs"), "{message}");
}

#[test]
fn a_state_is_assigned_once() {
    refused(&["assign", "`a`", "once"], |g| {
        let a = g.state("a", [2], DType::F32);
        g.assign("a", a + 1.0);
        g.assign("a", a + 2.0);
    });
}

/// Also through layers and closures, where the line is that of the call into the library.
#[test]
fn layers_name_the_callers_line() {
    let mut parameters = Parameters::new();
    let linear = Linear::new(&mut parameters, "fc", 3, 4);
    let conv = Conv2d::new(&mut parameters, "conv", [3, 4], [3, 3], Default::default());
    let lstm = Lstm::new(&mut parameters, "lstm", 3, 4);
    let mistakes: [&dyn Fn(&Graph); 7] = [
        &|g| {
            linear.forward(f(g, "x", &[2, 5]));
        },
        &|g| {
            conv.forward(f(g, "x", &[1, 2, 5, 5]));
        },
        &|g| {
            lstm.forward(f(g, "x", &[2, 5, 7]), None);
        },
        &|g| {
            i(g, "x", &[2, 5]).softmax(-1);
        },
        &|g| {
            i(g, "x", &[2, 3, 5]).adaptive_avg_pool1d([2]);
        },
        &|g| {
            wgrad::tensor::einsum("ij,jk", f(g, "x", &[2, 5]), &[f(g, "y", &[4, 2])]);
        },
        &|g| {
            g.scope("mine", || {
                linear.forward(f(g, "x", &[2, 5]));
            })
        },
    ];
    for (number, mistake) in mistakes.into_iter().enumerate() {
        let graph = Graph::new();
        mistake(&graph);
        let message = graph.error().err().unwrap_or_else(|| panic!("mistake {number} is accepted")).to_string();
        assert!(message.contains("errors.rs"), "mistake {number}: {message}");
    }
}

#[test]
fn integers_refuse_fractions_and_what_they_cannot_hold() {
    for mistake in [
        &(|g: &Graph| {
            let _ = i(g, "a", &[3]) * 0.5;
        }) as &dyn Fn(&Graph),
        &|g| {
            i(g, "a", &[3]).clamp(0.5, 2.0);
        },
        &|g| {
            i(g, "a", &[3]).eq(2.5);
        },
        &|g| {
            let _ = i(g, "a", &[3]) * 3e9;
        },
        &|g| {
            g.full([2], DType::I32, 0.5);
        },
        &|g| {
            i(g, "a", &[3]).pad(0, 1, 1, 0.5);
        },
        &|g| {
            i(g, "a", &[3]).masked_fill(i(g, "a", &[3]).gt(0.0), 0.9);
        },
    ] {
        let graph = Graph::new();
        mistake(&graph);
        let message = graph.error().unwrap_err().to_string();
        assert!(message.contains("no i32 value") && message.contains("errors.rs"), "{message}");
    }
    refused(&["mean", "i32", "f32"], |g| {
        i(g, "a", &[3]).mean_all();
    });
    refused(&["mean", "i32"], |g| {
        i(g, "a", &[3]).var(&[0], 1);
    });
}
