//! Kernels that a page has chosen, and those that it may choose from. Measuring is the page's: it times steps of models.
//!
//! A variant crosses as five numbers: tiles in m, n and k, rows and quads. A subgroup's lanes stand in the place of the first; what a
//! variant does not have is 0.

use super::spec::{self, Ready};
use super::{Engine, fail};
use crate::kernels::Choices;
use crate::kernels::matmul::{Variant, candidates};
use wasm_bindgen::prelude::*;

/// Numbers of a variant.
const NUMBERS: usize = 5;

fn numbers(variant: Variant) -> [u32; NUMBERS] {
    match variant {
        Variant::Direct => [0; NUMBERS],
        Variant::Register { rows, quads } => [0, 0, 0, rows, quads],
        Variant::Subgroup { lanes, rows, quads } => [lanes, 0, 0, rows, quads],
        Variant::Tiled { tile_m, tile_n, tile_k, rows, quads } => [tile_m, tile_n, tile_k, rows, quads],
        // Browsers have no matrix units.
        Variant::Cooperative { .. } => [0; NUMBERS],
    }
}

fn variant(numbers: [u32; NUMBERS]) -> Variant {
    match numbers {
        [0, 0, 0, 0, _] => Variant::Direct,
        [0, 0, 0, rows, quads] => Variant::Register { rows, quads },
        [lanes, 0, _, rows, quads] => Variant::Subgroup { lanes, rows, quads },
        [tile_m, tile_n, tile_k, rows, quads] => Variant::Tiled { tile_m, tile_n, tile_k, rows, quads },
    }
}

#[wasm_bindgen]
impl Engine {
    /// Models that are made from now on have these kernels: names of products, one a line, and five numbers for each. What the device
    /// does not allow, or nobody knows, is as if it were not there.
    pub fn choose(&mut self, products: &str, variants: &[u32]) {
        let mut choices = Choices::default();
        for (product, chosen) in products.lines().zip(variants.as_chunks().0) {
            choices.set_named(product.into(), variant(*chosen));
        }
        self.device = self.device.with_choices(choices);
    }

    /// The products of the model that the object describes (`spec.rs` has its keys), one a line: the name, multiplications in a step, and the
    /// numbers of the candidates, of which the first is that of the rules; each behind a tab.
    pub fn products(&self, asked: &JsValue) -> Result<String, JsError> {
        let profile = self.device.profile();
        let Ready { trainer, loss, .. } = spec::read(asked).map_err(fail)?;
        let mut text = String::new();
        for (mm, count) in trainer.tunable(profile, &*loss).map_err(fail)?.products {
            let work = (mm.m * mm.n * mm.k * mm.batch[0] * mm.batch[1]) as u64 * count;
            text += &mm.name();
            for number in
                [work].into_iter().chain(candidates(profile, &mm).into_iter().flat_map(numbers).map(u64::from))
            {
                text.push('\t');
                text += &number.to_string();
            }
            text.push('\n');
        }
        Ok(text)
    }
}
