//! `wgrad sample`: continue a prompt with the weights of a run.

use super::args::SampleArgs;
use super::cache;
use super::format::Utf8;
use super::train::of_weights;
use super::{print, say};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::io::safetensors::Weights;
use crate::train::char_gpt::gpt_config;
use crate::train::config::{Config, TaskKind};
use crate::train::run::{read_config, read_weights};
use crate::train::{Generator, Sampling};
use std::process::ExitCode;

/// Runs the command.
pub fn sample(args: &SampleArgs) -> Result<ExitCode> {
    let (config, weights, shown) = match (&args.run, &args.weights) {
        (Some(run), _) => {
            let (path, text) = read_config(run)?;
            (Config::from_toml(&path, &text)?, None, format!("the run in {}", run.display()))
        }
        (None, file) => {
            let file = file.clone().unwrap_or_default();
            let weights = Weights::load(&file)?;
            (of_weights(&weights)?.resolve()?, Some(weights), format!("the model in {}", file.display()))
        }
    };
    if config.task != TaskKind::Text {
        return Err(Error::config(format!(
            "{shown} is of the task `{}`, which writes no text; judge an image with `wgrad predict`",
            config.task
        )));
    }
    let choice = args.adapter.choice().or(config.device.adapter.clone());
    let device = cache::open(choice.as_deref())?;
    let sampling = Sampling { temperature: args.temperature, top_k: args.top_k, seed: args.seed };
    let weights = match (weights, &args.run) {
        (None, Some(run)) => read_weights(run)?,
        (weights, _) => weights.unwrap_or_default(),
    };
    write_sample(&device, &config, &weights, &args.prompt, (args.tokens, sampling))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the prompt and its continuation, character by character.
pub fn write_sample(
    device: &Device,
    config: &Config,
    weights: &Weights,
    prompt: &str,
    (tokens, sampling): (usize, Sampling),
) -> Result<()> {
    let mut generator = Generator::new(device, gpt_config(config), weights)?;
    let prompt_tokens: Vec<u32> = prompt.bytes().map(u32::from).collect();
    print(prompt)?;
    let (mut text, mut failure): (Utf8, Option<Error>) = (Utf8::default(), None);
    generator.generate(&prompt_tokens, tokens, sampling, |token| {
        if let Err(error) = print(&text.push(token as u8)) {
            failure.get_or_insert(error);
        }
    })?;
    failure.map_or_else(|| say(""), Err)
}
