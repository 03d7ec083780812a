//! Tests of `shaders/lib` without a device: the text is parsed and validated by naga, and its
//! functions are evaluated in f32 and u32 by a small interpreter of naga's expressions.

use super::spec::body;
use crate::graph::pointwise::TABLE;
use crate::random::random_bits;
use naga::{BinaryOperator, Expression, Function, Handle, Literal, MathFunction, Module, Statement, UnaryOperator};

const MATH: &str = include_str!("../../shaders/lib/math.wgsl");
const THREEFRY: &str = include_str!("../../shaders/lib/threefry.wgsl");

fn parse(source: &str) -> Module {
    let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source)).unwrap();
    let mut validator =
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::empty());
    validator.validate(&module).unwrap();
    module
}

#[derive(Clone, Debug, PartialEq)]
enum Number {
    F32(f32),
    U32(u32),
    Bool(bool),
    Vector(Vec<Number>),
}

/// One call of a function without local variables, loops and branches.
struct Frame<'a> {
    module: &'a Module,
    function: &'a Function,
    arguments: Vec<Number>,
    known: Vec<Option<Number>>,
}

fn call(module: &Module, name: &str, arguments: Vec<Number>) -> Number {
    let (_, function) = module.functions.iter().find(|(_, function)| function.name.as_deref() == Some(name)).unwrap();
    run(module, function, arguments)
}

fn run(module: &Module, function: &Function, arguments: Vec<Number>) -> Number {
    let mut frame = Frame { module, function, arguments, known: vec![None; function.expressions.len()] };
    for statement in &function.body {
        match statement {
            Statement::Emit(_) => {}
            Statement::Call { function, arguments, result } => {
                let arguments = arguments.iter().map(|&argument| frame.value(argument)).collect();
                let value = run(module, &module.functions[*function], arguments);
                frame.known[result.unwrap().index()] = Some(value);
            }
            Statement::Return { value } => return frame.value(value.unwrap()),
            other => panic!("a library function contains {other:?}"),
        }
    }
    panic!("a library function returns nothing")
}

impl Frame<'_> {
    fn value(&mut self, handle: Handle<Expression>) -> Number {
        if let Some(known) = &self.known[handle.index()] {
            return known.clone();
        }
        let value = match self.function.expressions[handle] {
            Expression::Literal(Literal::F32(value)) => Number::F32(value),
            Expression::Literal(Literal::U32(value)) => Number::U32(value),
            Expression::FunctionArgument(index) => self.arguments[index as usize].clone(),
            Expression::Compose { ref components, .. } => {
                Number::Vector(components.iter().map(|&part| self.value(part)).collect())
            }
            Expression::AccessIndex { base, index } => match self.value(base) {
                Number::Vector(parts) => parts[index as usize].clone(),
                other => panic!("indexes {other:?}"),
            },
            Expression::Unary { op: UnaryOperator::Negate, expr } => match self.value(expr) {
                Number::F32(value) => Number::F32(-value),
                other => panic!("negates {other:?}"),
            },
            Expression::Binary { op, left, right } => binary(op, self.value(left), self.value(right)),
            Expression::Select { condition, accept, reject } => match self.value(condition) {
                Number::Bool(true) => self.value(accept),
                Number::Bool(false) => self.value(reject),
                other => panic!("selects by {other:?}"),
            },
            Expression::Math { fun, arg, arg1, arg2, .. } => {
                let x: Vec<f32> = [Some(arg), arg1, arg2].into_iter().flatten().map(|part| self.float(part)).collect();
                Number::F32(math(fun, &x))
            }
            ref other => panic!("{:?} of {:?} is not interpreted", other, self.module.functions.len()),
        };
        self.known[handle.index()] = Some(value.clone());
        value
    }

    fn float(&mut self, handle: Handle<Expression>) -> f32 {
        match self.value(handle) {
            Number::F32(value) => value,
            other => panic!("a float function of {other:?}"),
        }
    }
}

