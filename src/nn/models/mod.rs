//! Whole models, each short enough to be read as its definition.

mod bert;
mod cnn;
mod gpt;
mod llama;
mod mlp;
mod vit;

pub use bert::{Bert, BertConfig, BertInput, BertPretraining};
pub use cnn::{Cnn, CnnConfig};
pub use gpt::{Gpt, GptConfig, Step};
pub use llama::{Llama, LlamaConfig};
pub use mlp::Mlp;
pub use vit::{Vit, VitConfig};
