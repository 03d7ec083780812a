//! The handle people hold: a copyable reference to one output of one node.
//!
//! It has no reference count and owns nothing. Operators broadcast by NumPy's rules, inserting
//! explicit `reshape` and `expand` nodes, so that everything behind them sees equal shapes.

use super::op::{Literal, Op};
use super::pointwise::PointwiseOp;
use super::{Graph, Value};
use crate::dtype::DType;
use crate::shape::Shape;

/// One output of one node of a [`Graph`].
#[derive(Clone, Copy)]
pub struct Tensor<'g> {
    graph: &'g Graph,
    value: Value,
}

impl std::fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "%{}: {} {}", self.value.node, self.dtype(), self.shape())
    }
}

/// What may stand beside a tensor in an operator: another tensor, or a number.
#[derive(Clone, Copy)]
pub enum Operand<'g> {
    Tensor(Tensor<'g>),
    Number(f64),
}

impl<'g> From<Tensor<'g>> for Operand<'g> {
    fn from(tensor: Tensor<'g>) -> Operand<'g> {
        Operand::Tensor(tensor)
    }
}

impl From<f64> for Operand<'_> {
    fn from(number: f64) -> Self {
        Operand::Number(number)
    }
}

impl From<f32> for Operand<'_> {
    fn from(number: f32) -> Self {
        Operand::Number(f64::from(number))
    }
}

impl From<i32> for Operand<'_> {
    fn from(number: i32) -> Self {
        Operand::Number(f64::from(number))
    }
}

impl<'g> Tensor<'g> {
    /// A handle for a value of a graph.
    pub fn new(graph: &'g Graph, value: Value) -> Tensor<'g> {
        Tensor { graph, value }
    }

    /// The graph this tensor belongs to.
    pub fn graph(self) -> &'g Graph {
        self.graph
    }

    /// Which node and which of its outputs.
    pub fn value(self) -> Value {
        self.value
    }

    /// The sizes of the axes, outermost first.
    pub fn shape(self) -> Shape {
        self.graph.type_of(self.value).shape
    }

    pub fn dtype(self) -> DType {
        self.graph.type_of(self.value).dtype
    }

    /// Number of axes.
    pub fn rank(self) -> usize {
        self.shape().rank()
    }

    /// Pushes an operation on this tensor and others; the first output.
    #[track_caller]
    pub fn apply(self, op: Op, others: &[Tensor<'g>]) -> Tensor<'g> {
        if others.iter().any(|other| !std::ptr::eq(other.graph, self.graph)) {
            let message = "an operand belongs to another graph; a scan's body is given outer tensors as constants";
            self.graph.record_error(op.name(), message.into());
            return self;
        }
        let inputs: Vec<Value> = std::iter::once(self).chain(others.iter().copied()).map(Tensor::value).collect();
        Tensor::new(self.graph, self.graph.push(op, &inputs))
    }

    /// Another output of the same node.
    pub fn output(self, output: u32) -> Tensor<'g> {
        Tensor::new(self.graph, Value { node: self.value.node, output })
    }

    /// A pointwise operation, its operands broadcast to a common shape.
    #[track_caller]
    pub fn pointwise(self, op: PointwiseOp, others: &[Tensor<'g>]) -> Tensor<'g> {
        let mut shape = self.shape();
        for other in others {
            match shape.broadcast(&other.shape()) {
                Some(common) => shape = common,
                None => self.graph.record_error(
                    op.row().name,
                    format!(
                        "shapes {shape} and {} do not broadcast: axes must be equal or 1, counted from the right",
                        other.shape()
                    ),
                ),
            }
        }
        let others: Vec<_> = others.iter().map(|other| other.broadcast_to(&shape)).collect();
        self.broadcast_to(&shape).apply(Op::Pointwise(op), &others)
    }

    /// Repeats axes of size 1 (and adds leading axes) to reach `shape`, as `torch.broadcast_to`.
    #[track_caller]
    pub fn broadcast_to(self, shape: impl Into<Shape>) -> Tensor<'g> {
        let (own, shape) = (self.shape(), shape.into());
        if own == shape {
            return self;
        }
        let aligned: Shape = (0..shape.rank().max(own.rank()))
            .map(|axis| (axis + own.rank()).checked_sub(shape.rank()).map_or(1, |i| own.get(i).copied().unwrap_or(1)))
            .collect();
        let aligned = if aligned == own { self } else { self.apply(Op::Reshape(aligned), &[]) };
        if aligned.shape() == shape { aligned } else { aligned.apply(Op::Expand(shape), &[]) }
    }

    /// A scalar of this tensor's dtype.
    pub fn scalar_like(self, value: f64) -> Tensor<'g> {
        self.graph.constant(Literal::new(self.dtype(), value))
    }

    /// Zeros of this tensor's shape and dtype.
    pub fn zeros_like(self) -> Tensor<'g> {
        self.scalar_like(0.0).broadcast_to(self.shape())
    }

