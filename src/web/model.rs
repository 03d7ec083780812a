//! A model in training, as a page sees it: arrays or a text in, numbers out, weights as safetensors.
//!
//! Two calls make a step, `submit` and `wait`, so that a page can keep a second step under way while it waits for the
//! first. Knows no worker and no files.

use super::object::object;
use super::spec::{self, Goal, PREDICTION, Ready, Rows};
use super::{Engine, fail, weights};
use crate::error::{Error, Result as LibraryResult};
use crate::gpu::{Device, Results};
use crate::io::safetensors::Weights;
use crate::io::text::{Corpus, TextSource};
use crate::train::char_gpt::sizes;
use crate::train::classify::{ACCURACY, Confusion, LOG_PROBABILITIES};
use crate::train::config::Config;
use crate::train::{self, ArrayData, Column, Compiled, DataSource, Generator, Outline, Sampling, TextData, Trainer};
use js_sys::Array;
use wasm_bindgen::prelude::*;

/// What a step of training says.
#[wasm_bindgen]
pub struct Step {
    /// Counted from 1.
    pub step: f64,
    /// Before the update: in nats, or the mean square.
    pub loss: f32,
    pub lr: f64,
    /// The fraction of the batch that was classified right; NaN where there are no classes.
    pub accuracy: f32,
    /// Global norm of the gradients before clipping.
    #[wasm_bindgen(js_name = gradNorm)]
    pub grad_norm: f32,
}

/// What a test found.
#[wasm_bindgen]
pub struct Test {
    pub loss: f32,
    /// NaN where there are no classes.
    pub accuracy: f32,
    confusion: Vec<u32>,
}

#[wasm_bindgen]
impl Test {
    /// How often class `row` was taken for class `column`, row by row; nothing where there are no classes.
    #[wasm_bindgen(getter)]
    pub fn confusion(&self) -> Vec<u32> {
        self.confusion.clone()
    }
}

/// A step that was handed to the device.
#[wasm_bindgen]
pub struct Pending {
    inner: train::Pending,
}

/// A model with its optimizer on the device.
#[wasm_bindgen]
pub struct Model {
    trainer: Trainer,
    goal: Goal,
    rows: Option<[Rows; 2]>,
    config: Config,
    data: Option<Box<dyn DataSource>>,
    device: Device,
    generator: Option<Generator>,
    reused: bool,
}

#[wasm_bindgen]
impl Model {
    /// Traces, compiles and allocates what the object describes; `spec.rs` has its keys. With what `compiled` once gave for the same
    /// object and device it only allocates; bytes that are something else are as if they were not there.
    #[wasm_bindgen(constructor)]
    pub fn new(engine: &Engine, asked: &JsValue, compiled: Option<Vec<u8>>) -> Result<Model, JsError> {
        let device = engine.device.clone();
        if let Some(compiled) = compiled.and_then(|bytes| Compiled::from_bytes(&bytes).ok()) {
            let Ready { trainer, goal, rows, config, .. } = spec::read(asked).map_err(fail)?;
            if let Ok(trainer) = trainer.build_compiled(&device, compiled) {
                return Ok(Model { trainer, goal, rows, config, data: None, device, generator: None, reused: true });
            }
        }
        let Ready { trainer, loss, goal, rows, config } = spec::read(asked).map_err(fail)?;
        let trainer = trainer.build(&device, loss).map_err(fail)?;
        Ok(Model { trainer, goal, rows, config, data: None, device, generator: None, reused: false })
    }

    /// Whether it was made of what had been compiled before.
    #[wasm_bindgen(getter)]
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// The compiled programs, for other models of the same object on the same kind of device.
    pub fn compiled(&self) -> Vec<u8> {
        self.trainer.compiled().to_bytes()
    }

    /// What to train on: rows of inputs and of what is to be learned, as little-endian bytes.
    #[wasm_bindgen(js_name = setArrays)]
    pub fn set_arrays(&mut self, inputs: Vec<u8>, targets: Vec<u8>) -> Result<(), JsError> {
        self.data = Some(Box::new(self.arrays(inputs, Some(targets), self.config.train.batch).map_err(fail)?));
        Ok(())
    }

    /// The text to train on; the last `validation` of it (a fraction) is held out.
    #[wasm_bindgen(js_name = setText)]
    pub fn set_text(&mut self, text: Vec<u8>, validation: f64) -> Result<(), JsError> {
        let Goal::Text(gpt) = &self.goal else { return Err(fail(other_data())) };
        let corpus = Corpus::new(TextSource::Memory(text), gpt.context, validation).map_err(fail)?;
        self.data = Some(Box::new(TextData::new(corpus, self.config.train.batch, gpt.context)));
        Ok(())
    }

