//! Measuring the kernels of a model's products on a device, for the choice table.
//!
//! Every candidate is compared with the direct kernel before it may win; matrix units are checked before that and, once
//! wrong, ruled out ([`super::units`]). Nothing of a model in training is touched: winners are for the next time that
//! programs are compiled.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::{Device, READBACK_RING, Session};
use crate::kernels::matmul::alone::{OPERANDS, RESULTS, lengths, program, state};
use crate::kernels::matmul::{Choices, Matmul, Variant, candidates};
use crate::program::Program;
use crate::train::workloads::uniform;
use crate::train::{products, units};

/// A variant and the least microseconds that it took; `None` if it was wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub variant: Variant,
    pub micros: Option<f64>,
}

/// What was measured of one product.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    pub product: Matmul,
    /// Times that a step computes it.
    pub count: u64,
    /// The candidates, that of the rules first.
    pub candidates: Vec<Candidate>,
}

/// Another variant must be so much faster than that of the rules: less may be chance.
const MARGIN: f64 = 0.95;

/// The least time of so many rounds counts.
const ROUNDS: usize = 7;

/// A candidate that is so many times slower than the best is not measured further.
const HOPELESS: f64 = 2.0;

impl Tuned {
    /// The fastest right candidate, the rules' if it is about as fast.
    pub fn winner(&self) -> Option<&Candidate> {
        let right = self.candidates.iter().filter(|candidate| candidate.micros.is_some());
        let time = |candidate: &Candidate| candidate.micros.unwrap_or(f64::INFINITY);
        let best = right.min_by(|a, b| time(a).total_cmp(&time(b)))?;
        let rule = self.candidates.first().filter(|rule| time(rule) * MARGIN <= time(best));
        Some(rule.unwrap_or(best))
    }

