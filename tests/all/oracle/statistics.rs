//! What is made of reductions: variances, products, norms and distances.

use super::{Attributes, check};
use wgrad::graph::{Graph, Tensor};

fn build<'g>(_: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    let dims: Vec<isize> = a.ints("dim", &[], 1).into_iter().map(|dim| dim as isize).collect();
    let dim = dims.first().copied().unwrap_or(1);
    vec![match op {
        "var" => x[0].var(&dims, a.usize("correction", 1)),
        "std" => x[0].std(&dims, a.usize("correction", 1)),
        "logsumexp" => x[0].logsumexp(&dims),
        "all" => x[0].all(&dims),
        "any" => x[0].any(&dims),
        "vector_norm" => {
            // JSON has no infinity.
            let p = match a.get("ord").and_then(|order| order.as_str()) {
                Some("inf") => f64::INFINITY,
                Some(_) => f64::NEG_INFINITY,
                None => a.f64("ord", 2.0),
            };
            x[0].vector_norm(p, &dims)
        }
        "prod" => x[0].prod(&dims),
        "cosine_similarity" => x[0].cosine_similarity(x[1], dim, a.f64("eps", 1e-8)),
        "pairwise_distance" => x[0].pairwise_distance(x[1], a.f64("p", 2.0), a.f64("eps", 1e-6)),
        "cdist" => x[0].cdist(x[1], a.f64("p", 2.0)),
        "normalize" => x[0].normalize(a.f64("p", 2.0), dim, a.f64("eps", 1e-12)),
        other => panic!("no such case: {other}"),
    }]
}

#[test]
fn statistics() {
    check(include_bytes!("../../oracle/ops/statistics.safetensors"), build);
}
