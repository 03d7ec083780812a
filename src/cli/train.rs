//! `wgrad train`: say what will happen, draw the progress, show what was learned.

use super::args::{ADAPTER_VARIABLE, TrainArgs};
use super::cache;
use super::format::{bytes, memory, thousands};
use super::sample::write_sample;
use super::signals::StopOnSignal;
use super::tune::with_measured;
use super::{print, report, say};
use crate::error::{ErrorKind, Result};
use crate::gpu::Device;
use crate::io::files::read_text;
use crate::io::safetensors::Weights;
use crate::train::config::{Config, MAX_CONFIG, RawConfig, TaskKind};
use crate::train::metrics::Record;
use crate::train::pictures::in_words;
use crate::train::roof::Roofs;
use crate::train::run::{Ended, Event, Outcome, Overview, Run, next_free_directory, read_config, read_weights};
use crate::train::task::Contents;
use crate::train::{Sampling, char_gpt, digits};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Steps of `--profile`: the least time of each dispatch counts.
const PROFILED_STEPS: usize = 5;

/// Runs the command.
pub fn train(args: &TrainArgs) -> Result<ExitCode> {
    let weights = args.weights.as_ref().map(Weights::load).transpose()?;
    let config = configure(args, weights.as_ref())?;
    let stop = StopOnSignal::install()?;
    let choice = config.device.adapter.clone().or(args.adapter.choice());
    let mut device = cache::open(choice.as_deref())?;
    say(format!("adapter   {} ({})", device.name(), device.profile().tier()))?;
    say(format!("          another: --adapter NAME or {ADAPTER_VARIABLE}; `wgrad devices` lists them"))?;
    let directory = match (&args.resume, &args.out) {
        (Some(directory), _) | (None, Some(directory)) => directory.clone(),
        (None, None) => next_free_directory(Path::new("runs")),
    };
    if config.device.autotune && args.resume.is_none() {
        device = with_measured(device, &config)?;
    }
    let mut run = match (&args.resume, &weights) {
        (Some(_), _) => Run::resume(config.clone(), &directory, &device)?,
        (None, Some(weights)) => Run::begin_from(config.clone(), &directory, &device, weights)?,
        (None, None) => Run::begin(config.clone(), &directory, &device)?,
    };
    run.stop_with(Arc::clone(&stop.flag));
    describe(&run.overview(), &directory)?;
    let outcome = {
        let mut progress = Progress::new(&run.overview());
        let outcome = run.train(&mut |event| match event {
            Event::Step(record) => progress.show(record),
            Event::Saved(_) => {}
            Event::Slower { step, lr } => {
                progress.note(&format!("step {step}: the learning rate goes down to {lr:.3e}"))
            }
            Event::Warning(warning) => progress.warn(warning),
        });
        progress.end();
        if let Err(error) = &outcome
            && matches!(error.kind(), ErrorKind::DeviceHung { .. })
        {
            report(error);
            // Giving the device back in good order would wait for it.
            std::process::exit(1);
        }
        outcome?
    };
    let finished = outcome.ended != Ended::Interrupted;
    let profile = if args.profile && finished { Some(run.profile(PROFILED_STEPS)?) } else { None };
    drop(run);
    drop(stop);
    conclude(&outcome, &config, &directory, &device)?;
    if let Some(profile) = profile {
        say("\nwhere the time of a step goes:")?;
        print(&profile.table(Some(&Roofs::measure(&device)?)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a file of weights says of the model that it is of.
pub fn of_weights(weights: &Weights) -> Result<RawConfig> {
    let mut raw = RawConfig::default();
    let digits = digits::sizes_of(weights);
    if !digits.is_empty() {
        raw.set("task", TaskKind::Digits.name(), "--weights")?;
    }
    let sizes = char_gpt::sizes_of(weights).into_iter().chain(digits);
    sizes.into_iter().try_for_each(|(key, size)| raw.set(key, &size, "--weights"))?;
    Ok(raw)
}

/// The configuration from weights, file (or the resumed run), flags and `--set`, later ones winning.
fn configure(args: &TrainArgs, weights: Option<&Weights>) -> Result<Config> {
    let mut raw = weights.map(of_weights).transpose()?.unwrap_or_default();
    if let Some(directory) = &args.resume {
        let (path, text) = read_config(directory)?;
        raw.read_toml(&path, &text)?;
    } else if let Some(path) = &args.config {
        let text = read_text(path, MAX_CONFIG)?;
        raw.read_toml(&path.display().to_string(), &text)?;
    }
    args.apply(&mut raw)?;
    raw.resolve()
}

fn describe(overview: &Overview, directory: &Path) -> Result<()> {
    match &overview.contents {
        Contents::Text { name, training, validation } => {
            say(format!("text      {name}: {} to train on, {} held out", bytes(*training), bytes(*validation)))?;
        }
        Contents::Images { name, classes, training, validation } => {
            let [training, validation] = [training, validation].map(|&n| thousands(n));
            say(format!("images    {name}: {classes} classes, {training} to train on, {validation} held out"))?;
        }
    }
    say(format!("model     {} parameters", thousands(overview.parameters as u64)))?;
    say(format!("memory    {}", memory(&overview.memory)))?;
    say(format!(
        "step      {} {}, {} dispatches",
        thousands(overview.per_step as u64),
        overview.unit.name(),
        overview.dispatches
    ))?;
    if let Some(fitted) = &overview.fitted {
        let parts = overview.micro_batches;
        let split = if parts > 1 { format!("; the batch is split into {parts}") } else { String::new() };
        say(format!("budget    {fitted}{split}"))?;
    }
    if overview.steps_done > 0 {
        say(format!("resumed   after step {} of {}", overview.steps_done, overview.steps))?;
    }
    say(format!("run       {}\n", directory.display()))
}

fn conclude(outcome: &Outcome, config: &Config, directory: &Path, device: &Device) -> Result<()> {
    let ended = match outcome.ended {
        Ended::Finished => "finished",
        Ended::StoppedEarly => "stopped early",
        Ended::Interrupted => {
            say(format!("stopped after step {} of {}; everything is saved", outcome.steps, config.train.steps))?;
            return say(format!("go on with: wgrad train --resume {}", quoted(directory)));
        }
    };
    match outcome.best {
        Some((step, loss)) => {
            say(format!("{ended} after step {}; best validation loss {loss:.4} at step {step}", outcome.steps))?
        }
        None => say(format!("{ended} after step {}", outcome.steps))?,
    }
    if let Some(confusion) = &outcome.confusion {
        say(format!("held out  {} after the last step", in_words(confusion)))?;
    }
    let shown = directory.display();
    if config.task == TaskKind::Text {
        show_sample(config, directory, device)?;
        say(format!("\nthe run is in {shown}: loss.svg shows the curve, metrics.jsonl holds it"))?;
        return say(format!("more text: wgrad sample --run {} --prompt \"impl \"", quoted(directory)));
    }
    say(format!(
        "\nthe run is in {shown}: confusion.svg shows what was taken for what, loss.svg and accuracy.svg the curves"
    ))?;
    let run = quoted(directory);
    say(format!("again:    wgrad eval --run {run}\nan image: wgrad predict --run {run} FILE"))
}

fn show_sample(config: &Config, directory: &Path, device: &Device) -> Result<()> {
    // The embedded text is code; of another text nothing is known but that it has lines.
    let prompt = if config.data.path.is_none() { "fn " } else { "\n" };
    say("\n---- a sample ----")?;
    write_sample(device, config, &read_weights(directory)?, prompt, (400, Sampling::default()))?;
    say("------------------")
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = PathBuf::from(path).display().to_string();
    if text.contains(' ') { format!("\"{text}\"") } else { text }
}

/// A bar on a terminal; elsewhere a line for each evaluation.
struct Progress {
    bar: ProgressBar,
    lines: bool,
    unit: &'static str,
    val_loss: Option<f32>,
    val_accuracy: Option<f32>,
    /// Tokens or images in a second, smoothed.
    rate: f64,
}

impl Progress {
    fn new(overview: &Overview) -> Progress {
        let lines = !std::io::stderr().is_terminal();
        let target = if lines { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(10) };
        let bar = ProgressBar::with_draw_target(Some(overview.steps), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}  ETA {eta}") {
            bar.set_style(style);
        }
        // The ETA must not count the steps of an earlier part.
        bar.set_position(overview.steps_done);
        bar.reset_eta();
        Progress { bar, lines, unit: overview.unit.name(), val_loss: None, val_accuracy: None, rate: 0.0 }
    }

    fn show(&mut self, record: &Record) {
        self.val_loss = record.val_loss.or(self.val_loss);
        self.val_accuracy = record.val_accuracy.or(self.val_accuracy);
        // Smoothed: single steps differ by when their results happen to arrive.
        let weight = if self.rate == 0.0 { 1.0 } else { 0.1 };
        self.rate += weight * (record.tokens_s.or(record.images_s).unwrap_or(self.rate) - self.rate);
        let val_loss = self.val_loss.map_or("-".into(), |loss| format!("{loss:.4}"));
        let accuracy = self.val_accuracy.map_or(String::new(), |part| format!(" ({:.1}% right)", 100.0 * part));
        let message = format!("loss {:.4}  val {val_loss}{accuracy}  {:.0} {}/s", record.loss, self.rate, self.unit);
        self.bar.set_message(message.clone());
        self.bar.set_position(record.step);
        if self.lines && (record.val_loss.is_some() || record.step == 1) {
            // Nothing can be done if standard error is closed.
            let _ =
                std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("step {}  {message}\n", record.step));
        }
    }

    fn warn(&self, warning: &str) {
        self.note(&format!("warning: {warning}"));
    }

    /// A line of its own, above the bar.
    fn note(&self, line: &str) {
        self.bar.suspend(|| {
            // Nothing can be done if standard error is closed.
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{line}\n"));
        });
    }

    fn end(&self) {
        self.bar.abandon();
    }
}
