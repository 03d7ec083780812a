//! The pointwise operations, one row each: name, dtype rule, WGSL, host arithmetic, gradient and
//! the range in which tests draw its inputs. The method on [`Tensor`], fusion, the reference
//! and the tests follow from the row.
//!
//! In the WGSL column `{0}`, `{1}`, `{2}` are the operands; `F` is the float type in use (`f32` or
//! `vec4<f32>`), so that constants are written `F(0.5)`. Names starting with `wg_` live in
//! `shaders/lib/math.wgsl`.

use super::handle::Tensor;
use crate::dtype::DType;
use std::f64::consts::LN_2;

/// What operand types a row takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeRule {
    /// Floats to the same float.
    Float,
    /// Numbers of one type to the same type.
    Number,
    /// Floats or signed integers to the same type.
    Signed,
    /// Two of one type to bool.
    Compare,
    /// Bools to bool.
    Logic,
    /// Integers of one type to the same type.
    Integer,
    /// A float to bool.
    Test,
    /// `(bool, t, t)` to `t`.
    Select,
}

/// `(gradient of the output, inputs, output)` to the inputs' gradients; `None` where there is none.
pub type PointwiseGradient = for<'g> fn(Tensor<'g>, &[Tensor<'g>], Tensor<'g>) -> Vec<Option<Tensor<'g>>>;

/// One row of the table.
pub struct Row {
    pub op: PointwiseOp,
    pub name: &'static str,
    pub arity: usize,
    pub rule: TypeRule,
    pub wgsl: &'static str,
    pub gradient: Option<PointwiseGradient>,
    /// Where tests draw the operands from: the domain, away from poles.
    pub range: (f64, f64),
}

impl PointwiseOp {
    /// The row that says everything about this operation.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The output's type for these operand types.
    pub fn infer(self, operands: &[DType]) -> Result<DType, String> {
        let row = self.row();
        if operands.len() != row.arity {
            return Err(format!("takes {} operands, got {}", row.arity, operands.len()));
        }
        let same = |from: usize| operands[from..].iter().all(|&dtype| dtype == operands[from]);
        let first = operands[0];
        let fits = match row.rule {
            TypeRule::Float => same(0) && first.is_float(),
            TypeRule::Number => same(0) && (first.is_float() || first.is_int()),
            TypeRule::Signed => same(0) && (first.is_float() || first == DType::I32),
            TypeRule::Compare => same(0) && first != DType::U8,
            TypeRule::Logic => same(0) && first == DType::Bool,
            TypeRule::Integer => same(0) && first.is_int(),
            TypeRule::Test => first.is_float(),
            TypeRule::Select => first == DType::Bool && same(1) && operands[1] != DType::U8,
        };
        if !fits {
            let given: Vec<_> = operands.iter().map(|dtype| dtype.name()).collect();
            let wanted = match row.rule {
                TypeRule::Float => "floating-point operands of one dtype",
                TypeRule::Number => "numbers of one dtype",
                TypeRule::Signed => "floats or i32 of one dtype",
                TypeRule::Compare => "two operands of one dtype",
                TypeRule::Logic => "bool operands",
                TypeRule::Integer => "integers of one dtype",
                TypeRule::Test => "a floating-point operand",
                TypeRule::Select => "a bool condition and two values of one dtype",
            };
            return Err(format!("takes {wanted}, got ({}); cast one with `.cast(..)`", given.join(", ")));
        }
        Ok(match row.rule {
            TypeRule::Float | TypeRule::Number | TypeRule::Signed | TypeRule::Integer => first,
            TypeRule::Compare | TypeRule::Logic | TypeRule::Test => DType::Bool,
            TypeRule::Select => operands[1],
        })
    }
}

