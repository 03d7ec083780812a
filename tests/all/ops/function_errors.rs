//! What activations, arrangements, norms, losses and Einstein sums refuse, and what their messages say.

use super::harness::refused;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::tensor::{
    BceOptions, CrossEntropyOptions, Reduction, TripletOptions, einsum, meshgrid as grid, stack as stacked,
};

const MEAN: Reduction = Reduction::Mean;

fn f<'g>(graph: &'g Graph, name: &str, shape: &[usize]) -> Tensor<'g> {
    graph.input(name, shape, DType::F32)
}

fn i<'g>(graph: &'g Graph, name: &str, shape: &[usize]) -> Tensor<'g> {
    graph.input(name, shape, DType::I32)
}

type Case = (&'static [&'static str], for<'g> fn(&'g Graph) -> Tensor<'g>);

fn all_refused(cases: &[Case]) {
    for &(words, build) in cases {
        refused(words, |graph| {
            build(graph);
        });
    }
}

#[test]
fn activations_and_arithmetic() {
    all_refused(&[
        (&["leaky_relu", "floating-point", "i32"], |g| i(g, "a", &[2]).leaky_relu(0.1)),
        (&["prelu", "4 channels", "[3]"], |g| f(g, "a", &[2, 4]).prelu(f(g, "w", &[3]))),
        (&["rrelu", "lower", "0.5", "0.25"], |g| f(g, "a", &[2]).rrelu(0.5, 0.25)),
        (&["hardtanh", "exceed"], |g| f(g, "a", &[2]).hardtanh(1.0, 0.0)),
        (&["celu", "alpha"], |g| f(g, "a", &[2]).celu(0.0)),
        (&["softshrink", "negative", "-1"], |g| f(g, "a", &[2]).softshrink(-1.0)),
        (&["glu", "even", "[2, 3]"], |g| f(g, "a", &[2, 3]).glu(1)),
        (&["swiglu", "axis 2"], |g| f(g, "a", &[2, 4]).swiglu(2)),
        (&["gumbel_softmax", "above 0"], |g| f(g, "a", &[2, 4]).gumbel_softmax(0.0, false, 1)),
        (&["isnan", "floating-point", "i32"], |g| i(g, "a", &[2]).isnan()),
        (&["bitwise_and", "integers", "f32"], |g| f(g, "a", &[2]).bitwise_and(f(g, "b", &[2]))),
        (&["shift_left", "integers", "f32"], |g| f(g, "a", &[2]).bitwise_left_shift(1)),
        (&["logical_xor", "bool"], |g| f(g, "a", &[2]).logical_xor(f(g, "b", &[2]))),
        (&["fmod", "[2]", "[3]"], |g| f(g, "a", &[2]).fmod(f(g, "b", &[3]))),
    ]);
}

