//! What a trainer is in the middle of: its states as a checkpoint, and back.
//!
//! Knows which states outlive a step; files are not its affair.

use super::Trainer;
use super::average;
use super::scaler::{self, Known};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::Session;
use crate::io::safetensors::{NamedTensor, Weights};
use crate::optim::{PlateauState, exact, from_exact};
use crate::program::{Category, StateEntry};
use std::collections::HashSet;

/// The key of a checkpoint's metadata that counts micro-batches since the last update.
const ADDED: &str = "micro_batches";
/// The key of what the schedule's learning rate is multiplied by.
const LR_SCALE: &str = "lr_scale";
/// The key of what a plateau has seen so far.
const PLATEAU: &str = "plateau";

impl Trainer {
    /// Everything that [`Trainer::resume`] needs to go on: every state but the gradients, which the next step
    /// writes anew (unless micro-batches have been added up), and counters in the metadata.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn checkpoint(&self) -> Result<Weights> {
        pollster::block_on(self.checkpoint_async())
    }

    /// What to resume from, on every target.
    pub async fn checkpoint_async(&self) -> Result<Weights> {
        let names = self.kept_names(self.added);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut checkpoint = self.read(&names).await?;
        let added = self.added as u64;
        let counters = [("step", self.step), ("samples", self.samples), ("seed", self.seed), (ADDED, added)];
        checkpoint.metadata.extend(counters.map(|(key, n)| (key.to_string(), n.to_string())));
        checkpoint.metadata.insert(LR_SCALE.into(), exact(self.lr_scale));
        let plateau = self.plateau.map(|(_, state)| (PLATEAU.to_string(), state.to_string()));
        checkpoint.metadata.extend(plateau);
        Ok(checkpoint)
    }

    /// Goes on where a checkpoint was taken, with its seed. A running mean of the weights that it does not hold begins at
    /// its weights, and a plateau that it does not know of has seen nothing yet.
    pub fn resume(&mut self, checkpoint: &Weights) -> Result<()> {
        let counter = |key: &str| {
            let text = checkpoint.metadata.get(key);
            text.and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| {
                Error::feed(format!("this is not a checkpoint: its metadata has no number `{key}`; weights alone can be loaded but not resumed"))
            })
        };
        let (step, samples, seed) = (counter("step")?, counter("samples")?, counter("seed")?);
        // Checkpoints of steps that are not split need not say so.
        let added = if checkpoint.metadata.contains_key(ADDED) { counter(ADDED)? as usize } else { 0 };
        if added >= self.accumulate {
            return Err(Error::config(format!(
                "the checkpoint was taken within a step, after {added} of its micro-batches; go on with `accumulate` as it was"
            )));
        }
        let plateau = match (&self.plateau, checkpoint.metadata.get(PLATEAU)) {
            (Some(_), Some(text)) => Some(text.parse::<PlateauState>()?),
            (Some((plateau, _)), None) => Some(PlateauState::new(plateau)),
            (None, _) => None,
        };
        let lr_scale = match checkpoint.metadata.get(LR_SCALE) {
            Some(text) => from_exact(text).filter(|scale| scale.is_finite() && *scale >= 0.0).ok_or_else(|| {
                Error::feed(format!(
                    "the checkpoint's `{LR_SCALE}` is `{text}`, neither a whole number nor the 16 hexadecimal digits of one that is at least 0"
                ))
            })?,
            None => 1.0,
        };
        let mut names = self.kept_names(added);
        let averaged = checkpoint.tensors.iter().any(|tensor| average::is_mean(&tensor.name));
        names.retain(|name| averaged || !average::is_mean(name));
        load_states(&mut self.session, checkpoint, names.iter().map(String::as_str))?;
        if !averaged {
            self.begin_average(checkpoint)?;
        }
        if added == 0 && self.accumulate > 1 {
            self.clear(&self.names_of(|category| category == Category::Gradients))?;
        }
        if self.scaled.is_some() {
            let good = checkpoint.get(scaler::GOOD).map(|tensor| tensor.bytes.clone());
            self.scaled = Some(Known::resumed(step, good)?);
        }
        (self.step, self.samples, self.seed, self.added) = (step, samples, seed, added);
        self.plateau.iter_mut().zip(plateau).for_each(|((_, state), then)| *state = then);
        self.lr_scale = lr_scale;
        self.session.state_is_whole();
        Ok(())
    }

    /// Everything as it was before the first step.
    pub fn begin_again(&mut self) -> Result<()> {
        self.clear(&self.names_of(|_| true))?;
        (self.step, self.samples, self.added, self.lr_scale) = (0, 0, 0, 1.0);
        self.initialise()?;
        self.session.state_is_whole();
        Ok(())
    }

    fn clear(&mut self, names: &[String]) -> Result<()> {
        for name in names {
            let entry = state_entry(&self.session, name)?;
            let zeros = vec![0; entry.dtype.bytes(&entry.shape) as usize];
            self.session.write_state(name, &zeros)?;
        }
        Ok(())
    }

    /// States by name, in this order.
    pub(super) async fn read(&self, names: &[&str]) -> Result<Weights> {
        let mut weights = Weights::default();
        for (name, bytes) in names.iter().zip(self.session.read_states_async(names).await?) {
            let entry = state_entry(&self.session, name)?;
            weights.tensors.push(NamedTensor {
                name: name.to_string(),
                dtype: entry.dtype,
                shape: entry.shape.clone(),
                bytes,
            });
        }
        Ok(weights)
    }

    /// What a checkpoint holds: parameters and buffers first, then whatever else outlives a step; and the gradients,
    /// where `added` micro-batches have added to them.
    fn kept_names(&self, added: usize) -> Vec<String> {
        let specs = self.parameters.specs();
        let own: HashSet<&str> = specs.iter().map(|spec| &*spec.name).collect();
        let others = self.names_of(|category| added > 0 || category != Category::Gradients).into_iter();
        let others = others.filter(|name| !own.contains(name.as_str()));
        specs.iter().map(|spec| spec.name.to_string()).chain(others).collect()
    }

    /// The states of these categories, in the order of their names.
    fn names_of(&self, wanted: impl Fn(Category) -> bool) -> Vec<String> {
        let layout = self.session.layout();
        let wanted = |entry: &StateEntry| {
            let mut categories = entry.pieces.iter().map(|piece| layout.buffers[piece.buffer].category);
            categories.all(&wanted)
        };
        layout.entries.iter().filter(|(_, entry)| wanted(entry)).map(|(name, _)| name.clone()).collect()
    }
}

