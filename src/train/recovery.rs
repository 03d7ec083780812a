//! What a lost device costs: how long it takes from the loss until a trainer with the same state stands on another one.
//!
//! Does what a run does (`run/recover.rs`), without its records. Knows no command line.

use super::precision::Precision;
use super::trainer::{SAME_BATCH, Trainer};
use super::workloads::{Setup, Workload, setup};
use crate::error::{Error, Result};
use crate::gpu::Device;
use serde::Serialize;
use web_time::Instant;

/// What the way back to work took, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recovery {
    pub adapter: String,
    pub workload: String,
    /// Trained parameters.
    pub parameters: usize,
    /// Bytes of the state that was put back.
    pub state_bytes: u64,
    /// Opening a device on the same adapter.
    pub open_ms: f64,
    /// Tracing, planning and making the programs again, and their memory.
    pub build_ms: f64,
    /// Writing the state from the host to the device, until it is there.
    pub restore_ms: f64,
    /// All of it.
    pub total_ms: f64,
    /// A step before the loss, and the first one after it, in which a driver may compile kernels; `None` without steps.
    pub step_ms: Option<f64>,
    pub first_step_ms: Option<f64>,
}

/// Trains so many steps, takes the state to the host, destroys the device, and goes on with another one.
///
/// # Errors
/// Those of training and of opening a device, and [`ErrorKind::Device`] if the state is another one afterwards.
pub fn recovery(
    workload: Workload,
    seed: u32,
    precision: Precision,
    steps: usize,
    device: &Device,
) -> Result<Recovery> {
    let Setup { trainer, loss, batch, parameters, .. } = setup(workload, seed)?;
    let mut trainer = trainer.precision(precision).build(device, loss)?;
    let mut step_ms = None;
    for at in 0..steps {
        let start = Instant::now();
        if at == 0 {
            trainer.step(&batch)?
        } else {
            trainer.step(SAME_BATCH)?
        };
        step_ms = Some(milliseconds(start));
    }
    let state = trainer.checkpoint()?;
    let reopen = device.reopener();
    device.wgpu_device().destroy();
    drop(trainer);

    let start = Instant::now();
    let device = reopen()?;
    let open_ms = milliseconds(start);
    let Setup { trainer, loss, batch, .. } = setup(workload, seed)?;
    let mut trainer: Trainer = trainer.precision(precision).build(&device, loss)?;
    let built_ms = milliseconds(start);
    trainer.resume(&state)?;
    device.synchronize()?;
    let total_ms = milliseconds(start);
    if trainer.checkpoint()?.tensors != state.tensors {
        let message = "the state that was put back is not the one that was taken".into();
        return Err(Error::device("the new device".into(), message));
    }
    let start = Instant::now();
    if steps > 0 {
        trainer.step(&batch)?;
    }
    Ok(Recovery {
        adapter: device.name().into(),
        workload: workload.to_string(),
        parameters,
        state_bytes: state.tensors.iter().map(|tensor| tensor.bytes.len() as u64).sum(),
        open_ms,
        build_ms: built_ms - open_ms,
        restore_ms: total_ms - built_ms,
        total_ms,
        step_ms,
        first_step_ms: (steps > 0).then(|| milliseconds(start)),
    })
}

fn milliseconds(start: Instant) -> f64 {
    (1e6 * start.elapsed().as_secs_f64()).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_workload_stands_on_another_device_with_its_state() -> Result<()> {
        let device = Device::open(None)?;
        let back = recovery(Workload::W2, 0, Precision::F32, 1, &device)?;
        let outcome = device.synchronize();
        assert!(
            matches!(outcome.as_ref().map_err(Error::kind), Err(ErrorKind::DeviceLost { .. })),
            "its own device is gone: {outcome:?}"
        );
        assert_eq!((back.workload.as_str(), back.parameters), ("W2", 669_706));
        assert!(back.state_bytes >= 3 * 4 * 669_706, "weights and both moments: {back:?}");
        assert!(back.total_ms >= back.open_ms + back.build_ms && back.first_step_ms.is_some(), "{back:?}");
        Ok(())
    }
}
