//! Along which axes an operation can be cut: what each range needs of the operands, and how its results come together.

use crate::graph::{MacroOp, Op, PointwiseOp, ReduceKind, TensorType};

/// How the results of the ranges make the whole one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Joined {
    /// Side by side along an axis.
    Along(usize),
    /// Element by element, in the order of the ranges.
    By(PointwiseOp),
}

impl Joined {
    /// The type of a range's result.
    pub fn part(self, ty: &TensorType, size: usize) -> TensorType {
        match self {
            Joined::Along(axis) => TensorType::new(ty.shape.with(axis, size), ty.dtype),
            Joined::By(_) => ty.clone(),
        }
    }
}

/// One way to cut an operation.
#[derive(Debug, Clone)]
pub(super) struct Way {
    /// Elements of the axis that is cut.
    pub length: usize,
    /// The axis of each operand of which a range gets its range; the others it gets whole.
    pub operands: Vec<Option<usize>>,
    pub results: Vec<Joined>,
    /// The operand whose indices count along the cut axis: in a range they count from its start.
    pub shifts: Option<usize>,
}

impl Way {
    /// The operation on a range of this size.
    pub fn part(&self, op: &Op, size: usize) -> Op {
        match op {
            Op::ScatterAdd { .. } if self.shifts.is_some() => Op::ScatterAdd { rows: size },
            op => op.clone(),
        }
    }
}

/// Axes of operands and results that go together.
type Axes<'a> = (&'a [Option<usize>], &'a [Joined]);

const SUM: Joined = Joined::By(PointwiseOp::Add);

fn along(axis: usize) -> Joined {
    Joined::Along(axis)
}

/// All ways to cut an operation on operands and results of these types, those along the first axes first.
#[deny(clippy::wildcard_enum_match_arm)]
pub(super) fn ways(op: &Op, x: &[TensorType], y: &[TensorType]) -> Vec<Way> {
    let rank = y[0].shape.rank();
    let way = |(operands, results): Axes<'_>| {
        let of = |(ty, axis): (&TensorType, &Option<usize>)| axis.map(|axis| ty.shape[axis]);
        let length = x.iter().zip(operands).find_map(of).unwrap_or(0);
        Way { length, operands: operands.to_vec(), results: results.to_vec(), shifts: None }
    };
    // The same axis of the first operands and of the result.
    let same = |axes: &mut dyn Iterator<Item = usize>, cut: usize| -> Vec<Way> {
        let operands = |axis| (0..x.len()).map(|index| (index < cut).then_some(axis)).collect::<Vec<_>>();
        axes.map(|axis| way((&operands(axis), &[along(axis)]))).collect()
    };
    match op {
        Op::Pointwise(_) | Op::Cast(_) => same(&mut (0..rank), x.len()),
        Op::Pad { before, after, .. } => same(&mut (0..rank).filter(|&axis| before[axis] + after[axis] == 0), 1),
        Op::Concat { axis: own } => same(&mut (0..rank).filter(|axis| axis != own), x.len()),
        Op::Fold { axis: own, .. } => same(&mut (0..rank).filter(|axis| axis != own), 1),
        Op::DynamicSlice { axis: own, .. } => same(&mut (0..rank).filter(|axis| axis != own), 1),
        Op::DynamicUpdate { axis: own } => same(&mut (0..rank).filter(|axis| axis != own), 2),
        Op::CumSum { axis: own, .. } | Op::ArgSort { axis: own, .. } => {
            same(&mut (0..rank).filter(|axis| axis != own), 1)
        }
        Op::ArgMax { axis: own } => {
            let kept = (0..=rank).filter(|axis| axis != own);
            kept.map(|axis| way((&[Some(axis)], &[along(axis - usize::from(axis > *own))]))).collect()
        }
        Op::Reduce { kind, axes } => (0..x[0].shape.rank())
            .map(|axis| match axes.contains(&axis) {
                true => way((&[Some(axis)], &[Joined::By(joins(*kind))])),
                false => way((&[Some(axis)], &[along(axis - axes.iter().filter(|&&gone| gone < axis).count())])),
            })
            .collect(),
        Op::MatMul => {
            let lead = (0..rank - 2).map(|axis| way((&[Some(axis), Some(axis)], &[along(axis)])));
            let rows = way((&[Some(rank - 2), None], &[along(rank - 2)]));
            let cols = way((&[None, Some(rank - 1)], &[along(rank - 1)]));
            let inner = way((&[Some(rank - 1), Some(rank - 2)], &[SUM]));
            lead.chain([rows, cols, inner]).collect()
        }
        Op::Gather => {
            let lead = x[1].shape.rank();
            let index = (0..lead).map(|axis| way((&[None, Some(axis)], &[along(axis)])));
            let rest = (1..x[0].shape.rank()).map(|axis| way((&[Some(axis), None], &[along(lead + axis - 1)])));
            // Outside of a range a row is zeros.
            let rows = Way { shifts: Some(1), ..way((&[Some(0), None], &[SUM])) };
            index.chain(rest).chain([rows]).collect()
        }
        Op::ScatterAdd { rows } => {
            let lead = x[0].shape.rank();
            let table = Way { length: *rows, operands: vec![None, None], results: vec![along(0)], shifts: Some(0) };
            let rest = (lead..x[1].shape.rank()).map(|axis| way((&[None, Some(axis)], &[along(1 + axis - lead)])));
            let index = (0..lead).map(|axis| way((&[Some(axis), Some(axis)], &[SUM])));
            std::iter::once(table).chain(rest).chain(index).collect()
        }
        Op::Macro(op) => macro_ways(*op, x).iter().map(|(operands, results)| way((operands, results))).collect(),
        // Leaves and movements are not computed; the others are kernels of users, or loops, which know one tensor.
        Op::Input(_)
        | Op::State(_)
        | Op::Const(_)
        | Op::Iota { .. }
        | Op::RandomBits { .. }
        | Op::StopGradient
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Expand(_)
        | Op::Slice { .. }
        | Op::Window { .. }
        | Op::SumSquares { .. }
        | Op::Scan { .. }
        | Op::Assign(_)
        | Op::Custom(_) => vec![],
    }
}

