//! Which variant is best for which product, as measured on one adapter: plain data that comes in from outside.

use super::{Matmul, Operand, Variant, candidates, side};
use crate::dtype::DType;
use crate::kernels::Profile;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Measured choices of one adapter and driver, by product.
///
/// A product is told by its sizes, by how its operands are read, and by what it gives; not by where it lies. Choices that a
/// device does not allow, or that this version does not know, are as if they were not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    #[serde(default, rename = "matrix units", skip_serializing_if = "Units::are_unchecked")]
    units: Units,
    #[serde(flatten)]
    variants: BTreeMap<String, Variant>,
}

/// What is known of the matrix units of an adapter under its driver: they may be said to be there and give wrong numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Units {
    #[default]
    Unchecked,
    /// They gave the numbers of the direct product.
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
        self.variants.is_empty() && self.units.are_unchecked()
    }

    /// What is known of the matrix units.
    pub fn units(&self) -> &Units {
        &self.units
    }

    /// What is known of the matrix units, and no choices.
    pub fn units_alone(&self) -> Choices {
        Choices { units: self.units.clone(), variants: BTreeMap::new() }
    }

    /// Notes what was found of the matrix units. Where they were wrong once, nothing makes them right again, and what was
    /// chosen for them has to be measured anew.
    pub fn judge_units(&mut self, found: Units) {
        if !found.are_unchecked() && !self.units.are_wrong() {
            self.units = found;
        }
        if self.units.are_wrong() {
            self.variants.retain(|_, variant| !variant.is_cooperative());
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
        self.variants.len()
    }

    /// Whether a product was measured.
    pub fn knows(&self, mm: &Matmul) -> bool {
        self.variants.contains_key(&mm.name())
    }

    /// The measured choice, if it is one of the candidates on such a device; one for matrix units only if these were checked.
    pub fn get(&self, profile: &Profile, mm: &Matmul) -> Option<Variant> {
        // Without choices nothing is looked up: that is the usual case.
        let variant = *if self.is_empty() { None } else { self.variants.get(&mm.name()) }?;
        let trusted = !variant.is_cooperative() || self.units == Units::Right;
        (trusted && candidates(profile, mm).contains(&variant)).then_some(variant)
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
        self.judge_units(other.units);
    }

    /// Each product, in words, with its variant.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Variant)> {
        self.variants.iter().map(|(key, variant)| (key.as_str(), *variant))
    }
}

impl Matmul {
    /// What tells products apart, such as `128x512x784 batch 1x1 a k4 b x4 out 4`.
    pub fn name(&self) -> String {
        let Matmul { m, n, k, batch: [outer, inner], .. } = self;
        format!("{m}x{n}x{k} batch {outer}x{inner} {}", self.read())
    }

    /// How the product reads its operands and what it gives, such as `a k4 b x4 out 4`: along which axis an operand lies and
    /// how many elements are read at once.
    pub fn read(&self) -> String {
        described(self)
    }
}

fn described(mm: &Matmul) -> String {
    // All of it: what is added to a product may tell it from others.
    let Matmul { m, n, k, batch: _, a, b, out_wide, bias_gradient, row_sums, pairs, walks, stored } = mm;
    let plain_a = || read(side(*m, *k, a.row, a.col, a), a);
    let plain_b = || read(side(*n, *k, b.col, b.row, b), b);
    let a = walks[0].as_ref().map_or_else(plain_a, |walks| walked(&walks.text("a")));
    let b = walks[1].as_ref().map_or_else(plain_b, |walks| walked(&walks.text("b")));
    let out = if *out_wide { 4 } else { 1 };
    let mut text = format!("a {a} b {b} out {out}");
    for (flag, word) in [(bias_gradient, " column-sums"), (row_sums, " row-sums"), (pairs, " pairs")] {
        text += if *flag { word } else { "" };
    }
    for (stored, port) in stored.iter().zip(["a", "b"]).filter(|(stored, _)| **stored != DType::F32) {
        text += &format!(" {port} {stored}");
    }
    text
}

/// The axis along which an operand is contiguous, the width at which it is read, and whether all batches share it.
fn read(side: super::Side, operand: &Operand) -> String {
    let axis = if side.along_k { "k" } else { "x" };
    let shared = if operand.batch == [0, 0] { "" } else { "*" };
    format!("{axis}{}{shared}", if side.vec4 { 4 } else { 1 })
}

/// How an operand that is no plain view is read, as a short name: FNV-1a, since the checksums' table is 8 KB that a page
/// would download for nothing else.
fn walked(text: &str) -> String {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("walk-{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::super::{REGISTER, choose};
    use super::*;

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