    /// How many times longer than the best candidate the rules' takes.
    pub fn regret(&self) -> Option<f64> {
        let best = self.candidates.iter().filter_map(|candidate| candidate.micros).fold(f64::INFINITY, f64::min);
        Some(self.candidates.first()?.micros? / best)
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

/// Measures every candidate for each product, the longest first, and tells `each` what was found. Matrix units are a
/// candidate only where the device's choices say that they were found right, or where they are so now: what was found is in
/// the choices that are returned.
pub fn tune(
    device: &Device,
    products: Vec<(Matmul, u64)>,
    clock: Clock,
    each: &mut dyn FnMut(&Tuned) -> Result<()>,
) -> Result<Choices> {
    let mut products = products;
    let work = |mm: &Matmul| (mm.m * mm.n * mm.k * mm.batch[0] * mm.batch[1]) as u64;
    products.retain(|(mm, _)| work(mm) > 0);
    products.sort_by_key(|(mm, count)| std::cmp::Reverse(work(mm) * count));
    let mut choices = units::judged(device, products.iter().map(|(product, _)| product));
    for (product, count) in products {
        let candidates = measure(&device.with_choices(choices.units_alone()), &product, clock)?;
        let tuned = Tuned { product, count, candidates };
        if let Some(winner) = tuned.winner() {
            choices.set(&tuned.product, winner.variant);
        }
        let wrong = |candidate: &&Candidate| candidate.variant.is_cooperative() && candidate.micros.is_none();
        if let Some(candidate) = tuned.candidates.iter().find(wrong) {
            choices.judge_units(units::wrong(candidate.variant, &tuned.product));
        }
        each(&tuned)?;
    }
    Ok(choices)
}

/// Numbers within 1 for both operands, in whole vectors: those that f16 has where matrix units are among the candidates, which
/// round what is stored in f32, so that nothing is to be seen but their mistakes.
pub(super) fn data(mm: &Matmul, halves: bool) -> [Vec<f32>; 2] {
    let mut data = lengths(mm).map(|elements| vec![0.0; elements]);
    for (stream, values) in (1..).zip(&mut data) {
        *values = uniform(0, stream, values.len(), 1.0);
        if halves {
            products::round(values, DType::F16);
        }
        // Vectors are bound whole.
        values.resize(values.len().next_multiple_of(4), 0.0);
    }
    data
}

/// What a product is compared with. The direct kernel gives no sums of rows; for those the smallest block is the judge.
pub(super) fn judge(mm: &Matmul) -> Variant {
    if mm.row_sums { Variant::Register { rows: 4, quads: 1 } } else { Variant::Direct }
}

fn measure(device: &Device, mm: &Matmul, clock: Clock) -> Result<Vec<Candidate>> {
    let variants = candidates(device.profile(), mm);
    let data = data(mm, variants.iter().any(Variant::is_cooperative));
    let expected = results(&mut session(device, &[judge(mm)], mm, &data)?, 0)?;
    let bytes = 4 * mm.m * mm.n * mm.batch[0] * mm.batch[1] * READBACK_RING;
    let mut measured = Vec::new();
    for variants in variants.chunks((AT_ONCE / bytes.max(1)).max(1)) {
        let best = measured.iter().filter_map(|candidate: &Candidate| candidate.micros).fold(f64::INFINITY, f64::min);
        let mut session = session(device, variants, mm, &data)?;
        let right = |index| Ok(agree(&expected, &results(&mut session, index)?, mm.k));
        let right: Vec<bool> = (0..variants.len()).map(right).collect::<Result<_>>()?;
        let times = least(&mut session, &right, clock, best)?;
        let candidate = |(&variant, micros)| Candidate { variant, micros };
        measured.extend(variants.iter().zip(times).map(candidate));
    }
    Ok(measured)
}

/// Bytes for the results of candidates that are measured in turn; what needs more is measured one after the other.
const AT_ONCE: usize = 256 << 20;

/// A program for each variant, over the same operands.
pub(super) fn session(device: &Device, variants: &[Variant], mm: &Matmul, data: &[Vec<f32>; 2]) -> Result<Session> {
    let programs = variants.iter().map(|&variant| program(variant, mm, device.profile())).collect();
    session_of(device, programs, mm, data)
}

/// Programs of one product, over the same operands.
pub(super) fn session_of(
    device: &Device,
    programs: Vec<Program>,
    mm: &Matmul,
    data: &[Vec<f32>; 2],
) -> Result<Session> {
    let mut session = Session::new(device, state(mm, device.profile())?, programs)?;
    for ((name, values), stored) in OPERANDS.iter().zip(data).zip(mm.stored) {
        session.write_state(name, &packed(values, stored))?;
    }
    Ok(session)
}

/// Numbers as they are stored, in whole vectors.
fn packed(values: &[f32], stored: DType) -> Vec<u8> {
    let mut bytes = products::bytes(values, stored);
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    bytes
}

/// The product, and the sums beside it if there are any.
pub(super) fn results(session: &mut Session, program: usize) -> Result<Vec<Vec<f32>>> {
    let names = RESULTS.iter().take(session.program(program).outputs.len());
    let ticket = session.run(&[program])?;
    let results = session.fetch(ticket)?;
    names.map(|name| results.f32(name)).collect()
}

/// Whether every number is what rounding allows it to be, for sums of `k` terms within 1.
pub(super) fn agree(expected: &[Vec<f32>], found: &[Vec<f32>], k: usize) -> bool {
    let allowed = 1e-5 + 4e-7 * k as f32;
    let near = |(expected, found): (&f32, &f32)| (expected - found).abs() <= allowed;
    let same = |(expected, found): (&Vec<f32>, &Vec<f32>)| {
        expected.len() == found.len() && expected.iter().zip(found).all(near)
    };
    expected.len() == found.len() && expected.iter().zip(found).all(same)
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

    fn tuned(times: &[Option<f64>]) -> Tuned {
        let variants =
            [Variant::Direct, Variant::Register { rows: 8, quads: 2 }, Variant::Register { rows: 4, quads: 1 }];
        let candidates =
            variants.into_iter().zip(times).map(|(variant, &micros)| Candidate { variant, micros }).collect();
        Tuned { product: product(), count: 1, candidates }
    }

    fn product() -> Matmul {
        Matmul { bias_gradient: true, ..Matmul::contiguous("nn", [1, 20, 24, 28]) }
    }

    #[test]
    fn the_fastest_right_candidate_wins_if_it_is_clearly_faster() {
        let winner = |times: &[Option<f64>]| tuned(times).winner().map(|winner| winner.variant);
        assert_eq!(winner(&[Some(10.0), Some(9.8), Some(30.0)]), Some(Variant::Direct));
        assert_eq!(winner(&[Some(10.0), Some(7.0), Some(8.0)]), Some(Variant::Register { rows: 8, quads: 2 }));
        assert_eq!(winner(&[None, None, Some(8.0)]), Some(Variant::Register { rows: 4, quads: 1 }));
        assert_eq!(winner(&[None, None, None]), None);
        assert_eq!(tuned(&[Some(10.0), Some(8.0), None]).regret(), Some(1.25));
    }

    #[test]
    fn a_wrong_number_is_seen() {
        let right = vec![vec![1.0, 2.0], vec![3.0]];
        assert!(agree(&right, &right, 10));
        assert!(!agree(&right, &[vec![1.0, 2.001], vec![3.0]], 10));
        assert!(!agree(&right, &[vec![1.0, f32::NAN], vec![3.0]], 10));
        assert!(!agree(&right, &right[..1], 10));
    }

    #[test]
    fn all_candidates_of_a_product_are_right_and_the_table_is_used() -> Result<()> {
        let device = Device::open(None)?;
        let mut count = 0;
        let choices = tune(&device, vec![(product(), 2)], Clock::Device, &mut |tuned| {
            count = tuned.candidates.len();
            assert!(tuned.candidates.iter().all(|candidate| candidate.micros.is_some()), "{tuned:?}");
            Ok(())
        })?;
        assert!(count >= 4, "{count} candidates");
        assert!(device.with_choices(choices).profile().choices.knows(&product()));
        for stored in [[DType::F16, DType::F32], [DType::BF16, DType::BF16], [DType::F16, DType::F16]] {
            for k in [28, 27] {
                let product = Matmul { stored, k, ..product() };
                let all = measure(&device, &product, Clock::Device)?;
                assert!(all.iter().all(|candidate| candidate.micros.is_some()), "{product:?}: {all:?}");
            }
        }
        Ok(())
    }
}
