//! A trained GPT writes text: one token at a time, with a cache of keys and values.
//!
//! Knows a model's size and weights, and how to choose among tokens; nothing about training.

use super::step::weight_specs;
use super::trainer::load_states;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::{Device, Session, Ticket};
use crate::graph::{Graph, TensorType};
use crate::io::HostTensor;
use crate::io::safetensors::Weights;
use crate::lower::lower;
use crate::nn::Parameters;
use crate::nn::models::{Gpt, GptConfig, Step};
use crate::program::{Category, StateLayout, StateSpec};
use crate::random::Stream;

/// The only program.
const DECODE: usize = 0;
const LOGITS: &str = "logits";
const TOKEN: &str = "token";
const POSITION: &str = "position";

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits: 0 always takes the likeliest token, 1 follows the model.
    pub temperature: f32,
    /// Choose among this many of the likeliest tokens; 0 among all.
    pub top_k: usize,
    /// The same seed gives the same text.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling { temperature: 0.8, top_k: 40, seed: 0 }
    }
}

/// A GPT on a device, ready to continue prompts.
pub struct Generator {
    session: Session,
    config: GptConfig,
    /// Of the parameters.
    names: Vec<String>,
    /// The tokens in the cache.
    seen: Vec<u32>,
}

/// One decoding step: the logits of the token after this one.
pub fn trace_decode(gpt: &Gpt) -> Result<Graph> {
    let graph = Graph::new();
    let step = Step { token: graph.input(TOKEN, [1], DType::I32), position: graph.input(POSITION, [], DType::I32) };
    graph.output(LOGITS, gpt.decode(step));
    graph.error()?;
    Ok(graph)
}

impl Generator {
    /// Puts weights, as [`super::Trainer::weights`] gives them, on a device.
    pub fn new(device: &Device, config: GptConfig, weights: &Weights) -> Result<Generator> {
        let mut parameters = Parameters::new();
        let gpt = Gpt::new(&mut parameters, config);
        let mut specs = weight_specs(&parameters);
        specs.extend(gpt.cache().iter().map(|(name, shape)| StateSpec {
            name: name.clone(),
            ty: TensorType::new(shape, DType::F32),
            category: Category::Other,
            group: name.clone(),
        }));
        let profile = device.profile();
        let layout = StateLayout::build(&specs, profile.max_binding_bytes)?;
        let program = lower("decode", &trace_decode(&gpt)?, &layout, profile)?;
        let mut session = Session::new(device, layout, vec![program])?;
        let names: Vec<String> = parameters.specs().iter().map(|spec| spec.name.to_string()).collect();
        load_states(&mut session, weights, names.iter().map(String::as_str))?;
        Ok(Generator { session, config, names, seen: Vec::new() })
    }

    /// Takes other weights of the same model.
    pub fn load(&mut self, weights: &Weights) -> Result<()> {
        self.restart();
        load_states(&mut self.session, weights, self.names.iter().map(String::as_str))
    }

    /// Continues `prompt` by `count` tokens, handing each to `each` as soon as it is chosen. The
    /// work per token does not depend on how many came before.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn generate(&mut self, prompt: &[u32], count: usize, sampling: Sampling, each: impl FnMut(u32)) -> Result<()> {
        pollster::block_on(self.generate_async(prompt, count, sampling, each))
    }

    /// Continues a prompt, on every target.
    pub async fn generate_async(
        &mut self,
        prompt: &[u32],
        count: usize,
        sampling: Sampling,
        mut each: impl FnMut(u32),
    ) -> Result<()> {
        let Some((&last, first)) = prompt.split_last() else {
            return Err(Error::config("the prompt is empty; give at least one character to continue".into()));
        };
        self.restart();
        for &token in first {
            self.next_logits(token).await?;
        }
        let (stream, mut token) = (Stream::new(sampling.seed, 0), last);
        for index in 0..count {
            let logits = self.next_logits(token).await?;
            token = choose(&logits, sampling, stream.words(index as u64)[0]);
            each(token);
        }
        Ok(())
    }

    /// Takes in one token; the logits `[vocabulary]` of the one after it.
    pub async fn next_logits(&mut self, token: u32) -> Result<Vec<f32>> {
        for again in self.make_room() {
            let ticket = self.submit(again)?;
            self.session.fetch_async(ticket).await?;
        }
        let ticket = self.submit(token)?;
        self.session.fetch_async(ticket).await?.f32(LOGITS)
    }

    /// Forgets everything taken in so far.
    pub fn restart(&mut self) {
        self.seen.clear();
    }

    /// Positions are learned, so a full cache cannot slide: the later half of it is taken in anew from
    /// position 0, once every half context.
    fn make_room(&mut self) -> Vec<u32> {
        if self.seen.len() < self.config.context {
            return Vec::new();
        }
        let again = self.seen.split_off(self.seen.len() - self.config.context / 2);
        self.seen.clear();
        again
    }

    fn submit(&mut self, token: u32) -> Result<Ticket> {
        if token as usize >= self.config.vocabulary {
            return Err(Error::feed(format!(
                "the token {token} is not below the vocabulary of {}",
                self.config.vocabulary
            )));
        }
        self.session.write_input(DECODE, TOKEN, &HostTensor::i32([1], &[token as i32])?.bytes)?;
        self.session.write_scalar(DECODE, POSITION, self.seen.len() as u32)?;
        self.seen.push(token);
        self.session.run(&[DECODE])
    }
}

/// The token that a uniformly random word picks.
pub fn choose(logits: &[f32], sampling: Sampling, random: u32) -> u32 {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    // Total order, and stable: the lowest of equally likely tokens comes first.
    crate::sort::sort_by(&mut order, |&a, &b| logits[b].total_cmp(&logits[a]));
    let likeliest = order.first().copied().unwrap_or(0);
    if sampling.temperature <= 0.0 {
        return likeliest as u32;
    }
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k);
    }
    let highest = f64::from(logits.get(likeliest).copied().unwrap_or(0.0));
    let weight = |&token: &usize| ((f64::from(logits[token]) - highest) / f64::from(sampling.temperature)).exp();
    let weights: Vec<f64> = order.iter().map(weight).collect();
    let mut left = (f64::from(random) + 0.5) / 4_294_967_296.0 * weights.iter().sum::<f64>();
    for (&token, weight) in order.iter().zip(&weights) {
        left -= weight;
        if left < 0.0 {
            return token as u32;
        }
    }
    likeliest as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_chosen_by_their_probability() {
        // Probabilities 0.5, 0.25, 0.125, 0.125, in another order.
        let logits = [0.125f32.ln(), 0.5f32.ln(), 0.125f32.ln(), 0.25f32.ln()];
        let plain = Sampling { temperature: 1.0, top_k: 0, seed: 0 };
        let at = |share: f64| choose(&logits, plain, (share * 4_294_967_296.0) as u32);
        assert_eq!([at(0.0), at(0.49), at(0.51), at(0.74), at(0.76), at(0.87), at(0.99)], [1, 1, 3, 3, 0, 0, 2]);
        let two = Sampling { top_k: 2, ..plain };
        assert_eq!([0.6, 0.7, 1.0].map(|share| choose(&logits, two, (share * 4_294_967_295.0) as u32)), [1, 3, 3]);
        let greedy = Sampling { temperature: 0.0, ..plain };
        assert_eq!(choose(&logits, greedy, u32::MAX), 1);
        // Colder is surer.
        let cold = Sampling { temperature: 0.1, ..plain };
        assert_eq!(choose(&logits, cold, (0.99 * 4_294_967_295.0) as u32), 1);
    }
}
