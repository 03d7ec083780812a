//! Losses.

use super::{Attributes, check};
use wgrad::graph::{Graph, Tensor};
use wgrad::tensor::{BceOptions, CrossEntropyOptions, Reduction, TripletOptions};

fn reduction(a: &Attributes, default: &str) -> Reduction {
    match a.str("reduction", default).as_str() {
        "none" => Reduction::None,
        "sum" => Reduction::Sum,
        "batchmean" => Reduction::BatchMean,
        _ => Reduction::Mean,
    }
}

fn build<'g>(_: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    let how = reduction(a, "mean");
    // PyTorch gives weights no gradient.
    let weight = x.get(2).map(|weight| weight.stop_gradient());
    let classes = CrossEntropyOptions {
        weight,
        ignore_index: a.int("ignore_index", -100) as i32,
        label_smoothing: a.f64("label_smoothing", 0.0),
        reduction: how,
    };
    let binary = BceOptions { weight, pos_weight: x.get(3).map(|weight| weight.stop_gradient()), reduction: how };
    vec![match op {
        "cross_entropy" | "soft_cross_entropy" => x[0].cross_entropy_with(x[1], &classes),
        "nll_loss" => x[0].nll_loss(x[1], &classes),
        "bce_with_logits" => x[0].binary_cross_entropy_with_logits(x[1], &binary),
        "bce" => x[0].binary_cross_entropy(x[1], &binary),
        "soft_margin_loss" => x[0].soft_margin_loss(x[1], how),
        "multilabel_soft_margin_loss" => x[0].multilabel_soft_margin_loss(x[1], weight, how),
        "mse_loss" => x[0].mse_loss(x[1], how),
        "l1_loss" => x[0].l1_loss(x[1], how),
        "smooth_l1_loss" => x[0].smooth_l1_loss(x[1], a.f64("beta", 1.0), how),
        "huber_loss" => x[0].huber_loss(x[1], a.f64("delta", 1.0), how),
        "kl_div" => x[0].kl_div(x[1], a.bool("log_target", false), how),
        "gaussian_nll_loss" => x[0].gaussian_nll_loss(x[1], x[2], a.bool("full", false), a.f64("eps", 1e-6), how),
        "poisson_nll_loss" => {
            x[0].poisson_nll_loss(x[1], a.bool("log_input", true), a.bool("full", false), a.f64("eps", 1e-8), how)
        }
        other => panic!("no such case: {other}"),
    }]
}

fn contrasts<'g>(_: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    let how = reduction(a, "mean");
    let margin = |default: f64| a.f64("margin", default);
    vec![match op {
        "cosine_embedding_loss" => x[0].cosine_embedding_loss(x[1], x[2], margin(0.0), how),
        "triplet_margin_loss" => {
            let (p, eps, swap) = (a.f64("p", 2.0), a.f64("eps", 1e-6), a.bool("swap", false));
            let options = TripletOptions { margin: margin(1.0), p, eps, swap, reduction: how };
            x[0].triplet_margin_loss(x[1], x[2], &options)
        }
        "margin_ranking_loss" => x[0].margin_ranking_loss(x[1], x[2], margin(0.0), how),
        "hinge_embedding_loss" => x[0].hinge_embedding_loss(x[1], margin(1.0), how),
        "multi_margin_loss" => {
            let weight = x.get(2).map(|weight| weight.stop_gradient());
            x[0].multi_margin_loss(x[1], a.usize("p", 1) as u32, margin(1.0), weight, how)
        }
        "multilabel_margin_loss" => x[0].multilabel_margin_loss(x[1], how),
        "sigmoid_focal_loss" => {
            let alpha = Some(a.f64("alpha", 0.25)).filter(|&alpha| alpha >= 0.0);
            x[0].sigmoid_focal_loss(x[1], alpha, a.f64("gamma", 2.0), reduction(a, "none"))
        }
        "dice_loss" => {
            let axes: Vec<isize> = a.ints("dims", &[], 1).into_iter().map(|axis| axis as isize).collect();
            x[0].dice_loss(x[1], &axes, a.f64("smooth", 1.0), how)
        }
        "info_nce" => x[0].info_nce(x[1], a.f64("temperature", 1.0)),
        "clip_loss" => x[0].clip_loss(x[1], x[2]),
        other => panic!("no such case: {other}"),
    }]
}

#[test]
fn losses() {
    check(include_bytes!("../../oracle/ops/losses.safetensors"), build);
}

#[test]
fn contrastive_losses() {
    check(include_bytes!("../../oracle/ops/contrasts.safetensors"), contrasts);
}
