//! What every pass must leave true: operands come before their users and the recorded types are
//! those that inference gives.

use super::{Graph, Op, TensorType, infer};
use crate::error::{Error, Result};

impl Graph {
    /// Checks the invariants of the arena. Passes are verified in debug builds and in the tests.
    pub fn verify(&self) -> Result<()> {
        self.error()?;
        let nodes = self.nodes();
        for (index, node) in nodes.iter().enumerate() {
            let broken = |message: String| Error::compile(format!("%{index} = {}", node.op.name()), message);
            if let Some(input) = node.inputs.iter().find(|input| input.node as usize >= index) {
                return Err(broken(format!("uses %{}, which comes later", input.node)));
            }
            let types: Vec<TensorType> = node.inputs.iter().map(|&input| self.type_of(input)).collect();
            let leaf = |_: &str| match node.op {
                Op::Input(_) | Op::State(_) => node.outputs.first().cloned(),
                _ => None,
            };
            let inferred = infer::infer(&node.op, &types, leaf).map_err(broken)?;
            if inferred != node.outputs {
                return Err(Error::compile(
                    format!("%{index} = {}", node.op.name()),
                    format!("records {:?} where inference gives {inferred:?}", node.outputs),
                ));
            }
        }
        Ok(())
    }
}
