//! The roofs of an adapter, measured: the most operations in a second, and the most bytes, by how much is moved.
//!
//! After the roofline model (Williams, Waterman and Patterson, 2009): no kernel is faster than both allow.

use crate::error::{Error, Result};
use crate::gpu::{Device, Session};
use crate::kernels::{Profile, roof};
use crate::program::{Binding, BufferDecl, Dispatch, Kernel, Program, Role, Segment, StateLayout, grid};
use serde::Serialize;

/// What a device can do at most.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Roofs {
    /// Billions of f32 multiplications and additions in a second.
    pub gflops: f64,
    /// The same of f16, where the adapter has `shader-f16`. No kernel of wgrad computes so; it tells whether one should.
    pub gflops_f16: Option<f64>,
    /// For amounts read and written together, from small to large: what fits a cache moves faster.
    pub copies: Vec<CopyRate>,
}

/// How fast an amount of bytes is copied that was touched just before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CopyRate {
    /// Read and written.
    pub bytes: u64,
    /// Billions of bytes in a second.
    pub gigabytes: f64,
}

/// Bytes read and written by the copies that are measured, as far as a binding may be that large.
const AMOUNTS: [u64; 6] = [256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20];

/// A measurement of arithmetic is long enough at this many microseconds.
const LONG: f64 = 20_000.0;

/// The least time of so many rounds counts.
const REPEATS: usize = 5;

impl Roofs {
    /// Measures this device; takes about a second.
    pub fn measure(device: &Device) -> Result<Roofs> {
        let profile = device.profile();
        let halves = profile.shader_f16.then(|| arithmetic(device, &roof::multiply_add_f16(profile))).transpose()?;
        let gflops = arithmetic(device, &roof::multiply_add(profile))?;
        Ok(Roofs { gflops, gflops_f16: halves, copies: copies(device)? })
    }

    /// Bandwidth when nothing fits a cache: that of the largest copy, in billions of bytes a second.
    pub fn memory(&self) -> f64 {
        self.copies.last().map_or(0.0, |copy| copy.gigabytes)
    }

    /// The best bandwidth for work that moves so many bytes: that of the fastest copy of at least as much.
    pub fn bandwidth(&self, bytes: u64) -> f64 {
        let fitting = self.copies.iter().filter(|copy| copy.bytes >= bytes).map(|copy| copy.gigabytes);
        fitting.fold(self.memory(), f64::max)
    }

    /// The least microseconds for so many operations and bytes.
    pub fn micros(&self, flops: u64, bytes: u64) -> f64 {
        let time = |amount: u64, rate: f64| if rate > 0.0 { amount as f64 / rate / 1e3 } else { 0.0 };
        f64::max(time(flops, self.gflops), time(bytes, self.bandwidth(bytes)))
    }
}

/// Billions of operations a second, with enough rounds for a time that can be trusted.
fn arithmetic(device: &Device, kernel: &Kernel) -> Result<f64> {
    let profile = device.profile();
    // A GPU needs many invocations to be full; a processor has few cores.
    let groups = if profile.params_in_storage() { 256 } else { 4096 };
    let lanes = groups * u64::from(kernel.workgroup);
    let mut rounds = 64u32;
    loop {
        let flops = lanes * u64::from(rounds) * roof::FLOPS_OF_A_ROUND;
        let program = program(profile, kernel, 32, lanes * 16, vec![(rounds, groups, flops)]);
        let micros = least(device, program)?[0];
        if micros >= LONG || rounds >= 1 << 20 {
            return Ok(flops as f64 / micros.max(f64::MIN_POSITIVE) / 1e3);
        }
        // A step is never more than four times as long as the last one, so it stays short for a watchdog.
        rounds *= 4;
    }
}

