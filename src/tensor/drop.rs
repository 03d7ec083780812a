//! Random removal while training: of elements, channels, or whole samples.
//!
//! What is removed depends on the run's seed, the place of the call, and the global index of the sample, never on
//! how a batch is split. In a graph for evaluation everything here gives its operand back.

use super::RNG_KEY;
use crate::dtype::DType;
use crate::graph::{Graph, Literal, Tensor};
use crate::shape::Shape;

/// What [`Tensor::stochastic_depth`] draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropPathMode {
    /// One draw for all samples. It belongs to the batch: another split into batches draws anew.
    Batch,
    /// One draw a sample.
    Row,
}

/// SELU's value far below zero, with the sign turned: what alpha dropout puts in.
const SELU_FLOOR: f64 = 1.758_099_340_847_376_6;

impl<'g> Tensor<'g> {
    /// Whether anything is to be dropped; a probability outside `0..=1` is an error.
    #[track_caller]
    pub(super) fn drops(self, op: &str, p: f64) -> bool {
        if !(0.0..=1.0).contains(&p) {
            self.graph().record_error(op, format!("the probability must lie in 0..=1, got {p}"));
            return false;
        }
        p > 0.0 && self.graph().is_training()
    }

    /// Elements with probability `p` zeroed, the rest multiplied by `1 / (1 - p)`; one draw an entry of `shape`,
    /// which broadcasts to this tensor's.
    #[track_caller]
    pub(super) fn drop_by(self, shape: impl Into<Shape>, p: f64) -> Tensor<'g> {
        if p == 1.0 {
            return self * 0.0;
        }
        let keep = kept(self.graph(), shape.into(), p).broadcast_to(self.shape());
        keep.select(self * (1.0 / (1.0 - p)), 0.0)
    }

    /// `[samples, channels, 1, ..]`.
    #[track_caller]
    fn one_a_channel(self, op: &str) -> Option<Shape> {
        let shape = self.shape();
        if shape.rank() < 2 {
            self.graph().record_error(op, format!("takes [samples, channels, ..], got {shape}"));
            return None;
        }
        Some(shape[..2].iter().copied().chain(std::iter::repeat_n(1, shape.rank() - 2)).collect())
    }

    /// Whole channels `[samples, channels, ..]` zeroed with probability `p`, the rest multiplied by `1 / (1 - p)`,
    /// while training; `torch.nn.functional.dropout1d`, `dropout2d` and `dropout3d`.
    #[track_caller]
    pub fn channel_dropout(self, p: f64) -> Tensor<'g> {
        match self.one_a_channel("channel_dropout") {
            Some(shape) if self.drops("channel_dropout", p) => self.drop_by(shape, p),
            _ => self,
        }
    }

    /// Elements replaced by SELU's floor with probability `p`, then scaled and shifted so that mean 0 and variance 1
    /// stay, while training; `torch.nn.functional.alpha_dropout`.
    #[track_caller]
    pub fn alpha_dropout(self, p: f64) -> Tensor<'g> {
        if self.drops("alpha_dropout", p) { self.alpha_drop(self.shape(), p) } else { self }
    }

    /// As [`Tensor::alpha_dropout`] for whole channels; `torch.nn.functional.feature_alpha_dropout`.
    #[track_caller]
    pub fn feature_alpha_dropout(self, p: f64) -> Tensor<'g> {
        match self.one_a_channel("feature_alpha_dropout") {
            Some(shape) if self.drops("feature_alpha_dropout", p) => self.alpha_drop(shape, p),
            _ => self,
        }
    }

    #[track_caller]
    fn alpha_drop(self, shape: Shape, p: f64) -> Tensor<'g> {
        if p == 1.0 {
            return self * 0.0;
        }
        let scale = 1.0 / ((1.0 - p) * (1.0 + p * SELU_FLOOR * SELU_FLOOR)).sqrt();
        let shift = scale * SELU_FLOOR * p;
        let keep = kept(self.graph(), shape, p).broadcast_to(self.shape());
        keep.select(self * scale + shift, shift - scale * SELU_FLOOR)
    }

    /// The branch of a residual block left out with probability `p`, for a sample or for the whole batch, and
    /// multiplied by `1 / (1 - p)` else, while training; `torchvision.ops.stochastic_depth`, also called drop path.
    #[track_caller]
    pub fn stochastic_depth(self, p: f64, mode: DropPathMode) -> Tensor<'g> {
        let rank = self.rank();
        if rank == 0 {
            self.graph().record_error("stochastic_depth", "takes [samples, ..], got a scalar".into());
            return self;
        }
        if !self.drops("stochastic_depth", p) {
            return self;
        }
        let draws = match mode {
            DropPathMode::Batch => 1,
            DropPathMode::Row => self.shape()[0],
        };
        self.drop_by(std::iter::once(draws).chain(std::iter::repeat_n(1, rank - 1)).collect::<Shape>(), p)
    }
}

/// True with probability `1 - p`, for `p` below 1.
#[track_caller]
fn kept<'g>(graph: &'g Graph, shape: Shape, p: f64) -> Tensor<'g> {
    let threshold = (p * 4_294_967_296.0).round().min(4_294_967_295.0);
    run_bits(graph, shape).ge(graph.constant(Literal::new(DType::U32, threshold)))
}

/// Random bits (u32) from the run's key, a stream of their own for each call. Axis 0 counts samples.
#[track_caller]
pub(super) fn run_bits(graph: &Graph, shape: Shape) -> Tensor<'_> {
    let key = graph.input(RNG_KEY, [2], DType::U32);
    graph.random_bits(key, shape)
}
