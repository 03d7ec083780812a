//! Rows of normalisations over channels.

use super::harness::{Draw, Sample, f32s, sample};
use wgrad::graph::Tensor;

fn u(shape: &[usize]) -> Draw {
    f32s(shape, -2.0, 2.0)
}

/// `x` of this shape with a gain and a bias for each channel.
fn with_channels(shape: &[usize], build: impl for<'g> Fn(&[Tensor<'g>]) -> Tensor<'g> + 'static) -> Sample {
    let channels = shape[1];
    sample(&[u(shape), u(&[channels]), u(&[channels])], build).tolerance(1e-5, 2e-5).sums(64, 2.0)
}

pub fn batch_norm() -> Vec<Sample> {
    let shapes: [&[usize]; 8] =
        [&[4, 3], &[2, 4, 5], &[3, 2, 4, 4], &[2, 5, 3, 7], &[1, 8, 6], &[40, 16], &[5, 7, 9, 11], &[2, 3, 2, 3, 4]];
    let train = |shape: &[usize]| with_channels(shape, |x| x[0].batch_norm_train(Some(x[1]), Some(x[2]), 1e-5).output);
    let mut rows: Vec<Sample> = shapes.into_iter().map(train).collect();
    rows.push(with_channels(&[4, 4, 6], |x| x[0].batch_norm_train(None, None, 1e-3).output.relu() + x[0]));
    // The statistics may be used, and differentiated, themselves.
    rows.push(with_channels(&[4, 3, 2], |x| {
        let normed = x[0].batch_norm_train(Some(x[1]), None, 1e-5);
        normed.output.sum(&[0, 2]) * x[2] + normed.mean + normed.variance
    }));
    let evaluate =
        |shape: &[usize]| with_channels(shape, |x| x[0].batch_norm(x[1], x[2].square(), Some(x[2]), Some(x[1]), 0.1));
    rows.extend([&[4, 3][..], &[2, 4, 5], &[0, 3, 2], &[3, 2, 4, 4]].into_iter().map(evaluate));
    rows.push(with_channels(&[3, 2, 5], |x| x[0].batch_norm(x[1], x[2].square(), None, None, 0.1)));
    rows
}
