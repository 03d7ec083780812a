//! Every value of a step looked at: how many of its elements are neither finite nor were so before.
//!
//! Adds to a traced graph, for each value of floats, an output that counts elements which are infinite or NaN. Such a
//! step computes much more and is for finding a mistake only. Knows no devices and no runs.

use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::Results;
use crate::graph::{Graph, Op, Tensor, Value, describe};

/// Before the names of the outputs that are added.
const PREFIX: &str = "not finite/";

/// A value with elements that are not finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Bad {
    /// Operation, place in the model, type; such as `matmul in layer.0, f32[4, 8] (forward and gradients)`.
    pub what: String,
    /// How many of its elements.
    pub elements: u64,
}

/// Has a graph count, for each of its values, the elements that are not finite. `stages` of a step are ordered by name.
pub fn watch(graph: &Graph, stage: &str) {
    let live = graph.live();
    for (index, node) in graph.nodes().into_iter().enumerate().filter(|(index, _)| live[*index]) {
        // The same values under another shape, or a constant that may be meant so.
        let seen = matches!(
            node.op,
            Op::Const(_) | Op::Assign(_) | Op::Reshape(_) | Op::Expand(_) | Op::Permute(_) | Op::StopGradient
        );
        for (output, ty) in node.outputs.iter().enumerate() {
            let float = matches!(ty.dtype, DType::F32 | DType::F16 | DType::BF16);
            if seen || !float || ty.shape.numel() == 0 {
                continue;
            }
            let place = if node.scope.is_empty() { String::new() } else { format!(" in {}", node.scope) };
            let name = format!("{PREFIX}{stage}/{index:06}.{output}/{}{place}, {ty}", describe(&node.op));
            let value = Tensor::new(graph, Value { node: index as u32, output: output as u32 });
            graph.output(&name, value.isfinite().logical_not().cast(DType::F32).sum_all());
        }
    }
}

/// The values of a watched step with elements that are not finite, in the order in which they were computed.
pub fn bad(results: &Results) -> Result<Vec<Bad>> {
    let mut names: Vec<&str> = results.names().filter(|name| name.starts_with(PREFIX)).collect();
    crate::sort::sort(&mut names);
    let mut found = Vec::new();
    for name in names {
        let elements = results.f32(name)?.first().copied().unwrap_or(0.0);
        if elements > 0.0 {
            let mut parts = name[PREFIX.len()..].splitn(3, '/');
            let (stage, what) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
            let what = format!("{what} ({})", stage.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' '));
            found.push(Bad { what, elements: elements as u64 });
        }
    }
    Ok(found)
}
