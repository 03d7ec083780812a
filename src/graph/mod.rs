//! What a computation *is*: nodes in an arena, a closed list of operations, inferred shapes.
//!
//! A graph knows nothing about kernels, devices or gradients. Nodes are only ever appended, so
//! their order is a topological order. Equal pure nodes are shared when they are pushed. A wrong
//! shape does not panic and returns no `Result`: the first error is kept and
//! [`Graph::error`] gives it to whoever compiles. Read next: `op.rs`, then `tensor`.

pub mod custom;
mod handle;
mod infer;
mod infer_windows;
pub mod op;
pub mod pointwise;
mod scan;
mod text;
mod verify;
pub mod windows;

pub use custom::CustomOp;
pub use handle::{Operand, Tensor};
pub use op::{Eps, Literal, MacroOp, Op, ReduceKind, Sight};
pub use pointwise::PointwiseOp;
pub use scan::ScanBody;
pub(crate) use text::describe;
pub use windows::Windows;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::Shape;
use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

/// How the scopes of parts begin that [`Graph::checkpoint`] marks.
pub const CHECKPOINT: &str = "checkpoint-";

/// One output of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    pub node: u32,
    pub output: u32,
}

/// Shape and element type of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    pub shape: Shape,
    pub dtype: DType,
}

impl TensorType {
    pub fn new(shape: impl Into<Shape>, dtype: DType) -> TensorType {
        TensorType { shape: shape.into(), dtype }
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

/// One operation with its operands and the types of its results.
#[derive(Debug, Clone)]
pub struct Node {
    pub op: Op,
    pub inputs: Vec<Value>,
    pub outputs: Vec<TensorType>,
    /// Where in the model it was written, e.g. `block.0.attn`; empty at the top.
    pub scope: Arc<str>,
}

#[derive(Default)]
struct Inner {
    nodes: Vec<Node>,
    shared: HashMap<(Op, Vec<Value>), u32>,
    outputs: Vec<(Arc<str>, Value)>,
    leaves: HashMap<Arc<str>, TensorType>,
    counts: HashMap<Value, Value>,
    scope: Vec<Arc<str>>,
    /// Calls from outside the library that are going on, outermost first.
    calls: Vec<&'static Location<'static>>,
    random_streams: u32,
    training: bool,
    error: Option<Error>,
}

/// A computation being written down. Interior mutability lets handles stay `Copy`.
#[derive(Default)]
pub struct Graph {
    inner: RefCell<Inner>,
}

/// Whether a line of source is the library's own.
fn in_library(location: &Location<'_>) -> bool {
    let sources = file!().strip_suffix("graph/mod.rs").unwrap_or_default();
    location.file().starts_with(sources)
}

impl Graph {
    pub fn new() -> Graph {
        Graph::default()
    }

    /// A tensor that is fed for each run. The same name gives the same tensor.
    #[track_caller]
    pub fn input(&self, name: &str, shape: impl Into<Shape>, dtype: DType) -> Tensor<'_> {
        self.leaf(Op::Input(name.into()), name, TensorType::new(shape, dtype))
    }

    /// A tensor of the session that outlives runs: a weight, a moment, a cache.
    #[track_caller]
    pub fn state(&self, name: &str, shape: impl Into<Shape>, dtype: DType) -> Tensor<'_> {
        self.leaf(Op::State(name.into()), name, TensorType::new(shape, dtype))
    }

