//! Reductions and what is made of them.

use crate::dtype::DType;
use crate::graph::{MacroOp, Op, ReduceKind, Tensor};
use crate::shape::Shape;

impl<'g> Tensor<'g> {
    #[track_caller]
    fn reduce(self, name: &str, kind: ReduceKind, axes: &[isize]) -> Tensor<'g> {
        let mut axes = self.axes(name, axes);
        crate::sort::sort(&mut axes);
        let shape = self.shape();
        if kind != ReduceKind::Sum && axes.iter().any(|&axis| shape.get(axis) == Some(&0)) {
            let message = format!("nothing is largest or smallest along an empty axis of {shape}");
            self.graph().record_error(name, message);
        }
        if axes.is_empty() { self } else { self.apply(Op::Reduce { kind, axes }, &[]) }
    }

    /// A loop rather than a closure, so that an error names the caller's line.
    #[track_caller]
    pub(super) fn axes(self, name: &str, axes: &[isize]) -> Vec<usize> {
        let mut found = Vec::new();
        for &axis in axes {
            found.push(self.axis(name, axis));
        }
        found
    }

    pub(super) fn all_axes(self) -> Vec<isize> {
        (0..self.rank() as isize).collect()
    }

    /// The reduced tensor with its lost axes back as axes of size 1.
    #[track_caller]
    pub fn keep_axes(self, like: Tensor<'g>, axes: &[isize]) -> Tensor<'g> {
        let lost = like.axes("keep_axes", axes);
        let sizes = like
            .shape()
            .iter()
            .enumerate()
            .map(|(i, &size)| if lost.contains(&i) { 1 } else { size })
            .collect::<Shape>();
        self.reshape(sizes)
    }

    /// Sum over axes, which disappear.
    #[track_caller]
    pub fn sum(self, axes: &[isize]) -> Tensor<'g> {
        self.reduce("sum", ReduceKind::Sum, axes)
    }

    /// Sum of all elements: a scalar.
    #[track_caller]
    pub fn sum_all(self) -> Tensor<'g> {
        self.sum(&self.all_axes())
    }

    /// Mean over axes, which disappear.
    #[track_caller]
    pub fn mean(self, axes: &[isize]) -> Tensor<'g> {
        let shape = self.shape();
        if !self.dtype().is_float() {
            let message = format!("takes floats, as PyTorch's; this is {}: cast it to f32 first", self.dtype().name());
            self.graph().record_error("mean", message);
            return self.sum(axes);
        }
        let count: usize = self.axes("mean", axes).iter().map(|&axis| shape.get(axis).copied().unwrap_or(1)).product();
        self.sum(axes) * (1.0 / count.max(1) as f64)
    }

    /// Mean of all elements: a scalar.
    #[track_caller]
    pub fn mean_all(self) -> Tensor<'g> {
        self.mean(&self.all_axes())
    }

    /// Largest over axes, which disappear; `torch.amax`. Equal elements share the gradient.
    #[track_caller]
    pub fn max(self, axes: &[isize]) -> Tensor<'g> {
        self.reduce("max", ReduceKind::Max, axes)
    }

    /// Smallest over axes, which disappear; `torch.amin`.
    #[track_caller]
    pub fn min(self, axes: &[isize]) -> Tensor<'g> {
        self.reduce("min", ReduceKind::Min, axes)
    }

    /// Index (i32) of the first largest element along an axis, which disappears.
    #[track_caller]
    pub fn argmax(self, axis: isize) -> Tensor<'g> {
        let at = self.axis("argmax", axis);
        if self.dtype().is_int() {
            // The kernel compares floats, which integers beyond 2^24 are not all among.
            return self.first_of_order("argmax", axis, true);
        }
        self.apply(Op::ArgMax { axis: at }, &[])
    }

    /// Index (i32) of the first smallest element along an axis, which disappears.
    #[track_caller]
    pub fn argmin(self, axis: isize) -> Tensor<'g> {
        if self.dtype().is_float() { (-self).argmax(axis) } else { self.first_of_order("argmin", axis, false) }
    }

    #[track_caller]
    fn first_of_order(self, op: &str, axis: isize, descending: bool) -> Tensor<'g> {
        let at = self.axis(op, axis);
        if self.shape().get(at) == Some(&0) {
            let message = format!("nothing is largest or smallest along an empty axis of {}", self.shape());
            self.graph().record_error(op, message);
            return self;
        }
        self.argsort(axis, descending).slice(axis, 0, 1).squeeze(axis)
    }

    /// Softmax along an axis.
    #[track_caller]
    pub fn softmax(self, axis: isize) -> Tensor<'g> {
        self.graph().called(|| self.along_last(axis, |x| x.apply(Op::Macro(MacroOp::Softmax), &[])))
    }

    /// Logarithm of the softmax along an axis, in the stable form.
    #[track_caller]
    pub fn log_softmax(self, axis: isize) -> Tensor<'g> {
        self.graph().called(|| self.along_last(axis, |x| x.apply(Op::Macro(MacroOp::LogSoftmax), &[])))
    }

    /// Applies an operation of the last axis to another one.
    #[track_caller]
    fn along_last(self, axis: isize, body: impl FnOnce(Tensor<'g>) -> Tensor<'g>) -> Tensor<'g> {
        let at = self.axis("softmax", axis) as isize;
        if at + 1 == self.rank() as isize { body(self) } else { body(self.transpose(at, -1)).transpose(at, -1) }
    }

    /// Matrix product `[.., m, k] x [.., k, n]`, leading axes broadcast as in `torch.matmul`. A stack of
    /// matrices times one matrix is computed as one tall product.
    #[track_caller]
    pub fn matmul(self, other: Tensor<'g>) -> Tensor<'g> {
        let (a, b) = (self.shape(), other.shape());
        if a.rank() < 2 || b.rank() < 2 {
            self.graph().record_error(
                "matmul",
                format!("takes matrices or stacks of them, got {a} x {b}; use `unsqueeze` for vectors"),
            );
            return self;
        }
        if b.rank() == 2 && a.rank() > 2 {
            let rows: usize = a[..a.rank() - 1].iter().product();
            let flat = self.reshape([rows, a[a.rank() - 1]]).apply(Op::MatMul, &[other]);
            return flat.reshape(a.with(a.rank() - 1, b[1]));
        }
        let (lead_a, lead_b) = (Shape::from(&a[..a.rank() - 2]), Shape::from(&b[..b.rank() - 2]));
        let Some(lead) = lead_a.broadcast(&lead_b) else {
            self.graph().record_error("matmul", format!("leading axes of {a} x {b} do not broadcast"));
            return self;
        };
        let stack = |x: Tensor<'g>, shape: &Shape| {
            let tail = shape[shape.rank() - 2..].iter();
            x.broadcast_to(lead.iter().chain(tail).copied().collect::<Shape>())
        };
        stack(self, &a).apply(Op::MatMul, &[stack(other, &b)])
    }

    /// This mean, with the scalar `count` of samples or tokens that it was taken over, for a loss: gradient accumulation
    /// weights micro-batches by it. Losses that leave out some targets say it themselves; without it every micro-batch
    /// weighs the same.
    #[track_caller]
    pub fn with_count(self, count: Tensor<'g>) -> Tensor<'g> {
        if self.shape().numel() != 1 || count.shape().numel() != 1 || count.dtype() != DType::F32 {
            let (mean, dtype, shape) = (self.shape(), count.dtype(), count.shape());
            let message = format!("takes the count of a scalar as an f32 scalar, got {dtype}{shape} for {mean}");
            self.graph().record_error("with_count", message);
        }
        self.graph().note_count(self.value(), count.value());
        self
    }

    /// How many elements hold, of a bool tensor: a scalar f32.
    #[track_caller]
    pub fn count_true(self) -> Tensor<'g> {
        self.cast(DType::F32).sum_all()
    }
}
