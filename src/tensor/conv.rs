//! Convolutions under PyTorch's names, channels first: data `[n, c, ..]`, weights `[out, in / groups, ..kernel]`.
//!
//! One, two and three spatial axes are one code, written on lists. A sample alone (`[c, ..]`) is taken as PyTorch
//! takes it. Knows nothing of kernels; `expand_windows.rs` says what is computed.

use crate::graph::windows::{SPATIAL, lengths as sizes};
use crate::graph::{MacroOp, Op, Tensor, Windows};

/// How a convolution's windows lie: `torch.nn.Conv2d`'s arguments for `N` spatial axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions<const N: usize> {
    /// Distance between neighbouring windows.
    pub stride: [usize; N],
    /// Zeros put `[before, after]` each axis.
    pub padding: [[usize; 2]; N],
    /// Distance between neighbouring elements of a window.
    pub dilation: [usize; N],
    /// Channels are split into so many groups that do not see each other.
    pub groups: usize,
    /// The padding is to keep the size ([`ConvOptions::same`]), which it does at stride 1 only: a convolution with
    /// another stride is then refused, as by PyTorch.
    pub keeps_size: bool,
}

impl<const N: usize> Default for ConvOptions<N> {
    fn default() -> Self {
        ConvOptions { stride: [1; N], padding: [[0; 2]; N], dilation: [1; N], groups: 1, keeps_size: false }
    }
}

impl<const N: usize> ConvOptions<N> {
    /// Stride 1, no padding, one group.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same distance between windows along every axis.
    pub fn stride(self, stride: usize) -> Self {
        ConvOptions { stride: [stride; N], ..self }
    }

    /// The same zeros on both sides of every axis.
    pub fn padding(self, padding: usize) -> Self {
        ConvOptions { padding: [[padding; 2]; N], keeps_size: false, ..self }
    }

    /// The same distance between a window's elements along every axis.
    pub fn dilation(self, dilation: usize) -> Self {
        ConvOptions { dilation: [dilation; N], ..self }
    }

    pub fn groups(self, groups: usize) -> Self {
        ConvOptions { groups, ..self }
    }

    /// The padding that keeps the size, at stride 1 and no other, for this kernel and the dilation set before; PyTorch's
    /// `padding="same"`: of an odd total the larger half lies behind.
    pub fn same(self, kernel: [usize; N]) -> Self {
        let mut padding = [[0; 2]; N];
        for (axis, pair) in padding.iter_mut().enumerate() {
            let total = self.dilation[axis].saturating_mul(kernel[axis].saturating_sub(1));
            *pair = [total / 2, total - total / 2];
        }
        ConvOptions { padding, keeps_size: true, ..self }
    }
}

impl<'g> Tensor<'g> {
    /// Convolution of `[n, c, length]` with a weight `[out, c / groups, size]`; `torch.nn.functional.conv1d`.
    #[track_caller]
    pub fn conv1d(self, weight: Tensor<'g>, options: ConvOptions<1>) -> Tensor<'g> {
        self.conv_by("conv1d", weight, &options)
    }

    /// Convolution of `[n, c, height, width]` with a weight `[out, c / groups, height, width]`;
    /// `torch.nn.functional.conv2d`.
    #[track_caller]
    pub fn conv2d(self, weight: Tensor<'g>, options: ConvOptions<2>) -> Tensor<'g> {
        self.conv_by("conv2d", weight, &options)
    }

    /// Convolution of `[n, c, depth, height, width]`; `torch.nn.functional.conv3d`.
    #[track_caller]
    pub fn conv3d(self, weight: Tensor<'g>, options: ConvOptions<3>) -> Tensor<'g> {
        self.conv_by("conv3d", weight, &options)
    }

    /// Convolution with these options; errors are those of the operation `name`.
    #[track_caller]
    pub(crate) fn conv_by<const N: usize>(
        self,
        name: &str,
        weight: Tensor<'g>,
        options: &ConvOptions<N>,
    ) -> Tensor<'g> {
        if options.keeps_size && options.stride != [1; N] {
            let message = format!("padding keeps the size at stride 1 only, got stride {:?}", options.stride);
            self.graph().record_error(name, message);
            return self;
        }
        self.conv_with(name, weight, Lists::new(options))
    }

    /// Convolution along one to three spatial axes, as many as `stride` has entries.
    #[track_caller]
    pub fn conv(
        self,
        weight: Tensor<'g>,
        stride: &[usize],
        padding: &[[usize; 2]],
        dilation: &[usize],
        groups: usize,
    ) -> Tensor<'g> {
        self.conv_with("conv", weight, Lists { stride, padding, dilation, groups })
    }

    #[track_caller]
    fn conv_with(self, name: &str, weight: Tensor<'g>, lists: Lists<'_>) -> Tensor<'g> {
        let Some(windows) = lists.check(name, self, weight) else { return self };
        let x = if self.rank() == windows.rank() + 1 { self.unsqueeze(0) } else { self };
        let groups = lists.groups as u32;
        x.apply(Op::Macro(MacroOp::Conv { windows, groups }), &[weight]).like_sample(self)
    }

