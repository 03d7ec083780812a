//! Memory as a number that is given: what is done to a step so that it fits, cheapest and most faithful first.
//!
//! Computing activations twice changes no bit and comes first; saving them in half changes what gradients read, and comes
//! when nothing else fits. Splitting the batch is for those who know the batch: `run.rs`. Knows plans, no device.

use super::plan::{Plan, peak};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernels::Profile;
use crate::lower::Recompute;
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::str::FromStr;

/// How much device memory a training may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Budget {
    Bytes(u64),
    /// As much as the device's limits suggest, see [`Budget::bytes`].
    Auto,
}

const UNITS: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl FromStr for Budget {
    type Err = String;

    fn from_str(words: &str) -> std::result::Result<Budget, String> {
        let words = words.trim();
        if words.eq_ignore_ascii_case("auto") {
            return Ok(Budget::Auto);
        }
        let refused = || format!("`{words}` is no amount of memory; write a size such as 6GiB or 800MiB, or auto");
        let digits = words.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(words.len());
        let (number, unit) = (words[..digits].parse::<f64>().map_err(|_| refused())?, words[digits..].trim());
        let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let (_, size) = known.or(UNITS.last().filter(|_| unit.is_empty())).ok_or_else(refused)?;
        let bytes = number * *size as f64;
        if bytes >= 1.0 && bytes < (1u64 << 60) as f64 { Ok(Budget::Bytes(bytes as u64)) } else { Err(refused()) }
    }
}

impl Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Budget::Auto => f.write_str("auto"),
            Budget::Bytes(bytes) => match UNITS[..4].iter().rev().find(|(_, size)| bytes.is_multiple_of(*size)) {
                Some((unit, size)) => write!(f, "{}{unit}", bytes / size),
                None => write!(f, "{bytes}B"),
            },
        }
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> String {
        budget.to_string()
    }
}

impl TryFrom<String> for Budget {
    type Error = String;

    fn try_from(words: String) -> std::result::Result<Budget, String> {
        words.parse()
    }
}

impl Budget {
    /// In bytes. WebGPU does not say how much memory a device has; `Auto` takes twice the largest buffer that it
    /// grants for a safe part of it.
    pub fn bytes(self, profile: &Profile) -> u64 {
        match self {
            Budget::Bytes(bytes) => bytes,
            Budget::Auto => profile.max_buffer_bytes.saturating_mul(2),
        }
    }
}

/// What was done so that a step fits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fitted {
    /// In bytes.
    pub budget: u64,
    /// What it would have needed as it was.
    pub before: u64,
    /// The type in which activations wait; not f32 says that numbers change.
    pub saved: DType,
    /// What is computed twice, as a share of the micro-step's estimated time.
    pub extra: f64,
}

impl Display for Fitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(f, "{:.1} MiB fit into {:.1} MiB: ", mib(self.before), mib(self.budget))?;
        match (self.extra > 0.0, self.saved == DType::F32) {
            (false, true) => write!(f, "as they are"),
            (true, true) => {
                write!(f, "activations are computed twice, for about {:.0} % more time", 100.0 * self.extra)
            }
            (false, false) => write!(f, "activations are saved in {}, which changes gradients slightly", self.saved),
            (true, false) => write!(
                f,
                "activations are saved in {}, which changes gradients slightly, and computed twice, for about {:.0} % more time",
                self.saved,
                100.0 * self.extra
            ),
        }
    }
}

/// How a plan is made: what is computed twice, and the type that activations wait in.
pub(super) type Make<'a> = dyn Fn(Recompute, DType) -> Result<Plan> + 'a;

/// The type that activations wait in, and whether it must stay.
pub(super) struct Saved {
    pub dtype: DType,
    pub fixed: bool,
}

/// Of the micro-step's time: saving in half changes gradients, which computing twice does not, so it must save so much.
const WORTH: f64 = 0.1;

