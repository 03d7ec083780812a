//! Activations that are computed twice instead of being kept: less memory for more time, and not one bit different.
//!
//! Works on a lowered program, so that a repetition is the same kernel with the same parameters. The choice is made
//! for a budget: values are dropped one after the other, by bytes above the budget that this frees for its cost, until the
//! largest sum of live values is within it, and what turns out not to be needed is kept again. Segments in the sense of
//! Chen et al. (2016) follow from that: a value whose operands were dropped too costs their repetition as well. Repeating
//! is `replay.rs`. Knows programs, no graph.

use super::cost::Rates;
use super::replay::{Analysis, Choice, Schedule};
use crate::graph::CHECKPOINT;
use crate::kernels::Profile;
use crate::program::Program;
use serde::{Deserialize, Serialize};

/// How much is to be computed twice.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Only what [`crate::graph::Graph::checkpoint`] marks.
    #[default]
    None,
    /// So much that half the memory is enough, if that is to be had for [`MOST_EXTRA`] of the time of a step; else
    /// the least that is.
    Auto,
    /// So much that transient values take no more than these bytes, or the least there is.
    Within(u64),
}

/// What `Auto` may cost, as a share of the micro-step's estimated time.
pub const MOST_EXTRA: f64 = 0.3;

/// So many choices are tried at most to keep within a tight budget.
const MOST_TRIES: usize = 2000;

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Recomputed {
    /// Dispatches that run a second time.
    pub dispatches: usize,
    /// Their estimated time as a share of the whole program's.
    pub extra: f64,
    /// The largest sum of live transient values before and after, in bytes.
    pub before: u64,
    pub after: u64,
}

/// Rewrites a program in which each transient buffer holds one value ([`super::unpacked`]); another that computes the same,
/// bit by bit, in less memory.
pub fn recompute(program: &mut Program, policy: Recompute, profile: &Profile) -> Recomputed {
    let rates = Rates::typical(profile);
    let Some(known) = Analysis::new(program, &rates) else { return Recomputed::default() };
    let solver = Solver { known: &known };
    let none = solver.nothing();
    let before = peak(&Schedule::new(&known, &none));
    let marked = solver.marked(none);
    let whole = rates.program(program);
    let choice = match policy {
        Recompute::None => marked,
        Recompute::Within(bytes) => solver.within(bytes, marked),
        Recompute::Auto => solver.auto(before, MOST_EXTRA * whole, marked),
    };
    let schedule = Schedule::new(&known, &choice);
    let (after, extra) = (peak(&schedule), schedule.cost / whole.max(f64::MIN_POSITIVE));
    let was = program.dispatches();
    if schedule.cost > 0.0 {
        *program = schedule.write(program);
    }
    Recomputed { dispatches: program.dispatches() - was, extra, before, after }
}

fn peak(schedule: &Schedule<'_>) -> u64 {
    schedule.alive().into_iter().max().unwrap_or(0)
}

/// What a choice comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Outcome {
    /// Sum over time of the bytes above the budget.
    excess: f64,
    cost: f64,
}

struct Solver<'a> {
    known: &'a Analysis,
}

