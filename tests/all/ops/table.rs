//! The rows: at least eight uses of each operation, over empty, one-element, odd, broadcast,
//! permuted and large shapes.

use super::harness::{Draw, Sample, f32s, i32s, sample};
use std::sync::Arc;
use wgrad::dtype::DType;
use wgrad::graph::{CustomOp, Op, Tensor, TensorType};
use wgrad::tensor::concat as join;

pub fn u(shape: &[usize]) -> Draw {
    f32s(shape, -2.0, 2.0)
}

/// One input, one expression, many shapes.
pub fn over(shapes: &[&[usize]], build: impl for<'g> Fn(Tensor<'g>) -> Tensor<'g> + Copy + 'static) -> Vec<Sample> {
    shapes.iter().map(|shape| sample(&[u(shape)], move |x| build(x[0]))).collect()
}

pub const MIXED: &[&[usize]] = &[&[1, 1], &[0, 4], &[5, 3], &[4, 8], &[2, 3], &[17, 12], &[64, 33], &[128, 300]];

pub fn reshape() -> Vec<Sample> {
    let mut rows = over(MIXED, |x| x.flatten(0, -1) * 2.0);
    rows.push(sample(&[u(&[4, 6])], |x| x[0].t().reshape([3, 8]).exp()));
    rows.push(sample(&[u(&[2, 3, 4])], |x| x[0].permute(&[1, 0, 2]).reshape([6, 4])));
    rows
}

pub fn permute() -> Vec<Sample> {
    let mut rows = over(MIXED, |x| x.t());
    rows.push(sample(&[u(&[2, 3, 4, 5])], |x| x[0].permute(&[3, 1, 0, 2]) + 1.0));
    rows.push(sample(&[u(&[8, 4]), u(&[4, 8])], |x| x[0].t() * x[1]));
    rows
}

pub fn expand() -> Vec<Sample> {
    let mut rows = over(&[&[1], &[4], &[3, 1], &[1, 5], &[2, 1, 4], &[1, 1]], |x| {
        x.broadcast_to([2, 3, 4].iter().copied().chain([]).collect::<Vec<_>>()).sin()
    })
    .into_iter()
    .enumerate()
    .filter(|(i, _)| [0, 1, 2, 4, 5].contains(i))
    .map(|(_, s)| s)
    .collect::<Vec<_>>();
    rows.push(sample(&[u(&[]), u(&[5, 7])], |x| x[0] * x[1]));
    rows.push(sample(&[u(&[7]), u(&[5, 7])], |x| x[0] + x[1]));
    rows.push(sample(&[u(&[5, 1]), u(&[1, 7])], |x| x[0] - x[1]));
    rows.push(sample(&[u(&[0, 1]), u(&[1, 7])], |x| x[0] - x[1]));
    rows
}

pub fn slice() -> Vec<Sample> {
    let mut rows =
        over(&[&[4, 8], &[5, 9], &[4, 12], &[17, 33], &[6, 6], &[4, 100]], |x| x.slice(1, 2, 5) * x.slice(1, 0, 3));
    rows.push(sample(&[u(&[9, 4])], |x| x[0].slice(0, 3, 7)));
    rows.push(sample(&[u(&[9, 4])], |x| x[0].slice(0, 3, 3)));
    rows.push(sample(&[u(&[8, 24])], |x| join(x[0].slice(1, 0, 8), &[x[0].slice(1, 8, 24)], 1)));
    rows
}

pub fn pad() -> Vec<Sample> {
    let mut rows = over(&[&[4, 8], &[5, 9], &[1, 1], &[0, 3], &[16, 16], &[3, 64]], |x| x.pad(1, 2, 3, 0.5));
    rows.push(sample(&[u(&[4, 8])], |x| x[0].pad(0, 1, 0, -1.0).pad(1, 0, 4, 2.0)));
    rows.push(sample(&[u(&[6, 5])], |x| x[0].t().pad(0, 1, 1, 0.0).exp()));
    // Scalars share a buffer.
    rows.push(sample(&[u(&[]), u(&[])], |x| x[1].broadcast_to([3]).pad(0, 1, 2, 0.5) * x[0]));
    rows
}

