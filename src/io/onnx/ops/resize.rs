//! `Resize`, its predecessor `Upsample`, and `Pad`.
//!
//! Every axis that changes is resized for itself: where each new element comes from is computed while importing, and becomes
//! an index (nearest) or a matrix of weights (linear, cubic).

use super::super::call::{Call, Outputs, Val, one};
use super::super::constant::{Constant, Elem};
use super::super::limits::MAX_FOLDED;
use super::shape::take;
use super::{Op, with};
use crate::error::Result;
use crate::graph::Tensor;

/// Most weights of one axis.
const MAX_WEIGHTS: usize = 1 << 24;

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "Resize" => with(resize, &[1, 2, 3]),
        "Upsample" => with(resize, &[1]),
        "Pad" => with(pad, &[1, 2, 3]),
        _ => None,
    }
}

/// How one axis is resized.
struct Axis {
    axis: usize,
    old: usize,
    new: usize,
    scale: f64,
    /// Start and end of the region, for `tf_crop_and_resize`.
    region: [f64; 2],
}

/// What all axes share.
struct Settings {
    mode: String,
    coordinates: String,
    nearest: String,
    cubic: f64,
    exclude_outside: bool,
    antialias: bool,
    extrapolation: f64,
}

fn resize<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let mut x = c.tensor(0)?;
    let old = c.op() == "Upsample" || c.opset < 11;
    let settings = Settings {
        mode: c.attr_text("mode", "nearest"),
        coordinates: if old {
            "asymmetric".into()
        } else {
            c.attr_text("coordinate_transformation_mode", "half_pixel")
        },
        nearest: if old { "floor".into() } else { c.attr_text("nearest_mode", "round_prefer_floor") },
        cubic: c.attr_float("cubic_coeff_a", -0.75),
        exclude_outside: c.attr_int("exclude_outside", 0) != 0,
        antialias: c.attr_int("antialias", 0) != 0,
        extrapolation: c.attr_float("extrapolation_value", 0.0),
    };
    for axis in axes(c, x, old)? {
        let same = axis.new == axis.old && (axis.scale - 1.0).abs() < 1e-9 && axis.region == [0.0, 1.0];
        if !same {
            x = settings.resize(c, x, &axis)?;
        }
    }
    one(x)
}

/// The axes with their new sizes, from scales or from sizes.
fn axes<'g>(c: &Call<'_, 'g>, x: Tensor<'g>, old: bool) -> Result<Vec<Axis>> {
    let shape = x.shape();
    let chosen: Vec<usize> = match c.attr_ints("axes") {
        Some(axes) => axes.iter().map(|&axis| c.axis(axis, shape.rank())).collect::<Result<_>>()?,
        None => (0..shape.rank()).collect(),
    };
    let list = |index: usize| match c.has(index) {
        true => c.constant(index).map(|known| Some(known.data.clone()).filter(|data| !data.is_empty())),
        false => Ok(None),
    };
    let (scales, sizes) = match (old, c.opset < 9) {
        (true, true) if c.op() == "Upsample" => {
            (c.attr_floats("scales").map(|scales| scales.into_iter().map(f64::from).collect()), None)
        }
        (true, _) => (list(1)?, None),
        (false, _) => (list(2)?, list(3)?),
    };
    let region = if old { None } else { list(1)? };
    let n = chosen.len();
    if [&scales, &sizes].into_iter().flatten().any(|list| list.len() != n) || scales.is_some() == sizes.is_some() {
        return Err(c.invalid(format_args!("needs either scales or sizes, one for each of {n} axes")));
    }
    let mut found = Vec::new();
    for (i, &axis) in chosen.iter().enumerate() {
        let old = shape[axis];
        let (scale, new) = match (&scales, &sizes) {
            (Some(scales), _) => (scales[i], (scales[i] * old as f64).floor()),
            (None, sizes) => {
                let size = sizes.as_ref().map_or(old as f64, |sizes| sizes[i]);
                (size / old.max(1) as f64, size)
            }
        };
        if !(scale > 0.0 && scale.is_finite()) || old == 0 {
            return Err(c.invalid(format_args!("axis {axis} of {shape} cannot be scaled by {scale}")));
        }
        let region = match &region {
            Some(region) if region.len() == 2 * n => [region[i], region[n + i]],
            _ => [0.0, 1.0],
        };
        found.push(Axis { axis, old, new: c.count(new as i64)?, scale, region });
    }
    if sizes.is_some() {
        keep_ratio(c, &mut found)?;
    }
    let sizes = found.iter().fold(shape.to_vec(), |mut sizes, axis| {
        sizes[axis.axis] = axis.new;
        sizes
    });
    c.sizes(&sizes)?;
    Ok(found)
}

