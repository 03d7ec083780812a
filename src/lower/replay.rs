//! A program whose dropped values are computed a second time: which dispatches are repeated, when, and into what.
//!
//! A dropped value is forgotten after its last early use, and the dispatches that made it are repeated just before its
//! first late one, on a buffer of their own. Same kernel, same parameters, same operands: the same bits. Everything here
//! is in terms of a program in which each transient buffer holds one value; which values to drop is decided in
//! `recompute.rs`.

use super::cost::Rates;
use crate::program::{Binding, BufferDecl, Dispatch, Program, Role, Segment};
use std::collections::HashMap;

/// One dispatch, or a whole loop, and what it binds.
pub(super) struct Unit {
    pub segment: usize,
    /// The dispatch within its segment; a loop is one unit.
    pub dispatch: usize,
    /// Transient buffers, each once, and whether it writes them.
    pub bound: Vec<(usize, bool)>,
    pub cost: f64,
    /// Whether it may be repeated later with the same result and no other effect.
    pub repeats: bool,
    pub label: String,
}

/// How a transient buffer is used, in units.
#[derive(Debug, Clone, Default)]
pub(super) struct Use {
    pub bytes: u64,
    pub uses: Vec<usize>,
    pub writers: Vec<usize>,
    /// The last use before the longest pause.
    pub early: usize,
    /// Writers up to there.
    pub early_writers: usize,
    /// Whether it can be dropped during that pause.
    pub droppable: bool,
}

impl Use {
    /// How often it was written before a unit.
    pub fn version(&self, unit: usize) -> usize {
        self.writers.partition_point(|&writer| writer < unit)
    }
}

/// What is to be known of a program before values are dropped.
pub(super) struct Analysis {
    pub units: Vec<Unit>,
    pub uses: Vec<Use>,
    /// Buffers that are results.
    results: Vec<usize>,
}

/// A pause of fewer units is not worth a repetition.
const LEAST_PAUSE: usize = 4;

impl Analysis {
    /// `None` where the host takes part, who may change what dispatches read.
    pub fn new(program: &Program, rates: &Rates) -> Option<Analysis> {
        if program.segments.iter().any(|segment| matches!(segment, Segment::Host(_))) {
            return None;
        }
        let mut units = units(program, rates);
        let mut uses = vec![Use::default(); program.buffers.len()];
        for (index, unit) in units.iter().enumerate() {
            for &(buffer, write) in &unit.bound {
                uses[buffer].uses.push(index);
                if write {
                    uses[buffer].writers.push(index);
                }
            }
        }
        let results: Vec<usize> = program.outputs.iter().map(|output| output.buffer).collect();
        for (buffer, (known, decl)) in uses.iter_mut().zip(&program.buffers).enumerate() {
            known.bytes = decl.bytes;
            let pause = |pair: &&[usize]| pair[1] - pair[0];
            let longest = known.uses.windows(2).max_by_key(|pair| (pause(pair), std::cmp::Reverse(pair[0])));
            let droppable = longest.is_some_and(|pair| pause(&pair) >= LEAST_PAUSE) && !results.contains(&buffer);
            known.early = longest.filter(|_| droppable).map_or(usize::MAX, |pair| pair[0]);
            known.early_writers = known.version(known.early.saturating_add(1));
            known.droppable = droppable && known.early_writers > 0;
        }
        // A value may be computed again if what made it may, from values that are there or may be computed again.
        for index in 0..units.len() {
            let known = |&(buffer, _): &(usize, bool)| {
                let version = uses[buffer].version(index);
                version == uses[buffer].writers.len() || again(&units, &uses[buffer], version)
            };
            units[index].repeats &=
                units[index].bound.iter().filter(|(buffer, _)| uses[*buffer].version(index) > 0).all(known);
        }
        for known in &mut uses {
            known.droppable &= again(&units, known, known.early_writers);
        }
        Some(Analysis { units, uses, results })
    }

    /// Whether the first writers of a value may be repeated.
    fn again(&self, buffer: usize, version: usize) -> bool {
        again(&self.units, &self.uses[buffer], version)
    }
}

fn again(units: &[Unit], known: &Use, version: usize) -> bool {
    known.writers[..version].iter().all(|&writer| units[writer].repeats)
}

