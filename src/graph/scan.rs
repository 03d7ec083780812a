//! The body of a scan: a computation of its own, run once for each index of the stacked operands.
//!
//! Plain data: nodes with operands in front and results by value. It does not know what it is stepped
//! along; [`super::Op::Scan`] holds the number of steps, `tensor::scan` traces bodies.

use super::{Graph, Node, Op, Tensor, TensorType, Value};
use std::hash::{Hash, Hasher};

/// What one step of a scan computes.
///
/// Operands: the carries, then a slice of each stacked operand, then the constants. Results: the new
/// carries, then what is stacked up. Two bodies are equal when they compute the same.
#[derive(Debug, Clone)]
pub struct ScanBody {
    /// The operands first, in order; then what is computed from them.
    nodes: Vec<Node>,
    operands: usize,
    carries: usize,
    slices: usize,
    results: Vec<Value>,
}

impl ScanBody {
    /// Takes what `results` need out of a graph. `operands` are values of it that the body is given:
    /// `carries` carries, `slices` slices, and constants; what computed them is left behind.
    pub fn new(graph: &Graph, operands: &[Value], carries: usize, slices: usize, results: &[Value]) -> ScanBody {
        let nodes = graph.nodes();
        let mut needed = vec![false; nodes.len()];
        results.iter().filter(|value| !operands.contains(value)).for_each(|value| needed[value.node as usize] = true);
        for index in (0..nodes.len()).rev() {
            if needed[index] {
                let inputs = nodes[index].inputs.iter().filter(|input| !operands.contains(input));
                inputs.for_each(|input| needed[input.node as usize] = true);
            }
        }
        let mut own: Vec<Node> = operands.iter().enumerate().map(|(i, &value)| operand(graph, i, value)).collect();
        let mut moved = vec![0; nodes.len()];
        let place = |value: Value, moved: &[u32]| match operands.iter().position(|&operand| operand == value) {
            Some(index) => Value { node: index as u32, output: 0 },
            None => Value { node: moved[value.node as usize], ..value },
        };
        for (index, node) in nodes.into_iter().enumerate().filter(|(index, _)| needed[*index]) {
            moved[index] = own.len() as u32;
            let inputs = node.inputs.iter().map(|&input| place(input, &moved)).collect();
            own.push(Node { inputs, ..node });
        }
        let results = results.iter().map(|&value| place(value, &moved)).collect();
        ScanBody { nodes: own, operands: operands.len(), carries, slices, results }
    }

    /// Number of carries: both the first operands and the first results.
    pub fn carries(&self) -> usize {
        self.carries
    }

    /// Number of operands that are sliced along their first axis.
    pub fn slices(&self) -> usize {
        self.slices
    }

    /// Number of all operands.
    pub fn operands(&self) -> usize {
        self.operands
    }

    /// Number of all results.
    pub fn results(&self) -> usize {
        self.results.len()
    }

    /// The type of an operand, as one step sees it.
    pub fn operand_type(&self, index: usize) -> &TensorType {
        &self.nodes[index].outputs[0]
    }

    /// The type of a result, as one step gives it.
    pub fn result_type(&self, index: usize) -> &TensorType {
        let value = self.results[index];
        &self.nodes[value.node as usize].outputs[value.output as usize]
    }

    /// Which operands a result depends on within one step.
    pub fn needs(&self, result: usize) -> Vec<bool> {
        let mut needed = vec![false; self.nodes.len()];
        needed[self.results[result].node as usize] = true;
        for index in (self.operands..self.nodes.len()).rev() {
            if needed[index] {
                self.nodes[index].inputs.iter().for_each(|input| needed[input.node as usize] = true);
            }
        }
        needed.truncate(self.operands);
        needed
    }

    /// The operations of the body, operands left out.
    pub fn operations(&self) -> &[Node] {
        &self.nodes[self.operands..]
    }

    /// Writes the body into a graph, given its operands; its results.
    #[track_caller]
    pub fn write<'g>(&self, graph: &'g Graph, operands: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let mut written: Vec<Value> = operands.iter().take(self.operands).map(|tensor| tensor.value()).collect();
        let place = |value: Value, written: &[Value]| match value.output {
            0 => written[value.node as usize],
            output => Value { node: written[value.node as usize].node, output },
        };
        for node in self.operations() {
            let inputs: Vec<Value> = node.inputs.iter().map(|&input| place(input, &written)).collect();
            written.push(graph.in_scope(&node.scope, || graph.push(node.op.clone(), &inputs)));
        }
        self.results.iter().map(|&value| Tensor::new(graph, place(value, &written))).collect()
    }

    /// Declares the operands as inputs `0`, `1`, … of an empty graph.
    pub fn declare<'g>(&self, graph: &'g Graph) -> Vec<Tensor<'g>> {
        let input = |index: usize| {
            let TensorType { shape, dtype } = self.operand_type(index);
            graph.input(&index.to_string(), shape, *dtype)
        };
        (0..self.operands).map(input).collect()
    }

    /// What a body must not contain, by name, with the reason.
    pub fn refused(&self) -> Result<(), String> {
        for node in self.operations() {
            let why = match &node.op {
                Op::RandomBits { .. } => "would be the same in every step; draw them outside and pass them as slices",
                Op::Scan { .. } => "is a loop in a loop, which programs do not have; unroll one of them",
                _ => continue,
            };
            return Err(format!("its body contains `{}`, which {why}", node.op.name()));
        }
        Ok(())
    }
}

/// The node that stands for an operand.
fn operand(graph: &Graph, index: usize, value: Value) -> Node {
    let scope = graph.node(value.node).scope;
    let op = Op::Input(index.to_string().into());
    Node { op, inputs: vec![], outputs: vec![graph.type_of(value)], scope }
}

// Scopes are names for people and do not change what is computed.
impl PartialEq for ScanBody {
    fn eq(&self, other: &ScanBody) -> bool {
        let same = |(a, b): (&Node, &Node)| a.op == b.op && a.inputs == b.inputs && a.outputs == b.outputs;
        self.carries == other.carries
            && self.slices == other.slices
            && self.results == other.results
            && self.operands == other.operands
            && self.nodes.len() == other.nodes.len()
            && self.nodes.iter().zip(&other.nodes).all(same)
    }
}

impl Eq for ScanBody {}

impl Hash for ScanBody {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.carries, self.slices, self.operands, &self.results).hash(state);
        for node in &self.nodes {
            (&node.op, &node.inputs).hash(state);
        }
    }
}
