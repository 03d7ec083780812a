//! What convolutions and poolings *are*: their expansion into windows, products and folds. See `expand.rs`.
//!
//! Windows are views, so that a definition copies nothing; what a kernel cannot read as it lies is copied later,
//! by the lowering. In names: `n` samples, `g` groups, `c` channels in and `o` channels out (of one group),
//! `O` positions of windows, `K` elements of a window, `P` padded positions.

use crate::dtype::DType;
use crate::graph::windows::{SPATIAL, Windows};
use crate::graph::{Literal, Op, ReduceKind, Tensor};
use crate::shape::Shape;

fn reshape<'g>(x: Tensor<'g>, parts: &[&[usize]]) -> Tensor<'g> {
    let shape: Shape = parts.concat().into();
    if shape == x.shape() { x } else { x.apply(Op::Reshape(shape), &[]) }
}

fn permute<'g>(x: Tensor<'g>, order: &[Vec<usize>]) -> Tensor<'g> {
    let order = order.concat();
    if order.iter().copied().eq(0..order.len()) { x } else { x.apply(Op::Permute(order), &[]) }
}

fn sum<'g>(x: Tensor<'g>, axes: Vec<usize>) -> Tensor<'g> {
    x.apply(Op::Reduce { kind: ReduceKind::Sum, axes }, &[])
}

fn matmul<'g>(a: Tensor<'g>, b: Tensor<'g>) -> Tensor<'g> {
    a.apply(Op::MatMul, &[b])
}

/// A stack of matrices repeated along a new first axis.
fn for_each<'g>(x: Tensor<'g>, samples: usize) -> Tensor<'g> {
    let shape = x.shape();
    let repeated: Shape = [samples].iter().chain(shape.iter()).copied().collect();
    reshape(x, &[&[1], &shape]).apply(Op::Expand(repeated), &[])
}

/// The padded amounts of a tensor whose spatial axes start at `first`.
fn margins(windows: &Windows, first: usize) -> [Vec<usize>; 2] {
    let all = |at: &dyn Fn(usize) -> usize| {
        (0..first + windows.rank()).map(|axis| axis.checked_sub(first).map_or(0, at)).collect()
    };
    [all(&|axis| windows.before_at(axis)), all(&|axis| windows.after_at(axis))]
}

/// `[lead.., P..]` padded with `fill`, as windows `[lead.., O.., K..]`.
pub fn unfold<'g>(windows: &Windows, x: Tensor<'g>, first: usize, fill: f64) -> Tensor<'g> {
    let [before, after] = margins(windows, first);
    let padded = before.iter().chain(&after).any(|&amount| amount > 0);
    let value = Literal::new(x.dtype(), fill);
    let mut x = if padded { x.apply(Op::Pad { before, after, value }, &[]) } else { x };
    for axis in 0..windows.rank() {
        let [size, stride, dilation] = steps(windows, axis);
        x = x.apply(Op::Window { axis: first + axis, size, stride, dilation }, &[]);
    }
    x
}

/// The transpose of [`unfold`]: `[lead.., O.., K..]` added up to `[lead.., ..size]`, padding left out.
fn fold<'g>(windows: &Windows, x: Tensor<'g>, first: usize, size: &[usize]) -> Tensor<'g> {
    let mut x = x;
    for axis in (0..windows.rank()).rev() {
        let [_, stride, dilation] = steps(windows, axis);
        let length = windows.padded(axis, size[axis]);
        x = x.apply(Op::Fold { axis: first + axis, length, stride, dilation }, &[]);
    }
    let [starts, _] = margins(windows, first);
    let sizes = [&x.shape()[..first], size].concat();
    if sizes[..] == x.shape()[..] { x } else { x.apply(Op::Slice { starts, sizes }, &[]) }
}

fn steps(windows: &Windows, axis: usize) -> [usize; 3] {
    [windows.kernel_at(axis), windows.stride_at(axis), windows.dilation_at(axis)]
}

/// The spatial lengths that an attribute holds.
fn lengths(windows: &Windows, size: &[u32; SPATIAL]) -> Vec<usize> {
    size[..windows.rank()].iter().map(|&length| length as usize).collect()
}

/// The sizes that all three products of a convolution share.
struct Sizes {
    /// Channels in and out of one group.
    inputs: usize,
    outputs: usize,
    /// Spatial axes.
    rank: usize,
    counts: Shape,
    kernel: Shape,
}

