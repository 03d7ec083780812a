//! What a step will need before anything is allocated: memory by category, work, an estimated time, what makes the peak.
//!
//! Made of a [`Plan`], so without a device; times come from rates that the caller knows or guesses. Read next: `timeline.rs`,
//! which draws the memory of a step.

use super::budget::Fitted;
use crate::lower::{Rates, Recomputed};
use crate::program::{Lifetime, Memory, Program, StateLayout, alive};
use serde::Serialize;

/// A value that waits while at least so many other dispatches run is an activation; others are workspace.
pub const WAITS: usize = 4;
/// So many of the values that make the peak are named.
const NAMED: usize = 12;

/// A training setup compiled for a device that need not be there.
pub struct Plan {
    pub layout: StateLayout,
    /// Micro-step, update, evaluation.
    pub programs: Vec<Program>,
    /// The exact peak, by category.
    pub memory: Memory,
    /// When the transient values of each program live.
    pub lifetimes: Vec<Vec<Lifetime>>,
    /// What of the micro-step is computed twice.
    pub recomputed: Recomputed,
    /// What was done for [`TrainerBuilder::memory`].
    pub fitted: Option<Fitted>,
    /// A number for the way to train, see [`super::TrainerBuilder::build_compiled`].
    pub(super) kind: u64,
}

/// Everything that `wgrad plan` says.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What is planned, such as `W4`.
    pub name: String,
    /// The adapter, or what stands for one.
    pub adapter: String,
    /// Where the rates behind the times come from.
    pub rates: String,
    /// Bytes of all buffers: the exact peak, as they are created and kept.
    pub total: u64,
    pub memory: Memory,
    /// Of the transient memory at the peak: values that wait for a later part of the step.
    pub activations: u64,
    /// The rest of the transient memory: what is made and used at once, and gaps.
    pub workspace: u64,
    /// What of the step is computed twice.
    pub recomputed: Recomputed,
    /// How often the first program runs in a step.
    pub micro_batches: usize,
    pub programs: Vec<Work>,
    /// Estimated, in milliseconds, for micro-steps and update.
    pub step_ms: f64,
    /// The largest values alive at the peak, largest first.
    pub peak: Vec<Alive>,
    /// The moment of the peak.
    pub peak_at: String,
}

/// What one run of a program does.
#[derive(Debug, Clone, Serialize)]
pub struct Work {
    pub name: String,
    pub dispatches: usize,
    pub flops: u64,
    /// Read and written, each binding of a dispatch counted once.
    pub bytes_moved: u64,
    pub estimated_ms: f64,
    /// The largest sum of transient values that live at once.
    pub alive: u64,
}

/// A value that is alive at the peak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alive {
    /// The operation that makes it.
    pub name: String,
    pub bytes: u64,
    /// Whether it waits for a later part of the step.
    pub waits: bool,
}

impl Plan {
    /// Bytes of transient values alive at each dispatch of a step, micro-step and update: activations, workspace.
    pub fn alive(&self) -> Vec<[u64; 2]> {
        let of = |(program, lives): (&Program, &Vec<Lifetime>)| {
            let [waiting, working] = [true, false].map(|waits| {
                let kept: Vec<Lifetime> = lives.iter().filter(|life| (life.pause >= WAITS) == waits).cloned().collect();
                alive(&kept, program.each_dispatch().count())
            });
            waiting.into_iter().zip(working).map(|(waiting, working)| [waiting, working]).collect::<Vec<_>>()
        };
        self.programs.iter().zip(&self.lifetimes).take(2).flat_map(of).collect()
    }
}

/// The dispatch of a program at which most is alive, with the values.
pub fn peak(lives: &[Lifetime], program: &Program) -> (usize, Vec<Alive>) {
    let sums = alive(lives, program.each_dispatch().count());
    let most = sums.iter().copied().max().unwrap_or(0);
    let at = sums.iter().position(|&sum| sum == most).unwrap_or(0);
    let mut values: Vec<Alive> = lives
        .iter()
        .filter(|life| life.first <= at && at <= life.last)
        .map(|life| Alive { name: life.label.clone(), bytes: life.bytes, waits: life.pause >= WAITS })
        .collect();
    values.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.name.cmp(&b.name)));
    (at, values)
}

/// Bytes that a program's dispatches move.
fn moved(program: &Program) -> u64 {
    let once = |dispatches: &[crate::program::Dispatch]| dispatches.iter().map(|d| d.bytes_moved).sum::<u64>();
    let segment = |segment: &crate::program::Segment| match segment {
        crate::program::Segment::Gpu(dispatches) => once(dispatches),
        crate::program::Segment::Repeat { count, body, .. } => u64::from(*count) * once(body),
        crate::program::Segment::Host(_) => 0,
    };
    program.segments.iter().map(segment).sum()
}

impl Report {
    /// Of a plan whose step has so many micro-batches, for an adapter with these rates.
    pub fn new(name: &str, adapter: &str, plan: &Plan, micro_batches: usize, (rates, of): (&Rates, &str)) -> Report {
        let work = |(program, lives): (&Program, &Vec<Lifetime>)| Work {
            name: program.name.clone(),
            dispatches: program.dispatches(),
            flops: program.flops(),
            bytes_moved: moved(program),
            estimated_ms: rates.program(program) / 1e3,
            alive: peak(lives, program).1.iter().map(|value| value.bytes).sum(),
        };
        let programs: Vec<Work> = plan.programs.iter().zip(&plan.lifetimes).map(work).collect();
        let most = (0..programs.len()).max_by_key(|&index| (programs[index].alive, std::cmp::Reverse(index)));
        let (mut values, mut peak_at, mut activations) = (vec![], String::new(), 0);
        if let Some(index) = most {
            let (program, lives) = (&plan.programs[index], &plan.lifetimes[index]);
            let (at, found) = peak(lives, program);
            let dispatch = program.each_dispatch().nth(at);
            let label = dispatch.map_or("", |dispatch| &dispatch.label);
            peak_at = format!("dispatch {} of `{}`, {label}", at + 1, program.name);
            activations = found.iter().filter(|value| value.waits).map(|value| value.bytes).sum();
            values = found;
        }
        values.truncate(NAMED);
        // A step is micro-steps and one update; evaluation is none of it.
        let times = programs.iter().take(2).enumerate();
        let step_ms =
            times.map(|(index, work)| work.estimated_ms * if index == 0 { micro_batches as f64 } else { 1.0 }).sum();
        Report {
            name: name.into(),
            adapter: adapter.into(),
            rates: of.into(),
            total: plan.memory.total(),
            memory: plan.memory,
            activations: activations.min(plan.memory.transient),
            workspace: plan.memory.transient.saturating_sub(activations),
            recomputed: plan.recomputed,
            micro_batches,
            programs,
            step_ms,
            peak: values,
            peak_at,
        }
    }
}
