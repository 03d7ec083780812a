// Helpers for `F` = f32.

const LOWEST: f32 = -3.4028234e38;

// The sum of the components.
fn fsum(v: F) -> f32 {
    return v;
}

// The largest component.
fn fmax(v: F) -> f32 {
    return v;
}

// Component `i`.
fn fat(v: F, i: u32) -> f32 {
    return v;
}

// The first component that equals `value`.
fn ffind(v: F, value: f32) -> u32 {
    return 0u;
}

// 1 where the column is `hot`, 0 elsewhere; `col` is the column of the first component.
fn fhot(col: u32, hot: u32) -> F {
    return select(0.0, 1.0, col == hot);
}
