//! What can be typed: every command and flag, with its help text.
//!
//! Words only: a value's meaning is checked by whoever owns it, the configuration's keys by
//! [`crate::train::config`]. A flag of `train` is a short way to set one of those keys.

use crate::error::Result;
use crate::kernels::Profile;
use crate::train::config::RawConfig;
use crate::train::workloads::Workload;
use crate::train::{Budget, Precision};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Train neural networks on any GPU.
#[derive(Debug, Parser)]
#[command(name = "wgrad", version, arg_required_else_help = true, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model on a text, on handwritten digits or on a folder of images, and leave a run directory
    ///
    /// The task `text` trains a byte-level GPT on --data FILE, or on wgrad's own sources, which are
    /// embedded in the program. `digits` trains a small convolutional network on the 1,437 handwritten
    /// digits that are embedded too, and tests it on 360 others. `images` trains a convolutional
    /// network on --data DIR, which has one subfolder of PNG or JPEG files for each class (or `train`
    /// and `val` folders that have).
    ///
    /// The run directory holds config.toml, metrics.jsonl, loss.svg, best.safetensors and checkpoints,
    /// and of images accuracy.svg and confusion.svg too. Flags win over --config, and --set over both.
    ///
    /// Ctrl-C (or SIGTERM) saves a checkpoint and ends with exit code 0; a second one ends at once.
    Train(Box<TrainArgs>),
    /// Measure the best weights of a run on its held-out part, anew
    ///
    /// Prints the loss and, of images, how many of each class were classified right; writes the
    /// confusion matrix where --out says.
    Eval(EvalArgs),
    /// Say what images show, with the weights of a run of the task `digits` or `images`
    Predict(PredictArgs),
    /// Continue a prompt with the weights of a run of the task `text`
    Sample(SampleArgs),
    /// Find the tensor that went bad first when a loss is not a finite number
    ///
    /// Makes the steps after the newest checkpoint of a run again, without changing the run, to the first
    /// whose loss or gradients are not finite (or to --step), and prints every value of that step that
    /// is not finite and was before, in the order in which they are computed.
    Debug(DebugArgs),
    /// List the adapters with driver, features, limits and kernel tier
    Devices,
    /// Measure what an adapter can do at most: operations a second, and bytes a second by amount
    ///
    /// No kernel can be faster than both allow; `bench --profile` and `train --profile` say how near each comes.
    Roof(RoofArgs),
    /// Print how a model becomes GPU work: graph, gradients, passes, program
    Explain(ExplainArgs),
    /// Measure which kernels are fastest on this adapter, and keep what is found
    ///
    /// Every candidate for each matrix product and convolution is compared with a simple kernel and timed. The table is kept
    /// by adapter and driver; runs with device.autotune = true use it (and measure by themselves what it lacks).
    Tune(TuneArgs),
    /// Say what a step will need before anything is allocated: memory, work, an estimated time, what makes the peak
    ///
    /// Memory is exact: what is planned is what is created. Times are estimates from the adapter's roofs (see `wgrad
    /// roof`), which no kernel passes; with --limits no adapter is opened, and they are guesses for a class of adapters.
    Plan(PlanArgs),
    /// Run standard workloads, each in a process of its own, and print a JSON line for each
    Bench(BenchArgs),
}

/// The environment variable behind `--adapter`.
pub const ADAPTER_VARIABLE: &str = "WGRAD_ADAPTER";

/// Which GPU.
#[derive(Debug, Clone, Default, Args)]
pub struct AdapterArgs {
    /// The GPU: a part of its name, or its index in `wgrad devices` [default: the environment
    /// variable WGRAD_ADAPTER, else the fastest kind present]
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
}

impl AdapterArgs {
    /// The flag, or else the environment variable; `None` leaves the choice to the program.
    pub fn choice(&self) -> Option<String> {
        self.adapter.clone().or_else(|| std::env::var(ADAPTER_VARIABLE).ok()).filter(|name| !name.is_empty())
    }
}

