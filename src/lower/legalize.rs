//! Copies put in where a kernel cannot read an operand through its strides, and macro-ops without
//! a kernel for their sizes replaced by their definition.
//!
//! A copy is a `Cast` to the same dtype: a pointwise operation like any other, so it fuses.

use super::access::is_pointwise;
use super::border::Border;
use super::convolve;
use super::views::{Source, Views};
use crate::graph::{Graph, MacroOp, Node, Op, Tensor, Value};
use crate::kernels::{Profile, attention};
use crate::passes::{Rewriter, is_half, rewrite, simplify};
use crate::shape::{View, collapse};
use crate::tensor::expand::expand;
use std::collections::HashSet;

/// The graph with every operand readable by its user's kernel, and every result a stored tensor.
pub fn legalize(graph: &Graph, border: &Border, profile: &Profile) -> Graph {
    let graph = &prepared(graph, profile);
    match defined(graph) {
        Some(expanded) => readable_operands(&simplify(&expanded), border),
        None => readable_operands(graph, border),
    }
}

/// The graph with operands in the form that a profile's kernels like best.
fn prepared(graph: &Graph, profile: &Profile) -> Graph {
    rewrite(graph, |to, node, inputs| match &node.op {
        Op::Macro(op) if supported(graph, *op, node) => {
            let operands: Vec<Tensor<'_>> = inputs.iter().map(|&input| Tensor::new(to, input)).collect();
            convolve::padded_form(profile, *op, &operands).map(Tensor::value)
        }
        _ => None,
    })
}

/// The graph with every macro-op that has no kernel replaced by its definition; `None` if all have one. A
/// definition may use macro-ops in turn.
fn defined(graph: &Graph) -> Option<Graph> {
    let missing = |graph: &Graph| {
        let live = graph.live();
        graph.nodes().iter().zip(live).any(|(node, live)| match &node.op {
            Op::Macro(op) => live && !supported(graph, *op, node),
            _ => false,
        })
    };
    let mut expanded: Option<Graph> = None;
    while missing(expanded.as_ref().unwrap_or(graph)) {
        expanded = Some(define(expanded.as_ref().unwrap_or(graph)));
    }
    expanded
}

fn define(graph: &Graph) -> Graph {
    let mut rewriter = Rewriter::new(graph);
    let live = graph.live();
    for (index, node) in graph.nodes().iter().enumerate().filter(|(index, _)| live[*index]) {
        let (index, inputs) = (index as u32, rewriter.inputs(node));
        let to = &rewriter.to;
        match &node.op {
            Op::Macro(op) if !supported(graph, *op, node) => {
                let operands: Vec<Tensor<'_>> = inputs.iter().map(|&input| Tensor::new(to, input)).collect();
                let outputs = to.in_scope(&node.scope, || expand(*op, &operands));
                let values: Vec<Value> = outputs.into_iter().map(Tensor::value).collect();
                for (output, value) in values.into_iter().enumerate() {
                    rewriter.set(Value { node: index, output: output as u32 }, value);
                }
            }
            op => {
                let new = to.in_scope(&node.scope, || to.push(op.clone(), &inputs));
                rewriter.record(index, node, new);
            }
        }
    }
    rewriter.finish()
}

