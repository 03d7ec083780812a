//! Einstein summation.

use super::{Attributes, check};
use wgrad::graph::{Graph, Tensor};
use wgrad::tensor::einsum as sum;

fn build<'g>(_: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    assert_eq!(op, "einsum");
    vec![sum(&a.str("equation", ""), x[0], &x[1..])]
}

#[test]
fn einsum() {
    check(include_bytes!("../../oracle/ops/einsum.safetensors"), build);
}
