//! The closed list of operations.
//!
//! Three kinds: *primitives* (structure and arithmetic, each with a reference meaning), *pointwise*
//! rows (the table in [`super::pointwise`]), and *macro-ops*, which are defined by their expansion
//! into primitives (`tensor::expand`) and exist so that one kernel can serve them. Every `match`
//! over this list is total, so a forgotten rule does not compile.

use super::custom::CustomOp;
use super::pointwise::PointwiseOp;
use super::scan::ScanBody;
use super::windows::{SPATIAL, Windows};
use crate::dtype::DType;
use crate::shape::Shape;
use std::sync::Arc;

/// A scalar constant, kept as bits so that equal constants are one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Literal {
    pub dtype: DType,
    bits: u64,
}

impl Literal {
    /// The constant `value` in `dtype`; floats are rounded to f32, as the device will see them.
    pub fn new(dtype: DType, value: f64) -> Literal {
        let value = if dtype.is_float() { f64::from(value as f32) } else { value };
        Literal { dtype, bits: value.to_bits() }
    }

    /// The value; integers and bools are exact.
    pub fn value(self) -> f64 {
        f64::from_bits(self.bits)
    }
}

/// How a reduction combines elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReduceKind {
    Sum,
    Max,
    Min,
}

/// What a node computes. Shapes in the comments are those of the inputs, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    // ---- leaves
    /// A tensor fed for each run, by name.
    Input(Arc<str>),
    /// A tensor of the session that outlives runs, by name; its value when the program starts.
    State(Arc<str>),
    /// A scalar.
    Const(Literal),
    /// `0, 1, 2, …` along one axis of the shape, as i32.
    Iota {
        shape: Shape,
        axis: usize,
    },
    /// Threefry-2x32-20 bits (u32). Input: the run's key `[2]` u32 (seed, index of the first sample).
    /// Axis 0 of the shape counts samples; `stream` is the ordinal of the call site.
    RandomBits {
        shape: Shape,
        stream: u32,
    },

    // ---- pointwise
    Pointwise(PointwiseOp),
    Cast(DType),
    /// The same value, through which no gradient passes.
    StopGradient,

    // ---- movement
    Reshape(Shape),
    Permute(Vec<usize>),
    /// Repeats axes of size 1.
    Expand(Shape),
    Slice {
        starts: Vec<usize>,
        sizes: Vec<usize>,
    },
    /// Windows of `size` elements, `dilation` apart, a new one every `stride` elements of `axis`, which then counts
    /// windows; their elements are a new last axis. `torch.Tensor.unfold` with dilation.
    Window {
        axis: usize,
        size: usize,
        stride: usize,
        dilation: usize,
    },
    /// The transpose of `Window`: the windows along the last axis added up where they overlap, `axis` being of
    /// `length` again.
    Fold {
        axis: usize,
        length: usize,
        stride: usize,
        dilation: usize,
    },
    Pad {
        before: Vec<usize>,
        after: Vec<usize>,
        value: Literal,
    },
    Concat {
        axis: usize,
    },
    /// `(x, start)`: `size` rows of `axis` from a start known at run time (i32 scalar), clamped to fit.
    DynamicSlice {
        axis: usize,
        size: usize,
    },
    /// `(x, update, start)`: `x` with `update` written at `start` along `axis`, clamped to fit.
    DynamicUpdate {
        axis: usize,
    },

    // ---- reduction
    /// Over the listed axes (sorted), which disappear.
    Reduce {
        kind: ReduceKind,
        axes: Vec<usize>,
    },
    /// Index (i32) of the first largest element along an axis, which disappears.
    ArgMax {
        axis: usize,
    },
    /// Running sums along an axis: element `i` is the sum of the elements up to `i`, or (exclusive) before
    /// it; in reverse, of those from `i` on, or behind it.
    CumSum {
        axis: usize,
        reverse: bool,
        exclusive: bool,
    },
    /// Indices (i32) that sort along an axis; equal elements keep their order, both ways. Zeros of both signs are
    /// equal, and NaN is larger than everything.
    ArgSort {
        axis: usize,
        descending: bool,
    },
    /// Sum of squares of all elements of all inputs: the square of the global norm. Scalar f32. `each`: of every input by
    /// itself, in a vector.
    SumSquares {
        each: bool,
    },

    // ---- linear algebra and indexing
    /// `[.., m, k] x [.., k, n]`; leading axes are equal (broadcasts are explicit `Expand`s).
    MatMul,
    /// `(table [rows, ..], index [..])`: rows by index; an index outside gives zeros.
    Gather,
    /// `(index [..], values [.., rest])` to `[rows, rest]`: rows added up where their index says,
    /// in index order, so the result does not depend on timing. Indices outside are dropped.
    ScatterAdd {
        rows: usize,
    },

    // ---- loops
    /// `(carries.., stacked [length, ..].., constants..)` to `(carries.., results [length, ..]..)`: the body
    /// once for each index along axis 0 of the stacked operands, from the last one down if `reverse`.
    Scan {
        body: Arc<ScanBody>,
        length: usize,
        reverse: bool,
    },

    // ---- effects and escapes
    /// Gives a state a new value when the program ends. The output is that value.
    Assign(Arc<str>),
    /// A user's own kernel.
    Custom(Arc<CustomOp>),

    // ---- macro-ops
    Macro(MacroOp),
}

