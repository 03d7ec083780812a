//! Functions of one element, and of several that broadcast.

use super::{Attributes, check};
use wgrad::graph::{Graph, Tensor};

fn build<'g>(_: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    let t = x[0];
    vec![match op {
        "tan" => t.tan(),
        "asin" => t.asin(),
        "acos" => t.acos(),
        "atan" => t.atan(),
        "sinh" => t.sinh(),
        "cosh" => t.cosh(),
        "asinh" => t.asinh(),
        "acosh" => t.acosh(),
        "atanh" => t.atanh(),
        "exp" => t.exp(),
        "exp2" => t.exp2(),
        "expm1" => t.expm1(),
        "log" => t.log(),
        "log2" => t.log2(),
        "log10" => t.log10(),
        "log1p" => t.log1p(),
        "sqrt" => t.sqrt(),
        "rsqrt" => t.rsqrt(),
        "erf" => t.erf(),
        "sin" => t.sin(),
        "cos" => t.cos(),
        "reciprocal" => t.reciprocal(),
        "logit" => t.logit(a.has("eps").then(|| a.f64("eps", 0.0))),
        "trunc" => t.trunc(),
        "frac" => t.frac(),
        "floor" => t.floor(),
        "ceil" => t.ceil(),
        "round" => t.round(),
        "sign" => t.sign(),
        "abs" => t.abs(),
        "square" => t.square(),
        "neg" => -t,
        "isnan" => t.isnan(),
        "isinf" => t.isinf(),
        "isfinite" => t.isfinite(),
        other => panic!("no such case: {other}"),
    }]
}

fn of_several<'g>(_: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    let t = x[0];
    vec![match op {
        "pow" => t.pow(x[1]),
        "powf" => t.powf(a.f64("exponent", 1.0)),
        "atan2" => t.atan2(x[1]),
        "hypot" => t.hypot(x[1]),
        "fmod" => t.fmod(x[1]),
        "remainder" => t.remainder(x[1]),
        "floor_divide" => t.floor_divide(x[1]),
        "xlogy" => t.xlogy(x[1]),
        "logaddexp" => t.logaddexp(x[1]),
        "maximum" => t.maximum(x[1]),
        "bitwise_and" => t.bitwise_and(x[1]),
        "bitwise_or" => t.bitwise_or(x[1]),
        "bitwise_xor" => t.bitwise_xor(x[1]),
        "bitwise_not" => t.bitwise_not(),
        "bitwise_left_shift" => t.bitwise_left_shift(x[1]),
        "bitwise_right_shift" => t.bitwise_right_shift(x[1]),
        "logical_xor" => t.logical_xor(x[1]),
        "where" => t.select(x[1], x[2]),
        "lerp" if a.has("weight") => t.lerp(x[1], a.f64("weight", 0.0)),
        "lerp" => t.lerp(x[1], x[2]),
        "addcmul" => t.addcmul(x[1], x[2], a.f64("value", 1.0)),
        "addcdiv" => t.addcdiv(x[1], x[2], a.f64("value", 1.0)),
        "clamp_tensors" => t.clamp(x[1], x[2]),
        "clamp" if !a.has("min") => t.clamp_max(a.f64("max", 0.0)),
        "clamp" if !a.has("max") => t.clamp_min(a.f64("min", 0.0)),
        "clamp" => t.clamp(a.f64("min", 0.0), a.f64("max", 0.0)),
        "masked_fill" => t.masked_fill(x[1], a.f64("value", 0.0)),
        other => panic!("no such case: {other}"),
    }]
}

#[test]
fn pointwise() {
    check(include_bytes!("../../oracle/ops/pointwise.safetensors"), build);
}

#[test]
fn arithmetic() {
    check(include_bytes!("../../oracle/ops/arithmetic.safetensors"), of_several);
}
