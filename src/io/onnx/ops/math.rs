//! Arithmetic, comparison, functions and activations, element by element.

use super::super::call::{Call, Outputs, one};
use super::super::constant::{Constant, Elem, unsupported_elements};
use super::{Op, op};
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::Tensor;

pub fn lookup(name: &str) -> Option<Op> {
    functions(name).or_else(|| activations(name)).or_else(|| match name {
        "Add" => op(|c| c.binary(|a, b| a + b)),
        "Sub" => op(|c| c.binary(|a, b| a - b)),
        "Mul" => op(|c| c.binary(|a, b| a * b)),
        "Div" => op(|c| c.binary(|a, b| a / b)),
        "Pow" => op(pow),
        "Mod" => op(modulo),
        "Max" => op(|c| fold(c, Tensor::maximum)),
        "Min" => op(|c| fold(c, Tensor::minimum)),
        "Sum" => op(|c| fold(c, |a, b| a + b)),
        "Mean" => op(mean),
        "Equal" => op(|c| c.binary(|a, b| a.eq(b))),
        "Less" => op(|c| c.binary(|a, b| a.lt(b))),
        "LessOrEqual" => op(|c| c.binary(|a, b| a.le(b))),
        "Greater" => op(|c| c.binary(|a, b| a.gt(b))),
        "GreaterOrEqual" => op(|c| c.binary(|a, b| a.ge(b))),
        "And" => op(|c| c.binary(|a, b| a.logical_and(b))),
        "Or" => op(|c| c.binary(|a, b| a.logical_or(b))),
        "Xor" => op(|c| c.binary(|a, b| a.ne(b))),
        "Not" => op(|c| c.unary(Tensor::logical_not)),
        "BitShift" => op(bit_shift),
        "BitwiseAnd" => op(|c| c.binary(|a, b| a.bitwise_and(b))),
        "BitwiseOr" => op(|c| c.binary(|a, b| a.bitwise_or(b))),
        "BitwiseXor" => op(|c| c.binary(|a, b| a.bitwise_xor(b))),
        "Where" => op(|c| one(c.tensor(0)?.select(c.tensor(1)?, c.tensor(2)?))),
        "Clip" => op(clip),
        "Cast" => op(cast),
        "CastLike" => op(cast_like),
        "Identity" => op(|c| one(c.required(0)?.clone())),
        _ => None,
    })
}

fn functions(name: &str) -> Option<Op> {
    match name {
        "Abs" => op(|c| c.unary(Tensor::abs)),
        "Neg" => op(|c| c.unary(|x| -x)),
        "Sign" => op(|c| c.unary(Tensor::sign)),
        "Floor" => op(|c| c.unary(Tensor::floor)),
        "Ceil" => op(|c| c.unary(Tensor::ceil)),
        "Round" => op(|c| c.unary(Tensor::round)),
        "Sqrt" => op(|c| c.unary(Tensor::sqrt)),
        "Reciprocal" => op(|c| c.unary(Tensor::reciprocal)),
        "Exp" => op(|c| c.unary(Tensor::exp)),
        "Log" => op(|c| c.unary(Tensor::log)),
        "Sin" => op(|c| c.unary(Tensor::sin)),
        "Cos" => op(|c| c.unary(Tensor::cos)),
        "Tan" => op(|c| c.unary(Tensor::tan)),
        "Sinh" => op(|c| c.unary(Tensor::sinh)),
        "Cosh" => op(|c| c.unary(Tensor::cosh)),
        "Tanh" => op(|c| c.unary(Tensor::tanh)),
        "Asinh" => op(|c| c.unary(Tensor::asinh)),
        "Acosh" => op(|c| c.unary(Tensor::acosh)),
        "Atanh" => op(|c| c.unary(Tensor::atanh)),
        "Asin" => op(|c| c.unary(Tensor::asin)),
        "Acos" => op(|c| c.unary(Tensor::acos)),
        "Atan" => op(|c| c.unary(Tensor::atan)),
        "Erf" => op(|c| c.unary(Tensor::erf)),
        "IsNaN" => op(|c| c.unary(Tensor::isnan)),
        "IsInf" => op(is_infinite),
        "BitwiseNot" => op(|c| c.unary(Tensor::bitwise_not)),
        _ => None,
    }
}

fn is_infinite<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let of_sign = |kept: Tensor<'g>| x.isinf().logical_and(kept);
    one(match (c.attr_int("detect_positive", 1) != 0, c.attr_int("detect_negative", 1) != 0) {
        (true, true) => x.isinf(),
        (true, false) => of_sign(x.gt(0.0)),
        (false, true) => of_sign(x.lt(0.0)),
        (false, false) => of_sign(x.isnan()),
    })
}

