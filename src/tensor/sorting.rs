//! Sorting and what is made of it. Values are taken by index, so that gradients follow the elements.
//!
//! All orders are stable: of equal elements the one with the smaller index comes first, ascending or
//! descending. NaN counts as the largest, as in PyTorch, and zeros of both signs are equal.

use crate::dtype::DType;
use crate::graph::{Op, Tensor};

impl<'g> Tensor<'g> {
    /// Indices (i32) that sort along an axis; `torch.argsort(stable=True)`.
    #[track_caller]
    pub fn argsort(self, axis: isize, descending: bool) -> Tensor<'g> {
        let axis = self.axis("argsort", axis);
        self.apply(Op::ArgSort { axis, descending }, &[])
    }

    /// Values sorted along an axis, and their indices (i32); `torch.sort(stable=True)`.
    #[track_caller]
    pub fn sort(self, axis: isize, descending: bool) -> (Tensor<'g>, Tensor<'g>) {
        let order = self.argsort(axis, descending);
        (self.take_along_dim(order, axis), order)
    }

    /// The `k` largest (or smallest) elements along an axis, from the most extreme on, and their indices (i32);
    /// `torch.topk`. Of equal elements the first come first.
    #[track_caller]
    pub fn topk(self, k: usize, axis: isize, largest: bool) -> (Tensor<'g>, Tensor<'g>) {
        let at = self.axis("topk", axis);
        let size = self.shape().get(at).copied().unwrap_or(0);
        if k > size {
            let message = format!("{k} elements are wanted of axis {axis} of {}, which has {size}", self.shape());
            self.graph().record_error("topk", message);
            return (self, self.zeros_like().cast(DType::I32));
        }
        let order = self.argsort(axis, largest).slice(axis, 0, k);
        (self.take_along_dim(order, axis), order)
    }

    /// The `k`-th smallest element along an axis, which disappears, counted from 1, and its index (i32);
    /// `torch.kthvalue`.
    #[track_caller]
    pub fn kthvalue(self, k: usize, axis: isize) -> (Tensor<'g>, Tensor<'g>) {
        let at = self.axis("kthvalue", axis);
        let size = self.shape().get(at).copied().unwrap_or(0);
        if k == 0 || k > size {
            let message = format!("k must lie in 1..={size} for axis {axis} of {}, got {k}", self.shape());
            self.graph().record_error("kthvalue", message);
            return (self, self.zeros_like().cast(DType::I32));
        }
        let order = self.argsort(axis, false).slice(axis, k - 1, k);
        (self.take_along_dim(order, axis).squeeze(axis), order.squeeze(axis))
    }

    /// The median along an axis, which disappears (of an even number the lower of the two in the middle), and
    /// its index (i32); `torch.median`.
    #[track_caller]
    pub fn median(self, axis: isize) -> (Tensor<'g>, Tensor<'g>) {
        let at = self.axis("median", axis);
        let size = self.shape().get(at).copied().unwrap_or(0);
        if size == 0 {
            self.graph().record_error("median", format!("there is none along an empty axis of {}", self.shape()));
            return (self, self.zeros_like().cast(DType::I32));
        }
        self.kthvalue(size.div_ceil(2), axis)
    }
}
