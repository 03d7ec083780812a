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
/// A window of so many elements, or elements that lie in so many windows, are gone through without a loop.
const MOST_UNROLLED: u32 = 9;

/// `x [planes, ..size]` to its maxima through `store` and to `index` (i32), both `[planes, ..counts]`.
pub fn max_pool(windows: &Windows, planes: usize, size: &[usize], counts: &[usize]) -> KernelSpec {
    let fits = |axis: usize| {
        let stride = windows.stride_at(axis);
        windows.before_at(axis) == 0 && counts[axis] * stride + windows.extent(axis) <= size[axis] + stride
    };
    let inside = (0..windows.rank()).all(fits);
    let mut constants = sizes(windows, size, counts, inside);
    constants.extend(list(DILATION, windows, 1, |axis| windows.dilation_at(axis)));
    let len = planes * counts.iter().product::<usize>();
    let elements = along(windows, |axis| windows.kernel_at(axis));
    let steps = each(elements, "best = larger(best, p, ", ")");
    let largest = format!(
        "fn largest(p: Place) -> Largest {{\n    var best = Largest(-3.4028234e38, -1);\n{steps}    \
         return Largest(best.value, max(best.at, 0));\n}}\n"
    );
    let wide = len.is_multiple_of(4);
    let finish = if wide {
        "fn finish(o: u32) {\n    var p = place(o);\n    let a = largest(p);\n    p = next(p);\n    let b = largest(p);\n    \
         p = next(p);\n    let c = largest(p);\n    p = next(p);\n    let d = largest(p);\n    \
         index[o >> 2u] = vec4<i32>(a.at, b.at, c.at, d.at);\n    \
         store(0u, 0u, o, vec4<f32>(a.value, b.value, c.value, d.value));\n}\n"
    } else {
        "fn finish(o: u32) {\n    let a = largest(place(o));\n    index[o] = a.at;\n    store(0u, 0u, o, a.value);\n}\n"
    };
    let indices = if wide { Element::I32x4 } else { Element::I32 };
    KernelSpec {
        inputs: vec![Port::new("x", Element::F32)],
        outputs: vec![Port::new("index", indices)],
        flops: (len * windows.area()) as u64,
        ..kernel("max_pool", &(largest + finish), wgsl!("max_pool"), constants, len)
    }
}

/// `index` and `dy [planes, ..counts]` to `dx [planes, ..size]` through `store`.
pub fn max_pool_grad(windows: &Windows, planes: usize, size: &[usize], counts: &[usize]) -> KernelSpec {
    let alone = |axis: usize| windows.before_at(axis) == 0 && windows.extent(axis) <= windows.stride_at(axis);
    let covered = |axis: usize| size[axis] <= counts[axis] * windows.stride_at(axis);
    let inside = (0..windows.rank()).all(|axis| alone(axis) && covered(axis));
    let mut constants = sizes(windows, size, counts, inside);
    let len = planes * size.iter().product::<usize>();
    // Two neighbours of which the first is at an even place lie in the same windows.
    let inner = windows.rank() - 1;
    let even = [size[inner], windows.stride_at(inner), windows.before_at(inner)].iter().all(|n| n.is_multiple_of(2));
    let pairs = even && len.is_multiple_of(4);
    constants.push(("G", if pairs { 2 } else { 1 }));
    let near = if pairs {
        "alias Near = vec2<f32>;\nalias Indices = vec2<i32>;\nfn here(at: i32) -> Indices {\n    return vec2<i32>(at, at + 1);\n}\n"
    } else {
        "alias Near = f32;\nalias Indices = i32;\nfn here(at: i32) -> Indices {\n    return at;\n}\n"
    };
    let holding = along(windows, |axis| windows.extent(axis).div_ceil(windows.stride_at(axis)));
    let parts = each(holding, "sum += part(p, ", ")");
    let gathered = format!("fn gathered(p: Place) -> Near {{\n    var sum = Near(0.0);\n{parts}    return sum;\n}}\n");
    let finish = if pairs {
        "fn finish(e: u32) {\n    var p = place(e);\n    let a = gathered(p);\n    p = next(p);\n    \
         store(0u, 0u, e, vec4<f32>(a, gathered(p)));\n}\n"
    } else if len.is_multiple_of(4) {
        "fn finish(e: u32) {\n    var p = place(e);\n    let a = gathered(p);\n    p = next(p);\n    let b = gathered(p);\n    \
         p = next(p);\n    let c = gathered(p);\n    p = next(p);\n    \
         store(0u, 0u, e, vec4<f32>(a, b, c, gathered(p)));\n}\n"
    } else {
        "fn finish(e: u32) {\n    store(0u, 0u, e, gathered(place(e)));\n}\n"
    };
    KernelSpec {
        inputs: vec![Port::new("index", Element::I32), Port::new("dy", Element::F32)],
        ..kernel("max_pool_grad", &[near, &gathered, finish].concat(), wgsl!("max_pool_grad"), constants, len)
    }
}

/// A statement for each combination of indices along the axes, the last one fastest: `{before}i, j, k{behind};`. Many are loops.
fn each([a, b, c]: [u32; 3], before: &str, behind: &str) -> String {
    if [a, b, c].into_iter().fold(1, u32::saturating_mul) > MOST_UNROLLED {
        let open = |name: &str, count: u32| format!("for (var {name} = 0u; {name} < {count}u; {name}++) {{\n");
        let loops = [open("k0", a), open("k1", b), open("k2", c)].concat();
        return format!("{loops}{before}k0, k1, k2{behind};\n}}\n}}\n}}\n");
    }
    let mut text = String::new();
    for index in 0..a * b * c {
        text += &format!("    {before}{}u, {}u, {}u{behind};\n", index / (b * c), index / c % b, index % c);
    }
    text
}

/// What both kernels share.
fn sizes(windows: &Windows, size: &[usize], counts: &[usize], inside: bool) -> Vec<(&'static str, u32)> {
    let mut constants = list(IN, windows, 1, |axis| size[axis]);
    constants.extend(list(OUT, windows, 1, |axis| counts[axis]));
    constants.extend(list(STRIDE, windows, 1, |axis| windows.stride_at(axis)));
    constants.extend(list(BEFORE, windows, 0, |axis| windows.before_at(axis)));
    constants.push(("INSIDE", u32::from(inside)));
    constants
}

/// A number for each axis; 1 for those that there are not.
fn along(windows: &Windows, at: impl Fn(usize) -> usize) -> [u32; 3] {
    let missing = IN.len() - windows.rank();
    [0, 1, 2].map(|i: usize| i.checked_sub(missing).map_or(1, |axis| at(axis) as u32))
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