    /// Hands the next step to the device.
    pub fn submit(&mut self) -> Result<Pending, JsError> {
        let data =
            self.data.as_ref().ok_or_else(|| JsError::new("there is nothing to train on: set arrays or a text"))?;
        let batch = data.training(self.trainer.seed(), self.trainer.samples_done()).map_err(fail)?;
        Ok(Pending { inner: self.trainer.submit(&batch).map_err(fail)? })
    }

    /// Waits for a step. Steps must be waited for in their order.
    pub async fn wait(&mut self, pending: Pending) -> Result<Step, JsError> {
        let report = self.trainer.wait_async(pending.inner).await.map_err(fail)?;
        let accuracy = report.results.f32(ACCURACY).ok().and_then(|values| values.first().copied());
        Ok(Step {
            step: report.step as f64,
            loss: report.loss,
            lr: report.lr,
            accuracy: accuracy.unwrap_or(f32::NAN),
            grad_norm: report.grad_norm.unwrap_or(f32::NAN),
        })
    }

    /// How well rows that were not trained on are predicted.
    pub async fn evaluate(&mut self, inputs: Vec<u8>, targets: Vec<u8>) -> Result<Test, JsError> {
        self.test(inputs, targets).await.map_err(fail)
    }

    /// The mean loss over so many batches of the held-out part of the text.
    #[wasm_bindgen(js_name = evaluateText)]
    pub async fn evaluate_text(&mut self, batches: usize) -> Result<f32, JsError> {
        self.held_out(batches).await.map_err(fail)
    }

    /// For each row of inputs: the probabilities of the classes, or the predicted numbers.
    pub async fn predict(&mut self, inputs: Vec<u8>) -> Result<Vec<f32>, JsError> {
        self.outputs(inputs).await.map_err(fail)
    }

    /// Continues a text by so many bytes.
    pub async fn generate(
        &mut self,
        prompt: &[u8],
        count: usize,
        temperature: f32,
        top_k: usize,
        seed: u32,
    ) -> Result<Vec<u8>, JsError> {
        let sampling = Sampling { temperature, top_k, seed: u64::from(seed) };
        self.continued(prompt.iter().map(|&byte| u32::from(byte)).collect(), count, sampling).await.map_err(fail)
    }

    /// Tells a schedule `plateau` what it depends on, such as the loss of a test; gives whether the learning rate went down.
    pub fn observe(&mut self, loss: f64) -> Result<bool, JsError> {
        self.trainer.observe(loss).map_err(fail)
    }

    /// The weights as the bytes of a safetensors file, with the names that the command line tool's models have.
    pub async fn weights(&self) -> Result<Vec<u8>, JsError> {
        let weights = self.trainer.weights_async().await.map_err(fail)?;
        self.file(weights).map_err(fail)
    }

    /// Takes weights from a safetensors file. What does not fit is an error, and changes nothing.
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), JsError> {
        weights::read(bytes).and_then(|weights| self.trainer.load(&weights)).map_err(fail)
    }

    /// Everything that `resume` needs to go on: weights, optimizer, counters, as a safetensors file.
    pub async fn checkpoint(&self) -> Result<Vec<u8>, JsError> {
        let state = self.trainer.checkpoint_async().await.map_err(fail)?;
        self.file(state).map_err(fail)
    }

    /// Goes on where a checkpoint was taken.
    pub fn resume(&mut self, bytes: &[u8]) -> Result<(), JsError> {
        weights::read(bytes).and_then(|state| self.trainer.resume(&state)).map_err(fail)
    }

    /// Steps made so far.
    #[wasm_bindgen(getter, js_name = stepsDone)]
    pub fn steps_done(&self) -> f64 {
        self.trainer.steps_done() as f64
    }

    /// What is known of the model before its first step.
    #[wasm_bindgen(getter, unchecked_return_type = "About")]
    pub fn about(&self) -> JsValue {
        let (number, memory) = (|n: u64| JsValue::from(n as f64), self.trainer.memory());
        let outputs = match &self.goal {
            Goal::Classes(classes) => *classes,
            Goal::Values(values) => *values,
            Goal::Text(gpt) => gpt.vocabulary,
        };
        let launch = |line: Outline| {
            let numbers = [line.flops, line.bytes, line.activations, line.workspace].map(number);
            JsValue::from(Array::from_iter([line.label.into(), line.kernel.into()].into_iter().chain(numbers)))
        };
        let categories = object([
            ("weights", number(memory.weights)),
            ("gradients", number(memory.gradients)),
            ("optimizer", number(memory.optimizer)),
            ("other", number(memory.other_state)),
            ("activations", number(memory.transient)),
            ("inputs", number(memory.io + memory.readback)),
        ]);
        object([
            ("parameters", self.trainer.parameters().count().into()),
            ("dispatches", self.trainer.dispatches().into()),
            ("memory", categories),
            ("memoryBytes", number(memory.total())),
            ("batch", self.config.train.batch.into()),
            ("steps", number(self.config.train.steps)),
            ("context", if let Goal::Text(gpt) = &self.goal { gpt.context } else { 0 }.into()),
            ("outputs", outputs.into()),
            ("plan", self.trainer.outline().into_iter().map(launch).collect::<Array>().into()),
        ])
    }
}

