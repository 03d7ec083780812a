//! Whole models, each short enough to be read as its definition.

mod gpt;
mod mlp;

pub use gpt::{Gpt, GptConfig, Step};
pub use mlp::Mlp;