impl Solver<'_> {
    /// Everything is kept; small values that a repetition would need are, too.
    fn nothing(&self) -> Choice {
        let uses = &self.known.uses;
        let largest = uses.iter().map(|known| known.bytes).max().unwrap_or(0);
        let pinned = uses.iter().map(|known| known.bytes <= largest / 256).collect();
        Choice { dropped: vec![false; uses.len()], pinned }
    }

    /// Drops what lies within the marked parts of the forward pass and is read by no other part of it.
    fn marked(&self, mut choice: Choice) -> Choice {
        let units = &self.known.units;
        let marks: Vec<Option<&str>> = units.iter().map(|unit| mark(&unit.label)).collect();
        for part in marks.iter().flatten().collect::<std::collections::BTreeSet<_>>() {
            let own: Vec<usize> = (0..units.len()).filter(|&unit| marks[unit] == Some(part)).collect();
            // Gradients bear the names of what they are gradients of; between both is the longest pause.
            let pause = own.windows(2).max_by_key(|pair| pair[1] - pair[0]);
            let Some(&end) = pause.map(|pair| &pair[0]) else { continue };
            for (buffer, known) in self.known.uses.iter().enumerate() {
                let early = known.uses.iter().take_while(|&&unit| unit <= known.early);
                let inside = early.into_iter().all(|unit| *unit <= end && marks[*unit] == Some(part));
                choice.dropped[buffer] |= known.droppable && inside;
            }
        }
        choice
    }

    /// At most half the memory, or as much as the time allows.
    fn auto(&self, before: u64, most: f64, start: Choice) -> Choice {
        let half = self.within(before / 2, start.clone());
        if Schedule::new(self.known, &half).cost <= most {
            return half;
        }
        // The least budget between half and all that keeps to the time, to 1/32 of it.
        let (mut low, mut high) = (16, 32);
        let mut best = start.clone();
        while high - low > 1 {
            let middle = (low + high) / 2;
            let choice = self.within(before / 32 * middle, start.clone());
            if Schedule::new(self.known, &choice).cost <= most {
                (best, high) = (choice, middle);
            } else {
                low = middle;
            }
        }
        best
    }

    /// The cheapest choice found that keeps within the budget, or the nearest to it.
    fn within(&self, budget: u64, start: Choice) -> Choice {
        let outcome = |choice: &Choice| {
            let schedule = Schedule::new(self.known, choice);
            let over = |alive: u64| alive.saturating_sub(budget) as f64;
            Outcome { excess: schedule.alive().into_iter().map(over).sum(), cost: schedule.cost }
        };
        let (mut choice, mut now) = (start.clone(), outcome(&start));
        // What each drop was worth when it was last tried; rarely more later, so the best known is tried first.
        let mut waiting: Vec<(f64, usize)> = (0..self.known.uses.len())
            .filter(|&buffer| self.known.uses[buffer].droppable && !choice.dropped[buffer])
            .map(|buffer| (f64::INFINITY, buffer))
            .collect();
        let mut refused = 0;
        while now.excess > 0.0 && refused < waiting.len() {
            crate::sort::sort_by(&mut waiting, |a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
            let Some((_, buffer)) = waiting.pop() else { break };
            choice.dropped[buffer] = true;
            let with = outcome(&choice);
            let worth = worth(now, with);
            let next = waiting.last().map_or(f64::NEG_INFINITY, |(worth, _)| *worth);
            if worth > 0.0 && worth >= next {
                (now, refused) = (with, 0);
                continue;
            }
            choice.dropped[buffer] = false;
            refused = if worth > 0.0 { 0 } else { refused + 1 };
            waiting.push((worth.min(next), buffer));
            if worth <= 0.0 {
                // Behind all that may still be worth something.
                let last = waiting.len() - 1;
                waiting[last].0 = f64::MIN;
            }
        }
        if now.excess > 0.0 {
            self.mend(&mut choice, &mut now, &start, &outcome);
        }
        self.spared(choice, &start, now, &outcome)
    }

    /// Where the budget is so tight that single drops no longer help: turns one or two neighbouring choices around while that
    /// brings the excess down, drops into keeps as well.
    fn mend(&self, choice: &mut Choice, now: &mut Outcome, start: &Choice, outcome: &dyn Fn(&Choice) -> Outcome) {
        let free: Vec<usize> = (0..self.known.uses.len())
            .filter(|&buffer| self.known.uses[buffer].droppable && !start.dropped[buffer])
            .collect();
        let pairs = (0..free.len()).flat_map(|a| (a..free.len().min(a + 4)).map(move |b| (a, b)));
        let pairs: Vec<(usize, usize)> = pairs.map(|(a, b)| (free[a], free[b])).collect();
        let mut tries = MOST_TRIES;
        loop {
            let mut best: Option<(Outcome, (usize, usize))> = None;
            for &(a, b) in pairs.iter().take(tries) {
                let turn = |choice: &mut Choice| {
                    choice.dropped[a] ^= true;
                    choice.dropped[b] ^= a != b;
                };
                turn(choice);
                let with = outcome(choice);
                turn(choice);
                if with.excess < best.map_or(now.excess, |(known, _)| known.excess) {
                    best = Some((with, (a, b)));
                }
            }
            tries = tries.saturating_sub(pairs.len());
            let Some((with, (a, b))) = best else { return };
            choice.dropped[a] ^= true;
            choice.dropped[b] ^= a != b;
            *now = with;
            if now.excess <= 0.0 {
                return;
            }
        }
    }

    /// Takes back what is not needed, dear repetitions first; drops cheaper values in place of dear ones; then keeps values that
    /// repetitions need, where that saves some.
    fn spared(&self, choice: Choice, start: &Choice, now: Outcome, outcome: &dyn Fn(&Choice) -> Outcome) -> Choice {
        let mut kept = Kept { choice, now, outcome, tries: MOST_TRIES };
        let cost = |buffer: &usize| -> f64 {
            let known = &self.known.uses[*buffer];
            known.writers[..known.early_writers].iter().map(|&writer| self.known.units[writer].cost).sum()
        };
        let mut free: Vec<usize> = (0..self.known.uses.len())
            .filter(|&buffer| self.known.uses[buffer].droppable && !start.dropped[buffer])
            .collect();
        crate::sort::sort_by(&mut free, |a, b| cost(b).total_cmp(&cost(a)));
        let dropped: Vec<usize> = free.iter().copied().filter(|&buffer| kept.choice.dropped[buffer]).collect();
        for &buffer in &dropped {
            kept.if_cheaper(|choice| choice.dropped[buffer] = false);
        }
        for &dear in &dropped {
            for &cheap in free.iter().rev().take_while(|cheap| cost(cheap) < cost(&dear)) {
                if kept.choice.dropped[dear] && !kept.choice.dropped[cheap] {
                    kept.if_cheaper(|choice| (choice.dropped[dear], choice.dropped[cheap]) = (false, true));
                }
            }
        }
        let mut repeated = Schedule::new(self.known, &kept.choice).repeated;
        crate::sort::sort(&mut repeated);
        repeated.dedup();
        for buffer in repeated.into_iter().filter(|&buffer| !self.known.uses[buffer].droppable) {
            kept.if_cheaper(|choice| choice.pinned[buffer] = true);
        }
        kept.choice
    }
}