/// Flags of `wgrad train`.
#[derive(Debug, Default, Args)]
pub struct TrainArgs {
    /// What to learn: text, digits or images [default: text]
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// text: the file to learn, of any size; a token is a byte [default: the embedded text].
    /// images: the folder with one subfolder for each class
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// A TOML file with configuration keys, such as a run's config.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The run directory to make; it must not hold a run [default: runs/<n>, the next free number]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Begin with the weights in this safetensors file, such as a run's best.safetensors or what a page saved; of texts and
    /// digits it says how large the model is, and of an images' model the flags must
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Go on with the run in this directory, with its configuration
    #[arg(long, value_name = "DIR", conflicts_with_all = ["weights", "config", "out", "task", "precision", "model", "data", "image_size", "layers", "heads", "width", "context", "seed"])]
    pub resume: Option<PathBuf>,
    /// Optimizer steps, counted from the beginning of the run [default: text 1600, digits 1100, images 2000]
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Samples in a step: images, or texts of --context tokens [default: text 8, digits 32, images 32]
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Split the batch of a step into N micro-batches, one after the other on the device: less memory, the same step;
    /// N must divide --batch [default: 1]
    #[arg(long, value_name = "N")]
    pub accumulate: Option<usize>,
    /// f32, f16 or bf16: in what type products, convolutions and attention read their operands, and activations wait
    /// for their gradients; the two of 16 bits take half the memory there. Weights are f32 always [default: f32]
    #[arg(long, value_name = "TYPE")]
    pub precision: Option<String>,
    /// Device memory that training may take, such as 6GiB, or auto (from the device's limits): activations are computed
    /// twice and the batch is split as far as needed [default: what it needs]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Largest learning rate of the schedule [default: text 0.004, digits 0.01, images 0.002]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// text: transformer blocks [default: text 3]
    #[arg(long, value_name = "N")]
    pub layers: Option<usize>,
    /// text: attention heads in a block; must divide --width [default: text 4]
    #[arg(long, value_name = "N")]
    pub heads: Option<usize>,
    /// Features of a token between blocks, or channels of the first convolution
    /// [default: text 64, digits 16, images 32]
    #[arg(long, value_name = "N")]
    pub width: Option<usize>,
    /// text: tokens (bytes) that a prediction can look back on [default: text 64]
    #[arg(long, value_name = "N")]
    pub context: Option<usize>,
    /// images: convnet, resnet18, resnet34 or resnet50; the published residual networks have --width 64
    /// [default: images convnet]
    #[arg(long, value_name = "KIND")]
    pub model: Option<String>,
    /// images: pixels along a side; the middle square of each image is resized to it [default: images 32]
    #[arg(long, value_name = "N")]
    pub image_size: Option<usize>,
    /// Seed of weights, data order, augmentation and dropout; the same seed gives the same run [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Steps between evaluations on the held-out part; 0 never evaluates
    /// [default: text 200, digits 100, images 200]
    #[arg(long, value_name = "N")]
    pub eval_every: Option<u64>,
    /// At the end, print where the time of a step goes, kernel by kernel
    #[arg(long)]
    pub profile: bool,
    /// Write TensorBoard event files into the run directory too [default: off]
    #[arg(long)]
    pub tensorboard: bool,
    /// Set any configuration key, such as train.early_stopping=5; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub adapter: AdapterArgs,
}

impl TrainArgs {
    /// Lays the flags over what a file gave, and `--set` over the flags.
    pub fn apply(&self, raw: &mut RawConfig) -> Result<()> {
        let flags = [
            ("task", "--task", self.task.clone()),
            ("data.path", "--data", self.data.as_ref().map(|path| path.display().to_string())),
            ("train.steps", "--steps", self.steps.map(|n| n.to_string())),
            ("train.batch", "--batch", self.batch.map(|n| n.to_string())),
            ("train.accumulate", "--accumulate", self.accumulate.map(|n| n.to_string())),
            ("train.precision", "--precision", self.precision.clone()),
            ("train.lr", "--lr", self.lr.map(|x| format!("{x:?}"))),
            ("model.layers", "--layers", self.layers.map(|n| n.to_string())),
            ("model.heads", "--heads", self.heads.map(|n| n.to_string())),
            ("model.width", "--width", self.width.map(|n| n.to_string())),
            ("model.context", "--context", self.context.map(|n| n.to_string())),
            ("model.kind", "--model", self.model.clone()),
            ("data.image_size", "--image-size", self.image_size.map(|n| n.to_string())),
            ("train.seed", "--seed", self.seed.map(|n| n.to_string())),
            ("train.eval_every", "--eval-every", self.eval_every.map(|n| n.to_string())),
            ("train.tensorboard", "--tensorboard", self.tensorboard.then(|| "true".to_string())),
            ("device.memory", "--memory", self.memory.clone()),
            ("device.adapter", "--adapter", self.adapter.adapter.clone()),
        ];
        for (key, flag, words) in flags {
            if let Some(words) = words {
                raw.set(key, &words, flag)?;
            }
        }
        self.set.iter().try_for_each(|pair| raw.set_pair(pair))
    }
}

