//! What a step costs the host: writing scalars, encoding, submitting, reading the loss back, for each dispatch.

use super::precision::Precision;
use super::trainer::{SAME_BATCH, Trainer};
use super::workloads::{Workload, setup};
use crate::error::{Error, Result};
use crate::gpu::Device;
use serde::Serialize;
use web_time::Instant;

/// The host's side of a workload's steps, in microseconds a dispatch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostCost {
    pub workload: String,
    pub adapter: String,
    /// Dispatches of a step.
    pub dispatches: usize,
    pub steps: usize,
    /// Processor time of the thread that trains, all of it: what else runs on the machine does not count. Linux only.
    pub thread_us: Option<f64>,
    /// The least that handing a step to the device took, by the clock.
    pub submit_us: f64,
}

/// Trains steps and counts what they cost the host. On [`Device::fake`] nothing is executed, and the wait is none.
pub fn host_cost(workload: Workload, precision: Precision, steps: usize, device: &Device) -> Result<HostCost> {
    let setup = setup(workload, 0)?;
    let mut trainer: Trainer = setup.trainer.precision(precision).build(device, setup.loss)?;
    // Kernels are compiled with the first step, and buffers are first touched.
    trainer.step(&setup.batch)?;
    trainer.step(SAME_BATCH)?;
    let per_dispatch = 1.0 / trainer.dispatches().max(1) as f64;
    let (before, mut least) = (thread_seconds(), f64::INFINITY);
    for _ in 0..steps {
        let start = Instant::now();
        let pending = trainer.submit(SAME_BATCH)?;
        least = least.min(start.elapsed().as_secs_f64());
        trainer.wait(pending)?;
    }
    let spent = thread_seconds().zip(before).map(|(after, before)| after - before);
    if steps == 0 {
        return Err(Error::config("there must be at least one step to count".into()));
    }
    Ok(HostCost {
        workload: workload.to_string(),
        adapter: device.name().into(),
        dispatches: trainer.dispatches(),
        steps,
        thread_us: spent.map(|seconds| rounded(seconds * 1e6 / steps as f64 * per_dispatch)),
        submit_us: rounded(least * 1e6 * per_dispatch),
    })
}

fn rounded(x: f64) -> f64 {
    (x * 1e3).round() / 1e3
}

/// Seconds that this thread has had a processor, where the system says it. It is told when the thread last gave the
/// processor up, so that only long stretches can be measured.
fn thread_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<u64>().ok()? as f64 * 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Profile;

    #[test]
    fn a_step_on_the_fake_adapter_is_counted() -> Result<()> {
        let device = Device::fake(&Profile::baseline())?;
        let cost = host_cost(Workload::W2, Precision::F32, 3, &device)?;
        assert!(cost.dispatches > 0 && cost.steps == 3 && cost.submit_us > 0.0, "{cost:?}");
        assert!(host_cost(Workload::W2, Precision::F32, 0, &device).is_err());
        assert!(host_cost(Workload::W1(8), Precision::F32, 1, &device).is_err());
        Ok(())
    }
}
