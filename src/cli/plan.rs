//! `wgrad plan`: what a step will need, before anything is allocated.

use super::args::{Limits, PlanArgs};
use super::format::{bytes, table, thousands};
use super::{explain, print, say};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::Device;
use crate::io::files::write_atomic;
use crate::kernels::Profile;
use crate::lower::{Rates, Recompute};
use crate::train::TrainerBuilder;
use crate::train::config::{Config, RawConfig, Recompute as Twice};
use crate::train::plan::Report;
use crate::train::roof::Roofs;
use crate::train::run::{read_config, split_to_fit};
use crate::train::task::{Loss, Model, Task};
use crate::train::timeline::timeline;
use std::process::ExitCode;
use web_time::Instant;

/// What is planned: its name, model, loss and micro-batches.
struct Subject {
    name: String,
    trainer: TrainerBuilder,
    loss: Loss,
    micro_batches: usize,
}

/// For what it is planned: a name, limits, rates and where they come from.
struct Target {
    name: String,
    profile: Profile,
    rates: Rates,
    of: String,
}

/// Runs the command.
pub fn plan(args: &PlanArgs) -> Result<ExitCode> {
    let configured = configured(args)?;
    let target = target(args, configured.as_ref().and_then(|(_, config)| config.device.adapter.clone()))?;
    let begun = Instant::now();
    let Subject { name, trainer, loss, micro_batches } = match configured {
        Some((name, config)) => of_config(args, name, config, &target.profile)?,
        None => of_model(args)?,
    };
    let plan = trainer.plan(&target.profile, loss)?;
    let seconds = begun.elapsed().as_secs_f64();
    let report = Report::new(&name, &target.name, &plan, micro_batches, (&target.rates, &target.of));
    if let Some(path) = &args.svg {
        write_atomic(path, timeline(&plan, &report).as_bytes())?;
    }
    if args.json {
        let line = serde_json::to_string(&report);
        say(line.map_err(|e| Error::config(format!("the result cannot be written: {e}")))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    show(&report)?;
    if let Some(fitted) = &plan.fitted {
        say(format!("\n{fitted}"))?;
    }
    say(format!("\nplanned in {seconds:.2} s"))?;
    Ok(ExitCode::SUCCESS)
}

/// The configuration that is to be planned for, if it is not a model alone.
fn configured(args: &PlanArgs) -> Result<Option<(String, Config)>> {
    if let Some(run) = &args.run {
        let (path, text) = read_config(run)?;
        return Ok(Some((run.display().to_string(), Config::from_toml(&path, &text)?)));
    }
    let Some(path) = &args.config else { return Ok(None) };
    let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, &e))?;
    let (mut raw, shown) = (RawConfig::default(), path.display().to_string());
    raw.read_toml(&shown, &text)?;
    Ok(Some((shown, raw.resolve()?)))
}

/// As `wgrad train` would begin it: the batch is cut where the memory that is allowed asks for it.
fn of_config(args: &PlanArgs, name: String, mut config: Config, profile: &Profile) -> Result<Subject> {
    config.device.memory = args.memory.or(config.device.memory);
    config.train.precision = args.precision.unwrap_or(config.train.precision);
    if args.recompute {
        config.train.recompute = Twice::Auto;
    }
    split_to_fit(&Task::new, &mut config, profile)?;
    let Model { trainer, loss } = Task::new(&config)?.model;
    Ok(Subject { name, trainer, loss, micro_batches: config.train.accumulate })
}

fn of_model(args: &PlanArgs) -> Result<Subject> {
    let Some(model) = args.model else {
        return Err(Error::config("name a model, or --config FILE, or --run DIR".into()));
    };
    let (trainer, loss) = explain::model(model)?;
    let name = clap::ValueEnum::to_possible_value(&model).map_or(String::new(), |value| value.get_name().to_string());
    let trainer = match args.precision {
        Some(precision) => trainer.precision(precision),
        None => trainer,
    };
    let trainer = if args.recompute { trainer.recompute(Recompute::Auto) } else { trainer };
    let trainer = match args.memory {
        Some(budget) => trainer.memory(budget),
        None => trainer,
    };
    Ok(Subject { name, trainer, loss, micro_batches: 1 })
}

fn target(args: &PlanArgs, adapter: Option<String>) -> Result<Target> {
    let choice = args.adapter.choice().or(adapter);
    let without = |limits: Limits| {
        let (profile, of) = (limits.profile(), "guessed for a discrete GPU".into());
        Ok(Target { name: limits.name().into(), rates: Rates::typical(&profile), profile, of })
    };
    if let Some(limits) = args.limits {
        return without(limits);
    }
    match Device::open(choice.as_deref()) {
        Ok(device) => {
            let (profile, roofs) = (device.profile().clone(), Roofs::measure(&device)?);
            let launch = Rates::typical(&profile).launch;
            let rates = Rates { gflops: roofs.gflops, gigabytes: roofs.memory(), launch };
            let of = format!(
                "measured: {:.0} GFLOP/s, {:.1} GB/s; kernels reach a part of both",
                rates.gflops, rates.gigabytes
            );
            Ok(Target { name: device.name().into(), profile, rates, of })
        }
        Err(error) if choice.is_none() && matches!(error.kind(), ErrorKind::NoAdapter(_)) => without(Limits::Webgpu),
        Err(error) => Err(error),
    }
}

fn show(report: &Report) -> Result<()> {
    say(format!("{} on {}\n", report.name, report.adapter))?;
    let memory = &report.memory;
    let part = |name: &str, n: u64| [name.to_string(), bytes(n), String::new()];
    let mut rows = vec![
        part("weights", memory.weights),
        part("gradients", memory.gradients),
        part("optimizer", memory.optimizer),
        part("other state", memory.other_state),
        part("activations", report.activations),
        part("workspace", report.workspace),
        part("inputs and uniforms", memory.io),
        part("readback", memory.readback),
    ];
    rows.retain(|[name, n, _]| n != "0 bytes" || name == "activations");
    rows.push(part("in all, exactly", report.total));
    print(&table(&rows))?;
    let head = ["", "dispatches", "GFLOP", "moved", "live at most", "estimated"].map(String::from);
    let work = report.programs.iter().map(|work| {
        [
            work.name.clone(),
            thousands(work.dispatches as u64),
            format!("{:.2}", work.flops as f64 / 1e9),
            bytes(work.bytes_moved),
            bytes(work.alive),
            format!("{:.2} ms", work.estimated_ms),
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(work).collect();
    print(&format!("\n{}", table(&rows)))?;
    let parts =
        if report.micro_batches > 1 { format!(", {} micro-batches", report.micro_batches) } else { String::new() };
    say(format!("a step: about {:.2} ms{parts} (rates {})", report.step_ms, report.rates))?;
    if report.recomputed.dispatches > 0 {
        let again = &report.recomputed;
        let (before, after) = (bytes(again.before), bytes(again.after));
        say(format!(
            "computed twice: {} dispatches, {:.0} % of the micro-step's time; live at most {after} in place of {before}",
            again.dispatches,
            100.0 * again.extra
        ))?;
    }
    say(format!("\nlargest values alive at the peak ({}):", report.peak_at))?;
    let row = |value: &crate::train::plan::Alive| {
        [bytes(value.bytes), if value.waits { "waits" } else { "in use" }.into(), value.name.clone()]
    };
    print(&table(&report.peak.iter().map(row).collect::<Vec<_>>()))
}
