//! From an anchor node to the kernels that compute it: one stage, or a fixed sequence over work buffers.

use super::grouping::{Group, stored_output};
use super::sorted;
use super::views::Views;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{Graph, MacroOp, Node, Op, Value};
use crate::kernels::attention::AttentionShape;
use crate::kernels::channel::{self, Sums};
use crate::kernels::cumsum::CumSum;
use crate::kernels::matmul::{self, Matmul};
use crate::kernels::reduce::{self, ReduceStage};
use crate::kernels::scatter::Sorted;
use crate::kernels::{
    Element, KernelSpec, Param, Profile, argmax, cross_entropy, elementwise, halves, norm, pool, softmax,
};
use crate::shape::{Shape, View, collapse};

/// What a kernel's port is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortSource {
    Operand(usize),
    Output(u32),
    /// The result of the reduction that rides on a product.
    ColumnSums,
    Workspace(usize),
}

/// What the lowering writes into a stage's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// Nothing: the body writes its ports.
    None,
    /// `store(batch, row, col, value)`.
    Store,
    /// `element(o, r)` reading the reduced operand; and `store`, if this stage finishes.
    Element { stores: bool },
    /// `element(e)`: fused code alone.
    Pointwise,
}

/// One kernel of a group.
#[derive(Debug, Clone)]
pub struct Stage {
    pub spec: KernelSpec,
    pub inputs: Vec<PortSource>,
    pub outputs: Vec<PortSource>,
    pub hook: Hook,
}

/// The kernels of a group, in order.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub stages: Vec<Stage>,
    /// Bytes of each work buffer.
    pub workspaces: Vec<u64>,
    /// The first stage is repeated for each contiguous run of the operands (sums of squares).
    pub by_runs: bool,
    /// The product that its first stage is.
    pub product: Option<Matmul>,
    /// The attention that it computes forward.
    pub attention: Option<AttentionShape>,
}

/// Plans a group's kernels. `part` gives the place of a value that is written into a larger one.
pub fn plan(
    graph: &Graph,
    views: &Views,
    profile: &Profile,
    group: &Group,
    part: &dyn Fn(Value) -> Option<View>,
) -> Result<Plan> {
    let mut plan = planned(graph, views, profile, group, part)?;
    let Some(node) = group.anchor.map(|anchor| graph.node(anchor)) else { return Ok(plan) };
    turns(profile, &node, &plan)?;
    for stage in &mut plan.stages {
        for (port, source) in stage.inputs.iter().enumerate() {
            if let &PortSource::Operand(operand) = source {
                halves::read_packed(&mut stage.spec, port, stored(graph, views, &node, operand));
            }
        }
    }
    Ok(plan)
}

/// Refuses what a software adapter would leave in its middle: sums of products that could not be cut, and rows whose largest
/// element is looked for. Other kernels over rows were seen to come to the end of rows of millions (`tests/all/long_axes.rs`).
fn turns(profile: &Profile, node: &Node, plan: &Plan) -> Result<()> {
    // A turn is four steps of `k` at least.
    let sum = plan.product.as_ref().map_or(0, |product| product.k / 4);
    let constants = plan.stages.iter().flat_map(|stage| &stage.spec.constants);
    let steps = constants.filter(|(name, _)| *name == "STEPS").map(|&(_, steps)| steps as usize).max().unwrap_or(0);
    let row = if let Op::ArgMax { .. } = node.op { steps } else { 0 };
    if sum.max(row) <= profile.most_turns() {
        return Ok(());
    }
    let message = "walks along more elements than a software adapter's loops come to the end of; it needs a GPU, a \
                   smaller batch or shorter rows";
    Err(Error::compile(node.op.name().into(), message.into()))
}

/// The type in which an operand lies in memory.
fn stored(graph: &Graph, views: &Views, node: &Node, operand: usize) -> DType {
    graph.type_of(views.get(node.inputs[operand]).root).dtype
}