/// Ops that are defined by their expansion into primitives and have kernels of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MacroOp {
    /// `(x)`: over the last axis.
    Softmax,
    /// `(x)`: over the last axis.
    LogSoftmax,
    /// `(x [.., n], gain [n], bias [n])`.
    LayerNorm { eps: Eps },
    /// `(x, gain, dy)` to `(dx, dgain, dbias)`.
    LayerNormGrad { eps: Eps },
    /// `(x [.., n], gain [n])`.
    RmsNorm { eps: Eps },
    /// `(x, gain, dy)` to `(dx, dgain)`.
    RmsNormGrad { eps: Eps },
    /// `(x [n, c, s], gain [c], bias [c])` to `(y, mean [c], variance [c])`: each channel normalised by the biased
    /// variance of its own `n * s` elements.
    BatchNorm { eps: Eps },
    /// `(x, gain, mean, variance, dy)` to `(dx, dgain, dbias)`.
    BatchNormGrad { eps: Eps },
    /// `(x [n, c, s])` to the `(mean [c], variance [c])` of each channel, the variance biased.
    ChannelMoments,
    /// `(dy [n, c, s], x, mean [c])` to the sums over each channel of `dy` and of `dy * (x - mean)`, both `[c]`.
    ChannelProducts,
    /// `(logits [rows, classes], target [rows] i32)` to the loss of each row; a target outside
    /// `0..classes` gives 0 and no gradient.
    CrossEntropy,
    /// `(logits, target, g [rows])` to `dlogits`.
    CrossEntropyGrad,
    /// Both of the above in one pass: `(logits, target, g)` to `(loss [rows], dlogits)`.
    CrossEntropyWithGrad,
    /// `(q [b, t, h, d], k [b, s, k, d], v [b, s, k, d])` to `(o [b, t, h, d], lse [b, h, t])`. The heads `k` of keys and
    /// values divide those of the queries, and serve `h / k` of them in a row each.
    Attention { sight: Sight, scale: Eps },
    /// `(q, k, v, o, lse, do)` to `(dq, dk, dv)`.
    AttentionGrad { sight: Sight, scale: Eps },
    /// Cross-correlation `(x [n, c, ..], weight [o, c / groups, ..kernel])` to `[n, o, ..windows]`.
    Conv { windows: Windows, groups: u32 },
    /// `(dy [n, o, ..windows], weight)` to `dx [n, c, ..size]`: also the transposed convolution.
    ConvDataGrad { windows: Windows, groups: u32, size: [u32; SPATIAL] },
    /// `(x, dy)` to `dweight`.
    ConvWeightGrad { windows: Windows, groups: u32 },
    /// `(x [n, c, ..])` to the largest element of each window `[n, c, ..windows]`, and the index (i32, within its
    /// plane of `x`) of the first that is as large. Padding is below everything.
    MaxPool { windows: Windows },
    /// `(index, dy)`, both `[n, c, ..windows]`, to `dx [n, c, ..size]`.
    MaxPoolGrad { windows: Windows, size: [u32; SPATIAL] },
}