/// A plan that fits: as it is, or else with activations computed twice for the least time, or with them saved in half where
/// that is clearly cheaper or alone enough.
pub(super) fn fit(budget: u64, recompute: Recompute, saved: Saved, make: &Make<'_>) -> Result<(Plan, Fitted)> {
    let Saved { dtype: saved, fixed: asked } = saved;
    let plain = make(recompute, saved)?;
    let before = plain.memory.total();
    let fitted = |plan: Plan, saved: DType| {
        let extra = plan.recomputed.extra;
        (plan, Fitted { budget, before, saved, extra })
    };
    if before <= budget {
        return Ok(fitted(plain, saved));
    }
    let mut least = plain;
    let exact = computed_twice(budget, saved, &mut least, make)?;
    let cost = exact.as_ref().map_or(f64::INFINITY, |plan| plan.recomputed.extra);
    if saved == DType::F32 && !asked && cost > WORTH {
        let whole = make(recompute, DType::BF16)?;
        let halved = match whole.memory.total() <= budget {
            true => Some(whole),
            false => computed_twice(budget, DType::BF16, &mut least, make)?,
        };
        if let Some(plan) = halved.filter(|plan| plan.recomputed.extra + WORTH < cost) {
            return Ok(fitted(plan, DType::BF16));
        }
    }
    match exact {
        Some(plan) => Ok(fitted(plan, saved)),
        None => Err(too_large(budget, before, &least)),
    }
}

/// The plan that fits for the least time, if there is one; otherwise `least` is the smallest that was seen.
fn computed_twice(budget: u64, dtype: DType, least: &mut Plan, make: &Make<'_>) -> Result<Option<Plan>> {
    // Slots of repeated dispatches and gaps between values come on top of what lives at once.
    let fixed = least.memory.total() - least.memory.transient;
    for share in [1.0, 0.97, 0.9, 0.0] {
        let room = budget.saturating_sub(fixed) as f64 * share;
        let plan = make(Recompute::Within(room as u64), dtype)?;
        if plan.memory.total() <= budget {
            return Ok(Some(plan));
        }
        if plan.memory.total() < least.memory.total() {
            *least = plan;
        }
    }
    Ok(None)
}

/// Why nothing fits: what is large, and what would help.
fn too_large(budget: u64, before: u64, least: &Plan) -> Error {
    let memory = &least.memory;
    let fixed = memory.total() - memory.transient;
    let states = least.layout.entries.iter().map(|(name, entry)| (entry.dtype.bytes(&entry.shape), name.clone()));
    let values = least.programs.iter().zip(&least.lifetimes).flat_map(|(program, lives)| peak(lives, program).1);
    let values = values.map(|value| (value.bytes, value.name));
    let (bytes, name) = states.chain(values).max().unwrap_or_default();
    let help = if fixed > budget {
        "Weights, gradients and optimizer alone exceed it: use a smaller model, or an optimizer with less state"
    } else {
        "To make it fit, use a smaller batch or sequence, split the batch by `accumulate`, or train in bf16"
    };
    Error::memory(format!(
        "the step needs {before} bytes, and at least {} with everything computed twice that can be; the \
         budget is {budget}. The largest tensor is `{name}` with {bytes} bytes; {fixed} bytes are needed all the time. {help}, \
         or allow {} bytes",
        memory.total(),
        memory.total()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        let read = |words: &str| words.parse::<Budget>();
        assert_eq!(read("6GiB"), Ok(Budget::Bytes(6 << 30)));
        assert_eq!(read("1.5 mib"), Ok(Budget::Bytes(3 << 19)));
        assert_eq!(read("2GB"), Ok(Budget::Bytes(2_000_000_000)));
        assert_eq!(read("4096"), Ok(Budget::Bytes(4096)));
        assert_eq!(read("AUTO"), Ok(Budget::Auto));
        for bad in ["", "GiB", "-1GiB", "6 parsecs", "1e400", "nan", "0"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        for shown in ["6GiB", "1536MiB", "auto", "4KiB", "7B"] {
            assert_eq!(read(shown).map(|budget| budget.to_string()), Ok(shown.to_string()));
        }
    }
}
