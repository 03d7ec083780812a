//! Sorting, running sums, and reading and writing by index.

use super::{Attributes, check};
use wgrad::graph::{Graph, Tensor};

fn build<'g>(_: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    let dim = a.int("dim", 0) as isize;
    let both = |(values, indices): (Tensor<'g>, Tensor<'g>)| vec![values, indices];
    let (descending, k, right) = (a.bool("descending", false), a.usize("k", 0), a.bool("right", false));
    match op {
        "sort" => both(x[0].sort(dim, descending)),
        "topk" => both(x[0].topk(k, dim, a.bool("largest", true))),
        "kthvalue" => both(x[0].kthvalue(k, dim)),
        "median" => both(x[0].median(dim)),
        "cummax" => both(x[0].cummax(dim)),
        "cummin" => both(x[0].cummin(dim)),
        _ => vec![match op {
            "cumsum" => x[0].cumsum(dim),
            "cumprod" => x[0].cumprod(dim),
            "logcumsumexp" => x[0].logcumsumexp(dim),
            "argsort" => x[0].argsort(dim, descending),
            "argmax" => x[0].argmax(dim),
            "argmin" => x[0].argmin(dim),
            "index_select" => x[0].index_select(dim, x[1]),
            "gather" => x[0].gather_along(dim, x[1]),
            "take_along_dim" => x[0].take_along_dim(x[1], dim),
            "scatter_add" => x[0].scatter_add_along(dim, x[1], x[2]),
            "scatter" => x[0].scatter(dim, x[1], x[2]),
            "index_copy" => x[0].index_copy(dim, x[1], x[2]),
            "index_add" => x[0].index_add(dim, x[1], x[2]),
            "one_hot" => x[0].one_hot(a.usize("classes", 0)),
            "bincount" => x[0].bincount(a.usize("bins", 0)),
            "histc" => x[0].histc(a.usize("bins", 0), a.f64("low", 0.0), a.f64("high", 0.0)),
            "searchsorted" => x[0].searchsorted(x[1], right),
            "bucketize" => x[0].bucketize(x[1], right),
            other => panic!("no such case: {other}"),
        }],
    }
}

#[test]
fn index() {
    check(include_bytes!("../../oracle/ops/index.safetensors"), build);
}
