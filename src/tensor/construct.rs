//! Tensors that a graph makes itself: filled, counted, spaced. They are computed where they are read and take
//! no memory unless they are results.

use crate::dtype::DType;
use crate::graph::{Graph, Tensor};
use crate::shape::Shape;

impl Graph {
    /// A tensor filled with one value.
    #[track_caller]
    pub fn full(&self, shape: impl Into<Shape>, dtype: DType, value: f64) -> Tensor<'_> {
        self.constant(self.literal(dtype, value)).broadcast_to(shape)
    }

    #[track_caller]
    pub fn zeros(&self, shape: impl Into<Shape>, dtype: DType) -> Tensor<'_> {
        self.full(shape, dtype, 0.0)
    }

    #[track_caller]
    pub fn ones(&self, shape: impl Into<Shape>, dtype: DType) -> Tensor<'_> {
        self.full(shape, dtype, 1.0)
    }

    /// `[rows, columns]` with ones on the diagonal.
    #[track_caller]
    pub fn eye(&self, rows: usize, columns: usize, dtype: DType) -> Tensor<'_> {
        self.iota([rows, columns], 0).eq(self.iota([rows, columns], 1)).cast(dtype)
    }

    /// `start, start + step, ..` up to but not `end`, as `torch.arange`.
    #[track_caller]
    pub fn arange(&self, start: f64, end: f64, step: f64, dtype: DType) -> Tensor<'_> {
        let count = ((end - start) / step).ceil();
        if !count.is_finite() || count < 0.0 {
            let message = format!("steps of {step} do not lead from {start} to {end}");
            self.record_error("arange", message);
            return self.zeros([0], dtype);
        }
        let index = self.iota([count as usize], 0).cast(dtype);
        let scaled = if step == 1.0 { index } else { index * step };
        if start == 0.0 { scaled } else { scaled + start }
    }

    /// `count` f32 numbers from `start` to `end`, both included and exact, at equal distances; `torch.linspace`.
    #[track_caller]
    pub fn linspace(&self, start: f64, end: f64, count: usize) -> Tensor<'_> {
        let step = if count > 1 { (end - start) / (count - 1) as f64 } else { 0.0 };
        let index = self.iota([count], 0).cast(DType::F32);
        let first = index.lt((count / 2).max(1) as f64);
        first.select(index * step + start, (index - (count as f64 - 1.0)) * step + end)
    }
}
