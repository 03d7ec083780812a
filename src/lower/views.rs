//! Which stored value each node looks at, and through which strides.
//!
//! Movement operations make no kernel where strides can express them: they become views of a
//! *root*, the value that is really computed or stored.

use crate::graph::{Graph, Op, Value};
use crate::shape::View;

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
}

impl Views {
    /// Resolves every value. After `legalize` each reshape is a view; before it, a reshape that
    /// strides cannot express is its own root.
    pub fn resolve(graph: &Graph) -> Views {
        let mut views = Views::default();
        views.update(graph);
        views
    }

    /// Resolves the nodes that a growing graph has got since the last call.
    pub fn update(&mut self, graph: &Graph) {
        let views = self;
        for index in views.sources.len()..graph.len() {
            let node = graph.node(index as u32);
            let moved = movement(&node.op, node.inputs.first().map(|&input| views.get(input)));
            let own = |output: u32| Source {
                root: Value { node: index as u32, output },
                view: View::contiguous(&node.outputs[output as usize].shape),
            };
            let sources = match moved {
                Some(source) => vec![source],
                None => (0..node.outputs.len() as u32).map(own).collect(),
            };
            views.sources.push(sources);
        }
    }

    pub fn get(&self, value: Value) -> &Source {
        &self.sources[value.node as usize][value.output as usize]
    }
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
        | Op::SumSquares
        | Op::MatMul
        | Op::Gather
        | Op::ScatterAdd { .. }
        | Op::Scan { .. }
        | Op::Custom(_)
        | Op::Macro(_) => return None,
    };
    Some(Source { root: *root, view })
}
