//! First values of parameters: the initialisers of `torch.nn.init`, each a function of seed and parameter alone.
//!
//! Fans follow from the shape. A matrix is `[in, out]`, as the weight of a [`super::Linear`] (PyTorch's is
//! transposed); tensors with more axes are `[out, in / groups, kernel..]`, as the weights of convolutions are.
//! Values are computed in f64 and rounded to f32. Nothing here knows graphs.

use crate::random::Stream;
use crate::shape::Shape;
use std::sync::Arc;

/// The values that a parameter starts with.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    Zeros,
    Ones,
    /// This everywhere.
    Constant(f32),
    /// Uniform between `-bound` and `bound`.
    Uniform(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// Normal, and drawn again until it lies in `low..=high`; `trunc_normal_`. The bounds are values, not deviations.
    TruncNormal {
        mean: f32,
        std: f32,
        low: f32,
        high: f32,
    },
    /// Uniform with the variance `2 gain^2 / (fan_in + fan_out)`.
    XavierUniform {
        gain: f64,
    },
    /// Normal with the variance `2 gain^2 / (fan_in + fan_out)`.
    XavierNormal {
        gain: f64,
    },
    /// Uniform with the variance `gain^2 / fan`.
    KaimingUniform {
        fan: Fan,
        gain: f64,
    },
    /// Normal with the variance `gain^2 / fan`.
    KaimingNormal {
        fan: Fan,
        gain: f64,
    },
    /// Orthonormal rows or columns, whichever are shorter in number, times `gain`; all axes after the first are one.
    Orthogonal {
        gain: f64,
    },
    /// Normal with this deviation, and of each input's weights (a row of `[in, out]`) this share set to 0.
    Sparse {
        sparsity: f64,
        std: f32,
    },
    /// The identity matrix, cut to shape.
    Eye,
    /// Convolution kernels that give their input back, in each of `groups` groups.
    Dirac {
        groups: usize,
    },
    /// These, row-major.
    Values(Arc<[f32]>),
}

/// Which number of connections a Kaiming initialiser keeps the variance by; PyTorch's `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fan {
    /// Forward, by the inputs of each output.
    In,
    /// Backward, by the outputs of each input.
    Out,
}

/// What follows a layer, for [`gain`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Nonlinearity {
    Linear,
    Sigmoid,
    Tanh,
    Relu,
    /// With this slope below zero.
    LeakyRelu(f64),
    Selu,
}

/// What a layer's weights are multiplied by so that the variance outlives what follows it; `calculate_gain`.
pub fn gain(after: Nonlinearity) -> f64 {
    match after {
        Nonlinearity::Linear | Nonlinearity::Sigmoid => 1.0,
        Nonlinearity::Tanh => 5.0 / 3.0,
        Nonlinearity::Relu => std::f64::consts::SQRT_2,
        Nonlinearity::LeakyRelu(slope) => (2.0 / (1.0 + slope * slope)).sqrt(),
        Nonlinearity::Selu => 0.75,
    }
}

impl Init {
    /// He initialisation before ReLU: `kaiming_normal_(nonlinearity="relu")`.
    pub fn he() -> Init {
        Init::KaimingNormal { fan: Fan::In, gain: gain(Nonlinearity::Relu) }
    }

    /// Truncated at two deviations: `trunc_normal_(std=std, a=-2 * std, b=2 * std)`, as vision transformers start.
    pub fn trunc_normal(std: f32) -> Init {
        Init::TruncNormal { mean: 0.0, std, low: -2.0 * std, high: 2.0 * std }
    }

