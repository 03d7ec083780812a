//! Shapes and strided views: plain arithmetic on sizes, nothing about graphs or devices.

use serde::{Deserialize, Serialize};
use std::ops::Deref;

/// The sizes of a tensor's axes, outermost first. A scalar has no axes.
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// The shape of a scalar.
    pub fn scalar() -> Shape {
        Shape(Vec::new())
    }

    /// Number of elements; 1 for a scalar. Of a shape that does not [fit](Shape::fits), at most `usize::MAX`.
    pub fn numel(&self) -> usize {
        if self.0.contains(&0) { 0 } else { self.0.iter().fold(1, |count: usize, &size| count.saturating_mul(size)) }
    }

    /// Whether offsets in bytes of such a tensor, and of what is made of some of its axes, can be counted.
    pub fn fits(&self) -> bool {
        let count = self.0.iter().try_fold(1usize, |count, &size| count.checked_mul(size.max(1)));
        count.is_some_and(|count| count <= usize::MAX / 8)
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Row-major strides in elements.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1; self.rank()];
        for axis in (1..self.rank()).rev() {
            strides[axis - 1] = usize::saturating_mul(strides[axis], self.0[axis]);
        }
        strides
    }

    /// The shape both broadcast to under NumPy's rules, if there is one.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let size = |shape: &Shape, axis: usize| match (axis + shape.rank()).checked_sub(rank) {
            Some(own) => shape.0[own],
            None => 1,
        };
        (0..rank)
            .map(|axis| match (size(self, axis), size(other, axis)) {
                (a, b) if a == b => Some(a),
                (1, b) => Some(b),
                (a, 1) => Some(a),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .map(Shape)
    }

    /// The shape with one axis taken out.
    pub fn without(&self, axis: usize) -> Shape {
        let mut sizes = self.0.clone();
        sizes.remove(axis);
        Shape(sizes)
    }

    /// The shape with another size along one axis.
    pub fn with(&self, axis: usize, size: usize) -> Shape {
        let mut sizes = self.0.clone();
        sizes[axis] = size;
        Shape(sizes)
    }

    /// The coordinates of a row-major element index.
    pub fn coords(&self, mut index: usize) -> Vec<usize> {
        let mut coords = vec![0; self.rank()];
        for axis in (0..self.rank()).rev() {
            coords[axis] = index % self.0[axis];
            index /= self.0[axis];
        }
        coords
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl From<Vec<usize>> for Shape {
    fn from(sizes: Vec<usize>) -> Shape {
        Shape(sizes)
    }
}

impl From<&[usize]> for Shape {
    fn from(sizes: &[usize]) -> Shape {
        Shape(sizes.to_vec())
    }
}

impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Shape {
        shape.clone()
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(sizes: [usize; N]) -> Shape {
        Shape(sizes.to_vec())
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(sizes: I) -> Shape {
        Shape(sizes.into_iter().collect())
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A way of looking at a stored tensor: element `c` lies at `offset + sum(c[i] * strides[i])`.
///
/// A stride of 0 repeats (broadcasts) an axis. Strides are in elements and never negative.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct View {
    pub offset: usize,
    pub shape: Shape,
    pub strides: Vec<usize>,
}

impl View {
    /// The whole of a row-major tensor.
    pub fn contiguous(shape: &Shape) -> View {
        View { offset: 0, strides: shape.strides(), shape: shape.clone() }
    }

    /// Whether the view runs through consecutive elements in order (axes of size 1 do not count).
    pub fn is_contiguous(&self) -> bool {
        let wanted = self.shape.strides();
        self.shape.numel() <= 1
            || (0..self.shape.rank()).all(|axis| self.shape[axis] == 1 || self.strides[axis] == wanted[axis])
    }

    /// Axes reordered: axis `i` of the result is axis `axes[i]` of this one.
    pub fn permute(&self, axes: &[usize]) -> View {
        View {
            offset: self.offset,
            shape: axes.iter().map(|&axis| self.shape[axis]).collect(),
            strides: axes.iter().map(|&axis| self.strides[axis]).collect(),
        }
    }

    /// Axes of size 1 repeated to `shape` (of the same rank).
    pub fn expand(&self, shape: &Shape) -> View {
        let strides = (0..shape.rank())
            .map(|axis| if self.shape[axis] == shape[axis] { self.strides[axis] } else { 0 })
            .collect();
        View { offset: self.offset, shape: shape.clone(), strides }
    }

    /// The box from `starts` of the given sizes.
    pub fn slice(&self, starts: &[usize], sizes: &[usize]) -> View {
        let shift: usize = starts.iter().zip(&self.strides).map(|(start, stride)| start * stride).sum();
        View { offset: self.offset + shift, shape: sizes.into(), strides: self.strides.clone() }
    }

    /// Windows of `size` elements, `dilation` apart, a new one every `stride` elements of `axis`, which then counts
    /// windows; their elements are a new last axis. Elements that lie in several windows are met several times.
    pub fn window(&self, axis: usize, size: usize, stride: usize, dilation: usize) -> View {
        let room = self.shape[axis].saturating_sub(dilation * size.saturating_sub(1) + 1);
        let (mut sizes, mut strides) = (self.shape.to_vec(), self.strides.clone());
        sizes[axis] = room / stride.max(1) + 1;
        sizes.push(size);
        strides.push(strides[axis] * dilation);
        strides[axis] *= stride;
        View { offset: self.offset, shape: sizes.into(), strides }
    }

    /// The same elements in the same order under another shape, when strides can express it.
    pub fn reshape(&self, shape: &Shape) -> Option<View> {
        if shape.numel() == 0 {
            return Some(View { offset: self.offset, ..View::contiguous(shape) });
        }
        // Axes of size 1 carry no information; the rest is matched run by run from the left.
        let old: Vec<(usize, usize)> = (0..self.shape.rank())
            .filter(|&axis| self.shape[axis] != 1)
            .map(|axis| (self.shape[axis], self.strides[axis]))
            .collect();
        let mut strides = vec![0; shape.rank()];
        let (mut i, mut j) = (0, 0);
        while i < old.len() {
            let (mut have, first) = (old[i].0, i);
            let begin = j;
            let mut want = 1;
            while want != have {
                if want < have {
                    want *= *shape.get(j)?;
                    j += 1;
                } else {
                    i += 1;
                    have *= old.get(i)?.0;
                }
            }
            let mergeable = (first..i).all(|k| old[k].1 == old[k + 1].0 * old[k + 1].1);
            if !mergeable {
                return None;
            }
            let mut stride = old[i].1;
            for axis in (begin..j).rev() {
                strides[axis] = stride;
                stride *= shape[axis];
            }
            i += 1;
        }
        Some(View { offset: self.offset, shape: shape.clone(), strides })
    }
}

/// Joins neighbouring axes that every one of the stride lists walks as if they were one, and
/// drops axes of size 1. Returns the smaller shape and one stride list per operand.
pub fn collapse(shape: &Shape, operands: &[&[usize]]) -> (Shape, Vec<Vec<usize>>) {
    let mut sizes: Vec<usize> = Vec::new();
    let mut strides: Vec<Vec<usize>> = vec![Vec::new(); operands.len()];
    for axis in 0..shape.rank() {
        if shape[axis] == 1 {
            continue;
        }
        let joins = !sizes.is_empty()
            && operands
                .iter()
                .zip(&strides)
                .all(|(operand, kept)| kept.last().copied() == Some(operand[axis] * shape[axis]));
        if joins {
            if let Some(size) = sizes.last_mut() {
                *size *= shape[axis];
            }
        } else {
            sizes.push(shape[axis]);
        }
        for (operand, kept) in operands.iter().zip(strides.iter_mut()) {
            if joins {
                kept.pop();
            }
            kept.push(operand[axis]);
        }
    }
    (sizes.into(), strides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reshape_of_a_permuted_view_is_refused_when_strides_cannot_express_it() {
        let view = View::contiguous(&[2, 3, 4].into());
        assert_eq!(view.reshape(&[6, 4].into()).map(|v| v.strides), Some(vec![4, 1]));
        assert_eq!(view.permute(&[1, 0, 2]).reshape(&[6, 4].into()), None);
        let split = view.permute(&[1, 0, 2]).reshape(&[3, 2, 2, 2].into());
        assert_eq!(split.map(|v| v.strides), Some(vec![4, 12, 2, 1]));
    }

    #[test]
    fn overlapping_windows_are_views_that_do_not_merge() {
        let view = View::contiguous(&[2, 7].into()).window(1, 3, 2, 1);
        assert_eq!((&view.shape[..], &view.strides[..]), (&[2, 3, 3][..], &[7, 2, 1][..]));
        assert!(!view.is_contiguous() && view.reshape(&[2, 9].into()).is_none());
        // Windows side by side are the rows of a reshape.
        assert!(View::contiguous(&[6].into()).window(0, 3, 3, 1).is_contiguous());
        let gaps = View::contiguous(&[9].into()).window(0, 2, 1, 3);
        assert_eq!((&gaps.shape[..], &gaps.strides[..]), (&[6, 2][..], &[1, 3][..]));
    }

    #[test]
    fn collapse_joins_what_all_operands_walk_alike() {
        let (shape, strides) = collapse(&[2, 3, 4].into(), &[&[12, 4, 1], &[0, 0, 1]]);
        assert_eq!((&*shape, strides), (&[6, 4][..], vec![vec![4, 1], vec![0, 1]]));
    }

    #[test]
    fn broadcast_follows_numpy() {
        let a = Shape::from([3, 1]);
        assert_eq!(a.broadcast(&[4].into()), Some([3, 4].into()));
        assert_eq!(a.broadcast(&[2, 4].into()), None);
    }
}
