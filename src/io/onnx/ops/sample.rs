//! Reading an image at places that are known only at run time: `GridSample`, and grids for it.

use super::super::call::{Call, Outputs, one};
use super::{Op, op, with};
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::Tensor;
use crate::tensor::concat;

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "GridSample" => op(grid_sample),
        "AffineGrid" => with(affine_grid, &[1]),
        _ => None,
    }
}

/// `[n, ..sizes, axes]`: where an affine map sends each place of an image, in `-1..1`.
fn affine_grid<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (theta, size) = (c.tensor(0)?, c.shape(&c.ints(1)?)?);
    let corners = c.attr_int("align_corners", 0) != 0;
    let axes = size.rank().saturating_sub(2);
    if axes == 0 || *theta.shape() != [size[0], axes, axes + 1] {
        return Err(c.invalid(format_args!("maps {} do not fit an image {size}", theta.shape())));
    }
    let sizes = &size[2..];
    let count: usize = sizes.iter().product();
    // Coordinates of the last axis come first; the last column is the shift.
    let coordinates: Vec<Tensor<'g>> = (0..axes)
        .rev()
        .map(|axis| {
            let length = sizes[axis] as f64;
            let step = c.graph().iota(sizes, axis).cast(DType::F32);
            let place = match corners {
                true if sizes[axis] > 1 => step * (2.0 / (length - 1.0)) - 1.0,
                true => step.zeros_like(),
                false => (step * 2.0 + 1.0) * (1.0 / length) - 1.0,
            };
            place.reshape([1, count, 1])
        })
        .collect();
    let ones = c.graph().float(1.0).broadcast_to([1, count, 1]);
    let points = concat(coordinates[0], &[&coordinates[1..], &[ones]].concat(), 2);
    let grid = points.matmul(theta.t());
    let shape: Vec<usize> = [size[0]].into_iter().chain(sizes.iter().copied()).chain([axes]).collect();
    one(grid.reshape(shape))
}

/// How places between and beyond elements are read.
struct Reading {
    mode: Mode,
    beyond: Beyond,
    corners: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Clone, Copy, PartialEq)]
enum Beyond {
    Zeros,
    Border,
    Reflection,
}

fn grid_sample<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (x, grid) = (c.tensor(0)?, c.tensor(1)?);
    let (shape, places) = (x.shape(), grid.shape());
    let axes = shape.rank().saturating_sub(2);
    if axes == 0 || places.rank() != shape.rank() || places[0] != shape[0] || places[places.rank() - 1] != axes {
        return Err(c.invalid(format_args!("a grid {places} does not fit {shape}")));
    }
    let reading = Reading {
        mode: match c.attr_text("mode", "linear").as_str() {
            "nearest" => Mode::Nearest,
            "linear" | "bilinear" => Mode::Linear,
            "cubic" | "bicubic" => Mode::Cubic,
            other => return Err(c.invalid(format_args!("`mode` = {other}"))),
        },
        beyond: match c.attr_text("padding_mode", "zeros").as_str() {
            "zeros" => Beyond::Zeros,
            "border" => Beyond::Border,
            "reflection" => Beyond::Reflection,
            other => return Err(c.invalid(format_args!("`padding_mode` = {other}"))),
        },
        corners: c.attr_int("align_corners", 0) != 0,
    };
    // [n, points] of each axis; the grid names the last axis first.
    let points: usize = places[1..places.rank() - 1].iter().product();
    let flat = grid.reshape([places[0], points, axes]);
    let taps: Vec<Vec<Tap<'g>>> = (0..axes)
        .map(|axis| {
            let place = flat.slice(2, axes - 1 - axis, axes - axis).squeeze(2);
            reading.taps(place, shape[2 + axis])
        })
        .collect();
    let y = gathered(c, x, &taps)?;
    let sizes = [&shape[..2], &places[1..places.rank() - 1]].concat();
    one(y.reshape(sizes))
}

/// One element that is read along an axis, and how much it counts.
#[derive(Clone, Copy)]
struct Tap<'g> {
    index: Tensor<'g>,
    weight: Tensor<'g>,
}

