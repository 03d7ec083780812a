//! Composites of pointwise operations: powers, divisions and remainders, whole numbers and bits, limits, choices.
//!
//! What a float and an integer must compute differently is told apart here, by dtype; the rows of the
//! pointwise table know one of the two each.

use crate::dtype::DType;
use crate::graph::{Operand, PointwiseOp, Tensor};

impl<'g> Tensor<'g> {
    /// To a constant power, as `torch.pow`: small whole and half exponents avoid `pow`; bases below 0 need a whole one.
    #[track_caller]
    pub fn powf(self, exponent: f64) -> Tensor<'g> {
        match exponent {
            0.0 => self.zeros_like() + 1.0,
            1.0 => self,
            2.0 => self * self,
            3.0 => self * self * self,
            4.0 => self.square().square(),
            0.5 => self.sqrt(),
            -0.5 => self.rsqrt(),
            -1.0 => self.reciprocal(),
            -2.0 => self.square().reciprocal(),
            e => self.pow(e),
        }
    }

    /// The square of each element.
    #[track_caller]
    pub fn square(self) -> Tensor<'g> {
        self * self
    }

    /// The tangent.
    #[track_caller]
    pub fn tan(self) -> Tensor<'g> {
        self.sin() / self.cos()
    }

    /// Logarithm to the base 10.
    #[track_caller]
    pub fn log10(self) -> Tensor<'g> {
        self.log() * std::f64::consts::LOG10_E
    }

    /// What [`Tensor::trunc`] cuts off; it has the sign of `x`.
    #[track_caller]
    pub fn frac(self) -> Tensor<'g> {
        self - self.trunc()
    }

    /// Neither infinite nor NaN; see [`Tensor::isnan`].
    #[track_caller]
    pub fn isfinite(self) -> Tensor<'g> {
        self.isnan().logical_or(self.isinf()).logical_not()
    }

    // ---- division and remainder

    /// The remainder of a division truncated towards zero, with the sign of `self`: `torch.fmod`, C's `%`. An integer
    /// divided by 0 gives 0.
    #[track_caller]
    pub fn fmod(self, other: impl Into<Operand<'g>>) -> Tensor<'g> {
        let other = self.operand(other.into());
        let op = if self.dtype().is_int() { PointwiseOp::IntRem } else { PointwiseOp::Fmod };
        self.pointwise(op, &[other])
    }

    /// The remainder of a floored division, with the sign of `other`: `torch.remainder`, Python's `%`.
    #[track_caller]
    pub fn remainder(self, other: impl Into<Operand<'g>>) -> Tensor<'g> {
        let other = self.operand(other.into());
        let rest = self.fmod(other);
        if self.dtype() == DType::U32 {
            return rest;
        }
        let opposite = rest.lt(0.0).logical_xor(other.lt(0.0)).logical_and(rest.ne(0.0));
        opposite.select(rest + other, rest)
    }

    /// The largest whole number not above the quotient, as `torch.floor_divide`. No gradient.
    #[track_caller]
    pub fn floor_divide(self, other: impl Into<Operand<'g>>) -> Tensor<'g> {
        let other = self.operand(other.into());
        match self.dtype() {
            DType::I32 => {
                let quotient = self / other;
                let cut = (quotient * other).ne(self).logical_and(self.lt(0.0).logical_xor(other.lt(0.0)));
                cut.select(quotient - 1, quotient)
            }
            DType::U32 => self / other,
            // Without its remainder the quotient is whole up to rounding.
            DType::F32 | DType::F16 | DType::BF16 | DType::Bool | DType::U8 => {
                ((self - self.remainder(other)) / other).round()
            }
        }
    }

    // ---- bits

    /// On bools: exactly one of two.
    #[track_caller]
    pub fn logical_xor(self, other: Tensor<'g>) -> Tensor<'g> {
        if self.dtype() != DType::Bool {
            let message = format!("takes bool operands, got {}; cast one with `.cast(..)`", self.dtype());
            self.graph().record_error("logical_xor", message);
        }
        self.ne(other)
    }

    /// Of integers bit by bit, of bools [`Tensor::logical_and`].
    #[track_caller]
    pub fn bitwise_and(self, other: impl Into<Operand<'g>>) -> Tensor<'g> {
        self.bits(PointwiseOp::BitAnd, PointwiseOp::And, other.into())
    }

    /// Of integers bit by bit, of bools [`Tensor::logical_or`].
    #[track_caller]
    pub fn bitwise_or(self, other: impl Into<Operand<'g>>) -> Tensor<'g> {
        self.bits(PointwiseOp::BitOr, PointwiseOp::Or, other.into())
    }

    /// Of integers bit by bit, of bools [`Tensor::logical_xor`].
    #[track_caller]
    pub fn bitwise_xor(self, other: impl Into<Operand<'g>>) -> Tensor<'g> {
        self.bits(PointwiseOp::BitXor, PointwiseOp::Ne, other.into())
    }

    /// Of integers bit by bit, of bools [`Tensor::logical_not`].
    #[track_caller]
    pub fn bitwise_not(self) -> Tensor<'g> {
        if self.dtype() == DType::Bool { self.logical_not() } else { self.pointwise(PointwiseOp::BitNot, &[]) }
    }

    #[track_caller]
    fn bits(self, of_integers: PointwiseOp, of_bools: PointwiseOp, other: Operand<'g>) -> Tensor<'g> {
        let op = if self.dtype() == DType::Bool { of_bools } else { of_integers };
        self.pointwise(op, &[self.operand(other)])
    }

    /// Integers times `2^other`, without the bits that leave the word. A shift outside `0..32` gives 0.
    #[track_caller]
    pub fn bitwise_left_shift(self, other: impl Into<Operand<'g>>) -> Tensor<'g> {
        let other = self.operand(other.into());
        let shifted = self.pointwise(PointwiseOp::ShiftLeft, &[other]);
        beyond(other).select(0.0, shifted)
    }

    /// Integers divided by `2^other`, rounded down. A shift outside `0..32` gives 0, or -1 for negative integers.
    #[track_caller]
    pub fn bitwise_right_shift(self, other: impl Into<Operand<'g>>) -> Tensor<'g> {
        let other = self.operand(other.into());
        let shifted = self.pointwise(PointwiseOp::ShiftRight, &[other]);
        // The row shifts by 31 at most, which leaves only signs of an i32.
        if self.dtype() == DType::U32 { beyond(other).select(0.0, shifted) } else { shifted }
    }

    // ---- limits and choices

    /// Limited to `low..=high`, numbers or tensors, as `torch.clamp`. The gradient is 0 outside and at numbers; at a
    /// tensor's limit it is shared with it.
    #[track_caller]
    pub fn clamp(self, low: impl Into<Operand<'g>>, high: impl Into<Operand<'g>>) -> Tensor<'g> {
        match (low.into(), high.into()) {
            (Operand::Number(low), Operand::Number(high)) => {
                let inside = self.gt(low).logical_and(self.lt(high));
                inside.select(self, self.stop_gradient().maximum(low).minimum(high))
            }
            (low, high) => self.clamp_min(low).clamp_max(high),
        }
    }

    /// At least `low`: one side of [`Tensor::clamp`].
    #[track_caller]
    pub fn clamp_min(self, low: impl Into<Operand<'g>>) -> Tensor<'g> {
        match low.into() {
            Operand::Number(low) => self.gt(low).select(self, low),
            Operand::Tensor(low) => self.maximum(low),
        }
    }

    /// At most `high`: one side of [`Tensor::clamp`].
    #[track_caller]
    pub fn clamp_max(self, high: impl Into<Operand<'g>>) -> Tensor<'g> {
        match high.into() {
            Operand::Number(high) => self.lt(high).select(self, high),
            Operand::Tensor(high) => self.minimum(high),
        }
    }

    /// `value` where the bool `mask` holds, else the elements themselves; all broadcast.
    #[track_caller]
    pub fn masked_fill(self, mask: Tensor<'g>, value: impl Into<Operand<'g>>) -> Tensor<'g> {
        mask.select(self.operand(value.into()), self)
    }

    // ---- several operands

    /// `self + weight * (end - self)`.
    #[track_caller]
    pub fn lerp(self, end: Tensor<'g>, weight: impl Into<Operand<'g>>) -> Tensor<'g> {
        self + (end - self) * weight
    }

    /// `self + value * a * b`.
    #[track_caller]
    pub fn addcmul(self, a: Tensor<'g>, b: Tensor<'g>, value: f64) -> Tensor<'g> {
        self + a * b * value
    }

    /// `self + value * a / b`.
    #[track_caller]
    pub fn addcdiv(self, a: Tensor<'g>, b: Tensor<'g>, value: f64) -> Tensor<'g> {
        self + a / b * value
    }

    /// `self * log(other)`, 0 where `self` is 0.
    #[track_caller]
    pub fn xlogy(self, other: impl Into<Operand<'g>>) -> Tensor<'g> {
        let other = self.operand(other.into());
        let unused = self.eq(0.0).logical_and(other.le(0.0));
        self * unused.select(1.0, other).log()
    }

    /// `log(exp(self) + exp(other))`, in which nothing overflows; where one is infinite, the larger.
    #[track_caller]
    pub fn logaddexp(self, other: impl Into<Operand<'g>>) -> Tensor<'g> {
        let other = self.operand(other.into());
        let infinite = self.isinf().logical_or(other.isinf());
        let distance = infinite.select(0.0, self) - infinite.select(0.0, other);
        let distance = infinite.select(VANISHED, distance.abs());
        self.maximum(other) + (-distance).exp().log1p()
    }

    /// `log(x / (1 - x))`, the inverse of the sigmoid, of `x` limited to `eps..=1 - eps` where that is given.
    #[track_caller]
    pub fn logit(self, eps: Option<f64>) -> Tensor<'g> {
        let x = eps.map_or(self, |eps| self.clamp(eps, 1.0 - eps));
        x.log() - (-x).log1p()
    }
}

/// So far apart that of two exponentials only the larger counts, in f64 too.
const VANISHED: f64 = 1000.0;

/// Shifts that leave no bit of a word.
fn beyond(shift: Tensor<'_>) -> Tensor<'_> {
    let far = shift.gt(31.0);
    if shift.dtype() == DType::U32 { far } else { far.logical_or(shift.lt(0.0)) }
}