/// One scale for all axes, the smallest or the largest, where the attribute asks for it.
fn keep_ratio(c: &Call<'_, '_>, axes: &mut [Axis]) -> Result<()> {
    let scales = axes.iter().map(|axis| axis.scale);
    let scale = match c.attr_text("keep_aspect_ratio_policy", "stretch").as_str() {
        "stretch" => return Ok(()),
        "not_larger" => scales.fold(f64::INFINITY, f64::min),
        "not_smaller" => scales.fold(0.0, f64::max),
        other => return Err(c.invalid(format_args!("`keep_aspect_ratio_policy` = {other}"))),
    };
    for axis in axes {
        axis.scale = scale;
        axis.new = c.count((scale * axis.old as f64 + 0.5).floor() as i64)?;
    }
    Ok(())
}

impl Settings {
    /// Where element `i` of the result lies in the data.
    fn place(&self, c: &Call<'_, '_>, axis: &Axis, i: usize) -> Result<f64> {
        let (i, old) = (i as f64, axis.old as f64);
        let new = axis.scale * old;
        let half_pixel = (i + 0.5) / axis.scale - 0.5;
        Ok(match self.coordinates.as_str() {
            "half_pixel" => half_pixel,
            "pytorch_half_pixel" if new == 1.0 => -0.5,
            "pytorch_half_pixel" => half_pixel,
            "half_pixel_symmetric" => old / 2.0 * (1.0 - axis.new as f64 / new) + half_pixel,
            "align_corners" if new == 1.0 => 0.0,
            "align_corners" => i * (old - 1.0) / (new - 1.0),
            "asymmetric" => i / axis.scale,
            "tf_crop_and_resize" => {
                let [start, end] = axis.region;
                let inside = if new == 1.0 { 0.5 } else { i / (new - 1.0) };
                (start + inside * (end - start)) * (old - 1.0)
            }
            other => return Err(c.invalid(format_args!("`coordinate_transformation_mode` = {other}"))),
        })
    }

    fn resize<'g>(&self, c: &Call<'_, 'g>, x: Tensor<'g>, axis: &Axis) -> Result<Tensor<'g>> {
        // Where each element comes from is computed here, one by one.
        let weights = if self.mode == "nearest" { 0 } else { axis.new.saturating_mul(axis.old) };
        // Shrinking looks at as many elements more.
        let looked_at = if self.antialias { axis.old.saturating_mul(4) } else { 0 };
        let work = axis.new.saturating_mul(8).saturating_add(weights).saturating_add(looked_at);
        if axis.new > MAX_FOLDED || weights > MAX_WEIGHTS || !c.tracer.may_compute(work) {
            return Err(c.unsupported(format_args!(
                "an axis of {} resized to {}, or more of the kind than can be computed while importing",
                axis.old, axis.new
            )));
        }
        let places = (0..axis.new).map(|i| self.place(c, axis, i)).collect::<Result<Vec<f64>>>()?;
        let last = axis.old as f64 - 1.0;
        let named = |constant: Constant, what: &str| {
            let name = format!("{}.{what}{}", c.path, axis.axis);
            c.tracer.tensor(&Val { name: name.into(), ..constant.into() })
        };
        let y = if self.mode == "nearest" {
            let index = places.iter().map(|&place| self.nearest(c, place, last)).collect::<Result<Vec<i64>>>()?;
            take(x, axis.axis, named(Constant::ints(&index), "index")?)
        } else {
            let mut weights = vec![0.0; axis.new * axis.old];
            for (row, &place) in weights.chunks_mut(axis.old).zip(&places) {
                self.weigh(c, axis, place, row)?;
            }
            let weights = Constant { elem: Elem::F32, shape: [axis.new, axis.old].into(), data: weights };
            let (at, weights) = (axis.axis as isize, named(weights, "weights")?);
            let turned = x.transpose(at, -1);
            let turned = if turned.rank() == 1 { turned.unsqueeze(0) } else { turned };
            let y = turned.matmul(weights.t());
            (if x.rank() == 1 { y.squeeze(0) } else { y }).transpose(at, -1)
        };
        if self.coordinates != "tf_crop_and_resize" {
            return Ok(y);
        }
        let outside: Vec<f64> = places.iter().map(|&place| f64::from(u8::from(place < 0.0 || place > last))).collect();
        let sizes: Vec<usize> = (0..x.rank()).map(|other| if other == axis.axis { axis.new } else { 1 }).collect();
        let outside = Constant { elem: Elem::Bool, shape: sizes.into(), data: outside };
        Ok(named(outside, "outside")?.select(y.scalar_like(self.extrapolation), y))
    }

    fn nearest(&self, c: &Call<'_, '_>, place: f64, last: f64) -> Result<i64> {
        let chosen = match self.nearest.as_str() {
            "round_prefer_floor" => (place - 0.5).ceil(),
            "round_prefer_ceil" => (place + 0.5).floor(),
            "floor" => place.floor(),
            "ceil" => place.ceil(),
            other => return Err(c.invalid(format_args!("`nearest_mode` = {other}"))),
        };
        Ok(chosen.clamp(0.0, last) as i64)
    }

    /// The weights of the data's elements at a place. Elements beyond the ends repeat the outermost, unless they are excluded.
    fn weigh(&self, c: &Call<'_, '_>, axis: &Axis, place: f64, row: &mut [f64]) -> Result<()> {
        // Shrinking smoothly widens what is looked at.
        let shrink = if self.antialias { axis.scale.min(1.0) } else { 1.0 };
        let (reach, a) = (if self.mode == "cubic" { 2.0 } else { 1.0 } / shrink, self.cubic);
        let weight = |distance: f64| match self.mode.as_str() {
            "linear" => Ok((1.0 - distance).max(0.0)),
            "cubic" if distance <= 1.0 => Ok(((a + 2.0) * distance - (a + 3.0)) * distance * distance + 1.0),
            "cubic" if distance < 2.0 => Ok(((a * distance - 5.0 * a) * distance + 8.0 * a) * distance - 4.0 * a),
            "cubic" => Ok(0.0),
            other => Err(c.invalid(format_args!("`mode` = {other}"))),
        };
        let mut sum = 0.0;
        // Far outside only the outermost element counts, however far it is.
        let place = place.clamp(-reach - 1.0, row.len() as f64 + reach);
        for position in (place - reach).ceil() as i64..=(place + reach).floor() as i64 {
            let inside = (0..row.len() as i64).contains(&position);
            let weight = weight((position as f64 - place).abs() * shrink)?;
            if inside || !self.exclude_outside {
                row[position.clamp(0, row.len() as i64 - 1) as usize] += weight;
                sum += weight;
            }
        }
        if sum != 0.0 && (self.antialias || self.exclude_outside) {
            row.iter_mut().for_each(|weight| *weight /= sum);
        }
        Ok(())
    }
}

