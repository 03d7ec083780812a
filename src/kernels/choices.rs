//! Which kernel is best for which product or attention, as measured on one adapter: plain data that comes in from outside.

use super::Profile;
use super::attention::{self, AttentionShape, Tier};
use super::matmul::{self, Matmul, Variant};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Measured choices of one adapter and driver, by product and by attention.
///
/// A product is told by its sizes, by how its operands are read, and by what it gives; attention by its sizes, what it sees
/// and how it is stored; not by where they lie. Choices that a
/// device does not allow, or that this version does not know, are as if they were not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    #[serde(default, rename = "matrix units", skip_serializing_if = "Units::are_unchecked")]
    units: Units,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attention: BTreeMap<String, Tier>,
    #[serde(flatten)]
    variants: BTreeMap<String, Variant>,
}

/// What is known of the matrix units of an adapter under its driver: they may be said to be there and give wrong numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Units {
    #[default]
    Unchecked,
    /// They gave the numbers of the direct product, and of plain attention.
    Right,
    /// They did not, and are not used any more; with what was seen.
    Wrong(String),
}

impl Units {
    pub fn are_unchecked(&self) -> bool {
        *self == Units::Unchecked
    }

    pub fn are_wrong(&self) -> bool {
        matches!(self, Units::Wrong(_))
    }
}

impl Choices {
    pub fn is_empty(&self) -> bool {
        self.variants.is_empty() && self.attention.is_empty() && self.units.are_unchecked()
    }

    /// What is known of the matrix units.
    pub fn units(&self) -> &Units {
        &self.units
    }

    /// What is known of the matrix units, and no choices.
    pub fn units_alone(&self) -> Choices {
        Choices { units: self.units.clone(), ..Choices::default() }
    }

    /// Notes what was found of the matrix units. Where they were wrong once, nothing makes them right again, and what was
    /// chosen for them has to be measured anew.
    pub fn judge_units(&mut self, found: Units) {
        if !found.are_unchecked() && !self.units.are_wrong() {
            self.units = found;
        }
        if self.units.are_wrong() {
            self.variants.retain(|_, variant| !variant.is_cooperative());
            self.attention.retain(|_, tier| !tier.is_cooperative());
        }
    }

    /// The same for another machine, which has to check its matrix units itself.
    pub fn for_another(mut self) -> Choices {
        if !self.units.are_wrong() {
            self.units = Units::Unchecked;
        }
        self
    }

    pub fn len(&self) -> usize {
        self.variants.len() + self.attention.len()
    }

    /// Whether a product was measured.
    pub fn knows(&self, mm: &Matmul) -> bool {
        self.variants.contains_key(&mm.name())
    }

    /// The measured choice, if it is one of the candidates on such a device; one for matrix units only if these were checked.
    pub fn get(&self, profile: &Profile, mm: &Matmul) -> Option<Variant> {
        // Without choices nothing is looked up: that is the usual case.
        let variant = *if self.is_empty() { None } else { self.variants.get(&mm.name()) }?;
        (self.trusts(variant.is_cooperative()) && matmul::candidates(profile, mm).contains(&variant)).then_some(variant)
    }

    /// The same for attention.
    pub fn attention(&self, profile: &Profile, shape: &AttentionShape) -> Option<Tier> {
        let tier = *if self.attention.is_empty() { None } else { self.attention.get(&shape.name()) }?;
        (self.trusts(tier.is_cooperative()) && attention::candidates(profile, shape).contains(&tier)).then_some(tier)
    }

    fn trusts(&self, cooperative: bool) -> bool {
        !cooperative || self.units == Units::Right
    }

    /// Whether an attention was measured.
    pub fn knows_attention(&self, shape: &AttentionShape) -> bool {
        self.attention.contains_key(&shape.name())
    }

    pub fn set_attention(&mut self, shape: &AttentionShape, tier: Tier) {
        self.attention.insert(shape.name(), tier);
    }

    pub fn set(&mut self, mm: &Matmul, variant: Variant) {
        self.variants.insert(mm.name(), variant);
    }

    /// As `set`, by what [`Matmul::name`] says of the product.
    pub fn set_named(&mut self, name: String, variant: Variant) {
        self.variants.insert(name, variant);
    }

    /// Adds the choices of another table, which win.
    pub fn merge(&mut self, other: Choices) {
        self.variants.extend(other.variants);
        self.attention.extend(other.attention);
        self.judge_units(other.units);
    }

    /// Each product, in words, with its variant.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Variant)> {
        self.variants.iter().map(|(key, variant)| (key.as_str(), *variant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::kernels::matmul::choose;

    const REGISTER: Variant = Variant::Register { rows: 8, quads: 2 };

    fn product(m: usize) -> Matmul {
        Matmul::contiguous("nn", [1, m, 64, 64])
    }

    #[test]
    fn a_measured_choice_wins_for_its_product_alone() {
        let mut profile = Profile::baseline();
        let rule = choose(&profile, &product(128));
        assert_ne!(rule, REGISTER);
        profile.choices.set(&product(128), REGISTER);
        assert_eq!(choose(&profile, &product(128)), REGISTER);
        assert_eq!(choose(&profile, &product(132)), rule);
        let wider = Matmul { bias_gradient: true, ..product(128) };
        assert_eq!(choose(&profile, &wider), rule);
        let halves = Matmul { stored: [DType::F16, DType::F32], ..product(128) };
        assert_eq!(choose(&profile, &halves), rule);
    }

    #[test]
    fn a_choice_that_the_device_does_not_allow_is_ignored() {
        let mut profile = Profile::baseline();
        let rule = choose(&profile, &product(128));
        profile.choices.set(&product(128), Variant::Tiled { tile_m: 512, tile_n: 512, tile_k: 64, rows: 8, quads: 2 });
        assert_eq!(choose(&profile, &product(128)), rule);
    }

    #[test]
    fn tables_are_json_and_can_be_joined() {
        let (mut one, mut two) = (Choices::default(), Choices::default());
        one.set(&product(8), Variant::Direct);
        two.set(&product(8), REGISTER);
        two.set(&product(16), Variant::Subgroup { lanes: 8, rows: 32, quads: 1 });
        one.merge(serde_json::from_str(&serde_json::to_string(&two).unwrap()).unwrap());
        assert_eq!(one, two);
        assert!(two.iter().any(|(key, _)| key == "16x64x64 batch 1x1 a k4 b x4 out 4"), "{two:?}");
    }
}
