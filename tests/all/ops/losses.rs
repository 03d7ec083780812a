//! Rows of losses and of Einstein sums.

use super::harness::{Draw, Sample, f32s, i32s, sample};
use super::table::u;
use wgrad::dtype::DType;
use wgrad::graph::Tensor;
use wgrad::tensor::{BceOptions, CrossEntropyOptions, Reduction, TripletOptions, einsum};

const MEAN: Reduction = Reduction::Mean;

fn unit(shape: &[usize]) -> Draw {
    f32s(shape, 0.02, 0.98)
}

/// -1 or 1, from a draw of 0 or 1.
fn signs(shape: &[usize]) -> Draw {
    i32s(shape, 0, 2)
}

fn sign(x: Tensor<'_>) -> Tensor<'_> {
    x * 2 - 1
}

fn loose(rows: Vec<Sample>) -> Vec<Sample> {
    rows.into_iter().map(|sample| sample.tolerance(1e-5, 2e-5)).collect()
}

fn options<'g>(smoothing: f64, reduction: Reduction, weight: Option<Tensor<'g>>) -> CrossEntropyOptions<'g> {
    CrossEntropyOptions { weight, ignore_index: 2, label_smoothing: smoothing, reduction }
}

pub fn class_losses() -> Vec<Sample> {
    let hard = |shape: &'static [usize], target: &[usize], smoothing: f64, reduction: Reduction| {
        sample(&[u(shape), i32s(target, 0, shape[1] as i32)], move |x| {
            x[0].cross_entropy_with(x[1], &options(smoothing, reduction, None))
        })
    };
    let weighted = |shape: &'static [usize], target: &[usize], smoothing: f64, reduction: Reduction| {
        sample(&[u(shape), i32s(target, 0, shape[1] as i32), f32s(&[shape[1]], 0.5, 2.0)], move |x| {
            x[0].cross_entropy_with(x[1], &options(smoothing, reduction, Some(x[2])))
        })
    };
    loose(vec![
        hard(&[6, 5], &[6], 0.0, MEAN),
        hard(&[2, 4, 3, 5], &[2, 3, 5], 0.0, Reduction::None),
        hard(&[33, 20], &[33], 0.1, MEAN),
        weighted(&[6, 5], &[6], 0.0, MEAN),
        weighted(&[2, 4, 7], &[2, 7], 0.2, Reduction::Sum),
        sample(&[u(&[6, 5]), unit(&[6, 5])], |x| x[0].cross_entropy_with(x[1], &CrossEntropyOptions::default())),
        sample(&[u(&[6, 5]), i32s(&[6], 0, 5)], |x| x[0].log_softmax(1).nll_loss(x[1], &Default::default())),
        sample(&[u(&[6, 5]), i32s(&[6], 0, 5)], |x| x[0].multi_margin_loss(x[1], 2, 1.0, None, MEAN)),
        sample(&[u(&[5, 4]), i32s(&[5, 4], -1, 4)], |x| x[0].multilabel_margin_loss(x[1], Reduction::None)),
    ])
}

pub fn probability_losses() -> Vec<Sample> {
    let two = |build: for<'g> fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>| {
        sample(&[f32s(&[6, 9], -6.0, 6.0), unit(&[6, 9])], move |x| build(x[0], x[1]))
    };
    loose(vec![
        two(|x, y| x.binary_cross_entropy_with_logits(y, &BceOptions::default())),
        two(|x, y| {
            let options = BceOptions { pos_weight: Some(y * 3.0), reduction: Reduction::None, ..Default::default() };
            x.binary_cross_entropy_with_logits(y, &options)
        }),
        two(|x, y| x.sigmoid().binary_cross_entropy(y, &BceOptions::default())),
        two(|x, y| x.multilabel_soft_margin_loss(y, None, MEAN)),
        two(|x, y| x.sigmoid_focal_loss(y, Some(0.25), 2.0, Reduction::Sum)),
        two(|x, y| x.sigmoid_focal_loss(y, None, 1.5, Reduction::None)),
        two(|x, y| x.sigmoid().dice_loss(y, &[1], 1.0, MEAN)),
        two(|x, y| x.log_softmax(-1).kl_div(y, false, Reduction::BatchMean)),
        two(|x, y| x.log_softmax(-1).kl_div(y.log(), true, Reduction::Sum)),
        sample(&[u(&[7]), signs(&[7])], |x| x[0].soft_margin_loss(sign(x[1]), MEAN)),
    ])
}

