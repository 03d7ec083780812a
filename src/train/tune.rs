//! Measuring on a device the kernels of which a model may have one or another, for the choice table.
//!
//! Every candidate is compared with the simplest kernel before it may win; matrix units are checked before that and, once
//! wrong, ruled out ([`super::units`]). Nothing of a model in training is touched: winners are for the next time that
//! programs are compiled.

pub mod attention;
pub mod products;
pub mod shapes;

use super::units;
use crate::error::{Error, Result};
use crate::gpu::{Device, Session};
use crate::kernels::Choices;
use crate::kernels::attention::{AttentionShape, Tier};
use crate::kernels::matmul::{Matmul, Variant};
use crate::lower::Tunable;

/// A kernel and the least microseconds that it took; `None` if it was wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate<V> {
    pub variant: V,
    pub micros: Option<f64>,
}

/// What was measured of one product, or of one attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned<P, V> {
    pub of: P,
    /// Times that a step computes it.
    pub count: u64,
    /// The candidates, that of the rules first.
    pub candidates: Vec<Candidate<V>>,
}

/// What is told as soon as it is measured.
#[derive(Debug, Clone, Copy)]
pub enum Found<'t> {
    Product(&'t Tuned<Matmul, Variant>),
    Attention(&'t Tuned<AttentionShape, Tier>),
}

/// Another variant must be so much faster than that of the rules: less may be chance.
const MARGIN: f64 = 0.95;

/// The least time of so many rounds counts.
const ROUNDS: usize = 7;

/// A candidate that is so many times slower than the best is not measured further.
const HOPELESS: f64 = 2.0;

impl<P, V> Tuned<P, V> {
    /// The fastest right candidate, the rules' if it is about as fast.
    pub fn winner(&self) -> Option<&Candidate<V>> {
        let right = self.candidates.iter().filter(|candidate| candidate.micros.is_some());
        let time = |candidate: &Candidate<V>| candidate.micros.unwrap_or(f64::INFINITY);
        let best = right.min_by(|a, b| time(a).total_cmp(&time(b)))?;
        let rule = self.candidates.first().filter(|rule| time(rule) * MARGIN <= time(best));
        Some(rule.unwrap_or(best))
    }

    /// How many times longer than the best candidate the rules' takes.
    pub fn regret(&self) -> Option<f64> {
        let best = self.candidates.iter().filter_map(|candidate| candidate.micros).fold(f64::INFINITY, f64::min);
        Some(self.candidates.first()?.micros? / best)
    }

    /// The first candidate of such a kind that was wrong.
    fn wrong(&self, kind: impl Fn(&V) -> bool) -> Option<&V> {
        let wrong = self.candidates.iter().find(|candidate| kind(&candidate.variant) && candidate.micros.is_none());
        wrong.map(|candidate| &candidate.variant)
    }
}

/// How long something takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// On the device.
    Device,
    /// For processors that execute a software adapter's kernels: what else runs on the machine counts little, but neither
    /// do cores that have nothing to do. Linux only.
    Processor,
}

