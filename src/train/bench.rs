//! The standard workloads timed: one JSON line each, in the form of the peers' programs.
//!
//! One process measures one workload, so that cold times are cold and memory is its own.

use super::precision::Precision;
use super::products::{CHAIN, product_session};
use super::profile::Profile;
use super::trainer::SAME_BATCH;
use super::workloads::{Setup, Workload, setup};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::lower::Recompute;
use serde::Serialize;
use web_time::Instant;

/// One line of results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    pub peer: &'static str,
    pub version: &'static str,
    pub adapter: String,
    pub workload: String,
    /// One step (W1: one product), results read back; `None` if the workload failed.
    pub median_ms: Option<f64>,
    pub min_ms: Option<f64>,
    /// From the start of the process to the end of the first step.
    pub cold_s: Option<f64>,
    /// Largest resident set of the process, where the system tells it.
    pub peak_rss_mb: Option<f64>,
    pub loss_first: Option<f64>,
    pub loss_last: Option<f64>,
    pub note: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gflops: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_s: Option<f64>,
}

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub struct Samples {
    /// When the process began.
    pub started: Instant,
    pub warmup: usize,
    pub timed: usize,
    pub seed: u32,
    /// Of training, or of the matrices of W1.
    pub precision: Precision,
    /// Whether activations are computed twice, of training.
    pub recompute: bool,
    /// Whether each parameter's norm and its gradient's are computed and read back in each step, of training.
    pub norms: bool,
}

/// Times of single samples in seconds, the first sample's end, and what else was found.
struct Timed {
    seconds: Vec<f64>,
    cold_s: f64,
    losses: Vec<f32>,
    note: String,
}

/// Runs a workload and times its steps.
pub fn measure(workload: Workload, samples: Samples, device: &Device) -> Result<Measurement> {
    let timed = match workload {
        Workload::W1(size) => products(size, samples, device)?,
        Workload::W2 | Workload::W3 | Workload::W4 | Workload::W5 => training(workload, samples, device)?,
    };
    let mut sorted = timed.seconds.clone();
    sorted.sort_by(f64::total_cmp);
    let (Some(&min), Some(median)) = (sorted.first(), median(&sorted)) else {
        return Err(Error::config("there must be at least one timed step".into()));
    };
    let (gflops, tokens_s) = match workload {
        Workload::W1(size) => (Some(round(2.0 * (size as f64).powi(3) / median / 1e9, 2)), None),
        Workload::W2 | Workload::W3 => (None, None),
        Workload::W4 => (None, Some(round(1024.0 / median, 1))),
        Workload::W5 => (None, Some(round(4096.0 / median, 1))),
    };
    let loss = |loss: Option<&f32>| loss.map(|&loss| round(f64::from(loss), 6));
    Ok(Measurement {
        median_ms: Some(round(median * 1e3, 4)),
        min_ms: Some(round(min * 1e3, 4)),
        cold_s: Some(round(timed.cold_s, 3)),
        peak_rss_mb: peak_rss_mb(),
        loss_first: loss(timed.losses.first()),
        loss_last: loss(timed.losses.last()),
        note: timed.note,
        gflops,
        tokens_s,
        ..failed(workload, device.name(), "")
    })
}

/// The least time of each dispatch of a workload's step over some rounds (W1: a chain of products).
pub fn profile(workload: Workload, seed: u32, precision: Precision, rounds: usize, device: &Device) -> Result<Profile> {
    if let Workload::W1(size) = workload {
        let (mut session, ..) = product_session(size, seed, precision, device)?;
        let timings = (0..=rounds).map(|_| session.profile(&[0])).collect::<Result<Vec<_>>>()?;
        return Ok(Profile::new(&[session.program(0)], &timings[1..]));
    }
    let Setup { trainer, loss, batch, .. } = setup(workload, seed)?;
    let mut trainer = trainer.precision(precision).build(device, loss)?;
    trainer.step(&batch)?;
    trainer.profile(rounds)
}

/// The line of a workload that could not be measured.
pub fn failed(workload: Workload, adapter: &str, reason: &str) -> Measurement {
    Measurement {
        peer: "wgrad",
        version: env!("CARGO_PKG_VERSION"),
        adapter: adapter.into(),
        workload: workload.to_string(),
        median_ms: None,
        min_ms: None,
        cold_s: None,
        peak_rss_mb: None,
        loss_first: None,
        loss_last: None,
        note: format!("FAILED: {reason}"),
        gflops: None,
        tokens_s: None,
    }
}

