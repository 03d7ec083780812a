//! Padding of several axes: `torch.nn.functional.pad` in its four modes.
//!
//! Constant padding is the primitive; replicated and circular padding are concatenations of views, and
//! reflection gathers. Everything here is exact, of any dtype.

use super::concat;
use crate::graph::{Op, Tensor};

/// What is put around a tensor; PyTorch's `mode`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Padding {
    /// A number.
    Constant(f64),
    /// The elements next to the edge, mirrored without the edge itself: `c b [a b c] b a`.
    Reflect,
    /// The edge's element: `a a [a b c] c c`.
    Replicate,
    /// The elements of the other end: `b c [a b c] a b`.
    Circular,
}

impl<'g> Tensor<'g> {
    /// Padded by `pads` in PyTorch's order: before and after the last axis, before and after the one before it,
    /// and so on. Negative amounts crop. A reflection must be shorter than the axis, a circular padding not longer.
    #[track_caller]
    pub fn pad_axes(self, pads: &[isize], mode: Padding) -> Tensor<'g> {
        if let Err(message) = check(&self.shape(), pads, mode) {
            self.graph().record_error("pad", message);
            return self;
        }
        // A circular padding goes on with what is left of its axis, the others with what was there.
        let crops_first = mode == Padding::Circular;
        let start = if crops_first { self.crop(pads) } else { self };
        let mut result = match mode {
            Padding::Constant(value) => self.pad_constant(pads, value),
            Padding::Reflect | Padding::Replicate | Padding::Circular => start,
        };
        for (index, pair) in pads.chunks_exact(2).enumerate() {
            let axis = self.rank() - 1 - index;
            let [before, after] = [pair[0], pair[1]].map(|amount| amount.max(0) as usize);
            result = match mode {
                _ if before + after == 0 => result,
                Padding::Constant(_) => result,
                Padding::Reflect => result.reflect(axis, before, after),
                Padding::Replicate => result.replicate(axis, before, after),
                Padding::Circular => result.wrap(axis, before, after),
            };
        }
        if crops_first { result } else { result.crop(pads) }
    }

    /// What negative amounts leave.
    fn crop(self, pads: &[isize]) -> Tensor<'g> {
        let mut result = self;
        for (index, pair) in pads.chunks_exact(2).enumerate() {
            let axis = self.rank() - 1 - index;
            let [low, high] = [pair[0], pair[1]].map(|amount| amount.min(0).unsigned_abs());
            if low + high > 0 {
                result = result.slice(axis as isize, low, result.shape()[axis] - high);
            }
        }
        result
    }

    /// One `Pad` for all axes.
    fn pad_constant(self, pads: &[isize], value: f64) -> Tensor<'g> {
        let rank = self.rank();
        let mut amounts = [vec![0; rank], vec![0; rank]];
        for (index, &amount) in pads.iter().enumerate() {
            amounts[index % 2][rank - 1 - index / 2] = amount.max(0) as usize;
        }
        let [before, after] = amounts;
        if before.iter().chain(&after).all(|&amount| amount == 0) {
            return self;
        }
        self.apply(Op::Pad { before, after, value: self.graph().literal(self.dtype(), value) }, &[])
    }

    fn reflect(self, axis: usize, before: usize, after: usize) -> Tensor<'g> {
        let size = self.shape()[axis];
        // |o - before|, and mirrored again at the last element.
        let last = size as f64 - 1.0;
        let place = (self.graph().iota([before + size + after], 0) - before as f64).abs();
        self.rows_of_axis(axis, (-((-place + last).abs())) + last)
    }

    /// The first and the last entry of an axis repeated.
    pub(super) fn replicate(self, axis: usize, before: usize, after: usize) -> Tensor<'g> {
        let (shape, at) = (self.shape(), axis as isize);
        let edge = |place: usize, count: usize| self.slice(at, place, place + 1).broadcast_to(shape.with(axis, count));
        let mut parts = vec![];
        if before > 0 {
            parts.push(edge(0, before));
        }
        parts.push(self);
        if after > 0 {
            parts.push(edge(shape[axis] - 1, after));
        }
        concat(parts[0], &parts[1..], at)
    }

    fn wrap(self, axis: usize, before: usize, after: usize) -> Tensor<'g> {
        let (size, at) = (self.shape()[axis], axis as isize);
        let mut parts = vec![];
        if before > 0 {
            parts.push(self.slice(at, size - before, size));
        }
        parts.push(self);
        if after > 0 {
            parts.push(self.slice(at, 0, after));
        }
        concat(parts[0], &parts[1..], at)
    }
}

/// Why a padding makes no sense, if it makes none.
fn check(shape: &[usize], pads: &[isize], mode: Padding) -> Result<(), String> {
    let shown = crate::shape::Shape::from(shape);
    if !pads.len().is_multiple_of(2) || pads.len() > 2 * shape.len() {
        return Err(format!(
            "takes an amount before and after each of at most {} axes, the last axis first; got {pads:?} for {shown}",
            shape.len()
        ));
    }
    for (index, pair) in pads.chunks_exact(2).enumerate() {
        let axis = shape.len() - 1 - index;
        let size = shape[axis] as isize;
        let longest = pair[0].max(pair[1]);
        let left = |low: isize, high: isize| size.saturating_add(low).saturating_add(high);
        let problem = match mode {
            _ if pair.iter().any(|amount| amount.unsigned_abs() > i32::MAX as usize) => "an amount lies beyond 2^31",
            Padding::Reflect if longest >= size && longest > 0 => "a reflection must be shorter than its axis",
            Padding::Circular if longest > left(pair[0].min(pair[1]).min(0), 0) => {
                "a circular padding must not be longer than its axis"
            }
            Padding::Replicate if size == 0 && longest > 0 => "there is no edge to replicate in an empty axis",
            _ if left(pair[0].min(0), pair[1].min(0)) < 0 || left(pair[0], pair[1]) < 0 => {
                "more is cropped than there is"
            }
            _ => continue,
        };
        return Err(format!("{problem}: {} and {} around axis {axis} of {shown}", pair[0], pair[1]));
    }
    Ok(())
}
