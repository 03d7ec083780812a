//! The trainer: a model, a loss and an optimizer as programs on a device, fed and run step by step.
//!
//! Everything is traced, compiled and allocated by [`TrainerBuilder::build`]; a step only writes its
//! batch and a few scalars. Knows nothing about files, data sets or how long to train.

use super::average;
use super::budget::Fitted;
use super::norms::{self, ParameterNorms};
use super::scaler::{self, Known, ScaleReport};
use super::split::split;
use super::step::{GRAD_NORM, LOSS, gradient_name, scalar_name};
use crate::error::{Error, Result};
use crate::gpu::{Device, Results, Session, Ticket};
use crate::io::HostTensor;
use crate::io::safetensors::{NamedTensor, Weights};
use crate::nn::{Group, Parameters};
use crate::optim::{Ema, LossScaling, Optimizers, Plateau, PlateauState, Schedule, StepHyper};
use crate::program::Memory;
use crate::tensor::RNG_KEY;
use std::borrow::Borrow;
use std::collections::HashSet;
use std::sync::Arc;

mod builder;
mod checkpoint;
mod memory;
mod outline;
pub use builder::TrainerBuilder;
pub(super) use checkpoint::load_states;
pub use outline::Outline;

/// Forward, loss and gradients.
const MICRO: usize = 0;
/// Clipping and optimizer.
const UPDATE: usize = 1;
/// Forward and loss without training's randomness.
const EVAL: usize = 2;

/// A batch with nothing in it: every input keeps what it was last fed.
pub const SAME_BATCH: &[(&str, HostTensor)] = &[];

/// A step that has been handed to the device; [`Trainer::wait`] gives its results.
#[must_use = "the results of a step are fetched by `Trainer::wait`"]
pub struct Pending {
    step: u64,
    lr: f64,
    ticket: Ticket,
}

/// What a step gave.
pub struct StepReport {
    /// Number of the step, counted from 1.
    pub step: u64,
    /// Mean loss over the batch, before the update.
    pub loss: f32,
    /// Learning rate of the update.
    pub lr: f64,
    /// Global norm of the gradients before clipping, if they are clipped.
    pub grad_norm: Option<f32>,
    /// The scale, and whether the step was left out, if losses are scaled.
    pub scaling: Option<ScaleReport>,
    /// The norms of each trained parameter and its gradient, if [`TrainerBuilder::norms`] asks for them; else none.
    pub norms: Vec<ParameterNorms>,
    /// Everything that the programs output, by name.
    pub results: Results,
}

/// A model in training on a device.
pub struct Trainer {
    parameters: Parameters,
    optimizers: Optimizers,
    schedule: Schedule,
    /// What lowers the learning rate besides, and what it has seen.
    plateau: Option<(Plateau, PlateauState)>,
    seed: u64,
    ema: Option<Ema>,
    /// The parameters whose norms each step gives.
    normed: Vec<Arc<str>>,
    clipped: bool,
    /// Micro-batches that a step has at most.
    accumulate: usize,
    scaling: Option<LossScaling>,
    /// Where losses are scaled: what is known of the steps that were made.
    scaled: Option<Known>,
    fitted: Option<Fitted>,
    /// See [`Plan::alive`].
    alive: Vec<[u64; 2]>,
    /// See [`Compiled::kind`](super::Compiled).
    kind: u64,
    session: Session,
    step: u64,
    samples: u64,
    /// Micro-batches since the last update.
    added: usize,
    /// What the schedule's learning rate is multiplied by.
    lr_scale: f64,
    fed: [HashSet<String>; 3],
}