fn state_entry<'a>(session: &'a Session, name: &str) -> Result<&'a StateEntry> {
    let entry = session.layout().entries.get(name);
    entry.ok_or_else(|| Error::feed(format!("the session has no state `{name}`")))
}

/// Writes states from the tensors of the same names: all of them, or none if one does not fit.
pub(in crate::train) fn load_states<'n>(
    session: &mut Session,
    weights: &Weights,
    names: impl Iterator<Item = &'n str> + Clone,
) -> Result<()> {
    for name in names.clone() {
        fitting(session, weights, name)?;
    }
    for name in names {
        let tensor = fitting(session, weights, name)?;
        match tensor.to_f32().filter(|_| tensor.dtype != DType::F32) {
            Some(widened) => session.write_state(name, bytemuck::cast_slice(&widened))?,
            None => session.write_state(name, &tensor.bytes)?,
        }
    }
    Ok(())
}

/// The tensor that a state can take its value from.
fn fitting<'a>(session: &Session, weights: &'a Weights, name: &str) -> Result<&'a NamedTensor> {
    let Some(tensor) = weights.get(name) else {
        return Err(Error::feed(format!("the weights have no tensor `{name}`; are they of another model?")));
    };
    let entry = state_entry(session, name)?;
    if tensor.shape != entry.shape {
        return Err(Error::feed(format!(
            "the tensor `{name}` of the weights has shape {}, but the model's has {}; is the model configured as it was trained?",
            tensor.shape, entry.shape
        )));
    }
    let widens = entry.dtype == DType::F32 && matches!(tensor.dtype, DType::F16 | DType::BF16);
    if !widens && entry.dtype != tensor.dtype {
        return Err(Error::feed(format!(
            "the tensor `{name}` of the weights is {}, but the model's is {}",
            tensor.dtype, entry.dtype
        )));
    }
    Ok(tensor)
}
