//! What a product costs on a software adapter with each variant: the model behind the choice there.
//!
//! A variant's tiles are dealt over the cores, and each costs what its block costs for one step of `k`: of a subgroup's block
//! a part that grows with its rows (multiply-adds and broadcasts) and one that does not (the loads of `b`); of others their
//! area. The constants are those of the table in `docs/performance.md`, two cores with subgroups of 8, in units in which a
//! step of a 32 x 32 block takes 0.81. `wgrad tune --check` measures how near the best candidates the choice comes.
//!
//! Subgroups of four are those of SwiftShader, in which nothing is as dear as reading: it takes an element for one lane after
//! the other. Its costs are in units of their own: a read of one element in every lane.

use super::{Matmul, REGISTER, Variant, fits, register};
use crate::kernels::Profile;
use crate::kernels::profile::SWIFTSHADER;

/// Of a row of a subgroup's block.
const ROW: f32 = 0.019;
/// Of the loads of `b`, once for all rows.
const LOADS: f32 = 0.2;
/// The same where each element's place is found by a walk.
const WALKED_LOADS: f32 = 0.8;
/// Of one output, at a rate of 1 GFLOP/s.
const OUTPUT: f32 = 0.0314;

/// Of a product and a sum in every lane of SwiftShader's, beside a read.
const PRODUCT: f32 = 0.075;
/// Of a read there, if a walk says where.
const WALKED_READ: f32 = 2.0;

/// Cores of the machine, which a profile does not say: with more tiles than that none is idle for long.
const CORES: usize = 2;

/// A variant that few products want is one more text to compile, a tenth of a second: it must be so much cheaper, and the
/// product, with what the usual variant computes beyond its edges, so large that it is noticed.
const WORTH: f32 = 0.85;
const LARGE: u64 = 1 << 19;
/// From so many products on SwiftShader's largest block is worth its text, which takes it four times the time to compile; one
/// that walks is longer, and gains less.
const LARGEST: u64 = 1 << 25;
const LARGEST_WALKED: u64 = 1 << 26;

/// The cheapest variant of those that most products share, or a rarer one that is worth its text.
pub fn cheapest(profile: &Profile, mm: &Matmul) -> Variant {
    let work = computed(mm, [1, 1]);
    let (usual, rare): (Vec<Variant>, Vec<Variant>) = match profile.subgroup {
        Some(lanes @ SWIFTSHADER) => {
            let block = |(rows, quads)| Variant::Subgroup { lanes, rows, quads };
            let least = if mm.walks.iter().any(Option::is_some) { LARGEST_WALKED } else { LARGEST };
            let largest = (work >= least).then_some((32, 2));
            let others = [(16, 1), (8, 1), (4, 1)];
            (vec![block((8, 2))], others.into_iter().chain(largest).map(block).collect())
        }
        Some(lanes @ (8 | 16)) => {
            let rows = |rows: u32| Variant::Subgroup { lanes, rows, quads: 1 };
            // Of columns fewer than a subgroup's, such as those of a vector, it computes many for nothing.
            let narrow = Variant::Register { rows: 8, quads: 1 };
            (vec![rows(32), rows(8)], vec![rows(16), rows(4), narrow])
        }
        _ => {
            let rows = |rows: u32| Variant::Register { rows, quads: 1 };
            let direct = (!mm.row_sums).then_some(Variant::Direct);
            (vec![REGISTER], [rows(8), rows(4)].into_iter().chain(direct).collect())
        }
    };
    let least = |variants: &[Variant]| {
        let costs =
            variants.iter().filter(|variant| fits(profile, **variant)).map(|&variant| (variant, cost(variant, mm)));
        costs.fold((REGISTER, f32::INFINITY), |best, own| if own.1 < best.1 { own } else { best })
    };
    let (usual, rare) = (least(&usual), least(&rare));
    let large = computed(mm, tile(usual.0, mm)) >= LARGE;
    if large && rare.1 < WORTH * usual.1 { rare.0 } else { usual.0 }
}

/// Rows and columns that a workgroup computes.
fn tile(variant: Variant, mm: &Matmul) -> [usize; 2] {
    let lanes = match variant {
        Variant::Register { rows, quads } => register::lanes(mm, rows, quads),
        _ => register::LANES,
    };
    let (tile_m, tile_n) = variant.tile(lanes);
    [tile_m as usize, tile_n as usize]
}

/// Multiplications of a product in whole tiles; in 64 bits, for a page counts in 32.
fn computed(mm: &Matmul, [tile_m, tile_n]: [usize; 2]) -> u64 {
    let sizes = [mm.m.next_multiple_of(tile_m), mm.n.next_multiple_of(tile_n), mm.k, mm.batch[0], mm.batch[1]];
    sizes.into_iter().fold(1, |product, size| product * size as u64)
}

