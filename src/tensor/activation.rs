//! Activation functions under the names of `torch.nn.functional`.
//!
//! At kinks the gradients are PyTorch's too: 0 at both ends of a clipped range, the slope of the lower
//! branch at a threshold. GELU, SiLU, sigmoid, tanh, ReLU and softplus are rows of the pointwise table.

use crate::dtype::DType;
use crate::graph::Tensor;

/// Scale and alpha of SELU (Klambauer et al. 2017), for which mean 0 and variance 1 are a fixed point.
const SELU: (f64, f64) = (1.050_700_987_355_480_5, 1.673_263_242_354_377_2);

impl<'g> Tensor<'g> {
    /// Whether this tensor is a float; else an error is recorded, because constants such as slopes are not whole.
    #[track_caller]
    pub(super) fn is_float(self, op: &str) -> bool {
        let float = self.dtype().is_float();
        if !float {
            let message = format!("takes a floating-point tensor, got {}; cast it with `.cast(..)`", self.dtype());
            self.graph().record_error(op, message);
        }
        float
    }

    /// `log(1 + exp(beta x)) / beta`, and `x` itself where `beta x` is above `threshold`; PyTorch's defaults are 1 and 20.
    #[track_caller]
    pub fn softplus_with(self, beta: f64, threshold: f64) -> Tensor<'g> {
        let scaled = self * beta;
        scaled.gt(threshold).select(self, scaled.softplus() / beta)
    }

    /// `log(sigmoid(x))`, stable on both sides.
    #[track_caller]
    pub fn log_sigmoid(self) -> Tensor<'g> {
        -(-self).softplus()
    }

    /// `x` where positive, else `slope * x`; PyTorch's default slope is 0.01.
    #[track_caller]
    pub fn leaky_relu(self, slope: f64) -> Tensor<'g> {
        if !self.is_float("leaky_relu") {
            return self;
        }
        self.gt(0.0).select(self, self * slope)
    }

    /// `x` where positive, else `weight * x`: one weight for all (`[]` or `[1]`), or one for each channel, `[x.shape[1]]`.
    #[track_caller]
    pub fn prelu(self, weight: Tensor<'g>) -> Tensor<'g> {
        let (shape, weights) = (self.shape(), weight.shape());
        let channels = shape.get(1).copied().unwrap_or(1);
        if weights.rank() > 1 || (weights.numel() != 1 && weights.numel() != channels) {
            let message =
                format!("the weight must be one number or one for each of {channels} channels, got {weights}");
            self.graph().record_error("prelu", message);
            return self;
        }
        let sizes: Vec<usize> = (0..shape.rank()).map(|axis| if axis == 1 { weights.numel() } else { 1 }).collect();
        let weight = weight.reshape(if weights.numel() == 1 { vec![] } else { sizes });
        self.gt(0.0).select(self, self * weight)
    }

    /// Leaky ReLU with a slope drawn for each negative element from `lower..upper` while training, and with their mean
    /// otherwise; PyTorch's defaults are 1/8 and 1/3. Axis 0 must count samples, as for [`Tensor::dropout`].
    #[track_caller]
    pub fn rrelu(self, lower: f64, upper: f64) -> Tensor<'g> {
        if lower > upper {
            let message = format!("the lower bound must not exceed the upper, got {lower} and {upper}");
            self.graph().record_error("rrelu", message);
            return self;
        }
        if !self.graph().is_training() {
            return self.leaky_relu((lower + upper) / 2.0);
        }
        if !self.is_float("rrelu") {
            return self;
        }
        let slope = self.uniform_like() * (upper - lower) + lower;
        self.gt(0.0).select(self, self * slope)
    }

    /// `min(max(x, low), high)`, with no gradient at the ends; PyTorch's defaults are -1 and 1.
    #[track_caller]
    pub fn hardtanh(self, low: f64, high: f64) -> Tensor<'g> {
        if low > high {
            let message = format!("the lower end must not exceed the upper, got {low} and {high}");
            self.graph().record_error("hardtanh", message);
            return self;
        }
        self.clamp(low, high)
    }

    /// `min(max(x, 0), 6)`.
    #[track_caller]
    pub fn relu6(self) -> Tensor<'g> {
        self.hardtanh(0.0, 6.0)
    }

    /// `min(max(x + 3, 0), 6) / 6`.
    #[track_caller]
    pub fn hardsigmoid(self) -> Tensor<'g> {
        if !self.is_float("hardsigmoid") {
            return self;
        }
        (self + 3.0).relu6() / 6.0
    }

    /// `x * hardsigmoid(x)`.
    #[track_caller]
    pub fn hardswish(self) -> Tensor<'g> {
        if !self.is_float("hardswish") {
            return self;
        }
        let inner = self.gt(-3.0).select(self * (self + 3.0) / 6.0, 0.0);
        self.ge(3.0).select(self, inner)
    }

    /// `x` where positive, else `alpha * (exp(x) - 1)`; PyTorch's default is 1.
    #[track_caller]
    pub fn elu(self, alpha: f64) -> Tensor<'g> {
        self.gt(0.0).select(self, self.exponential_tail(1.0) * alpha)
    }

    /// `x` where positive, else `alpha * (exp(x / alpha) - 1)`; PyTorch's default is 1.
    #[track_caller]
    pub fn celu(self, alpha: f64) -> Tensor<'g> {
        if alpha == 0.0 {
            self.graph().record_error("celu", "alpha must not be 0".into());
            return self;
        }
        self.gt(0.0).select(self, self.exponential_tail(alpha) * alpha)
    }

    /// ELU scaled so that a deep stack keeps mean 0 and variance 1.
    #[track_caller]
    pub fn selu(self) -> Tensor<'g> {
        self.elu(SELU.1) * SELU.0
    }

    /// `exp(x / scale) - 1` where `x` is not positive; 0 elsewhere, where the exponential could overflow.
    #[track_caller]
    fn exponential_tail(self, scale: f64) -> Tensor<'g> {
        (self.gt(0.0).select(self.scalar_like(0.0), self) / scale).expm1()
    }

    /// `x * tanh(softplus(x))`.
    #[track_caller]
    pub fn mish(self) -> Tensor<'g> {
        self * self.softplus().tanh()
    }

    /// `x * sigmoid(1.702 x)`: the approximation of GELU that CLIP was trained with.
    #[track_caller]
    pub fn quick_gelu(self) -> Tensor<'g> {
        self * (self * 1.702).sigmoid()
    }

    /// `x / (1 + |x|)`.
    #[track_caller]
    pub fn softsign(self) -> Tensor<'g> {
        if !self.is_float("softsign") {
            return self;
        }
        self / (self.abs() + 1.0)
    }

    /// `x - tanh(x)`.
    #[track_caller]
    pub fn tanhshrink(self) -> Tensor<'g> {
        self - self.tanh()
    }

    /// `x` moved towards 0 by `lambda`, 0 within; PyTorch's default is 0.5.
    #[track_caller]
    pub fn softshrink(self, lambda: f64) -> Tensor<'g> {
        if lambda.is_nan() || lambda < 0.0 {
            self.graph().record_error("softshrink", format!("lambda must not be negative, got {lambda}"));
            return self;
        }
        if !self.is_float("softshrink") {
            return self;
        }
        let below = self.lt(-lambda).select(self + lambda, 0.0);
        self.gt(lambda).select(self - lambda, below)
    }

    /// 0 where `|x| <= lambda`, else `x`; PyTorch's default is 0.5.
    #[track_caller]
    pub fn hardshrink(self, lambda: f64) -> Tensor<'g> {
        if !self.is_float("hardshrink") {
            return self;
        }
        self.abs().gt(lambda).select(self, 0.0)
    }

    /// `x` where above `threshold`, else `value`.
    #[track_caller]
    pub fn threshold(self, threshold: f64, value: f64) -> Tensor<'g> {
        self.gt(threshold).select(self, value)
    }

    /// Softmax of `-x` along an axis.
    #[track_caller]
    pub fn softmin(self, axis: isize) -> Tensor<'g> {
        (-self).softmax(axis)
    }

    /// Both halves along an axis of even size.
    #[track_caller]
    fn halves(self, op: &str, axis: isize) -> (Tensor<'g>, Tensor<'g>) {
        let at = self.axis(op, axis);
        let size = self.shape().get(at).copied().unwrap_or(1);
        if !size.is_multiple_of(2) {
            let message = format!("axis {axis} of {} must have an even size, to be halved", self.shape());
            self.graph().record_error(op, message);
            return (self, self);
        }
        let half = size / 2;
        (self.slice(at as isize, 0, half), self.slice(at as isize, half, size))
    }

    /// Gated linear unit: the first half along an axis times the sigmoid of the second.
    #[track_caller]
    pub fn glu(self, axis: isize) -> Tensor<'g> {
        let (x, gate) = self.halves("glu", axis);
        x * gate.sigmoid()
    }

    /// The first half along an axis times the GELU of the second (Shazeer 2020).
    #[track_caller]
    pub fn geglu(self, axis: isize) -> Tensor<'g> {
        let (x, gate) = self.halves("geglu", axis);
        x * gate.gelu()
    }

    /// The first half along an axis times the SiLU of the second (Shazeer 2020).
    #[track_caller]
    pub fn swiglu(self, axis: isize) -> Tensor<'g> {
        let (x, gate) = self.halves("swiglu", axis);
        x * gate.silu()
    }

    /// The first half along an axis times the ReLU of the second (Shazeer 2020).
    #[track_caller]
    pub fn reglu(self, axis: isize) -> Tensor<'g> {
        let (x, gate) = self.halves("reglu", axis);
        x * gate.relu()
    }

    /// Softmax along an axis of `(x + Gumbel noise) / temperature`. With `hard` the result is the one-hot vector of
    /// its largest element, while the gradient remains that of the softmax. Axis 0 must count samples, and the run
    /// must be fed its key ([`super::RNG_KEY`]), as a trainer does.
    #[track_caller]
    pub fn gumbel_softmax(self, temperature: f64, hard: bool, axis: isize) -> Tensor<'g> {
        if temperature.is_nan() || temperature <= 0.0 {
            self.graph().record_error("gumbel_softmax", format!("the temperature must be above 0, got {temperature}"));
            return self;
        }
        // -log(1 - u) is exponentially distributed; log1p keeps its small values.
        let noise = -(-(-self.uniform_like()).log1p()).log();
        let soft = ((self + noise) / temperature).softmax(axis);
        if !hard || soft.rank() == 0 {
            return soft;
        }
        let at = self.axis("gumbel_softmax", axis);
        let chosen = soft.argmax(at as isize).unsqueeze(at as isize);
        let one_hot = self.graph().iota(soft.shape(), at).eq(chosen).cast(DType::F32);
        (one_hot - soft).stop_gradient() + soft
    }
}
