//! ONNX models: a file's graph becomes tensors of a [`Graph`], to be run or trained.
//!
//! [`Model::parse`] reads a file, which may be hostile: sizes are checked before anything is allocated, and what cannot be
//! done is a typed error. [`Model::trace`] writes its operators into a graph. Shapes are static, so inputs that decide about
//! them (shapes, axes, counts, sizes; [`Model::constant_inputs`]) are given as constants. Elements are f32, i32 (i64 is read
//! as i32, and what does not fit is refused) and bool. Loops with an unknown end, sequences, strings, quantised and random
//! operators are not there: [`ErrorKind::Unsupported`]. Data in other files is never read.
//!
//! Read next: `trace.rs`, then `ops/mod.rs` for the list of operators.

mod call;
// What reads bytes checks every number; the others read graphs whose sizes these have checked.
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]
mod constant;
mod fold;
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]
mod limits;
mod needs;
mod ops;
mod proto;
mod trace;
mod trainable;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{Graph, Tensor};
use crate::reference::Array;
use call::Val;
use constant::{Constant, Elem};
use needs::Needs;
use prost::Message;
use prost::bytes::Bytes;
use proto::{FunctionProto, GraphProto, ModelProto, OperatorSetIdProto, ValueInfoProto};
use std::collections::HashMap;
use std::rc::Rc;
use trace::{Env, Frame, Tracer};
pub use trainable::Trainable;

/// A model as its file has it.
#[derive(Debug, Clone)]
pub struct Model {
    graph: GraphProto,
    functions: HashMap<(String, String), FunctionProto>,
    opsets: Rc<HashMap<String, i64>>,
    /// Number of nodes.
    size: usize,
    prefix: String,
    doubles: bool,
    any_sizes: bool,
}

/// An input or output of a model as the file declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    pub name: String,
    /// `None` for types that are not supported.
    pub dtype: Option<DType>,
    /// The sizes, `None` where they differ from run to run; `None` altogether if even the rank may.
    pub shape: Option<Vec<Option<usize>>>,
}

/// What a model became in a graph.
#[derive(Debug, Clone)]
pub struct Traced<'g> {
    /// The outputs by name.
    pub outputs: Vec<(String, Tensor<'g>)>,
    /// The graph's states that the model brought along, with their values: weights, and constants that are too long
    /// to be written into the graph. All are f32.
    pub states: Vec<(String, Array)>,
}

/// The file contradicts itself or the format.
fn invalid(message: String) -> Error {
    Error::format("the model".into(), "ONNX", message)
}

/// Versions of operator sets by domain.
fn opsets(imports: &[OperatorSetIdProto]) -> HashMap<String, i64> {
    let domain = |import: &OperatorSetIdProto| match import.domain.as_deref().unwrap_or_default() {
        "ai.onnx" => String::new(),
        other => other.to_string(),
    };
    imports.iter().map(|import| (domain(import), import.version.unwrap_or(1))).collect()
}

