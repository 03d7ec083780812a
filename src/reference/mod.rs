//! What every operation *means*: a slow interpreter of the graph, the oracle of the tests.
//!
//! All arithmetic is done in f64; see [`Precision`] for how results are rounded. It knows nothing
//! about kernels, devices or passes, and favours the plain definition over speed. Macro-ops are
//! interpreted by their expansion. Read `compute.rs` and `movement.rs` for the definitions.
//!
//! Integers wrap around to 32 bits after every operation, their division truncates, and dividing
//! by zero gives the dividend, all as WGSL has it. A gather outside the table gives zeros, a
//! scatter outside is dropped, a dynamic start is clamped, and a maximum of nothing is -infinity.

mod compute;
#[cfg(test)]
mod macro_tests;
mod movement;
mod pointwise;
mod scan;
#[cfg(test)]
mod tests;
mod value;

pub use value::{Array, Precision};

use crate::error::{Error, Result};
use crate::graph::{Graph, MacroOp, Node, Op, Tensor, TensorType, Value};
use crate::tensor::expand::expand;
use std::collections::HashMap;
use value::settle;

/// What a run of a graph gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The named results, in the order they were named.
    pub outputs: Vec<(String, Array)>,
    /// The new values of the states that were assigned.
    pub states: HashMap<String, Array>,
}

/// Runs a graph in f64: its outputs and the states' new values.
pub fn run(graph: &Graph, inputs: &HashMap<String, Array>, states: &HashMap<String, Array>) -> Result<Outcome> {
    Reference::new(graph, inputs, states).run()
}

/// Evaluates some values of a graph in f64. Nothing that they do not need is looked at.
pub fn eval(
    graph: &Graph,
    values: &[Value],
    inputs: &HashMap<String, Array>,
    states: &HashMap<String, Array>,
) -> Result<Vec<Array>> {
    Reference::new(graph, inputs, states).eval(values)
}

/// A graph together with what it reads.
#[derive(Clone, Copy)]
pub struct Reference<'a> {
    graph: &'a Graph,
    inputs: &'a HashMap<String, Array>,
    states: &'a HashMap<String, Array>,
    precision: Precision,
}

