//! Tensors beyond the device's binding limit, in parts: the graph is written anew so that every stored value can be bound.
//!
//! A value that is too large becomes a tree of parts along its axes ([`parted`]), and whatever computes or reads it is
//! computed part by part, along an axis that the operation allows ([`ways`], [`movement`]): rows of logits with their loss
//! and gradient, pieces of a table. Results that do not share that axis are put together from the parts, or summed up. States lie in
//! pieces already ([`crate::program::StateLayout`]); each is a leaf of its own here. What cannot be split is an error that
//! names the tensor. Runs only where a program would not be legal without it; chooses no kernel.

mod movement;
mod parted;
mod schedule;
mod ways;

use super::border::Border;
use super::views::Views;
use crate::error::{Error, Result};
use crate::graph::{Graph, Literal, Node, Op, PointwiseOp, Tensor, TensorType, Value, describe};
use crate::passes::is_half;
use crate::program::{StateLayout, even, piece_name};
use parted::{Form, Parted};
use std::collections::HashMap;
use std::rc::Rc;
use ways::{Joined, Way, ways};

/// More parts along one axis are no plan but a flood of kernels.
const MOST_PARTS: usize = 4096;

/// The graph with every stored value within `limit` bytes.
pub fn split(graph: &Graph, layout: &StateLayout, limit: u64) -> Result<Graph> {
    let mut splitter = Splitter::new(graph, layout, limit);
    let live = graph.live();
    let mut known: HashMap<Value, Parted> = HashMap::new();
    for (index, node) in graph.nodes().iter().enumerate().filter(|(index, _)| live[*index]) {
        let operands: Vec<Parted> = node.inputs.iter().filter_map(|input| known.get(input).cloned()).collect();
        let to = Rc::clone(&splitter.graph);
        let results = to.in_scope(&node.scope, || splitter.node(node, operands))?;
        for (output, value) in results.into_iter().enumerate() {
            known.insert(Value { node: index as u32, output: output as u32 }, value);
        }
    }
    for (name, value) in graph.outputs() {
        let Some(value) = known.get(&value) else { continue };
        let whole = splitter.whole(value)?.ok_or_else(|| splitter.refused(&format!("the output `{name}`"), value))?;
        splitter.graph.output(&name, Tensor::new(&splitter.graph, whole));
    }
    splitter.graph.error()?;
    Ok(schedule::by_parts(&splitter.graph, &splitter.parts))
}

struct Splitter<'a> {
    layout: &'a StateLayout,
    limit: u64,
    graph: Rc<Graph>,
    views: Views,
    /// Which nodes of the new graph compute parts.
    parts: Vec<std::ops::Range<usize>>,
    depth: usize,
}

