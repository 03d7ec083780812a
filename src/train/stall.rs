//! What saving costs a training that goes on: how long a step has to wait, and how much slower the steps are beside
//! which a checkpoint is written.
//!
//! Saves as a run does (`run/save.rs`), without its records. Knows no command line.

use super::bench::median;
use super::keeper::{Keeper, Standing};
use super::precision::Precision;
use super::trainer::{SAME_BATCH, Trainer};
use super::workloads::{Setup, Workload, setup};
use crate::error::{Error, Result};
use crate::gpu::Device;
use serde::Serialize;
use std::path::Path;
use web_time::Instant;

/// Steps before anything is timed, and steps that are timed without a save.
const WARMUP: usize = 3;
const PLAIN: usize = 20;
/// Saves that are timed.
const SAVES: usize = 7;
/// Steps after which a save that is still under way is waited for.
const MOST_BESIDE: usize = 200;

/// What saving cost, in milliseconds: medians.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stall {
    pub adapter: String,
    pub workload: String,
    /// Bytes of a checkpoint's tensors.
    pub state_bytes: u64,
    /// A step, results read back, while nothing is saved.
    pub step_ms: f64,
    /// The copy of the state from the device to the host, for which training stops.
    pub copy_ms: f64,
    /// What a save holds training up beyond that copy: handing it to the thread that writes.
    pub stall_ms: f64,
    /// The same as a part of a step, in percent.
    pub stall_percent: f64,
    /// A step while a checkpoint is written beside it; `None` if none was begun in that time.
    pub step_beside_ms: Option<f64>,
    /// From handing a copy over to its being on disk, as the steps beside it see it.
    pub write_ms: f64,
}

/// Trains a workload, and saves its checkpoints into a directory, which is left empty.
pub fn stall(workload: Workload, seed: u32, precision: Precision, directory: &Path, device: &Device) -> Result<Stall> {
    let Setup { trainer, loss, batch, .. } = setup(workload, seed)?;
    let mut trainer = trainer.precision(precision).build(device, loss)?;
    trainer.step(&batch)?;
    let plain = (0..WARMUP + PLAIN).map(|_| step(&mut trainer)).collect::<Result<Vec<f64>>>()?;
    let mut times = Times::default();
    let mut keeper = Keeper::new(directory);
    let saved = (0..=SAVES).try_for_each(|_| times.save(&mut trainer, &mut keeper, device));
    drop(keeper);
    let folder = directory.join(super::keeper::CHECKPOINTS);
    std::fs::remove_dir_all(&folder).or_else(|e| saved.clone().and(Err(Error::file(&folder, &e))))?;
    saved?;
    let middle = |times: &[f64]| middle(times).unwrap_or(f64::NAN);
    // The first save makes the folder.
    let (step_ms, stall_ms) = (middle(&plain[WARMUP..]), middle(&times.stall[1..]));
    Ok(Stall {
        adapter: device.name().into(),
        workload: workload.to_string(),
        state_bytes: times.bytes,
        step_ms,
        copy_ms: middle(&times.copy[1..]),
        stall_ms,
        stall_percent: 100.0 * stall_ms / step_ms,
        step_beside_ms: (!times.beside.is_empty()).then(|| middle(&times.beside)),
        write_ms: middle(&times.write[1..]),
    })
}

#[derive(Default)]
struct Times {
    bytes: u64,
    copy: Vec<f64>,
    stall: Vec<f64>,
    beside: Vec<f64>,
    write: Vec<f64>,
}

impl Times {
    /// One save, and steps until it is on disk.
    fn save(&mut self, trainer: &mut Trainer, keeper: &mut Keeper, device: &Device) -> Result<()> {
        let start = Instant::now();
        keeper.make_room().transpose()?;
        let copying = Instant::now();
        let mut state = trainer.checkpoint()?;
        let copied = copying.elapsed();
        self.bytes = state.tensors.iter().map(|tensor| tensor.bytes.len() as u64).sum();
        state.metadata.extend(Standing { adapter: device.name().into(), ..Standing::default() }.to_metadata());
        keeper.save(trainer.steps_done(), state, || Ok(())).transpose()?;
        self.stall.push(1e3 * (start.elapsed() - copied).as_secs_f64());
        self.copy.push(1e3 * copied.as_secs_f64());
        let handed = Instant::now();
        for _ in 0..MOST_BESIDE {
            let took = step(trainer)?;
            if let Some(outcome) = keeper.poll() {
                outcome?;
                break;
            }
            // The one in which the save ended is only partly beside it.
            self.beside.push(took);
        }
        self.write.push(1e3 * handed.elapsed().as_secs_f64());
        keeper.settle().transpose()?;
        Ok(())
    }
}

/// Milliseconds of a step.
fn step(trainer: &mut Trainer) -> Result<f64> {
    let start = Instant::now();
    trainer.step(SAME_BATCH)?;
    Ok(1e3 * start.elapsed().as_secs_f64())
}

fn middle(times: &[f64]) -> Option<f64> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    median(&sorted)
}
