//! Rows of activations and of composites of pointwise operations.

use super::harness::{Draw, Sample, f32s, i32s, sample};
use super::table::{over, u};
use wgrad::dtype::DType;
use wgrad::graph::Tensor;

const TWO: &[&[usize]] = &[&[7, 9], &[4, 8]];

fn u32s(shape: &[usize], low: i32, high: i32) -> Draw {
    Draw { dtype: DType::U32, ..i32s(shape, low, high) }
}

fn bools(shape: &[usize]) -> Draw {
    Draw { dtype: DType::Bool, ..f32s(shape, 0.0, 1.0) }
}

/// One expression of two equal operands.
fn two(draw: Draw, build: for<'g> fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>) -> Sample {
    sample(&[draw.clone(), draw], move |x| build(x[0], x[1]))
}

pub fn activations() -> Vec<Sample> {
    let builds: [for<'g> fn(Tensor<'g>) -> Tensor<'g>; 20] = [
        |x| x.leaky_relu(0.1),
        |x| (x * 4.0).relu6(),
        |x| x.elu(0.7),
        |x| x.celu(1.5),
        |x| x.selu(),
        |x| x.softplus_with(2.0, 3.0),
        |x| x.mish(),
        |x| x.softsign(),
        |x| x.tanhshrink(),
        |x| x.softshrink(0.5),
        |x| x.hardshrink(0.5),
        |x| x.hardtanh(-0.5, 1.5),
        |x| (x * 2.0).hardsigmoid(),
        |x| (x * 2.0).hardswish(),
        |x| x.threshold(0.3, -1.0),
        |x| x.log_sigmoid(),
        |x| x.rrelu(0.125, 0.25),
        |x| x.quick_gelu(),
        |x| x.softmin(0),
        |x| x.gelu() + x.silu() + x.softmin(-1),
    ];
    let mut rows: Vec<Sample> = builds.into_iter().flat_map(|build| over(&[&[7, 9]], build)).collect();
    rows.extend(over(&[&[0, 4], &[1], &[], &[33, 5]], |x| x.mish() + x.hardswish()));
    rows
}

pub fn gates() -> Vec<Sample> {
    let prelu = |x: &[usize], w: &[usize]| sample(&[u(x), u(w)], |x| x[0].prelu(x[1]));
    let mut rows = vec![prelu(&[5, 3], &[3]), prelu(&[2, 4, 5], &[4]), prelu(&[7], &[1]), prelu(&[2, 3], &[])];
    rows.extend(over(TWO, |x| x.t().glu(-1).t()).into_iter().skip(1));
    rows.extend(over(&[&[4, 8], &[3, 6, 5]], |x| x.glu(1)));
    rows.extend(over(&[&[4, 8]], |x| x.geglu(0)));
    rows.extend(over(&[&[4, 10]], |x| x.swiglu(-1)));
    rows.extend(over(&[&[4, 2]], |x| x.reglu(1)));
    rows
}

pub fn powers() -> Vec<Sample> {
    let mut rows = over(&[&[7, 9]], |x| x.powf(0.0) + x.powf(1.0) + x.powf(2.0) + x.powf(3.0) + x.powf(4.0));
    rows.extend(over(&[&[7, 9], &[12]], |x| x.powf(5.0) * 0.1).into_iter().map(|s| s.tolerance(1e-5, 1e-5)));
    rows.push(sample(&[f32s(&[4, 4], 0.5, 2.0)], |x| x[0].powf(-2.0) + x[0].powf(-1.0) + x[0].powf(-0.5)));
    rows.push(sample(&[f32s(&[4, 4], -2.0, -0.5)], |x| x[0].powf(-3.0) + x[0].powf(6.0)).tolerance(1e-5, 1e-5));
    rows.push(sample(&[f32s(&[5, 3], 0.1, 4.0)], |x| x[0].log10() + x[0].log2() * x[0].square()));
    rows.push(sample(&[f32s(&[5, 3], -1.3, 1.3)], |x| x[0].tan()));
    rows.push(sample(&[f32s(&[5, 3], 0.05, 0.95)], |x| x[0].logit(None) + x[0].logit(Some(0.2))));
    rows.extend(over(&[&[7, 9]], |x| x.frac() + x.exp2() + x.expm1()));
    rows
}

