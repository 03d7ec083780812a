//! Signals: windows, the discrete Fourier transform and its short-time form.
//!
//! A transform is a product with a matrix of cosines and one of sines.

use super::super::call::{Call, Outputs, Val, one};
use super::super::constant::{Constant, Elem};
use super::{Op, with};
use crate::error::Result;
use crate::graph::Tensor;
use crate::tensor::concat;
use std::f64::consts::PI;

/// Longest transform: its tables have the square of this.
const MAX_LENGTH: usize = 4096;

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "HannWindow" => with(|c| window(c, |turn| 0.5 - 0.5 * turn.cos()), &[0]),
        "HammingWindow" => with(|c| window(c, |turn| 25.0 / 46.0 - 21.0 / 46.0 * turn.cos()), &[0]),
        "BlackmanWindow" => with(|c| window(c, |turn| 0.42 - 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos()), &[0]),
        "DFT" => with(dft, &[1, 2]),
        "STFT" => with(stft, &[1, 3]),
        _ => None,
    }
}

/// A window as a function of the angle, which goes once around.
fn window<'g>(c: &Call<'_, 'g>, shape: fn(f64) -> f64) -> Outputs<'g> {
    let size = c.count(c.int(0)?)?;
    let around = if c.attr_int("periodic", 1) != 0 { size } else { size.saturating_sub(1) };
    if c.attr_int("output_datatype", 1) != 1 {
        return Err(c.unsupported("windows of other elements than f32"));
    }
    c.computed(size)?;
    let data = (0..size).map(|i| shape(2.0 * PI * i as f64 / around.max(1) as f64)).collect();
    one(Constant { elem: Elem::F32, shape: [size].into(), data })
}

/// What is transformed: real and, unless it is zero, imaginary part, both `[.., length]`.
struct Signal<'g> {
    real: Tensor<'g>,
    imaginary: Option<Tensor<'g>>,
}

/// `cos` and `sin` of `2 pi i j / length` as `[rows, columns]`. One turn is computed while importing, in f64, since WGSL's
/// own functions are coarse; the device looks the rest up in it, so that a short file cannot make a long import.
fn tables<'g>(c: &Call<'_, 'g>, rows: usize, columns: usize, length: usize) -> Result<[Tensor<'g>; 2]> {
    c.computed(2 * length)?;
    let graph = c.tracer.graph;
    let along = |axis: usize| graph.iota([rows, columns], axis);
    let place = (along(0) * along(1)).fmod(length as i32);
    let table = |name: &str, value: fn(f64) -> f64| -> Result<Tensor<'g>> {
        let data = (0..length).map(|at| value(2.0 * PI * at as f64 / length as f64)).collect();
        let turn = Constant { elem: Elem::F32, shape: [length].into(), data };
        Ok(c.tracer.tensor(&Val { name: format!("{}.{name}", c.path).into(), ..turn.into() })?.gather(place))
    };
    Ok([table("cos", f64::cos)?, table("sin", f64::sin)?])
}

impl<'g> Signal<'g> {
    /// Cut or filled with zeros to so many elements.
    fn fitted(self, length: usize) -> Signal<'g> {
        let fit = |x: Tensor<'g>| {
            let own = x.shape().last().copied().unwrap_or(0);
            if own > length { x.slice(-1, 0, length) } else { x.pad(-1, 0, length - own, 0.0) }
        };
        Signal { real: fit(self.real), imaginary: self.imaginary.map(fit) }
    }

    /// `sum x e^(-+ 2 pi i j k / n)` for the first `bins` frequencies: `[.., bins, 2]`.
    fn transform(self, c: &Call<'_, 'g>, length: usize, bins: usize, inverse: bool) -> Result<Tensor<'g>> {
        let rows = self.real.shape().last().copied().unwrap_or(0);
        let [cos, sin] = tables(c, rows, bins, length)?;
        let sin = if inverse { sin * -1 } else { sin };
        let (mut real, mut imaginary) = (product(self.real, cos), -product(self.real, sin));
        if let Some(other) = self.imaginary {
            real = real + product(other, sin);
            imaginary = imaginary + product(other, cos);
        }
        let both = concat(real.unsqueeze(-1), &[imaginary.unsqueeze(-1)], -1);
        Ok(if inverse { both * (1.0 / length as f64) } else { both })
    }

    /// The real signal of `length` elements whose first frequencies these are: `[.., length, 1]`.
    fn real_inverse(self, c: &Call<'_, 'g>, length: usize) -> Result<Tensor<'g>> {
        let half = length / 2 + 1;
        let part = self.fitted(half);
        let [cos, sin] = tables(c, half, length, length)?;
        // All but the first (and of an even length the last) stand for two.
        let bin = part.real.graph().iota([half], 0);
        let ends = bin.eq(0).logical_or((bin * 2).eq(length as i32));
        let twice = ends.select(part.real.graph().float(1.0), 2.0);
        let mut y = product(part.real * twice, cos);
        if let Some(imaginary) = part.imaginary {
            y = y - product(imaginary * twice, sin);
        }
        Ok((y * (1.0 / length as f64)).unsqueeze(-1))
    }
}

