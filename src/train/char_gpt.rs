//! The task `text`: a byte-level GPT learns to continue a text.
//!
//! A configuration becomes a model, its data, and how it is trained. Knows no run directory and no loop; see `run.rs`.

use super::config::{Config, ModelConfig};
use super::data::{DataSource, TARGETS, TOKENS, TextData};
use super::recipe::builder;
use super::task::{Contents, Model, Subject, Task, Unit};
use super::trainer::TrainerBuilder;
use crate::dtype::DType;
#[cfg(target_arch = "wasm32")]
use crate::error::Error;
use crate::error::Result;
use crate::graph::{Graph, Tensor};
use crate::io::safetensors::Weights;
use crate::io::text::{Corpus, EMBEDDED, TextSource, VOCABULARY};
use crate::nn::Parameters;
use crate::nn::models::{Gpt, GptConfig};
use crate::optim::AdamW;
use std::collections::BTreeMap;

/// The keys that say how large the model is.
pub const SIZES: [&str; 4] = ["model.layers", "model.heads", "model.width", "model.context"];

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

/// What weights' metadata says of the model, by the keys of the configuration.
pub fn sizes(config: &Config) -> BTreeMap<String, String> {
    let ModelConfig { layers, heads, width, context, .. } = config.model;
    let mut sizes = BTreeMap::new();
    for (key, size) in SIZES.into_iter().zip([layers, heads, width, context]) {
        sizes.insert(key.to_string(), size.to_string());
    }
    sizes
}

/// What a file of weights says of the size of its model: by its metadata, or else by the shapes of its tensors, of which
/// the number of heads cannot be seen. Nothing if it is of no such model.
pub fn sizes_of(weights: &Weights) -> BTreeMap<&'static str, String> {
    let shape = |name: &str| weights.get(name).map(|tensor| &tensor.shape[..]);
    let (Some(&[VOCABULARY, width]), Some(&[context, _])) = (shape("wte.weight"), shape("wpe.weight")) else {
        return BTreeMap::new();
    };
    let layers = (0..).take_while(|index| weights.get(&format!("block.{index}.ln1.weight")).is_some()).count();
    let seen = [Some(layers), None, Some(width), Some(context)].map(|size| size.map(|size| size.to_string()));
    let told = |key: &str| weights.metadata.get(key).cloned();
    SIZES.into_iter().zip(seen).filter_map(|(key, seen)| Some((key, told(key).or(seen)?))).collect()
}

/// Everything of the task.
pub fn task(config: &Config) -> Result<Task> {
    let data = data(config)?;
    let (trainer, gpt) = trainer(config);
    let length = |part: std::ops::Range<u64>| part.end - part.start;
    let corpus = data.corpus();
    let contents = Contents::Text {
        name: corpus.source().name(),
        training: length(corpus.training()),
        validation: length(corpus.validation()),
    };
    let (batch, model) = (config.train.micro_batch(), &config.model);
    Ok(Task {
        model: Model { trainer, loss: Box::new(move |graph| loss(&gpt, batch, graph)) },
        subject: Subject {
            parts: config.train.accumulate,
            unit: Unit::Tokens,
            per_step: data.tokens_per_batch(),
            data: Box::new(data),
            eval_batches: config.train.eval_batches,
            classes: None,
            contents,
            model: format!("{} layers of width {}, context {}", model.layers, model.width, model.context),
            fingerprint: None,
            sizes: sizes(config),
        },
    })
}

/// The model and how it is trained: AdamW with betas 0.9 and 0.99, no decay on gains and biases.
pub fn trainer(config: &Config) -> (TrainerBuilder, Gpt) {
    let mut parameters = Parameters::new();
    let gpt = Gpt::new(&mut parameters, gpt_config(config));
    (builder(config, parameters, AdamW::new().betas(0.9, 0.99)), gpt)
}

/// Mean cross-entropy of the next byte, in nats.
pub fn loss<'g>(gpt: &Gpt, batch: usize, graph: &'g Graph) -> Tensor<'g> {
    let input = |name| graph.input(name, [batch, gpt.config.context], DType::I32);
    gpt.forward(input(TOKENS)).cross_entropy(input(TARGETS))
}

/// The text, cut into a training and a validation part.
pub fn data(config: &Config) -> Result<TextData> {
    let source = match &config.data.path {
        #[cfg(not(target_arch = "wasm32"))]
        Some(path) => TextSource::open(path)?,
        #[cfg(target_arch = "wasm32")]
        Some(path) => return Err(Error::unsupported(format!("{path}: there are no files in a browser"))),
        None => TextSource::Embedded(EMBEDDED),
    };
    let context = config.model.context;
    let corpus = Corpus::new(source, context, config.data.validation)?;
    Ok(TextData::new(corpus, config.train.batch, context))
}
