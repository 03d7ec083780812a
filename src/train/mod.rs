//! Training: build the programs once, then feed, run, evaluate, save, resume; and the record that a
//! run leaves behind.
//!
//! Nothing here names a kernel. Read next: `step.rs` (what a step computes), `trainer.rs` (running
//! it), `task.rs` (what can be learned), `run.rs` (the whole of `wgrad train`).

mod step;
mod accumulation;
pub mod average;
mod norms;
mod scaler;
mod precision;
mod split;
mod trainer;
pub mod watch;
mod data;
mod array_data;
mod order;
mod digit_data;
pub mod classify;
mod evaluator;
mod sample;
pub mod config;
pub mod recipe;
pub mod task;
pub mod char_gpt;
pub mod digits;
#[cfg(feature = "cli")]
mod prefetch;
#[cfg(feature = "cli")]
pub mod image_data;
#[cfg(feature = "cli")]
mod images;
#[cfg(feature = "cli")]
pub mod predict;
#[cfg(not(target_arch = "wasm32"))]
pub mod metrics;
mod budget;
mod compiled;
pub mod plan;
mod svg;
pub mod timeline;
pub mod plot;
#[cfg(feature = "cli")]
pub mod confusion;
#[cfg(feature = "cli")]
pub mod pictures;
#[cfg(feature = "cli")]
pub mod tensorboard;
#[cfg(not(target_arch = "wasm32"))]
pub mod saver;
#[cfg(feature = "cli")]
pub mod keeper;
#[cfg(feature = "cli")]
pub mod stall;
#[cfg(feature = "cli")]
pub mod recovery;
#[cfg(feature = "cli")]
pub mod debug;
#[cfg(feature = "cli")]
pub mod run;
pub mod workloads;
mod products;
#[cfg(not(target_arch = "wasm32"))]
pub mod tune;
#[cfg(not(target_arch = "wasm32"))]
pub mod units;
#[cfg(not(target_arch = "wasm32"))]
pub mod roof;
#[cfg(not(target_arch = "wasm32"))]
pub mod profile;
#[cfg(not(target_arch = "wasm32"))]
pub mod roofline;
#[cfg(not(target_arch = "wasm32"))]
pub mod bench;
#[cfg(not(target_arch = "wasm32"))]
pub mod encode;

pub use accumulation::trace_micro_batch;
pub use array_data::{ArrayData, Column};
pub use budget::{Budget, Fitted};
pub use compiled::Compiled;
pub use data::{Batch, DataSource, TARGETS, TOKENS, TextData};
pub use digit_data::DigitData;
pub use evaluator::Evaluator;
pub use norms::ParameterNorms;
pub use order::EpochOrder;
pub use plan::Plan;
pub use precision::Precision;
pub use products::{CHAIN, product_session};
pub use sample::{Generator, Sampling, choose, trace_decode};
pub use scaler::ScaleReport;
pub use split::equal_parts;
pub use step::{GRAD_NORM, LOSS, LossFn, UpdateOptions, state_specs, trace_eval, trace_micro_step, trace_update};
pub use trainer::{Outline, Pending, SAME_BATCH, StepReport, Trainer, TrainerBuilder};
