//! Bytes in, bytes out: weights, text, images, and files that survive a crash while they are written.
//!
//! Every parser of a file that somebody else wrote lives here, and none of them panics on its
//! content. Nothing here knows what a model or a device is. Read next: `safetensors.rs`.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable, clippy::indexing_slicing)
)]

pub mod checkpoint;
#[cfg(not(target_arch = "wasm32"))]
pub mod choices;
pub mod digits;
#[cfg(not(target_arch = "wasm32"))]
pub mod files;
#[cfg(feature = "cli")]
pub mod images;
pub mod json;
mod manifest;
#[cfg(feature = "onnx")]
#[allow(clippy::indexing_slicing)]
pub mod onnx;
pub mod safetensors;
pub mod storage;
mod tensor;
pub mod text;

pub use tensor::HostTensor;
