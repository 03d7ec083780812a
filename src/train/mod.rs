//! Training: build the programs once, then feed, run, evaluate, save, resume; and the record that a
//! run leaves behind.
//!
//! Nothing here names a kernel. Read next: `step.rs` (what a step computes), `trainer.rs` (running
//! it), `run.rs` (the whole of `wgrad train`).

#[cfg(not(target_arch = "wasm32"))]
pub mod bench;
#[cfg(feature = "cli")]
pub mod char_gpt;
#[cfg(feature = "cli")]
pub mod config;
mod data;
#[cfg(not(target_arch = "wasm32"))]
pub mod metrics;
pub mod plot;
#[cfg(feature = "cli")]
pub mod run;
mod sample;
mod step;
#[cfg(feature = "cli")]
pub mod tensorboard;
mod trainer;
#[cfg(not(target_arch = "wasm32"))]
pub mod workloads;

pub use data::{Batch, DataSource, TARGETS, TOKENS, TextData};
pub use sample::{Generator, Sampling, choose, trace_decode};
pub use step::{GRAD_NORM, LOSS, LossFn, state_specs, trace_eval, trace_micro_step, trace_update};
pub use trainer::{Pending, Plan, SAME_BATCH, StepReport, Trainer, TrainerBuilder};
