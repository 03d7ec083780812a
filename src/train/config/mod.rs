//! The configuration of a training run: from raw words to a checked [`Config`], in two steps.
//!
//! Step one, [`RawConfig`]: keys and values as a TOML file and the command line give them, each
//! with where it came from; later ones win. Step two, [`RawConfig::resolve`]: every value becomes
//! its type, is checked against the row of its key in [`KEYS`], and then against the others. Each task has defaults of
//! its own and uses some of the keys only. What comes out can be trained with, and `Config::to_toml` writes it into
//! the run directory. Knows nothing about models or devices; a value that only they can refuse is refused there.

mod keys;
#[cfg(feature = "cli")]
mod raw;
mod rules;

pub use keys::{KEYS, Key};
#[cfg(feature = "cli")]
pub use raw::RawConfig;
pub use rules::{OptimizerConfig, OptimizerKind, Schedule, ScheduleConfig};

use super::budget::Budget;
use super::precision::Precision;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Bytes of a configuration file; every key of it takes far fewer.
pub const MAX_CONFIG: u64 = 64 << 10;

/// Everything that a run depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub task: TaskKind,
    pub model: ModelConfig,
    pub data: DataConfig,
    pub augment: AugmentConfig,
    pub train: TrainConfig,
    pub optimizer: OptimizerConfig,
    pub schedule: ScheduleConfig,
    pub device: DeviceConfig,
}

/// What is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// To continue a text.
    Text,
    /// To read handwritten digits.
    Digits,
    /// To tell the images of a folder's subfolders apart.
    Images,
}

/// The size of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Of images.
    pub kind: ModelKind,
    /// Of a text: transformer blocks.
    pub layers: usize,
    /// Of a text: attention heads of a block.
    pub heads: usize,
    /// Of a text: features of a token. Of images: channels of the first convolution.
    pub width: usize,
    /// Of a text: tokens that a prediction sees.
    pub context: usize,
    pub dropout: f64,
}

/// A network for images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Four small residual stages: [`crate::nn::models::ConvNet`].
    ConvNet,
    Resnet18,
    Resnet34,
    Resnet50,
}

impl std::fmt::Display for ModelKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ModelKind::ConvNet => "convnet",
            ModelKind::Resnet18 => "resnet18",
            ModelKind::Resnet34 => "resnet34",
            ModelKind::Resnet50 => "resnet50",
        })
    }
}

/// What to learn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// A file of text (`None`: the text embedded in the program) or a folder of images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub validation: f64,
    /// Pixels along a side that images are resized to.
    pub image_size: usize,
    /// Threads that read images ahead.
    pub workers: usize,
}

/// How images are changed while training: [`crate::nn::Augment`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    pub shift: f64,
    pub rotate: f64,
    pub scale: f64,
    pub flip: f64,
    pub brightness: f64,
    pub contrast: f64,
    pub saturation: f64,
}

/// The training loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    pub steps: u64,
    /// Samples of a step.
    pub batch: usize,
    /// Micro-batches that it is split into.
    pub accumulate: usize,
    pub precision: Precision,
    /// Whether activations are computed twice instead of being kept.
    pub recompute: Recompute,
    pub optimizer: OptimizerKind,
    pub lr: f64,
    pub weight_decay: f64,
    pub warmup: u64,
    pub clip: f64,
    /// How much of the running mean of the weights is kept in a step; 0: there is none.
    pub ema: f64,
    /// Keep less of it in the first steps.
    pub ema_warmup: bool,
    pub schedule: Schedule,
    pub seed: u64,
    pub eval_every: u64,
    pub eval_batches: usize,
    pub early_stopping: u64,
    pub checkpoint_every: u64,
    pub tensorboard: bool,
    /// Steps between records of each parameter's norms; 0: none.
    pub norms_every: u64,
    pub on_nonfinite: NonFinite,
}

