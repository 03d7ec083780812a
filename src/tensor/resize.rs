//! Resampling of axes: `torch.nn.functional.interpolate`, and channels exchanged for space.
//!
//! Axes are resampled one after the other. Where an output element reads from is a fraction of whole numbers,
//! so indices are exact on every device. Nearest neighbours are views or gathers; linear and cubic resampling is
//! a product with a small matrix that is computed on the device, so that its gradient is a product too.

use crate::dtype::DType;
use crate::graph::Tensor;
use crate::shape::Shape;

/// How large [`Tensor::interpolate`] makes each axis after the channels.
#[derive(Debug, Clone, PartialEq)]
pub enum Resize {
    /// PyTorch's `size`: one number an axis.
    Size(Vec<usize>),
    /// PyTorch's `scale_factor`: one number an axis, or one for all. Sizes are rounded down, and positions are
    /// computed with the factor itself (`recompute_scale_factor` unset).
    Scale(Vec<f64>),
}

/// PyTorch's `mode` and `align_corners`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The element at `floor(position * in / out)`.
    Nearest,
    /// The element whose middle is nearest, as Pillow and scikit-image do.
    NearestExact,
    /// `linear`, `bilinear` or `trilinear`, after the number of axes. With aligned corners the outermost elements
    /// keep their places, else the outermost edges do.
    Linear { align_corners: bool },
    /// `bicubic`, with Keys' parameter -0.75. For two axes.
    Cubic { align_corners: bool },
}

/// Where output elements lie in the input: element `o` at `(step * o + start) / unit`, in whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    pub step: i64,
    pub start: i64,
    pub unit: i64,
}

/// How a position between elements becomes one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    Floor,
    Ceil,
    /// To the nearest, halves down.
    HalfDown,
    /// To the nearest, halves up.
    HalfUp,
}

/// How the elements around a position make up the output. Beyond the ends the last element goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kernel {
    Nearest(Rounding),
    /// Two elements, weighted by distance.
    Linear,
    /// Four elements, by Keys' cubic with this parameter (-0.75 in PyTorch, -0.5 in others).
    Cubic(f64),
}

impl Resize {
    /// The new size of an axis (counted after the channels) of this size, and the step between its elements.
    fn along(&self, axis: usize, size: usize) -> (usize, [i64; 2]) {
        match self {
            Resize::Size(sizes) => (sizes[axis], ratio(size as f64 / sizes[axis] as f64, largest_denominator(size))),
            Resize::Scale(scales) => {
                let scale = scales[axis.min(scales.len() - 1)];
                // Factors are given with few digits: 0.3 is meant where its f64 is a little less.
                let most = largest_denominator(size).min(2000);
                ((size as f64 * scale).floor() as usize, ratio(1.0 / scale, most))
            }
        }
    }
}

impl Interpolation {
    /// Where the elements of an axis lie and how they are made. Where the size stays the same, PyTorch's
    /// `nearest` and `linear` copy, whatever the factor is.
    fn positions(self, size: usize, new: usize, step: [i64; 2]) -> (Positions, Kernel) {
        match self {
            Interpolation::Nearest | Interpolation::Linear { .. } if new == size => {
                (Positions::from_zero([1, 1]), Kernel::Nearest(Rounding::Floor))
            }
            Interpolation::Nearest => (Positions::from_zero(step), Kernel::Nearest(Rounding::Floor)),
            Interpolation::NearestExact => (Positions::half_pixel(step), Kernel::Nearest(Rounding::HalfUp)),
            Interpolation::Linear { align_corners: true } => (Positions::align_corners(size, new), Kernel::Linear),
            Interpolation::Linear { align_corners: false } => (Positions::half_pixel(step), Kernel::Linear),
            Interpolation::Cubic { align_corners: true } => (Positions::align_corners(size, new), Kernel::Cubic(-0.75)),
            Interpolation::Cubic { align_corners: false } => (Positions::half_pixel(step), Kernel::Cubic(-0.75)),
        }
    }
}

impl Positions {
    /// Edges stay where they are: `(o + 1/2) * ratio - 1/2`.
    pub fn half_pixel([numerator, denominator]: [i64; 2]) -> Positions {
        Positions { step: 2 * numerator, start: numerator - denominator, unit: 2 * denominator }
    }

    /// The first element stays where it is: `o * ratio`.
    pub fn from_zero([step, unit]: [i64; 2]) -> Positions {
        Positions { step, start: 0, unit }
    }

    /// The first and the last element stay where they are; a single output is the first.
    pub fn align_corners(size_in: usize, size_out: usize) -> Positions {
        match size_out {
            0 | 1 => Positions { step: 0, start: 0, unit: 1 },
            _ => Positions { step: size_in as i64 - 1, start: 0, unit: size_out as i64 - 1 },
        }
    }

