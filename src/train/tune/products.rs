//! A product by itself, by every kernel that there is for it.

use super::{Candidate, Clock, least};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::{Device, READBACK_RING, Session};
use crate::kernels::matmul::alone::{OPERANDS, RESULTS, lengths, program, state};
use crate::kernels::matmul::{Matmul, Variant, candidates};
use crate::program::Program;
use crate::train::products as squares;
use crate::train::workloads::uniform;

/// Numbers within 1 for both operands, in whole vectors: those that f16 has where matrix units are among the candidates, which
/// round what is stored in f32, so that nothing is to be seen but their mistakes.
pub fn data(mm: &Matmul, halves: bool) -> [Vec<f32>; 2] {
    let mut data = lengths(mm).map(|elements| vec![0.0; elements]);
    for (stream, values) in (1..).zip(&mut data) {
        *values = uniform(0, stream, values.len(), 1.0);
        if halves {
            squares::round(values, DType::F16);
        }
        // Vectors are bound whole.
        values.resize(values.len().next_multiple_of(4), 0.0);
    }
    data
}

/// What a product is compared with. The direct kernel gives no sums of rows; for those the smallest block is the judge.
pub fn judge(mm: &Matmul) -> Variant {
    if mm.row_sums { Variant::Register { rows: 4, quads: 1 } } else { Variant::Direct }
}

/// Every candidate for a product, the rules' first, with its least time if it was right.
pub fn measure(device: &Device, mm: &Matmul, clock: Clock) -> Result<Vec<Candidate<Variant>>> {
    let variants = candidates(device.profile(), mm);
    let data = data(mm, variants.iter().any(Variant::is_cooperative));
    let expected = results(&mut session(device, &[judge(mm)], mm, &data)?, 0)?;
    let bytes = 4 * mm.m * mm.n * mm.batch[0] * mm.batch[1] * READBACK_RING;
    let mut measured = Vec::new();
    for variants in variants.chunks((AT_ONCE / bytes.max(1)).max(1)) {
        let best =
            measured.iter().filter_map(|candidate: &Candidate<Variant>| candidate.micros).fold(f64::INFINITY, f64::min);
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
pub fn session(device: &Device, variants: &[Variant], mm: &Matmul, data: &[Vec<f32>; 2]) -> Result<Session> {
    let programs = variants.iter().map(|&variant| program(variant, mm, device.profile())).collect();
    session_of(device, programs, mm, data)
}

/// Programs of one product, over the same operands.
pub fn session_of(device: &Device, programs: Vec<Program>, mm: &Matmul, data: &[Vec<f32>; 2]) -> Result<Session> {
    let mut session = Session::new(device, state(mm, device.profile())?, programs)?;
    for ((name, values), stored) in OPERANDS.iter().zip(data).zip(mm.stored) {
        session.write_state(name, &packed(values, stored))?;
    }
    Ok(session)
}

/// Numbers as they are stored, in whole vectors.
fn packed(values: &[f32], stored: DType) -> Vec<u8> {
    let mut bytes = squares::bytes(values, stored);
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    bytes
}

/// The product, and the sums beside it if there are any.
pub fn results(session: &mut Session, program: usize) -> Result<Vec<Vec<f32>>> {
    let names = RESULTS.iter().take(session.program(program).outputs.len());
    let ticket = session.run(&[program])?;
    let results = session.fetch(ticket)?;
    names.map(|name| results.f32(name)).collect()
}

/// Whether every number is what rounding allows it to be, for sums of `k` terms within 1.
pub fn agree(expected: &[Vec<f32>], found: &[Vec<f32>], k: usize) -> bool {
    let allowed = 1e-5 + 4e-7 * k as f32;
    let near = |(expected, found): (&f32, &f32)| (expected - found).abs() <= allowed;
    let same = |(expected, found): (&Vec<f32>, &Vec<f32>)| {
        expected.len() == found.len() && expected.iter().zip(found).all(near)
    };
    expected.len() == found.len() && expected.iter().zip(found).all(same)
}

#[cfg(test)]
mod tests {
    use super::super::{Found, tune};
    use super::*;
    use crate::kernels::{AdapterClass, Profile};
    use crate::lower::Tunable;

    fn product() -> Matmul {
        Matmul { bias_gradient: true, ..Matmul::contiguous("nn", [1, 20, 24, 28]) }
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
        let all = Tunable { products: vec![(product(), 2)], attentions: vec![] };
        let choices = tune(&device, all, Clock::Device, &mut |found| {
            let Found::Product(tuned) = found else { panic!("{found:?}") };
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

    /// The kernels for GPUs give the same numbers on whatever adapter there is: every layout, with edges, and skinny ones.
    #[test]
    fn the_kernels_for_gpus_are_right() -> Result<()> {
        let device = Device::open(None)?;
        let gpu = Profile { class: AdapterClass::Discrete, subgroup: None, ..device.profile().clone() };
        let shapes = [[1, 68, 36, 40], [1, 3, 132, 24], [2, 140, 5, 12], [1, 1, 64, 72]];
        let kinds = ["nn", "nt", "tn", "tt"];
        for (kind, shape) in kinds.iter().flat_map(|kind| shapes.map(|shape| (kind, shape))) {
            let mm = Matmul::contiguous(kind, shape);
            let variants = candidates(&gpu, &mm);
            assert!(variants.len() >= 8, "{variants:?}");
            let data = data(&mm, false);
            let expected = results(&mut session(&device, &[judge(&mm)], &mm, &data)?, 0)?;
            let programs = variants.iter().map(|&variant| program(variant, &mm, &gpu)).collect();
            let mut session = session_of(&device, programs, &mm, &data)?;
            for (index, variant) in variants.iter().enumerate() {
                assert!(agree(&expected, &results(&mut session, index)?, mm.k), "{variant} of {kind} {shape:?}");
            }
        }
        Ok(())
    }
}
