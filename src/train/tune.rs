//! Measuring the kernels of a model's products on a device, for the choice table.
//!
//! Every candidate is compared with the direct kernel before it may win. Nothing of a model in training is touched:
//! winners are for the next time that programs are compiled.

use crate::error::Result;
use crate::gpu::{Device, Session};
use crate::kernels::matmul::alone::{RESULTS, lengths, program};
use crate::kernels::matmul::{Choices, Matmul, Variant, candidates};
use crate::program::StateLayout;
use crate::train::workloads::uniform;

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
const ROUNDS: usize = 5;

/// A candidate whose first round is so many times slower than the best is not measured further.
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

/// Measures every candidate for each product, the longest first, and tells `each` what was found.
pub fn tune(
    device: &Device,
    products: Vec<(Matmul, u64)>,
    each: &mut dyn FnMut(&Tuned) -> Result<()>,
) -> Result<Choices> {
    let mut products = products;
    let work = |mm: &Matmul| (mm.m * mm.n * mm.k * mm.batch[0] * mm.batch[1]) as u64;
    products.retain(|(mm, _)| work(mm) > 0);
    products.sort_by_key(|(mm, count)| std::cmp::Reverse(work(mm) * count));
    let mut choices = Choices::default();
    for (product, count) in products {
        let candidates = measure(device, &product)?;
        let tuned = Tuned { product, count, candidates };
        if let Some(winner) = tuned.winner() {
            choices.set(&tuned.product, winner.variant);
        }
        each(&tuned)?;
    }
    Ok(choices)
}

fn measure(device: &Device, mm: &Matmul) -> Result<Vec<Candidate>> {
    let [a, b] = lengths(mm);
    let inputs = [uniform(0, 1, a, 1.0), uniform(0, 2, b, 1.0)];
    // The direct kernel gives no sums of rows; for those the smallest block is the judge.
    let judge = if mm.row_sums { Variant::Register { rows: 4, quads: 1 } } else { Variant::Direct };
    let expected = results(&mut session(device, judge, mm, &inputs)?)?;
    let mut best = f64::INFINITY;
    let mut measured = Vec::new();
    for variant in candidates(device.profile(), mm) {
        let mut session = session(device, variant, mm, &inputs)?;
        let right = agree(&expected, &results(&mut session)?, mm.k);
        let micros = if right { Some(least(&mut session, best)?) } else { None };
        best = best.min(micros.unwrap_or(best));
        measured.push(Candidate { variant, micros });
    }
    Ok(measured)
}

fn session(device: &Device, variant: Variant, mm: &Matmul, inputs: &[Vec<f32>; 2]) -> Result<Session> {
    let program = program(variant, mm, device.profile());
    let mut session = Session::new(device, StateLayout::default(), vec![program])?;
    for (name, values) in ["a", "b"].iter().zip(inputs) {
        session.write_input(0, name, bytemuck::cast_slice(values))?;
    }
    Ok(session)
}

/// The product, and the sums beside it if there are any.
fn results(session: &mut Session) -> Result<Vec<Vec<f32>>> {
    let names = RESULTS.iter().take(session.program(0).outputs.len());
    let ticket = session.run(&[0])?;
    let results = session.fetch(ticket)?;
    names.map(|name| results.f32(name)).collect()
}

/// Whether every number is what rounding allows it to be, for sums of `k` terms within 1.
fn agree(expected: &[Vec<f32>], found: &[Vec<f32>], k: usize) -> bool {
    let allowed = 1e-5 + 4e-7 * k as f32;
    let near = |(expected, found): (&f32, &f32)| (expected - found).abs() <= allowed;
    let same = |(expected, found): (&Vec<f32>, &Vec<f32>)| {
        expected.len() == found.len() && expected.iter().zip(found).all(near)
    };
    expected.len() == found.len() && expected.iter().zip(found).all(same)
}

fn least(session: &mut Session, best: f64) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        let micros: f64 = session.profile(&[0])?.iter().map(|timing| timing.micros).sum();
        least = least.min(micros);
        if least > HOPELESS * best {
            break;
        }
    }
    Ok(least)
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
        let operand = |row| crate::kernels::matmul::Operand { offset: 0, row, col: 1, batch: [0, 0] };
        Matmul {
            m: 20,
            n: 24,
            k: 28,
            batch: [1, 1],
            a: operand(28),
            b: operand(24),
            out_wide: true,
            bias_gradient: true,
            row_sums: false,
            pairs: false,
            walks: [None, None],
        }
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
        let choices = tune(&device, vec![(product(), 2)], &mut |tuned| {
            count = tuned.candidates.len();
            assert!(tuned.candidates.iter().all(|candidate| candidate.micros.is_some()), "{tuned:?}");
            Ok(())
        })?;
        assert!(count >= 4, "{count} candidates");
        assert!(device.with_choices(choices).profile().choices.knows(&product()));
        Ok(())
    }
}
