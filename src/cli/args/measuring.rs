//! Flags of the commands that look at programs and adapters.

use super::{AdapterArgs, at_least_one};
use crate::kernels::Profile;
use crate::train::workloads::Workload;
use crate::train::{Budget, Precision};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Flags of `wgrad explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The model
    #[arg(value_enum, ignore_case = true)]
    pub model: ExplainModel,
    /// Print only this stage [default: all four]
    #[arg(long, value_enum)]
    pub stage: Option<Stage>,
    /// Explain training in f32, f16 or bf16 [default: f32]
    #[arg(long, value_name = "TYPE", value_parser = Precision::parse)]
    pub precision: Option<Precision>,
    /// Compute activations twice where that halves their memory
    #[arg(long)]
    pub recompute: bool,
    /// Write programs for these limits without opening an adapter
    #[arg(long, value_enum)]
    pub limits: Option<Limits>,
    #[command(flatten)]
    pub adapter: AdapterArgs,
}

/// Flags of `wgrad plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The model [default: what --config or --run says]
    #[arg(value_enum, ignore_case = true, required_unless_present_any = ["config", "run"], conflicts_with_all = ["config", "run"])]
    pub model: Option<ExplainModel>,
    /// A TOML file with configuration keys, as of `wgrad train`
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    pub config: Option<PathBuf>,
    /// A run directory
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Make it fit into this memory, such as 6GiB or 800MiB, or `auto`: from the device's limits
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Budget>,
    /// Plan for training in f32, f16 or bf16 [default: what the configuration says, else f32]
    #[arg(long, value_name = "TYPE", value_parser = Precision::parse)]
    pub precision: Option<Precision>,
    /// Compute activations twice where that halves their memory
    #[arg(long)]
    pub recompute: bool,
    /// Plan for these limits without opening an adapter
    #[arg(long, value_enum)]
    pub limits: Option<Limits>,
    /// Write a picture of the memory over the step here, as SVG
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub adapter: AdapterArgs,
}

/// Limits of a device that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Limits {
    /// What WebGPU grants everywhere: bindings of 128 MiB, buffers of 256 MiB
    Webgpu,
    /// A desktop GPU with bindings of 2 GiB and buffers of 4 GiB
    Desktop,
}

impl Limits {
    pub fn name(self) -> &'static str {
        match self {
            Limits::Webgpu => "WebGPU's default limits",
            Limits::Desktop => "a desktop GPU's limits",
        }
    }

    pub fn profile(self) -> Profile {
        let desktop = (2 << 30) - 4;
        match self {
            Limits::Webgpu => Profile::baseline(),
            Limits::Desktop => Profile { max_binding_bytes: desktop, max_buffer_bytes: 4 << 30, ..Profile::baseline() },
        }
    }
}

/// A model that can be explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExplainModel {
    /// The GPT that `wgrad train` trains by default
    Gpt,
    /// The convolutional network that `wgrad train --task digits` trains
    Digits,
    /// A small perceptron, short enough to read
    Mlp,
    /// Workload W2: perceptron 784-512-512-10
    #[value(name = "W2")]
    W2,
    /// Workload W3: convolutional network for pictures of 28 x 28
    #[value(name = "W3")]
    W3,
    /// Workload W4: GPT with 4 layers of width 128
    #[value(name = "W4")]
    W4,
    /// Workload W5: GPT-2 with 124 million parameters
    #[value(name = "W5")]
    W5,
    /// GPT-2 with 24 layers of width 1024, one text of 1024 tokens
    #[value(name = "gpt2-medium")]
    Gpt2Medium,
}

/// A stage of the compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// The forward pass as it was traced
    Graph,
    /// With the gradients and the update
    Gradients,
    /// After simplification and fusion
    Passes,
    /// Dispatches, buffers and memory
    Program,
}

/// Flags of `wgrad roof`.
#[derive(Debug, Args)]
pub struct RoofArgs {
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub adapter: AdapterArgs,
}

