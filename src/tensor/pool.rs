//! Poolings under PyTorch's names: data `[n, c, ..]` or one sample `[c, ..]`, one or two spatial axes.
//!
//! Only the maximum is an operation of its own, because of its gradient; everything else is made of windows
//! (views), sums and products. Knows nothing of kernels.

use super::expand_windows::unfold;
use crate::dtype::DType;
use crate::graph::{Literal, MacroOp, Op, PointwiseOp, Tensor, Windows};
use crate::shape::Shape;

/// How the windows of a pooling lie: `torch.nn.MaxPool2d`'s arguments for `N` spatial axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions<const N: usize> {
    pub kernel: [usize; N],
    /// Distance between neighbouring windows.
    pub stride: [usize; N],
    /// Put on both sides of each axis; at most half of a window.
    pub padding: [usize; N],
    /// Distance between neighbouring elements of a window (maxima only).
    pub dilation: [usize; N],
    /// A last window may begin inside and end outside.
    pub ceil_mode: bool,
}

impl<const N: usize> PoolOptions<N> {
    /// Windows of this size side by side: `stride = kernel`, as PyTorch's default.
    pub fn new(kernel: [usize; N]) -> Self {
        PoolOptions { kernel, stride: kernel, padding: [0; N], dilation: [1; N], ceil_mode: false }
    }

    pub fn stride(self, stride: [usize; N]) -> Self {
        PoolOptions { stride, ..self }
    }

    pub fn padding(self, padding: [usize; N]) -> Self {
        PoolOptions { padding, ..self }
    }

    pub fn dilation(self, dilation: [usize; N]) -> Self {
        PoolOptions { dilation, ..self }
    }

    pub fn ceil_mode(self, ceil_mode: bool) -> Self {
        PoolOptions { ceil_mode, ..self }
    }
}

/// What a mean divides by: `torch.nn.AvgPool2d`'s further arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgOptions {
    /// Padding counts as elements (of value 0).
    pub count_include_pad: bool,
    /// Divide by this instead of by the number of elements.
    pub divisor_override: Option<usize>,
}

impl Default for AvgOptions {
    fn default() -> Self {
        AvgOptions { count_include_pad: true, divisor_override: None }
    }
}