fn readable_operands(graph: &Graph, border: &Border) -> Graph {
    let mut rewriter = Rewriter::new(graph);
    let mut views = Views::within(border);
    let live = graph.live();
    let (mut taken, mut parts_of) = (HashSet::new(), HashSet::new());
    for (index, node) in graph.nodes().iter().enumerate() {
        if !live[index] {
            continue;
        }
        let (index, inputs) = (index as u32, rewriter.inputs(node));
        let to = &rewriter.to;
        if let Some(new) = to.in_scope(&node.scope, || along_last(to, &node.op, inputs[..].first().copied())) {
            rewriter.record(index, node, new);
            continue;
        }
        if let Op::Concat { axis } = node.op
            && inputs.len() > CONCAT_PARTS
        {
            let new = to.in_scope(&node.scope, || concat_in_turns(to, &mut views, axis, &inputs));
            rewriter.record(index, node, new);
            continue;
        }
        if let Op::Concat { .. } = node.op
            && border.is_loop()
        {
            let parts: Vec<Value> = inputs.iter().map(|&part| own_part(to, &mut views, &mut parts_of, part)).collect();
            let new = to.in_scope(&node.scope, || to.push(node.op.clone(), &parts));
            rewriter.record(index, node, new);
            continue;
        }
        if let Op::Assign(name) = &node.op {
            // A value can lie in one state only: each further one gets a copy.
            let mut value = result(to, &mut views, inputs[0]);
            if let Some(side) = border.moving_result(name)
                && !may_move(to, &mut views, value, side.step)
            {
                value = copy(to, value);
            }
            while !taken.insert(root_of(to, &mut views, value)) {
                value = copy(to, value);
            }
            let new = to.in_scope(&node.scope, || to.push(Op::Assign(name.clone()), &[value]));
            rewriter.record(index, node, new);
            continue;
        }
        if let Op::Cast(dtype) = node.op
            && is_half(dtype)
        {
            // Read as it is stored, so that four neighbours are at hand.
            let value = to.in_scope(&node.scope, || as_it_lies(to, &mut views, inputs[0]));
            let new = to.in_scope(&node.scope, || to.push(node.op.clone(), &[value]));
            rewriter.record(index, node, new);
            continue;
        }
        let new = to.in_scope(&node.scope, || {
            let readable: Vec<Value> =
                (0..inputs.len()).map(|operand| readable_operand(to, &mut views, node, &inputs, operand)).collect();
            to.push(node.op.clone(), &readable)
        });
        rewriter.record(index, node, new);
    }
    stored_results(rewriter, views)
}

/// An operation along one axis whose kernel takes rows: the axis goes last, and back from there.
fn along_last(to: &Graph, op: &Op, input: Option<Value>) -> Option<Value> {
    let x = Tensor::new(to, input?);
    let last = x.rank().saturating_sub(1);
    let (axis, by_rows) = match *op {
        Op::ArgMax { axis } => (axis, Op::ArgMax { axis: last }),
        Op::CumSum { axis, reverse, exclusive } => (axis, Op::CumSum { axis: last, reverse, exclusive }),
        Op::ArgSort { axis, descending } => (axis, Op::ArgSort { axis: last, descending }),
        _ => return None,
    };
    if axis == last {
        return None;
    }
    let axes: Vec<usize> = (0..=last).filter(|&other| other != axis).chain([axis]).collect();
    let moved = Tensor::new(to, copy(to, x.permute(&axes).value()));
    let y = moved.apply(by_rows, &[]);
    // The largest element's axis has disappeared.
    let mut back: Vec<usize> = (0..last).collect();
    back.insert(axis, last);
    Some(if y.rank() > last { y.permute(&back).value() } else { y.value() })
}

/// Whether a kernel exists for the node's sizes.
#[deny(clippy::wildcard_enum_match_arm)]
fn supported(graph: &Graph, op: MacroOp, node: &Node) -> bool {
    match op {
        MacroOp::Attention { .. } | MacroOp::AttentionGrad { .. } => {
            node.outputs[0].shape.last().is_some_and(|&size| attention::supports(size))
        }
        MacroOp::BatchNorm { .. } | MacroOp::BatchNormGrad { .. } => false,
        MacroOp::ChannelMoments | MacroOp::ChannelProducts => true,
        MacroOp::Softmax
        | MacroOp::LogSoftmax
        | MacroOp::LayerNorm { .. }
        | MacroOp::LayerNormGrad { .. }
        | MacroOp::RmsNorm { .. }
        | MacroOp::RmsNormGrad { .. }
        | MacroOp::CrossEntropy
        | MacroOp::CrossEntropyGrad
        | MacroOp::CrossEntropyWithGrad => true,
        MacroOp::Conv { .. } | MacroOp::ConvDataGrad { .. } => {
            let operand = |index: usize| graph.type_of(node.inputs[index]).shape;
            convolve::supported(op, &operand(1), operand(0)[0])
        }
        MacroOp::ConvWeightGrad { .. } => {
            convolve::supported(op, &node.outputs[0].shape, graph.type_of(node.inputs[0]).shape[0])
        }
        MacroOp::MaxPool { .. } | MacroOp::MaxPoolGrad { .. } => true,
    }
}

