//! The meaning of operations that only move elements.

use super::value::Array;
use crate::graph::Literal;
use crate::shape::{Shape, View};

/// Where the elements of a view lie, in row-major order.
pub(super) fn offsets(view: &View) -> Vec<usize> {
    let mut offsets = vec![view.offset];
    for (&size, &stride) in view.shape.iter().zip(&view.strides) {
        offsets = offsets.iter().flat_map(|&offset| (0..size).map(move |i| offset + i * stride)).collect();
    }
    offsets
}

fn read(x: &Array, view: &View) -> Vec<f64> {
    offsets(view).into_iter().map(|offset| x.data[offset]).collect()
}

pub(super) fn permute(x: &Array, axes: &[usize]) -> Vec<f64> {
    read(x, &View::contiguous(&x.ty.shape).permute(axes))
}

pub(super) fn expand(x: &Array, shape: &Shape) -> Vec<f64> {
    read(x, &View::contiguous(&x.ty.shape).expand(shape))
}

pub(super) fn slice(x: &Array, starts: &[usize], sizes: &[usize]) -> Vec<f64> {
    read(x, &View::contiguous(&x.ty.shape).slice(starts, sizes))
}

pub(super) fn window(x: &Array, axis: usize, size: usize, stride: usize, dilation: usize) -> Vec<f64> {
    read(x, &View::contiguous(&x.ty.shape).window(axis, size, stride, dilation))
}

/// Every element added to where the window view of the result would read it. `out` is the result's shape.
pub(super) fn fold(x: &Array, axis: usize, stride: usize, dilation: usize, out: &Shape) -> Vec<f64> {
    let mut data = vec![0.0; out.numel()];
    let size = x.ty.shape[x.ty.shape.rank() - 1];
    let windows = View { shape: x.ty.shape.clone(), ..View::contiguous(out).window(axis, size, stride, dilation) };
    for (offset, &value) in offsets(&windows).into_iter().zip(&x.data) {
        data[offset] += value;
    }
    data
}

/// `out` is the padded shape.
pub(super) fn pad(x: &Array, before: &[usize], value: Literal, out: &Shape) -> Vec<f64> {
    let mut data = vec![value.value(); out.numel()];
    write(&mut data, &View::contiguous(out).slice(before, &x.ty.shape), x);
    data
}

fn write(data: &mut [f64], view: &View, x: &Array) {
    for (offset, &value) in offsets(view).into_iter().zip(&x.data) {
        data[offset] = value;
    }
}

/// `out` is the joined shape.
pub(super) fn concat(x: &[&Array], axis: usize, out: &Shape) -> Vec<f64> {
    let mut data = vec![0.0; out.numel()];
    let mut starts = vec![0; out.rank()];
    for part in x {
        write(&mut data, &View::contiguous(out).slice(&starts, &part.ty.shape), part);
        starts[axis] += part.ty.shape[axis];
    }
    data
}

/// The start along `axis`, clamped so that `size` rows fit; 0 along the others.
fn clamped(start: &Array, shape: &Shape, axis: usize, size: usize) -> Vec<usize> {
    let mut starts = vec![0; shape.rank()];
    starts[axis] = start.data[0].clamp(0.0, (shape[axis] - size) as f64) as usize;
    starts
}

pub(super) fn dynamic_slice(x: &Array, start: &Array, axis: usize, size: usize) -> Vec<f64> {
    let shape = &x.ty.shape;
    slice(x, &clamped(start, shape, axis, size), &shape.with(axis, size))
}

pub(super) fn dynamic_update(x: &Array, update: &Array, start: &Array, axis: usize) -> Vec<f64> {
    let shape = &x.ty.shape;
    let starts = clamped(start, shape, axis, update.ty.shape[axis]);
    let mut data = x.data.clone();
    write(&mut data, &View::contiguous(shape).slice(&starts, &update.ty.shape), update);
    data
}