/// The bits moved up or down; down keeps the sign.
fn bit_shift<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    match c.attr_text("direction", "").as_str() {
        "LEFT" => c.binary(|a, b| a.bitwise_left_shift(b)),
        "RIGHT" => c.binary(|a, b| a.bitwise_right_shift(b)),
        other => Err(c.invalid(format_args!("`direction` is LEFT or RIGHT, not {other}"))),
    }
}

/// `a sigmoid(alpha a) b`.
fn swiglu<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (a, b) = (c.tensor(0)?, c.tensor(1)?);
    if a.shape() != b.shape() {
        return Err(c.invalid(format_args!("takes equal shapes, not {} and {}", a.shape(), b.shape())));
    }
    one(a * (a * c.attr_float("alpha", 1.0)).sigmoid() * b)
}

fn activations(name: &str) -> Option<Op> {
    match name {
        "Relu" => op(|c| match c.required(0)?.dtype() {
            DType::I32 => c.unary(|x| x.maximum(0)),
            _ => c.unary(Tensor::relu),
        }),
        "Sigmoid" => op(|c| c.unary(Tensor::sigmoid)),
        "Softplus" => op(|c| c.unary(Tensor::softplus)),
        "Softsign" => op(|c| c.unary(|x| x / (x.abs() + 1.0))),
        "Elu" => op(|c| c.unary(|x| x.elu(c.attr_float("alpha", 1.0)))),
        "Celu" => op(|c| {
            let alpha = c.attr_float("alpha", 1.0);
            c.unary(|x| x.maximum(0.0) + ((x.minimum(0.0) / alpha).exp() - 1.0) * alpha)
        }),
        "Selu" => op(|c| {
            let alpha = c.attr_float("alpha", 1.673_263_192_176_818_8);
            let gamma = c.attr_float("gamma", 1.050_701_022_148_132_3);
            c.unary(|x| x.elu(alpha) * gamma)
        }),
        "LeakyRelu" => op(|c| c.unary(|x| x.leaky_relu(c.attr_float("alpha", 0.01)))),
        "ThresholdedRelu" => op(|c| c.unary(|x| x.gt(c.attr_float("alpha", 1.0)).select(x, 0.0))),
        "PRelu" => op(|c| c.binary(|x, slope| x.lt(0.0).select(x * slope, x))),
        "HardSigmoid" => op(|c| {
            let (alpha, beta) = (c.attr_float("alpha", 0.2), c.attr_float("beta", 0.5));
            c.unary(|x| (x * alpha + beta).clamp(0.0, 1.0))
        }),
        "HardSwish" => op(|c| c.unary(|x| x * (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0))),
        "Gelu" => op(|c| match c.attr_text("approximate", "none").as_str() {
            "none" => c.unary(Tensor::gelu),
            "tanh" => c.unary(Tensor::gelu_tanh),
            other => Err(c.invalid(format_args!("`approximate` is none or tanh, not {other}"))),
        }),
        "SwiGLU" => op(swiglu),
        "Mish" => op(|c| c.unary(|x| x * x.softplus().tanh())),
        "Swish" => op(|c| c.unary(|x| x * (x * c.attr_float("alpha", 1.0)).sigmoid())),
        "Shrink" => op(|c| {
            let (bias, lambda) = (c.attr_float("bias", 0.0), c.attr_float("lambd", 0.5));
            c.unary(|x| x.lt(-lambda).select(x + bias, x.gt(lambda).select(x - bias, 0.0)))
        }),
        _ => None,
    }
}

/// All inputs combined one after the other.
fn fold<'g>(c: &Call<'_, 'g>, f: impl Fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>) -> Outputs<'g> {
    let mut rest = c.tensors()?.into_iter();
    let first = rest.next().ok_or_else(|| c.invalid("takes at least one input"))?;
    one(rest.fold(first, f))
}

fn mean<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let sum = fold(c, |a, b| a + b)?;
    one(c.tracer.tensor(&sum[0])? * (1.0 / c.inputs.len().max(1) as f64))
}

/// The remainder has the sign of the divisor, or with `fmod` of the dividend.
fn modulo<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let (a, b) = (c.tensor(0)?, c.tensor(1)?);
    one(if c.attr_int("fmod", 0) != 0 { a.fmod(b) } else { a.remainder(b) })
}

