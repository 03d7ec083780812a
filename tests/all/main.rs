//! All integration tests in one binary: one link, one set of helpers.

mod accumulation;
mod augment;
mod drops;
mod faults;
mod golden;
mod halves;
mod legality;
mod long;
mod loss_scaling;
mod models;
mod one_step;
mod optimizers;
#[cfg(feature = "onnx")]
mod onnx;
mod oracle_models;
mod precision;
pub mod noise;
mod ops;
mod oracle;
mod running_statistics;
mod scans;
mod states;
#[cfg(feature = "cli")]
mod tasks;
mod tidy;
mod training;
mod uniformity;

use wgrad::gpu::Device;

/// The adapter that the tests run on: `WGRAD_ADAPTER` (a name or an index), else the best there is.
pub fn device() -> Device {
    let choice = std::env::var("WGRAD_ADAPTER").ok();
    Device::open(choice.as_deref()).unwrap_or_else(|error| panic!("the tests need a GPU adapter: {error}"))
}
