#![doc = "wgrad trains neural networks on any GPU: a whole training step is traced into one graph,"]
#![doc = "compiled once into programs over planned memory, and replayed."]
#![deny(clippy::wildcard_enum_match_arm)]

// In reading order: each module may use only those above it (tests/tidy.rs holds the table).
pub mod autodiff;
#[cfg(feature = "cli")]
pub mod cli;
pub mod dtype;
pub mod error;
pub mod gpu;
pub mod graph;
pub mod io;
pub mod kernels;
pub mod lower;
pub mod nn;
pub mod optim;
pub mod passes;
pub mod program;
pub mod random;
pub mod reference;
pub mod shape;
pub mod tensor;
pub mod train;

pub use error::{Error, Result};
