//! Adding up what several users of a tensor contribute to its gradient.

use crate::graph::{Op, Tensor};
use crate::tensor::concat;

/// The sum of the contributions. Gradients of slices that tile the tensor along one axis are
/// joined rather than padded and added: then their producers can write in place.
pub fn combine<'g>(parts: Vec<Tensor<'g>>) -> Tensor<'g> {
    if let Some(joined) = tiles(&parts) {
        return joined;
    }
    let mut sum = parts[0];
    for part in &parts[1..] {
        sum = sum + *part;
    }
    sum
}

/// The parts joined, if all are zero-padded along one axis, meet without a gap and fill it.
fn tiles<'g>(parts: &[Tensor<'g>]) -> Option<Tensor<'g>> {
    let graph = parts.first()?.graph();
    if parts.len() < 2 {
        return None;
    }
    let mut boxes = Vec::new();
    for part in parts {
        let node = graph.node(part.value().node);
        let Op::Pad { before, after, value } = node.op else { return None };
        if value.value() != 0.0 {
            return None;
        }
        let padded: Vec<usize> = (0..before.len()).filter(|&axis| before[axis] + after[axis] > 0).collect();
        let &[axis] = padded.as_slice() else { return None };
        boxes.push((axis, before[axis], Tensor::new(graph, node.inputs[0])));
    }
    crate::sort::sort_by_key(&mut boxes, |(_, start, _)| *start);
    let axis = boxes[0].0;
    let mut end = 0;
    for (own, start, part) in &boxes {
        if *own != axis || *start != end {
            return None;
        }
        end += part.shape()[axis];
    }
    if end != parts[0].shape()[axis] {
        return None;
    }
    let rest: Vec<_> = boxes[1..].iter().map(|(_, _, part)| *part).collect();
    Some(concat(boxes[0].2, &rest, axis as isize))
}