/// Copies the outputs that are not whole stored tensors of their own.
fn stored_results(mut rewriter: Rewriter<'_>, mut views: Views) -> Graph {
    for (_, old) in rewriter.from.outputs() {
        if let Some(value) = rewriter.get(old) {
            let stored = result(&rewriter.to, &mut views, value);
            rewriter.set(old, stored);
        }
    }
    rewriter.finish()
}

fn result(graph: &Graph, views: &mut Views, value: Value) -> Value {
    views.update(graph);
    let source = views.get(value);
    let leaf = matches!(graph.node(source.root.node).op, Op::Input(_) | Op::State(_));
    let size = graph.type_of(source.root).shape.numel();
    let same_type = graph.type_of(source.root).dtype == graph.type_of(value).dtype;
    let whole = whole(&source.view) && source.view.shape.numel() == size && same_type && stored(graph, source) && !leaf;
    if whole { value } else { copy(graph, value) }
}

/// A value that lies in memory in the order of its elements, or is one constant.
fn as_it_lies(graph: &Graph, views: &mut Views, value: Value) -> Value {
    views.update(graph);
    let source = views.get(value);
    let constant = matches!(graph.node(source.root.node).op, Op::Const(_));
    let size = graph.type_of(source.root).shape.numel();
    let whole = whole(&source.view) && source.view.shape.numel() == size && stored(graph, source);
    if constant || whole { value } else { copy(graph, value) }
}

/// Tensors that one kernel joins: each takes a binding, of which the baseline has eight.
const CONCAT_PARTS: usize = 4;

/// A long concatenation as concatenations of concatenations.
fn concat_in_turns(graph: &Graph, views: &mut Views, axis: usize, parts: &[Value]) -> Value {
    let mut parts: Vec<Value> = parts.to_vec();
    while parts.len() > 1 {
        parts = parts
            .chunks(CONCAT_PARTS)
            .map(|chunk| match chunk {
                [one] => *one,
                several => {
                    let stored: Vec<Value> = several.iter().map(|&part| stored_part(graph, views, part)).collect();
                    graph.push(Op::Concat { axis }, &stored)
                }
            })
            .collect();
    }
    parts[0]
}

/// A part of a concatenation in a loop. Computed by fused code it can be written straight into the whole; into
/// each further one it goes as a copy.
fn own_part(graph: &Graph, views: &mut Views, parts: &mut HashSet<Value>, part: Value) -> Value {
    let part = stored_part(graph, views, part);
    let root = root_of(graph, views, part);
    let computed = matches!(graph.node(root.node).op, Op::Pointwise(_) | Op::Cast(_));
    if computed && !parts.insert(root) { copy(graph, part) } else { part }
}

/// A part that lies in memory or is a constant.
fn stored_part(graph: &Graph, views: &mut Views, part: Value) -> Value {
    views.update(graph);
    let source = views.get(part);
    let constant = matches!(graph.node(source.root.node).op, Op::Const(_));
    if constant || stored(graph, source) { part } else { copy(graph, part) }
}

fn root_of(graph: &Graph, views: &mut Views, value: Value) -> Value {
    views.update(graph);
    views.get(value).root
}

fn copy(graph: &Graph, value: Value) -> Value {
    graph.push(Op::Cast(graph.type_of(value).dtype), &[value])
}

