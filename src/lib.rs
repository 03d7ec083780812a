#![doc = "wgrad trains neural networks on any GPU: a whole training step is traced into one graph,"]
#![doc = "compiled once into programs over planned memory, and replayed."]

pub mod error;
pub mod dtype;
pub mod shape;
pub mod graph;

pub use error::{Error, Result};
pub mod kernels;