pub fn remainders() -> Vec<Sample> {
    let floats = |a: f64, b: f64, c: f64, d: f64| [f32s(&[6, 9], a, b), f32s(&[6, 9], c, d)];
    let ints = |c: i32, d: i32| [i32s(&[6, 9], -20, 20), i32s(&[6, 9], c, d)];
    vec![
        sample(&floats(-9.0, 9.0, 0.5, 2.0), |x| x[0].fmod(x[1])).tolerance(1e-5, 1e-5),
        sample(&floats(-9.0, 9.0, -2.0, -0.5), |x| x[0].fmod(x[1])).tolerance(1e-5, 1e-5),
        sample(&floats(-9.0, 9.0, -2.0, -0.5), |x| x[0].remainder(x[1])).tolerance(1e-5, 1e-5),
        sample(&floats(-9.0, 9.0, 0.5, 2.0), |x| x[0].remainder(x[1])).tolerance(1e-5, 1e-5),
        sample(&floats(-9.0, 9.0, -2.0, -0.5), |x| x[0].floor_divide(x[1])),
        // Quotients that are whole.
        sample(&[i32s(&[50], 0, 90)], |x| (x[0].cast(DType::F32) * 3.0).fmod(3.0)).no_gradient(),
        sample(&[i32s(&[50], -90, 90)], |x| x[0].cast(DType::F32).floor_divide(7)).no_gradient(),
        sample(&ints(1, 9), |x| x[0].fmod(x[1]) * 100 + x[0].remainder(x[1])).no_gradient(),
        sample(&ints(-9, -1), |x| x[0].fmod(x[1]) * 100 + x[0].remainder(x[1])).no_gradient(),
        sample(&ints(-3, 3), |x| x[0].fmod(x[1])).no_gradient(),
        sample(&ints(1, 9), |x| x[0].floor_divide(x[1])).no_gradient(),
        sample(&ints(-9, -1), |x| x[0].floor_divide(x[1])).no_gradient(),
        sample(&[u32s(&[9], 0, 50), u32s(&[9], 1, 9)], |x| x[0].remainder(x[1]) + x[0].floor_divide(x[1]) * 10)
            .no_gradient(),
    ]
}

pub fn bits() -> Vec<Sample> {
    let signed = i32s(&[5, 8], -1_000_000, 1_000_000);
    let rows = vec![
        two(signed.clone(), |a, b| a.bitwise_and(b)),
        two(signed.clone(), |a, b| a.bitwise_or(b) + a.bitwise_xor(b)),
        two(u32s(&[7], 0, 1_000_000), |a, b| a.bitwise_or(b).bitwise_xor(a.bitwise_not())),
        two(bools(&[5, 5]), |a, b| a.bitwise_and(b).bitwise_xor(b).bitwise_not()),
        two(bools(&[16]), |a, b| a.bitwise_or(b).logical_xor(a)),
        sample(&[signed.clone(), i32s(&[5, 8], -3, 36)], |x| x[0].bitwise_left_shift(x[1])),
        sample(&[signed.clone(), i32s(&[5, 8], -3, 36)], |x| x[0].bitwise_right_shift(x[1])),
        sample(&[u32s(&[5, 8], 0, 1_000_000), u32s(&[5, 8], 0, 36)], |x| {
            x[0].bitwise_left_shift(x[1]).bitwise_or(x[0].bitwise_right_shift(x[1]))
        }),
        sample(&[signed], |x| x[0].bitwise_and(255) + x[0].bitwise_right_shift(3)),
    ];
    rows.into_iter().map(Sample::no_gradient).collect()
}

