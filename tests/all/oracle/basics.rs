//! Arithmetic that broadcasts, and reductions.

use super::{Attributes, check};
use wgrad::graph::{Graph, PointwiseOp, Tensor};

fn build<'g>(_: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    let dims: Vec<isize> = a.ints("dim", &[], 1).into_iter().map(|dim| dim as isize).collect();
    let binary = |op: PointwiseOp| x[0].pointwise(op, &x[1..]);
    vec![match op {
        "add" => x[0] + x[1],
        "sub" => x[0] - x[1],
        "mul" => x[0] * x[1],
        "div" => x[0] / x[1],
        "maximum" => binary(PointwiseOp::Max),
        "minimum" => binary(PointwiseOp::Min),
        "sum" => x[0].sum(&dims),
        "mean" => x[0].mean(&dims),
        "amax" => x[0].max(&dims),
        "amin" => x[0].min(&dims),
        other => panic!("no such case: {other}"),
    }]
}

#[test]
fn basics() {
    check(include_bytes!("../../oracle/ops/basics.safetensors"), build);
}
