//! The meaning of leaves that make numbers, of reductions, products and indexing.

use super::movement::offsets;
use super::value::{Array, Precision, settle};
use crate::dtype::DType;
use crate::graph::ReduceKind;
use crate::random;
use crate::shape::{Shape, View};

pub(super) fn iota(shape: &Shape, axis: usize) -> Vec<f64> {
    let mut strides = vec![0; shape.rank()];
    strides[axis] = 1;
    offsets(&View { offset: 0, shape: shape.clone(), strides }).into_iter().map(|index| index as f64).collect()
}

/// See [`random::random_bits`].
pub(super) fn random_bits(key: &Array, shape: &Shape, stream: u32) -> Vec<f64> {
    let key = [key.data[0] as u32, key.data[1] as u32];
    let row: usize = shape.iter().skip(1).product();
    (0..shape.numel())
        .map(|index| match shape.rank() {
            0 => (0, 0),
            _ => ((index / row) as u32, (index % row) as u32),
        })
        .map(|(sample, within)| f64::from(random::random_bits(key, stream, sample, within)))
        .collect()
}

/// What a reduction of nothing gives: -inf for a maximum, +inf for a minimum, or the integer's bound.
fn identity(kind: ReduceKind, dtype: DType) -> f64 {
    let (low, high) = match dtype {
        DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        DType::U32 => (0.0, f64::from(u32::MAX)),
        DType::F32 | DType::F16 | DType::BF16 | DType::Bool | DType::U8 => (f64::NEG_INFINITY, f64::INFINITY),
    };
    match kind {
        ReduceKind::Sum => 0.0,
        ReduceKind::Max => low,
        ReduceKind::Min => high,
    }
}

/// `out` is the shape without the reduced axes. Elements are combined in row-major order.
pub(super) fn reduce(x: &Array, kind: ReduceKind, axes: &[usize], out: &Shape) -> Vec<f64> {
    let dtype = x.ty.dtype;
    let mut kept = out.strides().into_iter();
    let strides =
        (0..x.ty.shape.rank()).map(|axis| if axes.contains(&axis) { 0 } else { kept.next().unwrap_or(0) }).collect();
    let targets = offsets(&View { offset: 0, shape: x.ty.shape.clone(), strides });
    let mut data = vec![identity(kind, dtype); out.numel()];
    for (target, &value) in targets.into_iter().zip(&x.data) {
        let so_far = data[target];
        data[target] = match kind {
            // Floats are summed in f64; integers wrap at each step, which keeps them exact.
            ReduceKind::Sum => settle(so_far + value, dtype, Precision::F64),
            ReduceKind::Max => so_far.max(value),
            ReduceKind::Min => so_far.min(value),
        };
    }
    data
}

pub(super) fn argmax(x: &Array, axis: usize) -> Vec<f64> {
    let shape = &x.ty.shape;
    let (size, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let largest = |start: usize| {
        let element = |i: usize| x.data[start + i * inner];
        (1..size).fold(0, |best, i| if element(i) > element(best) { i } else { best }) as f64
    };
    (0..shape.without(axis).numel()).map(|out| largest(out / inner * size * inner + out % inner)).collect()
}

/// Where the lines along an axis start, their length, and the step within one.
fn lines(shape: &Shape, axis: usize) -> (Vec<usize>, usize, usize) {
    let (size, step) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let count = shape.without(axis).numel();
    ((0..count).map(|line| line / step * size * step + line % step).collect(), size, step)
}

/// Floats are added in f64; integers wrap at each step.
pub(super) fn cumsum(x: &Array, axis: usize, reverse: bool, exclusive: bool) -> Vec<f64> {
    let (starts, size, step) = lines(&x.ty.shape, axis);
    let mut data = vec![0.0; x.data.len()];
    for start in starts {
        let mut sum = 0.0;
        for i in 0..size {
            let at = start + step * if reverse { size - 1 - i } else { i };
            let next = settle(sum + x.data[at], x.ty.dtype, Precision::F64);
            data[at] = if exclusive { sum } else { next };
            sum = next;
        }
    }
    data
}

/// Stable; NaN is the largest, and zeros of both signs are equal.
pub(super) fn argsort(x: &Array, axis: usize, descending: bool) -> Vec<f64> {
    let (starts, size, step) = lines(&x.ty.shape, axis);
    let mut data = vec![0.0; x.data.len()];
    for start in starts {
        let key = |i: &usize| Some(x.data[start + i * step]).filter(|value| !value.is_nan()).unwrap_or(f64::INFINITY);
        let nan = |i: &usize| x.data[start + i * step].is_nan();
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|a, b| {
            let way = (key(a) + 0.0).total_cmp(&(key(b) + 0.0)).then(nan(a).cmp(&nan(b)));
            if descending { way.reverse() } else { way }
        });
        for (place, index) in order.into_iter().enumerate() {
            data[start + place * step] = index as f64;
        }
    }
    data
}

pub(super) fn sum_squares(x: &[&Array]) -> f64 {
    x.iter().flat_map(|array| &array.data).map(|value| value * value).sum()
}

/// Rows of `b` are walked in the inner loop, so that memory is read in order.
pub(super) fn matmul(a: &Array, b: &Array, out: &Shape) -> Vec<f64> {
    let rank = out.rank();
    let (m, n, k) = (out[rank - 2], out[rank - 1], a.ty.shape[rank - 1]);
    let batches: usize = out[..rank - 2].iter().product();
    let mut data = vec![0.0; out.numel()];
    for batch in 0..batches {
        let (a, b) = (&a.data[batch * m * k..], &b.data[batch * k * n..]);
        for row in 0..m {
            let sums = &mut data[(batch * m + row) * n..][..n];
            for inner in 0..k {
                let factor = a[row * k + inner];
                for (sum, value) in sums.iter_mut().zip(&b[inner * n..][..n]) {
                    *sum += factor * value;
                }
            }
        }
    }
    data
}

/// The row an index means, if there is one.
fn row_of(index: f64, rows: usize) -> Option<usize> {
    (index >= 0.0 && index < rows as f64).then_some(index as usize)
}

pub(super) fn gather(table: &Array, index: &Array) -> Vec<f64> {
    let rows = table.ty.shape[0];
    let size: usize = table.ty.shape[1..].iter().product();
    let mut data = vec![0.0; index.data.len() * size];
    for (position, &index) in index.data.iter().enumerate() {
        if let Some(row) = row_of(index, rows) {
            data[position * size..][..size].copy_from_slice(&table.data[row * size..][..size]);
        }
    }
    data
}

/// `out` is `[rows, rest]`.
pub(super) fn scatter_add(index: &Array, values: &Array, out: &Shape) -> Vec<f64> {
    let size: usize = out[1..].iter().product();
    let mut data = vec![0.0; out.numel()];
    for (position, &index) in index.data.iter().enumerate() {
        if let Some(row) = row_of(index, out[0]) {
            for (sum, value) in data[row * size..][..size].iter_mut().zip(&values.data[position * size..]) {
                *sum = settle(*sum + value, values.ty.dtype, Precision::F64);
            }
        }
    }
    data
}