impl Sizes {
    /// From `dy [n, o, ..O]` and the channels of one group of the data.
    fn new(windows: &Windows, groups: usize, inputs: usize, outputs: usize, counts: &[usize]) -> Sizes {
        let kernel = windows.kernel_shape();
        Sizes { inputs, outputs: outputs / groups, rank: windows.rank(), counts: counts.into(), kernel }
    }

    /// One channel in, one out, for each group: products are taken element by element instead of by matrices.
    fn is_depthwise(&self) -> bool {
        self.inputs == 1
    }

    /// Axes of `O` and of `K` where they start at `at`.
    fn axes(&self, at: usize) -> Vec<usize> {
        (at..at + self.rank).collect()
    }

    /// Axes of size 1, one for each spatial axis.
    fn ones(&self) -> Vec<usize> {
        vec![1; self.rank]
    }
}

/// `y[n, g o, O] = sum over c, K of x[n, g c, window O at K] weight[g o, c, K]`, as `torch.nn.functional.conv2d`.
pub fn conv<'g>(windows: &Windows, groups: usize, x: Tensor<'g>, weight: Tensor<'g>) -> Tensor<'g> {
    let (xs, ws) = (x.shape(), weight.shape());
    let samples = xs[0];
    let counts = windows.counts(&xs[2..]).unwrap_or_default();
    let s = Sizes::new(windows, groups, ws[1], ws[0], &counts);
    let x = unfold(windows, x, 2, 0.0);
    if s.is_depthwise() {
        let x = reshape(x, &[&[samples, groups, 1], &s.counts, &s.kernel]);
        let weight = reshape(weight, &[&[1, groups, s.outputs], &s.ones(), &s.kernel]);
        let y = sum(x * weight, s.axes(3 + s.rank));
        return reshape(y, &[&[samples, ws[0]], &s.counts]);
    }
    // [n, g, c K, O]: a sample's rows lie as the result's do.
    let x = reshape(x, &[&[samples, groups, s.inputs], &s.counts, &s.kernel]);
    let x = permute(x, &[vec![0, 1, 2], s.axes(3 + s.rank), s.axes(3)]);
    let x = reshape(x, &[&[samples, groups, s.inputs * s.kernel.numel(), s.counts.numel()]]);
    let weight = reshape(weight, &[&[groups, s.outputs, s.inputs * s.kernel.numel()]]);
    reshape(matmul(for_each(weight, samples), x), &[&[samples, ws[0]], &s.counts])
}

/// The gradient of [`conv`] with respect to its data, which is the transposed convolution of `g [n, o, ..O]`:
/// what each window got, put back and added up.
pub fn conv_data_grad<'g>(
    windows: &Windows,
    groups: usize,
    size: &[u32; SPATIAL],
    g: Tensor<'g>,
    weight: Tensor<'g>,
) -> Tensor<'g> {
    let (gs, ws) = (g.shape(), weight.shape());
    let s = Sizes::new(windows, groups, ws[1], ws[0], &gs[2..]);
    let size = lengths(windows, size);
    let channels = groups * s.inputs;
    if s.is_depthwise() {
        let g = reshape(g, &[&[gs[0], groups, s.outputs], &s.counts, &s.ones()]);
        let weight = reshape(weight, &[&[1, groups, s.outputs], &s.ones(), &s.kernel]);
        let x = g * weight;
        let x = if s.outputs == 1 { x } else { sum(x, vec![2]) };
        return fold(windows, reshape(x, &[&[gs[0], channels], &s.counts, &s.kernel]), 2, &size);
    }
    let area = s.kernel.numel();
    let g = reshape(g, &[&[gs[0], groups, s.outputs, s.counts.numel()]]);
    let weight = reshape(weight, &[&[groups, s.outputs, s.inputs * area]]);
    let weight = permute(weight, &[vec![0, 2, 1]]);
    let x = reshape(matmul(for_each(weight, gs[0]), g), &[&[gs[0], channels], &s.kernel, &s.counts]);
    if windows.is_pointwise() {
        return reshape(x, &[&[gs[0], channels], &size]);
    }
    fold(windows, permute(x, &[vec![0, 1], s.axes(2 + s.rank), s.axes(2)]), 2, &size)
}

