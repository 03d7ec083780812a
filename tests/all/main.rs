//! All integration tests in one binary: one link, one set of helpers.

mod accumulation;
mod augment;
mod bindings;
mod compiled;
mod computed_operands;
mod convolutions;
mod determinism;
mod drops;
mod ema;
mod faults;
mod flash;
mod golden;
mod halves;
#[cfg(all(feature = "cli", feature = "onnx"))]
mod hostile;
mod legality;
mod long;
mod long_axes;
mod long_sums;
mod loss_scaling;
mod matrix_units;
mod memory;
mod models;
mod odd_widths;
mod one_step;
mod optimizers;
#[cfg(feature = "onnx")]
mod onnx;
mod oracle_models;
mod precision;
pub mod noise;
mod norms;
mod ops;
mod oracle;
#[cfg(feature = "cli")]
mod recipes;
mod recompute;
mod running_statistics;
mod scans;
mod states;
#[cfg(feature = "cli")]
mod tasks;
mod tidy;
mod training;
#[cfg(feature = "cli")]
mod tuning;
mod uniformity;

use wgrad::gpu::Device;

/// Tests of parsers ask what they took.
#[cfg(all(feature = "cli", feature = "onnx"))]
#[global_allocator]
static COUNTED: hostile::allocations::Counted = hostile::allocations::Counted;

/// The adapter that the tests run on: `WGRAD_ADAPTER` (a name or an index), else the best there is. Whatever a program has
/// not written is NaN on it.
pub fn device() -> Device {
    let choice = std::env::var("WGRAD_ADAPTER").ok();
    let device =
        Device::open(choice.as_deref()).unwrap_or_else(|error| panic!("the tests need a GPU adapter: {error}"));
    device.poison();
    device
}
