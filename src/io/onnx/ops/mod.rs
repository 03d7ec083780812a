//! The operators, one file a family: each entry says how an operator is written with the methods of [`Tensor`], and which
//! of its inputs decide about shapes.
//!
//! Definitions: <https://onnx.ai/onnx/operators/>. Where versions of an operator set differ (attributes that became inputs,
//! other defaults), the entry looks at the version. Nothing here knows files or how a graph is walked.
//!
//! [`Tensor`]: crate::graph::Tensor

mod attention;
mod control;
mod conv;
mod index;
mod linear;
mod loss;
mod math;
mod nn;
mod order;
mod pool;
mod recurrent;
mod reduce;
mod resize;
mod sample;
mod sequence;
mod shape;
mod signal;
mod training;
mod twister;

use super::call::{Call, Outputs};
use super::trace::{Env, Frame};

/// How an operator is traced.
#[derive(Clone, Copy)]
pub enum Run {
    /// From its inputs alone.
    Plain(for<'c, 'g> fn(&Call<'c, 'g>) -> Outputs<'g>),
    /// With the values around it: gradients, and graphs within nodes.
    Nested(for<'c, 'g> fn(&Call<'c, 'g>, &Env<'g>, &Frame<'c>) -> Outputs<'g>),
}

/// An entry of the list.
#[derive(Clone, Copy)]
pub struct Op {
    pub run: Run,
    /// Inputs that must be known while tracing.
    pub constants: &'static [usize],
}

/// An operator whose inputs are all data.
fn op(run: for<'c, 'g> fn(&Call<'c, 'g>) -> Outputs<'g>) -> Option<Op> {
    with(run, &[])
}

/// An operator that must know some of its inputs.
fn with(run: for<'c, 'g> fn(&Call<'c, 'g>) -> Outputs<'g>, constants: &'static [usize]) -> Option<Op> {
    Some(Op { run: Run::Plain(run), constants })
}

/// The operator of that name, if there is one.
pub fn lookup(domain: &str, name: &str) -> Option<Op> {
    match domain {
        "" => math::lookup(name)
            .or_else(|| reduce::lookup(name))
            .or_else(|| shape::lookup(name))
            .or_else(|| index::lookup(name))
            .or_else(|| linear::lookup(name))
            .or_else(|| nn::lookup(name))
            .or_else(|| attention::lookup(name))
            .or_else(|| loss::lookup(name))
            .or_else(|| conv::lookup(name))
            .or_else(|| pool::lookup(name))
            .or_else(|| resize::lookup(name))
            .or_else(|| recurrent::lookup(name))
            .or_else(|| order::lookup(name))
            .or_else(|| sequence::lookup(name))
            .or_else(|| signal::lookup(name))
            .or_else(|| sample::lookup(name))
            .or_else(|| control::lookup(name)),
        "ai.onnx.preview" => sequence::lookup_preview(name),
        "ai.onnx.ml" => index::lookup_ml(name),
        "ai.onnx.preview.training" => training::lookup(name),
        _ => None,
    }
}
