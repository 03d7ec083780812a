//! AdamW whose moments take eight bits each (Dettmers et al. 2022), as bitsandbytes' `AdamW8bit` with blocks of 256.

use super::codes::{blocks, words};
use super::{AdamW, Codes, Operands, Optimizer, Slot, StepHyper, Updated, rounded};
use crate::dtype::DType;
use crate::error::Result;
use crate::shape::Shape;

/// AdamW in 2.03 bytes of state a weight instead of 8. Each step unpacks the moments, computes in f32 as [`AdamW`], and
/// packs them again: what it does differs from AdamW by the rounding of what is remembered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW8bit {
    /// Betas, eps and weight decay; without amsgrad.
    pub rule: AdamW,
    /// Parameters with fewer elements keep their moments in f32.
    pub min_elements: usize,
}

impl Default for AdamW8bit {
    fn default() -> AdamW8bit {
        AdamW8bit::new()
    }
}

impl AdamW8bit {
    /// AdamW's defaults; parameters below 4096 elements, such as gains and biases, in f32.
    pub fn new() -> AdamW8bit {
        AdamW8bit { rule: AdamW::new(), min_elements: 4096 }
    }

    /// With another weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> AdamW8bit {
        AdamW8bit { rule: self.rule.weight_decay(weight_decay), ..self }
    }

    /// With other betas.
    pub fn betas(self, beta1: f64, beta2: f64) -> AdamW8bit {
        AdamW8bit { rule: self.rule.betas(beta1, beta2), ..self }
    }

    /// AdamW itself, for small parameters.
    fn plain(&self) -> AdamW {
        AdamW { amsgrad: false, ..self.rule }
    }
}

impl Optimizer for AdamW8bit {
    fn name(&self) -> &'static str {
        "adamw8bit"
    }

    fn slots(&self, shape: &Shape) -> Vec<Slot> {
        if shape.numel() < self.min_elements.max(1) {
            return self.plain().slots(shape);
        }
        let blocks = blocks(shape.numel());
        vec![
            Slot::new("m8", words(blocks), DType::U32),
            Slot::new("m_scale", [blocks], DType::F32),
            Slot::new("v8", words(blocks), DType::U32),
            Slot::new("v_scale", [blocks], DType::F32),
        ]
    }

    fn scalars(&self) -> &'static [&'static str] {
        AdamW::new().scalars()
    }

    fn scalar_values(&self, at: StepHyper) -> Vec<f64> {
        self.plain().scalar_values(at)
    }

    fn check(&self) -> Result<()> {
        super::check_adam("adamw8bit", [self.rule.beta1, self.rule.beta2], self.rule.eps, self.rule.weight_decay)
    }

    fn update<'g>(&self, old: Operands<'g, '_>) -> Updated<'g> {
        let &[m8, m_scale, v8, v_scale] = old.slots else { return self.plain().update(old) };
        let (shape, count) = (old.parameter.shape(), old.parameter.shape().numel());
        let (keep, step_size, inverse_root_correction) = (old.scalars[0], old.scalars[1], old.scalars[2]);
        let (beta1, beta2, g) = (rounded(self.rule.beta1), rounded(self.rule.beta2), old.gradient);
        let m = Codes::Signed.unpack(m8, m_scale, count).reshape(&shape);
        let v = Codes::Unsigned.unpack(v8, v_scale, count).reshape(&shape);
        let m = m * beta1 + g * (1.0 - beta1);
        let v = v * beta2 + g * g * (1.0 - beta2);
        let denominator = v.sqrt() * inverse_root_correction + self.rule.eps;
        let parameter = old.parameter * keep - m * step_size / denominator;
        let ((m8, m_scale), (v8, v_scale)) = (Codes::Signed.pack(m), Codes::Unsigned.pack(v));
        Updated { parameter, slots: vec![m8, m_scale, v8, v_scale] }
    }
}
