//! The time of every dispatch of a run: each in a compute pass of its own, between two timestamps; where an adapter
//! has none, in a submission of its own by the wall clock.
//!
//! Both say more than a dispatch costs in a run as it is replayed, where passes are shared: shares are to be trusted
//! more than sums. Nothing here is used by an ordinary run.

use super::Device;
use super::readback::{Mapping, take_mapped};
use super::resolve::{Resolved, Stretch};
use super::session::Session;
use crate::error::{Error, Result};
use crate::program::{Dispatch, Program, Segment};
use std::ops::Range;
use web_time::Instant;

/// Dispatches timed by one set of queries: wgpu allows 4096 queries.
const CHUNK: usize = 2048;
const QUERY_BYTES: u64 = 8;

/// How long one dispatch took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// Index of the program in the list given to [`Session::profile`].
    pub turn: usize,
    /// Index among [`Program::each_dispatch`]; a repeated body has one timing an iteration.
    pub dispatch: usize,
    /// Since the first dispatch began, in microseconds.
    pub start: f64,
    pub micros: f64,
}

impl Session {
    /// Runs these programs once, with the effects of a run, and times each dispatch. Programs with host steps are
    /// refused, and outputs are not read back.
    pub fn profile(&mut self, programs: &[usize]) -> Result<Vec<Timing>> {
        let device = self.state.device.clone();
        device.check()?;
        for &index in programs {
            self.known(index)?;
            if self.resolved[index].stretches.iter().any(|stretch| matches!(stretch, Stretch::Host(_))) {
                let message = "programs with host steps are not profiled: the host's time is not the device's";
                return Err(Error::config(message.into()));
            }
            self.resolved[index].write_scalars(&device)?;
        }
        let stamps = device.wgpu_device().features().contains(wgpu::Features::TIMESTAMP_QUERY);
        let timer = Timer { device: &device, queries: stamps.then(|| Queries::new(&device)), begun: Instant::now() };
        let mut timings = Vec::new();
        for (turn, &index) in programs.iter().enumerate() {
            let dispatches = dispatch_of_each_step(&self.programs()[index]);
            let resolved = &self.resolved[index];
            let mut first = 0;
            while first < dispatches.len() {
                let steps = first..dispatches.len().min(first + timer.at_once());
                first = steps.end;
                let times = device.caught("refused to be timed", || timer.time(resolved, steps.clone()))??;
                let timing = |(step, (start, micros)): (usize, (f64, f64))| Timing {
                    turn,
                    dispatch: dispatches[step],
                    start,
                    micros,
                };
                timings.extend(steps.zip(times).map(timing));
            }
        }
        let origin = timings.iter().map(|timing| timing.start).fold(f64::INFINITY, f64::min);
        timings.iter_mut().for_each(|timing| timing.start -= origin);
        Ok(timings)
    }
}

/// For each step as it is encoded, which of [`Program::each_dispatch`] it is.
fn dispatch_of_each_step(program: &Program) -> Vec<usize> {
    let mut before = 0;
    let mut all = Vec::with_capacity(program.dispatches());
    for segment in &program.segments {
        let range = |body: &[Dispatch]| before..before + body.len();
        let (range, count) = match segment {
            Segment::Gpu(dispatches) => (range(dispatches), 1),
            Segment::Repeat { count, body, .. } => (range(body), *count),
            Segment::Host(_) => (range(&[]), 0),
        };
        (0..count).for_each(|_| all.extend(range.clone()));
        before = range.end;
    }
    all
}

/// Timestamps, where they are resolved to, and where they are read.
struct Queries {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    /// Microseconds of one tick.
    period: f64,
}

impl Queries {
    fn new(device: &Device) -> Queries {
        let (gpu, count) = (device.wgpu_device(), 2 * CHUNK as u32);
        let buffer = |label, usage| {
            let size = u64::from(count) * QUERY_BYTES;
            gpu.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        };
        let set = wgpu::QuerySetDescriptor { label: Some("profile"), ty: wgpu::QueryType::Timestamp, count };
        Queries {
            set: gpu.create_query_set(&set),
            resolved: buffer("timestamps", wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            staging: buffer("timestamps read", wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            period: f64::from(device.wgpu_queue().get_timestamp_period()) / 1e3,
        }
    }
}

struct Timer<'a> {
    device: &'a Device,
    queries: Option<Queries>,
    begun: Instant,
}

impl Timer<'_> {
    /// Dispatches of one submission.
    fn at_once(&self) -> usize {
        if self.queries.is_some() { CHUNK } else { 1 }
    }

    /// Start and length of each of these steps, in microseconds.
    fn time(&self, program: &Resolved, steps: Range<usize>) -> Result<Vec<(f64, f64)>> {
        let descriptor = wgpu::CommandEncoderDescriptor::default();
        let mut encoder = self.device.wgpu_device().create_command_encoder(&descriptor);
        for (slot, index) in steps.clone().enumerate() {
            encode(&mut encoder, program, index, self.queries.as_ref().map(|queries| (queries, 2 * slot as u32)));
        }
        let Some(queries) = &self.queries else {
            let start = self.begun.elapsed();
            let submission = self.device.wgpu_queue().submit([encoder.finish()]);
            self.device.wait_for(&submission)?;
            let micros = |time: std::time::Duration| time.as_secs_f64() * 1e6;
            return Ok(vec![(micros(start), micros(self.begun.elapsed() - start))]);
        };
        let count = 2 * steps.len() as u32;
        let bytes = u64::from(count) * QUERY_BYTES;
        encoder.resolve_query_set(&queries.set, 0..count, &queries.resolved, 0);
        encoder.copy_buffer_to_buffer(&queries.resolved, 0, &queries.staging, 0, bytes);
        let submission = self.device.wgpu_queue().submit([encoder.finish()]);
        let mapping = Mapping::start(self.device, &queries.staging, bytes);
        pollster::block_on(mapping.wait(self.device, &submission))?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&take_mapped(self.device, &queries.staging, bytes)?);
        let time =
            |pair: &[u64]| (pair[0] as f64 * queries.period, pair[1].saturating_sub(pair[0]) as f64 * queries.period);
        Ok(ticks.chunks_exact(2).map(time).collect())
    }
}

/// One step in a pass of its own.
fn encode(encoder: &mut wgpu::CommandEncoder, program: &Resolved, index: usize, stamps: Option<(&Queries, u32)>) {
    let timestamp_writes = stamps.map(|(queries, first)| wgpu::ComputePassTimestampWrites {
        query_set: &queries.set,
        beginning_of_pass_write_index: Some(first),
        end_of_pass_write_index: Some(first + 1),
    });
    let step = &program.steps[index];
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
    pass.set_pipeline(&program.pipelines[step.pipeline as usize].pipeline);
    pass.set_bind_group(0, &program.groups[step.group as usize], &[step.offset]);
    pass.dispatch_workgroups(step.groups[0], step.groups[1], 1);
}
