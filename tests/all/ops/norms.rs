//! Rows of normalisations over channels, of resampling and of padding.

use super::harness::{Draw, Sample, f32s, i32s, sample};
use wgrad::graph::Tensor;
use wgrad::tensor::{Interpolation, Kernel, Padding, Positions, Resize, Rounding};

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

pub fn group_norm() -> Vec<Sample> {
    let norm = |shape: &[usize], groups: usize| {
        with_channels(shape, move |x| x[0].group_norm(groups, Some(x[1]), Some(x[2]), 1e-5))
    };
    vec![
        norm(&[2, 4, 5], 2),
        norm(&[3, 6, 4, 4], 3),
        norm(&[2, 6, 3, 5], 1),
        norm(&[2, 6, 3, 5], 6),
        norm(&[5, 8], 2),
        norm(&[1, 12, 7, 9], 4),
        norm(&[4, 2, 130], 1),
        with_channels(&[2, 4, 6], |x| x[0].group_norm(2, None, None, 1e-3) + x[0]),
        with_channels(&[2, 4, 6], |x| x[0].group_norm(4, Some(x[1]), None, 1e-3).relu()),
    ]
}

pub fn instance_norm() -> Vec<Sample> {
    let norm = |shape: &[usize]| with_channels(shape, |x| x[0].instance_norm(Some(x[1]), Some(x[2]), 1e-5));
    let shapes: [&[usize]; 7] =
        [&[2, 4, 5], &[3, 6, 4, 4], &[1, 3, 7, 9], &[2, 1, 130], &[0, 2, 3], &[2, 3, 2, 3, 4], &[5, 2, 2]];
    let mut rows: Vec<Sample> = shapes.into_iter().map(norm).collect();
    rows.push(with_channels(&[2, 4, 6], |x| x[0].instance_norm(None, None, 1e-3) * 2.0));
    rows
}

pub fn layer_norm_over() -> Vec<Sample> {
    let norm = |shape: &[usize], axes: usize| {
        let over = shape[shape.len() - axes..].to_vec();
        sample(&[u(shape), u(&over), u(&over)], move |x| x[0].layer_norm_over(&over, Some(x[1]), Some(x[2]), 1e-5))
            .tolerance(1e-5, 2e-5)
            .sums(64, 2.0)
    };
    vec![
        norm(&[2, 3, 5], 2),
        norm(&[2, 3, 4, 4], 3),
        norm(&[6, 8], 1),
        norm(&[6, 8], 2),
        norm(&[7], 1),
        norm(&[3, 1, 5, 2], 2),
        norm(&[0, 3, 4], 2),
        sample(&[u(&[4, 3, 5])], |x| x[0].layer_norm_over(&[3, 5], None, None, 1e-5)).tolerance(1e-5, 2e-5),
        sample(&[u(&[4, 3, 5]), u(&[3, 5])], |x| x[0].layer_norm_over(&[3, 5], Some(x[1]), None, 1e-5))
            .tolerance(1e-5, 2e-5),
    ]
}

pub fn local_response_norm() -> Vec<Sample> {
    let norm = |shape: &[usize], size: usize| {
        sample(&[u(shape)], move |x| x[0].local_response_norm(size, 0.3, 0.75, 1.0)).tolerance(1e-5, 1e-5)
    };
    vec![
        norm(&[2, 5, 3], 3),
        norm(&[2, 5, 3, 4], 2),
        norm(&[1, 8, 2, 2], 5),
        norm(&[2, 3, 4], 1),
        norm(&[2, 3, 4], 9),
        norm(&[1, 4, 2, 3, 2], 4),
        norm(&[0, 4, 2], 3),
        sample(&[u(&[2, 6, 5])], |x| x[0].local_response_norm(5, 1e-4, 0.5, 2.0) * 3.0),
    ]
}

fn resized(shape: &[usize], size: &[usize], mode: Interpolation) -> Sample {
    let to = Resize::Size(size.to_vec());
    sample(&[u(shape)], move |x| x[0].interpolate(&to, mode))
}

fn scaled(shape: &[usize], scale: &[f64], mode: Interpolation) -> Sample {
    let to = Resize::Scale(scale.to_vec());
    sample(&[u(shape)], move |x| x[0].interpolate(&to, mode))
}

pub fn resize_nearest() -> Vec<Sample> {
    use Interpolation::{Nearest, NearestExact};
    vec![
        resized(&[2, 3, 4], &[8], Nearest),
        resized(&[2, 3, 4], &[7], Nearest),
        resized(&[1, 2, 6, 9], &[3, 3], Nearest),
        resized(&[1, 2, 6, 9], &[3, 3], NearestExact),
        resized(&[1, 2, 5, 3], &[7, 4], NearestExact),
        resized(&[2, 1, 2, 3, 4], &[4, 2, 6], Nearest),
        scaled(&[2, 2, 3, 5], &[2.0], Nearest),
        scaled(&[2, 2, 3, 5], &[1.5, 0.7], NearestExact),
        sample(&[i32s(&[1, 2, 5], -9, 9)], |x| x[0].interpolate(&Resize::Size(vec![8]), Nearest)).no_gradient(),
        sample(&[u(&[2, 3, 5])], |x| {
            let at = Positions { step: 7, start: -3, unit: 5 };
            let by = |rounding| x[0].resize_axis(-1, 4, at, Kernel::Nearest(rounding));
            by(Rounding::Floor) + by(Rounding::Ceil) * 2.0 + by(Rounding::HalfDown) * 3.0 + by(Rounding::HalfUp) * 5.0
        }),
        sample(&[u(&[2, 2, 4, 4])], |x| {
            let small = x[0].relu().interpolate(&Resize::Scale(vec![0.5]), Nearest);
            small.interpolate(&Resize::Size(vec![4, 4]), Nearest) + x[0]
        }),
    ]
}

