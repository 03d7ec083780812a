//! placeholder
pub fn supports(_size: usize) -> bool { false }
