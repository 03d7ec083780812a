// Helpers for `F` = vec4<f32>.

const LOWEST: f32 = -3.4028234e38;

// The sum of the components.
fn fsum(v: F) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

// The largest component.
fn fmax(v: F) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

// Component `i`.
fn fat(v: F, i: u32) -> f32 {
    return v[i];
}

// The first component that equals `value`.
fn ffind(v: F, value: f32) -> u32 {
    return select(select(select(3u, 2u, v.z == value), 1u, v.y == value), 0u, v.x == value);
}

// 1 where the column is `hot`, 0 elsewhere; `col` is the column of the first component.
fn fhot(col: u32, hot: u32) -> F {
    return select(F(0.0), F(1.0), vec4<u32>(col, col + 1u, col + 2u, col + 3u) == vec4<u32>(hot));
}
