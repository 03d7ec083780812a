//! Handwritten digits, learned in the page: network and data of the command line tool's task `digits`. How it is trained
//! (rate, decay, changes to the images) is set here, since the tool's configurations are not in this build.

use super::{Engine, fail};
use crate::dtype::DType;
use crate::error::{Error, Result as LibraryResult};
use crate::gpu::Results;
use crate::io::HostTensor;
use crate::io::digits::{CLASSES, INK, SIDE};
use crate::io::safetensors::Weights;
use crate::nn::models::{LittleNet, LittleNetConfig};
use crate::nn::{Augment, Parameters};
use crate::optim::{AdamW, Schedule};
use crate::train::classify::{self, ACCURACY, Confusion, IMAGES, LABELS, LOG_PROBABILITIES};
use crate::train::{Batch, DataSource, DigitData, Trainer};
use wasm_bindgen::prelude::*;

const BATCH: usize = 32;
/// Channels of the first convolution.
const WIDTH: usize = 16;

/// What a step of training says.
#[wasm_bindgen]
pub struct Step {
    /// Counted from 1.
    pub step: f64,
    /// In nats, before the update.
    pub loss: f32,
    /// The fraction of the batch that was read right.
    pub accuracy: f32,
}

/// What the test digits were taken for.
#[wasm_bindgen]
pub struct Test {
    /// Mean, in nats.
    pub loss: f32,
    /// The fraction that was read right.
    pub accuracy: f32,
    confusion: Vec<u32>,
}

#[wasm_bindgen]
impl Test {
    /// How often digit `row` was taken for digit `column`: 100 numbers, row by row.
    #[wasm_bindgen(getter)]
    pub fn confusion(&self) -> Vec<u32> {
        self.confusion.clone()
    }
}

/// A network of two convolutions that learns the 1,437 embedded digits and is tested on 360 others.
#[wasm_bindgen]
pub struct Digits {
    trainer: Trainer,
    data: DigitData,
    seed: u64,
}

#[wasm_bindgen]
impl Digits {
    /// Traces, compiles and allocates; `steps` is how long the learning rate falls.
    #[wasm_bindgen(constructor)]
    pub fn new(engine: &Engine, steps: u32, seed: u32) -> Result<Digits, JsError> {
        Digits::build(engine, steps, seed).map_err(fail)
    }

    /// One step of training on the next batch.
    pub async fn step(&mut self) -> Result<Step, JsError> {
        self.train().await.map_err(fail)
    }

    /// Reads all test digits.
    pub async fn test(&mut self) -> Result<Test, JsError> {
        self.evaluate().await.map_err(fail)
    }

    /// Probabilities of the ten digits for one image: 64 numbers from 0 (paper) to 16 (ink), row by row.
    pub async fn predict(&mut self, pixels: &[u8]) -> Result<Vec<f32>, JsError> {
        self.read(pixels).await.map_err(fail)
    }

    /// The weights as the bytes of a safetensors file, with the names that the command line tool's network has.
    pub async fn weights(&self) -> Result<Vec<u8>, JsError> {
        self.trainer.weights_async().await.and_then(|weights| weights.to_bytes()).map_err(fail)
    }

    /// Takes weights from the bytes of a safetensors file. What does not fit is an error, and changes nothing.
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), JsError> {
        Weights::from_bytes("weights", bytes).and_then(|weights| self.trainer.load(&weights)).map_err(fail)
    }
}

impl Digits {
    fn build(engine: &Engine, steps: u32, seed: u32) -> LibraryResult<Digits> {
        let mut parameters = Parameters::new();
        let size = LittleNetConfig { channels: 1, side: SIDE, width: WIDTH, classes: CLASSES, dropout: 0.1 };
        let net = LittleNet::new(&mut parameters, size);
        parameters.group_by("no_decay", |_, shape| shape.rank() < 2).weight_decay(0.0);
        let augment = Augment { shift: 0.1, rotate: 10.0, scale: 0.1, ..Augment::default() };
        let seed = u64::from(seed);
        let steps = u64::from(steps.max(1));
        let trainer = Trainer::builder(parameters)
            .optimizer(AdamW::new().weight_decay(0.05))
            .lr(Schedule::cosine(3e-3, steps.div_ceil(20), steps))
            .seed(seed)
            .build(&engine.device, |graph| {
                let images = graph.input(IMAGES, [BATCH, 1, SIDE, SIDE], DType::U8);
                let logits = net.forward(augment.forward(images, f64::from(INK)));
                classify::loss(logits, graph.input(LABELS, [BATCH], DType::I32))
            })?;
        Ok(Digits { trainer, data: DigitData::new(BATCH), seed })
    }

    async fn train(&mut self) -> LibraryResult<Step> {
        let batch = self.data.training(self.seed, self.trainer.samples_done())?;
        let pending = self.trainer.submit(&batch)?;
        let report = self.trainer.wait_async(pending).await?;
        let accuracy = report.results.f32(ACCURACY)?.first().copied().unwrap_or(f32::NAN);
        Ok(Step { step: report.step as f64, loss: report.loss, accuracy })
    }

    async fn outputs(&mut self, batch: &Batch) -> LibraryResult<Results> {
        self.trainer.evaluate_outputs_async(batch).await
    }

    async fn evaluate(&mut self) -> LibraryResult<Test> {
        let mut confusion = Confusion::new(CLASSES);
        for index in 0..self.data.test_batches() {
            let batch = self.data.validation(index, self.data.test_batches())?;
            confusion.add(&batch, &self.outputs(&batch).await?)?;
        }
        let cells = (0..CLASSES * CLASSES).map(|i| confusion.count(i / CLASSES, i % CLASSES) as u32).collect();
        Ok(Test { loss: confusion.loss(), accuracy: confusion.accuracy(), confusion: cells })
    }

    async fn read(&mut self, pixels: &[u8]) -> LibraryResult<Vec<f32>> {
        if pixels.len() != SIDE * SIDE || pixels.iter().any(|&pixel| pixel > INK) {
            return Err(Error::Feed(format!("an image has {} pixels from 0 to {INK}", SIDE * SIDE)));
        }
        let mut images = pixels.to_vec();
        images.resize(BATCH * SIDE * SIDE, 0);
        let mut labels = vec![-1; BATCH];
        labels[0] = 0;
        let batch = vec![
            (IMAGES, HostTensor::u8([BATCH, 1, SIDE, SIDE], &images)?),
            (LABELS, HostTensor::i32([BATCH], &labels)?),
        ];
        let scores = self.outputs(&batch).await?.f32(LOG_PROBABILITIES)?;
        Ok(scores.iter().take(CLASSES).map(|score| score.exp()).collect())
    }
}
