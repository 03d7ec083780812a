//! One operator being traced: its inputs and attributes, asked for by what they should be.
//!
//! An input is a tensor of the graph, a constant known while importing, or both. It knows no operator. Read next:
//! `ops/mod.rs`, which lists them.

use super::constant::{Constant, shape_of};
use super::limits::{MAX_ELEMENTS, MAX_FOLDED, MAX_VIEWED};
use super::proto::{AttributeProto, GraphProto, NodeProto};
use super::trace::Tracer;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{Graph, Tensor};
use crate::shape::Shape;
use std::collections::HashMap;
use std::rc::Rc;

/// A value between two operators.
#[derive(Clone)]
pub struct Val<'g> {
    pub known: Option<Rc<Constant>>,
    pub tensor: Option<Tensor<'g>>,
    /// What states that are made of it are called.
    pub name: Rc<str>,
}

/// What an operator gives: its outputs, as many as it can.
pub type Outputs<'g> = Result<Vec<Val<'g>>>;

impl<'g> From<Tensor<'g>> for Val<'g> {
    fn from(tensor: Tensor<'g>) -> Val<'g> {
        Val { known: None, tensor: Some(tensor), name: "".into() }
    }
}

impl From<Constant> for Val<'_> {
    fn from(constant: Constant) -> Self {
        Val { known: Some(Rc::new(constant)), tensor: None, name: "".into() }
    }
}

/// A single output.
pub fn one<'g>(value: impl Into<Val<'g>>) -> Outputs<'g> {
    Ok(vec![value.into()])
}

impl Val<'_> {
    /// The shape, which is always known.
    pub fn shape(&self) -> Shape {
        match (&self.tensor, &self.known) {
            (Some(tensor), _) => tensor.shape(),
            (None, Some(known)) => known.shape.clone(),
            (None, None) => Shape::scalar(),
        }
    }

    /// The element type that it has in a graph.
    pub fn dtype(&self) -> DType {
        match (&self.known, &self.tensor) {
            (Some(known), _) => known.elem.dtype(),
            (None, Some(tensor)) => tensor.dtype(),
            (None, None) => DType::F32,
        }
    }
}

/// A node with its inputs.
pub struct Call<'c, 'g> {
    pub node: &'c NodeProto,
    /// Version of the operator set that the node belongs to.
    pub opset: i64,
    pub inputs: Vec<Option<Val<'g>>>,
    pub tracer: &'c Tracer<'c, 'g>,
    /// What states and scopes made for this node are called.
    pub path: String,
    /// Inside a function: the attributes that its call gave.
    pub bound: Option<&'c HashMap<String, AttributeProto>>,
}

