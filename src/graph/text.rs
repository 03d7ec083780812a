//! A graph as text: one line a live node, in order. The debugger and the golden tests read it.

use super::{Graph, Node, Op, ScanBody};
use std::fmt::Write;

/// The operation with its attributes.
pub(crate) fn describe(op: &Op) -> String {
    match op {
        Op::Input(name) | Op::State(name) | Op::Assign(name) => format!("{} \"{name}\"", op.name()),
        Op::Const(literal) => format!("const {}", literal.value()),
        Op::Iota { axis, .. } => format!("iota axis={axis}"),
        Op::RandomBits { stream, .. } => format!("random_bits stream={stream}"),
        Op::Cast(dtype) => format!("cast {dtype}"),
        Op::Permute(axes) => format!("permute {axes:?}"),
        Op::Slice { starts, .. } => format!("slice at {starts:?}"),
        Op::Pad { before, after, value } => format!("pad {before:?} {after:?} with {}", value.value()),
        Op::Concat { axis } | Op::ArgMax { axis } | Op::DynamicUpdate { axis } | Op::DynamicSlice { axis, .. } => {
            format!("{} axis={axis}", op.name())
        }
        Op::Window { axis, size, stride, dilation } => {
            format!("window axis={axis} size={size} stride={stride} dilation={dilation}")
        }
        Op::Fold { axis, stride, dilation, .. } => format!("fold axis={axis} stride={stride} dilation={dilation}"),
        Op::CumSum { axis, reverse, exclusive } => {
            let way = if *reverse { " reverse" } else { "" };
            format!("cumsum axis={axis}{way}{}", if *exclusive { " exclusive" } else { "" })
        }
        Op::ArgSort { axis, descending } => {
            format!("argsort axis={axis}{}", if *descending { " descending" } else { "" })
        }
        Op::Reduce { axes, .. } => format!("{} over {axes:?}", op.name()),
        Op::Scan { length, reverse, .. } => format!("scan {length} steps{}", if *reverse { " reversed" } else { "" }),
        Op::Pointwise(_)
        | Op::StopGradient
        | Op::Reshape(_)
        | Op::Expand(_)
        | Op::SumSquares { .. }
        | Op::MatMul
        | Op::Gather
        | Op::ScatterAdd { .. }
        | Op::Custom(_)
        | Op::Macro(_) => op.name().to_string(),
    }
}

fn line(index: usize, node: &Node) -> String {
    let types: Vec<_> = node.outputs.iter().map(ToString::to_string).collect();
    let inputs: Vec<_> =
        node.inputs
            .iter()
            .map(|value| {
                if value.output == 0 { format!("%{}", value.node) } else { format!("%{}.{}", value.node, value.output) }
            })
            .collect();
    let scope = if node.scope.is_empty() { String::new() } else { format!("   # {}", node.scope) };
    let space = if inputs.is_empty() { "" } else { " " };
    format!("%{index} = {}{space}{} -> {}{scope}", describe(&node.op), inputs.join(", "), types.join(", "))
}

impl ScanBody {
    /// The operations of one step as text, and which values are its results.
    pub fn to_text(&self) -> String {
        let graph = Graph::new();
        let results = self.write(&graph, &self.declare(&graph));
        for (index, result) in results.into_iter().enumerate() {
            let name = if index < self.carries() { "carry" } else { "stacked" };
            graph.output(name, result);
        }
        graph.to_text()
    }
}

impl Graph {
    /// The live part of the graph as text.
    pub fn to_text(&self) -> String {
        let live = self.live();
        let mut text = String::new();
        for (index, node) in self.nodes().iter().enumerate().filter(|(index, _)| live[*index]) {
            let _ = writeln!(text, "{}", line(index, node));
            if let Op::Scan { body, .. } = &node.op {
                for line in body.to_text().lines() {
                    let _ = writeln!(text, "    {line}");
                }
            }
        }
        for (name, value) in self.outputs() {
            let _ = writeln!(text, "output \"{name}\" = %{}.{}", value.node, value.output);
        }
        text
    }
}
