#![doc = "wgrad trains neural networks on any GPU: a whole training step is traced into one graph,"]
#![doc = "compiled once into programs over planned memory, and replayed."]
// The only exceptions are three files of `gpu`, each with its reason (tests/all/tidy.rs holds the list).
#![deny(unsafe_code)]
// In the browser wgpu's types belong to one thread; the library's handles are the same everywhere.
#![cfg_attr(target_arch = "wasm32", allow(clippy::arc_with_non_send_sync))]

// In reading order: each module may use only those above it (tests/all/tidy.rs holds the table).
pub mod error;
pub mod sort;
pub mod shape;
pub mod dtype;
pub mod cosine;
pub mod random;
pub mod graph;
pub mod tensor;
pub mod autodiff;
pub mod reference;
pub mod nn;
pub mod optim;
pub mod passes;
pub mod program;
pub mod kernels;
pub mod lower;
pub mod gpu;
pub mod io;
pub mod train;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(all(feature = "web", target_arch = "wasm32"))]
pub mod web;

pub use error::{Error, ErrorKind, Result};

/// Whether this is the program of the package for pages (`web/build.sh`), which is smaller without what no page can ask for
/// (docs/decisions/web-size.md).
pub(crate) const PAGE: bool = cfg!(page);

/// The README's code is compiled with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