impl<'c, 'g> Call<'c, 'g> {
    pub fn graph(&self) -> &'g Graph {
        self.tracer.graph
    }

    pub fn op(&self) -> &'c str {
        self.node.op_type.as_deref().unwrap_or_default()
    }

    fn label(&self) -> String {
        match self.node.name.as_deref().filter(|name| !name.is_empty()).or(self.node.output.first().map(String::as_str))
        {
            Some(name) => format!("{} (`{name}`)", self.op()),
            None => self.op().to_string(),
        }
    }

    /// The node says something that cannot be.
    pub fn invalid(&self, message: impl std::fmt::Display) -> Error {
        super::invalid(format!("{}: {message}", self.label()))
    }

    /// The node asks for something that is not there.
    pub fn unsupported(&self, message: impl std::fmt::Display) -> Error {
        Error::unsupported(format!("ONNX operator {}: {message}", self.label()))
    }

    /// An input, if it was given.
    pub fn val(&self, index: usize) -> Option<&Val<'g>> {
        self.inputs.get(index).and_then(Option::as_ref)
    }

    pub fn has(&self, index: usize) -> bool {
        self.val(index).is_some()
    }

    /// An input that must be there.
    pub fn required(&self, index: usize) -> Result<&Val<'g>> {
        self.val(index).ok_or_else(|| self.invalid(format_args!("input {index} is missing")))
    }

    /// An input as a tensor of the graph.
    pub fn tensor(&self, index: usize) -> Result<Tensor<'g>> {
        self.tracer.tensor(self.required(index)?)
    }

    /// An input as a tensor of the graph, if it was given.
    pub fn optional(&self, index: usize) -> Result<Option<Tensor<'g>>> {
        self.val(index).map(|value| self.tracer.tensor(value)).transpose()
    }

    /// All inputs, of which none may be missing.
    pub fn tensors(&self) -> Result<Vec<Tensor<'g>>> {
        (0..self.inputs.len()).map(|index| self.tensor(index)).collect()
    }

    /// An input that must be known while importing.
    pub fn constant(&self, index: usize) -> Result<Rc<Constant>> {
        let value = self.required(index)?;
        value.known.clone().ok_or_else(|| {
            self.unsupported(format_args!(
                "its input {index} (`{}`) decides about shapes, so it must be known when the model is traced; give it as a constant",
                value.name
            ))
        })
    }

    /// A known input as integers.
    pub fn ints(&self, index: usize) -> Result<Vec<i64>> {
        let constant = self.constant(index)?;
        constant.to_ints().ok_or_else(|| self.invalid(format_args!("input {index} must hold integers")))
    }

    /// A known input as one number.
    pub fn number(&self, index: usize) -> Result<f64> {
        let constant = self.constant(index)?;
        match constant.data[..] {
            [value] => Ok(value),
            _ => Err(self.invalid(format_args!("input {index} must be one number, not {}", constant.shape))),
        }
    }

    /// A known input as one number, or what stands for it.
    pub fn number_or(&self, index: usize, default: f64) -> Result<f64> {
        if self.has(index) { self.number(index) } else { Ok(default) }
    }

    /// A known input as one integer.
    pub fn int(&self, index: usize) -> Result<i64> {
        match self.ints(index)?[..] {
            [value] => Ok(value),
            _ => Err(self.invalid(format_args!("input {index} must be one integer"))),
        }
    }

    /// Whether the model reads an output.
    pub fn wants(&self, output: usize) -> bool {
        self.node.output.get(output).is_some_and(|name| !name.is_empty())
    }

    /// An attribute, or what the call of the surrounding function gave for it.
    pub fn attribute(&self, name: &str) -> Option<&'c AttributeProto> {
        let own = self.node.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))?;
        match own.ref_attr_name.as_deref().filter(|outer| !outer.is_empty()) {
            Some(outer) => self.bound?.get(outer),
            None => Some(own),
        }
    }

    pub fn attr_int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).and_then(|attribute| attribute.i).unwrap_or(default)
    }

    pub fn attr_float(&self, name: &str, default: f64) -> f64 {
        self.attribute(name).and_then(|attribute| attribute.f).map_or(default, f64::from)
    }

    pub fn attr_ints(&self, name: &str) -> Option<Vec<i64>> {
        self.attribute(name).map(|attribute| attribute.ints.clone())
    }

    pub fn attr_floats(&self, name: &str) -> Option<Vec<f32>> {
        self.attribute(name).map(|attribute| attribute.floats.clone())
    }

    pub fn attr_text(&self, name: &str, default: &str) -> String {
        match self.attribute(name).and_then(|attribute| attribute.s.as_ref()) {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => default.to_string(),
        }
    }

    pub fn attr_texts(&self, name: &str) -> Option<Vec<String>> {
        let text = |bytes: &prost::bytes::Bytes| String::from_utf8_lossy(bytes).into_owned();
        self.attribute(name).map(|attribute| attribute.strings.iter().map(text).collect())
    }

    pub fn attr_graph(&self, name: &str) -> Result<&'c GraphProto> {
        let graph = self.attribute(name).and_then(|attribute| attribute.g.as_deref());
        graph.ok_or_else(|| self.invalid(format_args!("the attribute `{name}` is missing")))
    }

    pub fn attr_constant(&self, name: &str) -> Result<Option<Constant>> {
        let Some(tensor) = self.attribute(name).and_then(|attribute| attribute.t.as_deref()) else { return Ok(None) };
        match Constant::decode(tensor) {
            Ok(constant) => Ok(Some(constant)),
            Err(message) => Err(self.unsupported(format_args!("its attribute `{name}`: {message}"))),
        }
    }

    /// An axis of a rank, counted from either end.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let index = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        match usize::try_from(index) {
            Ok(index) if index < rank => Ok(index),
            _ => Err(self.invalid(format_args!("axis {axis} is out of range for {rank} axes"))),
        }
    }

    /// Several axes of a rank, no one twice; sorted.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let mut found = axes.iter().map(|&axis| self.axis(axis, rank)).collect::<Result<Vec<_>>>()?;
        found.sort_unstable();
        match found.windows(2).any(|pair| pair[0] == pair[1]) {
            true => Err(self.invalid(format_args!("an axis occurs twice in {axes:?}"))),
            false => Ok(found),
        }
    }

    /// Sizes as a shape, within the limits.
    pub fn shape(&self, sizes: &[i64]) -> Result<Shape> {
        shape_of(sizes).map_err(|message| self.invalid(message))
    }

    /// The same for sizes that are known not to be negative.
    pub fn sizes(&self, sizes: &[usize]) -> Result<Shape> {
        let signed: Option<Vec<i64>> = sizes.iter().map(|&size| i64::try_from(size).ok()).collect();
        self.shape(&signed.ok_or_else(|| self.invalid("a size is out of range"))?)
    }

    /// Refuses sizes whose product is beyond anything that a graph may view.
    pub fn view(&self, sizes: impl IntoIterator<Item = usize>) -> Result<()> {
        let elements = sizes.into_iter().try_fold(1usize, |product, size| product.checked_mul(size.max(1)));
        match elements {
            Some(elements) if elements <= MAX_VIEWED => Ok(()),
            _ => Err(self.invalid("its windows have too many elements")),
        }
    }

    /// An integer as a small count.
    pub fn count(&self, value: i64) -> Result<usize> {
        match usize::try_from(value) {
            Ok(count) if count <= MAX_ELEMENTS => Ok(count),
            _ => Err(self.invalid(format_args!("{value} is no possible count"))),
        }
    }

    /// Notes that so many elements are computed here and now, not by the graph.
    pub fn computed(&self, elements: usize) -> Result<()> {
        if elements <= MAX_FOLDED && self.tracer.may_compute(elements) {
            return Ok(());
        }
        Err(self.unsupported(format_args!("its {elements} elements are more than can be computed while importing")))
    }

    /// A function of one tensor.
    pub fn unary(&self, f: impl FnOnce(Tensor<'g>) -> Tensor<'g>) -> Outputs<'g> {
        one(f(self.tensor(0)?))
    }

    /// A function of two tensors.
    pub fn binary(&self, f: impl FnOnce(Tensor<'g>, Tensor<'g>) -> Tensor<'g>) -> Outputs<'g> {
        one(f(self.tensor(0)?, self.tensor(1)?))
    }
}