fn units(program: &Program, rates: &Rates) -> Vec<Unit> {
    let (mut units, written) = (Vec::new(), written(program));
    for (segment, part) in program.segments.iter().enumerate() {
        match part {
            Segment::Gpu(dispatches) => {
                for (dispatch, known) in dispatches.iter().enumerate() {
                    let bound = bound(program, std::slice::from_ref(known));
                    let (cost, label) = (rates.dispatch(known), known.label.clone());
                    let repeats = pure(program, &written, known);
                    units.push(Unit { segment, dispatch, bound, cost, repeats, label });
                }
            }
            Segment::Repeat { body, .. } => {
                let bound = bound(program, body);
                units.push(Unit { segment, dispatch: 0, bound, cost: 0.0, repeats: false, label: String::new() });
            }
            Segment::Host(_) => {}
        }
    }
    units
}

fn bound(program: &Program, dispatches: &[Dispatch]) -> Vec<(usize, bool)> {
    let mut list: Vec<(usize, bool)> = Vec::new();
    for dispatch in dispatches {
        for (binding, &write) in dispatch.bindings.iter().zip(&program.kernels[dispatch.kernel].writable) {
            if program.buffers[binding.buffer].role != Role::Transient {
                continue;
            }
            match list.iter_mut().find(|(buffer, _)| *buffer == binding.buffer) {
                Some((_, known)) => *known |= write,
                None => list.push((binding.buffer, write)),
            }
        }
    }
    list
}

/// Everything but transient values that a program writes.
fn written(program: &Program) -> Vec<Binding> {
    let all = program.each_dispatch().flat_map(|dispatch| {
        let writable = &program.kernels[dispatch.kernel].writable;
        dispatch.bindings.iter().zip(writable).filter(|(_, write)| **write).map(|(binding, _)| *binding)
    });
    all.filter(|binding| program.buffers[binding.buffer].role != Role::Transient).collect()
}

/// Whether a dispatch writes transient values only, and reads beside them what no dispatch of the program changes.
fn pure(program: &Program, written: &[Binding], dispatch: &Dispatch) -> bool {
    let meet = |a: &Binding, b: &Binding| {
        a.buffer == b.buffer && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes
    };
    let others = dispatch.bindings.iter().filter(|binding| program.buffers[binding.buffer].role != Role::Transient);
    others.into_iter().all(|read| !written.iter().any(|write| meet(read, write)))
}

/// Which values are dropped, and which are kept beyond their last use because a repetition reads them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    pub dropped: Vec<bool>,
    pub pinned: Vec<bool>,
}

/// One unit of the new program, with its buffers renamed.
struct Step {
    unit: usize,
    renamed: Vec<(usize, usize)>,
}

/// The new program, before it is written.
pub(super) struct Schedule<'a> {
    known: &'a Analysis,
    choice: &'a Choice,
    steps: Vec<Step>,
    /// Sizes of the buffers, the new ones behind the old ones.
    bytes: Vec<u64>,
    second: Vec<Option<usize>>,
    spare: HashMap<(usize, usize), usize>,
    /// Microseconds of all repetitions.
    pub cost: f64,
    /// Buffers that repetitions wrote.
    pub repeated: Vec<usize>,
}