/// Measures every candidate for each product, the longest first, and for each attention, and tells `each` what was found.
/// Matrix units are a candidate only where the device's choices say that they were found right, or where they are so now:
/// what was found is in the choices that are returned.
pub fn tune(
    device: &Device,
    tunable: Tunable,
    clock: Clock,
    each: &mut dyn FnMut(Found<'_>) -> Result<()>,
) -> Result<Choices> {
    let mut choices = units::judged(device, &tunable);
    let Tunable { mut products, attentions } = tunable;
    let work = |mm: &Matmul| (mm.m * mm.n * mm.k * mm.batch[0] * mm.batch[1]) as u64;
    products.retain(|(mm, _)| work(mm) > 0);
    products.sort_by_key(|(mm, count)| std::cmp::Reverse(work(mm) * count));
    for (product, count) in products {
        let candidates = products::measure(&device.with_choices(choices.units_alone()), &product, clock)?;
        let tuned = Tuned { of: product, count, candidates };
        if let Some(winner) = tuned.winner() {
            choices.set(&tuned.of, winner.variant);
        }
        if let Some(variant) = tuned.wrong(Variant::is_cooperative) {
            choices.judge_units(units::wrong(variant, "direct", &tuned.of.name()));
        }
        each(Found::Product(&tuned))?;
    }
    for (shape, count) in attentions {
        let candidates = attention::measure(&device.with_choices(choices.units_alone()), &shape, clock)?;
        let tuned = Tuned { of: shape, count, candidates };
        if let Some(winner) = tuned.winner() {
            choices.set_attention(&tuned.of, winner.variant);
        }
        if let Some(tier) = tuned.wrong(Tier::is_cooperative) {
            choices.judge_units(units::wrong(tier, "plain", &tuned.of.name()));
        }
        each(Found::Attention(&tuned))?;
    }
    Ok(choices)
}

/// What of this the device has no choice for. All of it, if matrix units have to be checked first: what another machine found
/// best on them is measured again where they turn out to be right here.
pub fn missing(device: &Device, mut tunable: Tunable) -> Tunable {
    if !units::are_unchecked(device, &tunable) {
        let known = &device.profile().choices;
        tunable.products.retain(|(product, _)| !known.knows(product));
        tunable.attentions.retain(|(shape, _)| !known.knows_attention(shape));
    }
    tunable
}

/// The least microseconds of each program that gives the right numbers. They take turns, so that whatever else the machine
/// does meets all alike; `best` was measured before.
fn least(session: &mut Session, right: &[bool], clock: Clock, best: f64) -> Result<Vec<Option<f64>>> {
    let mut times: Vec<Option<f64>> = right.iter().map(|right| right.then_some(f64::INFINITY)).collect();
    for _ in 0..ROUNDS {
        let best = times.iter().flatten().copied().fold(best, f64::min);
        for (program, time) in times.iter_mut().enumerate() {
            let Some(time) = time.as_mut().filter(|time| time.is_infinite() || **time <= HOPELESS * best) else {
                continue;
            };
            *time = time.min(once(session, program, clock)?);
        }
    }
    Ok(times)
}

fn once(session: &mut Session, program: usize, clock: Clock) -> Result<f64> {
    let before = match clock {
        Clock::Device => 0.0,
        Clock::Processor => others_micros()?,
    };
    let device = session.profile(&[program])?.iter().map(|timing| timing.micros).sum();
    match clock {
        Clock::Device => Ok(device),
        Clock::Processor => Ok(others_micros()? - before),
    }
}

/// Microseconds that the threads of this process other than the present one have had a processor.
fn others_micros() -> Result<f64> {
    let place = "/proc/self/task";
    let own = std::fs::read_link("/proc/thread-self").map_err(|e| Error::file("/proc/thread-self", &e))?;
    let mut nanos = 0;
    for entry in std::fs::read_dir(place).map_err(|e| Error::file(place, &e))?.flatten() {
        if own.file_name() != Some(&entry.file_name()) {
            // A thread may end meanwhile.
            let text = std::fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
            nanos += text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(nanos as f64 * 1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuned(times: &[Option<f64>]) -> Tuned<(), u32> {
        let candidates = (0..).zip(times).map(|(variant, &micros)| Candidate { variant, micros }).collect();
        Tuned { of: (), count: 1, candidates }
    }

    #[test]
    fn the_fastest_right_candidate_wins_if_it_is_clearly_faster() {
        let winner = |times: &[Option<f64>]| tuned(times).winner().map(|winner| winner.variant);
        assert_eq!(winner(&[Some(10.0), Some(9.8), Some(30.0)]), Some(0));
        assert_eq!(winner(&[Some(10.0), Some(7.0), Some(8.0)]), Some(1));
        assert_eq!(winner(&[None, None, Some(8.0)]), Some(2));
        assert_eq!(winner(&[None, None, None]), None);
        assert_eq!(tuned(&[Some(10.0), Some(8.0), None]).regret(), Some(1.25));
        assert_eq!(tuned(&[None, Some(8.0), None]).wrong(|variant| *variant > 0), Some(&2));
    }
}
