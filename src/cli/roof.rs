//! `wgrad roof`: what an adapter can do at most.

use super::args::RoofArgs;
use super::format::{bytes, table};
use super::{print, say};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::train::roof::Roofs;
use serde::Serialize;
use std::process::ExitCode;

#[derive(Serialize)]
struct Line<'a> {
    adapter: &'a str,
    #[serde(flatten)]
    roofs: &'a Roofs,
}

/// Measures the adapter and prints its roofs.
pub fn roof(args: &RoofArgs) -> Result<ExitCode> {
    let device = Device::open(args.adapter.choice().as_deref())?;
    let roofs = Roofs::measure(&device)?;
    if args.json {
        let line = serde_json::to_string(&Line { adapter: device.name(), roofs: &roofs });
        say(line.map_err(|e| Error::config(format!("the result cannot be written: {e}")))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    say(device.name())?;
    let arithmetic = |dtype: &str, rate: f64| [format!("arithmetic, {dtype}"), format!("{rate:.1}"), "GFLOP/s".into()];
    let mut rows = vec![arithmetic("f32", roofs.gflops)];
    rows.extend(roofs.gflops_f16.map(|rate| arithmetic("f16", rate)));
    let copy =
        |amount: u64, rate: f64| [format!("{} read and written", bytes(amount)), format!("{rate:.1}"), "GB/s".into()];
    rows.extend(roofs.copies.iter().map(|at| copy(at.bytes, at.gigabytes)));
    print(&table(&rows))?;
    say(format!(
        "a kernel that does fewer than {:.1} operations for a byte of memory is held up by the memory",
        roofs.gflops / roofs.memory()
    ))?;
    Ok(ExitCode::SUCCESS)
}
