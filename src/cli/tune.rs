//! `wgrad tune`, and `device.autotune`: kernels measured on this adapter, and the table that keeps what was found.

use super::args::TuneArgs;
use super::cache;
use super::format::table;
use super::{print, say};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::io::choices::ChoiceFile;
use crate::kernels::attention::AttentionShape;
use crate::kernels::matmul::Matmul;
use crate::kernels::{Choices, Units};
use crate::lower::Tunable;
use crate::train::Precision;
use crate::train::config::{Config, RawConfig};
use crate::train::run::read_config;
use crate::train::task::Task;
use crate::train::tune::shapes::{shapes, usual_limit};
use crate::train::tune::{Candidate, Clock, Found, Tuned, missing, tune};
use crate::train::workloads::{Workload, setup, square};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs the command.
pub fn run(args: &TuneArgs) -> Result<ExitCode> {
    if args.check {
        return check(&Device::open(args.adapter.choice().as_deref())?, args);
    }
    let path = table_path()?;
    if let Some(from) = &args.import {
        let mut file = ChoiceFile::read_if_there(&path)?;
        file.merge(ChoiceFile::read(from)?);
        file.write(&path)?;
        say(format!("{} is in {}", from.display(), path.display()))?;
    }
    let subjects = subjects(args)?;
    if !subjects.is_empty() {
        let device = Device::open(args.adapter.choice().as_deref())?;
        say(device.identity())?;
        let mut tunable = Tunable::default();
        for subject in subjects {
            tunable.add(subject.tunable(&device)?);
        }
        measure(&with_table(&device)?, tunable, &path)?;
    }
    if let Some(to) = &args.export {
        ChoiceFile::read_if_there(&path)?.write(to)?;
        say(format!("the table is in {} too; another machine takes it by `wgrad tune --import`", to.display()))?;
    }
    if args.list {
        let file = ChoiceFile::read_if_there(&path)?;
        say(path.display())?;
        for (adapter, count) in file.adapters() {
            say(format!("{count:6} choices   {adapter}"))?;
            match file.of(adapter).units() {
                Units::Unchecked => {}
                Units::Right => say("       matrix units  right")?,
                Units::Wrong(seen) => say(format!("       matrix units  ruled out: {seen}"))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is measured for.
enum Subject {
    Workload(Workload, Precision),
    Config(Box<Config>),
}

fn subjects(args: &TuneArgs) -> Result<Vec<Subject>> {
    let mut subjects: Vec<Subject> =
        args.workloads.iter().map(|&workload| Subject::Workload(workload, args.precision)).collect();
    let mut read = |path: &str, text: &str| -> Result<()> {
        let mut raw = RawConfig::default();
        raw.read_toml(path, text)?;
        subjects.push(Subject::Config(Box::new(raw.resolve()?)));
        Ok(())
    };
    if let Some(directory) = &args.run {
        let (path, text) = read_config(directory)?;
        read(&path, &text)?;
    }
    if let Some(path) = &args.config {
        let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, &e))?;
        read(&path.display().to_string(), &text)?;
    }
    if subjects.is_empty() && args.import.is_none() && args.export.is_none() && !args.list {
        return Err(Error::config(
            "name what to measure for: workloads such as W4, --run DIR or --config FILE (or --list, --import, --export)"
                .into(),
        ));
    }
    Ok(subjects)
}

impl Subject {
    fn tunable(&self, device: &Device) -> Result<Tunable> {
        match self {
            Subject::Workload(Workload::W1(size), precision) => {
                let square = square(*size, precision.dtype());
                Ok(Tunable { products: vec![(square, 1)], attentions: vec![] })
            }
            Subject::Workload(workload, precision) => {
                let setup = setup(*workload, 0)?;
                setup.trainer.precision(*precision).tunable(device.profile(), &*setup.loss)
            }
            Subject::Config(config) => tunable_of(config, device),
        }
    }
}

fn tunable_of(config: &Config, device: &Device) -> Result<Tunable> {
    let model = Task::new(config)?.model;
    model.trainer.tunable(device.profile(), &*model.loss)
}

/// What the rules' kernels take and what the winners do, in microseconds of a step, and how far the former are behind.
#[derive(Default)]
struct Sums {
    rules: f64,
    best: f64,
    regrets: Vec<f64>,
}

impl Sums {
    fn add<P, V>(&mut self, tuned: &Tuned<P, V>) {
        let (rule, winner) = (tuned.candidates.first().and_then(|it| it.micros), tuned.winner());
        if let (Some(rule), Some(winner)) = (rule, winner.and_then(|it| it.micros)) {
            self.rules += rule * tuned.count as f64;
            self.best += winner * tuned.count as f64;
        }
        self.regrets.extend(tuned.regret());
    }

    /// How many times the best the rules' kernels take on average.
    fn mean_regret(&self) -> f64 {
        self.regrets.iter().sum::<f64>() / self.regrets.len().max(1) as f64
    }
}

/// Measures, says what was found, and keeps it.
fn measure(device: &Device, tunable: Tunable, path: &Path) -> Result<()> {
    say(format!("{} to measure", counted(&tunable)))?;
    let mut sums = Sums::default();
    let choices = tune(device, tunable, Clock::Device, &mut |found| {
        match found {
            Found::Product(tuned) => sums.add(tuned),
            Found::Attention(tuned) => sums.add(tuned),
        }
        print(&line(found))
    })?;
    say_units(device, &choices)?;
    let mut file = ChoiceFile::read_if_there(path)?;
    file.add(&device.identity(), choices);
    file.write(path)?;
    say(format!(
        "the rules' kernels take {:.3} ms, the winners {:.3} ms; on average the rules' is {:.0} % slower than the best",
        sums.rules / 1e3,
        sums.best / 1e3,
        100.0 * (sums.mean_regret() - 1.0)
    ))?;
    say(format!("kept in {}; runs with device.autotune = true use it from their next start", path.display()))
}

/// Such as `13 products and 1 attention`.
fn counted(Tunable { products, attentions }: &Tunable) -> String {
    let of = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    match attentions.len() {
        0 => of(products.len(), "product"),
        count => format!("{} and {}", of(products.len(), "product"), of(count, "attention")),
    }
}

/// Judges the choice that is made without measuring.
fn check(device: &Device, args: &TuneArgs) -> Result<ExitCode> {
    say(device.identity())?;
    let clock = if args.processor { Clock::Processor } else { Clock::Device };
    let limit = args.largest.map_or_else(|| usual_limit(device.profile()), |mflop| mflop.saturating_mul(1_000_000));
    let products = shapes(device.profile(), limit)?;
    let (total, mut sums, mut wrong) = (products.len(), Sums::default(), 0);
    say(format!("{total} products, every candidate of each"))?;
    let all = Tunable { products: products.into_iter().map(|product| (product, 1)).collect(), attentions: vec![] };
    tune(device, all, clock, &mut |found| {
        let Found::Product(tuned) = found else { return Ok(()) };
        wrong += tuned.candidates.iter().filter(|candidate| candidate.micros.is_none()).count();
        sums.add(tuned);
        let behind = tuned.regret().map_or("wrong".into(), |regret| format!("{regret:.2}"));
        print(&format!("{}  the chosen one takes {behind} times the best\n", line(found)))
    })?;
    let (mean, regrets) = (sums.mean_regret(), sums.regrets);
    let worst = regrets.iter().copied().fold(1.0, f64::max);
    let near = regrets.iter().filter(|regret| **regret <= 1.2).count();
    say(format!(
        "{} products: the chosen kernel takes {mean:.3} times the best on average, {worst:.2} at worst; {near} are within 1.2; \
         {wrong} candidates were wrong",
        regrets.len()
    ))?;
    Ok(if wrong == 0 && regrets.len() == total { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A product or an attention with its candidates' times, the winner marked.
fn line(found: Found<'_>) -> String {
    match found {
        Found::Product(tuned) => product_line(&tuned.of, tuned.count) + &times(tuned),
        Found::Attention(tuned) => attention_line(&tuned.of, tuned.count) + &times(tuned),
    }
}

fn product_line(mm: &Matmul, count: u64) -> String {
    let what = if mm.walks.iter().any(Option::is_some) { "convolution" } else { "product" };
    let batches = mm.batch[0] * mm.batch[1];
    let (m, n, k, read) = (mm.m, mm.n, mm.k, mm.read());
    format!("{what} {m} x {n} x {k}, {batches} at once, {count} in a step, reads {read}\n")
}

fn attention_line(shape: &AttentionShape, count: u64) -> String {
    format!("{}, {count} in a step, forward and backward\n", shape.name())
}

fn times<P, V: fmt::Display>(tuned: &Tuned<P, V>) -> String {
    let winner = tuned.winner().map(|winner| winner as *const Candidate<V>);
    let rows: Vec<[String; 3]> = tuned
        .candidates
        .iter()
        .map(|candidate| {
            let won = winner.is_some_and(|winner| std::ptr::eq(winner, candidate));
            let time = candidate.micros.map_or("wrong".into(), |micros| format!("{:.3} ms", micros / 1e3));
            [format!("  {}", candidate.variant), time, if won { "*".into() } else { String::new() }]
        })
        .collect();
    table(&rows)
}

/// The device with the kernels that are in this user's table.
pub fn with_table(device: &Device) -> Result<Device> {
    let choices = ChoiceFile::read_if_there(&table_path()?)?.of(&device.identity());
    Ok(device.with_choices(choices))
}

/// The device with the kernels that were measured for a model; what is not known yet is measured now.
pub fn with_measured(device: Device, config: &Config) -> Result<Device> {
    let path = table_path()?;
    let mut file = ChoiceFile::read_if_there(&path)?;
    let device = device.with_choices(file.of(&device.identity()));
    let missing = missing(&device, tunable_of(config, &device)?);
    if !missing.products.is_empty() || !missing.attentions.is_empty() {
        say(format!("autotune  measuring kernels for {}; what is found is kept", counted(&missing)))?;
        let found = tune(&device, missing, Clock::Device, &mut |_| Ok(()))?;
        say_units(&device, &found)?;
        file.add(&device.identity(), found);
        file.write(&path)?;
    }
    let choices = file.of(&device.identity());
    Ok(device.with_choices(choices))
}

/// Says what was found of the device's matrix units, if that is new.
fn say_units(device: &Device, found: &Choices) -> Result<()> {
    if device.profile().choices.units() == found.units() {
        return Ok(());
    }
    match found.units() {
        Units::Unchecked => Ok(()),
        Units::Right => {
            say("matrix units: they give the numbers of the other kernels, and are used where they are faster")
        }
        Units::Wrong(seen) => {
            say(format!("matrix units: ruled out on this adapter under this driver, because they are wrong: {seen}"))
        }
    }
}

/// Where this user's table lies.
fn table_path() -> Result<PathBuf> {
    let nowhere = "there is no directory for caches: set HOME (or XDG_CACHE_HOME; on Windows LOCALAPPDATA)";
    Ok(cache::directory().ok_or_else(|| Error::config(nowhere.into()))?.join("kernels.json"))
}