/// Declares the enum, its table and its meaning in f64 together, so that they cannot differ. The meaning stands after `=`, or
/// after `~` where it takes a function of f64's library.
macro_rules! pointwise {
    ($($(#[$doc:meta])* $op:ident $name:literal $arity:literal $rule:ident $wgsl:literal
        $(= $folded:expr,)? $(~ $library:expr,)? $gradient:expr, $range:expr;)*) => {
        /// The name of a pointwise operation; [`PointwiseOp::row`] has the rest.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum PointwiseOp { $($(#[$doc])* $op),* }

        /// All rows, in the order of the enum.
        pub static TABLE: &[Row] = &[$(Row {
            op: PointwiseOp::$op, name: $name, arity: $arity, rule: TypeRule::$rule, wgsl: $wgsl,
            gradient: $gradient, range: $range,
        }),*];

        impl PointwiseOp {
            /// Meaning in f64; integers are exact in it, and the interpreter wraps the result.
            pub fn host(self) -> fn(&[f64]) -> f64 {
                match self { $(PointwiseOp::$op => { $($folded)? $($library)? })* }
            }

            /// The same of known operands, where it takes no function of f64's library: 14 KB, which a page would download to
            /// compute constants that nobody writes.
            pub(crate) fn folded(self, operands: &[f64]) -> Option<f64> {
                let call = |host: fn(&[f64]) -> f64| Some(host(operands));
                match self { $(PointwiseOp::$op => { $(return call($folded);)? })* }
                #[allow(unreachable_code)]
                None
            }
        }
    };
}

const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

fn gelu_tanh_inner(x: f64) -> f64 {
    (SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)).tanh()
}

fn gelu_tanh_slope(x: f64) -> f64 {
    let t = gelu_tanh_inner(x);
    0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044715 * x * x)
}

fn normal_cdf(x: f64) -> f64 {
    0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The error function in f64: its Taylor series where that converges fast, a continued fraction
/// of `erfc` beyond (Abramowitz and Stegun 7.1.6 and 7.1.14).
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    let positive = if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for n in 1..120 {
            term *= 2.0 * a * a / f64::from(2 * n + 1);
            sum += term;
        }
        sum * (-a * a).exp() * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..=60).rev().fold(a, |tail, k| a + f64::from(k) / 2.0 / tail);
        1.0 - (-a * a).exp() / fraction / std::f64::consts::PI.sqrt()
    };
    positive.copysign(x)
}

/// How far a shift goes: the amount's bits as u32, at most 31.
fn shift(amount: f64) -> u32 {
    (amount as i64 as u32).min(31)
}

fn truth(condition: bool) -> f64 {
    f64::from(u8::from(condition))
}

