//! Running sums, products and extremes along an axis.
//!
//! Sums are a primitive. The others double their reach in each step (Hillis and Steele), so that they
//! take the logarithm of the axis in operations and are differentiated as they are written, zeros included.

use crate::dtype::DType;
use crate::graph::{Op, Tensor};

impl<'g> Tensor<'g> {
    /// The sum of the elements up to each along an axis; `torch.cumsum`. Floats or integers, which wrap.
    #[track_caller]
    pub fn cumsum(self, axis: isize) -> Tensor<'g> {
        self.cumsum_with(axis, false, false)
    }

    /// [`Tensor::cumsum`] from the last element back (`reverse`), or of the elements before each, without
    /// it (`exclusive`). ONNX's `CumSum`.
    #[track_caller]
    pub fn cumsum_with(self, axis: isize, reverse: bool, exclusive: bool) -> Tensor<'g> {
        let axis = self.axis("cumsum", axis);
        self.apply(Op::CumSum { axis, reverse, exclusive }, &[])
    }

    /// The product of the elements up to each along an axis; `torch.cumprod`.
    #[track_caller]
    pub fn cumprod(self, axis: isize) -> Tensor<'g> {
        self.doubling("cumprod", axis, |steps| {
            let mut x = self;
            for step in steps {
                x = x * x.delayed(axis, step, 1.0);
            }
            x
        })
    }

    /// The logarithm of the sum of exponentials of the elements up to each; `torch.logcumsumexp`. Infinities as in
    /// [`Tensor::logaddexp`].
    #[track_caller]
    pub fn logcumsumexp(self, axis: isize) -> Tensor<'g> {
        self.doubling("logcumsumexp", axis, |steps| {
            let mut x = self;
            for step in steps {
                // What has nothing before it stays: a finite number in its place would be met as an element.
                let first = self.graph().iota(self.shape(), self.axis("logcumsumexp", axis)).lt(step as f64);
                x = first.select(x, x.logaddexp(x.delayed(axis, step, 0.0)));
            }
            x
        })
    }

    /// The largest element up to each along an axis, and its index (i32), the last one of equals; `torch.cummax`.
    #[track_caller]
    pub fn cummax(self, axis: isize) -> (Tensor<'g>, Tensor<'g>) {
        let index = self.cumulative_index("cummax", axis, |new, old| new.ge(old));
        (self.take_along_dim(index, axis), index)
    }

    /// The smallest element up to each along an axis, and its index (i32), the last one of equals; `torch.cummin`.
    #[track_caller]
    pub fn cummin(self, axis: isize) -> (Tensor<'g>, Tensor<'g>) {
        let index = self.cumulative_index("cummin", axis, |new, old| new.le(old));
        (self.take_along_dim(index, axis), index)
    }

    /// The index of the element up to each that no later one `beats`.
    #[track_caller]
    fn cumulative_index(
        self,
        op: &str,
        axis: isize,
        beats: impl Fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
    ) -> Tensor<'g> {
        self.doubling(op, axis, |steps| {
            let mut value = self.stop_gradient();
            let mut index = self.graph().iota(self.shape(), self.axis(op, axis));
            for step in steps {
                let (old, old_index) = (value.delayed(axis, step, 0.0), index.delayed(axis, step, -1.0));
                let keep = old_index.lt(0.0).logical_or(beats(value, old));
                (value, index) = (keep.select(value, old), keep.select(index, old_index));
            }
            index
        })
    }

    /// Runs `body` with the steps 1, 2, 4, … below the length of the axis.
    #[track_caller]
    fn doubling(self, op: &str, axis: isize, body: impl FnOnce(Vec<usize>) -> Tensor<'g>) -> Tensor<'g> {
        let at = self.axis(op, axis);
        let length = self.shape().get(at).copied().unwrap_or(0);
        if !self.dtype().is_float() && self.dtype() != DType::I32 {
            self.graph().record_error(op, format!("takes floats or i32, got {}; cast it first", self.dtype()));
            return self;
        }
        body((0..usize::BITS).map(|power| 1 << power).take_while(|&step| step < length).collect())
    }

    /// Each element replaced by the one `step` before it along the axis, the first ones by `fill`.
    #[track_caller]
    fn delayed(self, axis: isize, step: usize, fill: f64) -> Tensor<'g> {
        let length = self.shape()[self.axis("delay", axis)];
        self.slice(axis, 0, length - step).pad(axis, step, 0, fill)
    }
}