    /// The values for a shape, row-major; or why the initialiser does not fit it.
    pub fn values(&self, shape: &Shape, stream: &Stream) -> Result<Vec<f32>, String> {
        let n = shape.numel();
        let uniform = |variance: f64| {
            let bound = (3.0 * variance).sqrt() as f32;
            stream.uniform(n, -bound, bound)
        };
        let normal = |variance: f64| stream.normal(n, 0.0, variance.sqrt() as f32);
        let xavier =
            |gain: f64| fans(shape).map(|(fan_in, fan_out)| 2.0 * gain * gain / (fan_in + fan_out).max(1) as f64);
        let kaiming = |fan: Fan, gain: f64| {
            fans(shape).map(|(fan_in, fan_out)| {
                let fan = match fan {
                    Fan::In => fan_in,
                    Fan::Out => fan_out,
                };
                gain * gain / fan.max(1) as f64
            })
        };
        Ok(match *self {
            Init::Zeros => vec![0.0; n],
            Init::Ones => vec![1.0; n],
            Init::Constant(value) => vec![value; n],
            Init::Uniform(bound) => stream.uniform(n, -bound, bound),
            Init::Normal(std) => stream.normal(n, 0.0, std),
            Init::TruncNormal { mean, std, low, high } => {
                trunc_normal(n, stream, [mean, std, low, high].map(f64::from))?
            }
            Init::XavierUniform { gain } => uniform(xavier(gain)?),
            Init::XavierNormal { gain } => normal(xavier(gain)?),
            Init::KaimingUniform { fan, gain } => uniform(kaiming(fan, gain)?),
            Init::KaimingNormal { fan, gain } => normal(kaiming(fan, gain)?),
            Init::Orthogonal { gain } => orthogonal(shape, stream, gain)?,
            Init::Sparse { sparsity, std } => sparse(shape, stream, sparsity, std)?,
            Init::Eye => eye(shape)?,
            Init::Dirac { groups } => dirac(shape, groups)?,
            Init::Values(ref values) if values.len() == n => values.to_vec(),
            Init::Values(ref values) => {
                return Err(format!("it has {n} elements but is given {} initial values", values.len()));
            }
        })
    }
}

/// Inputs of each output and outputs of each input: `_calculate_fan_in_and_fan_out`, with matrices `[in, out]`.
pub fn fans(shape: &Shape) -> Result<(usize, usize), String> {
    match shape[..] {
        [] | [_] => Err(format!("fans need at least two axes, and {shape} has {}", shape.rank())),
        [fan_in, fan_out] => Ok((fan_in, fan_out)),
        [out, group_in, ref kernel @ ..] => {
            let field: usize = kernel.iter().product();
            Ok((group_in * field, out * field))
        }
    }
}

/// A number in 0..1 with 53 bits.
fn unit(words: [u32; 2]) -> f64 {
    let bits = (u64::from(words[0]) << 21) | u64::from(words[1] >> 11);
    (bits as f64 + 0.5) / (1u64 << 53) as f64
}

/// By the inverse of the distribution function, so that each element takes one draw. Bounds further than about
/// eight deviations on one side of the mean are below what f64 resolves.
fn trunc_normal(n: usize, stream: &Stream, [mean, std, low, high]: [f64; 4]) -> Result<Vec<f32>, String> {
    if low.is_nan() || high.is_nan() || low >= high || std <= 0.0 || std.is_nan() {
        return Err(format!("a truncated normal needs std > 0 and low < high, got std {std} and {low}..{high}"));
    }
    // The lower half is where f64 has its digits.
    let mirrored = low + high > 2.0 * mean;
    let [from, to] =
        if mirrored { [mean - high, mean - low] } else { [low - mean, high - mean] }.map(|x| normal_cdf(x / std));
    let draw = |index: u64| {
        let z = normal_quantile(from + (to - from) * unit(stream.words(index))) * std;
        (mean + if mirrored { -z } else { z }).clamp(low, high) as f32
    };
    Ok((0..n as u64).map(draw).map(|x| x.clamp(low as f32, high as f32)).collect())
}

/// The normal distribution function; with a relative error below 1e-7 in the lower tail.
fn normal_cdf(x: f64) -> f64 {
    if x > -5.0 {
        return 0.5 * (1.0 + crate::graph::pointwise::erf(x / std::f64::consts::SQRT_2));
    }
    // Mills' ratio as a continued fraction (Abramowitz and Stegun 26.2.14).
    let fraction = (1..=60).rev().fold(-x, |tail, k| -x + f64::from(k) / tail);
    (-0.5 * x * x).exp() / (fraction * (2.0 * std::f64::consts::PI).sqrt())
}

/// The inverse of [`normal_cdf`] with a relative error of about 1e-9: Acklam's rational approximations (2003).
fn normal_quantile(p: f64) -> f64 {
    const TAIL: f64 = 0.02425;
    let polynomial = |x: f64, coefficients: &[f64]| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    if p > 1.0 - TAIL {
        return -normal_quantile(1.0 - p);
    }
    if p < TAIL {
        let q = (-2.0 * p.max(f64::MIN_POSITIVE).ln()).sqrt();
        return polynomial(q, &TAIL_ABOVE) / (polynomial(q, &TAIL_BELOW) * q + 1.0);
    }
    let (q, r) = (p - 0.5, (p - 0.5) * (p - 0.5));
    polynomial(r, &CENTRE_ABOVE) * q / (polynomial(r, &CENTRE_BELOW) * r + 1.0)
}

