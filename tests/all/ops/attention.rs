//! The rows of attention with options, and of rotary positions.

use super::harness::{Draw, Sample, f32s, i32s, refused, sample};
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::tensor::{
    AttentionOptions, AttentionWindow, Rotary, RotaryScaling, alibi_slopes, segment_ids, segment_positions,
};

fn u(shape: &[usize]) -> Draw {
    f32s(shape, -2.0, 2.0)
}

type Options = for<'g> fn(&[Tensor<'g>]) -> AttentionOptions<'g>;

/// Queries `q`, keys and values of `source` positions and `heads` heads, and what the options need.
fn attend(q: &[usize], source: usize, heads: usize, more: &[Draw], options: Options) -> Sample {
    let k = [q[0], source, heads, q[3]];
    let inputs: Vec<Draw> = [u(q), u(&k), u(&k)].iter().chain(more).cloned().collect();
    sample(&inputs, move |x| x[0].attention_with(x[1], x[2], &options(&x[3..]))).tolerance(1e-5, 2e-5).sums(64, 2.0)
}

pub fn attention_options() -> Vec<Sample> {
    let bools = |shape: &[usize]| Draw { dtype: DType::Bool, ..i32s(shape, 0, 2) };
    vec![
        // Those that the flash kernels take.
        attend(&[2, 9, 4, 8], 9, 2, &[], |_| AttentionOptions::causal()),
        attend(&[1, 5, 6, 4], 12, 1, &[], |_| AttentionOptions::default()),
        attend(&[1, 6, 2, 8], 6, 2, &[], |_| AttentionOptions { scale: Some(0.3), ..AttentionOptions::causal() }),
        attend(&[1, 6, 2, 8], 6, 2, &[], |_| AttentionOptions {
            window: Some(AttentionWindow::symmetric(7)),
            ..AttentionOptions::default()
        }),
        attend(&[1, 12, 2, 4], 12, 2, &[], |_| AttentionOptions {
            window: Some(AttentionWindow { before: Some(3), after: Some(0) }),
            ..AttentionOptions::default()
        }),
        attend(&[2, 70, 4, 8], 70, 2, &[], |_| AttentionOptions {
            window: Some(AttentionWindow { before: Some(9), after: None }),
            ..AttentionOptions::causal()
        }),
        attend(&[1, 40, 3, 4], 150, 1, &[], |_| AttentionOptions {
            window: Some(AttentionWindow::symmetric(5)),
            ..AttentionOptions::default()
        }),
        // Most queries stand before the first source, and see none.
        attend(&[1, 90, 2, 4], 20, 2, &[], |_| AttentionOptions {
            window: Some(AttentionWindow { before: Some(2), after: Some(3) }),
            ..AttentionOptions::default()
        }),
        attend(&[1, 9, 2, 4], 9, 2, &[], |_| AttentionOptions {
            window: Some(AttentionWindow { before: None, after: Some(1) }),
            ..AttentionOptions::default()
        }),
        // Queries, keys and values of grouped heads as slices of one packed tensor.
        sample(&[u(&[2, 10, 48])], |x| {
            let part = |from: usize, to: usize| x[0].slice(-1, from, to).reshape([2, 10, (to - from) / 8, 8]);
            part(0, 32).attention_with(part(32, 40), part(40, 48), &AttentionOptions::causal()).reshape([2, 10, 32])
        })
        .tolerance(1e-5, 2e-5),
        // And the rest.
        attend(&[2, 5, 3, 8], 7, 3, &[bools(&[5, 7])], |x| AttentionOptions {
            mask: Some(x[0]),
            ..AttentionOptions::default()
        }),
        attend(&[2, 5, 4, 3], 7, 2, &[u(&[4, 1, 7])], |x| AttentionOptions {
            mask: Some(x[0]),
            ..AttentionOptions::default()
        }),
        attend(&[1, 12, 4, 4], 12, 2, &[], |_| AttentionOptions {
            window: Some(AttentionWindow::symmetric(2)),
            softcap: Some(1.5),
            ..AttentionOptions::causal()
        }),
        attend(&[1, 6, 3, 4], 6, 3, &[f32s(&[3], 0.1, 1.0)], |x| AttentionOptions {
            alibi: Some(x[0]),
            ..AttentionOptions::causal()
        }),
        attend(&[1, 6, 6, 4], 8, 3, &[u(&[1])], |x| AttentionOptions {
            alibi: Some(alibi_slopes(x[0].graph(), 6)),
            ..AttentionOptions::default()
        }),
        attend(&[2, 6, 2, 4], 6, 2, &[i32s(&[2, 6], -1, 2)], |x| AttentionOptions {
            segments: Some((x[0], x[0])),
            ..AttentionOptions::causal()
        }),
        attend(&[1, 6, 2, 4], 9, 2, &[], |_| AttentionOptions { offset: Some(-2), ..AttentionOptions::causal() }),
        sample(&[u(&[1, 4, 4, 4]), u(&[1, 6, 2, 4])], |x| x[0].attention_weights(x[1], &AttentionOptions::causal()))
            .tolerance(1e-5, 2e-5),
    ]
}