pub fn concat() -> Vec<Sample> {
    let two = |a: &[usize], b: &[usize], axis: isize| sample(&[u(a), u(b)], move |x| join(x[0], &[x[1]], axis));
    vec![
        two(&[2, 3], &[2, 5], 1),
        two(&[2, 3], &[4, 3], 0),
        two(&[2, 4], &[2, 8], -1),
        two(&[1], &[1], 0),
        two(&[0, 3], &[4, 3], 0),
        two(&[3, 2, 4], &[3, 5, 4], 1),
        sample(&[u(&[4, 4]), u(&[4, 4])], |x| join(x[0].t(), &[x[1], x[0]], 1)),
        sample(&[u(&[33, 7]), u(&[33, 1])], |x| join(x[0].exp(), &[x[1]], 1)),
        sample(&[u(&[3, 2]), u(&[3, 4])], |x| {
            join(x[0], &[x[1], x[0], x[1], x[0], x[0], x[1], x[1], x[0], x[1], x[0], x[0]], 1)
        }),
    ]
}

pub fn dynamic_slice() -> Vec<Sample> {
    let at = |shape: &[usize], axis: isize, size: usize, start: i32| {
        sample(&[u(shape), i32s(&[], start, start + 1)], move |x| x[0].dynamic_slice(axis, x[1], size) * 3.0)
    };
    vec![
        at(&[8, 4], 0, 3, 2),
        at(&[8, 4], 0, 3, 7),
        at(&[8, 4], 0, 3, -5),
        at(&[8, 4], 1, 2, 1),
        at(&[5], 0, 5, 0),
        at(&[9, 3, 4], 1, 1, 2),
        at(&[16, 16], 0, 0, 3),
        at(&[64, 20], 0, 16, 40),
    ]
}

pub fn dynamic_update() -> Vec<Sample> {
    let at = |shape: &[usize], update: &[usize], axis: isize, start: i32| {
        sample(&[u(shape), u(update), i32s(&[], start, start + 1)], move |x| x[0].dynamic_update(axis, x[1], x[2]))
    };
    vec![
        at(&[8, 4], &[3, 4], 0, 2),
        at(&[8, 4], &[3, 4], 0, 7),
        at(&[8, 4], &[3, 4], 0, -5),
        at(&[8, 4], &[8, 2], 1, 1),
        at(&[5], &[5], 0, 0),
        at(&[9, 3, 4], &[9, 1, 4], 1, 2),
        at(&[16, 16], &[0, 16], 0, 3),
        at(&[64, 20], &[16, 20], 0, 40),
    ]
}

pub fn cast() -> Vec<Sample> {
    let to = |dtype: DType, shape: &[usize]| {
        sample(&[f32s(shape, -9.0, 9.0)], move |x| x[0].cast(dtype).cast(DType::F32)).no_gradient()
    };
    vec![
        to(DType::I32, &[7]),
        to(DType::I32, &[4, 8]),
        to(DType::Bool, &[3, 5]),
        to(DType::Bool, &[16]),
        to(DType::I32, &[0]),
        sample(&[i32s(&[6, 6], -5, 5)], |x| x[0].cast(DType::F32)).no_gradient(),
        sample(&[i32s(&[13], 0, 9)], |x| x[0].cast(DType::U32)).no_gradient(),
        sample(&[Draw { dtype: DType::U8, ..i32s(&[13], 0, 255) }], |x| x[0].cast(DType::F32) * (1.0 / 255.0))
            .no_gradient(),
        sample(&[Draw { dtype: DType::U8, ..i32s(&[16, 8], 0, 255) }], |x| x[0].cast(DType::F32)).no_gradient(),
    ]
}

pub fn stop_gradient() -> Vec<Sample> {
    over(MIXED, |x| x.stop_gradient())
        .into_iter()
        .map(Sample::no_gradient)
        .chain(over(&[&[4, 4]], |x| x.relu() * 2.0))
        .collect()
}