/// Flags of `wgrad tune`.
#[derive(Debug, Args)]
pub struct TuneArgs {
    /// Measure for these standard workloads, such as W4 or W1-512
    #[arg(value_name = "WORKLOAD", value_parser = Workload::parse)]
    pub workloads: Vec<Workload>,
    /// For these workloads in f32, f16 or bf16
    #[arg(long, value_name = "TYPE", default_value_t = Precision::F32, value_parser = Precision::parse, requires = "workloads")]
    pub precision: Precision,
    /// Measure for the model of the run in this directory
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Measure for the model of this configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Take over the choices in this file first
    #[arg(long, value_name = "FILE")]
    pub import: Option<PathBuf>,
    /// Write the table into this file too, for another machine with the same adapter and driver
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// Say where the table lies and which adapters it knows
    #[arg(long)]
    pub list: bool,
    /// Judge the choice that is made without measuring: every candidate for many products of all kinds, and how far behind
    /// the best the chosen one is. Keeps nothing
    #[arg(long, conflicts_with_all = ["workloads", "run", "config", "import", "export", "list"])]
    pub check: bool,
    /// --check: leave out products of more operations than that, in millions [default: 537 on software adapters]
    #[arg(long, value_name = "MFLOP", requires = "check", value_parser = clap::value_parser!(u64).range(1..))]
    pub largest: Option<u64>,
    /// --check on a software adapter of a busy machine: compare the processor time of kernels, not how long they take
    #[arg(long, requires = "check")]
    pub processor: bool,
    #[command(flatten)]
    pub adapter: AdapterArgs,
}

/// Flags of `wgrad bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// W1-N (product of two N x N matrices), W2 (perceptron), W3 (convolutional network), W4 (GPT)
    #[arg(required = true, value_name = "WORKLOAD", value_parser = Workload::parse)]
    pub workloads: Vec<Workload>,
    /// Untimed steps first; W1: samples [default: W1 3, W2 and W3 5, W4 3]
    #[arg(long, value_name = "N")]
    pub warmup: Option<usize>,
    /// Timed steps; W1: samples of eight products [default: W1 10, W2 and W3 20, W4 10]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub steps: Option<usize>,
    /// Seed of data and weights; 0 is the standard
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u32,
    /// Train in f32, f16 or bf16; W1: how the matrices are stored
    #[arg(long, value_name = "TYPE", default_value_t = Precision::F32, value_parser = Precision::parse)]
    pub precision: Precision,
    /// With the kernels that `wgrad tune` found to be fastest
    #[arg(long)]
    pub tuned: bool,
    /// Compute activations twice where that halves their memory
    #[arg(long)]
    pub recompute: bool,
    /// Also compute each parameter's norm and its gradient's in each step
    #[arg(long)]
    pub norms: bool,
    /// Also print where the time of a step goes, kernel by kernel
    #[arg(long)]
    pub profile: bool,
    /// Write the step's dispatches for chrome://tracing or Perfetto, and profile
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Draw the step's kernels under the adapter's roofs, as SVG, and profile
    #[arg(long, value_name = "FILE")]
    pub roofline: Option<PathBuf>,
    /// Also measure what saving checkpoints into this directory costs a training that goes on; not of W1
    #[arg(long, value_name = "DIR")]
    pub saves: Option<PathBuf>,
    /// Measure instead what a step costs the host, a dispatch: on the adapter, and on one that executes nothing. Not of W1
    #[arg(long, conflicts_with_all = ["tuned", "recompute", "norms", "profile", "trace", "roofline", "warmup", "seed"])]
    pub host: bool,
    /// Measure instead how long a training takes, once its device is lost, to stand on another one; with --steps also those
    /// before and the first after it. Not of W1
    #[arg(long, conflicts_with_all = ["host", "tuned", "recompute", "norms", "profile", "trace", "roofline", "saves", "warmup"])]
    pub recovery: bool,
    /// Measure in this process: what `bench` starts for each workload
    #[arg(long, hide = true)]
    pub here: bool,
    #[command(flatten)]
    pub adapter: AdapterArgs,
}
