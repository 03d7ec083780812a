//! Kernels as text: WGSL, parameters, grid. No wgpu type appears here.

pub mod profile;
pub mod spec;

pub use profile::{AdapterClass, Profile};
pub use spec::{Element, KernelSpec, Param, Port};
