//! Every operation against its reference, in values and gradients, over rows of samples.
//!
//! The rows are also part of a program for browsers (`tests/in_browser`), which has no test harness: there its tests are left out.

mod arrangements;
mod attention;
mod errors;
#[cfg(test)]
mod extremes;
mod function_errors;
mod functions;
pub mod harness;
mod loops;
mod norm_errors;
mod losses;
mod norms;
mod statistics;
mod indexing;
#[cfg(test)]
mod parts;
mod table;
mod windows;

#[cfg(test)]
use harness::check;
use harness::{f32s, sample};
use std::collections::BTreeSet;
use wgrad::dtype::DType;
use wgrad::graph::pointwise::{Row, TABLE, TypeRule};
use wgrad::graph::{Graph, PointwiseOp};

/// Shapes that every pointwise row is tried on; some are permuted or broadcast on the way.
fn pointwise_samples(row: &'static Row) -> Vec<harness::Sample> {
    let (low, high) = row.range;
    let shapes: [&[usize]; 9] = [&[], &[1], &[0], &[5], &[3, 1], &[2, 3, 4], &[16, 20], &[7, 129], &[300, 44]];
    let draw = |shape: &[usize]| harness::Draw { dtype: operand(row, 0), ..f32s(shape, low, high) };
    let mut samples = Vec::new();
    for (index, shape) in shapes.into_iter().enumerate() {
        let mut inputs: Vec<_> = (0..row.arity)
            .map(|operand_index| harness::Draw { dtype: operand(row, operand_index), ..draw(shape) })
            .collect();
        // Every third sample broadcasts its last operand.
        if index % 3 == 2 && row.arity > 1 && shape.len() > 1 {
            let last = row.arity - 1;
            inputs[last].shape = shape[shape.len() - 1..].into();
        }
        let transposed = index % 2 == 1 && index % 3 != 2 && shape.len() > 1;
        let sample = sample(&inputs, move |x| {
            let first = if transposed { x[0].t() } else { x[0] };
            let rest: Vec<_> = x[1..]
                .iter()
                .map(|&operand| if transposed && operand.rank() > 1 { operand.t() } else { operand })
                .collect();
            first.pointwise(row.op, &rest)
        });
        let sample = if row.gradient.is_some() { sample } else { sample.no_gradient() };
        // WGSL computes powers through exp2 and log2, whose errors add up.
        let relative = if row.op == PointwiseOp::Pow { 4e-6 } else { 1.3e-6 };
        samples.push(sample.tolerance(relative, 1e-5));
    }
    samples
}

fn operand(row: &Row, index: usize) -> DType {
    match row.rule {
        TypeRule::Logic => DType::Bool,
        TypeRule::Select if index == 0 => DType::Bool,
        TypeRule::Integer => DType::I32,
        _ => DType::F32,
    }
}

#[cfg(test)]
fn check_pointwise(from: usize, to: usize) {
    for row in &TABLE[from..to.min(TABLE.len())] {
        check(row.name, &pointwise_samples(row));
    }
}

#[test]
fn pointwise_arithmetic() {
    check_pointwise(0, 12);
}

#[test]
fn pointwise_roots_and_exponentials() {
    check_pointwise(12, 24);
}

#[test]
fn pointwise_trigonometry() {
    check_pointwise(24, 36);
}

#[test]
fn pointwise_activations_and_comparisons() {
    check_pointwise(36, 48);
}

#[test]
fn pointwise_logic_and_integers() {
    check_pointwise(48, 60);
}

#[test]
fn pointwise_rest() {
    check_pointwise(60, TABLE.len());
}

macro_rules! rows {
    ($($module:ident: $($name:ident)*;)*) => {
        $($(#[test]
        fn $name() {
            check(stringify!($name), &$module::$name());
        })*)*

        /// The rows of every operation that is not pointwise.
        fn structural_rows() -> Vec<(&'static str, Vec<harness::Sample>)> {
            vec![$($((stringify!($name), $module::$name()),)*)*]
        }
    };
}

rows! {
    table: reshape permute expand slice pad concat dynamic_slice dynamic_update cast stop_gradient
    sum max_min argmax sum_squares matmul gather scatter_add softmax log_softmax
    layer_norm rms_norm cross_entropy attention attention_sizes iota integers composites fused_chains custom;
    norms: batch_norm group_norm instance_norm layer_norm_over local_response_norm
        resize_nearest resize_linear resize_cubic pixel_shuffle pad_axes;
    windows: window fold conv conv_transpose max_pool avg_pool;
    functions: activations gates powers remainders bits limits choices blends special_values;
    arrangements: splits repeats reversals diagonals triangles vectors constructed;
    statistics: variances products truths norms distances;
    losses: class_losses probability_losses number_losses embedding_losses einstein;
    loops: scan recurrent_layers ctc;
    indexing: cumsum cumulative argsort sorting gathers scatters overwrites counts;
    attention: attention_options rotary segments;
}

/// All rows, by name.
pub fn all_rows() -> Vec<(&'static str, Vec<harness::Sample>)> {
    let mut all = structural_rows();
    all.extend(TABLE.iter().map(|row| (row.name, pointwise_samples(row))));
    all
}

/// The names that `Op::name` and `MacroOp::name` can give, read from their source.
fn declared_ops() -> BTreeSet<String> {
    let text = include_str!("../../../src/graph/op.rs");
    let mut names = BTreeSet::new();
    for line in text.lines().filter(|line| line.contains("=> \"")) {
        if let Some(name) = line.split("=> \"").nth(1).and_then(|rest| rest.split('"').next()) {
            names.insert(name.to_string());
        }
    }
    names
}

#[test]
fn every_operation_has_a_row() {
    let mut covered = BTreeSet::new();
    for sample in all_rows().into_iter().flat_map(|(_, samples)| samples) {
        let graph = Graph::new();
        let inputs: Vec<_> = sample
            .inputs
            .iter()
            .enumerate()
            .map(|(i, draw)| graph.input(&format!("x{i}"), &draw.shape, draw.dtype))
            .collect();
        let output = (sample.build)(&inputs);
        let seed = graph.input("seed", output.shape(), output.dtype());
        if sample.gradient {
            let floats: Vec<_> = inputs.into_iter().filter(|x| x.dtype() == DType::F32).collect();
            let gradients = wgrad::autodiff::vjp(&[(output, seed)], &floats).unwrap_or_default();
            gradients.iter().enumerate().for_each(|(i, dx)| graph.output(&format!("dx{i}"), *dx));
        }
        graph.output("y", output);
        covered.extend(graph.nodes().iter().map(|node| node.op.name().to_string()));
        if let Ok(passed) = wgrad::passes::run(&graph) {
            covered.extend(passed.nodes().iter().map(|node| node.op.name().to_string()));
        }
    }
    // Tested elsewhere: state and assign by every trained model, random bits by the dropout tests,
    // the merged cross-entropy by the golden losses (it needs a loss and its gradient at once).
    covered.extend(["state", "assign", "random_bits", "cross_entropy_with_grad"].map(String::from));
    let missing: Vec<_> = declared_ops().into_iter().filter(|name| !covered.contains(name)).collect();
    assert!(missing.is_empty(), "no test row for {missing:?}");
}