pub fn rotary() -> Vec<Sample> {
    let turn = |shape: &[usize], rotary: Rotary| sample(&[u(shape)], move |x| x[0].rotary(&rotary));
    let plain = Rotary::default();
    vec![
        turn(&[1, 1, 1, 2], plain),
        turn(&[2, 5, 3, 8], plain),
        turn(&[2, 5, 3, 8], Rotary { interleaved: true, ..plain }),
        turn(&[1, 7, 2, 12], Rotary { features: Some(4), base: 500.0, ..plain }),
        turn(&[1, 7, 2, 12], Rotary { features: Some(6), interleaved: true, offset: 30, ..plain }),
        turn(&[1, 7, 2, 6], Rotary { scaling: RotaryScaling::Linear { factor: 4.0 }, ..plain }),
        turn(&[1, 40, 2, 64], Rotary { offset: 1000, ..plain }).tolerance(1e-4, 2e-4),
        sample(&[u(&[2, 5, 3, 8]), i32s(&[2, 5], 0, 50)], |x| x[0].rotary_at(x[1], &Rotary::default()))
            .tolerance(1e-5, 1e-5),
        // The layer of a GPT: turned slices of one packed tensor, through the flash kernels.
        sample(&[u(&[2, 6, 48])], |x| {
            let part = |i: usize| x[0].slice(-1, i * 16, (i + 1) * 16).reshape([2, 6, 2, 8]);
            let [q, k] = [part(0), part(1)].map(|x| x.rotary(&Rotary::default()));
            q.attention_with(k, part(2), &AttentionOptions::causal())
        })
        .tolerance(1e-5, 2e-5),
    ]
}

pub fn segments() -> Vec<Sample> {
    // Ends made by summing lengths, so that they do not decrease.
    let ids = |count: usize, length: usize| {
        sample(&[i32s(&[count], 0, 4)], move |x| segment_ids(x[0].cumsum(0).pad(0, 1, 0, 0.0), length)).no_gradient()
    };
    let positions = |count: usize, length: usize| {
        let inputs = [i32s(&[count], 0, 4)];
        sample(&inputs, move |x| segment_positions(segment_ids(x[0].cumsum(0).pad(0, 1, 0, 0.0), length))).no_gradient()
    };
    vec![
        ids(1, 5),
        ids(3, 5),
        ids(5, 12),
        ids(8, 40),
        positions(1, 5),
        positions(3, 5),
        positions(5, 12),
        positions(8, 40),
    ]
}

fn f<'g>(graph: &'g Graph, name: &str, shape: &[usize]) -> Tensor<'g> {
    graph.input(name, shape, DType::F32)
}

fn i<'g>(graph: &'g Graph, name: &str, shape: &[usize]) -> Tensor<'g> {
    graph.input(name, shape, DType::I32)
}

#[test]
fn attention_that_does_not_fit_is_refused() {
    refused(&["attention", "key heads divide"], |g| {
        let (q, k) = (f(g, "q", &[1, 2, 4, 4]), f(g, "k", &[1, 2, 3, 4]));
        q.attention_with(k, k, &AttentionOptions::default());
    });
    refused(&["attention", "key heads"], |g| {
        let (q, k, v) = (f(g, "q", &[1, 2, 2, 4]), f(g, "k", &[1, 2, 2, 4]), f(g, "v", &[1, 3, 2, 4]));
        q.attention_with(k, v, &AttentionOptions::default());
    });
    refused(&["attention", "mask", "[1, 2, 3, 3]"], |g| {
        let q = f(g, "q", &[1, 3, 2, 4]);
        q.attention_with(q, q, &AttentionOptions { mask: Some(f(g, "m", &[2, 3])), ..Default::default() });
    });
    refused(&["attention", "segments", "[1, 3]"], |g| {
        let (q, ids) = (f(g, "q", &[1, 3, 2, 4]), i(g, "ids", &[3]));
        q.attention_with(q, q, &AttentionOptions { segments: Some((ids, ids)), ..Default::default() });
    });
    refused(&["attention", "slopes"], |g| {
        let q = f(g, "q", &[1, 3, 2, 4]);
        q.attention_with(q, q, &AttentionOptions { alibi: Some(f(g, "m", &[3])), ..Default::default() });
    });
    refused(&["attention", "cap", "positive"], |g| {
        let q = f(g, "q", &[1, 3, 2, 4]);
        q.attention_with(q, q, &AttentionOptions { softcap: Some(0.0), ..Default::default() });
    });
    refused(&["rotary", "even"], |g| {
        f(g, "q", &[1, 3, 2, 4]).rotary(&Rotary { features: Some(3), ..Default::default() });
    });
    refused(&["rotary", "positions", "[3]"], |g| {
        f(g, "q", &[1, 3, 2, 4]).rotary_at(i(g, "p", &[4]), &Rotary::default());
    });
}