fn copies(device: &Device) -> Result<Vec<CopyRate>> {
    let profile = device.profile();
    let kernel = roof::copy(profile);
    let most = profile.max_binding_bytes.min(profile.max_buffer_bytes);
    let amounts: Vec<u64> = AMOUNTS.into_iter().filter(|bytes| bytes / 2 <= most).collect();
    let Some(largest) = amounts.last().map(|bytes| bytes / 2) else {
        return Err(Error::config(format!("bindings of {most} bytes are too small to measure the memory")));
    };
    let by_a_group = u64::from(kernel.workgroup) * u64::from(roof::copied_by_a_lane(profile));
    let works = amounts.iter().flat_map(|bytes| {
        let vectors = bytes / 2 / 16;
        // The first brings into the cache what fits, the second is timed.
        [(vectors as u32, vectors.div_ceil(by_a_group), 0); 2]
    });
    let micros = least(device, program(profile, &kernel, largest, largest, works.collect()))?;
    let rate = |(&bytes, pair): (&u64, &[f64])| CopyRate { bytes, gigabytes: bytes as f64 / pair[1].max(0.001) / 1e3 };
    Ok(amounts.iter().zip(micros.chunks_exact(2)).map(rate).collect())
}

/// Dispatches of one kernel between two buffers, each with its parameter, workgroups and operations.
fn program(profile: &Profile, kernel: &Kernel, x: u64, y: u64, works: Vec<(u32, u64, u64)>) -> Program {
    let dispatch = |(param, groups, flops): (u32, u64, u64)| Dispatch {
        kernel: 0,
        label: "roof".into(),
        bindings: [x, y].iter().enumerate().map(|(buffer, &bytes)| Binding { buffer, offset: 0, bytes }).collect(),
        params: vec![param],
        groups: grid(groups, profile.max_workgroups),
        flops,
        bytes_moved: x + y,
    };
    Program {
        name: kernel.name.clone(),
        kernels: vec![kernel.clone()],
        buffers: [x, y].map(|bytes| BufferDecl { role: Role::Transient, bytes }).into(),
        segments: vec![Segment::Gpu(works.into_iter().map(dispatch).collect())],
        inputs: Vec::new(),
        scalars: Vec::new(),
        constants: Vec::new(),
        outputs: Vec::new(),
        expired: Vec::new(),
    }
}

/// The least microseconds of each dispatch.
fn least(device: &Device, program: Program) -> Result<Vec<f64>> {
    let mut session = Session::new(device, StateLayout::default(), vec![program])?;
    session.profile(&[0])?;
    let mut least = Vec::new();
    for _ in 0..REPEATS {
        let round = session.profile(&[0])?;
        least.resize(round.len(), f64::INFINITY);
        least.iter_mut().zip(&round).for_each(|(best, timing)| *best = best.min(timing.micros));
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_roof_bounds_the_time() {
        let copies = [(1000, 50.0), (4000, 100.0), (16_000, 20.0)];
        let copies = copies.map(|(bytes, gigabytes)| CopyRate { bytes, gigabytes }).into();
        let roofs = Roofs { gflops: 10.0, gflops_f16: None, copies };
        assert_eq!(
            [10, 1000, 4000, 4001, 99_999].map(|bytes| roofs.bandwidth(bytes)),
            [100.0, 100.0, 100.0, 20.0, 20.0]
        );
        assert_eq!(roofs.memory(), 20.0);
        // 1000 operations at 10 a nanosecond; 8000 bytes at 20 a nanosecond.
        assert_eq!(roofs.micros(1000, 0), 0.1);
        assert_eq!(roofs.micros(1000, 8000), 0.4);
    }

    #[test]
    fn an_adapter_has_roofs() -> Result<()> {
        let roofs = Roofs::measure(&Device::open(None)?)?;
        assert!(roofs.gflops > 0.01 && roofs.gflops.is_finite(), "{roofs:?}");
        assert!(roofs.copies.len() >= 4 && roofs.copies.iter().all(|copy| copy.gigabytes > 0.01), "{roofs:?}");
        Ok(())
    }
}