pub fn sum() -> Vec<Sample> {
    let sized = |shapes: &[&[usize]], build: for<'g> fn(Tensor<'g>) -> Tensor<'g>| -> Vec<Sample> {
        let one = |shape: &&[usize]| sample(&[u(shape)], move |x| build(x[0])).sums(shape.iter().product(), 2.0);
        shapes.iter().map(one).collect()
    };
    let mut rows = sized(MIXED, |x| x.sum(&[1]));
    rows.extend(sized(MIXED, |x| x.sum(&[0])));
    rows.extend(sized(&[&[1], &[100_000], &[333, 77]], |x| x.sum_all()));
    rows.push(sample(&[u(&[3, 4, 5, 6])], |x| x[0].sum(&[0, 2])).sums(15, 2.0));
    rows.push(sample(&[u(&[30, 40])], |x| (x[0].t() * x[0].t()).mean(&[0])).sums(40, 4.0));
    rows.push(sample(&[u(&[12, 16]), u(&[16])], |x| (x[0] - x[1]).square().mean_all()).sums(192, 16.0));
    rows.push(sample(&[u(&[600, 12])], |x| x[0].sum(&[0]) * 0.5).sums(600, 2.0));
    rows
}

pub fn max_min() -> Vec<Sample> {
    let some: &[&[usize]] = &[&[1, 1], &[5, 3], &[4, 8], &[17, 12], &[64, 33], &[40, 300]];
    let mut rows = over(some, |x| x.max(&[1]));
    rows.extend(over(some, |x| x.min(&[0])));
    rows.push(sample(&[u(&[3, 4, 5])], |x| x[0].max(&[0, 2]) * 2.0));
    rows.push(sample(&[u(&[50])], |x| x[0].min(&[0])));
    rows.push(sample(&[u(&[3, 1, 8])], |x| x[0].min(&[1, 2]) + x[0].max(&[1, 2])));
    rows
}

pub fn argmax() -> Vec<Sample> {
    let some: &[&[usize]] = &[&[1, 1], &[5, 3], &[4, 8], &[17, 12], &[64, 33], &[40, 300], &[3, 4, 5]];
    let mut rows: Vec<Sample> = over(some, |x| x.argmax(-1)).into_iter().map(Sample::no_gradient).collect();
    rows.push(sample(&[u(&[6, 9])], |x| x[0].argmax(0)).no_gradient());
    rows.push(sample(&[f32s(&[4, 4], 1.0, 1.0)], |x| x[0].argmax(1)).no_gradient());
    rows
}

pub fn sum_squares() -> Vec<Sample> {
    let norm = |shapes: &[&[usize]]| {
        let inputs: Vec<Draw> = shapes.iter().map(|shape| u(shape)).collect();
        let k = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
        sample(&inputs, |x| x[0].apply(Op::SumSquares { each: false }, &x[1..]).sqrt()).sums(k, 4.0)
    };
    let each = |shapes: &[&[usize]]| {
        let inputs: Vec<Draw> = shapes.iter().map(|shape| u(shape)).collect();
        let k = shapes.iter().map(|shape| shape.iter().product::<usize>()).max().unwrap_or(1);
        sample(&inputs, |x| x[0].apply(Op::SumSquares { each: true }, &x[1..]) * 0.5).sums(k, 4.0)
    };
    vec![
        each(&[&[3]]),
        each(&[&[1], &[0], &[7, 5], &[64, 64], &[2, 3, 4]]),
        each(&[&[20_000], &[33], &[16_384], &[16_385]]),
        norm(&[&[3]]),
        norm(&[&[4, 4], &[7]]),
        norm(&[&[1], &[1], &[1]]),
        norm(&[&[33, 3], &[128]]),
        norm(&[&[100_000]]),
        norm(&[&[5, 5, 5], &[0], &[2]]),
        norm(&[&[64, 64], &[64], &[63]]),
        norm(&[&[17]]),
    ]
}