/// The kernels for operands in f32.
fn planned(
    graph: &Graph,
    views: &Views,
    profile: &Profile,
    group: &Group,
    part: &dyn Fn(Value) -> Option<View>,
) -> Result<Plan> {
    let Some(anchor) = group.anchor else {
        return Ok(single(elementwise::pointwise(group.shape.numel(), 1), vec![], vec![], Hook::Pointwise));
    };
    let node = graph.node(anchor);
    let operand = |index: usize| &views.get(node.inputs[index]).view;
    match &node.op {
        Op::MatMul => {
            // In a loop an operand may start further on.
            let started = |index: usize| {
                let view = operand(index).clone();
                View { offset: view.offset + views.walk(views.get(node.inputs[index]).root).start, ..view }
            };
            let types = [0, 1].map(|operand| stored(graph, views, &node, operand));
            Ok(product(profile, [&started(0), &started(1)], types, group))
        }
        Op::Reduce { kind, axes } => Ok(reduction(graph, views, profile, &node, *kind, axes, group)),
        Op::ArgMax { .. } => {
            let (rows, cols) = matrix(&operand(0).shape);
            Ok(single(argmax::argmax(profile, rows, cols), ports(1), vec![PortSource::Output(0)], Hook::None))
        }
        &Op::CumSum { reverse, exclusive, .. } => {
            let (rows, cols) = matrix(&operand(0).shape);
            let element = super::bindings::stored_type(node.outputs[0].dtype);
            Ok(sorted::cumsum(profile, &CumSum { rows, cols, reverse, exclusive, element }))
        }
        Op::ArgSort { descending, .. } => {
            let dtype = graph.type_of(node.inputs[0]).dtype;
            Ok(sorted::argsort(profile, matrix(&operand(0).shape), dtype, *descending))
        }
        Op::SumSquares { each } => Ok(squares(graph, profile, &node, *each)),
        Op::ScatterAdd { rows } => {
            let rest = node.outputs[0].shape.iter().skip(1).product();
            let element = super::bindings::stored_type(node.outputs[0].dtype);
            let count = operand(0).shape.numel();
            Ok(sorted::scatter_add(profile, &Sorted { rows: *rows, count, rest, element }))
        }
        Op::Custom(op) => {
            let element = |&input: &Value| match graph.type_of(input).dtype {
                DType::F32 => Element::F32,
                DType::I32 => Element::I32,
                _ => Element::U32,
            };
            let inputs =
                node.inputs.iter().map(|input| (element(input), graph.type_of(*input).shape.numel())).collect();
            let spec = elementwise::custom(&op.name, &op.wgsl, inputs, node.outputs[0].shape.numel());
            Ok(single(spec, ports(node.inputs.len()), vec![], Hook::Store))
        }
        // Its kernels are those of its body.
        Op::Scan { .. } => Ok(Plan::default()),
        Op::Macro(op) => {
            let part = |output| part(Value { node: anchor, output });
            let placed = |index: usize| (operand(index).clone(), stored(graph, views, &node, index));
            if let MacroOp::Attention { .. } | MacroOp::AttentionGrad { .. } = op {
                let operands: Vec<_> = (0..node.inputs.len()).map(placed).collect();
                return super::heads::plan(profile, *op, &node, &operands, &part);
            }
            if let MacroOp::Conv { .. } | MacroOp::ConvDataGrad { .. } | MacroOp::ConvWeightGrad { .. } = op {
                let operands = [0, 1].map(placed);
                let sums = group.column_sums.is_some();
                let plan = super::convolve::plan(profile, *op, &node, &operands, sums);
                return plan.ok_or_else(|| super::heads::no_kernel(op.name()));
            }
            macro_plan(profile, *op, &node, &|index| operand(index).clone())
        }
        _ => Err(Error::compile(node.op.name().into(), "has no kernel (please report this)".into())),
    }
}

