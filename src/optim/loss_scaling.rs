//! Dynamic loss scaling, as `torch.amp.GradScaler`: the loss is multiplied before it is differentiated, so that small
//! gradients survive in half precision; a step whose gradients overflow is left out, and the scale goes down.
//!
//! Written as tensors, so that no value has to come back to the host before a step is decided. Knows no programs;
//! `train/scaler.rs` keeps the state.

use crate::graph::Tensor;

/// How the scale changes. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScaling {
    /// The first scale, a power of two so that it costs no precision.
    pub init_scale: f64,
    /// What the scale is multiplied by after `growth_interval` good steps in a row.
    pub growth_factor: f64,
    /// What the scale is multiplied by after a step that overflowed; it never falls below 1.
    pub backoff_factor: f64,
    pub growth_interval: i32,
}

impl Default for LossScaling {
    fn default() -> LossScaling {
        LossScaling { init_scale: 65_536.0, growth_factor: 2.0, backoff_factor: 0.5, growth_interval: 2000 }
    }
}

/// What is remembered from step to step, all scalars.
#[derive(Debug, Clone, Copy)]
pub struct ScalerState<'g> {
    /// What the next loss is multiplied by, f32.
    pub scale: Tensor<'g>,
    /// Good steps since the scale changed, i32.
    pub streak: Tensor<'g>,
    /// All good steps: the count of the optimizer's rule, i32.
    pub good: Tensor<'g>,
    /// All steps left out, i32.
    pub skipped: Tensor<'g>,
    /// Those left out since the last good one, i32.
    pub skipped_in_row: Tensor<'g>,
}

impl LossScaling {
    /// The state after a step that was good or not (a bool scalar).
    #[track_caller]
    pub fn update<'g>(&self, old: ScalerState<'g>, ok: Tensor<'g>) -> ScalerState<'g> {
        let streak = old.streak + 1;
        // A scale that would become infinite stays.
        let room = old.scale.le(f64::from(f32::MAX) / self.growth_factor.max(1.0));
        let full = streak.eq(self.growth_interval);
        let grown = full.logical_and(room).select(old.scale * self.growth_factor, old.scale);
        let less = (old.scale * self.backoff_factor).maximum(1.0);
        ScalerState {
            scale: ok.select(grown, less),
            streak: ok.logical_and(full.logical_not()).select(streak, 0),
            good: ok.select(old.good + 1, old.good),
            skipped: ok.select(old.skipped, old.skipped + 1),
            skipped_in_row: ok.select(0, old.skipped_in_row + 1),
        }
    }
}
