//! `wgrad sample`: continue a prompt with the weights of a run.

use super::args::SampleArgs;
use super::cache;
use super::format::Utf8;
use super::{print, say};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::train::char_gpt::gpt_config;
use crate::train::config::{Config, TaskKind};
use crate::train::run::{read_config, read_weights};
use crate::train::{Generator, Sampling};
use std::path::Path;
use std::process::ExitCode;

/// Runs the command.
pub fn sample(args: &SampleArgs) -> Result<ExitCode> {
    let (path, text) = read_config(&args.run)?;
    let config = Config::from_toml(&path, &text)?;
    if config.task != TaskKind::Text {
        return Err(Error::Config(format!(
            "the run in {} is of the task `{}`, which writes no text; judge an image with `wgrad predict`",
            args.run.display(),
            config.task
        )));
    }
    let choice = args.adapter.choice().or(config.device.adapter.clone());
    let device = cache::open(choice.as_deref())?;
    let sampling = Sampling { temperature: args.temperature, top_k: args.top_k, seed: args.seed };
    write_sample(&device, &config, &args.run, &args.prompt, args.tokens, sampling)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the prompt and its continuation, character by character.
pub fn write_sample(
    device: &Device,
    config: &Config,
    run: &Path,
    prompt: &str,
    tokens: usize,
    sampling: Sampling,
) -> Result<()> {
    let mut generator = Generator::new(device, gpt_config(config), &read_weights(run)?)?;
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