impl<'g> Tensor<'g> {
    /// The largest element of each window of `[n, c, length]`; `torch.nn.functional.max_pool1d`. The gradient goes to
    /// the first of equal elements.
    #[track_caller]
    pub fn max_pool1d(self, options: PoolOptions<1>) -> Tensor<'g> {
        self.largest("max_pool1d", &options)
    }

    /// The largest element of each window of `[n, c, height, width]`; `torch.nn.functional.max_pool2d`. The gradient
    /// goes to the first of equal elements.
    #[track_caller]
    pub fn max_pool2d(self, options: PoolOptions<2>) -> Tensor<'g> {
        self.largest("max_pool2d", &options)
    }

    /// As [`Tensor::max_pool2d`], for three spatial axes; `torch.nn.functional.max_pool3d`.
    #[track_caller]
    pub fn max_pool3d(self, options: PoolOptions<3>) -> Tensor<'g> {
        self.largest("max_pool3d", &options)
    }

    /// As [`Tensor::max_pool2d`], with the index (i32) of each maximum within its plane of `height * width`;
    /// `torch.nn.functional.max_pool2d(return_indices=True)`.
    #[track_caller]
    pub fn max_pool2d_with_indices(self, options: PoolOptions<2>) -> (Tensor<'g>, Tensor<'g>) {
        self.max_pool("max_pool2d", &options)
    }

    /// The maxima alone. Those of what a ReLU gives are its values of maxima, and their gradients the same: so a quarter as
    /// much, or less, goes through the ReLU, and nothing before the pooling is kept for the gradient. Indices may differ where
    /// nothing is positive, so that who asks for them gets those of what was given.
    #[track_caller]
    fn largest<const N: usize>(self, name: &str, options: &PoolOptions<N>) -> Tensor<'g> {
        let node = self.graph().node(self.value().node);
        match node.op {
            Op::Pointwise(PointwiseOp::Relu) => {
                Tensor::new(self.graph(), node.inputs[0]).max_pool(name, options).0.relu()
            }
            _ => self.max_pool(name, options).0,
        }
    }

    #[track_caller]
    fn max_pool<const N: usize>(self, name: &str, options: &PoolOptions<N>) -> (Tensor<'g>, Tensor<'g>) {
        let Some((x, windows)) = self.pool(name, options) else { return (self, self) };
        let largest = x.apply(Op::Macro(MacroOp::MaxPool { windows }), &[]);
        (largest.like_sample(self), largest.output(1).like_sample(self))
    }

    /// The mean of each window of `[n, c, length]`; `torch.nn.functional.avg_pool1d`.
    #[track_caller]
    pub fn avg_pool1d(self, options: PoolOptions<1>, divisor: AvgOptions) -> Tensor<'g> {
        self.avg_pool("avg_pool1d", &options, divisor)
    }

    /// The mean of each window of `[n, c, height, width]`; `torch.nn.functional.avg_pool2d`.
    #[track_caller]
    pub fn avg_pool2d(self, options: PoolOptions<2>, divisor: AvgOptions) -> Tensor<'g> {
        self.avg_pool("avg_pool2d", &options, divisor)
    }

    /// As [`Tensor::avg_pool2d`], for three spatial axes; `torch.nn.functional.avg_pool3d`.
    #[track_caller]
    pub fn avg_pool3d(self, options: PoolOptions<3>, divisor: AvgOptions) -> Tensor<'g> {
        self.avg_pool("avg_pool3d", &options, divisor)
    }

    #[track_caller]
    fn avg_pool<const N: usize>(self, name: &str, options: &PoolOptions<N>, divisor: AvgOptions) -> Tensor<'g> {
        if options.dilation != [1; N] || divisor.divisor_override == Some(0) {
            let message = "takes windows without dilation, and a divisor other than 0".to_string();
            self.graph().record_error(name, message);
            return self;
        }
        let Some((x, windows)) = self.pool(name, options) else { return self };
        let sum = window_sums(&windows, x);
        let mean = match divisor.divisor_override {
            Some(divisor) => sum * (1.0 / divisor as f64),
            None => divided(&windows, options, sum, &x.shape()[2..], divisor.count_include_pad),
        };
        mean.like_sample(self)
    }

    /// The `p`-norm of each window of `[n, c, height, width]`; `torch.nn.functional.lp_pool2d`. For `p` other than 1
    /// and 2 elements must be positive.
    #[track_caller]
    pub fn lp_pool2d(self, p: f64, options: PoolOptions<2>) -> Tensor<'g> {
        let Some((x, windows)) = self.pool("lp_pool2d", &options) else { return self };
        let sum = window_sums(&windows, x.powf(p));
        // PyTorch takes a mean times the size of a whole window: what is cut off counts as if it were like the rest.
        let whole = (options.kernel[0] * options.kernel[1]) as f64;
        let sum = if options.ceil_mode { divided(&windows, &options, sum, &x.shape()[2..], true) * whole } else { sum };
        if p == 1.0 { sum.like_sample(self) } else { sum.powf(1.0 / p).like_sample(self) }
    }

    /// The means of `size` windows that cover `[n, c, length]`; `torch.nn.functional.adaptive_avg_pool1d`.
    #[track_caller]
    pub fn adaptive_avg_pool1d(self, size: [usize; 1]) -> Tensor<'g> {
        self.graph().called(|| self.adaptive_avg_pool("adaptive_avg_pool1d", &size))
    }

    /// The means of `size` windows that cover `[n, c, height, width]`; `torch.nn.functional.adaptive_avg_pool2d`.
    #[track_caller]
    pub fn adaptive_avg_pool2d(self, size: [usize; 2]) -> Tensor<'g> {
        self.graph().called(|| self.adaptive_avg_pool("adaptive_avg_pool2d", &size))
    }

    /// The maxima of `size` windows that cover `[n, c, length]`; `torch.nn.functional.adaptive_max_pool1d`.
    #[track_caller]
    pub fn adaptive_max_pool1d(self, size: [usize; 1]) -> Tensor<'g> {
        self.graph().called(|| self.adaptive_max_pool("adaptive_max_pool1d", &size))
    }

    /// The maxima of `size` windows that cover `[n, c, height, width]`; `torch.nn.functional.adaptive_max_pool2d`. The
    /// gradient goes to the first of equal elements.
    #[track_caller]
    pub fn adaptive_max_pool2d(self, size: [usize; 2]) -> Tensor<'g> {
        self.graph().called(|| self.adaptive_max_pool("adaptive_max_pool2d", &size))
    }

    /// The mean of each channel: `[n, c, ..]` to `[n, c]`.
    #[track_caller]
    pub fn global_avg_pool(self) -> Tensor<'g> {
        self.mean(&self.spatial_axes())
    }

    /// The largest element of each channel: `[n, c, ..]` to `[n, c]`. Equal elements share the gradient.
    #[track_caller]
    pub fn global_max_pool(self) -> Tensor<'g> {
        self.max(&self.spatial_axes())
    }

    fn spatial_axes(self) -> Vec<isize> {
        (2..self.rank().max(2) as isize).collect()
    }

    #[track_caller]
    fn adaptive_avg_pool(self, name: &str, size: &[usize]) -> Tensor<'g> {
        let Some(x) = self.adaptive_operand(name, size) else { return self };
        let mut y = x;
        for (index, &count) in size.iter().enumerate() {
            y = y.adaptive_mean(2 + index, count);
        }
        y.like_sample(self)
    }

    /// The means of `count` windows along an axis: of a reshape where they are equal, else a product with their
    /// weights.
    fn adaptive_mean(self, axis: usize, count: usize) -> Tensor<'g> {
        let shape = self.shape();
        let length = shape[axis];
        if length.is_multiple_of(count) {
            let split = [&shape[..axis], &[count, length / count], &shape[axis + 1..]].concat();
            return self.reshape(split).mean(&[axis as isize + 1]);
        }
        let graph = self.graph();
        let int = |value: usize| graph.constant(Literal::new(DType::I32, value as f64));
        let (at, window) = (graph.iota([length, count], 0), graph.iota([length, count], 1));
        let (start, stop) = bounds(window, length, count, &int);
        let inside = at.ge(start).logical_and(at.lt(stop));
        let weight = inside.select((stop - start).cast(DType::F32).reciprocal(), 0.0);
        let last = self.rank() as isize - 1;
        self.transpose(axis as isize, last).matmul(weight).transpose(axis as isize, last)
    }

    #[track_caller]
    fn adaptive_max_pool(self, name: &str, size: &[usize]) -> Tensor<'g> {
        let Some(x) = self.adaptive_operand(name, size) else { return self };
        let mut x = x;
        let mut kernel = Vec::new();
        for (index, &count) in size.iter().enumerate() {
            let length = x.shape()[2 + index];
            if !length.is_multiple_of(count) {
                x = x.spread_windows(2 + index, count);
            }
            kernel.push(x.shape()[2 + index] / count);
        }
        let Some(windows) = Windows::new(&kernel).and_then(|windows| windows.stride(&kernel)) else { return self };
        x.apply(Op::Macro(MacroOp::MaxPool { windows }), &[]).like_sample(self)
    }

    /// The `count` unequal windows of an axis side by side, each as long as the longest: shorter ones repeat their
    /// last element, which is never the first maximum.
    fn spread_windows(self, axis: usize, count: usize) -> Tensor<'g> {
        let length = self.shape()[axis];
        let longest = (0..count)
            .map(|window| ((window + 1) * length).div_ceil(count) - window * length / count)
            .max()
            .unwrap_or(1);
        let graph = self.graph();
        let int = |value: usize| graph.constant(Literal::new(DType::I32, value as f64));
        let (window, within) = (graph.iota([count, longest], 0), graph.iota([count, longest], 1));
        let (start, stop) = bounds(window, length, count, &int);
        let index = (start + within).minimum(stop - int(1)).reshape([count * longest]);
        self.transpose(0, axis as isize).gather(index).transpose(0, axis as isize)
    }

    /// The data as `[n, c, ..]`, if there are as many spatial axes as sizes, none is 0, and the places of windows fit
    /// into an i32.
    #[track_caller]
    fn adaptive_operand(self, name: &str, size: &[usize]) -> Option<Tensor<'g>> {
        let x = self.as_batch(name, size.len())?;
        if size.contains(&0) || x.shape()[2..].contains(&0) {
            let message = format!("cannot make {size:?} windows of {}: sizes must be at least 1", self.shape());
            self.graph().record_error(name, message);
            return None;
        }
        let most = |(&count, &length): (&usize, &usize)| count.saturating_add(1).saturating_mul(length.max(count));
        if size.iter().zip(&x.shape()[2..]).map(most).any(|most| most > i32::MAX as usize) {
            self.graph().record_error(name, format!("{size:?} windows of {} are too many", self.shape()));
            return None;
        }
        Some(x)
    }

    /// `[n, c, ..]` with this many spatial axes; a single sample gets `n = 1`.
    #[track_caller]
    fn as_batch(self, name: &str, axes: usize) -> Option<Tensor<'g>> {
        let shape = self.shape();
        match shape.rank() {
            rank if rank == axes + 2 => Some(self),
            rank if rank == axes + 1 => Some(self.unsqueeze(0)),
            _ => {
                let message = format!("wants [batch, channels, ..] or [channels, ..] with {axes} axes, got {shape}");
                self.graph().record_error(name, message);
                None
            }
        }
    }

    /// Without the batch axis if `original` had none.
    pub(super) fn like_sample(self, original: Tensor<'g>) -> Tensor<'g> {
        if original.rank() + 1 == self.rank() { self.reshape(self.shape().without(0)) } else { self }
    }

    /// The data as `[n, c, ..]` and its windows, or an error recorded.
    #[track_caller]
    fn pool<const N: usize>(self, name: &str, options: &PoolOptions<N>) -> Option<(Tensor<'g>, Windows)> {
        let x = self.as_batch(name, N)?;
        match windows(options, &x.shape()[2..]) {
            Ok(windows) => Some((x, windows)),
            Err(message) => {
                self.graph().record_error(name, format!("{message}, for {}", self.shape()));
                None
            }
        }
    }
}

