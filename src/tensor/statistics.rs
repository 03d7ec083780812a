//! What is made of reductions: products, variances, norms and distances.

use super::movement::concat;
use crate::dtype::DType;
use crate::graph::Tensor;
use crate::shape::Shape;

impl<'g> Tensor<'g> {
    /// Elements along the axes together, at least 1.
    #[track_caller]
    fn count_along(self, op: &str, axes: &[isize]) -> usize {
        let shape = self.shape();
        self.axes(op, axes).iter().map(|&axis| shape.get(axis).copied().unwrap_or(1)).product()
    }

    /// Variance over axes, which disappear: the sum of squared deviations divided by their number less `correction`
    /// (1 in `torch.var`, 0 for the biased one). There must be more elements than that.
    #[track_caller]
    pub fn var(self, axes: &[isize], correction: usize) -> Tensor<'g> {
        let count = self.count_along("var", axes);
        if count <= correction {
            let message = format!(
                "{count} elements along {axes:?} of {} leave nothing beyond a correction of {correction}",
                self.shape()
            );
            self.graph().record_error("var", message);
            return self.sum(axes);
        }
        let centred = self - self.mean(axes).keep_axes(self, axes);
        centred.square().sum(axes) / (count - correction) as f64
    }

    /// Standard deviation over axes, as [`Tensor::var`]; where it is 0 it has no gradient.
    #[track_caller]
    pub fn std(self, axes: &[isize], correction: usize) -> Tensor<'g> {
        self.var(axes, correction).sqrt_at_zero()
    }

    /// The square root, with gradient 0 at 0.
    #[track_caller]
    fn sqrt_at_zero(self) -> Tensor<'g> {
        let positive = self.gt(0.0);
        positive.select(positive.select(self, 1.0).sqrt(), 0.0)
    }

    /// Product over axes, which disappear. Multiplied in pairs, so that the gradient is right where elements are 0.
    #[track_caller]
    pub fn prod(self, axes: &[isize]) -> Tensor<'g> {
        let gone = self.axes("prod", axes);
        let shape = self.shape();
        if gone.is_empty() || gone.iter().any(|&axis| axis >= shape.rank()) {
            return self;
        }
        if (1..gone.len()).any(|i| gone[..i].contains(&gone[i])) {
            self.graph().record_error("prod", format!("axes {axes:?} must be distinct"));
            return self;
        }
        let kept: Vec<usize> = (0..shape.rank()).filter(|axis| !gone.contains(axis)).collect();
        let lead: Shape = kept.iter().map(|&axis| shape[axis]).collect();
        let mut size: usize = gone.iter().map(|&axis| shape[axis]).product();
        let order: Vec<usize> = kept.iter().chain(&gone).copied().collect();
        let flat: Shape = lead.iter().copied().chain([size]).collect();
        let mut x = self.permute(&order).reshape(flat);
        if size == 0 {
            return (self.scalar_like(1.0)).broadcast_to(lead);
        }
        while size > 1 {
            let half = size / 2;
            let pairs = x.slice(-1, 0, half) * x.slice(-1, half, 2 * half);
            x = if size.is_multiple_of(2) { pairs } else { concat(pairs, &[x.slice(-1, size - 1, size)], -1) };
            size = size.div_ceil(2);
        }
        x.reshape(lead)
    }

    /// Whether all elements along axes hold (are not 0); the axes disappear. Of no elements: true.
    #[track_caller]
    pub fn all(self, axes: &[isize]) -> Tensor<'g> {
        self.cast(DType::Bool).logical_not().any(axes).logical_not()
    }

    /// Whether any element along axes holds (is not 0); the axes disappear. Of no elements: false.
    #[track_caller]
    pub fn any(self, axes: &[isize]) -> Tensor<'g> {
        self.cast(DType::Bool).cast(DType::I32).sum(axes).ne(0)
    }

    /// `log(sum(exp(x)))` over axes, which disappear, in the stable form: -infinity of nothing and of elements that are
    /// all -infinity, infinity where an element is. Infinite results pass no gradient on.
    #[track_caller]
    pub fn logsumexp(self, axes: &[isize]) -> Tensor<'g> {
        let along = self.axes("logsumexp", axes);
        if along.iter().any(|&axis| self.shape().get(axis) == Some(&0)) {
            return self.exp().sum(axes).log();
        }
        let largest = self.max(axes).stop_gradient();
        let far = largest.isinf();
        // An infinite element is either left out or is the result: none enters a difference or a product.
        let outside = self.isinf().logical_or(far.keep_axes(self, axes));
        let inside = outside.select(0.0, self - largest.keep_axes(self, axes)).exp();
        let sum = outside.select(0.0, inside).sum(axes);
        far.select(largest, sum.log() + largest)
    }

    /// The `p`-norm of vectors along axes, which disappear: `torch.linalg.vector_norm`. `p` may be any number, 0 (how many are
    /// not 0) and infinite (the largest size, or the smallest for `-inf`). Zero vectors get no gradient.
    #[track_caller]
    pub fn vector_norm(self, p: f64, axes: &[isize]) -> Tensor<'g> {
        if p.is_nan() {
            self.graph().record_error("vector_norm", "the order must be a number, got NaN".into());
            return self.sum(axes);
        }
        let size = self.abs();
        match p {
            0.0 => self.ne(0.0).cast(self.dtype()).sum(axes),
            1.0 => size.sum(axes),
            2.0 => self.square().sum(axes).sqrt_at_zero(),
            f64::INFINITY => size.max(axes),
            f64::NEG_INFINITY => size.min(axes),
            p => {
                let some = size.gt(0.0);
                let total = some.select(some.select(size, 1.0).powf(p), 0.0).sum(axes);
                let positive = total.gt(0.0);
                positive.select(positive.select(total, 1.0).powf(1.0 / p), 0.0)
            }
        }
    }

    /// The `p`-norm of all elements: a scalar; `torch.norm`, whose default is 2.
    #[track_caller]
    pub fn norm(self, p: f64) -> Tensor<'g> {
        self.vector_norm(p, &self.all_axes())
    }

    /// Divided by the `p`-norm along an axis, or by `eps` if that is larger: `torch.nn.functional.normalize`, whose
    /// defaults are 2, axis 1 and 1e-12.
    #[track_caller]
    pub fn normalize(self, p: f64, axis: isize, eps: f64) -> Tensor<'g> {
        self / self.vector_norm(p, &[axis]).clamp_min(eps).keep_axes(self, &[axis])
    }

    /// The cosine of the angle between vectors along an axis, which disappears, broadcast elsewhere;
    /// `torch.nn.functional.cosine_similarity`, whose defaults are axis 1 and 1e-8.
    #[track_caller]
    pub fn cosine_similarity(self, other: Tensor<'g>, axis: isize, eps: f64) -> Tensor<'g> {
        let Some(shape) = self.shape().broadcast(&other.shape()) else {
            let message = format!("shapes {} and {} do not broadcast", self.shape(), other.shape());
            self.graph().record_error("cosine_similarity", message);
            return self;
        };
        let unit = |x: Tensor<'g>| {
            let norm = x.vector_norm(2.0, &[axis]);
            // Where the norm is below `eps` its value is raised, but not its gradient: PyTorch clamps in place.
            let raised = norm + (norm.maximum(eps) - norm).stop_gradient();
            x / raised.keep_axes(x, &[axis])
        };
        (unit(self.broadcast_to(&shape)) * unit(other.broadcast_to(&shape))).sum(&[axis])
    }

    /// The `p`-norm of `self - other + eps` over the last axis, which disappears;
    /// `torch.nn.functional.pairwise_distance`, whose defaults are 2 and 1e-6.
    #[track_caller]
    pub fn pairwise_distance(self, other: Tensor<'g>, p: f64, eps: f64) -> Tensor<'g> {
        (self - other + eps).vector_norm(p, &[-1])
    }

    /// The `p`-norms of all differences of rows: `[.., n, size]` and `[.., m, size]` to `[.., n, m]`; `torch.cdist`.
    #[track_caller]
    pub fn cdist(self, other: Tensor<'g>, p: f64) -> Tensor<'g> {
        let (a, b) = (self.shape(), other.shape());
        if a.rank() < 2 || b.rank() < 2 || a.last() != b.last() {
            let message = format!("takes rows of one size, [.., n, size] and [.., m, size], got {a} and {b}");
            self.graph().record_error("cdist", message);
            return self;
        }
        if p.is_nan() || p < 0.0 {
            self.graph().record_error("cdist", format!("the order must not be negative, got {p}"));
            return self;
        }
        (self.unsqueeze(-2) - other.unsqueeze(-3)).vector_norm(p, &[-1])
    }
}