const CENTRE_ABOVE: [f64; 6] = [
    -3.969683028665376e1,
    2.209460984245205e2,
    -2.759285104469687e2,
    1.38357751867269e2,
    -3.066479806614716e1,
    2.506628277459239,
];
const CENTRE_BELOW: [f64; 5] =
    [-5.447609879822406e1, 1.615858368580409e2, -1.556989798598866e2, 6.680131188771972e1, -1.328068155288572e1];
const TAIL_ABOVE: [f64; 6] = [
    -7.784894002430293e-3,
    -3.223964580411365e-1,
    -2.400758277161838,
    -2.549732539343734,
    4.374664141464968,
    2.938163982698783,
];
const TAIL_BELOW: [f64; 4] = [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416];

/// The orthogonal factor of a normal matrix, its columns turned so that the triangular factor has a positive
/// diagonal, which makes it uniformly distributed (Mezzadri 2007).
fn orthogonal(shape: &Shape, stream: &Stream, gain: f64) -> Result<Vec<f32>, String> {
    if shape.rank() < 2 {
        return Err(format!("an orthogonal start needs at least two axes, and {shape} has {}", shape.rank()));
    }
    let (rows, n) = (shape[0], shape.numel());
    let columns = n / rows.max(1);
    let (tall, narrow) = (rows.max(columns), rows.min(columns));
    let drawn = stream.normal(n, 0.0, 1.0);
    // The vectors to be made orthonormal lie one after the other.
    let at = |vector: usize, k: usize| if rows < columns { vector * columns + k } else { k * columns + vector };
    let mut vectors: Vec<Vec<f64>> =
        (0..narrow).map(|vector| (0..tall).map(|k| f64::from(drawn[at(vector, k)])).collect()).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for index in 0..narrow {
        let (done, rest) = vectors.split_at_mut(index);
        let vector = &mut rest[0];
        // Gram and Schmidt twice is enough (Giraud et al. 2005); the diagonal is positive by construction.
        for _ in 0..2 {
            for other in done.iter() {
                let share = dot(other, vector);
                vector.iter_mut().zip(other).for_each(|(v, o)| *v -= share * o);
            }
        }
        let length = dot(vector, vector).sqrt().max(f64::MIN_POSITIVE);
        vector.iter_mut().for_each(|v| *v /= length);
    }
    let mut values = vec![0.0; n];
    for (vector, numbers) in vectors.iter().enumerate() {
        for (k, number) in numbers.iter().enumerate() {
            values[at(vector, k)] = (gain * number) as f32;
        }
    }
    Ok(values)
}

/// As `sparse_`, whose columns are the rows here: the weights of one input.
fn sparse(shape: &Shape, stream: &Stream, sparsity: f64, std: f32) -> Result<Vec<f32>, String> {
    let [rows, columns] = matrix(shape, "a sparse start")?;
    if !(0.0..=1.0).contains(&sparsity) {
        return Err(format!("the share of zeros must lie in 0..=1, got {sparsity}"));
    }
    let zeros = (sparsity * columns as f64).ceil() as usize;
    let mut values = stream.normal(rows * columns, 0.0, std);
    for row in 0..rows {
        let mut order: Vec<usize> = (0..columns).collect();
        for place in 0..zeros.min(columns) {
            // Draws beyond those of the values.
            let words = stream.words((1 << 48) + (row * columns + place) as u64);
            let other = place + (unit(words) * (columns - place) as f64) as usize;
            order.swap(place, other.min(columns - 1));
            values[row * columns + order[place]] = 0.0;
        }
    }
    Ok(values)
}

fn eye(shape: &Shape) -> Result<Vec<f32>, String> {
    let [rows, columns] = matrix(shape, "an identity")?;
    Ok((0..rows * columns).map(|i| if i / columns == i % columns { 1.0 } else { 0.0 }).collect())
}

fn matrix(shape: &Shape, what: &str) -> Result<[usize; 2], String> {
    match shape[..] {
        [rows, columns] => Ok([rows, columns]),
        _ => Err(format!("{what} needs a matrix, and {shape} has {} axes", shape.rank())),
    }
}

