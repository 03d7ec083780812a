//! The task `images`: a convolutional network learns to tell apart what the subfolders of a folder hold.
//!
//! Knows no run directory and no loop; see `run.rs`. Files are read by `image_data.rs`.

use super::classify::{self, IMAGES, LABELS};
use super::config::{Config, ModelKind};
use super::confusion::Look;
use super::digits::augment;
use super::image_data::ImageData;
use super::recipe::builder;
use super::task::{Classes, Contents, Model, Subject, Task, Unit};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::Tensor;
use crate::io::images::{CHANNELS, ImageFolder};
use crate::nn::Parameters;
use crate::nn::models::{ConvNet, ConvNetConfig, Resnet, ResnetConfig};
use crate::optim::AdamW;
use std::collections::BTreeMap;
use std::path::Path;

/// Mean and deviation of red, green and blue over ImageNet, to which everyone normalises.
const MEAN: [f64; CHANNELS] = [0.485, 0.456, 0.406];
const DEVIATION: [f64; CHANNELS] = [0.229, 0.224, 0.225];

/// Images of at most this many pixels along a side are too small for a residual network's usual entrance, which keeps
/// a sixteenth of the pixels.
const SMALL: usize = 64;

/// Everything of the task.
pub fn task(config: &Config) -> Result<Task> {
    let path = config.data.path.as_deref().unwrap_or(".");
    let folder = ImageFolder::open(Path::new(path), config.data.validation)?;
    let names = folder.classes.clone();
    let contents = Contents::Images {
        name: path.to_string(),
        classes: names.len(),
        training: folder.training.len() as u64,
        validation: folder.validation.len() as u64,
    };
    if folder.validation.is_empty() {
        let message = "no image is held out: every class has only one; at least one class needs two".into();
        return Err(Error::file_refused(path.into(), message));
    }
    let (batch, side) = (config.train.batch, config.data.image_size);
    let fingerprint = folder.fingerprint();
    let data = ImageData::new(folder, side, batch, config.data.workers);
    Ok(Task {
        model: model(config, names.len()),
        subject: Subject {
            eval_batches: data.validation_batches(),
            classes: Some(Classes { names, look: Look::Colour }),
            parts: config.train.accumulate,
            unit: Unit::Images,
            per_step: batch,
            contents,
            data: Box::new(data),
            model: format!("{} of width {}, images of {side} x {side} pixels", config.model.kind, config.model.width),
            fingerprint: Some(fingerprint),
            sizes: BTreeMap::new(),
        },
    })
}

/// The model for so many classes, and how it is trained.
pub fn model(config: &Config, classes: usize) -> Model {
    let (batch, side) = (config.train.micro_batch(), config.data.image_size);
    let mut parameters = Parameters::new();
    let net = Net::new(&mut parameters, config, classes);
    let augment = augment(&config.augment);
    Model {
        trainer: builder(config, parameters, AdamW::new()),
        loss: Box::new(move |graph| {
            let images = graph.input(IMAGES, [batch, CHANNELS, side, side], DType::U8);
            let logits = net.forward(normalised(augment.forward(images, 255.0)));
            classify::loss(logits, graph.input(LABELS, [batch], DType::I32))
        }),
    }
}

/// The models to choose from.
enum Net {
    Conv(ConvNet),
    Residual(Box<Resnet>),
}

impl Net {
    fn new(parameters: &mut Parameters, config: &Config, classes: usize) -> Net {
        let (width, dropout) = (config.model.width, config.model.dropout);
        let published = match config.model.kind {
            ModelKind::ConvNet => {
                let size = ConvNetConfig { channels: CHANNELS, width, classes, dropout };
                return Net::Conv(ConvNet::new(parameters, size));
            }
            ModelKind::Resnet18 => ResnetConfig::resnet18(),
            ModelKind::Resnet34 => ResnetConfig::resnet34(),
            ModelKind::Resnet50 => ResnetConfig::resnet50(),
        };
        let small_images = config.data.image_size <= SMALL;
        Net::Residual(Box::new(Resnet::new(parameters, ResnetConfig { width, classes, small_images, ..published })))
    }

    fn forward<'g>(&self, images: Tensor<'g>) -> Tensor<'g> {
        match self {
            Net::Conv(net) => net.forward(images),
            Net::Residual(net) => net.forward(images),
        }
    }
}

/// Images `[samples, 3, ..]` in 0..=1, each channel with mean 0 and deviation 1 over many images.
fn normalised(images: Tensor<'_>) -> Tensor<'_> {
    let graph = images.graph();
    // Three numbers as a tensor: chosen by the channel's index.
    let channel = graph.iota([1, CHANNELS, 1, 1], 1);
    let by_channel = |values: [f64; CHANNELS]| {
        let [red, green, blue] = values.map(|value| graph.float(value));
        channel.eq(0).select(red, channel.eq(1).select(green, blue))
    };
    (images - by_channel(MEAN)) * by_channel(DEVIATION.map(|deviation| 1.0 / deviation))
}
