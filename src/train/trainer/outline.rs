//! What a step consists of, for people to look at: its launches in order, and what each costs.
//!
//! Knows nothing of how it is drawn.

use super::{Fitted, MICRO, Trainer, UPDATE};
use crate::program::{Dispatch, Program};
use crate::train::Compiled;

/// One launch of a step; see [`Trainer::outline`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The scope and operation that it serves, such as `block.0.attn/matmul`.
    pub label: String,
    pub kernel: String,
    pub flops: u64,
    /// Read and written.
    pub bytes: u64,
    /// Bytes that wait meanwhile for a later part of the step.
    pub activations: u64,
    /// Bytes of values that are made and used at once.
    pub workspace: u64,
}

impl Trainer {
    /// What was done for [`super::TrainerBuilder::memory`].
    pub fn fitted(&self) -> Option<Fitted> {
        self.fitted
    }

    /// What was compiled, for [`super::TrainerBuilder::build_compiled`].
    pub fn compiled(&self) -> Compiled {
        let (layout, programs) = (self.session.layout().clone(), self.session.programs().to_vec());
        Compiled { layout, programs, alive: self.alive.clone(), fitted: self.fitted, kind: self.kind }
    }

    /// What a step launches, in order: scope and operation, kernel, FLOPs and bytes of each dispatch.
    pub fn outline(&self) -> Vec<Outline> {
        let programs = [MICRO, UPDATE].map(|index| self.session.program(index));
        let of_program = |program: &'_ Program| {
            let line = |dispatch: &Dispatch| Outline {
                label: dispatch.label.clone(),
                kernel: program.kernels[dispatch.kernel].name.clone(),
                flops: dispatch.flops,
                bytes: dispatch.bytes_moved,
                activations: 0,
                workspace: 0,
            };
            program.each_dispatch().map(line).collect::<Vec<_>>()
        };
        let mut lines: Vec<Outline> = programs.into_iter().flat_map(of_program).collect();
        for (line, &[activations, workspace]) in lines.iter_mut().zip(&self.alive) {
            (line.activations, line.workspace) = (activations, workspace);
        }
        lines
    }
}