pub fn limits() -> Vec<Sample> {
    let mut rows = over(TWO, |x| x.clamp(-1.0, 0.5));
    rows.extend(over(TWO, |x| x.clamp_min(-0.3) * x.clamp_max(0.4)));
    rows.extend(over(&[&[7, 9]], |x| x.clamp(1.0, -1.0)));
    rows.push(two(u(&[6, 5]), |a, b| a.clamp(b, 1.0)));
    rows.push(two(u(&[6, 5]), |a, b| a.clamp_min(b) + a.clamp_max(b)));
    rows.push(sample(&[u(&[6, 5]), u(&[5]), u(&[6, 1])], |x| x[0].clamp(x[1], x[2])));
    rows.push(sample(&[i32s(&[6, 5], -9, 9)], |x| x[0].clamp(-3, 4)).no_gradient());
    rows
}

pub fn choices() -> Vec<Sample> {
    let fill = |x: &[usize], mask: &[usize]| sample(&[u(x), bools(mask)], |x| x[0].masked_fill(x[1], -3.0) * 2.0);
    vec![
        fill(&[5, 6], &[5, 6]),
        fill(&[5, 6], &[6]),
        fill(&[5, 6], &[5, 1]),
        fill(&[5, 6], &[]),
        fill(&[0, 6], &[6]),
        sample(&[u(&[4, 8]), bools(&[8]), u(&[])], |x| x[0].masked_fill(x[1], x[2])),
        sample(&[i32s(&[9], 0, 9), bools(&[9])], |x| x[0].masked_fill(x[1], -1)).no_gradient(),
        sample(&[bools(&[3, 1]), u(&[4]), u(&[3, 4])], |x| x[0].select(x[1], x[2])),
        sample(&[bools(&[3, 1]), u(&[4])], |x| x[0].select(x[1], 2.0) + x[0].select(-1.0, x[1])),
    ]
}

pub fn blends() -> Vec<Sample> {
    let three = [u(&[6, 5]), u(&[5]), f32s(&[6, 1], 0.5, 2.0)];
    vec![
        sample(&three, |x| x[0].lerp(x[1], 0.3)),
        sample(&three, |x| x[0].lerp(x[1], x[2])),
        sample(&three, |x| x[0].addcmul(x[1], x[2], 0.5)),
        sample(&three, |x| x[0].addcdiv(x[1], x[2], -2.0)),
        sample(&three, |x| x[0].xlogy(x[2])),
        sample(&three, |x| x[0].logaddexp(x[1])),
        sample(&three, |x| (x[0] * 40.0).logaddexp(x[1] * 40.0)),
        sample(&three, |x| x[0].hypot(x[1]) + x[0].atan2(x[2])),
        sample(&[u(&[])], |x| x[0].lerp(x[0] * 2.0, 0.5).logaddexp(1.0)),
    ]
}

/// Arguments at which a formula would divide by 0 or leave its domain.
pub fn special_values() -> Vec<Sample> {
    let zero = || f32s(&[3, 4], 0.0, 0.0);
    let rows = vec![
        sample(&[zero()], |x| x[0].softplus() + x[0].mish() + x[0].log_sigmoid()),
        sample(&[zero()], |x| x[0].powf(3.0) + x[0].pow(5.0) + x[0].pow(2.5)),
        two(zero(), |a, b| a.atan2(b) + a.hypot(b)),
        two(zero(), |a, b| a.xlogy(b)),
        sample(&[zero()], |x| x[0].vector_norm(2.0, &[1])),
        sample(&[zero()], |x| x[0].vector_norm(3.5, &[1]) + x[0].std(&[1], 1)),
        sample(&[zero()], |x| x[0].elu(1.0) + x[0].selu() + x[0].celu(2.0)),
        sample(&[zero(), u(&[3, 4])], |x| x[0].cosine_similarity(x[1], 1, 1e-8)),
        sample(&[f32s(&[5], 1.0, 1.0)], |x| x[0].asin() + x[0].acos()).no_gradient(),
    ];
    // One-sided slopes are none that central differences could find; that they are finite is what is asked here.
    rows.into_iter().map(Sample::no_differences).collect()
}
