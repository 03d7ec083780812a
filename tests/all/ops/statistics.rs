//! Rows of what is made of reductions.

use super::harness::{Draw, Sample, f32s, i32s, sample};
use super::table::{over, u};
use wgrad::dtype::DType;

fn loose(rows: Vec<Sample>) -> Vec<Sample> {
    rows.into_iter().map(|sample| sample.tolerance(1e-5, 2e-5)).collect()
}

pub fn variances() -> Vec<Sample> {
    let mut rows = over(&[&[4, 8], &[5, 3], &[17, 12], &[3, 300]], |x| x.var(&[1], 1));
    rows.extend(over(&[&[4, 8], &[5, 3]], |x| x.var(&[0], 0)));
    rows.extend(over(&[&[4, 8], &[2, 3, 4]], |x| x.std(&[-1], 1)));
    rows.extend(over(&[&[2, 3, 4]], |x| x.std(&[0, 2], 2) + x.var(&[0, 2], 0)));
    rows.extend(over(&[&[2, 3, 4]], |x| x.var(&[0, 1, 2], 1)));
    loose(rows)
}

pub fn products() -> Vec<Sample> {
    let mut rows = over(&[&[4, 8], &[5, 3], &[7, 1], &[3, 0], &[2, 13]], |x| x.prod(&[1]));
    rows.extend(over(&[&[5, 4]], |x| x.prod(&[0])));
    rows.extend(over(&[&[2, 3, 4]], |x| x.prod(&[0, -1])));
    rows.extend(over(&[&[6]], |x| x.prod(&[0]) * 2.0));
    // Every third element is 0.
    rows.extend(over(&[&[3, 5]], |x| (x * x.floor()).prod(&[1])));
    rows.push(sample(&[i32s(&[4, 5], -4, 5)], |x| x[0].prod(&[1])).no_gradient());
    loose(rows)
}

pub fn truths() -> Vec<Sample> {
    let rows = |shape: &[usize]| {
        let draws = [Draw { dtype: DType::Bool, ..f32s(shape, 0.0, 1.0) }, i32s(shape, 0, 2)];
        sample(&draws, |x| {
            let of_bools = x[0].any(&[1]).logical_xor(x[0].all(&[1]));
            of_bools.cast(DType::I32) * 4 + x[1].all(&[1]).cast(DType::I32) * 2 + x[1].any(&[1]).cast(DType::I32)
        })
        .no_gradient()
    };
    vec![
        rows(&[5, 1]),
        rows(&[9, 2]),
        rows(&[9, 3]),
        rows(&[4, 0]),
        rows(&[0, 4]),
        rows(&[2, 3, 4]),
        rows(&[30, 4]),
        sample(&[u(&[4, 3])], |x| x[0].gt(0.0).any(&[0, 1])).no_gradient(),
    ]
}

pub fn norms() -> Vec<Sample> {
    let mut rows = over(&[&[4, 8], &[5, 3], &[2, 130]], |x| x.vector_norm(2.0, &[1]));
    rows.extend(over(&[&[4, 8]], |x| x.vector_norm(1.0, &[0]) + x.vector_norm(0.0, &[0])));
    rows.extend(over(&[&[4, 8]], |x| x.vector_norm(f64::INFINITY, &[0]) + x.vector_norm(f64::NEG_INFINITY, &[0])));
    rows.extend(over(&[&[4, 8]], |x| x.vector_norm(3.0, &[1]) + x.vector_norm(1.5, &[1])));
    rows.extend(over(&[&[2, 3, 4]], |x| x.vector_norm(2.0, &[0, 2])));
    rows.extend(over(&[&[3, 4], &[]], |x| x.norm(2.0)));
    rows.extend(over(&[&[3, 4]], |x| x.normalize(2.0, 1, 1e-12) + x.normalize(1.0, 0, 1e-12)));
    rows.extend(over(&[&[3, 4], &[2, 300]], |x| (x * 30.0).logsumexp(&[1])));
    rows.extend(over(&[&[2, 3, 4]], |x| x.logsumexp(&[0, -1]) + x.logsumexp(&[0, 1, 2])));
    loose(rows)
}

pub fn distances() -> Vec<Sample> {
    let two = |a: &[usize], b: &[usize]| [u(a), u(b)];
    loose(vec![
        sample(&two(&[4, 8], &[4, 8]), |x| x[0].cosine_similarity(x[1], 1, 1e-8)),
        sample(&two(&[4, 8], &[8]), |x| x[0].cosine_similarity(x[1], -1, 1e-8)),
        sample(&two(&[4, 1, 3], &[5, 3]), |x| x[0].cosine_similarity(x[1], 0, 1e-8)),
        sample(&two(&[4, 8], &[4, 8]), |x| x[0].pairwise_distance(x[1], 2.0, 1e-6)),
        sample(&two(&[4, 8], &[1, 8]), |x| x[0].pairwise_distance(x[1], 1.0, 1e-6)),
        sample(&two(&[5, 3], &[4, 3]), |x| x[0].cdist(x[1], 2.0)),
        sample(&two(&[2, 5, 3], &[2, 4, 3]), |x| x[0].cdist(x[1], 1.0)),
        sample(&two(&[5, 3], &[2, 1, 3]), |x| x[0].cdist(x[1], f64::INFINITY)),
        sample(&two(&[6, 2], &[6, 2]), |x| x[0].cdist(x[1], 3.0)),
    ])
}