fn dirac(shape: &Shape, groups: usize) -> Result<Vec<f32>, String> {
    let [out, group_in, ref kernel @ ..] = shape[..] else {
        return Err(format!("a Dirac start needs [out, in / groups, kernel..], got {shape}"));
    };
    if kernel.is_empty() || kernel.len() > 3 {
        return Err(format!("a Dirac start needs one to three kernel axes, and {shape} has {}", kernel.len()));
    }
    if groups == 0 || !out.is_multiple_of(groups) {
        return Err(format!("the {out} output channels cannot be split into {groups} groups"));
    }
    let field: usize = kernel.iter().product();
    let middle = kernel.iter().fold(0, |index, size| index * size + size / 2);
    let mut values = vec![0.0; shape.numel()];
    for group in 0..groups {
        for channel in 0..(out / groups).min(group_in) {
            let row = (group * (out / groups) + channel) * group_in + channel;
            if let Some(value) = values.get_mut(row * field + middle) {
                *value = 1.0;
            }
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(init: Init, shape: &[usize]) -> Vec<f64> {
        let values = init.values(&shape.into(), &Stream::new(5, 1)).expect("fits");
        assert_eq!(values, init.values(&shape.into(), &Stream::new(5, 1)).expect("fits"), "not repeatable");
        assert_eq!(values.len(), shape.iter().product::<usize>());
        values.into_iter().map(f64::from).collect()
    }

    fn refused(init: Init, shape: &[usize]) -> String {
        init.values(&shape.into(), &Stream::new(5, 1)).expect_err("should be refused")
    }

    fn moments(x: &[f64]) -> (f64, f64) {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        (mean, x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64)
    }

    #[test]
    fn fans_are_those_of_pytorch_for_both_layouts() {
        // torch.nn.Linear(6, 4) has fan_in 6, and the weight [6, 4] here; Conv2d(8, 4, (3, 5), groups=2) has [4, 4, 3, 5].
        assert_eq!(fans(&[6, 4].into()), Ok((6, 4)));
        assert_eq!(fans(&[4, 4, 3, 5].into()), Ok((60, 60)));
        assert_eq!(fans(&[16, 2, 3].into()), Ok((6, 48)));
        assert!(fans(&[7].into()).is_err_and(|message| message.contains("two axes")));
    }

    #[test]
    fn variances_and_bounds_are_those_of_the_formulas() {
        let [relu, tanh] = [Nonlinearity::Relu, Nonlinearity::Tanh].map(gain);
        let leaky = gain(Nonlinearity::LeakyRelu(5f64.sqrt()));
        let cases = [
            (Init::XavierUniform { gain: 1.0 }, [300, 100, 1, 1], 2.0 / 400.0, true),
            (Init::XavierNormal { gain: tanh }, [40, 20, 5, 5], 25.0 / 9.0 * 2.0 / 1500.0, false),
            (Init::KaimingUniform { fan: Fan::In, gain: leaky }, [64, 30, 3, 3], 1.0 / 3.0 / 270.0, true),
            (Init::KaimingNormal { fan: Fan::Out, gain: relu }, [20, 64, 3, 3], 2.0 / 180.0, false),
            (Init::he(), [64, 30, 3, 3], 2.0 / 270.0, false),
        ];
        for (init, shape, variance, bounded) in cases {
            let x = values(init.clone(), &shape);
            let (mean, found) = moments(&x);
            assert!(mean.abs() < 5.0 * (variance / x.len() as f64).sqrt(), "{init:?}: mean {mean}");
            assert!((found / variance - 1.0).abs() < 0.04, "{init:?}: variance {found}, not {variance}");
            let bound = (3.0 * variance).sqrt();
            assert!(!bounded || x.iter().all(|v| v.abs() <= bound * (1.0 + 1e-6)), "{init:?}: beyond {bound}");
        }
        let matrix = moments(&values(Init::KaimingNormal { fan: Fan::In, gain: 1.0 }, &[50, 400])).1;
        assert!((matrix * 50.0 - 1.0).abs() < 0.04, "the fan of a matrix [in, out] is its first size");
        assert!(values(Init::Constant(0.25), &[3, 2]).iter().all(|&x| x == 0.25));
        assert!(refused(Init::he(), &[5]).contains("fans"));
    }

    #[test]
    fn a_truncated_normal_is_one_within_its_bounds() {
        for [mean, std, low, high] in [
            [0.0f32, 1.0, -2.0, 2.0],
            [0.5, 0.2, 0.4, 1.5],
            [0.0, 0.02, -2.0, 2.0],
            [0.0, 1.0, 6.0, 7.0],
            [1.0, 2.0, -9.0, 0.0],
        ] {
            let mut x = values(Init::TruncNormal { mean, std, low, high }, &[20_000]);
            x.sort_by(f64::total_cmp);
            assert!(x[0] >= f64::from(low) && x[19_999] <= f64::from(high));
            // Against the distribution itself: Kolmogorov's distance, of which 1.95 / sqrt(n) is exceeded once in a thousand.
            let tail = |x: f64| normal_cdf(-(x - f64::from(mean)) / f64::from(std));
            let (from, to) = (tail(f64::from(low)), tail(f64::from(high)));
            let worst = x.iter().enumerate().map(|(i, &x)| ((tail(x) - from) / (to - from) - i as f64 / 2e4).abs());
            let worst = worst.fold(0.0, f64::max);
            assert!(worst < 1.95 / 2e4f64.sqrt(), "{mean} {std} {low}..{high}: {worst}");
        }
        assert_eq!(Init::trunc_normal(0.02), Init::TruncNormal { mean: 0.0, std: 0.02, low: -0.04, high: 0.04 });
        assert!(refused(Init::TruncNormal { mean: 0.0, std: 1.0, low: 2.0, high: -2.0 }, &[3]).contains("low < high"));
    }

    #[test]
    fn orthogonal_vectors_are_orthonormal() {
        for (shape, gain) in
            [(&[5, 5][..], 1.0), (&[8, 3], 2.0), (&[3, 8], 0.5), (&[6, 2, 3, 3], 1.0), (&[20, 2, 3], 1.0)]
        {
            let x = values(Init::Orthogonal { gain }, shape);
            let (rows, columns) = (shape[0], x.len() / shape[0]);
            let at = |row: usize, column: usize| x[row * columns + column];
            let product = |a: usize, b: usize| -> f64 {
                match rows < columns {
                    true => (0..columns).map(|k| at(a, k) * at(b, k)).sum(),
                    false => (0..rows).map(|k| at(k, a) * at(k, b)).sum(),
                }
            };
            for a in 0..rows.min(columns) {
                for b in 0..rows.min(columns) {
                    let want = if a == b { gain * gain } else { 0.0 };
                    assert!((product(a, b) - want).abs() < 1e-6, "{shape:?}: {a} {b}");
                }
            }
        }
        // Uniform over the orthogonal matrices: no sign is preferred on the diagonal.
        let positive = (0..400).filter(|&stream| {
            let x = Init::Orthogonal { gain: 1.0 }.values(&[2, 2].into(), &Stream::new(1, stream)).expect("fits");
            x[0] > 0.0
        });
        assert!((positive.count() as f64 - 200.0).abs() < 50.0);
        assert!(refused(Init::Orthogonal { gain: 1.0 }, &[3]).contains("two axes"));
    }

    #[test]
    fn sparse_identity_and_dirac_have_their_zeros_where_pytorch_has_them() {
        let x = values(Init::Sparse { sparsity: 0.3, std: 0.1 }, &[50, 9]);
        assert!(x.chunks(9).all(|row| row.iter().filter(|&&v| v == 0.0).count() == 3));
        let places: Vec<f64> = (0..9).map(|c| x.chunks(9).filter(|row| row[c] == 0.0).count() as f64).collect();
        assert!(places.iter().all(|&count| count > 4.0 && count < 32.0), "{places:?}");
        assert_eq!(values(Init::Eye, &[2, 3]), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let x = values(Init::Dirac { groups: 2 }, &[4, 2, 3, 3]);
        let ones: Vec<usize> = (0..x.len()).filter(|&i| x[i] == 1.0).collect();
        assert_eq!(ones, [4, 18 + 9 + 4, 36 + 4, 54 + 9 + 4]);
        assert_eq!(x.iter().sum::<f64>(), 4.0);
        assert_eq!(values(Init::Dirac { groups: 1 }, &[1, 2, 3]), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(refused(Init::Dirac { groups: 3 }, &[4, 2, 3]).contains("groups"));
        assert!(refused(Init::Eye, &[4, 2, 3]).contains("matrix"));
        assert!(refused(Init::Sparse { sparsity: 1.5, std: 1.0 }, &[4, 2]).contains("0..=1"));
    }
}