fn joins(kind: ReduceKind) -> PointwiseOp {
    match kind {
        ReduceKind::Sum => PointwiseOp::Add,
        ReduceKind::Max => PointwiseOp::Max,
        ReduceKind::Min => PointwiseOp::Min,
    }
}

/// Operations of rows are cut into rows, those of images into images or channels.
#[deny(clippy::wildcard_enum_match_arm)]
fn macro_ways(op: MacroOp, x: &[TensorType]) -> Vec<(Vec<Option<usize>>, Vec<Joined>)> {
    let rows = 0..x[0].shape.rank().saturating_sub(1);
    let all = |count: usize, results: usize| vec![(vec![Some(0); count], vec![along(0); results])];
    match op {
        MacroOp::Softmax | MacroOp::LogSoftmax => rows.map(|axis| (vec![Some(axis)], vec![along(axis)])).collect(),
        MacroOp::LayerNorm { .. } => rows.map(|axis| (vec![Some(axis), None, None], vec![along(axis)])).collect(),
        MacroOp::RmsNorm { .. } => rows.map(|axis| (vec![Some(axis), None], vec![along(axis)])).collect(),
        MacroOp::LayerNormGrad { .. } => {
            rows.map(|axis| (vec![Some(axis), None, Some(axis)], vec![along(axis), SUM, SUM])).collect()
        }
        MacroOp::RmsNormGrad { .. } => {
            rows.map(|axis| (vec![Some(axis), None, Some(axis)], vec![along(axis), SUM])).collect()
        }
        MacroOp::BatchNorm { .. } => vec![(vec![Some(1), Some(0), Some(0)], vec![along(1), along(0), along(0)])],
        MacroOp::BatchNormGrad { .. } => {
            vec![(vec![Some(1), Some(0), Some(0), Some(0), Some(1)], vec![along(1), along(0), along(0)])]
        }
        MacroOp::ChannelMoments => vec![(vec![Some(1)], vec![along(0), along(0)])],
        MacroOp::ChannelProducts => vec![(vec![Some(1), Some(1), Some(0)], vec![along(0), along(0)])],
        MacroOp::CrossEntropy => all(2, 1),
        MacroOp::CrossEntropyGrad => all(3, 1),
        MacroOp::CrossEntropyWithGrad => all(3, 2),
        MacroOp::Attention { .. } => all(3, 2),
        MacroOp::AttentionGrad { .. } => all(6, 3),
        MacroOp::Conv { groups, .. } => {
            let images = (vec![Some(0), None], vec![along(0)]);
            let channels = (groups == 1).then(|| (vec![None, Some(0)], vec![along(1)]));
            std::iter::once(images).chain(channels).collect()
        }
        MacroOp::ConvDataGrad { groups, .. } => {
            let images = (vec![Some(0), None], vec![along(0)]);
            let channels = (groups == 1).then(|| (vec![None, Some(1)], vec![along(1)]));
            let summed = (groups == 1).then(|| (vec![Some(1), Some(0)], vec![SUM]));
            std::iter::once(images).chain(channels).chain(summed).collect()
        }
        MacroOp::ConvWeightGrad { groups, .. } => {
            let images = (vec![Some(0), Some(0)], vec![SUM]);
            let outputs = (groups == 1).then(|| (vec![None, Some(1)], vec![along(0)]));
            let inputs = (groups == 1).then(|| (vec![Some(1), None], vec![along(1)]));
            std::iter::once(images).chain(outputs).chain(inputs).collect()
        }
        MacroOp::MaxPool { .. } => {
            vec![(vec![Some(0)], vec![along(0), along(0)]), (vec![Some(1)], vec![along(1), along(1)])]
        }
        MacroOp::MaxPoolGrad { .. } => {
            vec![(vec![Some(0), Some(0)], vec![along(0)]), (vec![Some(1), Some(1)], vec![along(1)])]
        }
    }
}