/// `floor(w L / O)` and `ceil((w + 1) L / O)` of each window `w` of `O` that cover `L` elements.
fn bounds<'g>(
    window: Tensor<'g>,
    length: usize,
    count: usize,
    int: &dyn Fn(usize) -> Tensor<'g>,
) -> (Tensor<'g>, Tensor<'g>) {
    (window * int(length) / int(count), ((window + int(1)) * int(length) + int(count - 1)) / int(count))
}

/// The windows of a pooling over these lengths; where one may end outside, padding behind makes room.
fn windows<const N: usize>(options: &PoolOptions<N>, lengths: &[usize]) -> Result<Windows, String> {
    let PoolOptions { kernel, stride, padding, dilation, ceil_mode } = options;
    let base = Windows::new(kernel).and_then(|windows| windows.stride(stride)?.dilation(dilation));
    let Some(base) = base else {
        return Err(format!("kernel {kernel:?}, stride {stride:?} and dilation {dilation:?} must be at least 1"));
    };
    let mut pairs = [[0; 2]; N];
    for (axis, pair) in pairs.iter_mut().enumerate() {
        let (before, extent) = (padding[axis], base.extent(axis));
        if before > extent / 2 {
            return Err(format!("padding {padding:?} must be at most half of a window of {kernel:?}"));
        }
        let end = before + lengths[axis];
        let Some(room) =
            (end + before).checked_sub(extent).or((*ceil_mode && end + before + stride[axis] > extent).then_some(0))
        else {
            return Err(format!("a window of {kernel:?} does not fit into the padded size {}", end + before));
        };
        let mut count = if *ceil_mode { room.div_ceil(stride[axis]) } else { room / stride[axis] } + 1;
        // A window that begins behind the data holds nothing.
        if *ceil_mode && (count - 1) * stride[axis] >= end {
            count -= 1;
        }
        let after = ((count.max(1) - 1) * stride[axis] + extent).saturating_sub(end);
        *pair = [before, after];
    }
    base.padding(&pairs).ok_or_else(|| format!("padding {padding:?} is too large"))
}