    /// A number as a scalar of this tensor's dtype.
    #[track_caller]
    pub(crate) fn operand(self, other: Operand<'g>) -> Tensor<'g> {
        match other {
            Operand::Tensor(tensor) => tensor,
            Operand::Number(number) => self.graph.constant(self.graph.literal(self.dtype(), number)),
        }
    }

    /// On a bool tensor: `a` where it holds, else `b`. As `torch.where`.
    #[track_caller]
    pub fn select(self, a: impl Into<Operand<'g>>, b: impl Into<Operand<'g>>) -> Tensor<'g> {
        let (a, b) = (a.into(), b.into());
        let (a, b) = match (a, b) {
            (Operand::Tensor(a), b) => (a, a.operand(b)),
            (a, Operand::Tensor(b)) => (b.operand(a), b),
            (Operand::Number(a), Operand::Number(b)) => (self.graph.float(a), self.graph.float(b)),
        };
        self.pointwise(PointwiseOp::Select, &[a, b])
    }
}

/// Binary rows as methods that take a tensor or a number.
macro_rules! binary_methods {
    ($($(#[$doc:meta])* $method:ident $op:ident;)*) => {
        impl<'g> Tensor<'g> {
            $($(#[$doc])* #[track_caller]
            pub fn $method(self, other: impl Into<Operand<'g>>) -> Tensor<'g> {
                let other = self.operand(other.into());
                self.pointwise(PointwiseOp::$op, &[other])
            })*
        }
    };
}

binary_methods! {
    /// The larger of two, element by element.
    maximum Max;
    /// The smaller of two, element by element.
    minimum Min;
    /// To a power: bases from 0 on, or any base where the exponent is whole; [`Tensor::powf`] for constant exponents.
    pow Pow;
    /// The angle of the point `(other, self)`, in `-pi..=pi`.
    atan2 Atan2;
    /// `sqrt(self^2 + other^2)`.
    hypot Hypot;
    eq Eq;
    ne Ne;
    lt Lt;
    le Le;
    gt Gt;
    ge Ge;
    logical_and And;
    logical_or Or;
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:ident;)*) => {$(
        impl<'g, T: Into<Operand<'g>>> std::ops::$trait<T> for Tensor<'g> {
            type Output = Tensor<'g>;
            #[track_caller]
            fn $method(self, other: T) -> Tensor<'g> {
                let other = self.operand(other.into());
                self.pointwise(PointwiseOp::$op, &[other])
            }
        }
        impl<'g> std::ops::$trait<Tensor<'g>> for f64 {
            type Output = Tensor<'g>;
            #[track_caller]
            fn $method(self, other: Tensor<'g>) -> Tensor<'g> {
                other.scalar_like(self).pointwise(PointwiseOp::$op, &[other])
            }
        }
    )*};
}

operators! { Add add Add; Sub sub Sub; Mul mul Mul; Div div Div; }

impl<'g> std::ops::Neg for Tensor<'g> {
    type Output = Tensor<'g>;
    #[track_caller]
    fn neg(self) -> Tensor<'g> {
        self.pointwise(PointwiseOp::Neg, &[])
    }
}
