//! Bytes in, bytes out: weights, text, images, and files that survive a crash while they are written.
//!
//! Every parser of a file that somebody else wrote lives here, and none of them panics on its
//! content. Nothing here knows what a model or a device is. Read next: `safetensors.rs`.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod checkpoint;
#[cfg(not(target_arch = "wasm32"))]
pub mod choices;
pub mod digits;
#[cfg(not(target_arch = "wasm32"))]
pub mod files;
#[cfg(feature = "cli")]
mod image_bytes;
#[cfg(feature = "cli")]
pub mod images;
pub mod json;
mod manifest;
#[cfg(feature = "onnx")]
// Its operators compute with the sizes of a traced graph, which those files of it that read bytes have checked: they
// deny again what is allowed here. Fuzzing stops at an index or a sum that is wrong nevertheless.
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
pub mod onnx;
pub mod safetensors;
pub mod storage;
mod tensor;
pub mod text;

pub use tensor::HostTensor;
