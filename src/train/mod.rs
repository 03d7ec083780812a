//! Training runs: their configuration, and the record that they leave behind.
//!
//! Nothing here names a device or a kernel. Read next: `config.rs`.

#[cfg(feature = "cli")]
pub mod config;
#[cfg(not(target_arch = "wasm32"))]
pub mod metrics;
pub mod plot;
#[cfg(feature = "cli")]
pub mod tensorboard;