impl<'a> Reference<'a> {
    /// In f64. Inputs and states may hold more than the graph names.
    pub fn new(
        graph: &'a Graph,
        inputs: &'a HashMap<String, Array>,
        states: &'a HashMap<String, Array>,
    ) -> Reference<'a> {
        Reference { graph, inputs, states, precision: Precision::F64 }
    }

    /// The same with results rounded otherwise.
    pub fn precision(self, precision: Precision) -> Reference<'a> {
        Reference { precision, ..self }
    }

    /// The outputs and the states' new values.
    pub fn run(self) -> Result<Outcome> {
        let outputs = self.graph.outputs();
        let mut assigned: Vec<(String, Value)> = Vec::new();
        for (index, node) in self.graph.nodes().iter().enumerate() {
            if let Op::Assign(name) = &node.op {
                assigned.push((name.to_string(), Value { node: index as u32, output: 0 }));
            }
        }
        let values: Vec<Value> =
            outputs.iter().map(|(_, value)| *value).chain(assigned.iter().map(|(_, value)| *value)).collect();
        let mut arrays = self.eval(&values)?;
        let states = arrays.split_off(outputs.len());
        Ok(Outcome {
            outputs: outputs.iter().map(|(name, _)| name.to_string()).zip(arrays).collect(),
            states: assigned.into_iter().map(|(name, _)| name).zip(states).collect(),
        })
    }

    /// Some values of the graph.
    pub fn eval(self, values: &[Value]) -> Result<Vec<Array>> {
        self.graph.error()?;
        let nodes = self.graph.nodes();
        let last_use = last_uses(&nodes, values);
        let mut results: Vec<Vec<Array>> = vec![Vec::new(); nodes.len()];
        for (index, node) in nodes.iter().enumerate().filter(|(index, _)| last_use[*index] > 0) {
            let operands: Vec<&Array> =
                node.inputs.iter().map(|input| &results[input.node as usize][input.output as usize]).collect();
            results[index] = self.node(node, &operands)?;
            for input in node.inputs.iter().filter(|input| last_use[input.node as usize] == index) {
                results[input.node as usize].clear();
            }
        }
        Ok(values.iter().map(|value| results[value.node as usize][value.output as usize].clone()).collect())
    }

    /// The outputs of one node, rounded to their types.
    fn node(self, node: &Node, x: &[&Array]) -> Result<Vec<Array>> {
        let settled = |(data, ty): (Vec<f64>, &TensorType)| Array {
            data: data.into_iter().map(|value| settle(value, ty.dtype, self.precision)).collect(),
            ty: ty.clone(),
        };
        Ok(self.op(&node.op, x, &node.outputs[0])?.into_iter().zip(&node.outputs).map(settled).collect())
    }

    /// The elements of an operation's outputs before rounding; `out` is the type of the first.
    fn op(self, op: &Op, x: &[&Array], out: &TensorType) -> Result<Vec<Vec<f64>>> {
        let shape = &out.shape;
        Ok(vec![match op {
            Op::Input(name) => feed(self.inputs, "input", name, out)?,
            Op::State(name) => feed(self.states, "state", name, out)?,
            Op::Const(literal) => vec![literal.value()],
            Op::Iota { shape, axis } => compute::iota(shape, *axis),
            Op::RandomBits { shape, stream } => compute::random_bits(x[0], shape, *stream),
            Op::Pointwise(op) => pointwise::pointwise(*op, x),
            Op::Cast(dtype) => pointwise::cast(x[0], *dtype),
            Op::StopGradient | Op::Reshape(_) | Op::Assign(_) => x[0].data.clone(),
            Op::Permute(axes) => movement::permute(x[0], axes),
            Op::Expand(to) => movement::expand(x[0], to),
            Op::Slice { starts, sizes } => movement::slice(x[0], starts, sizes),
            Op::Window { axis, size, stride, dilation } => movement::window(x[0], *axis, *size, *stride, *dilation),
            Op::Fold { axis, stride, dilation, .. } => movement::fold(x[0], *axis, *stride, *dilation, shape),
            Op::Pad { before, value, .. } => movement::pad(x[0], before, *value, shape),
            Op::Concat { axis } => movement::concat(x, *axis, shape),
            Op::DynamicSlice { axis, size } => movement::dynamic_slice(x[0], x[1], *axis, *size),
            Op::DynamicUpdate { axis } => movement::dynamic_update(x[0], x[1], x[2], *axis),
            Op::Reduce { kind, axes } => compute::reduce(x[0], *kind, axes, shape),
            Op::ArgMax { axis } => compute::argmax(x[0], *axis),
            Op::CumSum { axis, reverse, exclusive } => compute::cumsum(x[0], *axis, *reverse, *exclusive),
            Op::ArgSort { axis, descending } => compute::argsort(x[0], *axis, *descending),
            Op::SumSquares { each: false } => vec![compute::sum_squares(x)],
            Op::SumSquares { each: true } => x.iter().map(|&one| compute::sum_squares(&[one])).collect(),
            Op::MatMul => compute::matmul(x[0], x[1], shape),
            Op::Gather => compute::gather(x[0], x[1]),
            Op::ScatterAdd { .. } => compute::scatter_add(x[0], x[1], shape),
            Op::Custom(op) => {
                let types: Vec<TensorType> = x.iter().map(|array| array.ty.clone()).collect();
                let data: Vec<&[f64]> = x.iter().map(|array| array.data.as_slice()).collect();
                sized(&op.name, (op.meaning)(&types, &data), shape.numel())?
            }
            Op::Scan { body, length, reverse } => return scan::scan(body, *length, *reverse, x, self.precision),
            Op::Macro(op) => return self.macro_op(*op, x),
        }])
    }

    /// Expands a macro-op into a graph of its own and evaluates that.
    fn macro_op(self, op: MacroOp, x: &[&Array]) -> Result<Vec<Vec<f64>>> {
        let graph = Graph::new();
        let named: HashMap<String, Array> =
            x.iter().enumerate().map(|(index, array)| (index.to_string(), Array::clone(array))).collect();
        let operands: Vec<Tensor<'_>> = x
            .iter()
            .enumerate()
            .map(|(index, array)| graph.input(&index.to_string(), &array.ty.shape, array.ty.dtype))
            .collect();
        let values: Vec<Value> = expand(op, &operands).into_iter().map(Tensor::value).collect();
        let arrays = Reference::new(&graph, &named, &HashMap::new()).precision(self.precision).eval(&values)?;
        Ok(arrays.into_iter().map(|array| array.data).collect())
    }
}

/// For each node the last node that reads it, `usize::MAX` if it is wanted itself, 0 if nobody needs it.
fn last_uses(nodes: &[Node], wanted: &[Value]) -> Vec<usize> {
    let mut last = vec![0; nodes.len()];
    for value in wanted {
        last[value.node as usize] = usize::MAX;
    }
    for (index, node) in nodes.iter().enumerate().rev() {
        if last[index] > 0 {
            for input in &node.inputs {
                last[input.node as usize] = last[input.node as usize].max(index);
            }
        }
    }
    last
}

fn feed(given: &HashMap<String, Array>, kind: &str, name: &str, ty: &TensorType) -> Result<Vec<f64>> {
    let array = given.get(name).ok_or_else(|| Error::feed(format!("{kind} `{name}` ({ty}) was not given")))?;
    array.check(kind, name, ty)?;
    Ok(array.data.clone())
}

/// A custom operation's elements, if there are as many as its shape says.
fn sized(name: &str, data: Vec<f64>, wanted: usize) -> Result<Vec<f64>> {
    if data.len() == wanted {
        return Ok(data);
    }
    let message = format!("its meaning gives {} elements where its shape has {wanted}", data.len());
    Err(Error::compile(format!("the custom operation `{name}`"), message))
}