/// `[n, c, points]`: for every combination of taps the rows they point at, weighted and added.
fn gathered<'g>(c: &Call<'_, 'g>, x: Tensor<'g>, taps: &[Vec<Tap<'g>>]) -> Result<Tensor<'g>> {
    let shape = x.shape();
    let plane: usize = shape[2..].iter().product();
    // [n * plane, c]
    let rows = x.reshape([shape[0], shape[1], plane]).permute(&[0, 2, 1]).reshape([shape[0] * plane, shape[1]]);
    let first = taps[0].first().ok_or_else(|| c.invalid("nothing is read"))?.index;
    let sample = c.graph().iota(first.shape(), 0);
    let mut open = vec![Tap { index: sample, weight: first.zeros_like().cast(DType::F32) + 1.0 }];
    for (axis, taps) in taps.iter().enumerate() {
        let size = shape[2 + axis] as i32;
        let deeper = |outer: &Tap<'g>, tap: &Tap<'g>| Tap {
            index: outer.index * size + tap.index,
            weight: outer.weight * tap.weight,
        };
        open = open.iter().flat_map(|outer| taps.iter().map(|tap| deeper(outer, tap)).collect::<Vec<_>>()).collect();
    }
    let mut sum: Option<Tensor<'g>> = None;
    for tap in open {
        let part = rows.gather(tap.index) * tap.weight.unsqueeze(-1);
        sum = Some(sum.map_or(part, |sum| sum + part));
    }
    Ok(sum.ok_or_else(|| c.invalid("nothing is read"))?.permute(&[0, 2, 1]))
}

impl Reading {
    /// The elements to be read around a place in `-1..1` along an axis.
    fn taps<'g>(&self, place: Tensor<'g>, length: usize) -> Vec<Tap<'g>> {
        let n = length as f64;
        let x = if self.corners { (place + 1.0) * ((n - 1.0) / 2.0) } else { ((place + 1.0) * n - 1.0) * 0.5 };
        let x = if self.mode == Mode::Nearest { x.round() } else { x };
        let x = match self.beyond {
            Beyond::Zeros => x,
            Beyond::Border => self.outside(x, n).select(x.maximum(0.0).minimum(n - 1.0), x),
            Beyond::Reflection => self.reflected(x, n),
        };
        if self.mode == Mode::Nearest {
            return vec![self.tap(x, x.zeros_like() + 1.0, n)];
        }
        let base = x.floor();
        let t = x - base;
        let weights: Vec<(f64, Tensor<'g>)> = match self.mode {
            Mode::Cubic => vec![(-1.0, far(t + 1.0)), (0.0, near(t)), (1.0, near(1.0 - t)), (2.0, far(2.0 - t))],
            _ => vec![(0.0, 1.0 - t), (1.0, t)],
        };
        weights.into_iter().map(|(offset, weight)| self.tap(base + offset, weight, n)).collect()
    }

    /// One element at a whole place, brought inside.
    fn tap<'g>(&self, at: Tensor<'g>, weight: Tensor<'g>, n: f64) -> Tap<'g> {
        let inside = at.ge(0.0).logical_and(at.le(n - 1.0));
        let clamped = at.maximum(0.0).minimum(n - 1.0).cast(DType::I32);
        match self.beyond {
            Beyond::Zeros => Tap { index: clamped, weight: inside.select(weight, 0.0) },
            Beyond::Border => Tap { index: clamped, weight },
            Beyond::Reflection => {
                let back = self.reflected(at, n).maximum(0.0).minimum(n - 1.0);
                Tap { index: back.cast(DType::I32), weight }
            }
        }
    }

    /// The ends of an axis: its outer elements, or half an element beyond.
    fn ends(&self, n: f64) -> (f64, f64) {
        if self.corners { (0.0, n - 1.0) } else { (-0.5, n - 0.5) }
    }

    fn outside<'g>(&self, x: Tensor<'g>, n: f64) -> Tensor<'g> {
        let (low, high) = self.ends(n);
        x.lt(low).logical_or(x.gt(high))
    }

    /// Mirrored at the ends until it lies between them.
    fn reflected<'g>(&self, x: Tensor<'g>, n: f64) -> Tensor<'g> {
        let (low, high) = self.ends(n);
        let range = high - low;
        if range <= 0.0 {
            return x.zeros_like() + low;
        }
        let below = x.lt(low);
        let distance = below.select(-x + low, x - high);
        let turns = (distance * (1.0 / range)).floor();
        let rest = distance - turns * range;
        let even = (turns * 0.5).floor().eq(turns * 0.5);
        // From the end that it passed, or after an odd number of turns from the other.
        let from_low = below.eq(even);
        self.outside(x, n).select(from_low.select(rest + low, -rest + high), x)
    }
}

const CUBIC: f64 = -0.75;

/// The weight of a cubic convolution (Keys) at a distance up to 1.
fn near(t: Tensor<'_>) -> Tensor<'_> {
    (t * (CUBIC + 2.0) - (CUBIC + 3.0)) * t * t + 1.0
}

/// The same at a distance from 1 to 2.
fn far(t: Tensor<'_>) -> Tensor<'_> {
    ((t * CUBIC - 5.0 * CUBIC) * t + 8.0 * CUBIC) * t - 4.0 * CUBIC
}