    #[track_caller]
    fn leaf(&self, op: Op, name: &str, ty: TensorType) -> Tensor<'_> {
        let known = self.inner.borrow().leaves.get(name).cloned();
        match known {
            Some(other) if other != ty => {
                self.record_error(op.name(), format!("`{name}` was declared as {other} and now as {ty}"));
            }
            Some(_) => {}
            None => {
                self.inner.borrow_mut().leaves.insert(name.into(), ty);
            }
        }
        Tensor::new(self, self.push(op, &[]))
    }

    /// Gives the state `name` the value of `tensor` when the program ends.
    #[track_caller]
    pub fn assign(&self, name: &str, tensor: Tensor<'_>) {
        self.state(name, tensor.shape(), tensor.dtype());
        if self.assignment(name).is_some() {
            self.record_error(
                "assign",
                format!("the state `{name}` was given a new value already; a program assigns it once"),
            );
        }
        self.push(Op::Assign(name.into()), &[tensor.value()]);
    }

    /// What the state `name` holds at this point of the trace: the value it was given last, if it was given one,
    /// else the one it starts with.
    #[track_caller]
    pub fn latest(&self, name: &str, shape: impl Into<Shape>, dtype: DType) -> Tensor<'_> {
        let state = self.state(name, shape, dtype);
        let given = self.assignment(name).map(|node| self.inner.borrow().nodes[node].inputs[0]);
        given.map_or(state, |value| Tensor::new(self, value))
    }

    /// As [`Graph::assign`], in place of a value that this trace gave the state before. With [`Graph::latest`] a
    /// layer that is applied several times updates its running state several times.
    #[track_caller]
    pub fn reassign(&self, name: &str, tensor: Tensor<'_>) {
        if let Some(node) = self.assignment(name) {
            // An identity that nobody reads is dead.
            self.inner.borrow_mut().nodes[node].op = Op::StopGradient;
        }
        self.assign(name, tensor);
    }

    /// The node that gives a state its new value.
    fn assignment(&self, name: &str) -> Option<usize> {
        let inner = self.inner.borrow();
        inner.nodes.iter().position(|node| matches!(&node.op, Op::Assign(other) if **other == *name))
    }

    /// Names a tensor as a result of the program.
    pub fn output(&self, name: &str, tensor: Tensor<'_>) {
        self.inner.borrow_mut().outputs.push((name.into(), tensor.value()));
    }

    /// Names another tensor as the result of this name.
    pub fn replace_output(&self, name: &str, tensor: Tensor<'_>) {
        let mut inner = self.inner.borrow_mut();
        inner.outputs.iter_mut().filter(|(own, _)| **own == *name).for_each(|(_, value)| *value = tensor.value());
    }

    /// What [`Tensor::with_count`] said of a value.
    pub fn count_of(&self, mean: Value) -> Option<Value> {
        self.inner.borrow().counts.get(&mean).copied()
    }

    pub(crate) fn note_count(&self, mean: Value, count: Value) {
        self.inner.borrow_mut().counts.insert(mean, count);
    }

    /// A number that someone gave as a constant of this dtype; what the dtype cannot hold is an error, since rounding an
    /// integer would change what is computed.
    #[track_caller]
    pub(crate) fn literal(&self, dtype: DType, value: f64) -> Literal {
        let range = match dtype {
            DType::I32 => f64::from(i32::MIN)..=f64::from(i32::MAX),
            DType::U32 => 0.0..=f64::from(u32::MAX),
            _ => f64::NEG_INFINITY..=f64::INFINITY,
        };
        if dtype.is_int() && !(range.contains(&value) && value.fract() == 0.0) {
            let message = format!("{value} is no {} value; cast the tensor to f32 first", dtype.name());
            self.record_error("constant", message);
            return Literal::new(dtype, 0.0);
        }
        Literal::new(dtype, value)
    }

    /// A scalar constant.
    pub fn constant(&self, literal: Literal) -> Tensor<'_> {
        Tensor::new(self, self.push(Op::Const(literal), &[]))
    }

    /// An f32 scalar constant.
    pub fn float(&self, value: f64) -> Tensor<'_> {
        self.constant(Literal::new(DType::F32, value))
    }

    /// `0, 1, 2, …` (i32) along `axis` of a tensor of this shape.
    #[track_caller]
    pub fn iota(&self, shape: impl Into<Shape>, axis: usize) -> Tensor<'_> {
        Tensor::new(self, self.push(Op::Iota { shape: shape.into(), axis }, &[]))
    }

    /// Random bits (u32) from `key` `[2]` (seed, index of the first sample); axis 0 counts samples.
    /// Each call site gets its own stream.
    #[track_caller]
    pub fn random_bits(&self, key: Tensor<'_>, shape: impl Into<Shape>) -> Tensor<'_> {
        let stream = {
            let mut inner = self.inner.borrow_mut();
            inner.random_streams += 1;
            inner.random_streams - 1
        };
        Tensor::new(self, self.push(Op::RandomBits { shape: shape.into(), stream }, &[key.value()]))
    }

    /// Whether layers that behave differently in training (dropout) do so in this graph.
    pub fn is_training(&self) -> bool {
        self.inner.borrow().training
    }

    /// Chooses training or evaluation for the layers traced from here on; evaluation at first.
    pub fn set_training(&self, training: bool) {
        self.inner.borrow_mut().training = training;
    }

    /// Runs `body` with `name` appended to the scope that new nodes carry.
    #[track_caller]
    pub fn scope<R>(&self, name: &str, body: impl FnOnce() -> R) -> R {
        let outer = self.current_scope();
        let joined = if outer.is_empty() { name.to_string() } else { format!("{outer}.{name}") };
        self.inner.borrow_mut().scope.push(joined.into());
        let result = self.called(body);
        self.inner.borrow_mut().scope.pop();
        result
    }

    /// Marks a part of the forward pass, such as a block of a transformer: what it computes is not kept for the gradients
    /// but computed again when they are due, from what flows into it. Costs time and saves memory, and changes no
    /// bit of any result (as `torch.utils.checkpoint`).
    pub fn checkpoint<R>(&self, body: impl FnOnce() -> R) -> R {
        let number = self.inner.borrow().nodes.len();
        self.scope(&format!("{CHECKPOINT}{number}"), body)
    }

    /// Runs a closure of the library, through which the caller's place in the source would get lost: errors in it are
    /// the caller's.
    #[track_caller]
    pub(crate) fn called<R>(&self, body: impl FnOnce() -> R) -> R {
        let call = Location::caller();
        let outside = !in_library(call);
        if outside {
            self.inner.borrow_mut().calls.push(call);
        }
        let result = body();
        if outside {
            self.inner.borrow_mut().calls.pop();
        }
        result
    }

    /// Runs `body` with new nodes carrying exactly this scope (for rules that act for another node).
    pub fn in_scope<R>(&self, scope: &Arc<str>, body: impl FnOnce() -> R) -> R {
        self.inner.borrow_mut().scope.push(scope.clone());
        let result = body();
        self.inner.borrow_mut().scope.pop();
        result
    }

    /// The scope that new nodes carry, such as `block.0.attn`; empty at the top.
    pub fn scope_name(&self) -> Arc<str> {
        self.current_scope()
    }

    fn current_scope(&self) -> Arc<str> {
        self.inner.borrow().scope.last().cloned().unwrap_or_else(|| "".into())
    }

    /// An empty graph for the body of a loop: the same scope, training or evaluation as here.
    pub fn nested(&self) -> Graph {
        let graph = Graph::new();
        graph.set_training(self.is_training());
        graph.inner.borrow_mut().scope.push(self.current_scope());
        graph
    }

    /// Appends a node (or finds its equal) and gives its first output.
    #[track_caller]
    pub fn push(&self, op: Op, inputs: &[Value]) -> Value {
        let key = (op, inputs.to_vec());
        if key.0.is_pure()
            && let Some(&node) = self.inner.borrow().shared.get(&key)
        {
            return Value { node, output: 0 };
        }
        let types: Vec<TensorType> = inputs.iter().map(|&input| self.type_of(input)).collect();
        let inferred = infer::infer(&key.0, &types, |name| self.inner.borrow().leaves.get(name).cloned());
        let outputs = match inferred.and_then(infer::countable) {
            Ok(outputs) => outputs,
            Err(message) => {
                self.record_error(key.0.name(), message);
                let results = if let Op::Scan { body, .. } = &key.0 { body.results() } else { 0 };
                vec![types.first().cloned().unwrap_or(TensorType::new([], DType::F32)); results.max(3)]
            }
        };
        let scope = self.current_scope();
        let mut inner = self.inner.borrow_mut();
        let node = inner.nodes.len() as u32;
        inner.nodes.push(Node { op: key.0.clone(), inputs: key.1.clone(), outputs, scope });
        if key.0.is_pure() {
            inner.shared.insert(key, node);
        }
        Value { node, output: 0 }
    }

    /// Keeps the first error of the trace, with the caller's place in the source.
    #[track_caller]
    pub fn record_error(&self, op: &str, message: String) {
        let location = Location::caller();
        let call = self.inner.borrow().calls.last().copied();
        let location = call.filter(|_| in_library(location)).unwrap_or(location);
        let scope = self.current_scope();
        let op = if scope.is_empty() { op.to_string() } else { format!("{op} (in {scope})") };
        self.record(Error::trace(op, message, format!("{}:{}", location.file(), location.line())));
    }

    /// Keeps the first error of the trace.
    pub fn record(&self, error: Error) {
        self.inner.borrow_mut().error.get_or_insert(error);
    }

    /// The first thing that went wrong while tracing.
    pub fn error(&self) -> Result<()> {
        self.inner.borrow().error.clone().map_or(Ok(()), Err)
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.inner.borrow().nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of a node.
    pub fn node(&self, node: u32) -> Node {
        self.inner.borrow().nodes[node as usize].clone()
    }

    /// All nodes, in topological order.
    pub fn nodes(&self) -> Vec<Node> {
        self.inner.borrow().nodes.clone()
    }

    pub fn type_of(&self, value: Value) -> TensorType {
        self.inner.borrow().nodes[value.node as usize].outputs[value.output as usize].clone()
    }

    /// The named results, in the order they were named.
    pub fn outputs(&self) -> Vec<(Arc<str>, Value)> {
        self.inner.borrow().outputs.clone()
    }

    /// Which nodes a result or an assignment needs.
    pub fn live(&self) -> Vec<bool> {
        let inner = self.inner.borrow();
        let mut live = vec![false; inner.nodes.len()];
        for (_, value) in &inner.outputs {
            live[value.node as usize] = true;
        }
        for (index, node) in inner.nodes.iter().enumerate().rev() {
            live[index] |= matches!(node.op, Op::Assign(_));
            if live[index] {
                for input in &node.inputs {
                    live[input.node as usize] = true;
                }
            }
        }
        live
    }

    /// Copies leaf declarations and the stream counter to a graph that a pass is building.
    pub fn inherit(&self, from: &Graph) {
        let from = from.inner.borrow();
        let mut inner = self.inner.borrow_mut();
        inner.leaves = from.leaves.clone();
        inner.random_streams = from.random_streams;
        inner.error = from.error.clone();
    }
}