pub fn matmul() -> Vec<Sample> {
    let plain = |a: &[usize], b: &[usize]| {
        let k = a[a.len() - 1];
        sample(&[u(a), u(b)], |x| x[0].matmul(x[1])).sums(k, 4.0)
    };
    vec![
        plain(&[1, 1], &[1, 1]),
        plain(&[3, 5], &[5, 7]),
        plain(&[16, 32], &[32, 24]),
        plain(&[0, 4], &[4, 3]),
        plain(&[4, 0], &[0, 3]),
        plain(&[65, 33], &[33, 10]),
        plain(&[2, 3, 8, 4], &[2, 3, 4, 12]),
        plain(&[2, 1, 8, 4], &[3, 4, 5]),
        plain(&[2, 9, 8], &[8, 12]),
        plain(&[130, 70], &[70, 140]),
        sample(&[u(&[12, 20]), u(&[8, 20])], |x| x[0].matmul(x[1].t())).sums(20, 4.0),
        sample(&[u(&[20, 12]), u(&[20, 8])], |x| x[0].t().matmul(x[1])).sums(20, 4.0),
        sample(&[u(&[20, 12]), u(&[9, 20])], |x| x[0].t().matmul(x[1].t())).sums(20, 4.0),
        sample(&[u(&[4, 6, 3, 8])], |x| x[0].permute(&[0, 2, 1, 3]).matmul(x[0].permute(&[0, 2, 3, 1]))).sums(8, 4.0),
        sample(&[u(&[16, 8]), u(&[8, 12]), u(&[12]), u(&[16, 12])], |x| (x[0].matmul(x[1]) + x[2]).gelu_tanh() + x[3])
            .sums(8, 4.0),
        sample(&[u(&[5, 9]), u(&[9, 6]), u(&[6])], |x| (x[0].matmul(x[1]) + x[2]).relu().matmul(x[1].t()))
            .sums(60, 30.0),
    ]
}

pub fn gather() -> Vec<Sample> {
    let rows = |table: &[usize], index: &[usize], low: i32, high: i32| {
        sample(&[u(table), i32s(index, low, high)], |x| x[0].gather(x[1]))
    };
    vec![
        rows(&[5, 4], &[3], 0, 5),
        rows(&[5, 3], &[2, 3], 0, 5),
        rows(&[9], &[7], 0, 9),
        rows(&[5, 4], &[0], 0, 5),
        rows(&[5, 4], &[6], -2, 7),
        rows(&[20, 16], &[4, 8], 0, 20),
        rows(&[6, 2, 4], &[5], 0, 6),
        sample(&[u(&[16, 8]), i32s(&[2, 6], 0, 16), u(&[6, 8])], |x| x[0].gather(x[1]) + x[2]),
        sample(&[u(&[8, 16]), i32s(&[5], 0, 16)], |x| x[0].t().gather(x[1]) * 2.0),
    ]
}

pub fn scatter_add() -> Vec<Sample> {
    let rows = |index: &[usize], rest: &[usize], count: usize| {
        let values: Vec<usize> = index.iter().chain(rest).copied().collect();
        sample(&[i32s(index, 0, count as i32), u(&values)], move |x| x[1].scatter_add(x[0], count)).sums(40, 2.0)
    };
    vec![
        rows(&[3], &[4], 5),
        rows(&[40], &[3], 2),
        rows(&[2, 3], &[4], 7),
        rows(&[7], &[], 9),
        rows(&[0], &[4], 5),
        rows(&[64], &[16], 20),
        rows(&[30], &[2, 5], 30),
        sample(&[i32s(&[6], -2, 7), u(&[6, 4])], |x| x[1].scatter_add(x[0], 5) * 2.0).sums(6, 2.0),
    ]
}

const ROWS: &[&[usize]] = &[&[1, 1], &[2, 3], &[5, 8], &[3, 7, 12], &[9, 130], &[4, 256], &[2, 1025], &[0, 8]];

pub fn softmax() -> Vec<Sample> {
    let mut rows = over(ROWS, |x| (x * 3.0).softmax(-1));
    rows.push(sample(&[u(&[6, 5])], |x| x[0].softmax(0)));
    rows
}

pub fn log_softmax() -> Vec<Sample> {
    let mut rows = over(ROWS, |x| (x * 3.0).log_softmax(-1));
    rows.push(sample(&[u(&[6, 5])], |x| x[0].log_softmax(0)));
    rows
}

pub fn layer_norm() -> Vec<Sample> {
    let norm = |shape: &[usize]| {
        let n = shape[shape.len() - 1];
        sample(&[u(shape), u(&[n]), u(&[n])], |x| x[0].layer_norm(x[1], x[2], 1e-5)).tolerance(1e-5, 2e-5).sums(64, 2.0)
    };
    let mut rows: Vec<Sample> = [&[2, 3][..], &[5, 8], &[3, 7, 12], &[9, 130], &[40, 256], &[2, 1025], &[100, 16]]
        .into_iter()
        .map(norm)
        .collect();
    rows.push(
        sample(&[u(&[6, 8]), u(&[8]), u(&[8])], |x| x[0] + x[0].layer_norm(x[1], x[2], 1e-5).relu())
            .tolerance(1e-5, 2e-5),
    );
    rows
}

