//! The geometry of windows that slide over up to three spatial axes: what convolutions and poolings share.
//!
//! Plain arithmetic on sizes. Knows nothing of channels, of what happens in a window, or of tensors.

use crate::shape::Shape;

/// Spatial axes at most (a volume).
pub const SPATIAL: usize = 3;

/// Sizes, steps and paddings by spatial axis, outermost first. Unused entries hold 1 (paddings 0), so that
/// equal windows compare equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Windows {
    axes: u8,
    kernel: [u32; SPATIAL],
    stride: [u32; SPATIAL],
    before: [u32; SPATIAL],
    after: [u32; SPATIAL],
    dilation: [u32; SPATIAL],
}

impl Windows {
    /// Windows of these sizes, one step apart, without padding or gaps; `None` unless there are one to three
    /// axes, with sizes from 1 up to what fits into an i32.
    pub fn new(kernel: &[usize]) -> Option<Windows> {
        let ones = [1; SPATIAL];
        let plain = Windows {
            axes: kernel.len() as u8,
            kernel: fill(kernel, 1, 1)?,
            stride: ones,
            before: [0; SPATIAL],
            after: [0; SPATIAL],
            dilation: ones,
        };
        (!kernel.is_empty()).then_some(plain)
    }

    /// With these distances between neighbouring windows, all at least 1.
    pub fn stride(self, stride: &[usize]) -> Option<Windows> {
        Some(Windows { stride: fill(stride, 1, 1).filter(|_| stride.len() == self.rank())?, ..self })
    }

    /// With these distances between neighbouring elements of a window, all at least 1.
    pub fn dilation(self, dilation: &[usize]) -> Option<Windows> {
        Some(Windows { dilation: fill(dilation, 1, 1).filter(|_| dilation.len() == self.rank())?, ..self })
    }

    /// With so many entries put before and after each axis.
    pub fn padding(self, padding: &[[usize; 2]]) -> Option<Windows> {
        let side = |end: usize| padding.iter().map(|pair| pair[end]).collect::<Vec<_>>();
        let (before, after) = (fill(&side(0), 0, 0)?, fill(&side(1), 0, 0)?);
        (padding.len() == self.rank()).then_some(Windows { before, after, ..self })
    }

    /// Number of spatial axes.
    pub fn rank(&self) -> usize {
        usize::from(self.axes)
    }

    pub fn kernel_at(&self, axis: usize) -> usize {
        self.kernel[axis] as usize
    }

    pub fn stride_at(&self, axis: usize) -> usize {
        self.stride[axis] as usize
    }

    pub fn before_at(&self, axis: usize) -> usize {
        self.before[axis] as usize
    }

    pub fn after_at(&self, axis: usize) -> usize {
        self.after[axis] as usize
    }

    pub fn dilation_at(&self, axis: usize) -> usize {
        self.dilation[axis] as usize
    }

    /// The sizes of a window.
    pub fn kernel_shape(&self) -> Shape {
        (0..self.rank()).map(|axis| self.kernel_at(axis)).collect()
    }

    /// Elements in a window.
    pub fn area(&self) -> usize {
        self.kernel_shape().numel()
    }

    /// From the first to the last element of a window along an axis, both counted.
    pub fn extent(&self, axis: usize) -> usize {
        self.dilation_at(axis) * (self.kernel_at(axis) - 1) + 1
    }

    /// Length of an axis with its padding.
    pub fn padded(&self, axis: usize, length: usize) -> usize {
        self.before_at(axis) + length + self.after_at(axis)
    }

    /// How many windows lie along an axis of this length; `None` if not even one fits.
    pub fn count(&self, axis: usize, length: usize) -> Option<usize> {
        let room = self.padded(axis, length).checked_sub(self.extent(axis))?;
        Some(room / self.stride_at(axis) + 1)
    }

    /// How many windows lie along each of these axes.
    pub fn counts(&self, lengths: &[usize]) -> Option<Shape> {
        let all: Option<Vec<usize>> = (0..self.rank()).map(|axis| self.count(axis, *lengths.get(axis)?)).collect();
        all.filter(|_| lengths.len() == self.rank()).map(Shape::from)
    }

    /// Whether nothing is put around the data.
    pub fn is_unpadded(&self) -> bool {
        self.before.iter().chain(&self.after).all(|&amount| amount == 0)
    }

    /// The same windows over data that is padded already.
    pub fn unpadded(self) -> Windows {
        Windows { before: [0; SPATIAL], after: [0; SPATIAL], ..self }
    }

    /// Whether each window is one element and there is one for every element: nothing slides.
    pub fn is_pointwise(&self) -> bool {
        let plain = |axis: usize| {
            self.kernel_at(axis) == 1 && self.stride_at(axis) == 1 && self.before_at(axis) + self.after_at(axis) == 0
        };
        (0..self.rank()).all(plain)
    }
}

/// The sizes as an attribute of a node: `None` if one is below `least` or does not fit into an i32.
fn fill(sizes: &[usize], least: usize, rest: u32) -> Option<[u32; SPATIAL]> {
    let mut all = [rest; SPATIAL];
    for (slot, &size) in all.get_mut(..sizes.len())?.iter_mut().zip(sizes) {
        *slot = i32::try_from(size).ok().filter(|_| size >= least)? as u32;
    }
    Some(all)
}

/// The lengths of spatial axes as an attribute of a node: `None` for more than three, or one beyond an i32.
pub fn lengths(sizes: &[usize]) -> Option<[u32; SPATIAL]> {
    fill(sizes, 0, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_counted_as_pytorch_does() {
        let windows = Windows::new(&[3, 2]).and_then(|w| w.stride(&[2, 1])).and_then(|w| w.padding(&[[1, 1], [0, 2]]));
        assert_eq!(windows.and_then(|w| w.counts(&[7, 4])), Some([4, 5].into()));
        let wide = Windows::new(&[3]).and_then(|w| w.dilation(&[4]));
        assert_eq!(wide.map(|w| (w.extent(0), w.count(0, 8), w.count(0, 9))), Some((9, None, Some(1))));
    }

    #[test]
    fn what_makes_no_window_is_refused() {
        assert_eq!(Windows::new(&[]), None);
        assert_eq!(Windows::new(&[1, 1, 1, 1]), None);
        assert_eq!(Windows::new(&[0]), None);
        assert_eq!(Windows::new(&[3]).and_then(|w| w.stride(&[0])), None);
        assert_eq!(Windows::new(&[3, 3]).and_then(|w| w.stride(&[1])), None);
        assert_eq!(Windows::new(&[3]).and_then(|w| w.padding(&[[usize::MAX, 0]])), None);
    }
}
