//! What `wgrad train` can learn: a configuration becomes a [`Task`], and a run needs nothing else.
//!
//! One file a task: `char_gpt.rs` (text), `digits.rs`, `images.rs`. A new task is a [`TaskKind`] with its defaults, a
//! file, and an arm of [`Task::new`]. Knows no run directory and no loop; see `run.rs`.

use super::classify::Look;
use super::config::{Config, TaskKind};
use super::data::DataSource;
#[cfg(feature = "cli")]
use super::images;
use super::trainer::TrainerBuilder;
use super::{char_gpt, digits};
use crate::error::{Error, Result};
use crate::graph::{Graph, Tensor};
use crate::io::json::check_cost;
use crate::io::safetensors::Weights;
use serde_json::Value;
use std::collections::BTreeMap;

/// The forward pass to the mean loss.
pub type Loss = Box<dyn for<'g> Fn(&'g Graph) -> Tensor<'g>>;

/// Something to learn, before it is compiled for a device.
pub struct Task {
    pub model: Model,
    pub subject: Subject,
}

/// A model with its loss, and how it is trained.
pub struct Model {
    pub trainer: TrainerBuilder,
    pub loss: Loss,
}

/// What a run needs to know of a task beside its model.
pub struct Subject {
    pub data: Box<dyn DataSource>,
    /// Held-out batches of an evaluation.
    pub eval_batches: usize,
    /// Into how many parts a batch is cut for the device.
    pub parts: usize,
    /// Of a task that tells classes apart.
    pub classes: Option<Classes>,
    /// What `per_step` counts.
    pub unit: Unit,
    pub per_step: usize,
    /// What there is to learn from.
    pub contents: Contents,
    /// The size of the model in words, such as `3 layers of width 64, context 64`.
    pub model: String,
    /// Of files that may change: stands for what is listed. A resumed run wants the same.
    pub fingerprint: Option<String>,
    /// Keys of the configuration with what they say of the model's size, for the weights' metadata.
    pub sizes: BTreeMap<String, String>,
}

/// The key of the weights' metadata under which the names of the classes lie, as JSON.
const CLASSES: &str = "classes";
/// The key of a subject's fingerprint.
const FINGERPRINT: &str = "data";

impl Subject {
    /// What stands in the metadata of weights that learned this.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let names = self.classes.as_ref().map(|classes| Value::from(classes.names.clone()).to_string());
        let entries = [(CLASSES, names), (FINGERPRINT, self.fingerprint.clone())];
        let entries = entries.into_iter().filter_map(|(key, text)| Some((key.to_string(), text?)));
        entries.chain(self.sizes.clone()).collect()
    }

    /// Whether a checkpoint learned the same. Gives a warning if it is much the same.
    pub fn check_same(&self, checkpoint: &Weights) -> Result<Option<String>> {
        if let (Some(classes), Some(known)) = (&self.classes, class_names(checkpoint)?)
            && known != classes.names
        {
            let [known, now] = [&known, &classes.names].map(|names| names.join(", "));
            return Err(Error::config(format!("the run began with the classes {known}, but now they are {now}")));
        }
        let changed =
            checkpoint.metadata.get(FINGERPRINT).is_some_and(|known| Some(known) != self.fingerprint.as_ref());
        Ok(changed.then(|| {
            "the images are not all those that the run began with; what follows is not what it would have been".into()
        }))
    }
}

/// The names of the classes that weights were trained to tell apart, if they know.
pub fn class_names(weights: &Weights) -> Result<Option<Vec<String>>> {
    let Some(text) = weights.metadata.get(CLASSES) else { return Ok(None) };
    let refuse = |e: String| Error::config(format!("the classes in the weights' metadata cannot be read: {e}"));
    check_cost(text.as_bytes(), text.len() as u64).map_err(refuse)?;
    serde_json::from_str(text).map(Some).map_err(|e| refuse(e.to_string()))
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
            #[cfg(feature = "cli")]
            TaskKind::Images => images::task(config),
            #[cfg(not(feature = "cli"))]
            TaskKind::Images => Err(Error::unsupported("folders of images are read by the command line tool".into())),
        }
    }
}
