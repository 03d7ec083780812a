//! The standard workloads, step by step: for benchmarks in the page, and for the test against the golden losses.

use super::{Engine, fail};
use crate::train::workloads::{self, Setup};
use crate::train::{Batch, SAME_BATCH, Trainer};
use wasm_bindgen::prelude::*;

/// A standard training workload (`W2`, `W3` or `W4`), compiled and ready to run.
#[wasm_bindgen]
pub struct Workload {
    trainer: Trainer,
    /// Uploaded by the first step.
    batch: Option<Batch>,
    parameters: usize,
}

#[wasm_bindgen]
impl Workload {
    /// Traces, compiles and allocates.
    #[wasm_bindgen(constructor)]
    pub fn new(engine: &Engine, name: &str, seed: u32) -> Result<Workload, JsError> {
        let workload = workloads::Workload::parse(name).map_err(|message| JsError::new(&message))?;
        let Setup { trainer, loss, batch, parameters, .. } = workloads::setup(workload, seed).map_err(fail)?;
        let trainer = trainer.build(&engine.device, loss).map_err(fail)?;
        Ok(Workload { trainer, batch: Some(batch), parameters })
    }

    /// One step; its loss, in nats, before the update.
    pub async fn step(&mut self) -> Result<f32, JsError> {
        let pending = match self.batch.take() {
            Some(batch) => self.trainer.submit(&batch),
            None => self.trainer.submit(SAME_BATCH),
        };
        Ok(self.trainer.wait_async(pending.map_err(fail)?).await.map_err(fail)?.loss)
    }

    /// Numbers in all parameters.
    #[wasm_bindgen(getter)]
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// Kernel launches of a step.
    #[wasm_bindgen(getter)]
    pub fn dispatches(&self) -> usize {
        self.trainer.dispatches()
    }

    /// Bytes on the device: the exact peak, known before the first step.
    #[wasm_bindgen(getter, js_name = memoryBytes)]
    pub fn memory_bytes(&self) -> f64 {
        self.trainer.memory().total() as f64
    }
}