fn binary(op: BinaryOperator, left: Number, right: Number) -> Number {
    use BinaryOperator as B;
    match (op, left, right) {
        (op, Number::Vector(a), Number::Vector(b)) => {
            Number::Vector(a.into_iter().zip(b).map(|(a, b)| binary(op, a, b)).collect())
        }
        (B::Add, Number::F32(a), Number::F32(b)) => Number::F32(a + b),
        (B::Subtract, Number::F32(a), Number::F32(b)) => Number::F32(a - b),
        (B::Multiply, Number::F32(a), Number::F32(b)) => Number::F32(a * b),
        (B::Divide, Number::F32(a), Number::F32(b)) => Number::F32(a / b),
        (B::Equal, Number::F32(a), Number::F32(b)) => Number::Bool(a == b),
        (B::Less, Number::F32(a), Number::F32(b)) => Number::Bool(a < b),
        (B::Greater, Number::F32(a), Number::F32(b)) => Number::Bool(a > b),
        (B::GreaterEqual, Number::F32(a), Number::F32(b)) => Number::Bool(a >= b),
        (B::And, Number::Bool(a), Number::Bool(b)) => Number::Bool(a & b),
        (B::Add, Number::U32(a), Number::U32(b)) => Number::U32(a.wrapping_add(b)),
        (B::Subtract, Number::U32(a), Number::U32(b)) => Number::U32(a.wrapping_sub(b)),
        (B::ExclusiveOr, Number::U32(a), Number::U32(b)) => Number::U32(a ^ b),
        (B::InclusiveOr, Number::U32(a), Number::U32(b)) => Number::U32(a | b),
        (B::ShiftLeft, Number::U32(a), Number::U32(b)) => Number::U32(a << b),
        (B::ShiftRight, Number::U32(a), Number::U32(b)) => Number::U32(a >> b),
        (op, a, b) => panic!("{op:?} of {a:?} and {b:?} is not interpreted"),
    }
}

fn math(fun: MathFunction, x: &[f32]) -> f32 {
    match fun {
        MathFunction::Abs => x[0].abs(),
        MathFunction::Min => x[0].min(x[1]),
        MathFunction::Max => x[0].max(x[1]),
        MathFunction::Sqrt => x[0].sqrt(),
        MathFunction::Pow => x[0].powf(x[1]),
        MathFunction::Clamp => x[0].clamp(x[1], x[2]),
        MathFunction::Sign if x[0] == 0.0 => 0.0,
        MathFunction::Sign => x[0].signum(),
        MathFunction::Floor => x[0].floor(),
        MathFunction::Round => x[0].round_ties_even(),
        MathFunction::Exp => x[0].exp(),
        MathFunction::Log => x[0].ln(),
        other => panic!("{other:?} is not interpreted"),
    }
}

fn evaluate(module: &Module, name: &str, x: f32) -> f32 {
    match call(module, name, vec![Number::F32(x)]) {
        Number::F32(value) => value,
        other => panic!("{name} gives {other:?}"),
    }
}