fn single(spec: KernelSpec, inputs: Vec<PortSource>, outputs: Vec<PortSource>, hook: Hook) -> Plan {
    Plan { stages: vec![Stage { spec, inputs, outputs, hook }], ..Plan::default() }
}

fn ports(count: usize) -> Vec<PortSource> {
    (0..count).map(PortSource::Operand).collect()
}

/// Rows and columns of a tensor whose last axis holds the columns.
fn matrix(shape: &Shape) -> (usize, usize) {
    let cols = shape.last().copied().unwrap_or(1);
    (shape.iter().rev().skip(1).product(), cols)
}

fn product(profile: &Profile, [a, b]: [&View; 2], stored: [DType; 2], group: &Group) -> Plan {
    let rank = a.shape.rank();
    let (m, k, n) = (a.shape[rank - 2], a.shape[rank - 1], b.shape[rank - 1]);
    let lead: Shape = a.shape[..rank - 2].into();
    let (sizes, strides) = collapse(&lead, &[&a.strides[..rank - 2], &b.strides[..rank - 2]]);
    let stack = |all: &[usize]| match *all {
        [] => [0, 0],
        [inner] => [0, inner],
        [outer, inner, ..] => [outer, inner],
    };
    let batch = match sizes[..] {
        [] => [1, 1],
        [inner] => [1, inner],
        [outer, inner, ..] => [outer, inner],
    };
    let operand = |view: &View, strides: &[usize]| matmul::Operand {
        offset: view.offset,
        row: view.strides[rank - 2],
        col: view.strides[rank - 1],
        batch: stack(strides),
    };
    let mm = Matmul {
        m,
        n,
        k,
        batch,
        a: operand(a, &strides[0]),
        b: operand(b, &strides[1]),
        out_wide: n.is_multiple_of(4),
        bias_gradient: group.column_sums.is_some(),
        row_sums: false,
        pairs: false,
        walks: [None, None],
        stored,
    };
    if let Some(plan) = super::chunks::product(profile, &mm) {
        return plan;
    }
    let spec = matmul::emit(matmul::choose(profile, &mm), &mm, profile);
    let sums = if group.column_sums.is_some() { vec![PortSource::ColumnSums] } else { vec![] };
    Plan { product: Some(mm), ..single(spec, ports(2), sums, Hook::Store) }
}

fn reduction(
    graph: &Graph,
    views: &Views,
    profile: &Profile,
    node: &Node,
    kind: crate::graph::ReduceKind,
    axes: &[usize],
    group: &Group,
) -> Plan {
    let source = views.get(node.inputs[0]);
    let shape = &source.view.shape;
    let length: usize = axes.iter().map(|&axis| shape[axis]).product();
    let outputs = node.outputs[0].shape.numel();
    let element = match node.outputs[0].dtype {
        DType::I32 => "i32",
        DType::U32 => "u32",
        _ => "f32",
    };
    // Lanes go along whichever of kept and reduced axes holds the neighbours in memory.
    let contiguous = (0..shape.rank()).rev().find(|&axis| shape[axis] != 1 && source.view.strides[axis] == 1);
    let by_rows = contiguous.is_none_or(|axis| axes.contains(&axis)) && (length >= 16 || outputs < 64);
    // A vector of outputs must lie in one row of the kept axes.
    let wide = wide_kept(shape, axes) && wide_safe(graph, group);
    let plan = reduce::plan(profile, kind, element, [outputs, length], by_rows, wide);
    let workspaces = if plan.partial_elements > 0 { vec![plan.partial_elements as u64 * 4] } else { vec![] };
    let stages = plan.stages.into_iter().map(|ReduceStage { spec, second, first_of_two }| {
        let work = |uses: bool| if uses { vec![PortSource::Workspace(0)] } else { vec![] };
        let hook = if second { Hook::Store } else { Hook::Element { stores: !first_of_two } };
        Stage { spec, inputs: work(second), outputs: work(first_of_two), hook }
    });
    Plan { stages: stages.collect(), workspaces, ..Plan::default() }
}