impl Trainer {
    /// One step: gradients of the batch, then the update. Waits for the results.
    ///
    /// The batch names the input that each tensor feeds. Inputs that are not in it keep what they were
    /// last fed.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn step<T: Borrow<HostTensor>>(&mut self, batch: &[(&str, T)]) -> Result<StepReport> {
        let pending = self.submit(batch)?;
        self.wait(pending)
    }

    /// Trains steps with the present inputs, timing each dispatch: the least times of these rounds. A first step,
    /// whose kernels may still be compiled, is not counted.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile(&mut self, rounds: usize) -> Result<super::profile::Profile> {
        let mut timings = Vec::with_capacity(rounds + 1);
        for _ in 0..=rounds {
            self.feed(MICRO, SAME_BATCH)?;
            self.write_random_key()?;
            self.write_hyperparameters(self.step + 1, self.next_lr())?;
            timings.push(self.session.profile(&[MICRO, UPDATE])?);
            (self.step, self.added) = (self.step + 1, 0);
            self.samples += self.samples_per_micro_batch() as u64;
        }
        let programs = [MICRO, UPDATE].map(|index| self.session.program(index));
        Ok(super::profile::Profile::new(&programs, &timings[1..]))
    }

    /// Hands one step to the device and returns at once. Waiting for a step only after the next one
    /// was submitted keeps the device busy.
    pub fn submit<T: Borrow<HostTensor>>(&mut self, batch: &[(&str, T)]) -> Result<Pending> {
        let parts = self.micro_batches(batch)?;
        let Some((last, others)) = parts.split_last() else {
            return self.update(batch);
        };
        others.iter().try_for_each(|part| self.micro_batch(part))?;
        self.update(last)
    }

    /// Adds the gradients of a batch that is only a part of the next step's: [`Trainer::step`] takes the last part and
    /// updates. Data that comes in small batches needs not be joined for a large step.
    pub fn add<T: Borrow<HostTensor>>(&mut self, batch: &[(&str, T)]) -> Result<()> {
        if self.accumulate == 1 {
            let message = "gradients are not accumulated: build the trainer with `accumulate(n)`, n above 1";
            return Err(Error::config(message.into()));
        }
        let parts = self.micro_batches(batch)?;
        if self.added + parts.len().max(1) >= self.accumulate {
            return Err(Error::feed(format!(
                "the step has {} of at most {} micro-batches already, and the last ones are given to `step`",
                self.added, self.accumulate
            )));
        }
        match parts.is_empty() {
            true => self.micro_batch(batch),
            false => parts.iter().try_for_each(|part| self.micro_batch(part)),
        }
    }

    /// Waits for a submitted step.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&mut self, pending: Pending) -> Result<StepReport> {
        pollster::block_on(self.wait_async(pending))
    }

    /// Waits for a submitted step, on every target.
    pub async fn wait_async(&mut self, pending: Pending) -> Result<StepReport> {
        let Pending { step, lr, ticket } = pending;
        let results = self.session.fetch_async(ticket).await?;
        let grad_norm = if self.clipped { Some(scalar(&results, GRAD_NORM)?) } else { None };
        let learned = self.scaled.as_mut().map(|known| known.learn(step, &results)).transpose()?;
        if let Some((report, true)) = learned {
            return Err(self.hopeless(step, report).await);
        }
        let scaling = learned.map(|(report, _)| report);
        let norms = if self.normed.is_empty() { Vec::new() } else { norms::read(&self.normed, &results)? };
        Ok(StepReport { step, lr, loss: scalar(&results, LOSS)?, grad_norm, scaling, norms, results })
    }

    /// The loss of a batch as in evaluation (no dropout); nothing is trained.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn evaluate<T: Borrow<HostTensor>>(&mut self, batch: &[(&str, T)]) -> Result<f32> {
        pollster::block_on(self.evaluate_async(batch))
    }

    /// The loss of a batch as in evaluation, on every target.
    pub async fn evaluate_async<T: Borrow<HostTensor>>(&mut self, batch: &[(&str, T)]) -> Result<f32> {
        scalar(&self.evaluate_outputs_async(batch).await?, LOSS)
    }

    /// Everything that the loss function outputs for a batch as in evaluation; nothing is trained.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn evaluate_outputs<T: Borrow<HostTensor>>(&mut self, batch: &[(&str, T)]) -> Result<Results> {
        pollster::block_on(self.evaluate_outputs_async(batch))
    }

    /// Everything that the loss function outputs for a batch, on every target.
    pub async fn evaluate_outputs_async<T: Borrow<HostTensor>>(&mut self, batch: &[(&str, T)]) -> Result<Results> {
        self.feed(EVAL, batch)?;
        let ticket = self.session.run(&[EVAL])?;
        self.session.fetch_async(ticket).await
    }

    /// The present values of parameters and buffers.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn weights(&self) -> Result<Weights> {
        pollster::block_on(self.weights_async())
    }

    /// The present values of parameters and buffers, on every target.
    pub async fn weights_async(&self) -> Result<Weights> {
        let names: Vec<&str> = self.parameters.specs().iter().map(|spec| &*spec.name).collect();
        self.read(&names).await
    }

    /// The weights that evaluation uses: the running means of [`TrainerBuilder::ema`] under the parameters' names, with
    /// everything else as it is; the present values where there is no mean.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn averaged_weights(&self) -> Result<Weights> {
        pollster::block_on(self.averaged_weights_async())
    }

    /// The weights that evaluation uses, on every target.
    pub async fn averaged_weights_async(&self) -> Result<Weights> {
        if self.ema.is_none() {
            return self.weights_async().await;
        }
        let specs = self.parameters.specs();
        let names: Vec<String> = specs.iter().map(average::used_name).collect();
        let mut weights = self.read(&names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        weights.tensors.iter_mut().zip(specs).for_each(|(tensor, spec)| tensor.name = spec.name.to_string());
        Ok(weights)
    }

    /// The gradients of the latest step before clipping, named `grad/` and the parameter; zeros where they accumulate.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn gradients(&self) -> Result<Weights> {
        let names: Vec<String> = self.parameters.trainable().map(|spec| gradient_name(&spec.name)).collect();
        pollster::block_on(self.read(&names.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// Replaces parameters and buffers by the tensors of the same names; all must be there, and other
    /// tensors are left aside. A running mean begins at them.
    pub fn load(&mut self, weights: &Weights) -> Result<()> {
        load_states(&mut self.session, weights, self.parameters.specs().iter().map(|spec| &*spec.name))?;
        self.begin_average(weights)
    }

    /// Leaves out the samples that would come next, so many.
    pub fn skip_samples(&mut self, samples: u64) {
        self.samples += samples;
    }

    /// Multiplies the learning rate of all steps that follow, and what it was multiplied by before.
    pub fn scale_lr(&mut self, factor: f64) {
        self.lr_scale *= factor;
    }

    /// What the learning rate of the schedule is multiplied by; 1 without further word.
    pub fn lr_scale(&self) -> f64 {
        self.lr_scale
    }

    /// Tells what the learning rate depends on, such as a validation loss: [`TrainerBuilder::plateau`] counts how often it
    /// was no better, and lowers the rates of the steps that follow. Gives whether it did now.
    pub fn observe(&mut self, metric: f64) -> Result<bool> {
        let lr = self.next_lr();
        let Some((plateau, state)) = &mut self.plateau else {
            let message = "no learning rate depends on what is observed: build the trainer with `plateau(..)`";
            return Err(Error::config(message.into()));
        };
        Ok(state.observe(plateau, metric, lr))
    }

    /// Whether [`Trainer::observe`] wants to be told.
    pub fn has_plateau(&self) -> bool {
        self.plateau.is_some()
    }

    /// Learning rate of the next step.
    pub fn next_lr(&self) -> f64 {
        let plateau = self.plateau.map_or(1.0, |(_, state)| state.scale);
        self.schedule.lr(self.step) * self.lr_scale * plateau
    }

    /// What it trains on.
    pub fn device(&self) -> &Device {
        self.session.device()
    }

    /// Updates made so far.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Samples trained on so far: the index of the next one.
    pub fn samples_done(&self) -> u64 {
        self.samples
    }

    /// Micro-batches that were added since the last update.
    pub fn micro_batches_added(&self) -> usize {
        self.added
    }

    /// Samples in a micro-batch, and in a batch that is not split: axis 0 of the first input; 0 if the loss reads no
    /// input.
    pub fn samples_per_micro_batch(&self) -> usize {
        let inputs = &self.session.program(MICRO).inputs;
        let first = inputs.iter().find(|input| input.name != RNG_KEY);
        first.and_then(|input| input.shape.first().copied()).unwrap_or(0)
    }

    /// The seed that the run began with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Bytes on the device, by category; nothing is allocated later.
    pub fn memory(&self) -> Memory {
        self.session.memory()
    }

    /// Bytes of all buffers, counted where they were created.
    pub fn created_bytes(&self) -> u64 {
        self.session.created_bytes()
    }

    /// Kernel launches of one step, of as many micro-batches as it may have.
    pub fn dispatches(&self) -> usize {
        self.accumulate * self.session.program(MICRO).dispatches() + self.session.program(UPDATE).dispatches()
    }

    fn initialise(&mut self) -> Result<()> {
        for (ordinal, spec) in self.parameters.specs().iter().enumerate() {
            let values = self.parameters.initial_values(ordinal, self.seed)?;
            self.session.write_state(&spec.name, bytemuck::cast_slice(&values))?;
            if self.ema.is_some() && spec.trainable {
                self.session.write_state(&average::used_name(spec), bytemuck::cast_slice(&values))?;
            }
        }
        self.plateau.iter_mut().for_each(|(plateau, state)| *state = PlateauState::new(plateau));
        self.scaled = self.scaling.map(|_| Known::new(0, 0));
        self.scaling.iter().try_for_each(|scaling| scaler::initialise(&mut self.session, scaling))
    }

    /// Running means begin at these weights.
    fn begin_average(&mut self, weights: &Weights) -> Result<()> {
        if self.ema.is_none() {
            return Ok(());
        }
        let mut means = Weights::default();
        for spec in self.parameters.trainable() {
            let own = weights.get(&spec.name).into_iter().cloned();
            means.tensors.extend(own.map(|tensor| NamedTensor { name: average::used_name(spec), ..tensor }));
        }
        let names: Vec<String> = self.parameters.trainable().map(average::used_name).collect();
        load_states(&mut self.session, &means, names.iter().map(String::as_str))
    }

    /// The micro-batches of a batch; none if it is one as it stands.
    fn micro_batches<T: Borrow<HostTensor>>(&self, batch: &[(&str, T)]) -> Result<Vec<Vec<(String, HostTensor)>>> {
        let inputs = &self.session.program(MICRO).inputs;
        let rows = |name: &str| Some(&inputs.iter().find(|input| input.name == name)?.shape);
        let parts = if self.accumulate > 1 { split(batch, rows)? } else { Vec::new() };
        if self.added + parts.len().max(1) > self.accumulate {
            return Err(Error::feed(format!(
                "the step would have {} micro-batches of {} samples, but `accumulate` allows {}",
                self.added + parts.len().max(1),
                self.samples_per_micro_batch(),
                self.accumulate
            )));
        }
        Ok(parts)
    }

    /// Gradients of a micro-batch that is not the last one of its step.
    fn micro_batch<N: AsRef<str>, T: Borrow<HostTensor>>(&mut self, batch: &[(N, T)]) -> Result<()> {
        self.feed(MICRO, batch)?;
        self.write_random_key()?;
        // What it gives is known with the last one.
        self.session.run_unread(&[MICRO])?;
        self.added += 1;
        self.samples += self.samples_per_micro_batch() as u64;
        Ok(())
    }

    /// The last, or only, micro-batch of a step, and the update.
    fn update<N: AsRef<str>, T: Borrow<HostTensor>>(&mut self, batch: &[(N, T)]) -> Result<Pending> {
        self.feed(MICRO, batch)?;
        let (step, lr) = (self.step + 1, self.next_lr());
        self.write_random_key()?;
        self.write_hyperparameters(step, lr)?;
        let ticket = self.session.run(&[MICRO, UPDATE])?;
        (self.step, self.added) = (step, 0);
        self.samples += self.samples_per_micro_batch() as u64;
        Ok(Pending { step, lr, ticket })
    }

    /// Writes what a program reads of a batch; checks names, types, and that nothing is missing.
    fn feed<N: AsRef<str>, T: Borrow<HostTensor>>(&mut self, program: usize, batch: &[(N, T)]) -> Result<()> {
        for (name, tensor) in batch {
            let (name, tensor) = (name.as_ref(), tensor.borrow());
            let declared =
                [MICRO, EVAL].map(|index| self.session.program(index).inputs.iter().find(|input| input.name == name));
            let Some(input) = declared[0].or(declared[1]) else {
                return Err(Error::feed(format!(
                    "there is no input `{name}`; the inputs are {}",
                    self.input_list(program)
                )));
            };
            if (input.dtype, &input.shape) != (tensor.dtype, &tensor.shape) {
                return Err(Error::feed(format!(
                    "the input `{name}` is {}{}, but was fed {}{}",
                    input.dtype, input.shape, tensor.dtype, tensor.shape
                )));
            }
            // An input may matter to one of the programs only.
            if self.session.program(program).inputs.iter().any(|input| input.name == name) {
                self.session.write_input(program, name, &tensor.bytes)?;
                self.fed[program].insert(name.to_string());
            }
        }
        let inputs = &self.session.program(program).inputs;
        match inputs.iter().find(|input| input.name != RNG_KEY && !self.fed[program].contains(&input.name)) {
            None => Ok(()),
            Some(input) => Err(Error::feed(format!(
                "the input `{}` ({}{}) was not fed; the inputs are {}",
                input.name,
                input.dtype,
                input.shape,
                self.input_list(program)
            ))),
        }
    }

    fn input_list(&self, program: usize) -> String {
        let inputs = self.session.program(program).inputs.iter();
        let names: Vec<String> =
            inputs.filter(|input| input.name != RNG_KEY).map(|input| format!("`{}`", input.name)).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    }

    /// The seed and the index of the batch's first sample, for dropout.
    fn write_random_key(&mut self) -> Result<()> {
        if !self.session.program(MICRO).inputs.iter().any(|input| input.name == RNG_KEY) {
            return Ok(());
        }
        // Both words of the seed matter; the counter repeats after 2^32 samples.
        let key = [self.seed as u32 ^ (self.seed >> 32) as u32, self.samples as u32];
        self.session.write_input(MICRO, RNG_KEY, bytemuck::cast_slice(&key))
    }

    /// The optimizer's scalars for update number `step`; where losses are scaled, for the counts that it may have.
    fn write_hyperparameters(&mut self, step: u64, lr: f64) -> Result<()> {
        let (groups, optimizers, ema) = (self.parameters.groups(), &self.optimizers, self.ema);
        let values = |step: u64| {
            let of_group = |group: &Group| {
                let at = StepHyper { step, lr: lr * group.lr_scale, weight_decay: group.weight_decay };
                let optimizer = optimizers.of(&group.name);
                let values = optimizer.scalars().iter().zip(optimizer.scalar_values(at));
                values.map(|(scalar, value)| (group.name.to_string(), *scalar, value)).collect::<Vec<_>>()
            };
            let share = ema.map(|ema| (average::GROUP.to_string(), average::SHARE, ema.share(step)));
            groups.iter().flat_map(of_group).chain(share).collect::<Vec<_>>()
        };
        if let Some(known) = &mut self.scaled {
            return known.upload(&mut self.session, UPDATE, step - 1, values);
        }
        for (group, scalar, value) in values(step) {
            let name = scalar_name(&group, scalar);
            // A group without parameters has no scalars.
            if self.session.program(UPDATE).scalars.iter().any(|scalar| scalar.name == name) {
                self.session.write_scalar(UPDATE, &name, (value as f32).to_bits())?;
            }
        }
        Ok(())
    }

    /// Why no step can be made any more: the first parameter whose gradient overflows on the latest batch.
    async fn hopeless(&mut self, step: u64, report: ScaleReport) -> Error {
        let mut named = String::new();
        if self.session.run_unread(&[MICRO]).is_ok() {
            for spec in self.parameters.trainable() {
                let Ok(bytes) = self.session.read_state_async(&gradient_name(&spec.name)).await else { continue };
                // As the device tells it: infinite or NaN, or too large to be squared.
                let squares: f32 = bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word).powi(2)).sum();
                if !squares.is_finite() {
                    named = format!("; the first gradient that does is that of `{}`", spec.name);
                    break;
                }
            }
        }
        let message = format!(
            "gradients overflow in every one of the last steps, up to step {step}, although the loss scale has come down to {}{named}. \
             Lower the learning rate, clip the gradients, or look for divisions by numbers near 0",
            report.scale
        );
        Error::not_finite(step, message)
    }
}

/// A scalar result.
pub(super) fn scalar(results: &Results, name: &str) -> Result<f32> {
    let values = results.f32(name)?;
    values.first().copied().ok_or_else(|| Error::feed(format!("the output `{name}` is empty")))
}