/// A function of the library with its meaning and the range to try.
type Named = (&'static str, fn(&[f64]) -> f64, (f64, f64));

/// The functions of the library that a row of the pointwise table calls on its operand alone, and that row's meaning.
fn rows() -> Vec<Named> {
    let named = |wgsl: &'static str| wgsl.strip_prefix("wg_").and(wgsl.strip_suffix("({0})"));
    TABLE.iter().filter_map(|row| named(row.wgsl).map(|name| (name, row.op.host(), row.range))).collect()
}

#[test]
fn the_library_is_valid_for_both_widths() {
    parse(MATH);
    parse(&format!("alias F = vec4<f32>;\n{}", body(MATH)));
    parse(&format!("alias F = f32;\n{}\n{}", body(MATH), body(THREEFRY)));
}

#[test]
fn every_library_function_of_the_table_is_there() {
    let module = parse(MATH);
    for row in TABLE {
        for (at, _) in row.wgsl.match_indices("wg_") {
            let name = row.wgsl[at..].split('(').next();
            assert!(module.functions.iter().any(|(_, function)| function.name.as_deref() == name), "{name:?}");
        }
    }
    assert_eq!(rows().len(), 21);
}

#[test]
fn functions_are_accurate_to_about_1e_6() {
    let module = parse(MATH);
    for (name, host, (low, high)) in rows() {
        let mut worst = (0.0, 0.0);
        for step in 0..=20_000 {
            let x = (low + (high - low) * f64::from(step) / 20_000.0) as f32;
            let wanted = host(&[x.into()]);
            let error = (f64::from(evaluate(&module, name, x)) - wanted).abs() / wanted.abs().max(1.0);
            if error > worst.0 {
                worst = (error, f64::from(x));
            }
        }
        assert!(worst.0 < 1e-6, "{name} is off by {:e} at {}", worst.0, worst.1);
    }
}

#[test]
fn small_arguments_keep_their_relative_accuracy() {
    let module = parse(MATH);
    for name in
        ["wg_log1p", "wg_expm1", "wg_sin", "wg_asin", "wg_atan", "wg_sinh", "wg_asinh", "wg_atanh", "wg_tanh", "wg_erf"]
    {
        let (_, host, _) = rows().into_iter().find(|row| row.0 == name).unwrap();
        for x in [1e-30f32, 1e-6, -1e-3, 0.03, -0.2, 0.49, 0.59, -0.61] {
            let (have, wanted) = (f64::from(evaluate(&module, name, x)), host(&[x.into()]));
            assert!((have - wanted).abs() < 4e-7 * wanted.abs(), "{name}({x}) = {have}, not {wanted}");
        }
    }
}

#[test]
fn large_arguments_reach_the_limits() {
    let module = parse(MATH);
    let limits = [
        ("wg_tanh", 1.0, -1.0),
        ("wg_erf", 1.0, -1.0),
        ("wg_sigmoid", 1.0, 0.0),
        ("wg_atan", std::f32::consts::FRAC_PI_2, -std::f32::consts::FRAC_PI_2),
        ("wg_silu_grad", 1.0, 0.0),
        ("wg_gelu_grad", 1.0, 0.0),
        ("wg_gelu_tanh_grad", 1.0, 0.0),
    ];
    for (name, right, left) in limits {
        for x in [30.0f32, 1e4, 1e30] {
            // The arc tangent is still on its way.
            let rest = if name == "wg_atan" { 1.0 / x } else { 0.0 };
            assert!((evaluate(&module, name, x) - right).abs() < 1e-6 + rest, "{name}({x})");
            assert!((evaluate(&module, name, -x) - left).abs() < 1e-4 + rest, "{name}(-{x})");
        }
    }
    for x in [-1e4f32, -777.7, 1234.5, 31416.0] {
        assert!((f64::from(evaluate(&module, "wg_sin", x)) - f64::from(x).sin()).abs() < 2e-6, "sin({x})");
        assert!((f64::from(evaluate(&module, "wg_cos", x)) - f64::from(x).cos()).abs() < 2e-6, "cos({x})");
    }
}

#[test]
fn functions_of_two_numbers_are_those_of_the_host() {
    let module = parse(MATH);
    let numbers = [0.0f32, 1e-20, -0.25, 0.5, -1.0, 2.0, 3.0, -6.0, 7.5, -1e4, 3e19];
    for row in TABLE.iter().filter(|row| row.wgsl.starts_with("wg_") && row.arity == 2) {
        let name = row.wgsl.trim_end_matches("({0}, {1})");
        for x in numbers {
            for y in numbers {
                let wanted = (row.op.host())(&[x.into(), y.into()]);
                let Number::F32(have) = call(&module, name, vec![Number::F32(x), Number::F32(y)]) else {
                    panic!("{name} gives no float");
                };
                let defined = wanted.is_finite() && wanted.abs() < 3e38 && (wanted == 0.0 || wanted.abs() > 1e-38);
                // A quotient of more digits than an f32 has leaves no remainder to speak of.
                let close = (f64::from(have) - wanted).abs() < 1e-6 * wanted.abs().max(1e-37);
                assert!(!defined || close || (name == "wg_fmod" && (x / y).abs() > 1e7), "{name}({x}, {y}) = {have}");
            }
        }
    }
}

#[test]
fn random_bits_are_those_of_the_host() {
    let module = parse(THREEFRY);
    for [seed, first, stream, sample, within] in
        [[0, 0, 0, 0, 0], [u32::MAX; 5], [42, 7, 3, 5, 1_000_003], [1, 1 << 31, 2, 1 << 31, 9]]
    {
        let arguments = [seed, stream, first.wrapping_add(sample), within].map(Number::U32).to_vec();
        let wanted = random_bits([seed, first], stream, sample, within);
        assert_eq!(call(&module, "wg_random_bits", arguments), Number::U32(wanted));
    }
}