/// Whether four neighbouring outputs differ only along the innermost kept axis.
fn wide_kept(shape: &Shape, axes: &[usize]) -> bool {
    let inner = (0..shape.rank()).rev().find(|axis| shape[*axis] != 1 && !axes.contains(axis));
    inner.is_some_and(|axis| shape[axis].is_multiple_of(4))
}

/// Whether fused producers can be computed four at a time.
fn wide_safe(graph: &Graph, group: &Group) -> bool {
    group.prologue.iter().all(|&node| matches!(graph.node(node).op, Op::Pointwise(_) | Op::Cast(_)))
}

fn squares(graph: &Graph, profile: &Profile, node: &Node, each: bool) -> Plan {
    // The lowering repeats the first stage for each run of operands that lie side by side.
    let chunks =
        |input: &Value| graph.type_of(*input).shape.numel().div_ceil(4).div_ceil(reduce::SQUARES_CHUNK).max(1) + 1;
    let most: usize = node.inputs.iter().map(chunks).sum();
    let first = Stage {
        spec: reduce::sum_squares(profile, 4, 0),
        inputs: vec![PortSource::Operand(0)],
        outputs: vec![PortSource::Workspace(0)],
        hook: Hook::None,
    };
    let parts = vec![[0, 1]; node.inputs.len()];
    let spec = if each { reduce::squares_join(profile, &parts) } else { reduce::sum_partials(profile, most).spec };
    let second = Stage { spec, inputs: vec![PortSource::Workspace(0)], outputs: vec![], hook: Hook::Store };
    Plan { stages: vec![first, second], workspaces: vec![most as u64 * 4], by_runs: true, ..Plan::default() }
}

fn macro_plan(profile: &Profile, op: MacroOp, node: &Node, view: &dyn Fn(usize) -> View) -> Result<Plan> {
    let (rows, cols) = matrix(&view(0).shape);
    let count = node.inputs.len();
    Ok(match op {
        MacroOp::Softmax => single(softmax::softmax(profile, rows, cols), ports(count), vec![], Hook::Store),
        MacroOp::LogSoftmax => single(softmax::log_softmax(profile, rows, cols), ports(count), vec![], Hook::Store),
        MacroOp::LayerNorm { eps } => {
            single(norm::layer_norm(profile, rows, cols, eps.value()), ports(count), vec![], Hook::Store)
        }
        MacroOp::RmsNorm { eps } => {
            single(norm::rms_norm(profile, rows, cols, eps.value()), ports(count), vec![], Hook::Store)
        }
        MacroOp::LayerNormGrad { eps } => {
            let blocks = norm::norm_grad_blocks(profile, rows);
            let sums = norm::column_sums_pair(profile, blocks, cols);
            norm_grad(norm::layer_norm_grad(profile, rows, cols, eps.value()), sums, 2 * blocks * cols)
        }
        MacroOp::RmsNormGrad { eps } => {
            let blocks = norm::norm_grad_blocks(profile, rows);
            let sums = norm::column_sums(profile, blocks, cols);
            norm_grad(norm::rms_norm_grad(profile, rows, cols, eps.value()), sums, blocks * cols)
        }
        MacroOp::ChannelMoments => channel_sums(profile, &view(0).shape, Sums::Moments, count),
        MacroOp::ChannelProducts => channel_sums(profile, &view(0).shape, Sums::Products, count),
        // Split, or legalized to their expansions.
        MacroOp::BatchNorm { .. } | MacroOp::BatchNormGrad { .. } => return Err(super::heads::no_kernel(op.name())),
        MacroOp::CrossEntropy => single(
            cross_entropy::cross_entropy(profile, rows, cols),
            ports(count),
            vec![PortSource::Output(0)],
            Hook::None,
        ),
        MacroOp::CrossEntropyGrad => {
            let spec = row_weight(cross_entropy::cross_entropy_grad(profile, rows, cols), &view(2));
            single(spec, ports(count), vec![], Hook::Store)
        }
        MacroOp::CrossEntropyWithGrad => {
            let spec = row_weight(cross_entropy::cross_entropy_with_grad(profile, rows, cols), &view(2));
            single(spec, ports(count), vec![PortSource::Output(0)], Hook::Store)
        }
        // Planned apart, since they know how operands are stored.
        MacroOp::Attention { .. }
        | MacroOp::AttentionGrad { .. }
        | MacroOp::Conv { .. }
        | MacroOp::ConvDataGrad { .. }
        | MacroOp::ConvWeightGrad { .. } => {
            return Err(super::heads::no_kernel(op.name()));
        }
        MacroOp::MaxPool { .. } | MacroOp::MaxPoolGrad { .. } => pooling(op, node, &view(0).shape),
    })
}