    fn reduced(self) -> Positions {
        let divisor = gcd(gcd(self.step, self.start), self.unit).max(1);
        Positions { step: self.step / divisor, start: self.start / divisor, unit: self.unit / divisor }
    }

    /// Position of element `o`, rounded down.
    fn floor(self, o: usize) -> i64 {
        (self.step * o as i64 + self.start).div_euclid(self.unit)
    }

    /// The fraction whose floor is the rounded position.
    fn rounded(self, rounding: Rounding) -> Positions {
        let Positions { step, start, unit } = self;
        match rounding {
            Rounding::Floor => self,
            Rounding::Ceil => Positions { start: start + unit - 1, ..self },
            Rounding::HalfDown => Positions { step: 2 * step, start: 2 * start + unit - 1, unit: 2 * unit },
            Rounding::HalfUp => Positions { step: 2 * step, start: 2 * start + unit, unit: 2 * unit },
        }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

/// The fraction nearest to `value` whose denominator is at most `most`, by continued fractions.
pub fn ratio(value: f64, most: i64) -> [i64; 2] {
    let (mut before, mut last) = ([0i64, 1i64], [1i64, 0i64]);
    let mut rest = value;
    for _ in 0..64 {
        let whole = rest.floor();
        let next = [0, 1].map(|i| (whole as i64).saturating_mul(last[i]).saturating_add(before[i]));
        if next[1] > most {
            break;
        }
        (before, last) = (last, next);
        if (next[0] as f64 / next[1] as f64 - value).abs() <= 1e-15 * value.abs() || rest == whole {
            break;
        }
        rest = 1.0 / (rest - whole);
    }
    last
}

/// Denominators that keep positions times two within an i32.
fn largest_denominator(size: usize) -> i64 {
    ((1i64 << 28) / size.max(1) as i64).max(1)
}

impl<'g> Tensor<'g> {
    /// All axes after samples and channels resampled; `torch.nn.functional.interpolate` without antialiasing.
    #[track_caller]
    pub fn interpolate(self, to: &Resize, mode: Interpolation) -> Tensor<'g> {
        let shape = self.shape();
        if let Err(message) = check(&shape, to, mode) {
            self.graph().record_error("interpolate", message);
            return self;
        }
        let mut result = self;
        for (index, &size) in shape[2..].iter().enumerate() {
            let (new, step) = to.along(index, size);
            let (positions, kernel) = mode.positions(size, new, step);
            result = result.resize_axis(index as isize + 2, new, positions, kernel);
        }
        result
    }

    /// One axis resampled to `size` elements, which lie at `positions` of the present ones. Linear and cubic
    /// kernels take f32.
    #[track_caller]
    pub fn resize_axis(self, axis: isize, size: usize, positions: Positions, kernel: Kernel) -> Tensor<'g> {
        let at = self.axis("resize", axis);
        let old = self.shape().get(at).copied().unwrap_or(0);
        let positions = positions.reduced();
        if old == 0 || size == 0 || positions.unit <= 0 {
            let message = format!("cannot make {size} elements of axis {axis} of {}", self.shape());
            self.graph().record_error("resize", message);
            return self;
        }
        if old == size && positions == (Positions { step: 1, start: 0, unit: 1 }) {
            return self;
        }
        match kernel {
            Kernel::Nearest(rounding) => self.nearest(at, size, positions.rounded(rounding).reduced()),
            _ if self.dtype() != DType::F32 => {
                let message =
                    format!("weighs f32 elements only, got {}; use a nearest mode or `.cast(..)`", self.dtype());
                self.graph().record_error("resize", message);
                self
            }
            Kernel::Linear => self.weigh(at, self.linear_weights(old, size, positions)),
            Kernel::Cubic(a) => {
                let before = (1 - positions.floor(0)).max(0) as usize;
                let after = (positions.floor(size - 1) + 3 - old as i64).max(0) as usize;
                let weights = self.cubic_weights([before, old, after], size, positions, a);
                self.replicate(at, before, after).weigh(at, weights)
            }
        }
    }