/// How many positions before and after its own a query sees, `None` being all. The last query stands at the last source, so
/// that a decoder's new tokens see all of its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sight {
    pub before: Option<u32>,
    pub after: Option<u32>,
}

impl Sight {
    /// Nothing after the query's own position, or no bounds.
    pub fn new(causal: bool) -> Sight {
        Sight { before: None, after: causal.then_some(0) }
    }
}

/// A small positive float attribute that can be compared and hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Eps(u32);

impl Eps {
    pub fn new(value: f32) -> Eps {
        Eps(value.to_bits())
    }

    pub fn value(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl Op {
    /// A short name for texts, labels and messages.
    #[deny(clippy::wildcard_enum_match_arm)]
    pub fn name(&self) -> &str {
        match self {
            Op::Input(_) => "input",
            Op::State(_) => "state",
            Op::Const(_) => "const",
            Op::Iota { .. } => "iota",
            Op::RandomBits { .. } => "random_bits",
            Op::Pointwise(op) => op.row().name,
            Op::Cast(_) => "cast",
            Op::StopGradient => "stop_gradient",
            Op::Reshape(_) => "reshape",
            Op::Permute(_) => "permute",
            Op::Expand(_) => "expand",
            Op::Slice { .. } => "slice",
            Op::Window { .. } => "window",
            Op::Fold { .. } => "fold",
            Op::Pad { .. } => "pad",
            Op::Concat { .. } => "concat",
            Op::DynamicSlice { .. } => "dynamic_slice",
            Op::DynamicUpdate { .. } => "dynamic_update",
            Op::Reduce { kind: ReduceKind::Sum, .. } => "sum",
            Op::Reduce { kind: ReduceKind::Max, .. } => "max",
            Op::Reduce { kind: ReduceKind::Min, .. } => "min",
            Op::ArgMax { .. } => "argmax",
            Op::CumSum { .. } => "cumsum",
            Op::ArgSort { .. } => "argsort",
            Op::SumSquares { each: false } => "sum_squares",
            Op::SumSquares { each: true } => "squares_of_each",
            Op::MatMul => "matmul",
            Op::Gather => "gather",
            Op::ScatterAdd { .. } => "scatter_add",
            Op::Scan { .. } => "scan",
            Op::Assign(_) => "assign",
            Op::Custom(op) => &op.name,
            Op::Macro(op) => op.name(),
        }
    }

    /// Whether two equal nodes may be shared.
    pub fn is_pure(&self) -> bool {
        !matches!(self, Op::Assign(_))
    }
}

impl MacroOp {
    pub fn name(self) -> &'static str {
        match self {
            MacroOp::Softmax => "softmax",
            MacroOp::LogSoftmax => "log_softmax",
            MacroOp::LayerNorm { .. } => "layer_norm",
            MacroOp::LayerNormGrad { .. } => "layer_norm_grad",
            MacroOp::RmsNorm { .. } => "rms_norm",
            MacroOp::RmsNormGrad { .. } => "rms_norm_grad",
            MacroOp::BatchNorm { .. } => "batch_norm",
            MacroOp::BatchNormGrad { .. } => "batch_norm_grad",
            MacroOp::ChannelMoments => "channel_moments",
            MacroOp::ChannelProducts => "channel_products",
            MacroOp::CrossEntropy => "cross_entropy",
            MacroOp::CrossEntropyGrad => "cross_entropy_grad",
            MacroOp::CrossEntropyWithGrad => "cross_entropy_with_grad",
            MacroOp::Attention { .. } => "attention",
            MacroOp::AttentionGrad { .. } => "attention_grad",
            MacroOp::Conv { .. } => "conv",
            MacroOp::ConvDataGrad { .. } => "conv_data_grad",
            MacroOp::ConvWeightGrad { .. } => "conv_weight_grad",
            MacroOp::MaxPool { .. } => "max_pool",
            MacroOp::MaxPoolGrad { .. } => "max_pool_grad",
        }
    }
}
