//! The precision of a training step.

use crate::dtype::DType;
use crate::graph::Graph;
use crate::passes;
use serde::{Deserialize, Serialize};

/// In what type products, convolutions and attention read their operands, and activations wait for their gradients. What
/// is added up, norms, losses, weights and the optimizer are f32 always; see [`passes::mixed_precision`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    F32,
    /// 11 bits of precision from 6e-8 to 65504: gradients want loss scaling, which is on unless it is turned off.
    F16,
    /// 8 bits of precision in the range of f32.
    BF16,
}

impl Precision {
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::F16, Precision::BF16];

    /// The name in configurations and on the command line.
    pub fn name(self) -> &'static str {
        self.dtype().name()
    }

    /// By name.
    pub fn parse(name: &str) -> std::result::Result<Precision, String> {
        let found = Precision::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| "the precisions are f32, f16 and bf16".into())
    }

    /// The type of what is rounded.
    pub fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::BF16 => DType::BF16,
        }
    }

    /// A step, or an evaluation, in this precision.
    pub(super) fn apply(self, graph: Graph) -> Graph {
        match self {
            Precision::F32 => graph,
            Precision::F16 | Precision::BF16 => passes::mixed_precision(&graph, self.dtype()),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
