// Threefry-2x32-20, bit for bit as `src/random.rs`: add, xor and rotate only.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).

fn threefry_round(x: vec2<u32>, bits: u32) -> vec2<u32> {
    let a = x.x + x.y;
    let b = (x.y << bits) | (x.y >> (32u - bits));
    return vec2<u32>(a, b ^ a);
}

// Four rounds, then the injection of two words of the key schedule.
fn threefry_group(x: vec2<u32>, bits: vec4<u32>, words: vec2<u32>) -> vec2<u32> {
    let a = threefry_round(x, bits.x);
    let b = threefry_round(a, bits.y);
    let c = threefry_round(b, bits.z);
    return threefry_round(c, bits.w) + words;
}

// `sample_index` is counted over the whole run (the run's first sample plus the coordinate along axis 0),
// `within` is the row-major index in the rest of the shape.
fn wg_random_bits(seed: u32, stream: u32, sample_index: u32, within: u32) -> u32 {
    let parity = 0x1BD11BDAu ^ seed ^ stream;
    let even = vec4<u32>(13u, 15u, 26u, 6u);
    let odd = vec4<u32>(17u, 29u, 16u, 24u);
    let start = vec2<u32>(sample_index + seed, within + stream);
    let a = threefry_group(start, even, vec2<u32>(stream, parity + 1u));
    let b = threefry_group(a, odd, vec2<u32>(parity, seed + 2u));
    let c = threefry_group(b, even, vec2<u32>(seed, stream + 3u));
    let d = threefry_group(c, odd, vec2<u32>(stream, parity + 4u));
    return threefry_group(d, even, vec2<u32>(parity, seed + 5u)).x;
}
