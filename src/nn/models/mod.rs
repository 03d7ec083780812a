//! Whole models, each short enough to be read as its definition.

mod bert;
mod cnn;
mod conv_norm;
mod convnet;
mod gpt;
mod lenet;
mod llama;
mod lstm_lm;
mod mlp;
mod mobilenet;
mod resnet;
mod shufflenet;
mod unet;
mod vit;

pub use bert::{Bert, BertConfig, BertInput, BertPretraining};
pub use cnn::{Cnn, CnnConfig};
pub use convnet::{ConvNet, ConvNetConfig, LittleNet, LittleNetConfig};
pub use gpt::{Gpt, GptConfig, Step};
pub use lenet::{Lenet, LenetConfig};
pub use llama::{Llama, LlamaConfig};
pub use lstm_lm::{LstmLm, LstmLmConfig};
pub use mlp::Mlp;
pub use mobilenet::{MobilenetConfig, MobilenetV2};
pub use resnet::{Resnet, ResnetConfig};
pub use shufflenet::{Shufflenet, ShufflenetConfig};
pub use unet::{Unet, UnetConfig};
pub use vit::{Vit, VitConfig};
