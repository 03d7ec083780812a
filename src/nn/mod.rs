//! Parameters, layers and models: plain structs whose `forward` writes tensors.
//!
//! A layer registers its parameters when it is built and owns nothing of a graph or a device: the
//! same layer is traced into as many programs as one likes. Read next: `param.rs`, `layers.rs`,
//! then a model.

mod conv;
mod drop;
pub mod init;
mod attention;
mod augment;
mod layers;
pub mod models;
mod norm;
mod param;
mod resample;
mod rnn;
mod sequential;

pub use crate::tensor::{CellKind, RecurrentOptions};
pub use attention::{AttentionConfig, MultiHeadAttention};
pub use augment::Augment;
pub use conv::{Conv, Conv1d, Conv2d, ConvTranspose, ConvTranspose1d, ConvTranspose2d};
pub use drop::{AlphaDropout, ChannelDropout, DropPath};
pub use init::{Fan, Init, Nonlinearity};
pub use layers::{Dropout, Embedding, LayerNorm, Linear, RmsNorm};
pub use norm::{BatchNorm, BatchNormConfig, GroupNorm, InstanceNorm, RunningStatistics};
pub use param::{Buffer, Group, Param, ParameterSpec, Parameters};
pub use resample::Upsample;
pub use rnn::{Gru, Lstm, Recurrence, Recurrent, RecurrentCell, RecurrentConfig, Rnn};
pub use sequential::{ConvSpec, EmbeddingSpec, Layer, LinearSpec, PoolSpec, Sequential};