/// Amounts before and after each axis; negative ones cut off.
fn pad<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let mut x = c.tensor(0)?;
    let rank = x.rank();
    let (pads, axes) = if c.opset < 11 {
        let pads = c.attr_ints("pads").or_else(|| c.attr_ints("paddings"));
        (pads.unwrap_or_default(), None)
    } else {
        (c.ints(1)?, if c.has(3) { Some(c.ints(3)?) } else { None })
    };
    let axes = match axes {
        Some(axes) => axes.iter().map(|&axis| c.axis(axis, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(c.invalid(format_args!("{} amounts for {} axes", pads.len(), axes.len())));
    }
    let value = if c.opset < 11 { c.attr_float("value", 0.0) } else { c.number_or(2, 0.0)? };
    let mode = c.attr_text("mode", "constant");
    for (i, &axis) in axes.iter().enumerate() {
        let (before, after) = (pads[i], pads[i + axes.len()]);
        let (at, size) = (axis as isize, x.shape()[axis]);
        let cut = |amount: i64| amount.min(0).unsigned_abs() as usize;
        let (from, to) = (cut(before).min(size), size.saturating_sub(cut(after)));
        x = x.slice(at, from, to.max(from));
        let (before, after) = (c.count(before.max(0))?, c.count(after.max(0))?);
        if before + after == 0 {
            continue;
        }
        let size = x.shape()[axis];
        c.sizes(&x.shape().with(axis, before + size + after))?;
        if mode == "constant" {
            x = x.pad(at, before, after, value);
            continue;
        }
        if size == 0 {
            return Err(c.invalid(format_args!("nothing to repeat along axis {axis} of {}", x.shape())));
        }
        let step = c.graph().iota([before + size + after], 0) - before as i32;
        let last = size as i32 - 1;
        let index = match mode.as_str() {
            "edge" => step.maximum(0).minimum(last),
            "wrap" => step.remainder(size as i32),
            // There and back again, the ends counted once.
            "reflect" => {
                let round = step.remainder(2 * last.max(1));
                if last == 0 { step.zeros_like() } else { round.gt(last).select(round * -1 + 2 * last, round) }
            }
            other => return Err(c.invalid(format_args!("`mode` is constant, edge, reflect or wrap, not {other}"))),
        };
        x = take(x, axis, index);
    }
    one(x)
}