pointwise! {
    // ---- arithmetic
    Add "add" 2 Number "({0} + {1})" = |x| x[0] + x[1], Some(|g, _, _| vec![Some(g), Some(g)]), (-3.0, 3.0);
    Sub "sub" 2 Number "({0} - {1})" = |x| x[0] - x[1], Some(|g, _, _| vec![Some(g), Some(-g)]), (-3.0, 3.0);
    Mul "mul" 2 Number "({0} * {1})" = |x| x[0] * x[1],
        Some(|g, x, _| vec![Some(g * x[1]), Some(g * x[0])]), (-3.0, 3.0);
    // d(a/b) = da/b - (a/b) db/b
    Div "div" 2 Number "({0} / {1})" = |x| x[0] / x[1],
        Some(|g, x, y| { let r = g / x[1]; vec![Some(r), Some(-(r * y))] }), (0.5, 3.0);
    /// `a` to the power `b`, for `a` >= 0, or for any `a` where `b` is whole.
    Pow "pow" 2 Float "wg_pow({0}, {1})" ~ |x| x[0].powf(x[1]),
        Some(|g, x, y| vec![Some(power_slope(g, x[0], x[1])), Some(g * y * x[0].eq(0.0).select(1.0, x[0]).log())]),
        (0.3, 2.0);
    /// The remainder of a division truncated towards zero: it has the sign of `a`; C's `fmod`.
    Fmod "fmod" 2 Float "wg_fmod({0}, {1})" ~ |x| x[0] % x[1],
        Some(|g, x, y| vec![Some(g), Some(-(g * ((x[0] - y) / x[1]).round()))]), (0.5, 3.0);
    /// `sqrt(a^2 + b^2)`, whose squares neither overflow nor vanish.
    Hypot "hypot" 2 Float "wg_hypot({0}, {1})" ~ |x| x[0].hypot(x[1]),
        Some(|g, x, y| { let r = g / positive(y); vec![Some(r * x[0]), Some(r * x[1])] }), (-3.0, 3.0);
    // Equal operands share the gradient, as in PyTorch.
    Max "maximum" 2 Number "max({0}, {1})" = |x| x[0].max(x[1]),
        Some(|g, x, _| { let a = share(g, x[0], x[1]); vec![Some(a), Some(g - a)] }), (-3.0, 3.0);
    Min "minimum" 2 Number "min({0}, {1})" = |x| x[0].min(x[1]),
        Some(|g, x, _| { let a = share(g, x[1], x[0]); vec![Some(a), Some(g - a)] }), (-3.0, 3.0);
    Neg "neg" 1 Signed "(-{0})" = |x| -x[0], Some(|g, _, _| vec![Some(-g)]), (-3.0, 3.0);
    Abs "abs" 1 Signed "abs({0})" = |x| x[0].abs(), Some(|g, x, _| vec![Some(g * x[0].sign())]), (-3.0, 3.0);
    Sign "sign" 1 Signed "sign({0})" = |x| if x[0] == 0.0 { 0.0 } else { x[0].signum() },
        Some(|_, _, _| vec![None]), (-3.0, 3.0);
    Floor "floor" 1 Float "floor({0})" = |x| x[0].floor(), Some(|_, _, _| vec![None]), (-3.0, 3.0);
    Ceil "ceil" 1 Float "ceil({0})" = |x| x[0].ceil(), Some(|_, _, _| vec![None]), (-3.0, 3.0);
    /// To the nearest integer, halves to even.
    Round "round" 1 Float "round({0})" = |x| x[0].round_ties_even(), Some(|_, _, _| vec![None]), (-3.0, 3.0);
    /// To the nearest integer towards zero.
    Trunc "trunc" 1 Float "trunc({0})" = |x| x[0].trunc(), Some(|_, _, _| vec![None]), (-3.0, 3.0);

    // ---- roots, exponentials, trigonometry
    Sqrt "sqrt" 1 Float "sqrt({0})" = |x| x[0].sqrt(), Some(|g, _, y| vec![Some(g * 0.5 / y)]), (0.1, 4.0);
    Rsqrt "rsqrt" 1 Float "inverseSqrt({0})" = |x| 1.0 / x[0].sqrt(),
        Some(|g, _, y| vec![Some(g * -0.5 * y * y * y)]), (0.1, 4.0);
    Reciprocal "reciprocal" 1 Float "(F(1.0) / {0})" = |x| 1.0 / x[0],
        Some(|g, _, y| vec![Some(-(g * y * y))]), (0.3, 3.0);
    Exp "exp" 1 Float "exp({0})" ~ |x| x[0].exp(), Some(|g, _, y| vec![Some(g * y)]), (-3.0, 3.0);
    Exp2 "exp2" 1 Float "exp2({0})" ~ |x| x[0].exp2(), Some(|g, _, y| vec![Some(g * y * LN_2)]),
        (-3.0, 3.0);
    /// `exp(x) - 1` without losing small `x`.
    Expm1 "expm1" 1 Float "wg_expm1({0})" ~ |x| x[0].exp_m1(), Some(|g, _, y| vec![Some(g * (y + 1.0))]), (-3.0, 3.0);
    Log "log" 1 Float "log({0})" ~ |x| x[0].ln(), Some(|g, x, _| vec![Some(g / x[0])]), (0.1, 4.0);
    Log2 "log2" 1 Float "log2({0})" ~ |x| x[0].log2(),
        Some(|g, x, _| vec![Some(g * (1.0 / LN_2) / x[0])]), (0.1, 4.0);
    /// `log(1 + x)` without losing small `x`.
    Log1p "log1p" 1 Float "wg_log1p({0})" ~ |x| x[0].ln_1p(),
        Some(|g, x, _| vec![Some(g / (x[0] + 1.0))]), (-0.6, 3.0);
    Sin "sin" 1 Float "wg_sin({0})" ~ |x| x[0].sin(), Some(|g, x, _| vec![Some(g * x[0].cos())]), (-9.0, 9.0);
    Cos "cos" 1 Float "wg_cos({0})" ~ |x| x[0].cos(), Some(|g, x, _| vec![Some(-(g * x[0].sin()))]), (-9.0, 9.0);
    Asin "asin" 1 Float "wg_asin({0})" ~ |x| x[0].asin(),
        Some(|g, x, _| vec![Some(g * ((1.0 - x[0]) * (x[0] + 1.0)).rsqrt())]), (-0.95, 0.95);
    Acos "acos" 1 Float "wg_acos({0})" ~ |x| x[0].acos(),
        Some(|g, x, _| vec![Some(-(g * ((1.0 - x[0]) * (x[0] + 1.0)).rsqrt()))]), (-0.95, 0.95);
    Atan "atan" 1 Float "wg_atan({0})" ~ |x| x[0].atan(),
        Some(|g, x, _| vec![Some(g / (x[0] * x[0] + 1.0))]), (-4.0, 4.0);
    /// `(y, x)`: the angle of the point `(x, y)`, in `-pi..=pi`.
    Atan2 "atan2" 2 Float "wg_atan2({0}, {1})" ~ |x| x[0].atan2(x[1]),
        Some(|g, x, _| { let r = g / positive(x[0] * x[0] + x[1] * x[1]); vec![Some(r * x[1]), Some(-(r * x[0]))] }),
        (-3.0, 3.0);
    Sinh "sinh" 1 Float "wg_sinh({0})" ~ |x| x[0].sinh(), Some(|g, x, _| vec![Some(g * x[0].cosh())]), (-3.0, 3.0);
    Cosh "cosh" 1 Float "wg_cosh({0})" ~ |x| x[0].cosh(), Some(|g, x, _| vec![Some(g * x[0].sinh())]), (-3.0, 3.0);
    Asinh "asinh" 1 Float "wg_asinh({0})" ~ |x| x[0].asinh(),
        Some(|g, x, _| vec![Some(g * (x[0] * x[0] + 1.0).rsqrt())]), (-4.0, 4.0);
    Acosh "acosh" 1 Float "wg_acosh({0})" ~ |x| x[0].acosh(),
        Some(|g, x, _| vec![Some(g * ((x[0] - 1.0) * (x[0] + 1.0)).rsqrt())]), (1.2, 6.0);
    Atanh "atanh" 1 Float "wg_atanh({0})" ~ |x| x[0].atanh(),
        Some(|g, x, _| vec![Some(g / ((1.0 - x[0]) * (x[0] + 1.0)))]), (-0.9, 0.9);
    Tanh "tanh" 1 Float "wg_tanh({0})" ~ |x| x[0].tanh(),
        Some(|g, _, y| vec![Some(g * (1.0 - y * y))]), (-4.0, 4.0);
    /// The error function.
    Erf "erf" 1 Float "wg_erf({0})" ~ |x| erf(x[0]),
        Some(|g, x, _| vec![Some(g * (-(x[0] * x[0])).exp() * std::f32::consts::FRAC_2_SQRT_PI)]), (-3.5, 3.5);

    // ---- activations
    Relu "relu" 1 Float "max({0}, F(0.0))" = |x| x[0].max(0.0),
        Some(|g, _, y| vec![Some(y.gt(0.0).select(g, 0.0))]), (-3.0, 3.0);
    Sigmoid "sigmoid" 1 Float "wg_sigmoid({0})" ~ |x| sigmoid(x[0]),
        Some(|g, _, y| vec![Some(g * y * (1.0 - y))]), (-6.0, 6.0);
    /// `log(1 + exp(x))`.
    Softplus "softplus" 1 Float "wg_softplus({0})" ~ |x| x[0].max(0.0) + (-x[0].abs()).exp().ln_1p(),
        Some(|g, x, _| vec![Some(g * x[0].sigmoid())]), (-6.0, 6.0);
    /// `x * sigmoid(x)`, also called swish.
    Silu "silu" 1 Float "({0} * wg_sigmoid({0}))" ~ |x| x[0] * sigmoid(x[0]),
        Some(|g, x, _| vec![Some(g * x[0].silu_grad())]), (-6.0, 6.0);
    SiluGrad "silu_grad" 1 Float "wg_silu_grad({0})" ~
        |x| { let s = sigmoid(x[0]); s * (1.0 + x[0] * (1.0 - s)) }, None, (-6.0, 6.0);
    /// GELU by the error function (PyTorch's default).
    Gelu "gelu" 1 Float "wg_gelu({0})" ~ |x| x[0] * normal_cdf(x[0]),
        Some(|g, x, _| vec![Some(g * x[0].gelu_grad())]), (-4.0, 4.0);
    GeluGrad "gelu_grad" 1 Float "wg_gelu_grad({0})" ~
        |x| normal_cdf(x[0]) + x[0] * (-0.5 * x[0] * x[0]).exp() / (2.0 * std::f64::consts::PI).sqrt(),
        None, (-4.0, 4.0);
    /// GELU by the tanh approximation (GPT-2's).
    GeluTanh "gelu_tanh" 1 Float "wg_gelu_tanh({0})" ~ |x| 0.5 * x[0] * (1.0 + gelu_tanh_inner(x[0])),
        Some(|g, x, _| vec![Some(g * x[0].gelu_tanh_grad())]), (-4.0, 4.0);
    GeluTanhGrad "gelu_tanh_grad" 1 Float "wg_gelu_tanh_grad({0})" ~ |x| gelu_tanh_slope(x[0]), None, (-4.0, 4.0);

    // ---- comparison, logic, choice
    Eq "eq" 2 Compare "({0} == {1})" = |x| truth(x[0] == x[1]), None, (-3.0, 3.0);
    Ne "ne" 2 Compare "({0} != {1})" = |x| truth(x[0] != x[1]), None, (-3.0, 3.0);
    Lt "lt" 2 Compare "({0} < {1})" = |x| truth(x[0] < x[1]), None, (-3.0, 3.0);
    Le "le" 2 Compare "({0} <= {1})" = |x| truth(x[0] <= x[1]), None, (-3.0, 3.0);
    Gt "gt" 2 Compare "({0} > {1})" = |x| truth(x[0] > x[1]), None, (-3.0, 3.0);
    Ge "ge" 2 Compare "({0} >= {1})" = |x| truth(x[0] >= x[1]), None, (-3.0, 3.0);
    And "logical_and" 2 Logic "({0} & {1})" = |x| truth(x[0] != 0.0 && x[1] != 0.0), None, (0.0, 1.0);
    Or "logical_or" 2 Logic "({0} | {1})" = |x| truth(x[0] != 0.0 || x[1] != 0.0), None, (0.0, 1.0);
    Not "logical_not" 1 Logic "(!{0})" = |x| truth(x[0] == 0.0), None, (0.0, 1.0);
    // On the bits, because WGSL lets a compiler assume that neither occurs.
    IsNan "isnan" 1 Test "((bitcast<U>({0}) & U(0x7fffffffu)) > U(0x7f800000u))" = |x| truth(x[0].is_nan()),
        None, (-3.0, 3.0);
    IsInf "isinf" 1 Test "((bitcast<U>({0}) & U(0x7fffffffu)) == U(0x7f800000u))" = |x| truth(x[0].is_infinite()),
        None, (-3.0, 3.0);

    // ---- whole numbers; the host column sees them sign-extended
    /// Truncated towards zero; by zero it gives 0.
    IntRem "int_remainder" 2 Integer "({0} % {1})" ~ |x| if x[1] == 0.0 { 0.0 } else { x[0] % x[1] }, None, (1.0, 90.0);
    BitAnd "bitwise_and" 2 Integer "({0} & {1})" = |x| (x[0] as i64 & x[1] as i64) as f64, None, (-99.0, 99.0);
    BitOr "bitwise_or" 2 Integer "({0} | {1})" = |x| (x[0] as i64 | x[1] as i64) as f64, None, (-99.0, 99.0);
    BitXor "bitwise_xor" 2 Integer "({0} ^ {1})" = |x| (x[0] as i64 ^ x[1] as i64) as f64, None, (-99.0, 99.0);
    BitNot "bitwise_not" 1 Integer "(~{0})" = |x| !(x[0] as i64) as f64, None, (-99.0, 99.0);
    /// By 31 at most.
    ShiftLeft "shift_left" 2 Integer "({0} << min(U({1}), U(31u)))" = |x| ((x[0] as i64) << shift(x[1])) as f64,
        None, (0.0, 40.0);
    /// By 31 at most; the sign of an i32 is kept.
    ShiftRight "shift_right" 2 Integer "({0} >> min(U({1}), U(31u)))" = |x| (x[0] as i64 >> shift(x[1])) as f64,
        None, (0.0, 40.0);

    /// `(condition, a, b)`: `a` where the condition holds, else `b`.
    Select "select" 3 Select "select({2}, {1}, {0})" = |x| if x[0] != 0.0 { x[1] } else { x[2] },
        Some(|g, x, _| vec![None, Some(x[0].select(g, 0.0)), Some(x[0].select(g.zeros_like(), g))]), (-3.0, 3.0);
}

