//! The meaning of pointwise operations and casts: the table's host column, and whole numbers exactly.

use super::value::Array;
use crate::dtype::DType;
use crate::graph::PointwiseOp;

/// One row of the pointwise table on operands of equal shapes.
pub(super) fn pointwise(op: PointwiseOp, x: &[&Array]) -> Vec<f64> {
    // Products of 32-bit integers do not fit f64, and quotients are not whole.
    let host = match x[0].ty.dtype.is_int() {
        true if op == PointwiseOp::Mul => product,
        true if op == PointwiseOp::Div => quotient,
        _ => op.host(),
    };
    let mut operands = vec![0.0; x.len()];
    let element = |index| {
        for (operand, array) in operands.iter_mut().zip(x) {
            *operand = array.data[index];
        }
        host(&operands)
    };
    (0..x[0].data.len()).map(element).collect()
}

/// The low 32 bits of the product, which are the same for signed and unsigned operands.
fn product(x: &[f64]) -> f64 {
    f64::from((x[0] as i64 as u32).wrapping_mul(x[1] as i64 as u32))
}

/// Truncated towards zero; a division by zero gives the dividend, as WGSL defines it.
fn quotient(x: &[f64]) -> f64 {
    if x[1] == 0.0 { x[0] } else { (x[0] / x[1]).trunc() }
}

/// WGSL's conversions: floats to integers are truncated and clamped to the largest f32 in range (NaN gives 0),
/// integers to integers keep their bits, everything but 0 is true.
pub(super) fn cast(x: &Array, dtype: DType) -> Vec<f64> {
    let from_float = x.ty.dtype.is_float();
    let convert = |&value: &f64| match dtype {
        DType::I32 if from_float && value.is_nan() => 0.0,
        DType::U32 if from_float && value.is_nan() => 0.0,
        DType::I32 if from_float => value.trunc().clamp(-2_147_483_648.0, 2_147_483_520.0),
        DType::U32 if from_float => value.trunc().clamp(0.0, 4_294_967_040.0),
        DType::F32 | DType::F16 | DType::BF16 | DType::I32 | DType::U32 | DType::Bool | DType::U8 => value,
    };
    x.data.iter().map(convert).collect()
}