fn channel_sums(profile: &Profile, shape: &Shape, what: Sums, operands: usize) -> Plan {
    let sizes = [shape[0], shape[1], shape[2]];
    let chunks = channel::chunks(profile, sizes);
    let spec = channel::channel_sums(profile, sizes, what, chunks);
    let outputs = vec![PortSource::Output(0), PortSource::Output(1)];
    if chunks == 1 {
        return single(spec, ports(operands), outputs, Hook::None);
    }
    let partials = PortSource::Workspace(0);
    let (join, inputs) = match what {
        Sums::Moments => {
            (channel::channel_moments_join(profile, sizes, chunks), vec![partials, PortSource::Operand(0)])
        }
        Sums::Products => (norm::column_sums_pair(profile, chunks, sizes[1]), vec![partials]),
    };
    let first = Stage { spec, inputs: ports(operands), outputs: vec![partials], hook: Hook::None };
    let second = Stage { spec: join, inputs, outputs, hook: Hook::None };
    Plan { stages: vec![first, second], workspaces: vec![(2 * chunks * sizes[1]) as u64 * 4], ..Plan::default() }
}

/// `operand` is the shape of the first: data, or indices.
fn pooling(op: MacroOp, node: &Node, operand: &Shape) -> Plan {
    let result = &node.outputs[0].shape;
    let planes = result[0] * result[1];
    match op {
        MacroOp::MaxPool { windows } => {
            let spec = pool::max_pool(&windows, planes, &operand[2..], &result[2..]);
            single(spec, ports(1), vec![PortSource::Output(1)], Hook::Store)
        }
        MacroOp::MaxPoolGrad { windows, .. } => {
            let spec = pool::max_pool_grad(&windows, planes, &result[2..], &operand[2..]);
            single(spec, ports(2), vec![], Hook::Store)
        }
        _ => Plan::default(),
    }
}

fn norm_grad(grad: KernelSpec, sums: KernelSpec, partials: usize) -> Plan {
    let outputs = (1..=sums.outputs.len() as u32).map(PortSource::Output).collect();
    let first = Stage { spec: grad, inputs: ports(3), outputs: vec![PortSource::Workspace(0)], hook: Hook::Store };
    let second = Stage { spec: sums, inputs: vec![PortSource::Workspace(0)], outputs, hook: Hook::None };
    Plan { stages: vec![first, second], workspaces: vec![partials.max(1) as u64 * 4], ..Plan::default() }
}

/// Row weights may be one constant for all rows.
fn row_weight(mut spec: KernelSpec, view: &View) -> KernelSpec {
    let stride = u32::from(view.strides.iter().any(|&stride| stride != 0));
    spec.body = spec.body.replace("g[row]", "g[row * params.g_stride]").into();
    spec.params.push(("g_stride", Param::U32(stride)));
    spec
}

/// The value that the `store` hook of a group receives.
pub fn stored_value(graph: &Graph, group: &Group) -> Option<Value> {
    let anchor = group.anchor?;
    stored_output(&graph.node(anchor).op).map(|output| Value { node: anchor, output })
}