/// Flags of `wgrad eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The run directory
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Write the confusion matrix of a run of images here, as SVG [default: none is written]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub adapter: AdapterArgs,
}

/// Flags of `wgrad debug`.
#[derive(Debug, Args)]
pub struct DebugArgs {
    /// The run directory
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// The step to look at, after the newest checkpoint [default: the first whose loss is not finite]
    #[arg(long, value_name = "N")]
    pub step: Option<u64>,
    /// Print all values that are not finite [default: the first 20]
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub adapter: AdapterArgs,
}

/// Flags of `wgrad predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// The run directory to take the best weights from
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// PNG or JPEG files; digits must be dark on light paper
    #[arg(required = true, value_name = "FILE")]
    pub images: Vec<PathBuf>,
    /// Print the N likeliest classes of each image
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    pub top: usize,
    #[command(flatten)]
    pub adapter: AdapterArgs,
}

/// Flags of `wgrad sample`.
#[derive(Debug, Args)]
pub struct SampleArgs {
    /// The run directory to take the best weights from
    #[arg(long, value_name = "DIR", required_unless_present = "weights", conflicts_with = "weights")]
    pub run: Option<PathBuf>,
    /// A safetensors file to take the weights from instead, such as one that a page saved
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// The text to continue; its bytes are the first tokens
    #[arg(long, value_name = "TEXT", default_value = "fn ")]
    pub prompt: String,
    /// Tokens (bytes) to add
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub tokens: usize,
    /// Divides the logits: 0 always takes the likeliest token, 1 follows the model, more is wilder
    #[arg(long, value_name = "X", default_value_t = 0.8, value_parser = temperature)]
    pub temperature: f32,
    /// Choose only among the N likeliest tokens; 0 among all 256
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub top_k: usize,
    /// Seed of the choices; the same seed gives the same text
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub adapter: AdapterArgs,
}

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
    /// Train in f32, f16 or bf16; not of W1
    #[arg(long, value_name = "TYPE", default_value_t = Precision::F32, value_parser = Precision::parse)]
    pub precision: Precision,
    /// With the kernels that `wgrad tune` found to be fastest
    #[arg(long)]
    pub tuned: bool,
    /// Compute activations twice where that halves their memory
    #[arg(long)]
    pub recompute: bool,
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
    #[arg(long, conflicts_with_all = ["tuned", "recompute", "profile", "trace", "roofline", "warmup", "seed"])]
    pub host: bool,
    /// Measure in this process: what `bench` starts for each workload
    #[arg(long, hide = true)]
    pub here: bool,
    #[command(flatten)]
    pub adapter: AdapterArgs,
}

fn temperature(words: &str) -> std::result::Result<f32, String> {
    let parsed = words.parse::<f32>().ok().filter(|x| x.is_finite() && *x >= 0.0);
    parsed.ok_or_else(|| "must be a number of at least 0".into())
}