/// `g` times the slope of `a^b` in `a`: finite at 0 where the power is, and 0 for `b` = 0.
fn power_slope<'g>(g: Tensor<'g>, a: Tensor<'g>, b: Tensor<'g>) -> Tensor<'g> {
    g * b.eq(0.0).select(0.0, b * a.pow(b - 1.0))
}

/// A divisor that is not negative, 1 where it is 0: there the dividend is 0 as well.
fn positive(divisor: Tensor<'_>) -> Tensor<'_> {
    divisor.gt(0.0).select(divisor, 1.0)
}

/// The part of `g` that goes to the larger operand `a`; half of it where both are equal.
fn share<'g>(g: Tensor<'g>, a: Tensor<'g>, b: Tensor<'g>) -> Tensor<'g> {
    a.gt(b).select(g, a.eq(b).select(g * 0.5, 0.0))
}

/// The unary rows as methods.
macro_rules! unary_methods {
    ($($(#[$doc:meta])* $method:ident $op:ident;)*) => {
        impl<'g> Tensor<'g> {
            $($(#[$doc])* #[track_caller] pub fn $method(self) -> Tensor<'g> { self.pointwise(PointwiseOp::$op, &[]) })*
        }
    };
}

unary_methods! {
    /// Absolute value.
    abs Abs;
    /// -1, 0 or 1.
    sign Sign;
    floor Floor;
    ceil Ceil;
    /// To the nearest integer, halves to even.
    round Round;
    /// To the nearest integer towards zero.
    trunc Trunc;
    sqrt Sqrt;
    /// `1 / sqrt(x)`.
    rsqrt Rsqrt;
    reciprocal Reciprocal;
    exp Exp;
    /// `2^x`.
    exp2 Exp2;
    /// `exp(x) - 1`, exact for small `x`.
    expm1 Expm1;
    /// Natural logarithm.
    log Log;
    /// Logarithm to the base 2.
    log2 Log2;
    /// `log(1 + x)`, exact for small `x`.
    log1p Log1p;
    sin Sin;
    cos Cos;
    asin Asin;
    acos Acos;
    atan Atan;
    sinh Sinh;
    cosh Cosh;
    asinh Asinh;
    acosh Acosh;
    atanh Atanh;
    tanh Tanh;
    /// The error function.
    erf Erf;
    /// `max(x, 0)`.
    relu Relu;
    sigmoid Sigmoid;
    /// `log(1 + exp(x))`, stable on both sides; [`Tensor::softplus_with`] has the two parameters.
    softplus Softplus;
    /// `x * sigmoid(x)`.
    silu Silu;
    /// The derivative of [`Tensor::silu`].
    silu_grad SiluGrad;
    /// GELU by the error function, as `torch.nn.functional.gelu(x)`.
    gelu Gelu;
    /// The derivative of [`Tensor::gelu`].
    gelu_grad GeluGrad;
    /// GELU by tanh, as `torch.nn.functional.gelu(x, approximate="tanh")`.
    gelu_tanh GeluTanh;
    /// The derivative of [`Tensor::gelu_tanh`].
    gelu_tanh_grad GeluTanhGrad;
    logical_not Not;
    /// Whether each float is not a number, told by its bits. Computed values may have lost it: WGSL lets a
    /// compiler assume that NaN does not occur, so test what was read or stored.
    isnan IsNan;
    /// Whether each float is infinite, told by its bits; see [`Tensor::isnan`].
    isinf IsInf;
}