    /// Element `floor(position)` for each output, limited to the axis.
    fn nearest(self, axis: usize, size: usize, positions: Positions) -> Tensor<'g> {
        let shape = self.shape();
        let old = shape[axis];
        let index = |o: usize| positions.floor(o).clamp(0, old as i64 - 1) as usize;
        let split = |outer: usize, inner: usize| -> Shape {
            shape[..axis].iter().copied().chain([outer, inner]).chain(shape[axis + 1..].iter().copied()).collect()
        };
        let (up, down) = (size / old, old / size);
        if size == old * up && (0..size).all(|o| index(o) == o / up) {
            return self.unsqueeze(axis as isize + 1).broadcast_to(split(old, up)).reshape(shape.with(axis, size));
        }
        if old == size * down && (0..size).all(|o| index(o) == o * down + index(0)) {
            let parts = self.reshape(split(size, down));
            return parts.slice(axis as isize + 1, index(0), index(0) + 1).reshape(shape.with(axis, size));
        }
        let numerator = self.graph().iota([size], 0) * positions.step as f64 + positions.start as f64;
        let index = (numerator.maximum(0) / positions.unit as f64).minimum(old as f64 - 1.0);
        self.rows_of_axis(axis, index)
    }

    /// The entries of one axis that an index (i32, one axis) names.
    #[track_caller]
    pub(super) fn rows_of_axis(self, axis: usize, index: Tensor<'g>) -> Tensor<'g> {
        let rank = self.rank();
        let front: Vec<usize> = std::iter::once(axis).chain((0..rank).filter(|&other| other != axis)).collect();
        let back: Vec<usize> = (1..=axis).chain([0]).chain(axis + 1..rank).collect();
        self.permute(&front).gather(index).permute(&back)
    }

    /// `weights [out, in]` applied along an axis.
    fn weigh(self, axis: usize, weights: Tensor<'g>) -> Tensor<'g> {
        let shape = self.shape();
        let new = shape.with(axis, weights.shape()[0]);
        if axis + 1 == shape.rank() {
            let rows: usize = shape[..axis].iter().product();
            return self.reshape([rows, shape[axis]]).matmul(weights.t()).reshape(new);
        }
        let (lead, rest): (usize, usize) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
        weights.matmul(self.reshape([lead, shape[axis], rest])).reshape(new)
    }

    /// `[size, columns]`: position of each output less `column - shift`.
    fn distances(self, columns: usize, shift: usize, size: usize, at: Positions) -> Tensor<'g> {
        let o = self.graph().iota([size, columns], 0) * at.step as f64;
        let i = self.graph().iota([size, columns], 1) * at.unit as f64;
        let start = at.start + shift as i64 * at.unit;
        (o - i + start as f64).cast(DType::F32) / at.unit as f64
    }

    /// `max(0, 1 - |distance|)`, and beyond the ends all weight on the last element.
    fn linear_weights(self, old: usize, size: usize, positions: Positions) -> Tensor<'g> {
        let distance = self.distances(old, 0, size, positions);
        let column = self.graph().iota([size, old], 1);
        let inner = column.eq(0).select(distance.maximum(0.0), distance);
        let inner = column.eq(old as f64 - 1.0).select(inner.minimum(0.0), inner);
        (1.0 - inner.abs()).relu()
    }

    /// Keys' cubic over an axis that goes on for `before` and `after` elements beyond its ends.
    fn cubic_weights(self, [before, old, after]: [usize; 3], size: usize, at: Positions, a: f64) -> Tensor<'g> {
        let d = self.distances(before + old + after, before, size, at).abs();
        let near = (d * (a + 2.0) - (a + 3.0)) * d * d + 1.0;
        let far = ((d * a - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
        d.le(1.0).select(near, d.lt(2.0).select(far, 0.0))
    }

    /// `[n, c * r * r, h, w]` to `[n, c, h * r, w * r]`; `torch.nn.functional.pixel_shuffle`, with any leading axes.
    #[track_caller]
    pub fn pixel_shuffle(self, factor: usize) -> Tensor<'g> {
        let shape = self.shape();
        let rank = shape.rank();
        let area = factor.saturating_mul(factor);
        if rank < 3 || factor == 0 || !shape[rank - 3].is_multiple_of(area) {
            let message = format!(
                "takes [.., channels, height, width] with channels divisible by {factor} * {factor}, got {shape}"
            );
            self.graph().record_error("pixel_shuffle", message);
            return self;
        }
        let lead: usize = shape[..rank - 3].iter().product();
        let [c, h, w] = [shape[rank - 3] / area, shape[rank - 2], shape[rank - 1]];
        let parts = self.reshape([lead, c, factor, factor, h, w]).permute(&[0, 1, 4, 2, 5, 3]);
        let image = [c, h.saturating_mul(factor), w.saturating_mul(factor)];
        parts.reshape(shape[..rank - 3].iter().copied().chain(image).collect::<Shape>())
    }

    /// The reverse of [`Tensor::pixel_shuffle`]: `[n, c, h * r, w * r]` to `[n, c * r * r, h, w]`.
    #[track_caller]
    pub fn pixel_unshuffle(self, factor: usize) -> Tensor<'g> {
        let shape = self.shape();
        let rank = shape.rank();
        let divides = |axis: usize| shape[axis].is_multiple_of(factor);
        if rank < 3 || factor == 0 || !divides(rank - 2) || !divides(rank - 1) {
            let message =
                format!("takes [.., channels, height, width] with height and width divisible by {factor}, got {shape}");
            self.graph().record_error("pixel_unshuffle", message);
            return self;
        }
        let lead: usize = shape[..rank - 3].iter().product();
        let [c, h, w] = [shape[rank - 3], shape[rank - 2] / factor, shape[rank - 1] / factor];
        let parts = self.reshape([lead, c, h, factor, w, factor]).permute(&[0, 1, 3, 5, 2, 4]);
        let image = [c.saturating_mul(factor).saturating_mul(factor), h, w];
        parts.reshape(shape[..rank - 3].iter().copied().chain(image).collect::<Shape>())
    }

    /// Channels (axis 1) dealt out anew: `groups` times `c / groups` become `c / groups` times `groups`;
    /// `torch.nn.functional.channel_shuffle`.
    #[track_caller]
    pub fn channel_shuffle(self, groups: usize) -> Tensor<'g> {
        let shape = self.shape();
        if shape.rank() < 3 || groups == 0 || !shape[1].is_multiple_of(groups) {
            let message = format!("takes [samples, channels, ..] with channels divisible by {groups}, got {shape}");
            self.graph().record_error("channel_shuffle", message);
            return self;
        }
        let rest: usize = shape[2..].iter().product();
        self.reshape([shape[0], groups, shape[1] / groups, rest]).transpose(1, 2).reshape(shape)
    }
}

