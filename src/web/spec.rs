//! What a page asks for, as an object: a model, its loss, and how it is trained.
//!
//! Training has the keys of a run's `config.toml`, with the defaults of its task; models of layers have the defaults of
//! the task `digits`, but for the learning rate and the changes to images. Knows no data and no device.

use super::layers::layers;
use super::object::Fields;
use super::rules;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{Graph, Tensor};
use crate::io::digits::{CLASSES, SIDE};
use crate::nn::models::GptConfig;
use crate::nn::{Augment, Parameters, Sequential};
use crate::optim::AdamW;
use crate::shape::Shape;
use crate::tensor::Reduction;
use crate::train::char_gpt::{self, gpt_config};
use crate::train::classify::{self, IMAGES, LABELS};
use crate::train::config::{AugmentConfig, Config, Recompute, TaskKind, TrainConfig};
use crate::train::digits;
use crate::train::recipe::builder;
use crate::train::task::Loss;
use crate::train::{Precision, TrainerBuilder};
use wasm_bindgen::JsValue;

/// The output of the evaluation of a model that is trained on numbers: `[batch, ..]`.
pub const PREDICTION: &str = "prediction";

#[derive(Clone, Copy)]
enum LossKind {
    /// Of classes: labels are integers.
    CrossEntropy,
    /// Of numbers: the mean of the squared differences.
    Mse,
}

/// What a row of an input looks like.
pub struct Rows {
    pub name: &'static str,
    pub dtype: DType,
    pub row: Shape,
}

/// What is learned.
pub enum Goal {
    /// To tell so many classes apart.
    Classes(usize),
    /// So many numbers for each sample.
    Values(usize),
    /// To continue a text.
    Text(GptConfig),
}

/// A model ready to be compiled.
pub struct Ready {
    pub trainer: TrainerBuilder,
    pub loss: Loss,
    pub goal: Goal,
    /// Inputs and what is to be learned of them; of a text there are none.
    pub rows: Option<[Rows; 2]>,
    pub config: Config,
}

/// Reads the object.
pub fn read(asked: &JsValue) -> Result<Ready> {
    let fields = Fields::of(asked, "the model")?;
    let task = match fields.word("task")?.as_deref() {
        Some("text") => Some(TaskKind::Text),
        Some("digits") => Some(TaskKind::Digits),
        None => None,
        Some(other) => return Err(Error::config(format!("the tasks are `text` and `digits`, got `{other}`"))),
    };
    let mut config = Config::for_task(task.unwrap_or(TaskKind::Digits));
    if task.is_none() {
        config.augment = AugmentConfig::default();
        config.train = TrainConfig { lr: 1e-3, ..config.train };
    }
    if let Some(keys) = fields.get("config") {
        configure(&mut config, &keys)?;
    }
    config.train.warmup = config.train.warmup.min(config.train.steps / 10);
    config.check()?;
    let ready = match (task, fields.get("model")) {
        (None, Some(model)) => of_layers(config, &model),
        (Some(TaskKind::Text), None) => of_text(config),
        (Some(TaskKind::Digits), None) => of_digits(config),
        _ => Err(Error::config("a model is of the task `digits` or `text`, or has layers".into())),
    }?;
    fields.end()?;
    Ok(ready)
}

/// Replaces defaults.
fn configure(config: &mut Config, keys: &JsValue) -> Result<()> {
    let fields = Fields::of(keys, "the configuration")?;
    let Config { model, augment, train, .. } = config;
    let mut sizes = [
        ("layers", &mut model.layers),
        ("heads", &mut model.heads),
        ("width", &mut model.width),
        ("context", &mut model.context),
        ("batch", &mut train.batch),
        ("accumulate", &mut train.accumulate),
    ];
    for (key, place) in &mut sizes {
        **place = fields.size(key)?.unwrap_or(**place);
    }
    for (key, place) in [("steps", &mut train.steps), ("warmup", &mut train.warmup), ("seed", &mut train.seed)] {
        *place = fields.size(key)?.map_or(*place, |n| n as u64);
    }
    let mut numbers = [
        ("dropout", &mut model.dropout),
        ("lr", &mut train.lr),
        ("weightDecay", &mut train.weight_decay),
        ("clip", &mut train.clip),
        ("ema", &mut train.ema),
        ("shift", &mut augment.shift),
        ("rotate", &mut augment.rotate),
        ("scale", &mut augment.scale),
        ("flip", &mut augment.flip),
    ];
    for (key, place) in &mut numbers {
        **place = fields.number(key)?.unwrap_or(**place);
    }
    if let Some(name) = fields.word("precision")? {
        train.precision = Precision::parse(&name).map_err(Error::config)?;
    }
    if fields.flag("recompute")? == Some(true) {
        train.recompute = Recompute::Auto;
    }
    train.ema_warmup = fields.flag("emaWarmup")?.unwrap_or(train.ema_warmup);
    let given = |key| fields.get(key).is_some();
    rules::read(config, &fields, given("lr"), given("weightDecay"))?;
    fields.end()
}

