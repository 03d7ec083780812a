//! The command line: parse, validate, call `train`. Thin.
//!
//! One file a command. Results go to standard output, progress and errors to standard error. A
//! mistake of the user's is one message and exit code 2; a failure of the machine is exit code 1.

pub mod args;
mod bench;
mod cache;
mod debug;
mod devices;
mod eval;
mod explain;
mod plan;
mod format;
mod predict;
mod roof;
mod sample;
mod signals;
mod train;
mod tune;

use crate::error::{Error, ErrorKind, Result};
use args::{Cli, Command};
use clap::Parser;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use web_time::Instant;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let started = Instant::now();
    let outcome = match Cli::parse().command {
        Command::Train(args) => train::train(&args),
        Command::Eval(args) => eval::eval(&args),
        Command::Predict(args) => predict::predict(&args),
        Command::Sample(args) => sample::sample(&args),
        Command::Debug(args) => debug::debug(&args),
        Command::Devices => devices::devices(),
        Command::Roof(args) => roof::roof(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Bench(args) => bench::bench(&args, started),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

/// The one message of a command that failed.
fn report(error: &Error) -> ExitCode {
    // Nothing can be done if standard error is closed.
    let _ = writeln!(std::io::stderr(), "error: {error}");
    exit_code(error)
}

/// 2 for what the user can put right, 1 for what failed beneath.
fn exit_code(error: &Error) -> ExitCode {
    match error.kind() {
        ErrorKind::Kernel { .. }
        | ErrorKind::Device { .. }
        | ErrorKind::DeviceLost { .. }
        | ErrorKind::DeviceHung { .. }
        | ErrorKind::Compile { .. }
        | ErrorKind::Trace { .. }
        | ErrorKind::NoGradient(_) => ExitCode::from(1),
        ErrorKind::NoAdapter(_)
        | ErrorKind::Memory(_)
        | ErrorKind::Feed(_)
        | ErrorKind::NotFinite { .. }
        | ErrorKind::Config(_)
        | ErrorKind::File { .. }
        | ErrorKind::NotCommitted { .. }
        | ErrorKind::DurabilityUncertain { .. }
        | ErrorKind::Unsupported(_)
        | ErrorKind::Format { .. } => ExitCode::from(2),
    }
}

/// A line on standard output.
fn say(line: impl Display) -> Result<()> {
    print(&format!("{line}\n"))
}

/// Text on standard output. A reader that has gone away (`wgrad explain | head`) is no failure, and
/// ends the process.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Error::file("standard output", &e)),
    }
}
