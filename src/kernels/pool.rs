//! The maximum of windows (`torch.nn.functional.max_pool2d` and its kin) and its gradient, each in one kernel.
//!
//! Both gather: an invocation finds what belongs to its own results, so that nothing is added by two.

use super::wgsl::wgsl;
use super::{Element, KernelSpec, Param, Port};
use crate::graph::Windows;

const WORKGROUP: u32 = 64;
/// Constants by axis; axes that a pooling does not have come first and have size 1.
pub(super) type Names = [&'static str; 3];
pub(super) const IN: Names = ["IN0", "IN1", "IN2"];
pub(super) const OUT: Names = ["OUT0", "OUT1", "OUT2"];
pub(super) const KERNEL: Names = ["K0", "K1", "K2"];
pub(super) const STRIDE: Names = ["S0", "S1", "S2"];
pub(super) const DILATION: Names = ["D0", "D1", "D2"];
pub(super) const BEFORE: Names = ["B0", "B1", "B2"];
const WINDOWS: Names = ["N0", "N1", "N2"];

/// `x [planes, ..size]` to its maxima through `store` and to `index` (i32), both `[planes, ..counts]`.
pub fn max_pool(windows: &Windows, planes: usize, size: &[usize], counts: &[usize]) -> KernelSpec {
    let mut constants = sizes(windows, size, counts);
    constants.extend(list(KERNEL, windows, 1, |axis| windows.kernel_at(axis)));
    constants.extend(list(DILATION, windows, 1, |axis| windows.dilation_at(axis)));
    let len = planes * counts.iter().product::<usize>();
    let wide = len.is_multiple_of(4);
    let finish = if wide {
        "fn finish(o: u32) {\n    let a = largest(o);\n    let b = largest(o + 1u);\n    let c = largest(o + 2u);\n    \
         let d = largest(o + 3u);\n    index[o >> 2u] = vec4<i32>(a.at, b.at, c.at, d.at);\n    \
         store(0u, 0u, o, vec4<f32>(a.value, b.value, c.value, d.value));\n}\n"
    } else {
        "fn finish(o: u32) {\n    let a = largest(o);\n    index[o] = a.at;\n    store(0u, 0u, o, a.value);\n}\n"
    };
    let indices = if wide { Element::I32x4 } else { Element::I32 };
    KernelSpec {
        inputs: vec![Port::new("x", Element::F32)],
        outputs: vec![Port::new("index", indices)],
        flops: (len * windows.area()) as u64,
        ..kernel("max_pool", finish, wgsl!("max_pool"), constants, len)
    }
}

/// `index` and `dy [planes, ..counts]` to `dx [planes, ..size]` through `store`.
pub fn max_pool_grad(windows: &Windows, planes: usize, size: &[usize], counts: &[usize]) -> KernelSpec {
    let mut constants = sizes(windows, size, counts);
    constants.extend(list(WINDOWS, windows, 1, |axis| windows.extent(axis).div_ceil(windows.stride_at(axis))));
    let len = planes * size.iter().product::<usize>();
    // Two neighbours of which the first is at an even place lie in the same windows.
    let inner = windows.rank() - 1;
    let even = [size[inner], windows.stride_at(inner), windows.before_at(inner)].iter().all(|n| n.is_multiple_of(2));
    let finish = if len.is_multiple_of(4) && even {
        "fn finish(e: u32) {\n    store(0u, 0u, e, vec4<f32>(gathered_pair(e), gathered_pair(e + 2u)));\n}\n"
    } else if len.is_multiple_of(4) {
        "fn finish(e: u32) {\n    \
         store(0u, 0u, e, vec4<f32>(gathered(e), gathered(e + 1u), gathered(e + 2u), gathered(e + 3u)));\n}\n"
    } else {
        "fn finish(e: u32) {\n    store(0u, 0u, e, gathered(e));\n}\n"
    };
    KernelSpec {
        inputs: vec![Port::new("index", Element::I32), Port::new("dy", Element::F32)],
        ..kernel("max_pool_grad", finish, wgsl!("max_pool_grad"), constants, len)
    }
}

/// What both kernels share.
fn sizes(windows: &Windows, size: &[usize], counts: &[usize]) -> Vec<(&'static str, u32)> {
    let mut constants = list(IN, windows, 1, |axis| size[axis]);
    constants.extend(list(OUT, windows, 1, |axis| counts[axis]));
    constants.extend(list(STRIDE, windows, 1, |axis| windows.stride_at(axis)));
    constants.extend(list(BEFORE, windows, 0, |axis| windows.before_at(axis)));
    constants
}

/// A constant for each axis; `rest` for those that there are not.
pub(super) fn list(
    names: Names,
    windows: &Windows,
    rest: u32,
    at: impl Fn(usize) -> usize,
) -> Vec<(&'static str, u32)> {
    let missing = names.len() - windows.rank();
    let value = |i: usize| i.checked_sub(missing).map_or(rest, |axis| at(axis) as u32);
    names.into_iter().enumerate().map(|(i, name)| (name, value(i))).collect()
}

fn kernel(name: &str, finish: &str, file: &'static str, constants: Vec<(&'static str, u32)>, len: usize) -> KernelSpec {
    let width = if len.is_multiple_of(4) { 4 } else { 1 };
    KernelSpec {
        name: name.into(),
        body: format!("{finish}\n{}", file).into(),
        parts: vec![],
        inputs: vec![],
        outputs: vec![],
        params: vec![("len", Param::U32(len as u32))],
        constants,
        width,
        workgroup: WORKGROUP,
        groups: (len as u64).div_ceil(u64::from(width * WORKGROUP)),
        flops: len as u64,
    }
}
