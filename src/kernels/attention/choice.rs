//! Which tier computes an attention: the plain kernels, unless others were checked and measured to be faster.

use super::units::{self, Block};
use super::{AttentionShape, Pass};
use crate::kernels::Profile;
use crate::kernels::profile::UNITS;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How attention is computed, forward and backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// In registers, on any adapter.
    Plain,
    /// On matrix units, in workgroups of at most so many subgroups. Never chosen by rule.
    Cooperative { subgroups: u32 },
}

impl Tier {
    /// Whether it needs matrix units.
    pub fn is_cooperative(&self) -> bool {
        matches!(self, Tier::Cooperative { .. })
    }

    /// The matrices of a pass, if it is computed on units.
    pub(super) fn block(self, profile: &Profile, shape: &AttentionShape, pass: Pass) -> Option<Block> {
        let Tier::Cooperative { subgroups } = self else { return None };
        units::block(profile, shape.size, pass, subgroups)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tier::Plain => f.write_str("plain"),
            Tier::Cooperative { subgroups: 1 } => f.write_str("cooperative, 1 subgroup"),
            Tier::Cooperative { subgroups } => write!(f, "cooperative, {subgroups} subgroups"),
        }
    }
}

/// The tier that was measured to be best, or else the plain one.
pub fn choose(profile: &Profile, shape: &AttentionShape) -> Tier {
    let measured = if UNITS { profile.choices.attention(profile, shape) } else { None };
    measured.unwrap_or(Tier::Plain)
}

/// Every tier worth measuring on a device, that of the rules first.
pub fn candidates(profile: &Profile, shape: &AttentionShape) -> Vec<Tier> {
    let mut all = vec![Tier::Plain];
    let offered = UNITS && profile.shader_f16 && !profile.choices.units().are_wrong();
    if !offered || !shape.halves {
        return all;
    }
    let fits = |subgroups: u32, pass| {
        units::block(profile, shape.size, pass, subgroups).is_some_and(|block| block.subgroups == subgroups)
    };
    for subgroups in [4, 2, 1] {
        // Where a pass has no room for so many it takes fewer; where none has, this is no other kernel.
        if fits(subgroups, Pass::Forward) && units::block(profile, shape.size, Pass::GradKv, subgroups).is_some() {
            all.push(Tier::Cooperative { subgroups });
        }
    }
    all
}

impl AttentionShape {
    /// What tells attentions apart, such as `attention 8x256 to 256, 6 heads of 64, 6 of keys, sees all before and 0 after, f16`;
    /// not the factor of the scores, which costs nothing.
    pub fn name(&self) -> String {
        let AttentionShape { batch, time, source, heads, key_heads, size, sight, scale: _, halves } = self;
        let far = |far: Option<u32>| far.map_or("all".to_string(), |far| far.to_string());
        let stored = if *halves { "f16" } else { "f32" };
        format!(
            "attention {batch}x{time} to {source}, {heads} heads of {size}, {key_heads} of keys, sees {} before and {} after, {stored}",
            far(sight.before),
            far(sight.after)
        )
    }
}
