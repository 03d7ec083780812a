//! What `wgrad train` can learn: a configuration becomes a [`Task`], and a run needs nothing else.
//!
//! One file a task: `char_gpt.rs` (text), `digits.rs`, `images.rs`. A new task is a [`TaskKind`] with its defaults, a
//! file, and an arm of [`Task::new`]. Knows no run directory and no loop; see `run.rs`.

use super::config::{Config, Schedule as ScheduleKind, TaskKind};
use super::confusion::Look;
use super::data::DataSource;
use super::trainer::{Trainer, TrainerBuilder};
use super::{char_gpt, digits, images};
use crate::error::Result;
use crate::graph::{Graph, Tensor};
use crate::nn::Parameters;
use crate::optim::{AdamW, Schedule};

/// The forward pass to the mean loss.
pub type Loss = Box<dyn for<'g> Fn(&'g Graph) -> Tensor<'g>>;

/// Something to learn, before it is compiled for a device.
pub struct Task {
    pub trainer: TrainerBuilder,
    pub loss: Loss,
    pub subject: Subject,
}

/// What a run needs to know of a task beside its model.
pub struct Subject {
    pub data: Box<dyn DataSource>,
    /// Held-out batches of an evaluation.
    pub eval_batches: usize,
    /// Of a task that tells classes apart.
    pub classes: Option<Classes>,
    /// What `per_step` counts.
    pub unit: Unit,
    pub per_step: usize,
    /// What there is to learn from.
    pub contents: Contents,
    /// The size of the model in words, such as `3 layers of width 64, context 64`.
    pub model: String,
}

/// What images show, and how they are drawn. The loss of such a task is [`super::classify::loss`].
#[derive(Debug, Clone)]
pub struct Classes {
    pub names: Vec<String>,
    pub look: Look,
}

/// What is counted to say how fast a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Tokens,
    Images,
}

/// What there is to learn from.
#[derive(Debug, Clone, PartialEq)]
pub enum Contents {
    /// Bytes to train on and bytes held out.
    Text { name: String, training: u64, validation: u64 },
    /// Images to train on and images held out.
    Images { name: String, classes: usize, training: u64, validation: u64 },
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::Tokens => "tokens",
            Unit::Images => "images",
        }
    }
}

impl Task {
    /// The task of a configuration: opens its data and builds its model.
    pub fn new(config: &Config) -> Result<Task> {
        match config.task {
            TaskKind::Text => char_gpt::task(config),
            TaskKind::Digits => digits::task(config),
            TaskKind::Images => images::task(config),
        }
    }
}

/// What all tasks have in common: schedule, seed, clipping, and no weight decay on gains and biases.
pub fn builder(config: &Config, mut parameters: Parameters, optimizer: AdamW) -> TrainerBuilder {
    let train = &config.train;
    parameters.group_by("no_decay", |_, shape| shape.rank() < 2).weight_decay(0.0);
    let optimizer = optimizer.weight_decay(train.weight_decay);
    let builder = Trainer::builder(parameters).optimizer(optimizer).lr(schedule(config)).seed(train.seed);
    if train.clip > 0.0 { builder.clip(train.clip) } else { builder }
}

fn schedule(config: &Config) -> Schedule {
    let train = &config.train;
    match train.schedule {
        ScheduleKind::Cosine => Schedule::cosine(train.lr, train.warmup, train.steps),
        ScheduleKind::Constant => Schedule::Constant { lr: train.lr, warmup: train.warmup },
        ScheduleKind::OneCycle => Schedule::one_cycle(train.lr, train.steps),
    }
}