/// `[n, c, ..windows]`: the sum of each window, padding being 0.
fn window_sums<'g>(windows: &Windows, x: Tensor<'g>) -> Tensor<'g> {
    let rank = windows.rank() as isize;
    let axes: Vec<isize> = (2 + rank..2 + 2 * rank).collect();
    unfold(windows, x, 2, 0.0).sum(&axes)
}

/// Sums divided by the number of elements of their windows, axis by axis where that varies.
fn divided<'g, const N: usize>(
    windows: &Windows,
    options: &PoolOptions<N>,
    sum: Tensor<'g>,
    lengths: &[usize],
    include_padding: bool,
) -> Tensor<'g> {
    let shape = sum.shape();
    let graph = sum.graph();
    let (mut sum, mut divisor) = (sum, 1);
    for (axis, &length) in lengths.iter().enumerate() {
        let (kernel, stride, before) = (windows.kernel_at(axis), windows.stride_at(axis), windows.before_at(axis));
        // The elements that count lie from `low` up to `high`, both in padded positions.
        let (low, high) = match include_padding {
            true => (0, before + length + options.padding[axis]),
            false => (before, before + length),
        };
        let counts: Vec<usize> = (0..shape[2 + axis])
            .map(|window| (window * stride + kernel).min(high).saturating_sub((window * stride).max(low)))
            .collect();
        if counts.iter().all(|&count| count == counts[0]) {
            divisor *= counts.first().copied().unwrap_or(1).max(1);
            continue;
        }
        let int = |value: usize| graph.constant(Literal::new(DType::I32, value as f64));
        let start = graph.iota([shape[2 + axis]], 0) * int(stride);
        let count = (start + int(kernel)).minimum(int(high)) - start.maximum(int(low));
        let along: Shape = (0..shape.rank()).map(|i| if i == 2 + axis { shape[i] } else { 1 }).collect();
        sum = sum / count.maximum(int(1)).cast(DType::F32).reshape(along);
    }
    if divisor == 1 { sum } else { sum * (1.0 / divisor as f64) }
}
