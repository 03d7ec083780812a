//! Kernels that read their operands in half precision where they lie: the same text, with a function in place of each
//! load.
//!
//! Two halves lie in a word, so a vector of four is `vec2<u32>`. They are unpacked with integers, exactly and on every
//! device alike (subnormal numbers, which `unpack2x16float` may lose, included); everything behind the load is f32 as before.

use super::loads::called;
use super::{Element, KernelSpec};
use crate::dtype::DType;

/// Makes the input port `index` one of halves, if that is how its operand is stored. A port that holds no floats, or is
/// packed already, stays as it is.
pub fn read_packed(spec: &mut KernelSpec, index: usize, stored: DType) {
    let Some(port) = spec.inputs.get_mut(index) else { return };
    let wide = match port.element {
        Element::F32x4 => true,
        Element::F32 => false,
        Element::Wide => spec.width == 4,
        _ => return,
    };
    let load = match (stored, wide) {
        (DType::F16, true) => F16_VECTOR,
        (DType::F16, false) => F16_ONE,
        (DType::BF16, true) => BF16_VECTOR,
        (DType::BF16, false) => BF16_ONE,
        _ => return,
    };
    port.element = if wide { Element::U32x2 } else { Element::U32 };
    spec.body = format!("{}{}", load.replace('$', port.name), called(&spec.body, port.name, "packed")).into();
}

/// As [`read_packed`] for f16, on a device whose arrays can hold it: nothing has to be unpacked, and a compiler sees that
/// what is made f16 again was so before.
pub fn read_native(spec: &mut KernelSpec, index: usize) {
    let Some(port) = spec.inputs.get_mut(index) else { return };
    let (element, load) = match port.element {
        Element::F32x4 => (Element::F16x4, F16_NATIVE_VECTOR),
        Element::F32 => (Element::F16, F16_NATIVE_ONE),
        _ => return,
    };
    port.element = element;
    spec.body = format!("{}{}", load.replace('$', port.name), called(&spec.body, port.name, "packed")).into();
}

/// As `wg_from_f16` in `shaders/lib/half.wgsl`, for four.
const F16_VECTOR: &str = "\
fn $_packed(i: u32) -> vec4<f32> {
    let words = $[i];
    let halves = vec4<u32>(words.x & 0xffffu, words.x >> 16u, words.y & 0xffffu, words.y >> 16u);
    let size = halves & vec4<u32>(0x7fffu);
    let large = size >= vec4<u32>(0x7c00u);
    let normal = (size << vec4<u32>(13u)) + select(vec4<u32>(0x38000000u), vec4<u32>(0x70000000u), large);
    let small = bitcast<vec4<u32>>(vec4<f32>(size) * 5.9604644775390625e-8);
    let bits = select(normal, small, size < vec4<u32>(0x400u));
    return bitcast<vec4<f32>>(bits | ((halves & vec4<u32>(0x8000u)) << vec4<u32>(16u)));
}

";

const F16_ONE: &str = "\
fn $_packed(i: u32) -> f32 {
    let half = ($[i >> 1u] >> (16u * (i & 1u))) & 0xffffu;
    let size = half & 0x7fffu;
    let normal = (size << 13u) + select(0x38000000u, 0x70000000u, size >= 0x7c00u);
    let small = bitcast<u32>(f32(size) * 5.9604644775390625e-8);
    return bitcast<f32>(select(normal, small, size < 0x400u) | ((half & 0x8000u) << 16u));
}

";

const F16_NATIVE_VECTOR: &str = "\
fn $_packed(i: u32) -> vec4<f32> {
    return vec4<f32>($[i]);
}

";

const F16_NATIVE_ONE: &str = "\
fn $_packed(i: u32) -> f32 {
    return f32($[i]);
}

";

const BF16_VECTOR: &str = "\
fn $_packed(i: u32) -> vec4<f32> {
    let words = $[i];
    let bits = vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u);
    return bitcast<vec4<f32>>(bits);
}

";

const BF16_ONE: &str = "\
fn $_packed(i: u32) -> f32 {
    return bitcast<f32>((($[i >> 1u] >> (16u * (i & 1u))) & 0xffffu) << 16u);
}

";
