//! The standard workloads, step by step: for benchmarks in the page, and for the test against the golden losses.

use super::{Engine, fail};
use crate::error::Result as LibraryResult;
use crate::gpu::Session;
use crate::train::workloads::{self, Setup};
use crate::train::{Batch, CHAIN, Precision, SAME_BATCH, Trainer, product_session};
use wasm_bindgen::prelude::*;

/// A standard workload (`W1-512` and other sizes, `W2`, `W3` or `W4`), compiled and ready to run.
#[wasm_bindgen]
pub struct Workload {
    kind: Kind,
}

enum Kind {
    /// Of matrices; the first program is a chain of them.
    Products(Box<Session>),
    Training {
        trainer: Box<Trainer>,
        /// Uploaded by the first step.
        batch: Option<Batch>,
        parameters: usize,
    },
}

#[wasm_bindgen]
impl Workload {
    /// Traces, compiles and allocates.
    #[wasm_bindgen(constructor)]
    pub fn new(engine: &Engine, name: &str, seed: u32) -> Result<Workload, JsError> {
        let workload = workloads::Workload::parse(name).map_err(|message| JsError::new(&message))?;
        if let workloads::Workload::W1(size) = workload {
            let (session, ..) = product_session(size, seed, Precision::F32, &engine.device).map_err(fail)?;
            return Ok(Workload { kind: Kind::Products(Box::new(session)) });
        }
        let Setup { trainer, loss, batch, parameters, .. } = workloads::setup(workload, seed).map_err(fail)?;
        let trainer = Box::new(trainer.build(&engine.device, loss).map_err(fail)?);
        Ok(Workload { kind: Kind::Training { trainer, batch: Some(batch), parameters } })
    }

    /// One step; its loss, in nats, before the update. Of W1: some products one after the other, and one of their numbers.
    pub async fn step(&mut self) -> Result<f32, JsError> {
        self.kind.step().await.map_err(fail)
    }

    /// Products in a step of W1; 1 of the others.
    #[wasm_bindgen(getter)]
    pub fn parts(&self) -> usize {
        if let Kind::Products(_) = self.kind { CHAIN } else { 1 }
    }

    /// Numbers in all parameters; none of W1.
    #[wasm_bindgen(getter)]
    pub fn parameters(&self) -> usize {
        if let Kind::Training { parameters, .. } = self.kind { parameters } else { 0 }
    }

    /// Kernel launches of a step.
    #[wasm_bindgen(getter)]
    pub fn dispatches(&self) -> usize {
        match &self.kind {
            Kind::Products(session) => session.program(0).dispatches(),
            Kind::Training { trainer, .. } => trainer.dispatches(),
        }
    }

    /// Bytes on the device: the exact peak, known before the first step.
    #[wasm_bindgen(getter, js_name = memoryBytes)]
    pub fn memory_bytes(&self) -> f64 {
        let memory = match &self.kind {
            Kind::Products(session) => session.memory(),
            Kind::Training { trainer, .. } => trainer.memory(),
        };
        memory.total() as f64
    }
}

impl Kind {
    async fn step(&mut self) -> LibraryResult<f32> {
        match self {
            Kind::Products(session) => {
                let ticket = session.run(&[0])?;
                Ok(session.fetch_async(ticket).await?.f32("corner")?.first().copied().unwrap_or(f32::NAN))
            }
            Kind::Training { trainer, batch, .. } => {
                let pending = match batch.take() {
                    Some(batch) => trainer.submit(&batch),
                    None => trainer.submit(SAME_BATCH),
                };
                Ok(trainer.wait_async(pending?).await?.loss)
            }
        }
    }
}
