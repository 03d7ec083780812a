//! Which kernels may store halves. That is done four at a time, so that one invocation owns whole words.
//!
//! Part of the walk in [`super::groups`].

use super::groups::Grouper;
use crate::graph::{MacroOp, Op, Value};
use crate::passes::is_half;

impl Grouper<'_> {
    /// Whether a group, with these nodes, stores no halves or surely computes four neighbours at a time.
    pub(super) fn packs(&self, extra: &[u32], group: usize) -> bool {
        let own = &self.grouping.groups[group];
        let all = || own.members.iter().chain(extra);
        if !all().any(|&node| is_half(self.nodes[node as usize].outputs[0].dtype)) {
            return true;
        }
        let plain = |&node: &u32| {
            matches!(self.nodes[node as usize].op, Op::Pointwise(_) | Op::Cast(_))
                && !self.grouping.part_of.contains_key(&Value { node, output: 0 })
        };
        let grid = self.grid_for(extra, group);
        let in_fours = grid.and_then(|grid| grid.last().copied()).is_some_and(|last| last.is_multiple_of(4));
        let anchor = own.anchor.is_none_or(|anchor| stores_in_fours(&self.nodes[anchor as usize].op));
        in_fours && anchor && all().all(plain)
    }
}

/// Whether an anchor's kernel hands vectors to `store` wherever rows are made of whole ones.
#[deny(clippy::wildcard_enum_match_arm)]
fn stores_in_fours(op: &Op) -> bool {
    match op {
        Op::MatMul
        | Op::Macro(
            MacroOp::Conv { .. }
            | MacroOp::ConvDataGrad { .. }
            | MacroOp::Softmax
            | MacroOp::LogSoftmax
            | MacroOp::LayerNorm { .. }
            | MacroOp::LayerNormGrad { .. }
            | MacroOp::RmsNorm { .. }
            | MacroOp::RmsNormGrad { .. }
            | MacroOp::CrossEntropyGrad
            | MacroOp::CrossEntropyWithGrad,
        ) => true,
        // As wide as their sizes allow, which are not those of their results; or nothing goes through `store`.
        Op::Reduce { .. }
        | Op::ArgMax { .. }
        | Op::CumSum { .. }
        | Op::ArgSort { .. }
        | Op::SumSquares { .. }
        | Op::ScatterAdd { .. }
        | Op::Scan { .. }
        | Op::Custom(_)
        | Op::Macro(
            MacroOp::ConvWeightGrad { .. }
            | MacroOp::MaxPool { .. }
            | MacroOp::MaxPoolGrad { .. }
            | MacroOp::Attention { .. }
            | MacroOp::AttentionGrad { .. }
            | MacroOp::ChannelMoments
            | MacroOp::ChannelProducts
            | MacroOp::BatchNorm { .. }
            | MacroOp::BatchNormGrad { .. }
            | MacroOp::CrossEntropy,
        ) => false,
        // No anchors.
        Op::Input(_)
        | Op::State(_)
        | Op::Const(_)
        | Op::Iota { .. }
        | Op::RandomBits { .. }
        | Op::Pointwise(_)
        | Op::Cast(_)
        | Op::StopGradient
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Expand(_)
        | Op::Slice { .. }
        | Op::Window { .. }
        | Op::Fold { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::DynamicSlice { .. }
        | Op::DynamicUpdate { .. }
        | Op::Gather
        | Op::Assign(_) => false,
    }
}
