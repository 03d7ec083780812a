//! A trained model applied to batches: the evaluation's program with its weights, and nothing to train.
//!
//! Knows no files and no data; the loss function says what comes out.

use super::step::{LossFn, trace_eval, weight_specs};
use super::trainer::load_states;
use crate::error::Result;
use crate::gpu::{Device, Results, Session};
use crate::io::HostTensor;
use crate::io::safetensors::Weights;
use crate::lower::lower;
use crate::nn::Parameters;
use crate::program::StateLayout;
use std::borrow::Borrow;

/// The only program.
const EVAL: usize = 0;

/// A model on a device, ready to be applied.
pub struct Evaluator {
    session: Session,
}

impl Evaluator {
    /// Puts weights, as [`super::Trainer::weights`] gives them, on a device.
    pub fn new(device: &Device, parameters: &Parameters, loss: &LossFn<'_>, weights: &Weights) -> Result<Evaluator> {
        parameters.check()?;
        let profile = device.profile();
        let layout = StateLayout::build(&weight_specs(parameters), profile.max_binding_bytes)?;
        let program = lower("eval", &trace_eval(loss)?, &layout, profile)?;
        let mut session = Session::new(device, layout, vec![program])?;
        load_states(&mut session, weights, parameters.specs().iter().map(|spec| &*spec.name))?;
        Ok(Evaluator { session })
    }

    /// Everything that the loss function outputs for a batch.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn outputs<T: Borrow<HostTensor>>(&mut self, batch: &[(&str, T)]) -> Result<Results> {
        pollster::block_on(self.outputs_async(batch))
    }

    /// Everything that the loss function outputs for a batch, on every target.
    pub async fn outputs_async<T: Borrow<HostTensor>>(&mut self, batch: &[(&str, T)]) -> Result<Results> {
        for (name, tensor) in batch {
            self.session.write_input(EVAL, name, &tensor.borrow().bytes)?;
        }
        let ticket = self.session.run(&[EVAL])?;
        self.session.fetch_async(ticket).await
    }
}
