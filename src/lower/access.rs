//! What a fused operation reads, element by element: each read is a base index that is linear in
//! the operation's coordinates.
//!
//! Grouping asks whether these views can be walked on a common grid; emission turns them into
//! index expressions. Both see the same list, so they cannot disagree.

use super::views::Views;
use crate::graph::{Graph, Op, Value};
use crate::shape::{Shape, View};

/// An index linear in the coordinates of the reading node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Access {
    /// The value that is read; `None` where the index itself (a coordinate) is wanted.
    pub root: Option<Value>,
    /// Over the reading node's shape. The offset may wrap below zero: modulo 2^32 on the device.
    pub view: View,
}

/// Operations that are evaluated element by element in fused code.
#[deny(clippy::wildcard_enum_match_arm)]
pub fn is_pointwise(op: &Op) -> bool {
    match op {
        Op::Pointwise(_)
        | Op::Cast(_)
        | Op::Fold { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::DynamicSlice { .. }
        | Op::DynamicUpdate { .. }
        | Op::Gather => true,
        Op::Input(_)
        | Op::State(_)
        | Op::Const(_)
        | Op::Iota { .. }
        | Op::RandomBits { .. }
        | Op::StopGradient
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Expand(_)
        | Op::Slice { .. }
        | Op::Window { .. }
        | Op::Reduce { .. }
        | Op::ArgMax { .. }
        | Op::CumSum { .. }
        | Op::ArgSort { .. }
        | Op::SumSquares { .. }
        | Op::MatMul
        | Op::ScatterAdd { .. }
        | Op::Scan { .. }
        | Op::Assign(_)
        | Op::Custom(_)
        | Op::Macro(_) => false,
    }
}

/// The reads of a pointwise node, in the order in which emission expects them.
pub fn accesses(graph: &Graph, views: &Views, index: u32) -> Vec<Access> {
    let node = graph.node(index);
    let shape = &node.outputs[0].shape;
    let source = |operand: usize| views.get(node.inputs[operand]);
    let read = |operand: usize, view: View| Access { root: Some(source(operand).root), view };
    let scalar = |operand: usize| {
        let offset = source(operand).view.offset;
        read(operand, View { offset, shape: shape.clone(), strides: vec![0; shape.rank()] })
    };
    match &node.op {
        Op::Gather => {
            let (table, at) = (&source(0).view, &source(1).view);
            let rest = table.shape.rank() - 1;
            let index_strides = at.strides.iter().copied().chain(vec![0; rest]).collect();
            let table_strides =
                vec![0; at.shape.rank()].into_iter().chain(table.strides[1..].iter().copied()).collect();
            vec![
                read(1, View { offset: at.offset, shape: shape.clone(), strides: index_strides }),
                read(0, View { offset: table.offset, shape: shape.clone(), strides: table_strides }),
            ]
        }
        Op::DynamicSlice { .. } => vec![scalar(1), read(0, over(shape, &source(0).view, &[]))],
        Op::DynamicUpdate { axis } => vec![
            scalar(2),
            coordinate(shape, *axis),
            read(1, over(shape, &source(1).view, &[])),
            read(0, source(0).view.clone()),
        ],
        // The windows that an element lies in follow from its coordinate, at run time.
        Op::Fold { axis, .. } => {
            let view = &source(0).view;
            let strides = (0..shape.rank()).map(|i| if i == *axis { 0 } else { view.strides[i] }).collect();
            vec![coordinate(shape, *axis), read(0, View { offset: view.offset, shape: shape.clone(), strides })]
        }
        Op::Pad { before, .. } => {
            let padded = pad_axes(&node.op, shape, &source(0).view.shape);
            let mut list: Vec<Access> = padded.iter().map(|&axis| coordinate(shape, axis)).collect();
            list.push(read(0, over(shape, &source(0).view, before)));
            list
        }
        Op::Concat { axis } => {
            let mut list = vec![coordinate(shape, *axis)];
            let mut start = 0;
            for operand in 0..node.inputs.len() {
                let view = &source(operand).view;
                let mut shift = vec![0; shape.rank()];
                shift[*axis] = start;
                list.push(read(operand, over(shape, view, &shift)));
                start += view.shape[*axis];
            }
            list
        }
        _ => (0..node.inputs.len()).map(|operand| read(operand, source(operand).view.clone())).collect(),
    }
}

/// The axes along which a pad adds anything.
pub fn pad_axes(op: &Op, padded: &Shape, inner: &Shape) -> Vec<usize> {
    match op {
        Op::Pad { .. } => (0..padded.rank()).filter(|&axis| padded[axis] != inner[axis]).collect(),
        _ => Vec::new(),
    }
}

/// A view walked over another shape, `shift` coordinates earlier.
fn over(shape: &Shape, view: &View, shift: &[usize]) -> View {
    let back = shift.iter().zip(&view.strides).fold(0usize, |sum, (s, stride)| sum.wrapping_add(s * stride));
    View { offset: view.offset.wrapping_sub(back), shape: shape.clone(), strides: view.strides.clone() }
}

fn coordinate(shape: &Shape, axis: usize) -> Access {
    let strides = (0..shape.rank()).map(|i| usize::from(i == axis)).collect();
    Access { root: None, view: View { offset: 0, shape: shape.clone(), strides } }
}
