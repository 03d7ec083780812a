//! Products of matrices, tables of vectors, movement of elements, comparisons; the norm without means.

use super::{Attributes, check};
use wgrad::graph::{Graph, Tensor};
use wgrad::tensor::concat;

fn products<'g>(op: &str, x: &[Tensor<'g>], a: &Attributes) -> Option<Tensor<'g>> {
    Some(match op {
        "matmul" => x[0].matmul(x[1]),
        "linear" if x[0].rank() == 1 => (x[0].unsqueeze(0).matmul(x[1]) + x[2]).squeeze(0),
        "linear" => x[0].matmul(x[1]) + x[2],
        "embedding" => x[0].gather(x[1]),
        "rms_norm" => x[0].rms_norm(x[1], a.f64("eps", 1e-5) as f32),
        "global_avg_pool" => x[0].global_avg_pool(),
        "global_max_pool" => x[0].global_max_pool(),
        _ => return None,
    })
}

fn comparisons<'g>(op: &str, x: &[Tensor<'g>]) -> Option<Tensor<'g>> {
    Some(match op {
        "eq" => x[0].eq(x[1]),
        "ne" => x[0].ne(x[1]),
        "lt" => x[0].lt(x[1]),
        "le" => x[0].le(x[1]),
        "gt" => x[0].gt(x[1]),
        "ge" => x[0].ge(x[1]),
        "logical_and" => x[0].logical_and(x[1]),
        "logical_or" => x[0].logical_or(x[1]),
        "logical_not" => x[0].logical_not(),
        _ => return None,
    })
}

fn movement<'g>(op: &str, x: &[Tensor<'g>], a: &Attributes) -> Tensor<'g> {
    let sizes = |name: &str| -> Vec<usize> { a.ints(name, &[], 1).into_iter().map(|n| n as usize).collect() };
    let axis = |name: &str| a.int(name, 0) as isize;
    match op {
        "reshape" => x[0].reshape(sizes("shape")),
        "permute" => x[0].permute(&sizes("axes")),
        "transpose" => x[0].transpose(axis("a"), axis("b")),
        "flatten" => x[0].flatten(axis("start"), axis("end")),
        "squeeze" => x[0].squeeze(axis("axis")),
        "unsqueeze" => x[0].unsqueeze(axis("axis")),
        "broadcast_to" => x[0].broadcast_to(sizes("size")),
        "narrow" => {
            let start = a.usize("start", 0);
            x[0].slice(axis("dim"), start, start + a.usize("length", 0))
        }
        "cat" => concat(x[0], &x[1..], axis("dim")),
        other => panic!("no such case: {other}"),
    }
}

fn build<'g>(_: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    vec![products(op, x, a).or_else(|| comparisons(op, x)).unwrap_or_else(|| movement(op, x, a))]
}

#[test]
fn structure() {
    check(include_bytes!("../../oracle/ops/structure.safetensors"), build);
}