pub fn number_losses() -> Vec<Sample> {
    let two = |build: for<'g> fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>| {
        sample(&[u(&[6, 9]), u(&[6, 9])], move |x| build(x[0], x[1]))
    };
    let counts = |log_input: bool, full: bool| {
        sample(&[f32s(&[9], 0.2, 3.0), i32s(&[9], 0, 6)], move |x| {
            x[0].poisson_nll_loss(x[1], log_input, full, 1e-8, MEAN)
        })
    };
    loose(vec![
        two(|x, y| x.mse_loss(y, MEAN)),
        two(|x, y| x.l1_loss(y, Reduction::Sum)),
        two(|x, y| x.smooth_l1_loss(y, 0.7, Reduction::None)),
        two(|x, y| x.huber_loss(y, 1.3, MEAN)),
        sample(&[u(&[4, 5]), u(&[4, 5]), f32s(&[4, 1], 0.2, 2.0)], |x| {
            x[0].gaussian_nll_loss(x[1], x[2], true, 1e-6, MEAN)
        }),
        sample(&[u(&[4, 5]), u(&[4, 5]), f32s(&[4], 0.2, 2.0)], |x| {
            x[0].gaussian_nll_loss(x[1], x[2], false, 1e-6, Reduction::None)
        }),
        counts(true, false),
        counts(false, true),
    ])
}

pub fn embedding_losses() -> Vec<Sample> {
    let triplet = |swap: bool, p: f64| {
        let options = TripletOptions { swap, p, ..Default::default() };
        sample(&[u(&[5, 8]), u(&[5, 8]), u(&[5, 8])], move |x| x[0].triplet_margin_loss(x[1], x[2], &options))
    };
    let pair = |shape: &[usize], target: &[usize]| [u(shape), u(shape), signs(target)];
    loose(vec![
        sample(&pair(&[5, 8], &[5]), |x| x[0].cosine_embedding_loss(x[1], sign(x[2]), 0.1, Reduction::None)),
        sample(&pair(&[7], &[7]), |x| x[0].margin_ranking_loss(x[1], sign(x[2]), 0.3, MEAN)),
        sample(&[u(&[7, 2]), signs(&[7, 2])], |x| x[0].hinge_embedding_loss(sign(x[1]), 0.8, MEAN)),
        triplet(false, 2.0),
        triplet(true, 1.0),
        sample(&[u(&[5, 8]), u(&[9, 8])], |x| x[0].info_nce(x[1], 0.2)),
        sample(&[u(&[6, 4]), u(&[6, 4]), f32s(&[], 1.0, 5.0)], |x| x[0].clip_loss(x[1], x[2])),
        sample(&[u(&[1, 3]), u(&[1, 3])], |x| x[0].clip_loss(x[1], 2.0)),
    ])
}

pub fn einstein() -> Vec<Sample> {
    let of = |equation: &'static str, shapes: &[&[usize]]| {
        let inputs: Vec<Draw> = shapes.iter().map(|shape| u(shape)).collect();
        sample(&inputs, move |x| einsum(equation, x[0], &x[1..])).sums(64, 8.0)
    };
    vec![
        of("ij,jk->ik", &[&[5, 7], &[7, 3]]),
        of("bqhd,bkhd->bhqk", &[&[2, 5, 2, 8], &[2, 6, 2, 8]]),
        of("bhqk,bkhd->bqhd", &[&[2, 2, 5, 6], &[2, 6, 2, 8]]),
        of("...ij,jk", &[&[2, 1, 3, 4], &[4, 5]]),
        of("ii->i", &[&[6, 6]]),
        of("ijk,jil->kl", &[&[4, 3, 5], &[3, 4, 6]]),
        of("bn,anm,bm->ba", &[&[3, 4], &[5, 4, 6], &[3, 6]]),
        of("i,j->ij", &[&[5], &[7]]),
        of("ij,ij->i", &[&[9, 16], &[9, 16]]),
        of("ij->", &[&[0, 4]]),
        sample(&[i32s(&[3, 4], -5, 5), i32s(&[4, 2], -5, 5)], |x| einsum("ij,jk->ki", x[0], &x[1..])).no_gradient(),
        sample(&[u(&[4, 6])], |x| einsum("ij,kj->ik", x[0], &[x[0]]).cast(DType::F32) * 0.5).sums(6, 8.0),
    ]
}