#[test]
fn arrangements() {
    all_refused(&[
        (&["stack", "[2]", "[3]"], |g| stacked(f(g, "a", &[2]), &[f(g, "b", &[3])], 0)),
        (&["unsqueeze", "axis 2"], |g| stacked(f(g, "a", &[2]), &[f(g, "b", &[2])], 2)),
        (&["split", "parts of 0"], |g| f(g, "a", &[2]).split(0, 0)[0]),
        (&["split", "[1, 2]", "add up to 4"], |g| f(g, "a", &[4]).split_sizes(&[1, 2], 0)[0]),
        (&["chunk", "at least one"], |g| f(g, "a", &[4]).chunk(0, 0)[0]),
        (&["unbind", "axis 1"], |g| f(g, "a", &[4]).unbind(1)[0]),
        (&["index", "entry -5", "size 4"], |g| f(g, "a", &[4]).index(0, -5)),
        (&["flip", "distinct"], |g| f(g, "a", &[4]).flip(&[0, -1])),
        (&["roll", "axis 1"], |g| f(g, "a", &[4]).roll(1, 1)),
        (&["repeat", "2 axes"], |g| f(g, "a", &[4, 2]).repeat(&[2])),
        (&["repeat_interleave", "axis"], |g| f(g, "a", &[]).repeat_interleave(2, 0)),
        (&["meshgrid", "vectors"], |g| grid(&[f(g, "a", &[4, 2])], false)[0]),
        (&["dot", "one length", "[3]"], |g| f(g, "a", &[2]).dot(f(g, "b", &[3]))),
        (&["outer", "vectors"], |g| f(g, "a", &[2, 2]).outer(f(g, "b", &[3]))),
        (&["tril", "matrices"], |g| f(g, "a", &[2]).tril(0)),
        (&["diag", "vector or a matrix"], |g| f(g, "a", &[2, 2, 2]).diag(0)),
        (&["diagonal", "different axes"], |g| f(g, "a", &[2, 2]).diagonal(0, 1, -1)),
        (&["trace", "matrix"], |g| f(g, "a", &[2]).trace()),
        (&["arange", "steps of -1"], |g| g.arange(0.0, 3.0, -1.0, DType::F32)),
    ]);
}

#[test]
fn statistics() {
    all_refused(&[
        (&["var", "1 elements", "correction of 1"], |g| f(g, "a", &[4, 1]).var(&[1], 1)),
        (&["prod", "distinct"], |g| f(g, "a", &[4, 1]).prod(&[1, -1])),
        (&["vector_norm", "NaN"], |g| f(g, "a", &[4]).norm(f64::NAN)),
        (&["cosine_similarity", "broadcast"], |g| f(g, "a", &[4]).cosine_similarity(f(g, "b", &[3]), 0, 1e-8)),
        (&["cdist", "one size", "[2, 4]"], |g| f(g, "a", &[2, 3]).cdist(f(g, "b", &[2, 4]), 2.0)),
        (&["cdist", "negative"], |g| f(g, "a", &[2, 3]).cdist(f(g, "b", &[2, 3]), -1.0)),
        (&["axis 2", "[2, 3]"], |g| f(g, "a", &[2, 3]).logsumexp(&[2])),
    ]);
}