/// Why a resize makes no sense, if it makes none.
fn check(shape: &Shape, to: &Resize, mode: Interpolation) -> Result<(), String> {
    if shape.rank() < 3 {
        return Err(format!("takes [samples, channels, ..] with at least one axis to resample, got {shape}"));
    }
    let axes = shape.rank() - 2;
    if matches!(mode, Interpolation::Cubic { .. }) && axes != 2 {
        return Err(format!("cubic interpolation takes [samples, channels, height, width], got {shape}"));
    }
    match to {
        Resize::Size(sizes) if sizes.len() != axes => {
            Err(format!("needs one size for each of the {axes} axes after the channels of {shape}, got {sizes:?}"))
        }
        Resize::Scale(scales) if scales.len() != axes && scales.len() != 1 => Err(format!(
            "needs one factor, or one for each of the {axes} axes after the channels of {shape}, got {scales:?}"
        )),
        Resize::Size(sizes) if sizes.contains(&0) || shape[2..].contains(&0) => {
            Err(format!("sizes must be greater than 0, got {shape} to {sizes:?}"))
        }
        Resize::Scale(scales) => {
            let size = |axis: usize| shape[axis + 2] as f64 * scales[axis.min(scales.len() - 1)];
            let fits = (0..axes).all(|axis| size(axis) >= 1.0 && size(axis) < f64::from(1 << 28));
            if fits { Ok(()) } else { Err(format!("sizes must be greater than 0, got {shape} times {scales:?}")) }
        }
        Resize::Size(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_the_fractions_that_were_meant() {
        assert_eq!(ratio(0.75, 2000), [3, 4]);
        assert_eq!(ratio(1.0 / 1.3, 2000), [10, 13]);
        assert_eq!(ratio(1.0 / 0.3, 2000), [10, 3]);
        assert_eq!(ratio(7.0 / 640.0, 1 << 20), [7, 640]);
        assert_eq!(ratio(2.0, 1), [2, 1]);
        let [n, d] = ratio(std::f64::consts::PI, 2000);
        assert!((n as f64 / d as f64 - std::f64::consts::PI).abs() < 1e-6 && d <= 2000);
    }

    #[test]
    fn roundings_are_those_of_the_exact_fraction() {
        // (3 o - 2) / 4: -0.5, 0.25, 1, 1.75, 2.5
        let at = Positions { step: 3, start: -2, unit: 4 };
        let all = |rounding| (0..5).map(|o| at.rounded(rounding).floor(o)).collect::<Vec<_>>();
        assert_eq!(all(Rounding::Floor), [-1, 0, 1, 1, 2]);
        assert_eq!(all(Rounding::Ceil), [0, 1, 1, 2, 3]);
        assert_eq!(all(Rounding::HalfDown), [-1, 0, 1, 2, 2]);
        assert_eq!(all(Rounding::HalfUp), [0, 0, 1, 2, 3]);
    }
}
