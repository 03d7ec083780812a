//! Whether an adapter's matrix units give right numbers: a driver may announce what is not there, or compute it wrongly.
//!
//! They are compared with the direct kernel over products of every layout, with edges, sums beside them and long sums, and
//! with the plain kernels over attention, on a device of their own, so that whatever happens there leaves the one in use alone. What is found holds for the adapter
//! under its driver, and is kept with the measured choices.

use super::tune::attention;
use super::tune::products::{agree, data, judge, results, session};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::Device;
use crate::graph::Sight;
use crate::kernels::attention::{AttentionShape, Tier, candidates as attention_tiers};
use crate::kernels::matmul::{Matmul, Variant, candidates};
use crate::kernels::{Choices, Profile, Units};
use crate::lower::Tunable;
use std::fmt;

/// Choices that say no more than what is known of the matrix units after this. They are checked here if that was not done
/// before and something of this could be computed on them.
pub fn judged(device: &Device, tunable: &Tunable) -> Choices {
    let mut choices = device.profile().choices.units_alone();
    if are_unchecked(device, tunable) {
        choices.judge_units(checked(device));
    }
    choices
}

/// The device with choices that were made before. What they say of matrix units is checked again, for the driver may be
/// another one now.
pub fn with_checked(device: &Device, choices: Choices) -> Device {
    let device = device.with_choices(choices);
    if *device.profile().choices.units() != Units::Right {
        return device;
    }
    let mut choices = device.profile().choices.clone().for_another();
    choices.judge_units(checked(&device));
    device.with_choices(choices)
}

/// Whether matrix units are there, could compute something of this, and were not checked yet.
pub fn are_unchecked(device: &Device, tunable: &Tunable) -> bool {
    let profile = device.profile();
    let product = |(mm, _): &(Matmul, u64)| !on_units(profile, mm).is_empty();
    let attention = |(shape, _): &(AttentionShape, u64)| !tiers_on_units(profile, shape).is_empty();
    profile.choices.units().are_unchecked()
        && (tunable.products.iter().any(product) || tunable.attentions.iter().any(attention))
}

/// The verdict on a kernel that gave other numbers than that which it was compared with.
pub fn wrong(kernel: impl fmt::Display, other: &str, of: &str) -> Units {
    Units::Wrong(format!("{kernel} gave other numbers than the {other} kernel for {of}"))
}

/// The candidates that need matrix units.
fn on_units(profile: &Profile, mm: &Matmul) -> Vec<Variant> {
    candidates(profile, mm).into_iter().filter(Variant::is_cooperative).collect()
}

fn tiers_on_units(profile: &Profile, shape: &AttentionShape) -> Vec<Tier> {
    attention_tiers(profile, shape).into_iter().filter(Tier::is_cooperative).collect()
}

/// Checks matrix units. A device that is not ours to open again is left alone, and its units unused.
fn checked(device: &Device) -> Units {
    let Some(device) = device.profile().cooperative.and_then(|_| device.reopener()().ok()) else {
        return Units::Unchecked;
    };
    match first_wrong(&device) {
        Ok(None) => Units::Right,
        Ok(Some(wrong)) => wrong,
        // Be it that a kernel does not compile: on this device nothing else was asked for.
        Err(error) => Units::Wrong(error.to_string()),
    }
}

fn first_wrong(device: &Device) -> Result<Option<Units>> {
    for mm in probes() {
        let data = data(&mm, true);
        let expected = results(&mut session(device, &[judge(&mm)], &mm, &data)?, 0)?;
        let variants = on_units(device.profile(), &mm);
        let mut session = session(device, &variants, &mm, &data)?;
        for (index, &variant) in variants.iter().enumerate() {
            if !agree(&expected, &results(&mut session, index)?, mm.k) {
                return Ok(Some(wrong(variant, "direct", &mm.name())));
            }
        }
    }
    for shape in attention_probes() {
        let expected = attention::results(device, &shape, Tier::Plain)?;
        for tier in tiers_on_units(device.profile(), &shape) {
            if !attention::agree(&expected, &attention::results(device, &shape, tier)?) {
                return Ok(Some(wrong(tier, "plain", &shape.name())));
            }
        }
    }
    Ok(None)
}

/// Products on which the units are judged: all transpositions of a whole tile, of rows that are vectors and of none that are,
/// each side in f32, batches, sums beside the product, and a sum so long that f16 could not hold it.
fn probes() -> Vec<Matmul> {
    let halves = |mm: Matmul| Matmul { stored: [DType::F16; 2], ..mm };
    let mut all = Vec::new();
    for kind in ["nn", "nt", "tn", "tt"] {
        let sizes = [[1, 128, 128, 64], [1, 70, 52, 40], [2, 33, 7, 13]];
        all.extend(sizes.map(|sizes| halves(Matmul::contiguous(kind, sizes))));
    }
    let mixed = Matmul::contiguous("nt", [3, 48, 40, 24]);
    all.push(Matmul { stored: [DType::F16, DType::F32], ..mixed.clone() });
    all.push(Matmul { stored: [DType::F32, DType::F16], ..mixed.clone() });
    all.push(Matmul { bias_gradient: true, ..halves(Matmul::contiguous("tn", [1, 72, 140, 100])) });
    all.push(Matmul { row_sums: true, ..halves(mixed) });
    all.push(halves(Matmul::contiguous("nn", [1, 32, 32, 2048])));
    all
}

/// Attention on which the units are judged: heads of all kinds of sizes, shared keys, bounds of sight on either side, more
/// keys than queries and more queries than keys, whose first see nothing.
fn attention_probes() -> Vec<AttentionShape> {
    let shape = |[batch, time, source, heads, key_heads, size]: [usize; 6], before: Option<u32>, after: Option<u32>| {
        let (sight, scale) = (Sight { before, after }, 1.0 / (size as f32).sqrt());
        AttentionShape { batch, time, source, heads, key_heads, size, sight, scale, halves: true }
    };
    vec![
        shape([1, 70, 70, 2, 2, 64], None, Some(0)),
        shape([2, 50, 90, 4, 2, 32], Some(20), Some(0)),
        shape([1, 33, 40, 1, 1, 128], None, None),
        shape([2, 100, 100, 1, 1, 16], Some(9), Some(30)),
        shape([1, 100, 40, 3, 1, 48], None, Some(0)),
    ]
}

#[cfg(test)]
mod emulator;
#[cfg(test)]
mod tests;
