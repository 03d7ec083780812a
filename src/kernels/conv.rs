//! Convolutions with few channels in a group (depthwise ones above all), and their gradients, term by term: there is
//! no matrix product in them to speak of.
//!
//! Each kernel gathers: an invocation or a workgroup finds what belongs to its own results.

use super::pool::{BEFORE, DILATION, IN, KERNEL, OUT, STRIDE, list};
use super::wgsl::wgsl;
use super::{Element, KernelSpec, Param, Port, Profile};
use crate::graph::Windows;

/// Sizes beside the windows.
#[derive(Debug, Clone, Copy)]
pub struct Sizes<'a> {
    pub samples: usize,
    pub groups: usize,
    /// Channels of the data and of the result in one group.
    pub channels: usize,
    pub filters: usize,
    /// Spatial sizes of the data and of the result.
    pub data: &'a [usize],
    pub result: &'a [usize],
}

/// `x [n, groups channels, ..data]` and `weight [groups filters, channels, ..]` to `[n, groups filters, ..result]`
/// through `store` (`torch.nn.functional.conv2d` and its kin).
pub fn conv_direct(profile: &Profile, windows: &Windows, sizes: Sizes<'_>) -> KernelSpec {
    let ports = vec![Port::new("x", Element::F32), Port::new("weight", Element::F32)];
    let file = wgsl!("conv_direct");
    let spec = planes(profile, "conv_direct", file, sizes, sizes.filters, sizes.result);
    let constants = constants(windows, sizes, inside(windows, sizes));
    KernelSpec { inputs: ports, constants, flops: flops(windows, sizes), ..spec }
}

/// `g [n, groups filters, ..result]` and the weight to the gradient of the data through `store`.
pub fn conv_direct_data_grad(profile: &Profile, windows: &Windows, sizes: Sizes<'_>) -> KernelSpec {
    let ports = vec![Port::new("g", Element::F32), Port::new("weight", Element::F32)];
    let file = wgsl!("conv_direct_data_grad");
    let spec = planes(profile, "conv_direct_data_grad", file, sizes, sizes.channels, sizes.data);
    // With all the padding that there can be, each tap of each element has a window.
    let full = (0..windows.rank()).all(|axis| {
        let reach = windows.extent(axis) - 1;
        windows.stride_at(axis) == 1
            && windows.before_at(axis) == reach
            && sizes.result[axis] == sizes.data[axis] + reach
    });
    KernelSpec { inputs: ports, constants: constants(windows, sizes, full), flops: flops(windows, sizes), ..spec }
}

/// Weights whose sums one workgroup keeps.
const MOST_TAPS: usize = 27;

/// `x` and `g` to the gradient of the weight through `store`.
pub fn conv_direct_weight_grad(profile: &Profile, windows: &Windows, sizes: Sizes<'_>) -> KernelSpec {
    let length = sizes.samples * sizes.result.iter().product::<usize>();
    let weights = sizes.groups * sizes.filters * sizes.channels * windows.area();
    // Their sums must lie in registers.
    let taps = if windows.area() <= MOST_TAPS { windows.area() } else { 1 };
    let mut constants = constants(windows, sizes, inside(windows, sizes));
    constants.push(("TAPS", taps as u32));
    KernelSpec {
        name: "conv_direct_weight_grad".into(),
        body: wgsl!("conv_direct_weight_grad").into(),
        parts: vec![if profile.subgroup.is_some() { "reduce_subgroup" } else { "reduce_workgroup" }],
        inputs: vec![Port::new("x", Element::F32), Port::new("g", Element::F32)],
        outputs: vec![],
        params: vec![("length", Param::U32(length as u32)), ("conv_groups", Param::U32(sizes.groups as u32))],
        constants,
        width: 1,
        workgroup: profile.subgroup.unwrap_or(64),
        groups: (weights / taps) as u64,
        flops: flops(windows, sizes),
    }
}

/// A kernel whose workgroups take parts of planes of `size`, `rows` planes for each sample and group.
fn planes(
    profile: &Profile,
    name: &str,
    file: &'static str,
    sizes: Sizes<'_>,
    rows: usize,
    size: &[usize],
) -> KernelSpec {
    let positions: usize = size.iter().product();
    let width = if positions.is_multiple_of(4) { 4 } else { 1 };
    let workgroup = profile.subgroup.unwrap_or(64);
    let chunks = positions.div_ceil((width * workgroup) as usize);
    let value = match width {
        4 => "vec4<f32>(term(place, at), term(place, at + 1u), term(place, at + 2u), term(place, at + 3u))",
        _ => "term(place, at)",
    };
    let finish = format!("fn finish(place: Place, at: u32) {{\n    store(place.batch, place.row, at, {value});\n}}\n");
    KernelSpec {
        name: name.into(),
        body: format!("{finish}\n{}", file).into(),
        parts: vec![],
        inputs: vec![],
        outputs: vec![],
        params: vec![("conv_groups", Param::U32(sizes.groups as u32)), ("chunks", Param::U32(chunks as u32))],
        constants: vec![],
        width,
        workgroup,
        groups: (sizes.samples * sizes.groups * rows * chunks) as u64,
        flops: 0,
    }
}

/// Whether no window reaches beyond the data.
fn inside(windows: &Windows, sizes: Sizes<'_>) -> bool {
    (0..windows.rank()).all(|axis| {
        let last = (sizes.result[axis] - 1) * windows.stride_at(axis) + windows.extent(axis);
        windows.before_at(axis) == 0 && last <= sizes.data[axis]
    })
}

fn constants(windows: &Windows, sizes: Sizes<'_>, inside: bool) -> Vec<(&'static str, u32)> {
    let mut all = list(IN, windows, 1, |axis| sizes.data[axis]);
    all.extend(list(OUT, windows, 1, |axis| sizes.result[axis]));
    all.extend(list(KERNEL, windows, 1, |axis| windows.kernel_at(axis)));
    all.extend(list(STRIDE, windows, 1, |axis| windows.stride_at(axis)));
    all.extend(list(DILATION, windows, 1, |axis| windows.dilation_at(axis)));
    all.extend(list(BEFORE, windows, 0, |axis| windows.before_at(axis)));
    all.extend([("CHANNELS", sizes.channels as u32), ("FILTERS", sizes.filters as u32), ("INSIDE", inside.into())]);
    all
}

fn flops(windows: &Windows, sizes: Sizes<'_>) -> u64 {
    let results: usize = sizes.samples * sizes.groups * sizes.filters * sizes.result.iter().product::<usize>();
    2 * (results * sizes.channels * windows.area()) as u64
}