/// The result has the type of the base.
fn pow<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let dtype = c.required(0)?.dtype();
    let base = c.tensor(0)?.cast(DType::F32);
    let known = c.required(1)?.known.clone();
    let power = match known.as_deref().map(|known| (&known.data[..], &known.shape)) {
        Some(([exponent], shape)) => {
            let base = base.broadcast_to(base.shape().broadcast(shape).unwrap_or_default());
            if exponent.fract() == 0.0 && exponent.abs() <= 64.0 {
                whole(base, *exponent as i32)
            } else {
                base.pow(*exponent)
            }
        }
        _ => general_power(base, c.tensor(1)?.cast(DType::F32)),
    };
    // Powers of integers come out of floats: rounded, not cut off.
    one(if dtype.is_float() { power } else { power.round().cast(dtype) })
}

/// By squaring.
fn whole(base: Tensor<'_>, exponent: i32) -> Tensor<'_> {
    let mut left = exponent.unsigned_abs();
    let (mut square, mut product) = (base, None);
    while left > 0 {
        if left & 1 == 1 {
            product = Some(product.map_or(square, |product| product * square));
        }
        left >>= 1;
        if left > 0 {
            square = square * square;
        }
    }
    let product = product.unwrap_or_else(|| base.zeros_like() + 1.0);
    if exponent < 0 { product.reciprocal() } else { product }
}

/// Bases of any sign: what has no real power is not a number.
fn general_power<'g>(base: Tensor<'g>, exponent: Tensor<'g>) -> Tensor<'g> {
    let size = base.abs().pow(exponent);
    let half = exponent * 0.5;
    let odd = half.floor().ne(half);
    let is_whole = exponent.floor().eq(exponent);
    let negative = is_whole.select(odd.select(-size, size), base.log());
    exponent.eq(0.0).select(size.zeros_like() + 1.0, base.lt(0.0).select(negative, size))
}

fn clip<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    if c.opset < 11 {
        let low = c.attribute("min").map(|_| c.attr_float("min", f64::from(f32::MIN)));
        let high = c.attribute("max").map(|_| c.attr_float("max", f64::from(f32::MAX)));
        return one(limited(x, low, high));
    }
    let known = |index: usize| match c.val(index) {
        None => Some(None),
        Some(value) => value.known.as_ref().filter(|known| known.data.len() == 1).map(|known| Some(known.data[0])),
    };
    if let (Some(low), Some(high)) = (known(1), known(2)) {
        return one(limited(x, low, high));
    }
    let low = c.optional(1)?.map_or(x, |low| x.maximum(low));
    one(c.optional(2)?.map_or(low, |high| low.minimum(high)))
}

fn limited(x: Tensor<'_>, low: Option<f64>, high: Option<f64>) -> Tensor<'_> {
    match (low, high) {
        (Some(low), Some(high)) => x.clamp(low, high),
        (Some(low), None) => x.ge(low).select(x, low),
        (None, Some(high)) => x.le(high).select(x, high),
        (None, None) => x,
    }
}

fn cast<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let number = i32::try_from(c.attr_int("to", 0)).unwrap_or(0);
    let elem = Elem::from_number(number).ok_or_else(|| c.unsupported(unsupported_elements(number)))?;
    convert(c, elem)
}

fn cast_like<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let like = c.required(1)?;
    let elem = like.known.as_ref().map_or(Elem::of(like.dtype()), |known| known.elem);
    convert(c, elem)
}

fn convert<'g>(c: &Call<'_, 'g>, elem: Elem) -> Outputs<'g> {
    let value = c.required(0)?;
    if let Some(known) = &value.known {
        return one(converted(c, known, elem)?);
    }
    if elem == Elem::F64 && !c.tracer.model.doubles {
        return Err(c.unsupported("there are no tensors of doubles"));
    }
    one(c.tensor(0)?.cast(elem.dtype()))
}

/// A known cast, exact in 64 bits.
fn converted(c: &Call<'_, '_>, known: &Constant, elem: Elem) -> Result<Constant> {
    let one = |&value: &f64| match elem {
        Elem::F32 => Some(f64::from(value as f32)),
        Elem::F64 => Some(value),
        Elem::Bool => Some(f64::from(u8::from(value != 0.0))),
        Elem::I64 => (value.is_finite() && value.abs() < 9.3e18).then(|| value.trunc()),
        Elem::I32 => Some(value.trunc()).filter(|v| (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(v)),
    };
    let data: Option<Vec<f64>> = known.data.iter().map(one).collect();
    let data = data.ok_or_else(|| c.unsupported("a known value does not fit the type that it is cast to"))?;
    Ok(Constant { elem, shape: known.shape.clone(), data })
}
