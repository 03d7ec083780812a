//! From the nodes of a file to the nodes of a graph.
//!
//! Nodes are walked in the file's order. Those whose inputs are all known are computed at once, by tracing them into
//! a graph of their own and running the reference on it; everything else becomes tensors. Functions that the file defines are
//! traced where they are called. It knows operators only through `ops::lookup`. Read next: `ops/mod.rs`.

use super::call::{Call, Outputs, Val};
use super::constant::{Constant, Elem};
use super::fold;
use super::limits::{MAX_CALLS, MAX_COMPUTED, MAX_ELEMENTS, MAX_FOLDED, MAX_TRACED, MAX_VIEWED, MAX_WRITTEN_OUT};
use super::needs::Needs;
use super::ops;
use super::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};
use super::{Model, invalid};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{Graph, Literal, Tensor, Value};
use crate::reference::Array;
use crate::shape::Shape;
use crate::tensor::concat;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

/// Values by name.
pub type Env<'g> = HashMap<String, Val<'g>>;

/// Constants up to this size are written out as scalars.
const WRITTEN_OUT: usize = 8;

/// What a state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What is trained.
    Weight,
    /// A constant too long to be written into the graph.
    Table,
}

/// What all frames of one import share.
pub struct Tracer<'m, 'g> {
    pub model: &'m Model,
    pub graph: &'g Graph,
    /// What states are called that were registered as parameters, by their name here.
    pub parameters: Option<&'m HashMap<String, String>>,
    /// Whether floats made by `ConstantOfShape` are weights too.
    pub filled_weights: bool,
    pub states: RefCell<BTreeMap<String, (Array, Kind)>>,
    pub executed: Cell<usize>,
    /// Elements that were computed while importing, also into graphs of their own.
    pub computed: Rc<Cell<u64>>,
    pub needs: Needs<'m>,
}

/// The surroundings of a list of nodes.
pub struct Frame<'m> {
    /// Versions of the operator sets by domain.
    pub opsets: Rc<HashMap<String, i64>>,
    pub bound: Option<HashMap<String, AttributeProto>>,
    /// Put before names, so that two calls of a function do not share states.
    pub prefix: String,
    /// Names whose values must be known.
    pub needed: HashSet<&'m str>,
    pub depth: usize,
}

impl<'m, 'g> Tracer<'m, 'g> {
    /// An import that has seen nothing yet.
    pub fn new(model: &'m Model, graph: &'g Graph) -> Tracer<'m, 'g> {
        let (states, executed, computed) = (RefCell::default(), Cell::new(0), Rc::default());
        Tracer {
            model,
            graph,
            parameters: None,
            filled_weights: false,
            states,
            executed,
            computed,
            needs: Needs::new(model),
        }
    }