fn product<'g>(x: Tensor<'g>, table: Tensor<'g>) -> Tensor<'g> {
    if x.rank() == 1 { x.unsqueeze(0).matmul(table).squeeze(0) } else { x.matmul(table) }
}

/// The axis before the last holds numbers of one or two parts.
fn parts<'g>(c: &Call<'_, 'g>, x: Tensor<'g>) -> Result<Signal<'g>> {
    let part = |at: usize| x.slice(-1, at, at + 1).squeeze(-1);
    match x.shape().last() {
        Some(1) => Ok(Signal { real: part(0), imaginary: None }),
        Some(2) => Ok(Signal { real: part(0), imaginary: Some(part(1)) }),
        _ => Err(c.invalid(format_args!("the last axis of {} must hold one or two parts", x.shape()))),
    }
}

fn checked(c: &Call<'_, '_>, length: usize) -> Result<usize> {
    match length {
        1..=MAX_LENGTH => Ok(length),
        _ => Err(c.unsupported(format_args!("a transform of {length} elements; 1 to {MAX_LENGTH} are possible"))),
    }
}

fn dft<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let axis = if c.opset < 20 { c.attr_int("axis", 1) } else { c.number_or(2, -2.0)? as i64 };
    let axis = c.axis(axis, x.rank())?;
    if axis + 1 >= x.rank() {
        return Err(c.invalid("the axis of the parts cannot be transformed"));
    }
    let (inverse, onesided) = (c.attr_int("inverse", 0) != 0, c.attr_int("onesided", 0) != 0);
    let own = x.shape()[axis];
    let default = if inverse && onesided { 2 * own.saturating_sub(1) } else { own };
    let length = checked(c, if c.has(1) { c.count(c.int(1)?)? } else { default })?;
    // The axis goes to the end, before the parts, and back.
    let at = axis as isize;
    let signal = parts(c, x.transpose(at, -2))?;
    let y = match (inverse, onesided) {
        (true, true) => signal.real_inverse(c, length)?,
        (_, half) => signal.fitted(length).transform(c, length, if half { length / 2 + 1 } else { length }, inverse)?,
    };
    one(y.transpose(at, -2))
}

/// `[n, length, 1]` cut into frames, each transformed: `[n, frames, bins, 2]`.
fn stft<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let step = c.count(c.int(1)?)?;
    let window = c.optional(2)?;
    let own = window.map_or(0, |window| window.shape().numel());
    let length = checked(c, if c.has(3) { c.count(c.int(3)?)? } else { own })?;
    let fits =
        matches!(x.shape()[..], [_, size, 1] if size >= length) && step > 0 && (window.is_none() || own == length);
    if !fits {
        return Err(c.unsupported(format_args!("frames of {length} every {step} of a signal {}", x.shape())));
    }
    let frames = x.squeeze(-1).unfold(1, length, step);
    let real = window.map_or(frames, |window| frames * window);
    let bins = if c.attr_int("onesided", 1) != 0 { length / 2 + 1 } else { length };
    one(Signal { real, imaginary: None }.transform(c, length, bins, false)?)
}
