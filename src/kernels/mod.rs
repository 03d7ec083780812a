//! Kernels as text: WGSL, parameters, grid. No wgpu type appears here.
//!
//! A kernel is a `.wgsl` file in `shaders/` (or an emitter, where dtype, tile and layout vary
//! together) and a function of the same name that returns its [`KernelSpec`].

pub mod argmax;
pub mod attention;
pub mod channel;
mod choices;
pub mod conv;
pub mod cross_entropy;
pub mod cumsum;
pub mod elementwise;
pub mod doubled;
pub mod halves;
pub mod loads;
pub mod matmul;
pub mod norm;
pub mod pool;
pub mod profile;
pub mod reduce;
pub mod roof;
pub mod row;
pub mod scatter;
pub mod softmax;
pub mod sort;
pub mod spec;
mod text;
pub(crate) mod wgsl;

#[cfg(test)]
mod library_tests;
#[cfg(test)]
mod validate;

pub use choices::{Choices, Units};
pub use profile::{AdapterClass, Cooperative, Profile};
pub use spec::{Element, KernelSpec, Param, Port};