fn at_least_one(words: &str) -> std::result::Result<usize, String> {
    words.parse().ok().filter(|n| *n > 0).ok_or_else(|| "must be an integer of at least 1".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::config::{Config, TaskKind};
    use clap::CommandFactory;

    fn train(words: &str) -> Result<Config> {
        let cli = Cli::try_parse_from(["wgrad", "train"].into_iter().chain(words.split_whitespace())).unwrap();
        let Command::Train(args) = cli.command else { panic!("not train") };
        let mut raw = RawConfig::default();
        args.apply(&mut raw)?;
        raw.resolve()
    }

    fn refused(words: &str) -> String {
        let error = Cli::try_parse_from(words.split_whitespace()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    }

    #[test]
    fn the_definitions_hold_together_and_every_flag_has_help() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
        }
    }

    #[test]
    fn flags_set_configuration_keys_and_set_wins() {
        let words = "--data a.txt --steps 900 --batch 4 --lr 5e-4 --layers 2 --heads 2 --width 64 \
                     --context 32 --seed 9 \
                     --eval-every 10 --tensorboard --adapter 1 --set train.warmup=7 --set train.batch=16";
        let config = train(words).unwrap();
        assert_eq!((config.data.path.as_deref(), config.device.adapter.as_deref()), (Some("a.txt"), Some("1")));
        let model = &config.model;
        assert_eq!((model.layers, model.heads, model.width, model.context), (2, 2, 64, 32));
        let t = &config.train;
        assert_eq!((t.steps, t.batch, t.lr, t.seed, t.eval_every, t.warmup), (900, 16, 5e-4, 9, 10, 7));
        assert!(t.tensorboard);
        assert_eq!(train("").unwrap(), Config::default());
        let digits = train("--task digits --width 8").unwrap();
        assert_eq!((digits.task, digits.model.width), (TaskKind::Digits, 8));
        let heads = train("--task digits --heads 2").unwrap_err().to_string();
        assert!(heads.contains("(from --heads)") && heads.contains("--task text"), "{heads}");
        assert!(train("--task images").unwrap_err().to_string().contains("--data DIR"));
        assert_eq!(train("--task images --data a --image-size 32").unwrap().data.image_size, 32);
        let message = train("--steps 0").unwrap_err().to_string();
        assert!(message.contains("(from --steps)"), "{message}");
    }

    #[test]
    fn the_defaults_in_the_help_are_those_of_the_configuration() {
        let help = Cli::command().find_subcommand_mut("train").unwrap().render_help().to_string();
        let help: String = help.split_whitespace().collect::<Vec<_>>().join(" ");
        type Default = fn(&Config) -> String;
        let flags: [(&str, Default); 12] = [
            ("--model <KIND>", |c| c.model.kind.to_string()),
            ("--steps <N>", |c| c.train.steps.to_string()),
            ("--batch <N>", |c| c.train.batch.to_string()),
            ("--accumulate <N>", |c| c.train.accumulate.to_string()),
            ("--lr <X>", |c| c.train.lr.to_string()),
            ("--layers <N>", |c| c.model.layers.to_string()),
            ("--heads <N>", |c| c.model.heads.to_string()),
            ("--width <N>", |c| c.model.width.to_string()),
            ("--context <N>", |c| c.model.context.to_string()),
            ("--image-size <N>", |c| c.data.image_size.to_string()),
            ("--seed <N>", |c| c.train.seed.to_string()),
            ("--eval-every <N>", |c| c.train.eval_every.to_string()),
        ];
        for (flag, default) in flags {
            let text = help.split(flag).nth(1).unwrap_or_else(|| panic!("{flag} in {help}"));
            let text = text.split("[default: ").nth(1).and_then(|text| text.split(']').next()).unwrap_or_default();
            for said in text.split(", ") {
                // `digits 1100`, or one number for every task.
                let (task, value) = said.split_once(' ').unwrap_or(("", said));
                let tasks = TaskKind::ALL.into_iter().filter(|own| task.is_empty() || own.name() == task);
                let wrong: Vec<TaskKind> = tasks.filter(|&own| default(&Config::for_task(own)) != value).collect();
                assert!(wrong.is_empty(), "{flag}: {text}, not so for {wrong:?}");
            }
            let named = TaskKind::ALL.into_iter().filter(|task| text.contains(task.name())).count();
            assert!(named == 3 || !text.contains(','), "{flag} names some tasks only: {text}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_exit_code_2() {
        for changed in ["--out b", "--seed 5", "--data c", "--width 128", "--task digits", "--model resnet18"] {
            assert!(refused(&format!("wgrad train --resume a {changed}")).contains("cannot be used with"), "{changed}");
        }
        assert!(refused("wgrad train --step 3").contains("--steps"));
        assert!(refused("wgrad train --steps many").contains("invalid value"));
        for command in ["sample", "eval", "predict a.png"] {
            assert!(refused(&format!("wgrad {command}")).contains("--run"), "{command}");
        }
        assert!(refused("wgrad predict --run a").contains("FILE"));
        assert!(refused("wgrad sample --run a --temperature nan").contains("at least 0"));
        assert!(refused("wgrad explain resnet").contains("possible values"));
        assert!(refused("wgrad bench").contains("WORKLOAD"));
        assert!(refused("wgrad bench W9").contains("W1-512"));
        assert!(refused("wgrad bench W1").contains("matrix size"));
        assert!(refused("wgrad bench W2 --steps 0").contains("at least 1"));
        assert!(refused("wgrad trian").contains("train"));
    }

    #[test]
    fn workloads_and_models_are_read_in_any_case() {
        let cli = Cli::try_parse_from(["wgrad", "bench", "w1-512", "W2", "w4"]).unwrap();
        let Command::Bench(args) = cli.command else { panic!("not bench") };
        assert_eq!(args.workloads, [Workload::W1(512), Workload::W2, Workload::W4]);
        assert_eq!(args.workloads.iter().map(Workload::to_string).collect::<Vec<_>>(), ["W1-512", "W2", "W4"]);
        let cli = Cli::try_parse_from(["wgrad", "explain", "w4", "--stage", "program"]).unwrap();
        let Command::Explain(args) = cli.command else { panic!("not explain") };
        assert_eq!((args.model, args.stage), (ExplainModel::W4, Some(Stage::Program)));
    }
}
