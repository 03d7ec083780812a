//! Composites that arrange elements: stacking and splitting, repeating, rolling and flipping.

use super::movement::concat;
use crate::graph::Tensor;
use crate::shape::Shape;

impl<'g> Tensor<'g> {
    /// The size of an axis given as for [`Tensor::transpose`]; `None`, and an error recorded, if there is no such axis.
    #[track_caller]
    pub(super) fn sized_axis(self, op: &str, axis: isize) -> Option<(isize, usize)> {
        let at = self.axis(op, axis);
        self.shape().get(at).map(|&size| (at as isize, size))
    }

    /// Parts of `size` entries along an axis, the last one with what remains; `torch.split`.
    #[track_caller]
    pub fn split(self, size: usize, axis: isize) -> Vec<Tensor<'g>> {
        let Some((axis, total)) = self.sized_axis("split", axis) else { return vec![self] };
        if size == 0 && total > 0 {
            self.graph().record_error("split", format!("{total} entries cannot be split into parts of 0"));
            return vec![self];
        }
        let mut parts = Vec::new();
        for start in (0..total.max(1)).step_by(size.max(1)) {
            parts.push(self.slice(axis, start, start.saturating_add(size).min(total)));
        }
        parts
    }

    /// Parts of these sizes along an axis, whose sum is the axis's; `torch.split` with a list.
    #[track_caller]
    pub fn split_sizes(self, sizes: &[usize], axis: isize) -> Vec<Tensor<'g>> {
        let Some((axis, total)) = self.sized_axis("split", axis) else { return vec![self; sizes.len()] };
        if sizes.iter().fold(0, |sum: usize, &size| sum.saturating_add(size)) != total {
            self.graph()
                .record_error("split", format!("sizes {sizes:?} do not add up to {total}, the size of the axis"));
            return vec![self; sizes.len()];
        }
        let mut parts = Vec::new();
        let mut start = 0;
        for size in sizes {
            parts.push(self.slice(axis, start, start + size));
            start += size;
        }
        parts
    }

    /// At most `count` parts along an axis, all but the last of the same size; `torch.chunk`.
    #[track_caller]
    pub fn chunk(self, count: usize, axis: isize) -> Vec<Tensor<'g>> {
        let Some((axis, total)) = self.sized_axis("chunk", axis) else { return vec![self] };
        if count == 0 {
            self.graph().record_error("chunk", "takes at least one chunk".into());
            return vec![self];
        }
        if total == 0 {
            return vec![self; count];
        }
        self.split(total.div_ceil(count), axis)
    }

    /// The entries along an axis, each without it.
    #[track_caller]
    pub fn unbind(self, axis: isize) -> Vec<Tensor<'g>> {
        let Some((axis, total)) = self.sized_axis("unbind", axis) else { return vec![self] };
        let mut parts = Vec::new();
        for index in 0..total {
            parts.push(self.slice(axis, index, index + 1).squeeze(axis));
        }
        parts
    }

    /// One entry along an axis, which disappears; a negative index counts from the end. `torch.select`.
    #[track_caller]
    pub fn index(self, axis: isize, index: isize) -> Tensor<'g> {
        let Some((axis, total)) = self.sized_axis("index", axis) else { return self };
        let at = if index < 0 { index + total as isize } else { index };
        if at < 0 || at >= total as isize {
            self.graph().record_error("index", format!("entry {index} is out of range for an axis of size {total}"));
            return self;
        }
        self.slice(axis, at as usize, at as usize + 1).squeeze(axis)
    }

    /// The order of entries reversed along axes.
    #[track_caller]
    pub fn flip(self, axes: &[isize]) -> Tensor<'g> {
        let axes = self.axes("flip", axes);
        if (1..axes.len()).any(|i| axes[..i].contains(&axes[i])) {
            self.graph().record_error("flip", format!("axes {axes:?} must be distinct"));
            return self;
        }
        let mut flipped = self;
        for axis in axes {
            let size = self.shape().get(axis).copied().unwrap_or(1);
            if size > 1 {
                let index = -self.graph().iota([size], 0) + (size as f64 - 1.0);
                flipped = flipped.transpose(0, axis as isize).gather(index).transpose(0, axis as isize);
            }
        }
        flipped
    }

    /// Entries moved by `shift` along an axis; those that leave at one end come back at the other. `torch.roll`.
    #[track_caller]
    pub fn roll(self, shift: isize, axis: isize) -> Tensor<'g> {
        let Some((axis, size)) = self.sized_axis("roll", axis) else { return self };
        let shift = shift.rem_euclid(size.max(1) as isize) as usize;
        if shift == 0 {
            return self;
        }
        concat(self.slice(axis, size - shift, size), &[self.slice(axis, 0, size - shift)], axis)
    }

    /// The whole tensor repeated along each axis, `counts[i]` times along axis `i` counted from the right, as
    /// `torch.Tensor.repeat`. Leading axes are added for further counts; there must be one count for each axis.
    #[track_caller]
    pub fn repeat(self, counts: &[usize]) -> Tensor<'g> {
        let shape = self.shape();
        let Some(extra) = counts.len().checked_sub(shape.rank()) else {
            let message = format!("needs a count for each of the {} axes of {shape}, got {counts:?}", shape.rank());
            self.graph().record_error("repeat", message);
            return self;
        };
        let own = std::iter::repeat_n(1, extra).chain(shape.iter().copied());
        let pairs: Vec<(usize, usize)> = counts.iter().copied().zip(own).collect();
        let single: Shape = pairs.iter().flat_map(|&(_, size)| [1, size]).collect();
        let repeated: Shape = pairs.iter().flat_map(|&(count, size)| [count, size]).collect();
        let joined: Shape = pairs.iter().map(|&(count, size)| count.saturating_mul(size)).collect();
        self.reshape(single).broadcast_to(repeated).reshape(joined)
    }

    /// As [`Tensor::repeat`], with counts of 1 for the axes that have none; `torch.tile`.
    #[track_caller]
    pub fn tile(self, counts: &[usize]) -> Tensor<'g> {
        let missing = self.rank().saturating_sub(counts.len());
        let counts: Vec<usize> = std::iter::repeat_n(1, missing).chain(counts.iter().copied()).collect();
        self.repeat(&counts)
    }

    /// Each entry along an axis repeated `count` times; `torch.repeat_interleave`.
    #[track_caller]
    pub fn repeat_interleave(self, count: usize, axis: isize) -> Tensor<'g> {
        let Some((axis, size)) = self.sized_axis("repeat_interleave", axis) else { return self };
        let shape = self.shape();
        let mut repeated = shape.to_vec();
        repeated.insert(axis as usize + 1, count);
        let joined = shape.with(axis as usize, size.saturating_mul(count));
        self.unsqueeze(axis + 1).broadcast_to(repeated).reshape(joined)
    }

    /// Axis `from` moved to place `to`, the others in their order; `torch.movedim`.
    #[track_caller]
    pub fn movedim(self, from: isize, to: isize) -> Tensor<'g> {
        let (from, to) = (self.axis("movedim", from), self.axis("movedim", to));
        let mut axes: Vec<usize> = (0..self.rank()).filter(|&axis| axis != from).collect();
        if self.rank() > 0 {
            axes.insert(to, from);
        }
        self.permute(&axes)
    }
}

