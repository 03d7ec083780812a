//! How people write a computation: methods on the handle that only push nodes.
//!
//! Nothing here computes, and nothing here knows about kernels. Axes may be given as negative
//! numbers, counted from the end. Read next: `expand.rs`, what each macro-op means.

mod activation;
mod arithmetic;
mod construct;
mod conv;
mod ctc;
mod drop;
mod einsum;
pub mod expand;
mod expand_windows;
mod attention;
mod cumulative;
mod functional;
mod layout;
mod loss;
mod matrix;
mod indexing;
mod movement;
mod norm;
mod padding;
mod pool;
mod recurrent;
mod reduction;
mod resize;
mod statistics;
mod scan;
mod rotary;
mod sorting;

pub use crate::graph::{Operand, Tensor};
pub use attention::{AttentionOptions, AttentionWindow, alibi_slopes, segment_ids, segment_positions};
pub use conv::ConvOptions;
pub use ctc::{CtcOptions, CtcReduction};
pub use drop::DropPathMode;
pub use einsum::einsum;
pub use functional::RNG_KEY;
pub use layout::{meshgrid, stack};
pub use loss::{BceOptions, CrossEntropyOptions, Reduction, TripletOptions};
pub use movement::concat;
pub use norm::BatchNormed;
pub use padding::Padding;
pub use pool::{AvgOptions, PoolOptions};
pub use recurrent::{CellKind, RecurrentOptions, RecurrentWeights, recurrent, recurrent_cell, recurrent_layer};
pub use resize::{Interpolation, Kernel, Positions, Resize, Rounding, ratio};
pub use rotary::{Rotary, RotaryScaling};
pub(crate) use scan::push as push_scan;
pub use scan::{ScanOptions, scan};