impl<'a> Schedule<'a> {
    pub fn new(known: &'a Analysis, choice: &'a Choice) -> Schedule<'a> {
        let bytes = known.uses.iter().map(|known| known.bytes).collect();
        let second = vec![None; known.uses.len()];
        let (steps, spare, repeated) = (Vec::with_capacity(known.units.len()), HashMap::new(), vec![]);
        let mut schedule = Schedule { known, choice, steps, bytes, second, spare, cost: 0.0, repeated };
        for (index, unit) in known.units.iter().enumerate() {
            let rename = |&(buffer, _): &(usize, bool)| match schedule.is_gone(buffer, index) {
                true => (buffer, schedule.late(buffer, index)),
                false => (buffer, buffer),
            };
            let renamed = unit.bound.iter().map(rename).collect();
            schedule.steps.push(Step { unit: index, renamed });
        }
        schedule
    }

    fn is_gone(&self, buffer: usize, at: usize) -> bool {
        self.choice.dropped[buffer] && at > self.known.uses[buffer].early
    }

    fn fresh(&mut self, buffer: usize) -> usize {
        self.bytes.push(self.bytes[buffer]);
        self.bytes.len() - 1
    }

    /// The second buffer of a dropped value.
    fn late(&mut self, buffer: usize, at: usize) -> usize {
        if let Some(known) = self.second[buffer] {
            return known;
        }
        let new = self.fresh(buffer);
        self.second[buffer] = Some(new);
        self.write_again(buffer, self.known.uses[buffer].early_writers, new, at);
        new
    }

    fn write_again(&mut self, buffer: usize, version: usize, into: usize, at: usize) {
        self.repeated.push(buffer);
        let known = self.known;
        for &writer in &known.uses[buffer].writers[..version] {
            self.repeat(writer, buffer, into, at);
        }
    }

    /// Where a value lies that a repetition reads, as it was after so many writes.
    fn resolve(&mut self, buffer: usize, version: usize, at: usize) -> usize {
        let known = &self.known.uses[buffer];
        let now = known.version(at);
        if self.is_gone(buffer, at) {
            if version == known.early_writers && now == version {
                return self.late(buffer, at);
            }
        } else {
            let last = known.uses.last().copied().unwrap_or(0);
            let there = version == now && (at <= last || self.choice.pinned[buffer]);
            if there || !self.known.again(buffer, version) {
                return buffer;
            }
        }
        if let Some(&known) = self.spare.get(&(buffer, version)) {
            return known;
        }
        let new = self.fresh(buffer);
        self.spare.insert((buffer, version), new);
        self.write_again(buffer, version, new, at);
        new
    }

    /// Repeats a unit that writes `buffer`, now into `into`.
    fn repeat(&mut self, writer: usize, buffer: usize, into: usize, at: usize) {
        let known = self.known;
        let unit = &known.units[writer];
        let mut renamed = Vec::with_capacity(unit.bound.len());
        for &(other, write) in &unit.bound {
            let version = known.uses[other].version(writer);
            let new = match (other == buffer, write) {
                (true, _) => into,
                (false, false) => self.resolve(other, version, at),
                (false, true) => self.beside(other, version, at),
            };
            renamed.push((other, new));
        }
        self.cost += unit.cost;
        self.steps.push(Step { unit: writer, renamed });
    }

    /// Where a repetition writes what it writes beside the value that is wanted.
    fn beside(&mut self, buffer: usize, version: usize, at: usize) -> usize {
        let new = self.fresh(buffer);
        let known = &self.known.uses[buffer];
        if version > 0 {
            self.write_again(buffer, version, new, at);
        } else if known.writers[..known.early_writers].len() == 1
            && self.is_gone(buffer, at)
            && self.second[buffer].is_none()
        {
            self.second[buffer] = Some(new);
        } else {
            self.spare.entry((buffer, 1)).or_insert(new);
        }
        new
    }

    /// Bytes of transient values that are alive at each step.
    pub fn alive(&self) -> Vec<u64> {
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; self.bytes.len()];
        for (at, step) in self.steps.iter().enumerate() {
            for &(_, buffer) in &step.renamed {
                lives[buffer] = Some((lives[buffer].map_or(at, |(first, _)| first), at));
            }
        }
        let end = self.steps.len();
        for &result in &self.known.results {
            if let Some(life) = &mut lives[result] {
                life.1 = end.max(1) - 1;
            }
        }
        let mut change = vec![0i64; end + 1];
        for (life, &bytes) in lives.iter().zip(&self.bytes) {
            if let Some((first, last)) = life {
                change[*first] += bytes as i64;
                change[last + 1] -= bytes as i64;
            }
        }
        let mut alive = 0;
        change.pop();
        change.iter_mut().for_each(|step| {
            alive += *step;
            *step = alive;
        });
        change.into_iter().map(|alive| alive.max(0) as u64).collect()
    }

    /// The program that does this.
    pub fn write(&self, program: &Program) -> Program {
        let mut buffers = program.buffers.clone();
        buffers.extend(self.bytes[buffers.len()..].iter().map(|&bytes| BufferDecl { role: Role::Transient, bytes }));
        let mut segments: Vec<Segment> = Vec::new();
        for step in &self.steps {
            let unit = &self.known.units[step.unit];
            let renamed = |dispatch: &Dispatch| {
                let mut dispatch = dispatch.clone();
                for binding in &mut dispatch.bindings {
                    let new = step.renamed.iter().find(|(old, _)| *old == binding.buffer);
                    binding.buffer = new.map_or(binding.buffer, |(_, new)| *new);
                }
                dispatch
            };
            match &program.segments[unit.segment] {
                Segment::Gpu(dispatches) => {
                    let dispatch = renamed(&dispatches[unit.dispatch]);
                    match segments.last_mut() {
                        Some(Segment::Gpu(list)) => list.push(dispatch),
                        _ => segments.push(Segment::Gpu(vec![dispatch])),
                    }
                }
                Segment::Repeat { count, body, steps } => {
                    let body = body.iter().map(renamed).collect();
                    segments.push(Segment::Repeat { count: *count, body, steps: steps.clone() });
                }
                Segment::Host(_) => {}
            }
        }
        if segments.is_empty() {
            segments.push(Segment::Gpu(vec![]));
        }
        Program { buffers, segments, ..program.clone() }
    }
}