impl<'a> Splitter<'a> {
    fn new(from: &Graph, layout: &'a StateLayout, limit: u64) -> Splitter<'a> {
        let graph = Rc::new(Graph::new());
        graph.inherit(from);
        Splitter { layout, limit, graph, views: Views::within(&Border::default()), parts: vec![], depth: 0 }
    }

    fn exceeds(&self, ty: &TensorType) -> bool {
        ty.dtype.bytes(&ty.shape) > self.limit
    }

    fn push(&self, op: Op, inputs: &[Value]) -> Value {
        self.graph.push(op, inputs)
    }

    /// The sum of squares of each operand, whatever parts it lies in.
    fn squares_of_each(&mut self, operands: &[Parted]) -> Value {
        let leaves = |operand: &Parted| {
            let mut own = Vec::new();
            operand.leaves(&mut own);
            own
        };
        let all: Vec<Vec<Value>> = operands.iter().map(leaves).collect();
        if all.iter().all(|own| own.len() == 1) {
            return self.push(Op::SumSquares { each: true }, &all.concat());
        }
        let row = |own: &Vec<Value>| {
            let sum = self.push(Op::SumSquares { each: false }, own);
            self.push(Op::Reshape([1].into()), &[sum])
        };
        let rows: Vec<Value> = all.iter().map(row).collect();
        self.push(Op::Concat { axis: 0 }, &rows)
    }

    /// A node of the old graph, with what its operands became.
    fn node(&mut self, node: &Node, operands: Vec<Parted>) -> Result<Vec<Parted>> {
        match &node.op {
            Op::State(name) => return Ok(vec![self.state(name, &node.outputs[0])]),
            Op::Assign(name) => return self.assign(name, &operands[0]).map(|()| operands),
            Op::StopGradient => return Ok(operands),
            // Made where they are read, and stored nowhere; or put in place by the caller.
            Op::Input(_) | Op::Const(_) | Op::Iota { .. } | Op::RandomBits { .. } => {}
            Op::SumSquares { each: false } => {
                let mut all = Vec::new();
                operands.iter().for_each(|operand| operand.leaves(&mut all));
                let sum = self.push(node.op.clone(), &all);
                return Ok(vec![Parted::whole(node.outputs[0].clone(), sum)]);
            }
            Op::SumSquares { each: true } => {
                let sums = self.squares_of_each(&operands);
                return Ok(vec![Parted::whole(node.outputs[0].clone(), sums)]);
            }
            Op::Concat { axis } if self.must_split(&operands, &node.outputs) => {
                return Ok(vec![Parted::along(*axis, operands)]);
            }
            // Where no axis is left as it is.
            Op::Pad { before, after, value }
                if self.must_split(&operands, &node.outputs)
                    && (0..before.len())
                        .all(|axis| before[axis] + after[axis] > 0 || node.outputs[0].shape[axis] < 2) =>
            {
                return Ok(vec![self.padded(&operands[0], before, after, *value)]);
            }
            op if movement::is_movement(op) => return Ok(vec![self.movement(op, &operands[0], &node.outputs[0])?]),
            op => return self.compute(op, operands, &node.outputs),
        }
        let whole: Vec<Value> = operands.iter().filter_map(Parted::value).collect();
        Ok(self.record(&node.op, &whole, &node.outputs))
    }

    fn record(&self, op: &Op, inputs: &[Value], outputs: &[TensorType]) -> Vec<Parted> {
        let first = self.push(op.clone(), inputs);
        let one =
            |(output, ty): (usize, &TensorType)| Parted::whole(ty.clone(), Value { output: output as u32, ..first });
        outputs.iter().enumerate().map(one).collect()
    }

    /// A state in the pieces that its layout has.
    fn state(&self, name: &str, ty: &TensorType) -> Parted {
        let rows = self.rows(name, ty);
        let leaf = |name: &str, ty: &TensorType| {
            let value = self.graph.state(name, &ty.shape, ty.dtype).value();
            Parted::whole(ty.clone(), value)
        };
        match rows[..] {
            [] | [_] => leaf(name, ty),
            _ => {
                let piece = |(index, &size): (usize, &usize)| {
                    leaf(&piece_name(name, index), &TensorType::new(ty.shape.with(0, size), ty.dtype))
                };
                Parted::along(0, rows.iter().enumerate().map(piece).collect())
            }
        }
    }

    /// Rows of each piece of a state; one or none if it lies whole.
    fn rows(&self, name: &str, ty: &TensorType) -> Vec<usize> {
        let Some(entry) = self.layout.entries.get(name).filter(|entry| entry.pieces.len() > 1) else { return vec![] };
        let row = ty.dtype.bytes(&ty.shape) / ty.shape[0].max(1) as u64;
        entry.pieces.iter().map(|piece| (piece.bytes / row.max(1)) as usize).collect()
    }

    fn assign(&mut self, name: &str, value: &Parted) -> Result<()> {
        let rows = self.rows(name, &value.ty);
        let mut start = 0;
        for (index, &size) in rows.iter().enumerate() {
            let part = self.narrow(value, 0, start, size);
            let part = self.whole(&part)?.ok_or_else(|| self.refused(&format!("the state `{name}`"), value))?;
            self.graph.assign(&piece_name(name, index), Tensor::new(&self.graph, part));
            start += size;
        }
        if rows.is_empty() {
            let whole = self.whole(value)?.ok_or_else(|| self.refused(&format!("the state `{name}`"), value))?;
            self.graph.assign(name, Tensor::new(&self.graph, whole));
        }
        Ok(())
    }

    /// A range of an axis.
    fn narrow(&self, value: &Parted, axis: usize, start: usize, size: usize) -> Parted {
        if (start, size) == (0, value.ty.shape[axis]) {
            return value.clone();
        }
        match &value.form {
            Form::Whole(whole) => {
                let mut starts = vec![0; value.ty.shape.rank()];
                starts[axis] = start;
                let shape = value.ty.shape.with(axis, size);
                let sliced = self.push(Op::Slice { starts, sizes: shape.to_vec() }, &[*whole]);
                Parted::whole(TensorType::new(shape, value.ty.dtype), sliced)
            }
            Form::Parts { axis: own, parts } if *own != axis => {
                Parted::along(*own, parts.iter().map(|part| self.narrow(part, axis, start, size)).collect())
            }
            Form::Parts { parts, .. } => {
                let (mut at, mut met) = (0, Vec::new());
                for part in parts {
                    let (from, to) = (start.max(at), (start + size).min(at + part.ty.shape[axis]));
                    if from < to {
                        met.push(self.narrow(part, axis, from - at, to - from));
                    }
                    at += part.ty.shape[axis];
                }
                // Of nothing, any part has as much.
                if met.is_empty() { self.narrow(&parts[0], axis, 0, 0) } else { Parted::along(axis, met) }
            }
        }
    }

    /// The value in one piece, if it can be bound.
    fn whole(&self, value: &Parted) -> Result<Option<Value>> {
        let Form::Parts { axis, parts } = &value.form else { return Ok(value.value()) };
        if self.exceeds(&value.ty) {
            return Ok(None);
        }
        let mut list = Vec::with_capacity(parts.len());
        for part in parts {
            let Some(part) = self.whole(part)? else { return Ok(None) };
            // Only casts and movements know halves.
            list.push(if is_half(value.ty.dtype) { self.cast(part, crate::dtype::DType::F32) } else { part });
        }
        let joined = self.push(Op::Concat { axis: *axis }, &list);
        Ok(Some(if is_half(value.ty.dtype) { self.cast(joined, value.ty.dtype) } else { joined }))
    }

    fn cast(&self, value: Value, dtype: crate::dtype::DType) -> Value {
        self.push(Op::Cast(dtype), &[value])
    }

    /// Whether an operand is read in parts: it cannot be bound, or nothing can put it together as it is stored.
    fn stays_parted(&self, value: &Parted) -> bool {
        !value.is_whole() && (self.exceeds(&value.ty) || is_half(value.ty.dtype))
    }

    fn must_split(&self, operands: &[Parted], outputs: &[TensorType]) -> bool {
        outputs.iter().any(|ty| self.exceeds(ty)) || operands.iter().any(|operand| self.stays_parted(operand))
    }

    /// An operation on values of which some may be in parts, or whose results must be.
    fn compute(&mut self, op: &Op, operands: Vec<Parted>, outputs: &[TensorType]) -> Result<Vec<Parted>> {
        let too_large = outputs.iter().any(|ty| self.exceeds(ty));
        if !self.must_split(&operands, outputs) {
            let mut whole = Vec::with_capacity(operands.len());
            for operand in &operands {
                whole.extend(self.whole(operand)?);
            }
            return Ok(self.record(op, &whole, outputs));
        }
        let Some((way, sizes)) = self.choose(op, &operands, outputs, too_large) else {
            return Err(self.no_way(op, &operands, outputs));
        };
        let from = self.graph.len();
        self.depth += 1;
        let computed = self.in_ranges(op, &way, &sizes, &operands, outputs);
        self.depth -= 1;
        if self.depth == 0 {
            self.parts.push(from..self.graph.len());
        }
        computed
    }

    fn in_ranges(
        &mut self,
        op: &Op,
        way: &Way,
        sizes: &[usize],
        operands: &[Parted],
        outputs: &[TensorType],
    ) -> Result<Vec<Parted>> {
        let mut results: Vec<Vec<Parted>> = vec![Vec::with_capacity(sizes.len()); outputs.len()];
        let mut start = 0;
        for &size in sizes {
            let mut own = Vec::with_capacity(operands.len());
            for (index, operand) in operands.iter().enumerate() {
                let ranged = way.operands[index].map(|axis| self.narrow(operand, axis, start, size));
                let ranged = ranged.unwrap_or_else(|| operand.clone());
                own.push(if way.shifts == Some(index) { self.shifted(&ranged, start)? } else { ranged });
            }
            let types: Vec<TensorType> =
                outputs.iter().zip(&way.results).map(|(ty, join)| join.part(ty, size)).collect();
            let part = self.compute(&way.part(op, size), own, &types)?;
            results.iter_mut().zip(part).for_each(|(list, part)| list.push(part));
            start += size;
        }
        results.into_iter().zip(&way.results).map(|(parts, joined)| self.join(*joined, parts)).collect()
    }

    /// Indices counted from `start`: those before it are outside.
    fn shifted(&mut self, index: &Parted, start: usize) -> Result<Parted> {
        if start == 0 {
            return Ok(index.clone());
        }
        let by = self.push(Op::Const(Literal::new(index.ty.dtype, start as f64)), &[]);
        let by = Parted::whole(index.ty.clone(), Tensor::new(&self.graph, by).broadcast_to(&index.ty.shape).value());
        let types = [index.ty.clone()];
        Ok(self.compute(&Op::Pointwise(PointwiseOp::Sub), vec![index.clone(), by], &types)?.remove(0))
    }

    /// The whole result from those of all ranges.
    fn join(&mut self, joined: Joined, parts: Vec<Parted>) -> Result<Parted> {
        let op = match joined {
            Joined::Along(axis) => return Ok(Parted::along(axis, parts)),
            Joined::By(op) => Op::Pointwise(op),
        };
        let mut parts = parts.into_iter();
        let mut sum = parts.next().unwrap_or_else(|| Parted::along(0, vec![]));
        for part in parts {
            let types = [sum.ty.clone()];
            sum = self.compute(&op, vec![sum, part], &types)?.remove(0);
        }
        Ok(sum)
    }

    /// The way in which an operation is cut, and the sizes of its ranges: along an axis that lies in parts already, else along
    /// the first; products by rows, so that a row of theirs is soon complete.
    fn choose(
        &self,
        op: &Op,
        operands: &[Parted],
        outputs: &[TensorType],
        too_large: bool,
    ) -> Option<(Way, Vec<usize>)> {
        let types: Vec<TensorType> = operands.iter().map(|operand| operand.ty.clone()).collect();
        let helps = |way: &Way| match too_large {
            true => {
                outputs.iter().zip(&way.results).any(|(ty, join)| matches!(join, Joined::Along(_)) && self.exceeds(ty))
            }
            false => operands.iter().zip(&way.operands).any(|(x, axis)| axis.is_some() && self.stays_parted(x)),
        };
        let by_rows = *op == Op::MatMul && too_large;
        let mut best: Option<(_, Way, Vec<usize>)> = None;
        for (index, way) in ways(op, &types, outputs).into_iter().enumerate() {
            if way.length < 2 || !helps(&way) {
                continue;
            }
            let lies = operands.iter().zip(&way.operands).find_map(|(x, axis)| x.sizes_along((*axis)?));
            let sums = way.results.iter().any(|join| matches!(join, Joined::By(_)));
            let key = (lies.is_none() && !by_rows, sums, index);
            if best.as_ref().is_some_and(|(known, ..)| *known <= key) {
                continue;
            }
            let sizes = lies.unwrap_or_else(|| even(way.length, self.most(&way, operands, outputs, too_large)));
            if (2..=MOST_PARTS).contains(&sizes.len()) {
                best = Some((key, way, sizes));
            }
        }
        best.map(|(_, way, sizes)| (way, sizes))
    }

    /// The longest range of a way in which the results that are too large, or else the operands, can be bound.
    fn most(&self, way: &Way, operands: &[Parted], outputs: &[TensorType], too_large: bool) -> usize {
        let fits = |ty: &TensorType, axis: usize| {
            let row = ty.dtype.bytes(&ty.shape).div_ceil(ty.shape[axis].max(1) as u64);
            (self.limit / row.max(1)) as usize
        };
        let results = outputs.iter().zip(&way.results).filter_map(|(ty, join)| match join {
            Joined::Along(axis) if too_large && self.exceeds(ty) => Some(fits(ty, *axis)),
            _ => None,
        });
        let read = operands.iter().zip(&way.operands).filter_map(|(operand, axis)| match axis {
            Some(axis) if !too_large && self.stays_parted(operand) => Some(fits(&operand.ty, *axis)),
            _ => None,
        });
        let most = results.chain(read).min().unwrap_or(1).max(1);
        if most < way.length { most } else { way.length.div_ceil(2) }
    }

    fn no_way(&self, op: &Op, operands: &[Parted], outputs: &[TensorType]) -> Error {
        let what = describe(op);
        match outputs.iter().find(|ty| self.exceeds(ty)) {
            Some(ty) => too_large(&format!("the result {ty} of `{what}`"), ty, self.limit),
            None => match operands.iter().find(|operand| self.stays_parted(operand)) {
                Some(operand) => self.refused(&format!("an operand of `{what}`"), operand),
                None => too_large(&what, &outputs[0], self.limit),
            },
        }
    }

    fn refused(&self, what: &str, value: &Parted) -> Error {
        let mut leaves = Vec::new();
        value.leaves(&mut leaves);
        let piece = leaves.first().map(|leaf| self.graph.node(leaf.node).op);
        let named = match piece {
            Some(Op::State(name)) => format!("{what} ({name})"),
            _ => format!("{what} {}", value.ty),
        };
        too_large(&named, &value.ty, self.limit)
    }
}

/// The error for a tensor that is too large and cannot be split.
pub(super) fn too_large(what: &str, ty: &TensorType, limit: u64) -> Error {
    Error::memory(format!(
        "{what} takes {} bytes, the device lets a kernel bind {limit}, and it cannot be computed in parts; \
         make it smaller (batch, context, width), or use a device with a larger limit",
        ty.dtype.bytes(&ty.shape)
    ))
}
