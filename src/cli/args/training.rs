//! Flags of the commands that make a run and work with it.

use super::{AdapterArgs, at_least_one, temperature};
use crate::error::Result;
use crate::train::config::RawConfig;
use clap::Args;
use std::path::PathBuf;

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