pub fn rms_norm() -> Vec<Sample> {
    let norm = |shape: &[usize]| {
        let n = shape[shape.len() - 1];
        sample(&[u(shape), u(&[n])], |x| x[0].rms_norm(x[1], 1e-5)).tolerance(1e-5, 2e-5).sums(64, 2.0)
    };
    let mut rows: Vec<Sample> =
        [&[2, 3][..], &[5, 8], &[3, 7, 12], &[9, 130], &[40, 256], &[2, 1025], &[1, 1]].into_iter().map(norm).collect();
    rows.push(sample(&[u(&[6, 8]), u(&[8])], |x| x[0] + x[0].rms_norm(x[1], 1e-5) * 2.0).tolerance(1e-5, 2e-5));
    rows
}

pub fn cross_entropy() -> Vec<Sample> {
    let loss = |rows: usize, classes: usize| {
        sample(&[f32s(&[rows, classes], -6.0, 6.0), i32s(&[rows], -1, classes as i32)], |x| {
            x[0].cross_entropy_rows(x[1])
        })
        .tolerance(3e-6, 1e-5)
    };
    let mut rows: Vec<Sample> = [(1, 1), (3, 2), (5, 7), (8, 10), (33, 256), (2, 1025), (64, 16)]
        .into_iter()
        .map(|(r, c)| loss(r, c))
        .collect();
    rows.push(sample(&[u(&[6, 5]), i32s(&[6], 0, 5)], |x| x[0].cross_entropy(x[1])));
    rows.push(sample(&[u(&[2, 3, 5]), i32s(&[2, 3], 0, 5)], |x| x[0].cross_entropy_ignoring(x[1], 2)));
    rows
}

fn attend(q: &[usize], source: usize, causal: bool) -> Sample {
    let k = [q[0], source, q[2], q[3]];
    sample(&[u(q), u(&k), u(&k)], move |x| x[0].attention(x[1], x[2], causal)).tolerance(1e-5, 2e-5).sums(64, 2.0)
}

pub fn attention() -> Vec<Sample> {
    let mut rows = vec![
        attend(&[1, 4, 1, 4], 4, false),
        attend(&[2, 9, 2, 8], 9, true),
        attend(&[1, 17, 3, 16], 17, true),
        attend(&[2, 5, 2, 8], 12, false),
        attend(&[1, 5, 2, 32], 12, true),
        attend(&[1, 33, 1, 64], 33, true),
        attend(&[1, 1, 1, 4], 1, true),
    ];
    // Queries, keys and values as slices of one packed tensor: the form of a GPT.
    rows.push(
        sample(&[u(&[2, 10, 48])], |x| {
            let part = |i: usize| x[0].slice(-1, i * 16, (i + 1) * 16).reshape([2, 10, 2, 8]);
            part(0).attention(part(1), part(2), true).reshape([2, 10, 16])
        })
        .tolerance(1e-5, 2e-5),
    );
    rows
}

/// Head sizes without a kernel of their own: the definition serves.
pub fn attention_sizes() -> Vec<Sample> {
    vec![
        attend(&[2, 5, 2, 3], 5, true),
        attend(&[1, 4, 1, 6], 7, false),
        attend(&[1, 3, 1, 1], 3, true),
        attend(&[1, 6, 2, 132], 6, true),
        attend(&[1, 1, 1, 5], 1, false),
        attend(&[2, 4, 1, 7], 4, true),
        attend(&[1, 3, 2, 10], 9, true),
        attend(&[1, 2, 1, 130], 3, false),
    ]
}

pub fn iota() -> Vec<Sample> {
    let at = |shape: &'static [usize], axis: usize| {
        sample(&[u(&[])], move |x| x[0].graph().iota(shape, axis).cast(DType::F32) * x[0])
    };
    vec![
        at(&[5], 0),
        at(&[3, 4], 0),
        at(&[3, 4], 1),
        at(&[2, 3, 5], 1),
        at(&[8, 8], 1),
        at(&[1], 0),
        at(&[0, 3], 1),
        at(&[33, 16], 0),
    ]
}

