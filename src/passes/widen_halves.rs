//! Half precision is storage: everything is computed in f32.

use super::Rewriter;
use crate::dtype::DType;
use crate::graph::{Graph, Node, Op, Tensor, Value};

/// Gives operations on f16 and bf16 tensors f32 operands, and rounds what they compute. Afterwards only casts and
/// movements know halves; which kernels read them through such a cast, and which store them, is the lowering's to choose.
pub fn widen_halves(graph: &Graph) -> Graph {
    let mut rewriter = Rewriter::new(graph);
    let live = graph.live();
    for (index, node) in graph.nodes().iter().enumerate().filter(|(index, _)| live[*index]) {
        let index = index as u32;
        if carries_halves(&node.op) || !touches_halves(graph, node) {
            rewriter.copy(index);
            continue;
        }
        let inputs = rewriter.inputs(node);
        let to = &rewriter.to;
        let new: Vec<Value> = to.in_scope(&node.scope, || {
            let wide =
                |input: Value| if is_half(to.type_of(input).dtype) { cast(to, input, DType::F32) } else { input };
            let inputs: Vec<Value> = inputs.into_iter().map(wide).collect();
            let first = to.push(node.op.clone(), &inputs);
            let rounded = |(output, ty): (usize, &crate::graph::TensorType)| {
                let value = Value { output: output as u32, ..first };
                if is_half(ty.dtype) { cast(to, value, ty.dtype) } else { value }
            };
            node.outputs.iter().enumerate().map(rounded).collect()
        });
        for (output, value) in new.into_iter().enumerate() {
            rewriter.set(Value { node: index, output: output as u32 }, value);
        }
    }
    rewriter.finish()
}

/// Whether elements are packed two to a word.
pub fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

fn cast(graph: &Graph, value: Value, dtype: DType) -> Value {
    Tensor::new(graph, value).cast(dtype).value()
}

fn touches_halves(graph: &Graph, node: &Node) -> bool {
    node.inputs.iter().any(|&input| is_half(graph.type_of(input).dtype))
        || node.outputs.iter().any(|ty| is_half(ty.dtype))
}

/// Leaves, casts, movements and assignments: they compute nothing.
#[deny(clippy::wildcard_enum_match_arm)]
fn carries_halves(op: &Op) -> bool {
    match op {
        Op::Input(_)
        | Op::State(_)
        | Op::Const(_)
        | Op::Cast(_)
        | Op::StopGradient
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Expand(_)
        | Op::Slice { .. }
        | Op::Window { .. }
        | Op::Assign(_) => true,
        Op::Iota { .. }
        | Op::RandomBits { .. }
        | Op::Pointwise(_)
        | Op::Reduce { .. }
        | Op::ArgMax { .. }
        | Op::CumSum { .. }
        | Op::ArgSort { .. }
        | Op::SumSquares { .. }
        | Op::MatMul
        | Op::Gather
        | Op::ScatterAdd { .. }
        | Op::Fold { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::DynamicSlice { .. }
        | Op::DynamicUpdate { .. }
        | Op::Scan { .. }
        | Op::Custom(_)
        | Op::Macro(_) => false,
    }
}
