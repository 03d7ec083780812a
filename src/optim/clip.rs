//! Clipping by the global norm: that of all gradients as one vector.

use crate::graph::{Op, Tensor};

/// The norm of all gradients together: a scalar. `None` if there are no gradients.
#[track_caller]
pub fn global_norm<'g>(gradients: &[Tensor<'g>]) -> Option<Tensor<'g>> {
    let (first, rest) = gradients.split_first()?;
    Some(first.apply(Op::SumSquares { each: false }, rest).sqrt())
}

/// What every gradient is multiplied by so that the norm is at most `max_norm`, as
/// `torch.nn.utils.clip_grad_norm_`: `min(1, max_norm / (norm + 1e-6))`.
#[track_caller]
pub fn clip_coefficient(norm: Tensor<'_>, max_norm: f64) -> Tensor<'_> {
    (max_norm / (norm + 1e-6)).minimum(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::graph::Graph;
    use crate::reference::{self, Array};
    use std::collections::HashMap;

    #[test]
    fn the_norm_is_global_and_a_small_one_changes_nothing() {
        let graph = Graph::new();
        let gradients = [graph.input("a", [2], DType::F32), graph.input("b", [1], DType::F32)];
        let norm = global_norm(&gradients).unwrap();
        let values = [norm, clip_coefficient(norm, 1.0), clip_coefficient(norm, 20.0)].map(Tensor::value);
        let inputs = HashMap::from([
            ("a".to_string(), Array::floats([2], &[3.0, 4.0])),
            ("b".to_string(), Array::floats([1], &[12.0])),
        ]);
        let found = reference::eval(&graph, &values, &inputs, &HashMap::new()).unwrap();
        assert!((found[0].data[0] - 13.0).abs() < 1e-12);
        assert!((found[1].data[0] - 1.0 / 13.000_001).abs() < 1e-9);
        assert_eq!(found[2].data[0], 1.0);
        assert!(global_norm(&[]).is_none());
    }
}
