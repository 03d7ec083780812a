//! The byte-level GPT of `wgrad train`: a configuration becomes a model, its data, and how it is
//! trained.
//!
//! Knows no run directory and no loop; see `run.rs`.

use super::config::{Config, Schedule as ScheduleKind};
use super::data::{TARGETS, TOKENS, TextData};
use super::trainer::{Trainer, TrainerBuilder};
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Graph, Tensor};
use crate::io::text::{Corpus, EMBEDDED, TextSource, VOCABULARY};
use crate::nn::Parameters;
use crate::nn::models::{Gpt, GptConfig};
use crate::optim::{AdamW, Schedule};

/// The size of the model.
pub fn gpt_config(config: &Config) -> GptConfig {
    let model = &config.model;
    GptConfig {
        vocabulary: VOCABULARY,
        context: model.context,
        layers: model.layers,
        heads: model.heads,
        width: model.width,
        dropout: model.dropout,
        tied: false,
    }
}

/// The model and how it is trained: AdamW with betas 0.9 and 0.99, no decay on gains and biases.
pub fn trainer(config: &Config) -> (TrainerBuilder, Gpt) {
    let mut parameters = Parameters::new();
    let gpt = Gpt::new(&mut parameters, gpt_config(config));
    parameters.group_by("no_decay", |_, shape| shape.rank() < 2).weight_decay(0.0);
    let train = &config.train;
    let optimizer = AdamW::new().betas(0.9, 0.99).weight_decay(train.weight_decay);
    let builder = Trainer::builder(parameters).optimizer(optimizer).lr(schedule(config)).seed(train.seed);
    (if train.clip > 0.0 { builder.clip(train.clip) } else { builder }, gpt)
}

/// Mean cross-entropy of the next byte, in nats.
pub fn loss<'g>(gpt: &Gpt, batch: usize, graph: &'g Graph) -> Tensor<'g> {
    let input = |name| graph.input(name, [batch, gpt.config.context], DType::I32);
    gpt.forward(input(TOKENS)).cross_entropy(input(TARGETS))
}

/// The text, cut into a training and a validation part.
pub fn data(config: &Config) -> Result<TextData> {
    let source = match &config.data.path {
        Some(path) => TextSource::open(path)?,
        None => TextSource::Embedded(EMBEDDED),
    };
    let context = config.model.context;
    let corpus = Corpus::new(source, context, config.data.validation)?;
    Ok(TextData::new(corpus, config.train.batch, context))
}

fn schedule(config: &Config) -> Schedule {
    let train = &config.train;
    match train.schedule {
        ScheduleKind::Cosine => Schedule::cosine(train.lr, train.warmup, train.steps),
        ScheduleKind::Constant => Schedule::Constant { lr: train.lr, warmup: train.warmup },
        ScheduleKind::OneCycle => Schedule::one_cycle(train.lr, train.steps),
    }
}