fn of_digits(config: Config) -> Result<Ready> {
    let model = digits::model(&config);
    let rows = [
        Rows { name: IMAGES, dtype: DType::U8, row: [1, SIDE, SIDE].into() },
        Rows { name: LABELS, dtype: DType::I32, row: Shape::scalar() },
    ];
    Ok(Ready { trainer: model.trainer, loss: model.loss, goal: Goal::Classes(CLASSES), rows: Some(rows), config })
}

fn of_text(config: Config) -> Result<Ready> {
    let (trainer, gpt) = char_gpt::trainer(&config);
    let (batch, goal) = (config.train.micro_batch(), Goal::Text(gpt_config(&config)));
    Ok(Ready { trainer, loss: Box::new(move |graph| char_gpt::loss(&gpt, batch, graph)), goal, rows: None, config })
}

fn of_layers(config: Config, model: &JsValue) -> Result<Ready> {
    let fields = Fields::of(model, "the model")?;
    let input = fields.wanted("input", fields.sizes("input")?)?;
    let dtype = match fields.word("dtype")?.as_deref() {
        Some("uint8") => DType::U8,
        Some("int32") => DType::I32,
        Some("float32") | None => DType::F32,
        Some(other) => {
            return Err(Error::config(format!("inputs are `float32`, `uint8` or `int32`, got `{other}`")));
        }
    };
    let white = fields.number("white")?.unwrap_or(if dtype == DType::U8 { 255.0 } else { 1.0 });
    let loss = match fields.word("loss")?.as_deref() {
        Some("crossEntropy") | None => LossKind::CrossEntropy,
        Some("mse") => LossKind::Mse,
        Some(other) => return Err(Error::config(format!("the losses are `crossEntropy` and `mse`, got `{other}`"))),
    };
    let layers = layers(&fields.wanted("layers", fields.get("layers"))?)?;
    fields.end()?;
    if input.is_empty() || input.len() > 3 || white.is_nan() || white <= 0.0 {
        return Err(Error::config("a sample has one to three axes, and `white` is a number above 0".into()));
    }
    let sample = Shape::from(input);
    let traced = if dtype == DType::I32 { DType::I32 } else { DType::F32 };
    let mut parameters = Parameters::new();
    let model = Sequential::new(&mut parameters, &layers, &sample, traced)?;
    let &[outputs] = &model.output()[..] else {
        let message = format!("the last layer gives {}, not a row of numbers; is a `flatten` missing?", model.output());
        return Err(Error::config(message));
    };
    let (goal, target) = match loss {
        LossKind::CrossEntropy => (Goal::Classes(outputs), (DType::I32, Shape::scalar())),
        LossKind::Mse => (Goal::Values(outputs), (DType::F32, Shape::from([outputs]))),
    };
    let rows = [
        Rows { name: IMAGES, dtype, row: sample.clone() },
        Rows { name: LABELS, dtype: target.0, row: target.1.clone() },
    ];
    let trainer = builder(&config, parameters, AdamW::new());
    let augment = digits::augment(&config.augment);
    let batch = config.train.micro_batch();
    let with_batch = move |row: &Shape| -> Shape { std::iter::once(batch).chain(row.iter().copied()).collect() };
    let loss: Loss = Box::new(move |graph| {
        let x = graph.input(IMAGES, with_batch(&sample), dtype);
        let x = if dtype == DType::I32 { x } else { scaled(x, &augment, white) };
        let target = graph.input(LABELS, with_batch(&target.1), target.0);
        measured(graph, model.forward(x), target, loss)
    });
    Ok(Ready { trainer, loss, goal, rows: Some(rows), config })
}

fn scaled<'g>(x: Tensor<'g>, augment: &Augment, white: f64) -> Tensor<'g> {
    if x.shape().rank() == 4 { augment.forward(x, white) } else { x.cast(DType::F32) * (1.0 / white) }
}

fn measured<'g>(graph: &'g Graph, output: Tensor<'g>, target: Tensor<'g>, loss: LossKind) -> Tensor<'g> {
    match loss {
        LossKind::CrossEntropy => classify::loss(output, target),
        LossKind::Mse => {
            if !graph.is_training() {
                graph.output(PREDICTION, output);
            }
            output.mse_loss(target, Reduction::Mean)
        }
    }
}