pub fn integers() -> Vec<Sample> {
    let two = |build: for<'g> fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>| {
        sample(&[i32s(&[6, 8], -9, 9), i32s(&[6, 8], 1, 9)], move |x| build(x[0], x[1])).no_gradient()
    };
    vec![
        two(|a, b| a + b),
        two(|a, b| a - b),
        two(|a, b| a * b),
        two(|a, b| a / b),
        two(|a, b| a.maximum(b)),
        two(|a, b| a.lt(b).select(a, b)),
        two(|a, b| (-a).abs() + b.sign()),
        two(|a, b| (a + b).sum(&[0])),
        two(|a, b| (a * b).max(&[1])),
        sample(&[Draw { dtype: DType::U32, ..i32s(&[5, 5], 0, 99) }], |x| x[0].sum_all()).no_gradient(),
    ]
}

pub fn composites() -> Vec<Sample> {
    let mut rows = over(&[&[7, 9], &[4, 8]], |x| x.softplus());
    rows.extend(over(&[&[7, 9], &[4, 8]], |x| x.clamp(-1.0, 0.5)));
    rows.extend(over(&[&[7, 9]], |x| x.leaky_relu(0.1) + x.elu(0.7)));
    rows.extend(over(&[&[7, 9]], |x| x.square().powf(1.5) + x.powf(3.0)).into_iter().map(|s| s.tolerance(2e-5, 2e-5)));
    rows.extend(over(&[&[6, 8]], |x| x.unsqueeze(1).squeeze(1).mean(&[0])));
    rows.push(sample(&[f32s(&[4, 4], 0.5, 2.0)], |x| x[0].powf(-0.5) + x[0].powf(0.5)));
    rows
}

pub fn fused_chains() -> Vec<Sample> {
    vec![
        sample(&[u(&[6, 8]), u(&[8])], |x| ((x[0] * x[1]).exp() + x[0]).sum(&[1]).sqrt()).tolerance(1e-5, 1e-5),
        sample(&[u(&[6, 8])], |x| x[0] * x[0] + x[0].t().reshape([6, 8])),
        sample(&[u(&[5, 5])], |x| x[0] + x[0].t()),
        sample(&[u(&[4, 4]), u(&[])], |x| (x[0] * x[1]) / (x[1].square() + 1.0)),
        sample(&[u(&[8, 8])], |x| x[0].softmax(-1) * x[0].log_softmax(-1)),
        sample(&[u(&[8, 12]), u(&[12, 4])], |x| {
            let y = x[0].matmul(x[1]);
            y * y.sigmoid() + y.sum(&[1]).unsqueeze(1)
        })
        .sums(40, 40.0),
        sample(&[u(&[3, 1, 4]), u(&[1, 5, 4])], |x| (x[0] + x[1]).tanh().mean(&[0, 1])),
        sample(&[u(&[8]), u(&[8, 16])], |x| {
            let gate = x[0].sigmoid();
            (gate.unsqueeze(-1) * x[1]).sum(&[-1]) + gate
        })
        .sums(16, 2.0),
        sample(&[f32s(&[64, 8], -0.4, 0.4), f32s(&[8], -1.0, 1.0)], |x| {
            x[0].matmul(x[0].t()).exp().sum(&[1]) * x[1].sum_all()
        })
        .sums(64, 40.0),
    ]
}

pub fn custom() -> Vec<Sample> {
    fn cube() -> Arc<CustomOp> {
        Arc::new(CustomOp {
            name: "cube".into(),
            infer: |x| Ok(x[0].clone()),
            meaning: |_: &[TensorType], x: &[&[f64]]| x[0].iter().map(|v| v * v * v).collect(),
            gradient: Some(|g, x, _| vec![Some(g * x[0] * x[0] * 3.0)]),
            wgsl: "fn element(i: u32) -> f32 { let v = in0[i]; return v * v * v; }".into(),
        })
    }
    let mut rows = over(MIXED, |x| x.apply(Op::Custom(cube()), &[]) + 1.0);
    rows.push(sample(&[u(&[6, 5])], |x| x[0].t().apply(Op::Custom(cube()), &[])));
    rows
}
