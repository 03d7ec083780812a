//! Which values of a graph must be known when it is traced, because shapes follow from them.
//!
//! Walks the nodes backwards: an input that an operator reads as a constant must be known, and with it everything that
//! it is computed from, except through operators that look only at shapes.

use super::Model;
use super::limits::MAX_CALLS;
use super::ops;
use super::proto::{FunctionProto, NodeProto};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

/// The analysis, with what it found about functions.
pub struct Needs<'m> {
    model: &'m Model,
    /// Which inputs of a function must be known; an empty list while it is being looked at.
    functions: RefCell<HashMap<*const FunctionProto, Vec<usize>>>,
    depth: Cell<usize>,
}

impl<'m> Needs<'m> {
    pub fn new(model: &'m Model) -> Needs<'m> {
        Needs { model, functions: RefCell::default(), depth: Cell::new(0) }
    }

    /// The names that must be known, whether these nodes give them or something around them.
    pub fn of(&self, nodes: &'m [NodeProto]) -> HashSet<&'m str> {
        let mut needed = HashSet::new();
        self.walk(nodes, &mut needed);
        needed
    }

    fn walk(&self, nodes: &'m [NodeProto], needed: &mut HashSet<&'m str>) {
        for node in nodes.iter().rev() {
            let op_type = node.op_type.as_deref().unwrap_or_default();
            let domain = node.domain.as_deref().unwrap_or_default();
            let domain = if domain == "ai.onnx" { "" } else { domain };
            let through = !matches!(op_type, "Shape" | "Size");
            if through && node.output.iter().any(|name| needed.contains(name.as_str())) {
                needed.extend(node.input.iter().map(String::as_str));
            }
            for graph in node.attribute.iter().filter_map(|attribute| attribute.g.as_deref()) {
                if node.output.iter().any(|name| needed.contains(name.as_str())) {
                    needed.extend(graph.output.iter().filter_map(|output| output.name.as_deref()));
                }
                self.walk(&graph.node, needed);
            }
            let slots = match self.model.function(domain, op_type) {
                Some(function) => self.slots(function),
                None => ops::lookup(domain, op_type).map_or(vec![], |op| op.constants.to_vec()),
            };
            needed.extend(slots.iter().filter_map(|&slot| node.input.get(slot)).map(String::as_str));
        }
        needed.remove("");
    }

    fn slots(&self, function: &'m FunctionProto) -> Vec<usize> {
        let key: *const FunctionProto = function;
        // Deeper than this nothing is traced anyway.
        if self.depth.get() > MAX_CALLS {
            return vec![];
        }
        if let Some(known) = self.functions.borrow().get(&key) {
            return known.clone();
        }
        self.functions.borrow_mut().insert(key, vec![]);
        self.depth.set(self.depth.get() + 1);
        let needed = self.of(&function.node);
        self.depth.set(self.depth.get() - 1);
        let slots: Vec<usize> =
            (0..function.input.len()).filter(|&index| needed.contains(function.input[index].as_str())).collect();
        self.functions.borrow_mut().insert(key, slots.clone());
        slots
    }
}