/// Tensors of one shape joined along a new axis, as `torch.stack`.
#[track_caller]
pub fn stack<'g>(first: Tensor<'g>, rest: &[Tensor<'g>], axis: isize) -> Tensor<'g> {
    let shape = first.shape();
    if let Some(other) = rest.iter().map(|tensor| tensor.shape()).find(|other| *other != shape) {
        first.graph().record_error("stack", format!("takes tensors of one shape, got {shape} and {other}"));
        return first;
    }
    let rank = shape.rank() as isize + 1;
    let axis = if axis < 0 { axis + rank } else { axis };
    let mut single = Vec::new();
    for tensor in rest {
        single.push(tensor.unsqueeze(axis));
    }
    let first = first.unsqueeze(axis);
    if (0..rank).contains(&axis) { concat(first, &single, axis) } else { first }
}

/// The coordinates of a grid from those along its axes: tensors `[n_i]` to as many tensors `[n_0, n_1, ..]`, of which
/// the i-th varies along axis i; `torch.meshgrid` with `indexing="ij"`. With `xy` the first two axes change places.
#[track_caller]
pub fn meshgrid<'g>(coordinates: &[Tensor<'g>], xy: bool) -> Vec<Tensor<'g>> {
    let mut order: Vec<usize> = (0..coordinates.len()).collect();
    if xy && order.len() > 1 {
        order.swap(0, 1);
    }
    if let Some(tensor) = coordinates.iter().find(|tensor| tensor.rank() > 1) {
        tensor.graph().record_error("meshgrid", format!("takes vectors or scalars, got {}", tensor.shape()));
        return coordinates.to_vec();
    }
    let grid: Shape = order.iter().map(|&i| coordinates[i].shape().numel()).collect();
    let place = |i: usize| order.iter().position(|&other| other == i).unwrap_or(i);
    let mut spread = Vec::new();
    for (i, tensor) in coordinates.iter().enumerate() {
        let sizes: Shape = (0..grid.rank()).map(|axis| if axis == place(i) { grid[axis] } else { 1 }).collect();
        spread.push(tensor.reshape(sizes).broadcast_to(&grid));
    }
    spread
}