/// For each step of `k`.
fn cost(variant: Variant, mm: &Matmul) -> f32 {
    let batches = mm.batch[0] * mm.batch[1];
    // Of a product of GFLOP/s; what is walked was measured for whole blocks only.
    let area = |outputs: usize, rate: f32| outputs as f32 * OUTPUT / rate;
    let [tile_m, tile_n] = tile(variant, mm);
    let tiles = mm.m.div_ceil(tile_m) * mm.n.div_ceil(tile_n) * batches;
    let rounds = tiles.div_ceil(CORES) as f32;
    let outputs = tile_m * tile_n;
    match variant {
        Variant::Subgroup { lanes: SWIFTSHADER, rows, quads } => {
            let read = |operand: usize| if mm.walks[operand].is_some() { WALKED_READ } else { 1.0 };
            let reads = rows as f32 * read(0) + (16 * quads) as f32 * read(1);
            rounds * (reads + (16 * rows * quads) as f32 * PRODUCT)
        }
        Variant::Subgroup { rows, quads, .. } => {
            let loads = if mm.walks[1].is_some() { WALKED_LOADS } else { LOADS };
            rounds * quads as f32 * (rows as f32 * ROW + loads)
        }
        Variant::Register { rows: 8, quads: 2 } => rounds * area(outputs, 19.2),
        _ if mm.walks.iter().any(Option::is_some) => f32::INFINITY,
        Variant::Register { rows: 8, .. } => rounds * area(outputs, 12.6),
        Variant::Register { .. } => rounds * area(outputs, 10.0),
        Variant::Direct => area((mm.m * mm.n * batches).div_ceil(CORES), if mm.out_wide { 2.8 } else { 1.0 }),
        // Software adapters have no memory that is nearer than others.
        Variant::Tiled { .. } | Variant::Cooperative { .. } => f32::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::kernels::AdapterClass;

    fn chosen(subgroup: Option<u32>, [m, n, k]: [usize; 3]) -> Variant {
        let mm = Matmul::contiguous("nn", [1, m, n, k]);
        cheapest(&Profile { class: AdapterClass::Cpu, subgroup, ..Profile::baseline() }, &mm)
    }

    #[test]
    fn the_choice_is_what_was_measured_to_be_best() {
        // The table in docs/performance.md.
        for shape in
            [[256, 256, 256], [512, 512, 512], [128, 512, 784], [128, 10, 512], [784, 512, 128], [1024, 128, 384]]
        {
            assert_eq!(chosen(Some(8), shape), Variant::Subgroup { lanes: 8, rows: 32, quads: 1 }, "{shape:?}");
        }
        assert_eq!(chosen(None, [512, 512, 512]), REGISTER);
    }

    #[test]
    fn swiftshader_reads_as_little_as_it_can() {
        for (shape, block) in [
            ([512, 512, 512], (32, 2)),
            ([1024, 512, 128], (32, 2)),
            ([128, 512, 784], (32, 2)),
            // Not worth the time it takes to compile the largest block.
            ([128, 256, 784], (8, 2)),
            ([128, 10, 512], (16, 1)),
            ([8, 1024, 1024], (8, 2)),
            ([1, 1024, 1024], (4, 1)),
            // A small product is not worth a text of its own.
            ([1, 64, 64], (8, 2)),
        ] {
            assert_eq!(
                chosen(Some(4), shape),
                Variant::Subgroup { lanes: 4, rows: block.0, quads: block.1 },
                "{shape:?}"
            );
        }
    }

    #[test]
    fn few_rows_have_few_rows() {
        for (m, rows) in [(1, 4), (4, 4), (5, 8), (8, 8), (9, 16), (16, 16), (17, 32), (100, 32)] {
            assert_eq!(chosen(Some(8), [m, 1024, 1024]), Variant::Subgroup { lanes: 8, rows, quads: 1 }, "{m} rows");
        }
        assert_eq!(chosen(Some(8), [1024, 1, 256]), Variant::Register { rows: 8, quads: 1 });
        assert_eq!(chosen(Some(8), [1024, 10, 256]), Variant::Subgroup { lanes: 8, rows: 32, quads: 1 });
        assert_eq!(chosen(Some(8), [32, 32, 8192]), Variant::Subgroup { lanes: 8, rows: 16, quads: 1 });
        assert_eq!(chosen(None, [1, 1024, 1024]), REGISTER);
        assert_eq!(chosen(None, [1024, 10, 512]), REGISTER);
        // A small product is not worth a text of its own.
        assert_eq!(chosen(Some(8), [1, 64, 64]), Variant::Subgroup { lanes: 8, rows: 8, quads: 1 });
    }
}
