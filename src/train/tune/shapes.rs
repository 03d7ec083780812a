//! Products on which the choice of kernels is judged: those of the standard workloads, squares, skinny ones, ones with a long
//! sum, stacks, and sizes that no tile divides, with every transposition.

use crate::error::Result;
use crate::kernels::matmul::Matmul;
use crate::kernels::{AdapterClass, Profile};
use crate::train::workloads::{Workload, outline};

/// Which operands are read transposed, in the words of BLAS.
const KINDS: [&str; 4] = ["nn", "nt", "tn", "tt"];

/// `[m, n, k]` of single products; every transposition of each is measured.
const SHAPES: [[usize; 3]; 11] = [
    [64, 64, 64],
    [256, 256, 256],
    [512, 512, 512],
    // Skinny: few rows, few columns.
    [1, 1024, 1024],
    [8, 768, 768],
    [1024, 1, 256],
    [512, 10, 512],
    // Long sums.
    [32, 32, 8192],
    [64, 128, 4096],
    // Nothing divides them.
    [127, 129, 131],
    [100, 30, 1000],
];

/// The same for GPUs, which have room for more.
const LARGE: [[usize; 3]; 4] = [[1024, 1024, 1024], [2048, 2048, 2048], [4096, 4096, 4096], [768, 768, 4096]];

/// `[batch, m, n, k]` of stacks, as heads of attention are.
const STACKS: [[usize; 4]; 3] = [[32, 128, 128, 32], [32, 128, 32, 128], [8, 64, 48, 20]];

/// Operations of the largest product that a software adapter is asked for.
const SOFTWARE_LIMIT: u64 = 1 << 29;

/// Operations of the largest product to judge by, if nothing else is asked.
pub fn usual_limit(profile: &Profile) -> u64 {
    if profile.class == AdapterClass::Cpu { SOFTWARE_LIMIT } else { u64::MAX }
}

/// Products of up to `limit` operations to judge the choice by, those of the standard workloads among them, none twice.
pub fn shapes(profile: &Profile, limit: u64) -> Result<Vec<Matmul>> {
    let mut all = Vec::new();
    for kind in KINDS {
        let gpu = profile.class != AdapterClass::Cpu;
        let single = SHAPES.iter().chain(if gpu { &LARGE[..] } else { &[] });
        all.extend(single.map(|&[m, n, k]| Matmul::contiguous(kind, [1, m, n, k])));
        all.extend(STACKS.iter().map(|&sizes| Matmul::contiguous(kind, sizes)));
    }
    for workload in [Workload::W2, Workload::W3, Workload::W4, Workload::W5] {
        let (trainer, loss) = outline(workload)?;
        all.extend(trainer.tunable(profile, &*loss)?.products.into_iter().map(|(product, _)| product));
    }
    let mut kept: Vec<Matmul> = Vec::new();
    for mm in all {
        let work = 2 * (mm.m * mm.n * mm.k * mm.batch[0] * mm.batch[1]) as u64;
        if work <= limit && work > 0 && !kept.contains(&mm) {
            kept.push(mm);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::matmul::candidates;

    #[test]
    fn there_are_shapes_and_candidates_enough_on_every_kind_of_adapter() -> Result<()> {
        let cpu = |subgroup| Profile { class: AdapterClass::Cpu, subgroup, ..Profile::baseline() };
        let large = Profile { max_binding_bytes: 2 << 30, max_buffer_bytes: 2 << 30, ..Profile::baseline() };
        for profile in [large, cpu(None), cpu(Some(8))] {
            let shapes = shapes(&profile, usual_limit(&profile))?;
            assert!(shapes.len() >= 60, "{}: {} shapes", profile.tier(), shapes.len());
            for mm in shapes.iter().filter(|mm| !mm.row_sums) {
                let count = candidates(&profile, mm).len();
                assert!(count >= 8, "{}: {count} candidates", profile.tier());
            }
            assert!(shapes.iter().any(|mm| mm.walks[1].is_some()) && shapes.iter().any(|mm| mm.bias_gradient));
        }
        Ok(())
    }
}