impl Model {
    /// Reads a file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Model> {
        limits::check(bytes).map_err(invalid)?;
        let proto = ModelProto::decode(Bytes::copy_from_slice(bytes)).map_err(|error| invalid(error.to_string()))?;
        let graph = proto.graph.ok_or_else(|| invalid("it has no graph".into()))?;
        if proto.ir_version.is_none() || proto.opset_import.is_empty() {
            return Err(invalid("it states no version of the format or of its operators".into()));
        }
        let key = |function: &FunctionProto| {
            let domain = function.domain.clone().unwrap_or_default();
            let domain = if domain == "ai.onnx" { String::new() } else { domain };
            (domain, function.name.clone().unwrap_or_default())
        };
        let size = graph.node.len() + proto.functions.iter().map(|function| function.node.len()).sum::<usize>();
        let functions = proto.functions.into_iter().map(|function| (key(&function), function)).collect();
        Ok(Model {
            graph,
            functions,
            opsets: Rc::new(opsets(&proto.opset_import)),
            size,
            prefix: String::new(),
            doubles: false,
            any_sizes: false,
        })
    }

    /// Puts something before the names of all states, so that several models fit into one graph.
    pub fn prefixed(self, prefix: &str) -> Model {
        Model { prefix: prefix.into(), ..self }
    }

    /// Reads tensors of doubles as f32, which they are refused as otherwise.
    pub fn doubles_as_floats(self) -> Model {
        Model { doubles: true, ..self }
    }

    /// Takes inputs of other sizes than the file declares: another batch, another resolution. Whether its operators
    /// allow that is seen when they are traced.
    pub fn any_sizes(self) -> Model {
        Model { any_sizes: true, ..self }
    }

    fn function(&self, domain: &str, name: &str) -> Option<&FunctionProto> {
        if self.functions.is_empty() {
            return None;
        }
        self.functions.get(&(domain.to_string(), name.to_string()))
    }

    /// The inputs that must be fed: those without a value in the file.
    pub fn inputs(&self) -> Vec<Declared> {
        let has_value = |name: &Option<String>| self.graph.initializer.iter().any(|tensor| tensor.name == *name);
        self.graph.input.iter().filter(|input| !has_value(&input.name)).map(|info| self.declared(info)).collect()
    }

    /// The outputs.
    pub fn outputs(&self) -> Vec<Declared> {
        self.graph.output.iter().map(|info| self.declared(info)).collect()
    }

    /// Inputs that decide about shapes (axes, counts, sizes) and must be given to [`Model::trace`] as constants.
    pub fn constant_inputs(&self) -> Vec<String> {
        let needed = Needs::new(self).of(&self.graph.node);
        self.inputs().into_iter().map(|input| input.name).filter(|name| needed.contains(name.as_str())).collect()
    }

    /// Writes the model into a graph. Every input is given either as a tensor of that graph (of f32, i32 or bool), or as a
    /// constant; those of [`Model::constant_inputs`] must be constants.
    pub fn trace<'g>(
        &self,
        graph: &'g Graph,
        inputs: &[(&str, Tensor<'g>)],
        constants: &[(&str, Array)],
    ) -> Result<Traced<'g>> {
        let tracer = Tracer::new(self, graph);
        self.run(&tracer, inputs, constants)
    }

    fn run<'g>(
        &self,
        tracer: &Tracer<'_, 'g>,
        inputs: &[(&str, Tensor<'g>)],
        constants: &[(&str, Array)],
    ) -> Result<Traced<'g>> {
        let mut env: Env<'g> = HashMap::new();
        for (name, tensor) in inputs {
            let value = Val { known: None, tensor: Some(*tensor), name: (*name).into() };
            env.insert((*name).to_string(), value);
        }
        for (name, array) in constants {
            let known = Some(Rc::new(Constant::from_array(array.clone())));
            let full = format!("{}{name}", self.prefix).into();
            env.insert((*name).to_string(), Val { known, tensor: None, name: full });
        }
        self.check_inputs(&env)?;
        let frame = Frame {
            opsets: self.opsets.clone(),
            bound: None,
            prefix: self.prefix.clone(),
            needed: tracer.needs.of(&self.graph.node),
            depth: 0,
        };
        let outputs = tracer.graph(&self.graph, env, &frame)?;
        let outputs =
            outputs.into_iter().map(|(name, value)| Ok((name, tracer.tensor(&value)?))).collect::<Result<Vec<_>>>()?;
        tracer.graph.error()?;
        let states = tracer.states.borrow().iter().map(|(name, (array, _))| (name.clone(), array.clone())).collect();
        Ok(Traced { outputs, states })
    }

    fn declared(&self, info: &ValueInfoProto) -> Declared {
        let tensor = info.r#type.as_ref().and_then(|ty| ty.tensor_type.as_ref());
        let elem = tensor.and_then(|tensor| tensor.elem_type).and_then(Elem::from_number);
        let size = |dim: &proto::DimensionProto| dim.dim_value.and_then(|size| usize::try_from(size).ok());
        let sizes = tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| shape.dim.iter().map(size).collect());
        Declared {
            name: info.name.clone().unwrap_or_default(),
            dtype: elem.filter(|elem| self.doubles || *elem != Elem::F64).map(Elem::dtype),
            shape: sizes,
        }
    }

    /// What is given against what the file declares.
    fn check_inputs(&self, env: &Env<'_>) -> Result<()> {
        for input in self.inputs() {
            let Some(value) = env.get(&input.name) else {
                return Err(Error::feed(format!("the ONNX model's input `{}` was not given", input.name)));
            };
            let Some(dtype) = input.dtype else {
                let message =
                    format!("the ONNX model's input `{}` is not a tensor of f32, i32, i64 or bool", input.name);
                return Err(Error::unsupported(message));
            };
            let shape = value.shape();
            let fits = input.shape.as_ref().is_none_or(|sizes| {
                sizes.len() == shape.rank()
                    && sizes
                        .iter()
                        .zip(shape.iter())
                        .all(|(size, own)| self.any_sizes || size.is_none_or(|s| s == *own))
            });
            if dtype != value.dtype() || !fits {
                return Err(Error::feed(format!(
                    "the ONNX model's input `{}` is {dtype} {:?}, but was given {} {shape}",
                    input.name,
                    input.shape.unwrap_or_default(),
                    value.dtype()
                )));
            }
        }
        Ok(())
    }
}

/// Reads a tensor that was saved on its own (`onnx.save_tensor`, the test data of models): f32, f64 rounded to f32, i32,
/// i64 as i32, bool.
pub fn parse_tensor(bytes: &[u8]) -> Result<Array> {
    limits::check_tensor(bytes).map_err(invalid)?;
    let tensor =
        proto::TensorProto::decode(Bytes::copy_from_slice(bytes)).map_err(|error| invalid(error.to_string()))?;
    let constant = Constant::decode(&tensor).map_err(Error::unsupported)?;
    if !constant.fits() {
        return Err(Error::unsupported("a tensor of integers beyond 32 bits".into()));
    }
    Ok(constant.rounded().to_array())
}