/// What is computed twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Nothing, unless `device.memory` needs it.
    None,
    /// Activations, where that halves their memory.
    Auto,
}

/// What to do when the loss or the gradients of a step are not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonFinite {
    /// End with an error that names the first tensor that went bad.
    Stop,
    /// Leave the batch out.
    Skip,
    /// Go on from the last checkpoint with half the learning rate.
    Rollback,
}

/// Where to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceConfig {
    /// `None`: the best adapter that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Measure which kernels are fastest on this adapter before a new run begins, and use them; a run that goes on keeps
    /// those that it began with.
    pub autotune: bool,
    /// Seconds without an answer after which the device counts as hung.
    pub timeout: u64,
    /// The device memory that training may take; `None`: what it needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Budget>,
}

impl TaskKind {
    /// All tasks; the first is that of a run which names none.
    pub const ALL: [TaskKind; 3] = [TaskKind::Text, TaskKind::Digits, TaskKind::Images];

    /// Whether it tells classes of images apart.
    pub fn has_classes(self) -> bool {
        self != TaskKind::Text
    }

    /// The name in configurations and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            TaskKind::Text => "text",
            TaskKind::Digits => "digits",
            TaskKind::Images => "images",
        }
    }
}

impl std::fmt::Display for TaskKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The defaults of a text; the other tasks change some, see [`Config::for_task`].
impl Default for Config {
    fn default() -> Config {
        Config {
            task: TaskKind::Text,
            model: ModelConfig::default(),
            data: DataConfig::default(),
            augment: AugmentConfig::default(),
            train: TrainConfig::default(),
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleConfig::default(),
            device: DeviceConfig::default(),
        }
    }
}

impl Default for ModelConfig {
    fn default() -> ModelConfig {
        // Small enough that a software adapter on two cores learns something in two minutes.
        ModelConfig { kind: ModelKind::ConvNet, layers: 3, heads: 4, width: 64, context: 64, dropout: 0.0 }
    }
}

impl Default for DeviceConfig {
    fn default() -> DeviceConfig {
        DeviceConfig { adapter: None, autotune: false, timeout: 600, memory: None }
    }
}

impl Default for DataConfig {
    fn default() -> DataConfig {
        DataConfig { path: None, validation: 0.1, image_size: 32, workers: 2 }
    }
}

impl Default for AugmentConfig {
    fn default() -> AugmentConfig {
        AugmentConfig {
            shift: 0.0,
            rotate: 0.0,
            scale: 0.0,
            flip: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
        }
    }
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            steps: 1600,
            batch: 8,
            accumulate: 1,
            precision: Precision::F32,
            recompute: Recompute::None,
            optimizer: OptimizerKind::AdamW,
            lr: 4e-3,
            weight_decay: 0.1,
            warmup: 50,
            clip: 1.0,
            ema: 0.0,
            ema_warmup: true,
            schedule: Schedule::Cosine,
            seed: 0,
            eval_every: 200,
            eval_batches: 4,
            early_stopping: 0,
            checkpoint_every: 400,
            tensorboard: false,
            norms_every: 0,
            on_nonfinite: NonFinite::Stop,
        }
    }
}

impl TrainConfig {
    /// Samples that the device gets at once.
    pub fn micro_batch(&self) -> usize {
        self.batch / self.accumulate.max(1)
    }
}

