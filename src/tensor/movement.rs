//! Operations that move elements and compute nothing.

use crate::dtype::DType;
use crate::graph::{Op, Tensor};
use crate::shape::Shape;

impl<'g> Tensor<'g> {
    /// `axis` as an index from the front; records an error (and gives 0) when out of range.
    #[track_caller]
    pub(super) fn axis(self, op: &str, axis: isize) -> usize {
        let rank = self.rank();
        let index = if axis < 0 { axis + rank as isize } else { axis };
        if index < 0 || index as usize >= rank {
            self.graph().record_error(op, format!("axis {axis} is out of range for shape {}", self.shape()));
            return 0;
        }
        index as usize
    }

    /// The same elements in the same order under another shape.
    #[track_caller]
    pub fn reshape(self, shape: impl Into<Shape>) -> Tensor<'g> {
        let shape = shape.into();
        if shape == self.shape() { self } else { self.apply(Op::Reshape(shape), &[]) }
    }

    /// Axes `start..=end` joined into one, as `torch.flatten`.
    #[track_caller]
    pub fn flatten(self, start: isize, end: isize) -> Tensor<'g> {
        let (start, end) = (self.axis("flatten", start), self.axis("flatten", end));
        let shape = self.shape();
        if start > end || shape.rank() == 0 {
            self.graph().record_error("flatten", format!("axes {start}..={end} of {shape} are not a range"));
            return self;
        }
        let joined: usize = shape[start..=end].iter().product();
        let sizes = shape[..start].iter().copied().chain([joined]).chain(shape[end + 1..].iter().copied());
        self.reshape(sizes.collect::<Shape>())
    }

    /// Axis `i` of the result is axis `axes[i]` of this tensor, as `torch.permute`.
    #[track_caller]
    pub fn permute(self, axes: &[usize]) -> Tensor<'g> {
        if axes.iter().copied().eq(0..self.rank()) { self } else { self.apply(Op::Permute(axes.to_vec()), &[]) }
    }

    /// Two axes exchanged, as `torch.transpose`.
    #[track_caller]
    pub fn transpose(self, a: isize, b: isize) -> Tensor<'g> {
        let (a, b) = (self.axis("transpose", a), self.axis("transpose", b));
        let mut axes: Vec<usize> = (0..self.rank()).collect();
        if !axes.is_empty() {
            axes.swap(a, b);
        }
        self.permute(&axes)
    }

    /// The last two axes exchanged.
    #[track_caller]
    pub fn t(self) -> Tensor<'g> {
        self.transpose(-2, -1)
    }

    /// An axis of size 1 put in before `axis` (which may be the rank).
    #[track_caller]
    pub fn unsqueeze(self, axis: isize) -> Tensor<'g> {
        let rank = self.rank() as isize;
        let at = if axis < 0 { axis + rank + 1 } else { axis };
        if !(0..=rank).contains(&at) {
            self.graph().record_error("unsqueeze", format!("axis {axis} is out of range for shape {}", self.shape()));
            return self;
        }
        let mut sizes = self.shape().to_vec();
        sizes.insert(at as usize, 1);
        self.reshape(sizes)
    }

    /// An axis of size 1 taken out.
    #[track_caller]
    pub fn squeeze(self, axis: isize) -> Tensor<'g> {
        let at = self.axis("squeeze", axis);
        if self.shape().get(at) != Some(&1) {
            self.graph().record_error("squeeze", format!("axis {axis} of {} does not have size 1", self.shape()));
            return self;
        }
        self.reshape(self.shape().without(at))
    }

    /// `stop - start` entries of one axis from `start`, as `torch.narrow`.
    #[track_caller]
    pub fn slice(self, axis: isize, start: usize, stop: usize) -> Tensor<'g> {
        let at = self.axis("slice", axis);
        let shape = self.shape();
        if start > stop || shape.rank() == 0 {
            self.graph().record_error("slice", format!("{start}..{stop} is not a range of {shape}"));
            return self;
        }
        let mut starts = vec![0; shape.rank()];
        starts[at] = start;
        self.apply(Op::Slice { starts, sizes: shape.with(at, stop - start).to_vec() }, &[])
    }

    /// `size` entries of one axis from a start (i32 scalar) known only at run time, clamped to fit.
    #[track_caller]
    pub fn dynamic_slice(self, axis: isize, start: Tensor<'g>, size: usize) -> Tensor<'g> {
        let axis = self.axis("dynamic_slice", axis);
        self.apply(Op::DynamicSlice { axis, size }, &[start])
    }

    /// This tensor with `update` written over it from `start` (i32 scalar) along `axis`, clamped to fit.
    #[track_caller]
    pub fn dynamic_update(self, axis: isize, update: Tensor<'g>, start: Tensor<'g>) -> Tensor<'g> {
        let axis = self.axis("dynamic_update", axis);
        self.apply(Op::DynamicUpdate { axis }, &[update, start])
    }

    /// Windows of `size` elements along an axis, a new one every `step` elements: the axis counts windows, their
    /// elements are a new last axis. As `torch.Tensor.unfold`.
    #[track_caller]
    pub fn unfold(self, axis: isize, size: usize, step: usize) -> Tensor<'g> {
        let axis = self.axis("unfold", axis);
        self.apply(Op::Window { axis, size, stride: step, dilation: 1 }, &[])
    }

    /// `before` and `after` entries of `value` put around one axis.
    #[track_caller]
    pub fn pad(self, axis: isize, before: usize, after: usize, value: f64) -> Tensor<'g> {
        let at = self.axis("pad", axis);
        let amounts = |amount| (0..self.rank()).map(|i| if i == at { amount } else { 0 }).collect();
        let value = self.graph().literal(self.dtype(), value);
        self.apply(Op::Pad { before: amounts(before), after: amounts(after), value }, &[])
    }

    /// Another element type. Floats to integers truncate toward zero and clamp; numbers to bool
    /// test against 0.
    #[track_caller]
    pub fn cast(self, dtype: DType) -> Tensor<'g> {
        if dtype == self.dtype() { self } else { self.apply(Op::Cast(dtype), &[]) }
    }

    /// The same value, through which no gradient passes; PyTorch's `detach`.
    pub fn stop_gradient(self) -> Tensor<'g> {
        self.apply(Op::StopGradient, &[])
    }

    /// Rows of this table `[rows, ..]` by index `[..]`, as `torch.nn.functional.embedding`. An index outside
    /// `0..rows` gives zeros.
    #[track_caller]
    pub fn gather(self, index: Tensor<'g>) -> Tensor<'g> {
        self.apply(Op::Gather, &[index])
    }

    /// The reverse of [`Tensor::gather`]: these rows `[index.., ..rest]` added up into `[rows, ..rest]`.
    #[track_caller]
    pub fn scatter_add(self, index: Tensor<'g>, rows: usize) -> Tensor<'g> {
        index.apply(Op::ScatterAdd { rows }, &[self])
    }
}

/// Tensors joined along an axis, as `torch.cat`. The list must not be empty.
#[track_caller]
pub fn concat<'g>(first: Tensor<'g>, rest: &[Tensor<'g>], axis: isize) -> Tensor<'g> {
    let axis = first.axis("concat", axis);
    if rest.is_empty() { first } else { first.apply(Op::Concat { axis }, rest) }
}
