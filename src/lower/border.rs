//! What the body of a loop sees of the program around it. Empty for a whole program.
//!
//! Operands and results of a body are states of its graph, by name: the loop's carries are read and
//! assigned, its slices read, its stacked results assigned. A side says how such a state is walked from step
//! to step; where it lies is decided with everything else (`place`).

use crate::graph::Op;
use crate::shape::View;
use std::collections::BTreeMap;

/// One operand or result.
#[derive(Debug, Clone)]
pub struct Side {
    /// The elements of the first step.
    pub view: View,
    /// Elements from one step to the next, modulo 2^32; 0 for what stays.
    pub step: u32,
}

/// All operands and results of a body.
#[derive(Debug, Clone, Default)]
pub struct Border {
    sides: BTreeMap<String, Side>,
}

/// Where the elements of a stored value begin in the first step of a loop, and how far they move in each. Nothing
/// moves in a whole program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Walk {
    pub start: usize,
    pub step: u32,
}

impl Walk {
    pub fn moves(self) -> bool {
        self != Walk::default()
    }

    /// Whether vectors of four elements stay whole.
    pub fn in_fours(self) -> bool {
        self.start.is_multiple_of(4) && self.step.is_multiple_of(4)
    }
}

impl Border {
    pub fn insert(&mut self, name: String, side: Side) {
        self.sides.insert(name, side);
    }

    /// Whether this is the body of a loop.
    pub fn is_loop(&self) -> bool {
        !self.sides.is_empty()
    }

    /// The side that a leaf reads, if it comes from outside.
    pub fn read(&self, op: &Op) -> Option<&Side> {
        match op {
            Op::State(name) => self.sides.get(&**name),
            _ => None,
        }
    }

    /// The side that an assignment writes, if it moves from step to step.
    pub fn moving_result(&self, name: &str) -> Option<&Side> {
        self.sides.get(name).filter(|side| side.step != 0)
    }
}
