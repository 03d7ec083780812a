//! The task `digits`: a small convolutional network learns to read handwritten digits.
//!
//! Knows no run directory and no loop; see `run.rs`. The images are in `crate::io::digits`.

use super::classify::{self, IMAGES, LABELS, Look};
use super::config::{AugmentConfig, Config};
use super::digit_data::DigitData;
use super::recipe::builder;
use super::task::{Classes, Contents, Model, Subject, Task, Unit};
use crate::dtype::DType;
use crate::error::Result;
use crate::io::digits::{CLASSES, INK, SIDE, TRAINING};
use crate::io::safetensors::Weights;
use crate::nn::models::{LittleNet, LittleNetConfig};
use crate::nn::{Augment, Parameters};
use crate::optim::AdamW;
use std::collections::BTreeMap;

/// What a file of weights says of the size of its model; nothing if it is of no such model.
pub fn sizes_of(weights: &Weights) -> BTreeMap<&'static str, String> {
    let shape = |name: &str| weights.get(name).map(|tensor| &tensor.shape[..]);
    match (shape("conv1.weight"), shape("fc2.weight")) {
        (Some(&[width, 1, ..]), Some(&[CLASSES, _])) => BTreeMap::from([("model.width", width.to_string())]),
        _ => BTreeMap::new(),
    }
}

/// Everything of the task.
pub fn task(config: &Config) -> Result<Task> {
    let batch = config.train.batch;
    let data = DigitData::new(batch);
    let width = config.model.width;
    Ok(Task {
        model: model(config),
        subject: Subject {
            eval_batches: data.test_batches(),
            classes: Some(Classes {
                names: (0..CLASSES).map(|digit| digit.to_string()).collect(),
                look: Look::Ink(INK),
            }),
            parts: config.train.accumulate,
            unit: Unit::Images,
            per_step: batch,
            contents: Contents::Images {
                name: "handwritten digits of 8 x 8 pixels (UCI)".into(),
                classes: CLASSES,
                training: TRAINING as u64,
                validation: data.test().len() as u64,
            },
            data: Box::new(data),
            model: format!("convolutions of {width} and {} channels", 2 * width),
            fingerprint: None,
            sizes: BTreeMap::new(),
        },
    })
}

/// The model and how it is trained.
pub fn model(config: &Config) -> Model {
    let (batch, width, dropout) = (config.train.micro_batch(), config.model.width, config.model.dropout);
    let mut parameters = Parameters::new();
    let size = LittleNetConfig { channels: 1, side: SIDE, width, classes: CLASSES, dropout };
    let net = LittleNet::new(&mut parameters, size);
    let augment = augment(&config.augment);
    Model {
        trainer: builder(config, parameters, AdamW::new()),
        loss: Box::new(move |graph| {
            let images = graph.input(IMAGES, [batch, 1, SIDE, SIDE], DType::U8);
            let logits = net.forward(augment.forward(images, f64::from(INK)));
            classify::loss(logits, graph.input(LABELS, [batch], DType::I32))
        }),
    }
}

/// How images are changed while training.
pub fn augment(config: &AugmentConfig) -> Augment {
    let &AugmentConfig { shift, rotate, scale, flip, brightness, contrast, saturation } = config;
    Augment { shift, rotate, scale, flip, brightness, contrast, saturation }
}
