//! `wgrad debug`: which tensor went bad first.

use super::args::DebugArgs;
use super::cache;
use super::format::table;
use super::say;
use crate::error::Result;
use crate::train::config::Config;
use crate::train::debug;
use crate::train::run::read_config;
use std::process::ExitCode;

/// Tensors without `--all`: what follows is mostly consequence.
const SHOWN: usize = 20;

/// Runs the command.
pub fn debug(args: &DebugArgs) -> Result<ExitCode> {
    let (path, text) = read_config(&args.run)?;
    let config = Config::from_toml(&path, &text)?;
    let choice = args.adapter.choice().or(config.device.adapter.clone());
    let device = cache::open(choice.as_deref())?;
    let Some(findings) = debug::debug(&config, &args.run, &device, args.step)? else {
        say(format!("the steps after the newest checkpoint are all fine, to step {}", config.train.steps))?;
        return Ok(ExitCode::SUCCESS);
    };
    let norm = findings.grad_norm.map_or(String::new(), |norm| format!(", norm of the gradients {norm}"));
    say(format!("step {}: loss {}{norm}", findings.step, findings.loss))?;
    say(findings.first())?;
    if !findings.bad.is_empty() {
        let mut rows = vec![["not finite", "tensor, in the order of the step"].map(String::from)];
        let shown = if args.all { findings.bad.len() } else { SHOWN };
        rows.extend(findings.bad.iter().take(shown).map(|bad| [bad.elements.to_string(), bad.what.clone()]));
        say(table(&rows).trim_end())?;
        let rest = findings.bad.len().saturating_sub(shown);
        if rest > 0 {
            say(format!("and {rest} more, which --all shows"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