/// Operand `index` of a node with these inputs, or a copy of it.
fn readable_operand(graph: &Graph, views: &mut Views, node: &Node, inputs: &[Value], index: usize) -> Value {
    let input = inputs[index];
    views.update(graph);
    let source = views.get(input);
    let walks = follows(&node.op, views.walk(source.root).step);
    let stored = graph.type_of(source.root).dtype == graph.type_of(input).dtype || reads_halves(&node.op);
    if walks && stored && readable(graph, node, inputs, index, source) { input } else { copy(graph, input) }
}

/// Whether the node's kernel can follow an operand that moves by `step` elements in each step of a loop: fused
/// code can, and products, which have the offsets of their operands as parameters and may read vectors of four.
fn follows(op: &Op, step: u32) -> bool {
    let moves = matches!(op, Op::Reshape(_) | Op::Permute(_) | Op::Expand(_) | Op::Slice { .. } | Op::Window { .. });
    let reads = is_pointwise(op) || matches!(op, Op::Reduce { .. } | Op::StopGradient | Op::Assign(_));
    step == 0 || moves || reads || (*op == Op::MatMul && step.is_multiple_of(4))
}

/// Whether the node's kernel can read f32 that is stored in half precision; the others read words. Movements read nothing.
#[deny(clippy::wildcard_enum_match_arm)]
fn reads_halves(op: &Op) -> bool {
    match op {
        Op::Input(_)
        | Op::State(_)
        | Op::Const(_)
        | Op::Iota { .. }
        | Op::StopGradient
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Expand(_)
        | Op::Slice { .. }
        | Op::Window { .. }
        | Op::Pointwise(_)
        | Op::Cast(_)
        | Op::Reduce { .. }
        | Op::Fold { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::DynamicSlice { .. }
        | Op::DynamicUpdate { .. }
        | Op::Gather
        | Op::MatMul
        | Op::Macro(_) => true,
        Op::RandomBits { .. }
        | Op::ArgMax { .. }
        | Op::CumSum { .. }
        | Op::ArgSort { .. }
        | Op::SumSquares { .. }
        | Op::ScatterAdd { .. }
        | Op::Scan { .. }
        | Op::Custom(_)
        | Op::Assign(_) => false,
    }
}

/// Whether a value can lie where a loop stacks it up, moving by `step` elements: if fused code stores it, and all
/// who read it can follow.
fn may_move(graph: &Graph, views: &mut Views, value: Value, step: u32) -> bool {
    let root = root_of(graph, views, value);
    let node = graph.node(root.node);
    let by_element = match &node.op {
        // Its parts may be written in place by kernels of their own.
        Op::Concat { .. } => node.inputs.iter().all(|&part| is_pointwise(&graph.node(views.get(part).root.node).op)),
        op => is_pointwise(op),
    };
    let reads = |node: &Node| node.inputs.iter().any(|&input| views.get(input).root == root);
    by_element && graph.nodes().iter().all(|node| !reads(node) || follows(&node.op, step))
}

/// Whether the node's kernel can read its operand `index` as it lies; `inputs` are the node's in this graph.
#[deny(clippy::wildcard_enum_match_arm)]
fn readable(graph: &Graph, node: &Node, inputs: &[Value], index: usize, source: &Source) -> bool {
    let view = &source.view;
    match &node.op {
        Op::MatMul => bindable(graph, source) && matrix(view),
        Op::Macro(MacroOp::Attention { .. }) => bindable(graph, source) && heads(view),
        // Windows are walked through whatever strides there are.
        Op::Macro(op @ (MacroOp::Conv { .. } | MacroOp::ConvDataGrad { .. } | MacroOp::ConvWeightGrad { .. })) => {
            let made = matches!(op, MacroOp::ConvWeightGrad { .. });
            let weight = if made { node.outputs[0].shape.clone() } else { graph.type_of(inputs[1]).shape };
            bindable(graph, source) && (whole(view) || !convolve::is_direct(*op, &weight))
        }
        // q, k, v, o, lse, do: the log-sum-exp is read as it was written.
        Op::Macro(MacroOp::AttentionGrad { .. }) => {
            bindable(graph, source) && if index == 4 { whole(view) } else { heads(view) }
        }
        Op::Macro(MacroOp::CrossEntropyGrad | MacroOp::CrossEntropyWithGrad) if index == 2 => {
            let constant = matches!(graph.node(source.root.node).op, Op::Const(_));
            (view.strides.iter().all(|&stride| stride == 0) && (constant || bindable(graph, source)))
                || (whole(view) && bindable(graph, source))
        }
        Op::Macro(_) | Op::ScatterAdd { .. } | Op::Custom(_) | Op::SumSquares { .. } | Op::RandomBits { .. } => {
            bindable(graph, source) && whole(view)
        }
        Op::ArgMax { axis } | Op::CumSum { axis, .. } | Op::ArgSort { axis, .. } => {
            bindable(graph, source) && whole(view) && axis + 1 == view.shape.rank()
        }
        Op::Reshape(to) => view.reshape(to).is_some(),
        // Evaluated element by element in fused code: any strides do.
        Op::Pointwise(_) | Op::Cast(_) | Op::Reduce { .. } => true,
        // As are these, at computed indices: what they read must lie somewhere, or be a constant.
        Op::Fold { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::DynamicSlice { .. }
        | Op::DynamicUpdate { .. }
        | Op::Gather => stored(graph, source) || matches!(graph.node(source.root.node).op, Op::Const(_)),
        // Carries are copied; slices and constants are read by the body through whatever strides they have.
        Op::Scan { body, .. } => stored(graph, source) && (index >= body.carries() || whole(view)),
        Op::Input(_)
        | Op::State(_)
        | Op::Const(_)
        | Op::Iota { .. }
        | Op::StopGradient
        | Op::Permute(_)
        | Op::Expand(_)
        | Op::Slice { .. }
        | Op::Window { .. }
        | Op::Assign(_) => true,
    }
}

fn whole(view: &View) -> bool {
    view.is_contiguous() && view.offset == 0
}

/// Constants and indices are made in fused code and lie nowhere.
fn stored(graph: &Graph, source: &Source) -> bool {
    !matches!(graph.node(source.root.node).op, Op::Iota { .. } | Op::RandomBits { .. } | Op::Const(_))
}

/// Whether a kernel of its own can bind it: scalars that are fed share one buffer, which fused code knows.
fn bindable(graph: &Graph, source: &Source) -> bool {
    let node = graph.node(source.root.node);
    let scalar = matches!(node.op, Op::Input(_)) && node.outputs[0].shape.rank() == 0;
    stored(graph, source) && !scalar
}

/// Two last axes, one of them with stride 1, and at most two leading axes (or more that are one).
fn matrix(view: &View) -> bool {
    let rank = view.shape.rank();
    let unit = |axis: usize| view.strides[axis] == 1 || view.shape[axis] == 1;
    let repeated = (rank - 2..rank).any(|axis| view.strides[axis] == 0 && view.shape[axis] > 1);
    let (lead, _) = collapse(&view.shape[..rank - 2].into(), &[&view.strides[..rank - 2]]);
    let stacks = view.shape[..rank - 2].iter().filter(|&&size| size != 1).count();
    (unit(rank - 1) || unit(rank - 2)) && !repeated && (stacks <= 2 || lead.rank() <= 1)
}

/// `[batch, time, heads, size]` with consecutive sizes and everything at multiples of four.
fn heads(view: &View) -> bool {
    let aligned = |axis: usize| view.strides[axis].is_multiple_of(4) || view.shape[axis] == 1;
    view.strides[3] == 1 && view.offset.is_multiple_of(4) && (0..3).all(aligned)
}
