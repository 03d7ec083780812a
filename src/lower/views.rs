//! Which stored value each node looks at, and through which strides.
//!
//! Movement operations make no kernel where strides can express them: they become views of a
//! *root*, the value that is really computed or stored.

use super::border::{Border, Walk};
use crate::dtype::DType;
use crate::graph::{Graph, Node, Op, Value};
use crate::passes::is_half;
use crate::shape::View;
use std::collections::HashMap;

/// A value as a view of a root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    pub root: Value,
    pub view: View,
}

/// The sources of all values of a graph.
#[derive(Default)]
pub struct Views {
    sources: Vec<Vec<Source>>,
    border: Border,
    walks: HashMap<Value, Walk>,
}

impl Views {
    /// Resolves every value. After `legalize` each reshape is a view; before it, a reshape that
    /// strides cannot express is its own root.
    pub fn resolve(graph: &Graph, border: &Border) -> Views {
        let mut views = Views::within(border);
        views.update(graph);
        for node in graph.nodes() {
            if let Op::Assign(name) = &node.op
                && let Some(side) = border.moving_result(name)
            {
                let root = views.get(node.inputs[0]).root;
                views.walks.insert(root, Walk { start: side.view.offset, step: side.step });
            }
        }
        views
    }

    /// No views yet, of a graph whose leaves may be views of something outside.
    pub fn within(border: &Border) -> Views {
        Views { border: border.clone(), ..Views::default() }
    }

    /// Resolves the nodes that a growing graph has got since the last call.
    pub fn update(&mut self, graph: &Graph) {
        let views = self;
        for index in views.sources.len()..graph.len() {
            let node = graph.node(index as u32);
            let side = views.border.read(&node.op).cloned();
            let operand = node.inputs.first().map(|&input| views.get(input));
            let moved = if widens(graph, &node) { operand.cloned() } else { movement(&node.op, operand) };
            let own = |output: u32| Source {
                root: Value { node: index as u32, output },
                view: match &side {
                    Some(side) => side.view.clone(),
                    None => View::contiguous(&node.outputs[output as usize].shape),
                },
            };
            let sources = match moved {
                Some(source) => vec![source],
                None => (0..node.outputs.len() as u32).map(own).collect(),
            };
            views.sources.push(sources);
            if let Some(side) = side.filter(|side| side.step != 0) {
                // Where it starts is in its view.
                views.walks.insert(Value { node: index as u32, output: 0 }, Walk { start: 0, step: side.step });
            }
        }
    }

    /// How the elements of a root move from step to step, beside what its view says.
    pub fn walk(&self, root: Value) -> Walk {
        self.walks.get(&root).copied().unwrap_or_default()
    }

    pub fn get(&self, value: Value) -> &Source {
        &self.sources[value.node as usize][value.output as usize]
    }
}

/// Whether a node is halves seen as f32. Whoever reads a half gets f32, so that this is a view of what is stored; no
/// copy is made but for kernels that read words.
pub fn widens(graph: &Graph, node: &Node) -> bool {
    node.op == Op::Cast(DType::F32) && is_half(graph.type_of(node.inputs[0]).dtype)
}

/// The source of a movement's result, if it is a view of its operand's.
#[deny(clippy::wildcard_enum_match_arm)]
fn movement(op: &Op, operand: Option<&Source>) -> Option<Source> {
    let Source { root, view } = operand?;
    let view = match op {
        Op::Reshape(to) => view.reshape(to)?,
        Op::Permute(axes) => view.permute(axes),
        Op::Expand(to) => view.expand(to),
        Op::Slice { starts, sizes } => view.slice(starts, sizes),
        Op::Window { axis, size, stride, dilation } => view.window(*axis, *size, *stride, *dilation),
        Op::StopGradient | Op::Assign(_) => view.clone(),
        Op::Input(_)
        | Op::State(_)
        | Op::Const(_)
        | Op::Iota { .. }
        | Op::RandomBits { .. }
        | Op::Pointwise(_)
        | Op::Cast(_)
        | Op::Fold { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::DynamicSlice { .. }
        | Op::DynamicUpdate { .. }
        | Op::Reduce { .. }
        | Op::ArgMax { .. }
        | Op::CumSum { .. }
        | Op::ArgSort { .. }
        | Op::SumSquares { .. }
        | Op::MatMul
        | Op::Gather
        | Op::ScatterAdd { .. }
        | Op::Scan { .. }
        | Op::Custom(_)
        | Op::Macro(_) => return None,
    };
    Some(Source { root: *root, view })
}