    /// The same import writing into another graph, for what is computed while importing.
    pub fn scratch<'s>(&'s self, graph: &'s Graph) -> Tracer<'s, 's> {
        let tracer = Tracer { computed: Rc::clone(&self.computed), ..Tracer::new(self.model, graph) };
        tracer.executed.set(self.executed.get());
        tracer
    }

    /// Whether so many more elements may be computed while importing; they are counted then.
    pub fn may_compute(&self, elements: usize) -> bool {
        let sum = self.computed.get().saturating_add(elements as u64);
        let may = sum <= MAX_COMPUTED;
        if may {
            self.computed.set(sum);
        }
        may
    }

    /// A value as a tensor of the graph.
    pub fn tensor(&self, value: &Val<'g>) -> Result<Tensor<'g>> {
        match (&value.tensor, &value.known) {
            (Some(tensor), _) => Ok(*tensor),
            (None, Some(known)) => self.materialise(known, &value.name),
            (None, None) => Err(invalid(format!("`{}` has no value", value.name))),
        }
    }

    /// A constant as a tensor: a scalar repeated, a ramp, a few scalars joined, or else a state.
    fn materialise(&self, constant: &Constant, name: &str) -> Result<Tensor<'g>> {
        if constant.elem == Elem::F64 && !self.model.doubles {
            let message = format!("`{name}` is a tensor of doubles; there are only f32 tensors (cast it in the model)");
            return Err(Error::unsupported(message));
        }
        if !constant.fits() {
            let message = format!("`{name}` has integers beyond 32 bits; i64 is read as i32");
            return Err(Error::unsupported(message));
        }
        let (dtype, shape) = (constant.elem.dtype(), &constant.shape);
        let scalar = |value: f64| self.graph.constant(Literal::new(dtype, value));
        let Some((&first, rest)) = constant.data.split_first() else {
            return Ok(scalar(0.0).broadcast_to(shape));
        };
        if rest.iter().all(|value| value.to_bits() == first.to_bits()) {
            return Ok(scalar(first).broadcast_to(shape));
        }
        if dtype == DType::I32 && constant.data.windows(2).all(|pair| pair[1] - pair[0] == rest[0] - first) {
            let ramp = self.graph.iota([constant.data.len()], 0) * scalar(rest[0] - first) + scalar(first);
            return Ok(ramp.reshape(shape));
        }
        if constant.data.len() <= WRITTEN_OUT {
            let parts: Vec<Tensor<'g>> = constant.data.iter().map(|&value| scalar(value).reshape([1])).collect();
            return Ok(concat(parts[0], &parts[1..], 0).reshape(shape));
        }
        Ok(self.table(constant, name))
    }

    /// A constant as states, which are f32: integers too large for that are put together from two halves.
    fn table(&self, constant: &Constant, name: &str) -> Tensor<'g> {
        let dtype = constant.elem.dtype();
        let exact = dtype.is_float() || constant.data.iter().all(|value| value.abs() <= 16_777_216.0);
        if exact {
            return self.state(name, &constant.shape, constant.data.clone(), Kind::Table).cast(dtype);
        }
        let high: Vec<f64> = constant.data.iter().map(|value| (value / 65_536.0).floor()).collect();
        let low = constant.data.iter().zip(&high).map(|(value, high)| value - high * 65_536.0).collect();
        let high = self.state(&format!("{name}.high"), &constant.shape, high, Kind::Table).cast(dtype);
        high * 65_536 + self.state(&format!("{name}.low"), &constant.shape, low, Kind::Table).cast(dtype)
    }

    /// An f32 tensor that keeps its value from run to run. A name that another tensor has taken gets a number.
    pub fn state(&self, name: &str, shape: &Shape, data: Vec<f64>, kind: Kind) -> Tensor<'g> {
        let entry = (Array::new(shape, DType::F32, data), kind);
        let mut states = self.states.borrow_mut();
        let mut own = name.to_string();
        for number in 2.. {
            match states.get(&own) {
                Some(other) if *other != entry => own = format!("{name}.{number}"),
                _ => break,
            }
        }
        let full = self.parameters.and_then(|parameters| parameters.get(&own)).cloned();
        let full = full.unwrap_or_else(|| own.clone());
        states.entry(own).or_insert(entry);
        self.graph.state(&full, shape, DType::F32)
    }

    /// Traces a graph of the file whose inputs are in `env` already; its outputs.
    pub fn graph(&self, proto: &'m GraphProto, mut env: Env<'g>, frame: &Frame<'m>) -> Result<Vec<(String, Val<'g>)>> {
        self.charge(1 + env.len() / 16 + proto.initializer.len())?;
        if !proto.sparse_initializer.is_empty() {
            return Err(Error::unsupported("sparse initializers of an ONNX model".into()));
        }
        for tensor in &proto.initializer {
            let name = tensor.name.as_deref().unwrap_or_default();
            if !env.contains_key(name) {
                let constant = Constant::decode(tensor)
                    .map_err(|message| Error::unsupported(format!("the ONNX initializer `{name}`: {message}")))?;
                env.insert(name.to_string(), self.initializer(name, constant, frame));
            }
        }
        self.nodes(&proto.node, &mut env, frame)?;
        let named = proto.output.iter().map(|output| output.name.as_deref().unwrap_or_default());
        named.map(|name| Ok((name.to_string(), lookup(&env, name)?.clone()))).collect()
    }

    /// Floats that are not needed as constants are weights; the rest is known.
    fn initializer(&self, name: &str, constant: Constant, frame: &Frame<'m>) -> Val<'g> {
        let full: Rc<str> = format!("{}{name}", frame.prefix).into();
        let float = constant.elem == Elem::F32 || constant.elem == Elem::F64 && self.model.doubles;
        if float && constant.shape.rank() > 0 && !frame.needed.contains(name) {
            let constant = constant.rounded();
            let tensor = self.state(&full, &constant.shape, constant.data, Kind::Weight);
            return Val { known: None, tensor: Some(tensor), name: full };
        }
        Val { known: Some(Rc::new(constant)), tensor: None, name: full }
    }

    /// Traces nodes in order, adding their outputs to the values.
    pub fn nodes(&self, nodes: &'m [NodeProto], env: &mut Env<'g>, frame: &Frame<'m>) -> Result<()> {
        if frame.depth > MAX_CALLS {
            return Err(invalid(format!("functions or graphs are nested more than {MAX_CALLS} deep")));
        }
        for node in nodes {
            self.charge(1)?;
            let before = self.graph.len();
            let outputs = self.node(node, env, frame)?;
            self.graph.error()?;
            self.check_sizes(before)?;
            for (name, mut value) in node.output.iter().zip(outputs).filter(|(name, _)| !name.is_empty()) {
                if value.shape().numel() > MAX_ELEMENTS {
                    let message = format!("`{name}` of shape {} has more than {MAX_ELEMENTS} elements", value.shape());
                    return Err(invalid(message));
                }
                if value.name.is_empty() || value.tensor.is_none() {
                    value.name = format!("{}{name}", frame.prefix).into();
                }
                env.insert(name.clone(), value);
            }
        }
        Ok(())
    }

    /// Counts work, so that a small file cannot ask for more than a large one may.
    fn charge(&self, nodes: usize) -> Result<()> {
        self.executed.set(self.executed.get().saturating_add(nodes));
        let most = MAX_WRITTEN_OUT + 2 * self.model.size;
        if self.executed.get() > most {
            return Err(invalid(format!("more than {most} nodes are to be traced")));
        }
        Ok(())
    }

    /// No node may be so large that products of its sizes could overflow later.
    fn check_sizes(&self, from: usize) -> Result<()> {
        if self.graph.len() > MAX_TRACED {
            return Err(invalid(format!("it becomes more than {MAX_TRACED} nodes")));
        }
        for node in from..self.graph.len() {
            let shape = self.graph.type_of(Value { node: node as u32, output: 0 }).shape;
            let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size.max(1)));
            if elements.is_none_or(|elements| elements > MAX_VIEWED) {
                return Err(invalid(format!("a tensor of shape {shape} is too large")));
            }
        }
        Ok(())
    }

    fn node(&self, node: &'m NodeProto, env: &Env<'g>, frame: &Frame<'m>) -> Outputs<'g> {
        let domain = node.domain.as_deref().unwrap_or_default();
        let domain = if domain == "ai.onnx" { "" } else { domain };
        let op_type = node.op_type.as_deref().unwrap_or_default();
        let inputs = node
            .input
            .iter()
            .map(|name| if name.is_empty() { Ok(None) } else { lookup(env, name).map(|value| Some(value.clone())) })
            .collect::<Result<Vec<_>>>()?;
        if let Some(function) = self.model.function(domain, op_type) {
            return self.function(function, node, inputs, frame);
        }
        let opset = frame.opsets.get(domain).copied();
        let output = node.output.iter().find(|name| !name.is_empty()).map_or("", String::as_str);
        let path = format!("{}{output}", frame.prefix);
        let call = Call { node, opset: opset.unwrap_or(1), inputs, tracer: self, path, bound: frame.bound.as_ref() };
        let Some(op) = ops::lookup(domain, op_type) else {
            let place = if domain.is_empty() { String::new() } else { format!(" of the domain `{domain}`") };
            return Err(call.unsupported(format_args!("there is no such operator{place} in this importer")));
        };
        if opset.is_none() {
            return Err(invalid(format!("it uses operators of the domain `{domain}`, but states no version of it")));
        }
        let label = node.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(op_type);
        self.graph.scope(label, || match op.run {
            ops::Run::Plain(run) => match fold::fold(&call, run)? {
                Some(known) => Ok(self.filled(&call, known, frame)),
                None => run(&call),
            },
            ops::Run::Nested(run) => run(&call, env, frame),
        })
    }

    /// Where filled tensors are weights: one that `ConstantOfShape` made becomes a state.
    fn filled(&self, call: &Call<'_, 'g>, known: Vec<Val<'g>>, frame: &Frame<'m>) -> Vec<Val<'g>> {
        let (Some(value), Some(name)) = (known.first(), call.node.output.first()) else { return known };
        let Some(constant) = &value.known else { return known };
        let weight = self.filled_weights
            && call.op() == "ConstantOfShape"
            && constant.elem == Elem::F32
            && constant.data.len() > 1
            && !frame.needed.contains(name.as_str());
        if !weight {
            return known;
        }
        let full = format!("{}{name}", frame.prefix);
        let tensor = self.state(&full, &constant.shape, constant.data.clone(), Kind::Weight);
        vec![Val { known: None, tensor: Some(tensor), name: full.into() }]
    }

    /// The body of a function in place of its call.
    fn function(
        &self,
        function: &'m FunctionProto,
        node: &'m NodeProto,
        inputs: Vec<Option<Val<'g>>>,
        frame: &Frame<'m>,
    ) -> Outputs<'g> {
        let mut bound = HashMap::new();
        for attribute in function.attribute_proto.iter().chain(&node.attribute) {
            let given = match attribute.ref_attr_name.as_deref().filter(|outer| !outer.is_empty()) {
                Some(outer) => frame.bound.as_ref().and_then(|bound| bound.get(outer)).cloned(),
                None => Some(attribute.clone()),
            };
            if let (Some(name), Some(given)) = (&attribute.name, given) {
                bound.insert(name.clone(), given);
            }
        }
        let mut env: Env<'g> = HashMap::new();
        let absent = Val { known: None, tensor: None, name: "".into() };
        for (index, name) in function.input.iter().enumerate() {
            env.insert(name.clone(), inputs.get(index).cloned().flatten().unwrap_or_else(|| absent.clone()));
        }
        let label = node.output.iter().find(|name| !name.is_empty()).map_or("", String::as_str);
        let inner = Frame {
            opsets: Rc::new(super::opsets(&function.opset_import)),
            bound: Some(bound),
            prefix: format!("{}{label}/", frame.prefix),
            needed: self.needs.of(&function.node),
            depth: frame.depth + 1,
        };
        self.nodes(&function.node, &mut env, &inner)?;
        function.output.iter().map(|name| lookup(&env, name).cloned()).collect()
    }

    /// A frame for a graph that is an attribute of a node.
    pub fn nested(&self, proto: &'m GraphProto, label: &str, frame: &Frame<'m>) -> Frame<'m> {
        Frame {
            opsets: frame.opsets.clone(),
            bound: frame.bound.clone(),
            prefix: format!("{}{label}/", frame.prefix),
            needed: self.needs.of(&proto.node),
            depth: frame.depth + 1,
        }
    }
}

/// A value that an earlier node must have given.
pub fn lookup<'e, 'g>(env: &'e Env<'g>, name: &str) -> Result<&'e Val<'g>> {
    env.get(name).ok_or_else(|| {
        invalid(format!("`{name}` is read before any node gives it (nodes must be in an order in which they can run)"))
    })
}

/// Whether so much may be computed while importing.
pub fn foldable(values: &[Option<Val<'_>>]) -> bool {
    values.iter().flatten().all(|value| value.known.as_ref().is_some_and(|known| known.data.len() <= MAX_FOLDED))
}
