//! A user's own operation: shape, meaning, gradient and WGSL in one value, without touching the crate.

use super::TensorType;
use super::handle::Tensor;
use std::hash::{Hash, Hasher};

/// The output's type from the inputs' types, or why they do not fit.
pub type InferFn = fn(&[TensorType]) -> std::result::Result<TensorType, String>;
/// The output's elements from the inputs' elements (row-major, f64), for the reference.
pub type MeaningFn = fn(&[TensorType], &[&[f64]]) -> Vec<f64>;
/// The inputs' gradients from the output's gradient, the inputs and the output.
pub type GradientFn = for<'g> fn(Tensor<'g>, &[Tensor<'g>], Tensor<'g>) -> Vec<Option<Tensor<'g>>>;

/// An operation with one output, written by the user of the library.
///
/// The WGSL text is a body of the form `fn element(i: u32) -> f32 { … }`: the value of output
/// element `i` (row-major). It may read the inputs as `in0[..]`, `in1[..]` (row-major arrays of
/// their element type) and their sizes as `params.in0_len`, …, and the output's as `params.len`.
#[derive(Debug, Clone)]
pub struct CustomOp {
    pub name: String,
    pub infer: InferFn,
    pub meaning: MeaningFn,
    pub gradient: Option<GradientFn>,
    pub wgsl: String,
}

// Two custom ops are the same when their name and kernel are; function pointers have no identity.
impl PartialEq for CustomOp {
    fn eq(&self, other: &CustomOp) -> bool {
        self.name == other.name && self.wgsl == other.wgsl
    }
}

impl Eq for CustomOp {}

impl Hash for CustomOp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.wgsl.hash(state);
    }
}
