// Halves as the low 16 bits of a word, from and to f32. Rounded to the nearest, ties to even, by integers: the
// rounding of pack2x16float is the device's affair, and out of range its result is anything. Too large is infinity.

// ---- body

fn wg_to_f16(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let size = bits & 0x7fffffffu;
    // Multiples of 2^-24, which are the units of the last place of 0.5.
    let small = bitcast<u32>(bitcast<f32>(min(size, 0x38800000u)) + 0.5) - 0x3f000000u;
    let normal = (size + 0xfffu + ((size >> 13u) & 1u) - 0x38000000u) >> 13u;
    let finite = select(normal, small, size < 0x38800000u);
    let large = select(0x7c00u, 0x7e00u, size > 0x7f800000u);
    // From 65520 on the nearest is beyond the largest, 65504.
    return sign | select(finite, large, size >= 0x477ff000u);
}

fn wg_to_bf16(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
    return select(rounded, (bits >> 16u) | 0x40u, (bits & 0x7fffffffu) > 0x7f800000u);
}

fn wg_from_f16(half: u32) -> f32 {
    let sign = (half & 0x8000u) << 16u;
    let size = half & 0x7fffu;
    let small = bitcast<u32>(f32(size) * 5.9604644775390625e-8);
    let normal = (size << 13u) + 0x38000000u;
    let large = 0x7f800000u | ((size & 0x3ffu) << 13u);
    return bitcast<f32>(sign | select(select(normal, small, size < 0x400u), large, size >= 0x7c00u));
}

fn wg_from_bf16(half: u32) -> f32 {
    return bitcast<f32>(half << 16u);
}