/// How the rows of a prediction are taken out of the results.
type Read = fn(&Results) -> LibraryResult<Vec<f32>>;

fn other_data() -> Error {
    Error::feed("a model of text learns a text, the others arrays".into())
}

impl Model {
    fn arrays(&self, inputs: Vec<u8>, targets: Option<Vec<u8>>, batch: usize) -> LibraryResult<ArrayData> {
        let [input, target] = self.rows.as_ref().ok_or_else(other_data)?;
        let column = |rows: &Rows, bytes, filler| Column {
            name: rows.name,
            dtype: rows.dtype,
            row: rows.row.clone(),
            bytes,
            filler,
        };
        let mut columns = vec![column(input, inputs, 0)];
        let count = ArrayData::new(columns.clone(), batch)?.rows();
        let row_bytes = target.row.numel() * 4;
        columns.push(column(target, targets.unwrap_or_else(|| vec![0; count * row_bytes]), 255));
        ArrayData::new(columns, batch)
    }

    async fn test(&mut self, inputs: Vec<u8>, targets: Vec<u8>) -> LibraryResult<Test> {
        if let Goal::Values(_) = self.goal {
            let wanted: Vec<f32> = bytemuck::pod_collect_to_vec(&targets);
            let found = self.outputs(inputs).await?;
            if found.len() != wanted.len() {
                return Err(Error::feed(format!("there are {} targets for {} predictions", wanted.len(), found.len())));
            }
            let squares = found.iter().zip(&wanted).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            let loss = (squares / found.len() as f64) as f32;
            return Ok(Test { loss, accuracy: f32::NAN, confusion: Vec::new() });
        }
        let Goal::Classes(classes) = self.goal else { return Err(other_data()) };
        let data = self.arrays(inputs, Some(targets), self.config.train.micro_batch())?;
        let mut confusion = Confusion::new(classes);
        for index in 0..data.batches() {
            let batch = data.validation(index, data.batches())?;
            confusion.add(&batch, &self.trainer.evaluate_outputs_async(&batch).await?)?;
        }
        let cells = (0..classes * classes).map(|i| confusion.count(i / classes, i % classes) as u32).collect();
        Ok(Test { loss: confusion.loss(), accuracy: confusion.accuracy(), confusion: cells })
    }

    async fn outputs(&mut self, inputs: Vec<u8>) -> LibraryResult<Vec<f32>> {
        let data = self.arrays(inputs, None, self.config.train.micro_batch())?;
        let (width, read): (usize, Read) = match self.goal {
            Goal::Classes(classes) => (classes, |results| {
                Ok(results.f32(LOG_PROBABILITIES)?.into_iter().map(|x| f64::from(x).exp() as f32).collect())
            }),
            Goal::Values(values) => (values, |results| results.f32(PREDICTION)),
            Goal::Text(_) => return Err(other_data()),
        };
        let mut all = Vec::with_capacity(data.rows() * width);
        for index in 0..data.batches() {
            let batch = data.validation(index, data.batches())?;
            all.extend(read(&self.trainer.evaluate_outputs_async(&batch).await?)?);
        }
        all.truncate(data.rows() * width);
        Ok(all)
    }

    async fn held_out(&mut self, batches: usize) -> LibraryResult<f32> {
        let mut sum = 0.0;
        for index in 0..batches.max(1) {
            let data = self.data.as_ref().filter(|_| self.rows.is_none()).ok_or_else(other_data)?;
            let batch = data.validation(index, batches.max(1))?;
            sum += f64::from(self.trainer.evaluate_async(&batch).await?);
        }
        Ok((sum / batches.max(1) as f64) as f32)
    }

    async fn continued(&mut self, prompt: Vec<u32>, count: usize, sampling: Sampling) -> LibraryResult<Vec<u8>> {
        let Goal::Text(gpt) = self.goal else { return Err(other_data()) };
        let weights = self.trainer.weights_async().await?;
        let mut generator = match self.generator.take() {
            Some(mut generator) => generator.load(&weights).map(|()| generator)?,
            None => Generator::new(&self.device, gpt, &weights)?,
        };
        let mut text = Vec::with_capacity(count);
        let outcome = generator.generate_async(&prompt, count, sampling, |token| text.push(token as u8)).await;
        self.generator = Some(generator);
        outcome.map(|()| text)
    }

    /// The bytes of a file; that of a text says the sizes of its model, so that the command line tool knows them.
    fn file(&self, mut weights: Weights) -> LibraryResult<Vec<u8>> {
        if let Goal::Text(_) = self.goal {
            weights.metadata.extend(sizes(&self.config));
        }
        weights.to_bytes()
    }
}