/// Training steps on one batch, uploaded once.
fn training(workload: Workload, samples: Samples, device: &Device) -> Result<Timed> {
    let Setup { trainer, loss, batch, parameters, about, .. } = setup(workload, samples.seed)?;
    let trainer = trainer.precision(samples.precision).norms(samples.norms);
    let trainer = if samples.recompute { trainer.recompute(Recompute::Auto) } else { trainer };
    let mut trainer = trainer.build(device, loss)?;
    let mut losses = vec![trainer.step(&batch)?.loss];
    let cold_s = samples.started.elapsed().as_secs_f64();
    let mut seconds = Vec::with_capacity(samples.timed);
    for step in 1..samples.warmup + samples.timed {
        let start = Instant::now();
        losses.push(trainer.step(SAME_BATCH)?.loss);
        if step >= samples.warmup {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    // Without a warm-up the first, cold step is a timed one.
    if samples.warmup == 0 {
        seconds.insert(0, cold_s);
    }
    let falls = losses.last() < losses.first() || losses.len() < 2;
    let note = format!(
        "{about}, {}, {}+{} steps, {parameters} params, {} dispatches, {:.1} MiB planned{}{}{}",
        samples.precision,
        samples.warmup,
        samples.timed,
        trainer.dispatches(),
        trainer.memory().total() as f64 / f64::from(1 << 20),
        if samples.recompute { ", activations computed twice" } else { "" },
        if samples.norms { ", with norms" } else { "" },
        if falls { "" } else { ", DEFECT: the loss does not fall" }
    );
    Ok(Timed { seconds, cold_s, losses, note })
}

fn products(size: usize, samples: Samples, device: &Device) -> Result<Timed> {
    let (mut session, a, b) = product_session(size, samples.seed, samples.precision, device)?;
    let (mut seconds, mut cold_s) = (Vec::with_capacity(samples.timed), 0.0);
    for sample in 0..samples.warmup + samples.timed {
        let start = Instant::now();
        let ticket = session.run(&[0])?;
        session.fetch(ticket)?.f32("corner")?;
        if sample == 0 {
            cold_s = samples.started.elapsed().as_secs_f64();
        }
        if sample >= samples.warmup {
            seconds.push(start.elapsed().as_secs_f64() / CHAIN as f64);
        }
    }
    let ticket = session.run(&[1])?;
    let error = largest_error(size, &a, &b, &session.fetch(ticket)?.f32("product")?);
    let verdict = if error < 1e-3 { "" } else { ", DEFECT: the product is wrong" };
    let note = format!("{}, max abs error {error:.1e}{verdict}", samples.precision);
    Ok(Timed { seconds, cold_s, losses: Vec::new(), note })
}

/// Over 16 elements spread over the product, against f64.
fn largest_error(size: usize, a: &[f32], b: &[f32], product: &[f32]) -> f64 {
    let error = |i: usize| {
        let (row, col) = (37 * i % size, 53 * i % size);
        let exact: f64 = (0..size).map(|k| f64::from(a[row * size + k]) * f64::from(b[k * size + col])).sum();
        (f64::from(product[row * size + col]) - exact).abs()
    };
    // A NaN must not get lost in a maximum.
    (0..16).map(error).fold(0.0, |worst, e| if e <= worst { worst } else { e })
}

/// Of sorted numbers.
pub(super) fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + upper) / 2.0 } else { upper })
}

fn round(x: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (x * scale).round() / scale
}

/// The high-water mark of resident memory, on Linux.
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(round(kib / 1024.0, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_wrong_or_missing_number_shows_as_an_error() {
        let (a, b) = ([1.0, 0.0, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(largest_error(2, &a, &b, &b), 0.0);
        assert_eq!(largest_error(2, &a, &b, &[1.5, 2.0, 3.0, 4.0]), 0.5);
        assert!(largest_error(2, &a, &b, &[f32::NAN; 4]).is_nan());
    }

    #[test]
    fn a_failed_workload_is_a_line_with_null_times() {
        let line = serde_json::to_string(&failed(Workload::W1(8), "none", "no adapter")).unwrap();
        assert!(line.contains("\"workload\":\"W1-8\",\"median_ms\":null"), "{line}");
        assert!(line.contains("FAILED: no adapter") && !line.contains("tokens_s"), "{line}");
    }
}