#[test]
fn losses() {
    all_refused(&[
        (&["cross_entropy", "i32[2, 5]", "[2, 3]"], |g| {
            f(g, "a", &[2, 3, 5]).cross_entropy_with(i(g, "t", &[2, 3]), &CrossEntropyOptions::default())
        }),
        (&["cross_entropy", "0..=1"], |g| {
            let options = CrossEntropyOptions { label_smoothing: 2.0, ..Default::default() };
            f(g, "a", &[2, 3]).cross_entropy_with(i(g, "t", &[2]), &options)
        }),
        (&["cross_entropy", "3 classes", "[2]"], |g| {
            let options = CrossEntropyOptions { weight: Some(f(g, "w", &[2])), ..Default::default() };
            f(g, "a", &[2, 3]).cross_entropy_with(i(g, "t", &[2]), &options)
        }),
        (&["cross_entropy", "cannot be ignored"], |g| {
            let options = CrossEntropyOptions { ignore_index: 1, ..Default::default() };
            f(g, "a", &[2, 3]).cross_entropy_with(f(g, "t", &[2, 3]), &options)
        }),
        (&["nll_loss", "floats"], |g| f(g, "a", &[]).nll_loss(i(g, "t", &[]), &Default::default())),
        (&["binary_cross_entropy", "one shape"], |g| {
            f(g, "a", &[2, 3]).binary_cross_entropy(f(g, "t", &[3]), &BceOptions::default())
        }),
        (&["binary_cross_entropy", "pos_weight"], |g| {
            let options = BceOptions { pos_weight: Some(f(g, "w", &[])), ..Default::default() };
            f(g, "a", &[3]).binary_cross_entropy(f(g, "t", &[3]), &options)
        }),
        (&["sigmoid_focal_loss", "alpha"], |g| {
            f(g, "a", &[3]).sigmoid_focal_loss(f(g, "t", &[3]), Some(-1.0), 2.0, MEAN)
        }),
        (&["dice_loss", "one shape"], |g| f(g, "a", &[3]).dice_loss(f(g, "t", &[2]), &[0], 1.0, MEAN)),
        (&["smooth_l1_loss", "-1"], |g| f(g, "a", &[3]).smooth_l1_loss(f(g, "t", &[3]), -1.0, MEAN)),
        (&["huber_loss", "above 0"], |g| f(g, "a", &[3]).huber_loss(f(g, "t", &[3]), 0.0, MEAN)),
        (&["gaussian_nll_loss", "variance"], |g| {
            f(g, "a", &[3, 2]).gaussian_nll_loss(f(g, "t", &[3, 2]), f(g, "v", &[2]), false, 1e-6, MEAN)
        }),
        (&["triplet_margin_loss", "one rank"], |g| {
            f(g, "a", &[3, 2]).triplet_margin_loss(f(g, "p", &[3, 2]), f(g, "n", &[2]), &TripletOptions::default())
        }),
        (&["cosine_embedding_loss", "targets"], |g| {
            f(g, "a", &[3, 2]).cosine_embedding_loss(f(g, "b", &[3, 2]), i(g, "t", &[3, 1]), 0.0, MEAN)
        }),
        (&["margin_ranking_loss", "one rank"], |g| {
            f(g, "a", &[3]).margin_ranking_loss(f(g, "b", &[3]), i(g, "t", &[3, 1]), 0.0, MEAN)
        }),
        (&["multi_margin_loss", "p 3"], |g| f(g, "a", &[3, 2]).multi_margin_loss(i(g, "t", &[3]), 3, 1.0, None, MEAN)),
        (&["multilabel_margin_loss", "i32"], |g| f(g, "a", &[3]).multilabel_margin_loss(f(g, "t", &[3]), MEAN)),
        (&["info_nce", "3 rows", "2"], |g| f(g, "a", &[3, 4]).info_nce(f(g, "k", &[2, 4]), 1.0)),
        (&["clip_loss", "as many rows"], |g| f(g, "a", &[3, 4]).clip_loss(f(g, "b", &[2, 4]), 1.0)),
    ]);
}

#[test]
fn einstein_sums() {
    all_refused(&[
        (&["einsum", "ij,jk->ik", "`j`", "3 and 4"], |g| {
            einsum("ij,jk->ik", f(g, "a", &[2, 3]), &[f(g, "b", &[4, 5])])
        }),
        (&["einsum", "2 operands", "got 1"], |g| einsum("i,i", f(g, "a", &[2]), &[])),
        (&["einsum", "operand 0", "2 letters", "[2]"], |g| einsum("ij->i", f(g, "a", &[2]), &[])),
        (&["einsum", "1 letters", "[2, 3]"], |g| einsum("i->i", f(g, "a", &[2, 3]), &[])),
        (&["einsum", "`k`", "no operand"], |g| einsum("i->k", f(g, "a", &[2]), &[])),
        (&["einsum", "twice"], |g| einsum("ij->ii", f(g, "a", &[2, 3]), &[])),
        (&["einsum", "share a letter", "2, 3"], |g| einsum("ii->i", f(g, "a", &[2, 3]), &[])),
        (&["einsum", "`.`"], |g| einsum("i.j->i", f(g, "a", &[2, 3]), &[])),
        (&["einsum", "two ellipses"], |g| einsum("...i...->i", f(g, "a", &[2, 3]), &[])),
        (&["einsum", "axis -1 of `...`"], |g| einsum("...,...->...", f(g, "a", &[2, 3]), &[f(g, "b", &[2])])),
        (&["einsum", "`1`"], |g| einsum("i1->i", f(g, "a", &[2, 3]), &[])),
    ]);
}
