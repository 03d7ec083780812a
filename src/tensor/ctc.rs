//! Connectionist temporal classification: the loss of a sequence of labels whose places in time are not known.
//!
//! The forward recursion over time is a scan in log space; its gradient is that scan's. Infinities
//! are large finite numbers here, because WGSL lets a compiler assume that there are none.
//! Source: Graves et al., "Connectionist temporal classification" (ICML 2006).

use super::{ScanOptions, concat, scan};
use crate::dtype::DType;
use crate::graph::{Literal, Tensor};

/// The logarithm of no probability: far below every sum of real ones.
const IMPOSSIBLE: f64 = -1e30;

/// How the losses of a batch become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CtcReduction {
    /// The loss of each sequence, `[batch]`.
    None,
    /// Each divided by its number of labels (at least 1), then the mean over the batch: PyTorch's default.
    #[default]
    Mean,
    Sum,
}

/// The keyword arguments of `torch.nn.functional.ctc_loss`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CtcOptions {
    /// The class that means "no label".
    pub blank: usize,
    pub reduction: CtcReduction,
    /// 0 for sequences too short for their labels.
    pub zero_infinity: bool,
}

impl<'g> Tensor<'g> {
    /// `torch.nn.functional.ctc_loss` of these log-probabilities `[time, batch, classes]`: `targets` `[batch, labels]`
    /// (i32, padded with anything), `input_lengths` and `target_lengths` `[batch]` (i32).
    ///
    /// A sequence too short for its labels has no finite loss: it counts as 1e30, without a gradient, or as 0 with
    /// `zero_infinity`. The gradient is that of the log-probabilities themselves; PyTorch's differs from it by what
    /// a `log_softmax` in front takes out again.
    #[track_caller]
    pub fn ctc_loss(
        self,
        targets: Tensor<'g>,
        input_lengths: Tensor<'g>,
        target_lengths: Tensor<'g>,
        options: CtcOptions,
    ) -> Tensor<'g> {
        if let Some(message) = mistake(self, targets, input_lengths, target_lengths, options) {
            self.graph().record_error("ctc_loss", message);
            return self.sum_all();
        }
        let losses = losses(self, targets, input_lengths, target_lengths, options);
        match options.reduction {
            CtcReduction::None => losses,
            CtcReduction::Sum => losses.sum_all(),
            CtcReduction::Mean => (losses / target_lengths.cast(DType::F32).maximum(1.0)).mean_all(),
        }
    }
}

/// What is wrong with the operands, if anything.
fn mistake(
    log_probs: Tensor<'_>,
    targets: Tensor<'_>,
    input_lengths: Tensor<'_>,
    target_lengths: Tensor<'_>,
    options: CtcOptions,
) -> Option<String> {
    let shape = log_probs.shape();
    if shape.rank() != 3 || shape[0] == 0 || log_probs.dtype() != DType::F32 {
        return Some(format!("wants f32 log-probabilities [time, batch, classes], got {}{shape}", log_probs.dtype()));
    }
    if options.blank >= shape[2] {
        return Some(format!("the blank, {}, is not one of the {} classes", options.blank, shape[2]));
    }
    let (batch, of_targets) = (shape[1], targets.shape());
    if of_targets.rank() != 2 || of_targets[0] != batch || targets.dtype() != DType::I32 {
        return Some(format!("wants i32 targets [{batch}, labels], got {}{of_targets}", targets.dtype()));
    }
    for (name, lengths) in [("input", input_lengths), ("target", target_lengths)] {
        if lengths.shape()[..] != [batch] || lengths.dtype() != DType::I32 {
            return Some(format!("wants i32 {name} lengths [{batch}], got {}{}", lengths.dtype(), lengths.shape()));
        }
    }
    None
}

/// The loss of each sequence.
fn losses<'g>(
    log_probs: Tensor<'g>,
    targets: Tensor<'g>,
    input_lengths: Tensor<'g>,
    target_lengths: Tensor<'g>,
    options: CtcOptions,
) -> Tensor<'g> {
    let graph = log_probs.graph();
    let shape = log_probs.shape();
    let (time, batch, classes) = (shape[0], shape[1], shape[2]);
    let states = 2 * targets.shape()[1] + 1;
    let labels = with_blanks(targets, options.blank);
    let blank = options.blank as f64;
    // A label may be reached from the one before it without a blank between them if they differ.
    let before = labels.pad(1, 2, 0, -1.0).slice(1, 0, states);
    let skips = labels.ne(blank).logical_and(labels.ne(before)).cast(DType::F32);
    let row = graph.iota([time, batch, states], 0) * (batch as f64) + graph.iota([time, batch, states], 1);
    let index = row * (classes as f64) + labels;
    let emitted = log_probs.flatten(0, 2).gather(index);
    let active = graph.iota([time, batch], 0).lt(input_lengths);
    // As if one step before the first the path stood at the first blank.
    let init = graph.iota([batch, states], 1).eq(0.0).select(0.0, IMPOSSIBLE);
    let options_scan = ScanOptions::default();
    let (last, _) = scan(graph, &[init], &[emitted, active], &[skips], options_scan, |carry, slices, constants| {
        let alpha = carry[0];
        let shifted = |by: usize| alpha.pad(1, by, 0, IMPOSSIBLE).slice(1, 0, states);
        let skipped = constants[0].gt(0.0).select(shifted(2), IMPOSSIBLE);
        let next = log_sum_exp(&[alpha, shifted(1), skipped]) + slices[0];
        (vec![slices[1].unsqueeze(1).select(next, alpha)], vec![])
    });
    let place = graph.iota([batch, states], 1);
    let at = |index: Tensor<'g>| place.eq(index.unsqueeze(1)).select(last[0], 0.0).sum(&[1]);
    let end = target_lengths * 2.0;
    let label = target_lengths.gt(0.0).select(at(end - 1.0), IMPOSSIBLE);
    let total = log_sum_exp(&[at(end), label]);
    let infinite = if options.zero_infinity { 0.0 } else { -IMPOSSIBLE };
    total.gt(IMPOSSIBLE / 10.0).select(-total, graph.constant(Literal::new(DType::F32, infinite)))
}

/// `[batch, labels]` with the blank between, before and after them: `[batch, 2 * labels + 1]`.
fn with_blanks(targets: Tensor<'_>, blank: usize) -> Tensor<'_> {
    let (batch, labels) = (targets.shape()[0], targets.shape()[1]);
    let blanks = |shape: &[usize]| targets.scalar_like(blank as f64).broadcast_to(shape);
    let pairs = concat(blanks(&[batch, labels, 1]), &[targets.unsqueeze(2)], 2).reshape([batch, 2 * labels]);
    concat(pairs, &[blanks(&[batch, 1])], 1)
}

/// `log(sum of exp)`, element by element.
fn log_sum_exp<'g>(terms: &[Tensor<'g>]) -> Tensor<'g> {
    let largest = terms[1..].iter().fold(terms[0], |largest, &term| largest.maximum(term)).stop_gradient();
    let sum = terms[1..].iter().fold((terms[0] - largest).exp(), |sum, &term| sum + (term - largest).exp());
    largest + sum.log()
}
