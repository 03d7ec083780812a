//! The walk that every pass shares: copy a graph node by node, replacing what the pass wants.

use crate::graph::{Graph, Node, Tensor, Value};
use std::collections::HashMap;

/// A graph being copied into another.
pub struct Rewriter<'a> {
    pub from: &'a Graph,
    pub to: Graph,
    map: HashMap<Value, Value>,
}

impl<'a> Rewriter<'a> {
    pub fn new(from: &'a Graph) -> Rewriter<'a> {
        let to = Graph::new();
        to.inherit(from);
        Rewriter { from, to, map: HashMap::new() }
    }

    /// The new value of an old one that was already copied.
    pub fn get(&self, old: Value) -> Option<Value> {
        self.map.get(&old).copied()
    }

    /// Records what an old value became.
    pub fn set(&mut self, old: Value, new: Value) {
        self.map.insert(old, new);
    }

    /// Copies a node as it is, with everything it needs that was not copied yet.
    pub fn copy(&mut self, index: u32) {
        let node = self.from.node(index);
        if self.map.contains_key(&Value { node: index, output: 0 }) {
            return;
        }
        for input in &node.inputs {
            self.copy(input.node);
        }
        let inputs = self.inputs(&node);
        let new = self.to.in_scope(&node.scope, || self.to.push(node.op.clone(), &inputs));
        self.record(index, &node, new);
    }

    /// The new values of a node's operands, all of which were copied.
    pub fn inputs(&self, node: &Node) -> Vec<Value> {
        node.inputs.iter().filter_map(|&input| self.get(input)).collect()
    }

    /// Maps all outputs of an old node to those of a new one.
    pub fn record(&mut self, index: u32, node: &Node, new: Value) {
        for output in 0..node.outputs.len() as u32 {
            let mapped = if output == 0 { new } else { Value { node: new.node, output } };
            self.map.insert(Value { node: index, output }, mapped);
        }
    }

    /// Names the outputs and gives the finished graph.
    pub fn finish(self) -> Graph {
        for (name, value) in self.from.outputs() {
            if let Some(new) = self.get(value) {
                self.to.output(&name, Tensor::new(&self.to, new));
            }
        }
        self.to
    }
}

/// Copies the live part of a graph. `replace` sees each node with its new operands and may give
/// the value that stands for it; otherwise the node is copied.
pub fn rewrite(graph: &Graph, replace: impl Fn(&Graph, &Node, &[Value]) -> Option<Value>) -> Graph {
    let mut rewriter = Rewriter::new(graph);
    let live = graph.live();
    for (index, node) in graph.nodes().iter().enumerate() {
        if !live[index] {
            continue;
        }
        let inputs = rewriter.inputs(node);
        let new = rewriter.to.in_scope(&node.scope, || match replace(&rewriter.to, node, &inputs) {
            Some(value) => value,
            None => rewriter.to.push(node.op.clone(), &inputs),
        });
        rewriter.record(index as u32, node, new);
    }
    rewriter.finish()
}
