//! When each transient value of a program is needed.
//!
//! Time is counted in dispatches as they are listed, bodies of loops once. Knows a program in which each transient
//! buffer holds one value, as it is before values are packed into slabs.

use super::{Dispatch, Program, Role, Segment};
use std::ops::Range;

/// A transient value, from its first to its last dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetime {
    pub buffer: usize,
    pub bytes: u64,
    pub first: usize,
    /// The last dispatch that needs it; for a result, the last one of all.
    pub last: usize,
    /// The most dispatches between two that follow each other in using it.
    pub pause: usize,
    /// The operation that makes it.
    pub label: String,
}

/// The lives of all transient buffers that are used. What a loop shares with the program around it lives as long as the
/// loop; what begins and ends within a step of it lives that long.
pub fn lifetimes(program: &Program) -> Vec<Lifetime> {
    let mut lives: Vec<Option<Lifetime>> = vec![None; program.buffers.len()];
    let mut extend = |buffer: usize, at: Range<usize>, label: &str| {
        let decl = &program.buffers[buffer];
        if decl.role != Role::Transient {
            return;
        }
        match &mut lives[buffer] {
            Some(life) => {
                let pause = at.start.saturating_sub(life.last);
                (life.last, life.pause) = (life.last.max(at.end - 1), life.pause.max(pause));
            }
            none => {
                let (bytes, label) = (decl.bytes, label.to_string());
                *none = Some(Lifetime { buffer, bytes, first: at.start, last: at.end - 1, pause: 0, label });
            }
        }
    };
    let inner = only_inside(program);
    let mut position = 0;
    for segment in &program.segments {
        let (dispatches, looped): (&[Dispatch], bool) = match segment {
            Segment::Gpu(dispatches) => (dispatches, false),
            Segment::Repeat { body, .. } => (body, true),
            Segment::Host(_) => (&[], false),
        };
        let whole = position..position + dispatches.len();
        for (index, dispatch) in dispatches.iter().enumerate() {
            for binding in &dispatch.bindings {
                let own = position + index..position + index + 1;
                let at = if looped && !inner[binding.buffer] { whole.clone() } else { own };
                extend(binding.buffer, at, &dispatch.label);
            }
        }
        position = whole.end;
    }
    for output in &program.outputs {
        extend(output.buffer, position.max(1) - 1..position.max(1), "output");
    }
    lives.into_iter().flatten().collect()
}

/// Which buffers only one loop uses.
fn only_inside(program: &Program) -> Vec<bool> {
    let mut user: Vec<Option<usize>> = vec![None; program.buffers.len()];
    let mut inside = vec![true; program.buffers.len()];
    for (number, segment) in program.segments.iter().enumerate() {
        let (dispatches, looped): (&[Dispatch], bool) = match segment {
            Segment::Gpu(dispatches) => (dispatches, false),
            Segment::Repeat { body, .. } => (body, true),
            Segment::Host(_) => (&[], false),
        };
        for binding in dispatches.iter().flat_map(|dispatch| &dispatch.bindings) {
            let known = user[binding.buffer].get_or_insert(number);
            inside[binding.buffer] &= looped && *known == number;
        }
    }
    program.outputs.iter().for_each(|output| inside[output.buffer] = false);
    inside
}

/// Bytes of transient values that are alive at each dispatch.
pub fn alive(lives: &[Lifetime], dispatches: usize) -> Vec<u64> {
    let mut change = vec![0i128; dispatches + 1];
    for life in lives {
        change[life.first] += i128::from(life.bytes);
        change[life.last + 1] -= i128::from(life.bytes);
    }
    let sum = |alive: &mut i128, step: &i128| {
        *alive += step;
        Some(*alive as u64)
    };
    change[..dispatches].iter().scan(0i128, sum).collect()
}