pub fn resize_linear() -> Vec<Sample> {
    let linear = |align_corners| Interpolation::Linear { align_corners };
    vec![
        resized(&[2, 3, 4], &[8], linear(false)),
        resized(&[2, 3, 4], &[7], linear(true)),
        resized(&[1, 2, 6, 9], &[3, 4], linear(false)),
        resized(&[1, 2, 6, 9], &[3, 4], linear(true)),
        resized(&[2, 2, 5, 1], &[1, 6], linear(false)),
        resized(&[2, 2, 5, 3], &[1, 6], linear(true)),
        resized(&[1, 1, 2, 3, 4], &[4, 2, 5], linear(false)),
        scaled(&[2, 2, 3, 5], &[2.0], linear(false)),
        scaled(&[2, 2, 3, 5], &[1.3, 0.7], linear(false)),
        sample(&[u(&[3, 7])], |x| x[0].resize_axis(0, 5, Positions::half_pixel([3, 5]), Kernel::Linear)),
    ]
}

pub fn resize_cubic() -> Vec<Sample> {
    let cubic = |align_corners| Interpolation::Cubic { align_corners };
    vec![
        resized(&[1, 2, 4, 4], &[8, 8], cubic(false)),
        resized(&[1, 2, 4, 5], &[7, 3], cubic(false)),
        resized(&[1, 2, 4, 5], &[7, 3], cubic(true)),
        resized(&[2, 1, 1, 3], &[4, 1], cubic(false)),
        resized(&[2, 1, 2, 3], &[1, 5], cubic(true)),
        scaled(&[1, 1, 6, 7], &[0.5], cubic(false)),
        scaled(&[1, 1, 3, 4], &[1.7, 2.2], cubic(false)),
        sample(&[u(&[7, 3])], |x| x[0].resize_axis(0, 9, Positions::from_zero([7, 9]), Kernel::Cubic(-0.5))),
    ]
}

pub fn pixel_shuffle() -> Vec<Sample> {
    let shuffle = |shape: &[usize], r: usize| sample(&[u(shape)], move |x| x[0].pixel_shuffle(r) * 2.0);
    let unshuffle = |shape: &[usize], r: usize| sample(&[u(shape)], move |x| x[0].pixel_unshuffle(r) * 2.0);
    let deal = |shape: &[usize], groups: usize| sample(&[u(shape)], move |x| x[0].channel_shuffle(groups) * 2.0);
    vec![
        shuffle(&[2, 4, 3, 5], 2),
        shuffle(&[1, 18, 2, 2], 3),
        shuffle(&[4, 2, 3], 2),
        shuffle(&[2, 3, 4, 1, 3], 2),
        unshuffle(&[2, 1, 6, 4], 2),
        unshuffle(&[3, 6, 9], 3),
        unshuffle(&[2, 3, 4, 5], 1),
        deal(&[2, 6, 4], 3),
        deal(&[2, 8, 3, 5], 2),
        deal(&[1, 4, 2, 2], 4),
    ]
}

pub fn pad_axes() -> Vec<Sample> {
    let padded = |shape: &[usize], pads: &[isize], mode: Padding| {
        let pads = pads.to_vec();
        sample(&[u(shape)], move |x| x[0].pad_axes(&pads, mode))
    };
    use Padding::{Circular, Constant, Reflect, Replicate};
    vec![
        padded(&[4, 5], &[1, 2], Constant(0.5)),
        padded(&[3, 4, 5], &[1, 2, 0, 3, 2, 0], Constant(-1.0)),
        padded(&[4, 5], &[-1, 2, 1, -2], Constant(0.0)),
        padded(&[2, 3, 5], &[4, 3], Reflect),
        padded(&[1, 2, 4, 5], &[1, 2, 3, 0], Reflect),
        padded(&[2, 2, 4, 4], &[-1, 3, 2, -2], Reflect),
        padded(&[2, 3, 1], &[2, 3], Replicate),
        padded(&[1, 2, 4, 5], &[1, 0, 0, 6], Replicate),
        padded(&[1, 1, 2, 3, 4], &[1, 2, 0, 1, 2, 2], Replicate),
        padded(&[2, 3, 4], &[4, 1], Circular),
        padded(&[1, 2, 4, 5], &[1, 2, 3, 0], Circular),
        padded(&[1, 2, 4, 5], &[-2, 1, 1, -1], Circular),
        padded(&[2, 3], &[], Reflect),
        sample(&[i32s(&[2, 6], -9, 9)], |x| x[0].pad_axes(&[2, 2], Reflect)).no_gradient(),
        sample(&[u(&[3, 4])], |x| x[0].t().exp().pad_axes(&[1, 1, 1, 1], Reflect) * 2.0),
    ]
}
