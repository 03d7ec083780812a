//! `wgrad bench`: each workload in a process of its own, one JSON line each.

use super::args::BenchArgs;
use super::cache;
use super::say;
use super::tune::with_table;
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::train::bench::{Samples, failed, measure, profile};
use crate::train::encode::host_cost;
use crate::train::recovery::recovery;
use crate::train::roof::Roofs;
use crate::train::roofline::roofline;
use crate::train::stall::stall;
use crate::train::workloads::Workload;
use serde::Serialize;
use std::path::Path;
use std::process::{Command, ExitCode};
use web_time::Instant;

/// Runs the command; `started` is when this process began.
pub fn bench(args: &BenchArgs, started: Instant) -> Result<ExitCode> {
    if args.host {
        return args.workloads.iter().try_for_each(|&workload| host(args, workload)).map(|()| ExitCode::SUCCESS);
    }
    if args.recovery {
        return args.workloads.iter().try_for_each(|&workload| lost(args, workload)).map(|()| ExitCode::SUCCESS);
    }
    if args.here {
        return args.workloads.iter().try_fold(ExitCode::SUCCESS, |code, &workload| {
            Ok(if measure_here(args, workload, started)? { code } else { ExitCode::from(1) })
        });
    }
    let mut code = ExitCode::SUCCESS;
    for &workload in &args.workloads {
        match in_child(args, workload)? {
            Some(0) => {}
            // The child has said what the user can put right.
            Some(2) => return Ok(ExitCode::from(2)),
            Some(1) => code = ExitCode::from(1),
            other => {
                let reason = other.map_or("killed by a signal".into(), |code| format!("exit code {code}"));
                print_line(&failed(workload, args.adapter.choice().as_deref().unwrap_or("default"), &reason))?;
                code = ExitCode::from(1);
            }
        }
    }
    Ok(code)
}

/// What a step costs the host, on the adapter and on one that executes nothing: a JSON line each.
fn host(args: &BenchArgs, workload: Workload) -> Result<()> {
    let device = cache::open(args.adapter.choice().as_deref())?;
    let fake = Device::fake(device.profile())?;
    for (device, usual) in [(device, 20), (fake, 2000)] {
        let cost = host_cost(workload, args.precision, args.steps.unwrap_or(usual), &device)?;
        print_line(&cost)?;
    }
    Ok(())
}

/// How long a training takes to stand on another device: a JSON line.
fn lost(args: &BenchArgs, workload: Workload) -> Result<()> {
    let device = cache::open(args.adapter.choice().as_deref())?;
    print_line(&recovery(workload, args.seed, args.precision, args.steps.unwrap_or(0), &device)?)
}

/// Measures in a new process, which prints the line itself. Its exit code.
fn in_child(args: &BenchArgs, workload: Workload) -> Result<Option<i32>> {
    let program = std::env::current_exe().map_err(|e| Error::file("the running program", &e))?;
    let mut child = Command::new(&program);
    child.args(["bench", "--here", &workload.to_string(), "--seed", &args.seed.to_string()]);
    child.args(["--precision", args.precision.name()]);
    for (flag, number) in [("--warmup", args.warmup), ("--steps", args.steps)] {
        if let Some(number) = number {
            child.args([flag, &number.to_string()]);
        }
    }
    let BenchArgs { profile, tuned, recompute, norms, .. } = args;
    for (flag, given) in [("--profile", profile), ("--tuned", tuned), ("--recompute", recompute), ("--norms", norms)] {
        if *given {
            child.arg(flag);
        }
    }
    for (flag, file) in [("--trace", &args.trace), ("--roofline", &args.roofline), ("--saves", &args.saves)] {
        if let Some(file) = file {
            child.arg(flag).arg(file);
        }
    }
    if let Some(adapter) = args.adapter.choice() {
        child.args(["--adapter", &adapter]);
    }
    Ok(child.status().map_err(|e| Error::file(&program, &e))?.code())
}

/// Measures in this process. Whether it worked.
fn measure_here(args: &BenchArgs, workload: Workload, started: Instant) -> Result<bool> {
    let mut device = cache::open(args.adapter.choice().as_deref())?;
    if args.tuned {
        device = with_table(&device)?;
    }
    let (warmup, timed) = workload.standard_steps();
    let (warmup, timed) = (args.warmup.unwrap_or(warmup), args.steps.unwrap_or(timed));
    let (seed, precision, recompute, norms) = (args.seed, args.precision, args.recompute, args.norms);
    let samples = Samples { started, warmup, timed, seed, precision, recompute, norms };
    let line =
        measure(workload, samples, &device).unwrap_or_else(|error| failed(workload, device.name(), &error.to_string()));
    let worked = line.median_ms.is_some();
    print_line(&line)?;
    if worked && (args.profile || args.trace.is_some() || args.roofline.is_some()) {
        print_profile(args, workload, &device)?;
    }
    if let Some(directory) = args.saves.as_ref().filter(|_| worked) {
        print_line(&stall(workload, args.seed, args.precision, directory, &device)?)?;
    }
    Ok(worked)
}

/// Rounds of a profile: the least time of each dispatch counts.
const ROUNDS: usize = 10;

fn print_profile(args: &BenchArgs, workload: Workload, device: &Device) -> Result<()> {
    let profile = profile(workload, args.seed, args.precision, ROUNDS, device)?;
    let write = |path: &Path, text: String| std::fs::write(path, text).map_err(|e| Error::file(path, &e));
    if let Some(path) = &args.trace {
        write(path, profile.trace())?;
    }
    if !args.profile && args.roofline.is_none() {
        return Ok(());
    }
    let roofs = Roofs::measure(device)?;
    if let Some(path) = &args.roofline {
        let title = format!("{workload} under the roofs of {}", device.name());
        write(path, roofline(&profile, &roofs, &title))?;
    }
    if args.profile { say(profile.table(Some(&roofs)).trim_end()) } else { Ok(()) }
}

fn print_line(line: &impl Serialize) -> Result<()> {
    say(serde_json::to_string(line).map_err(|e| Error::config(format!("the result cannot be written: {e}")))?)
}
