//! Parameters, layers and models: plain structs whose `forward` writes tensors.
//!
//! A layer registers its parameters when it is built and owns nothing of a graph or a device: the
//! same layer is traced into as many programs as one likes. Read next: `param.rs`, `layers.rs`,
//! then a model.

mod conv;
mod layers;
pub mod models;
mod norm;
mod param;
mod rnn;

pub use crate::tensor::{CellKind, RecurrentOptions};
pub use conv::{Conv, Conv1d, Conv2d, ConvTranspose, ConvTranspose1d, ConvTranspose2d};
pub use layers::{Dropout, Embedding, LayerNorm, Linear, RmsNorm};
pub use norm::{BatchNorm, BatchNormConfig, RunningStatistics};
pub use param::{Buffer, Group, Init, Param, ParameterSpec, Parameters};
pub use rnn::{Gru, Lstm, Recurrence, Recurrent, RecurrentCell, RecurrentConfig, Rnn};
