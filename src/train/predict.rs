//! What one image shows, in the opinion of a trained run of the task `digits` or `images`.
//!
//! Knows how an image file becomes what the model was trained on; nothing about how the answer is shown.

use super::classify::{IMAGES, LABELS, LOG_PROBABILITIES};
use super::config::{Config, TaskKind};
use super::data::Batch;
use super::evaluator::Evaluator;
use super::task::class_names;
use super::{digits, images};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::io::HostTensor;
use crate::io::digits::{INK, SIDE};
use crate::io::images::{CHANNELS, read_grey, read_image};
use crate::io::safetensors::Weights;
use std::path::Path;

/// A model that judges images one by one.
pub struct Predictor {
    evaluator: Evaluator,
    task: TaskKind,
    classes: Vec<String>,
    side: usize,
}

impl Predictor {
    /// The model of a configuration with these weights, which know the names of their classes.
    pub fn new(device: &Device, config: &Config, weights: &Weights) -> Result<Predictor> {
        let mut config = config.clone();
        (config.train.batch, config.train.accumulate) = (1, 1);
        let task = config.task;
        let known = class_names(weights)?;
        let classes = known.ok_or_else(|| Error::config("the weights do not name their classes".into()));
        let (model, classes, side) = match task {
            TaskKind::Text => {
                let message = "a run of the task `text` judges no images; continue a prompt with `wgrad sample`";
                return Err(Error::config(message.into()));
            }
            TaskKind::Digits => (digits::model(&config), classes?, SIDE),
            TaskKind::Images => {
                let classes = classes?;
                (images::model(&config, classes.len()), classes, config.data.image_size)
            }
        };
        let evaluator = Evaluator::new(device, model.trainer.parameters(), &*model.loss, weights)?;
        Ok(Predictor { evaluator, task, classes, side })
    }

    /// The classes of a PNG or JPEG file with their probabilities, the likeliest first.
    pub fn predict(&mut self, path: &Path) -> Result<Vec<(String, f32)>> {
        let side = self.side;
        let image = match self.task {
            TaskKind::Digits => {
                // Dark is ink.
                let ink = |grey: u8| ((u32::from(255 - grey) * u32::from(INK) + 127) / 255) as u8;
                let pixels: Vec<u8> = read_grey(path, side)?.into_iter().map(ink).collect();
                HostTensor::u8([1, 1, side, side], &pixels)?
            }
            TaskKind::Images | TaskKind::Text => HostTensor::u8([1, CHANNELS, side, side], &read_image(path, side)?)?,
        };
        let batch: Batch = vec![(IMAGES, image), (LABELS, HostTensor::i32([1], &[-1])?)];
        let scores = self.evaluator.outputs(&batch)?.f32(LOG_PROBABILITIES)?;
        let mut found: Vec<(String, f32)> =
            self.classes.iter().cloned().zip(scores.into_iter().map(f32::exp)).collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(found)
    }
}
