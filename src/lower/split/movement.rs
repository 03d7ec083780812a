//! Movements of values in parts: the parts are moved, and lie along another axis, or along several.

use super::parted::{Form, Parted};
use super::{MOST_PARTS, Splitter, too_large};
use crate::error::Result;
use crate::graph::{Literal, Op, TensorType, Value};
use crate::program::even;
use crate::shape::Shape;

pub(super) fn is_movement(op: &Op) -> bool {
    matches!(op, Op::Reshape(_) | Op::Permute(_) | Op::Expand(_) | Op::Slice { .. } | Op::Window { .. })
}

impl Splitter<'_> {
    /// A movement's result, of type `ty`.
    pub(super) fn movement(&mut self, op: &Op, value: &Parted, ty: &TensorType) -> Result<Parted> {
        if let Op::Reshape(to) = op {
            let reshaped = self.reshaped(value, to)?;
            return reshaped
                .ok_or_else(|| too_large(&format!("the operand {} of `reshape` to {ty}", value.ty), ty, self.limit));
        }
        self.moved(op, value, ty)
    }

    fn moved(&mut self, op: &Op, value: &Parted, ty: &TensorType) -> Result<Parted> {
        let (axis, parts) = match &value.form {
            Form::Whole(whole) => return Ok(Parted::whole(ty.clone(), self.push(op.clone(), &[*whole]))),
            Form::Parts { axis, parts } => (*axis, parts),
        };
        let mut each = |to: usize, part_op: &dyn Fn(usize) -> Op| -> Result<Parted> {
            let one = |part: &Parted| {
                let size = part.ty.shape[axis];
                self.moved(&part_op(size), part, &TensorType::new(ty.shape.with(to, size), ty.dtype))
            };
            Ok(Parted::along(to, parts.iter().map(one).collect::<Result<_>>()?))
        };
        match op {
            Op::Permute(axes) => {
                let to = axes.iter().position(|&from| from == axis).unwrap_or(axis);
                each(to, &|_| op.clone())
            }
            Op::Expand(shape) => each(axis, &|size| Op::Expand(shape.with(axis, size))),
            Op::Slice { starts, sizes } => {
                let mut sliced = value.clone();
                for (axis, (&start, &size)) in starts.iter().zip(sizes).enumerate() {
                    sliced = self.narrow(&sliced, axis, start, size);
                }
                Ok(sliced)
            }
            Op::Window { axis: own, .. } if *own != axis => each(axis, &|_| op.clone()),
            _ => match self.whole(value)? {
                Some(whole) => Ok(Parted::whole(ty.clone(), self.push(op.clone(), &[whole]))),
                None => Err(self.refused(&format!("an operand of `{}`", op.name()), value)),
            },
        }
    }

    /// A padded value: what is put around it is a part of its own.
    pub(super) fn padded(&self, value: &Parted, before: &[usize], after: &[usize], fill: Literal) -> Parted {
        let mut padded = value.clone();
        for (axis, sizes) in before.iter().zip(after).enumerate() {
            let part = |&size: &usize| {
                let shape = padded.ty.shape.with(axis, size);
                let filled = self.graph.constant(fill).broadcast_to(&shape).value();
                Parted::whole(TensorType::new(shape, fill.dtype), filled)
            };
            if *sizes.0 + *sizes.1 > 0 {
                padded = Parted::along(axis, vec![part(sizes.0), padded.clone(), part(sizes.1)]);
            }
        }
        padded
    }

    /// The same elements in another shape; `None` if no cut of the one shape is one of the other.
    fn reshaped(&mut self, value: &Parted, to: &Shape) -> Result<Option<Parted>> {
        let ty = TensorType::new(to, value.ty.dtype);
        if let Form::Whole(whole) = value.form
            && (!self.exceeds(&ty) || self.is_view(whole, to))
        {
            return Ok(Some(Parted::whole(ty, self.push(Op::Reshape(to.clone()), &[whole]))));
        }
        if let Form::Parts { axis, parts } = &value.form
            && let Some(kept) = same_axis(&value.ty.shape, *axis, to)
        {
            let mut list = Vec::with_capacity(parts.len());
            for part in parts {
                let Some(part) = self.reshaped(part, &to.with(kept, part.ty.shape[*axis]))? else { return Ok(None) };
                list.push(part);
            }
            return Ok(Some(Parted::along(kept, list)));
        }
        match !value.is_whole() && !self.stays_parted(value) {
            true => self.reshaped_whole(value, to),
            false => self.reshaped_by_rows(value, to),
        }
    }

    fn reshaped_whole(&mut self, value: &Parted, to: &Shape) -> Result<Option<Parted>> {
        let reshaped = |whole| self.push(Op::Reshape(to.clone()), &[whole]);
        Ok(self.whole(value)?.map(reshaped).map(|whole| Parted::whole(TensorType::new(to, value.ty.dtype), whole)))
    }

    /// Cut along the first axis that has more than one element: its ranges are stretches of consecutive elements.
    fn reshaped_by_rows(&mut self, value: &Parted, to: &Shape) -> Result<Option<Parted>> {
        let Some(axis) = to.iter().position(|&size| size != 1) else { return Ok(None) };
        let inner: usize = to[axis + 1..].iter().product();
        let row = value.ty.dtype.bytes(&to.with(axis, 1));
        let most = ((self.limit / row.max(1)) as usize).max(1);
        let most = if most < to[axis] { most } else { to[axis].div_ceil(2) };
        // As the parts lie, in ranges that can be bound, or row by row.
        let cuts = [
            value.stretches().and_then(|sizes| rows_of(&sizes, inner)),
            Some(even(to[axis], most)),
            Some(vec![1; to[axis]]),
        ];
        let blocks = |sizes: Vec<usize>| {
            let mut start = 0;
            let block = |size: usize| {
                start += size;
                Some((size, self.stretch(value, (start - size) * inner, size * inner)?))
            };
            let few = (2..=MOST_PARTS).contains(&sizes.len());
            few.then(|| sizes.into_iter().map(block).collect::<Option<Vec<_>>>()).flatten()
        };
        let Some(blocks) = cuts.into_iter().flatten().find_map(blocks) else { return Ok(None) };
        let mut list = Vec::with_capacity(blocks.len());
        for (size, block) in blocks {
            let Some(part) = self.reshaped(&block, &to.with(axis, size))? else { return Ok(None) };
            list.push(part);
        }
        Ok(Some(Parted::along(axis, list)))
    }

    /// Consecutive elements, as a block of the value; `None` if they are not one.
    fn stretch(&self, value: &Parted, start: usize, count: usize) -> Option<Parted> {
        let shape = value.ty.shape.clone();
        let (mut block, mut start) = (value.clone(), start);
        for axis in 0..shape.rank() {
            let inner: usize = shape[axis + 1..].iter().product();
            if start % inner == 0 && count.is_multiple_of(inner) {
                return Some(self.narrow(&block, axis, start / inner, count / inner));
            }
            if start / inner != (start + count - 1) / inner {
                return None;
            }
            block = self.narrow(&block, axis, start / inner, 1);
            start %= inner;
        }
        Some(block)
    }

    /// Whether strides can express a reshape: then nothing is stored for it.
    fn is_view(&mut self, value: Value, to: &Shape) -> bool {
        self.views.update(&self.graph);
        self.views.get(value).view.reshape(to).is_some()
    }
}

/// The axis of `to` that is axis `axis` of `from`, with as many elements before and behind it.
fn same_axis(from: &Shape, axis: usize, to: &Shape) -> Option<usize> {
    let before: usize = from[..axis].iter().product();
    (0..to.rank()).find(|&other| to[other] == from[axis] && to[..other].iter().product::<usize>() == before)
}

/// The sizes of rows of `inner` elements that these stretches of elements are.
fn rows_of(stretches: &[usize], inner: usize) -> Option<Vec<usize>> {
    let whole = inner > 0 && stretches.iter().all(|stretch| stretch.is_multiple_of(inner));
    whole.then(|| stretches.iter().map(|stretch| stretch / inner).collect())
}

impl Parted {
    /// The lengths of its parts, if they follow each other in the order of elements.
    fn stretches(&self) -> Option<Vec<usize>> {
        let Form::Parts { axis, parts } = &self.form else { return None };
        let first = self.ty.shape[..*axis].iter().all(|&size| size == 1);
        first.then(|| parts.iter().map(|part| part.ty.shape.numel()).collect())
    }
}