impl Config {
    /// What a run of a task has where nothing else is said.
    pub fn for_task(task: TaskKind) -> Config {
        let config = Config { task, ..Config::default() };
        match task {
            TaskKind::Text => config,
            // About 25 epochs.
            TaskKind::Digits => Config {
                model: ModelConfig { width: 16, ..config.model },
                augment: AugmentConfig { shift: 0.125, rotate: 10.0, scale: 0.1, ..config.augment },
                train: TrainConfig {
                    steps: 1100,
                    batch: 32,
                    lr: 1e-2,
                    weight_decay: 0.01,
                    eval_every: 100,
                    checkpoint_every: 500,
                    ..config.train
                },
                ..config
            },
            TaskKind::Images => Config {
                model: ModelConfig { width: 32, ..config.model },
                data: DataConfig { validation: 0.2, ..config.data },
                augment: AugmentConfig {
                    shift: 0.125,
                    flip: 0.5,
                    brightness: 0.2,
                    contrast: 0.2,
                    saturation: 0.2,
                    ..config.augment
                },
                train: TrainConfig {
                    steps: 2000,
                    batch: 32,
                    lr: 2e-3,
                    weight_decay: 0.05,
                    eval_every: 200,
                    checkpoint_every: 500,
                    ..config.train
                },
                ..config
            },
        }
    }

    /// Reads and checks a whole configuration, such as a run directory's `config.toml`.
    #[cfg(feature = "cli")]
    pub fn from_toml(path: &str, text: &str) -> Result<Config> {
        let mut raw = RawConfig::default();
        raw.read_toml(path, text)?;
        raw.resolve()
    }

    /// The TOML text of the configuration with every key that its task uses; reading it gives the same one.
    #[cfg(feature = "cli")]
    pub fn to_toml(&self) -> Result<String> {
        let failed = |e: toml::ser::Error| Error::config(format!("the configuration cannot be written: {e}"));
        let mut table = toml::Table::try_from(self).map_err(failed)?;
        for (section, content) in &mut table {
            if let toml::Value::Table(entries) = content {
                entries.retain(|name, _| {
                    let full = format!("{section}.{name}");
                    KEYS.iter().any(|key| key.name == full && key.tasks.contains(&self.task))
                });
            }
        }
        table.retain(|_, content| content.as_table().is_none_or(|entries| !entries.is_empty()));
        toml::to_string(&table).map_err(failed)
    }

    /// Every rule of the table and those between keys, for a configuration that was made without files and flags.
    pub fn check(&self) -> Result<()> {
        for key in KEYS.iter().filter(|key| key.tasks.contains(&self.task)) {
            if !(key.valid)(self) {
                return Err(Error::config(format!("{} must be {}", key.name, key.allowed)));
            }
        }
        self.check_together()
    }

    /// The rules that hold between keys.
    fn check_together(&self) -> Result<()> {
        let (model, train) = (&self.model, &self.train);
        if self.task == TaskKind::Text && !model.width.is_multiple_of(model.heads) {
            let below = model.width / model.heads * model.heads;
            let nearest = if below == 0 { model.heads } else { below };
            return Err(Error::config(format!(
                "model.width = {} is not a multiple of model.heads = {}; width {nearest} would be",
                model.width, model.heads
            )));
        }
        if self.task == TaskKind::Images && self.data.path.is_none() {
            return Err(Error::config(
                "the task `images` needs a folder with one subfolder of PNG or JPEG files for each class: --data DIR"
                    .into(),
            ));
        }
        if self.task == TaskKind::Images && model.kind != ModelKind::ConvNet && model.dropout > 0.0 {
            return Err(Error::config(format!(
                "model.dropout = {} is for model.kind = convnet; a {} has no dropout",
                model.dropout, model.kind
            )));
        }
        if !train.batch.is_multiple_of(train.accumulate) {
            return Err(Error::config(format!(
                "train.batch = {} samples cannot be split into train.accumulate = {} micro-batches of as many each",
                train.batch, train.accumulate
            )));
        }
        if train.warmup >= train.steps {
            return Err(Error::config(format!(
                "train.warmup = {} must be below train.steps = {}; set it to 0 for no warm-up",
                train.warmup, train.steps
            )));
        }
        if train.early_stopping > 0 && train.eval_every == 0 {
            return Err(Error::config(format!(
                "train.early_stopping = {} needs evaluations, but train.eval_every is 0; set it to a number of steps",
                train.early_stopping
            )));
        }
        rules::check(self)
    }
}