    /// Transposed convolution of `[n, c, length]` with a weight `[c, out / groups, size]`;
    /// `torch.nn.functional.conv_transpose1d`. `output_padding` lengthens the result behind.
    #[track_caller]
    pub fn conv_transpose1d(
        self,
        weight: Tensor<'g>,
        options: ConvOptions<1>,
        output_padding: [usize; 1],
    ) -> Tensor<'g> {
        self.transposed("conv_transpose1d", weight, Lists::new(&options), &output_padding)
    }

    /// Transposed convolution of `[n, c, height, width]` with a weight `[c, out / groups, height, width]`;
    /// `torch.nn.functional.conv_transpose2d`. `output_padding` enlarges the result behind and below.
    #[track_caller]
    pub fn conv_transpose2d(
        self,
        weight: Tensor<'g>,
        options: ConvOptions<2>,
        output_padding: [usize; 2],
    ) -> Tensor<'g> {
        self.transposed("conv_transpose2d", weight, Lists::new(&options), &output_padding)
    }

    /// Transposed convolution along one to three spatial axes, as many as `stride` has entries.
    #[track_caller]
    pub fn conv_transpose(
        self,
        weight: Tensor<'g>,
        stride: &[usize],
        padding: &[[usize; 2]],
        dilation: &[usize],
        groups: usize,
        output_padding: &[usize],
    ) -> Tensor<'g> {
        let lists = Lists { stride, padding, dilation, groups };
        self.transposed("conv_transpose", weight, lists, output_padding)
    }

    #[track_caller]
    fn transposed(self, name: &str, weight: Tensor<'g>, lists: Lists<'_>, extra: &[usize]) -> Tensor<'g> {
        let Some(windows) = lists.check(name, self, weight) else { return self };
        let x = if self.rank() == windows.rank() + 1 { self.unsqueeze(0) } else { self };
        let (windows, size, zeros) = match lists.transposed(windows, &x.shape()[2..], extra) {
            Ok(found) => found,
            Err(message) => {
                self.graph().record_error(name, format!("{message}; data {}", self.shape()));
                return self;
            }
        };
        let mut y = x.apply(Op::Macro(MacroOp::ConvDataGrad { windows, groups: lists.groups as u32, size }), &[weight]);
        for (axis, &zeros) in zeros.iter().enumerate().filter(|(_, zeros)| **zeros > 0) {
            y = y.pad(2 + axis as isize, 0, zeros, 0.0);
        }
        y.like_sample(self)
    }
}

/// The options of a convolution whatever its number of axes.
#[derive(Clone, Copy)]
struct Lists<'a> {
    stride: &'a [usize],
    padding: &'a [[usize; 2]],
    dilation: &'a [usize],
    groups: usize,
}

impl<'a> Lists<'a> {
    fn new<const N: usize>(options: &'a ConvOptions<N>) -> Lists<'a> {
        let ConvOptions { stride, padding, dilation, groups, keeps_size: _ } = options;
        Lists { stride, padding, dilation, groups: *groups }
    }

    /// The windows, or an error recorded: what shape inference could not say as well.
    #[track_caller]
    fn check<'g>(&self, name: &str, x: Tensor<'g>, weight: Tensor<'g>) -> Option<Windows> {
        let (rank, xs, ws) = (self.stride.len(), x.shape(), weight.shape());
        let graph = x.graph();
        if ws.rank() != rank + 2 || (xs.rank() != rank + 2 && xs.rank() != rank + 1) {
            let wanted = "[batch, channels, ..] or [channels, ..] and a weight with two axes before its kernel";
            graph.record_error(name, format!("wants {wanted}, {rank} spatial axes in both; got {xs} and {ws}"));
            return None;
        }
        if self.groups == 0 || u32::try_from(self.groups).is_err() {
            graph.record_error(name, format!("the number of groups must be at least 1, got {}", self.groups));
            return None;
        }
        let windows = Windows::new(&ws[2..])
            .and_then(|windows| windows.stride(self.stride)?.padding(self.padding)?.dilation(self.dilation));
        if windows.is_none() {
            let message = format!(
                "kernel {:?}, stride {:?} and dilation {:?} must be at least 1, with one entry (padding {:?}: one \
                 pair) for each of one to three axes",
                &ws[2..],
                self.stride,
                self.dilation,
                self.padding
            );
            graph.record_error(name, message);
        }
        windows
    }

    /// The convolution whose data gradient a transposed convolution of these lengths is: its windows, the size of
    /// its data, and zeros to be put behind that. What padding cuts off behind, output padding gives back first.
    fn transposed(
        &self,
        windows: Windows,
        lengths: &[usize],
        extra: &[usize],
    ) -> Result<(Windows, [u32; SPATIAL], Vec<usize>), String> {
        let Lists { stride, dilation, .. } = *self;
        let rank = windows.rank();
        if extra.len() != rank || (0..rank).any(|axis| extra[axis] >= stride[axis].max(dilation[axis])) {
            let limits = format!("stride {stride:?} or dilation {dilation:?}, axis by axis");
            return Err(format!("the output padding {extra:?} must be smaller than {limits}"));
        }
        let mut padding = self.padding.to_vec();
        let (mut size, mut zeros) = (Vec::new(), Vec::new());
        for axis in 0..rank {
            let back = extra[axis].min(padding[axis][1]);
            padding[axis][1] -= back;
            zeros.push(extra[axis] - back);
            let full = lengths[axis].saturating_sub(1) * stride[axis] + windows.extent(axis);
            match full.checked_sub(padding[axis][0] + padding[axis][1]) {
                Some(length) if length > 0 && lengths[axis] > 0 => size.push(length),
                _ => return Err(format!("padding {:?} leaves nothing of spatial axis {axis}", self.padding)),
            }
        }
        let found = windows.padding(&padding).zip(sizes(&size)).map(|(windows, size)| (windows, size, zeros));
        found.ok_or_else(|| "sizes must stay below 2^31".to_string())
    }
}