/// The gradient of [`conv`] with respect to its weight: for each element of a window the sum over samples and
/// windows of data times `g [n, o, ..O]`.
pub fn conv_weight_grad<'g>(windows: &Windows, groups: usize, x: Tensor<'g>, g: Tensor<'g>) -> Tensor<'g> {
    let (xs, gs) = (x.shape(), g.shape());
    let s = Sizes::new(windows, groups, xs[1] / groups.max(1), gs[1], &gs[2..]);
    let samples = xs[0];
    let x = unfold(windows, x, 2, 0.0);
    let weight = [&[gs[1], s.inputs], &s.kernel[..]].concat();
    if s.is_depthwise() {
        let x = reshape(x, &[&[samples, groups, 1], &s.counts, &s.kernel]);
        let g = reshape(g, &[&[samples, groups, s.outputs], &s.counts, &s.ones()]);
        let axes = [vec![0], s.axes(3)].concat();
        return reshape(sum(x * g, axes), &[&weight]);
    }
    let x = reshape(x, &[&[samples, groups, s.inputs], &s.counts, &s.kernel]);
    let x = permute(x, &[vec![1, 0], s.axes(3), vec![2], s.axes(3 + s.rank)]);
    let positions = samples * s.counts.numel();
    let x = reshape(x, &[&[groups, positions, s.inputs * s.kernel.numel()]]);
    let g = reshape(g, &[&[samples, groups, s.outputs, s.counts.numel()]]);
    let g = reshape(permute(g, &[vec![1, 2, 0, 3]]), &[&[groups, s.outputs, positions]]);
    reshape(matmul(g, x), &[&weight])
}

/// Below every element that is not -infinity: what padding holds in a maximum.
const LOWEST: f64 = f32::MIN as f64;

/// The largest element of each window of `x [n, c, ..]`, and the index within the plane of `x` of the first that is
/// as large; as `torch.nn.functional.max_pool2d(return_indices=True)`.
pub fn max_pool<'g>(windows: &Windows, x: Tensor<'g>) -> Vec<Tensor<'g>> {
    let shape = x.shape();
    let counts = windows.counts(&shape[2..]).unwrap_or_default();
    let rank = windows.rank();
    let all = unfold(windows, x, 2, LOWEST);
    let largest = all.apply(Op::Reduce { kind: ReduceKind::Max, axes: (2 + rank..2 + 2 * rank).collect() }, &[]);
    let rows = reshape(all, &[&shape[..2], &counts, &[windows.area()]]);
    let within = rows.apply(Op::ArgMax { axis: 2 + rank }, &[]);
    // From the element of the window to the position in the plane.
    let graph = x.graph();
    let int = |value: usize| graph.constant(Literal::new(DType::I32, value as f64));
    let mut index = int(0).broadcast_to(within.shape());
    for axis in 0..rank {
        let [kernel, stride, dilation] = steps(windows, axis);
        let inner: usize = (axis + 1..rank).map(|axis| windows.kernel_at(axis)).product();
        let element = within / int(inner);
        let element = element - element / int(kernel) * int(kernel);
        let window = graph.iota(within.shape(), 2 + axis);
        // A window that lies in the padding alone has no element: its index stays in the plane.
        let at = window * int(stride) + element * int(dilation) - int(windows.before_at(axis));
        let at = at.maximum(int(0)).minimum(int(shape[2 + axis].saturating_sub(1)));
        index = index * int(shape[2 + axis]) + at;
    }
    vec![largest, index]
}

/// The gradient of [`max_pool`]: that of each window goes to the element at its index.
pub fn max_pool_grad<'g>(windows: &Windows, size: &[u32; SPATIAL], index: Tensor<'g>, g: Tensor<'g>) -> Tensor<'g> {
    let size = lengths(windows, size);
    let (rank, lead) = (windows.rank(), g.shape());
    let kernel = windows.kernel_shape();
    let all: Shape = [&lead[..], &kernel].concat().into();
    let graph = g.graph();
    let int = |value: usize| graph.constant(Literal::new(DType::I32, value as f64));
    // Where the window's element lies in the plane, and whether that is not in the padding.
    let (mut position, mut inside) = (int(0).broadcast_to(&all), None::<Tensor<'g>>);
    for (axis, &length) in size.iter().enumerate() {
        let window = graph.iota(&all, 2 + axis) * int(windows.stride_at(axis));
        let element = graph.iota(&all, 2 + rank + axis) * int(windows.dilation_at(axis));
        let at = window + element - int(windows.before_at(axis));
        position = position * int(length) + at;
        let legal = at.ge(int(0)).logical_and(at.lt(int(length)));
        inside = Some(inside.map_or(legal, |inside| inside.logical_and(legal)));
    }
    let spread = |t: Tensor<'g>| reshape(t, &[&lead, &vec![1; rank]]).broadcast_to(&all);
    let hit = position.eq(spread(index));
    let hit = inside.map_or(hit, |inside| inside.logical_and(hit));
    fold(windows, hit.select(spread(g), 0.0), 2, &size)
}