/// The best choice so far, being made cheaper.
struct Kept<'a> {
    choice: Choice,
    now: Outcome,
    outcome: &'a dyn Fn(&Choice) -> Outcome,
    tries: usize,
}

impl Kept<'_> {
    /// Changes the choice if that costs less and exceeds the budget by no more.
    fn if_cheaper(&mut self, change: impl Fn(&mut Choice)) {
        if self.tries == 0 {
            return;
        }
        self.tries -= 1;
        let before = self.choice.clone();
        change(&mut self.choice);
        let with = (self.outcome)(&self.choice);
        if with.excess <= self.now.excess && with.cost < self.now.cost {
            self.now = with;
        } else {
            self.choice = before;
        }
    }
}

/// Excess that goes away for a microsecond.
fn worth(now: Outcome, with: Outcome) -> f64 {
    let (freed, cost) = (now.excess - with.excess, with.cost - now.cost);
    if freed <= 0.0 { freed } else { freed / cost.max(1e-3) }
}

/// The marked part that a label lies in.
fn mark(label: &str) -> Option<&str> {
    label.split(['/', '.']).find(|scope| scope.starts_with(CHECKPOINT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Binding, BufferDecl, Dispatch, Kernel, Role, Segment};

    /// A chain: each value from the one before, each gradient from the one behind it and both values beside.
    fn chain(costs: &[u64], bytes: &[u64]) -> Program {
        let count = costs.len();
        let dispatch = |buffers: &[usize], cost: u64| Dispatch {
            kernel: buffers.len() - 2,
            label: String::new(),
            bindings: buffers.iter().map(|&buffer| Binding { buffer, offset: 0, bytes: 4 }).collect(),
            params: vec![],
            groups: [1, 1],
            flops: cost * 1_000_000_000,
            bytes_moved: 0,
        };
        let kernel = |inputs: usize| Kernel {
            name: String::new(),
            wgsl: String::new(),
            writable: (0..=inputs).map(|port| port == inputs).collect(),
            workgroup: 1,
            params_in_storage: false,
            foreign: false,
            subgroups: false,
        };
        // Buffer 0 is the input, 1 to n the values, then the gradients, from the last.
        let mut dispatches: Vec<Dispatch> = (0..count).map(|at| dispatch(&[at, at + 1], costs[at])).collect();
        dispatches.push(dispatch(&[count, count + 1], 1));
        for (turn, at) in (1..count).rev().enumerate() {
            dispatches.push(dispatch(&[count + 1 + turn, at + 1, at, count + 2 + turn], 1));
        }
        let mut buffers = vec![BufferDecl { role: Role::Input("x".into()), bytes: 4 }];
        buffers.extend(bytes.iter().map(|&bytes| BufferDecl { role: Role::Transient, bytes }));
        buffers.extend((0..count).map(|_| BufferDecl { role: Role::Transient, bytes: 16 }));
        Program {
            name: "chain".into(),
            kernels: (1..4).map(kernel).collect(),
            buffers,
            segments: vec![Segment::Gpu(dispatches)],
            inputs: vec![],
            scalars: vec![],
            constants: vec![],
            outputs: vec![],
            expired: vec![],
        }
    }

    fn analysed(program: &Program) -> Analysis {
        Analysis::new(program, &Rates::typical(&Profile::baseline())).expect("no host steps")
    }

    /// The least cost of any choice that keeps within the budget.
    fn best(known: &Analysis, budget: u64) -> Option<f64> {
        let solver = Solver { known };
        let droppable: Vec<usize> = (0..known.uses.len()).filter(|&buffer| known.uses[buffer].droppable).collect();
        let costs = (0u32..1 << droppable.len()).filter_map(|set| {
            let mut choice = solver.nothing();
            for (bit, &buffer) in droppable.iter().enumerate() {
                choice.dropped[buffer] = set >> bit & 1 == 1;
            }
            let schedule = Schedule::new(known, &choice);
            (peak(&schedule) <= budget).then_some(schedule.cost)
        });
        costs.min_by(f64::total_cmp)
    }

    #[test]
    fn choices_on_chains_are_near_the_best_there_are() {
        let mut state = 3u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut found, mut least, mut missed) = (0.0, 0.0, 0);
        for round in 0..12 {
            let count = 10;
            let costs: Vec<u64> = (0..count).map(|_| if round == 0 { 4 } else { 1 + random(8) }).collect();
            let bytes: Vec<u64> = (0..count).map(|_| if round < 2 { 1024 } else { 256 * (1 + random(6)) }).collect();
            let program = chain(&costs, &bytes);
            let known = analysed(&program);
            let solver = Solver { known: &known };
            let whole = peak(&Schedule::new(&known, &solver.nothing()));
            for share in 3..10 {
                let budget = whole * share / 10;
                let choice = solver.within(budget, solver.nothing());
                let schedule = Schedule::new(&known, &choice);
                let Some(wanted) = best(&known, budget) else { continue };
                if peak(&schedule) > budget {
                    // The least budgets are kept by few choices only.
                    assert!(peak(&schedule) <= budget + budget / 50, "round {round}: {} of {budget}", peak(&schedule));
                    missed += 1;
                    continue;
                }
                assert!(schedule.cost <= 2.0 * wanted + 1e-6, "round {round}, {share}: {} not {wanted}", schedule.cost);
                (found, least) = (found + schedule.cost, least + wanted);
            }
        }
        assert!(found <= 1.1 * least && missed <= 4, "{found} where {least} is possible; {missed} budgets missed");
    }

    #[test]
    fn a_long_chain_needs_the_root_of_its_memory() {
        let program = chain(&[1; 100], &[1024; 100]);
        let mut smaller = program.clone();
        let report = recompute(&mut smaller, Recompute::Within(30 * 1024), &Profile::baseline());
        assert!(report.before > 100 * 1024 && report.after <= 30 * 1024, "{report:?}");
        // Each value is computed at most twice.
        assert!(report.dispatches < 100 && smaller.dispatches() == program.dispatches() + report.dispatches);
    }

    #[test]
    fn what_changes_the_state_is_not_repeated() {
        let mut program = chain(&[1; 8], &[1024; 8]);
        // The third dispatch writes a state instead of a value of its own, the fifth reads it.
        program.buffers.push(BufferDecl { role: Role::State(0), bytes: 64 });
        let state = program.buffers.len() - 1;
        if let Some(Segment::Gpu(dispatches)) = program.segments.first_mut() {
            dispatches[2].kernel = 1;
            dispatches[2].bindings.insert(1, Binding { buffer: state, offset: 0, bytes: 4 });
            dispatches[4].kernel = 1;
            dispatches[4].bindings.insert(0, Binding { buffer: state, offset: 0, bytes: 4 });
        }
        program.kernels[1].writable = vec![false, true, true];
        let known = analysed(&program);
        assert!(!known.units[2].repeats && !known.units[4].repeats && known.units[1].repeats);
    }
}
