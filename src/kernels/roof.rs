//! The two kernels that find an adapter's limits: one only moves bytes, one only computes.
//!
//! They take part in no graph, so their files are whole, and `lower` does not know them.

use super::spec::body;
use super::{AdapterClass, Profile};
use crate::program::Kernel;

/// vec4s that a lane of [`copy`] moves; on a processor a workgroup has few lanes and must be worth starting.
pub fn copied_by_a_lane(profile: &Profile) -> u32 {
    match profile.class {
        AdapterClass::Cpu => 128,
        AdapterClass::Discrete | AdapterClass::Integrated | AdapterClass::Apple => 8,
    }
}

/// Operations of a lane of [`multiply_add`] in a round.
pub const FLOPS_OF_A_ROUND: u64 = 8 * 4 * 2 * 2;

/// `x` to `y`, both `array<vec4<f32>>`; parameter: how many.
pub fn copy(profile: &Profile) -> Kernel {
    let constants = format!("const PER: u32 = {}u;\n", copied_by_a_lane(profile));
    kernel(profile, "roof_copy", "count", &constants, include_str!("../../shaders/roof_copy.wgsl"))
}

/// Rounds of multiply-adds by `x[0]` and `x[1]`, whose sum is written to `y`, one vec4 a lane; parameter: rounds.
pub fn multiply_add(profile: &Profile) -> Kernel {
    let file = include_str!("../../shaders/roof_multiply_add.wgsl");
    kernel(profile, "roof_multiply_add", "rounds", "alias Real = f32;\n", file)
}

/// The same with `array<vec4<f16>>`, for adapters with `shader-f16`.
pub fn multiply_add_f16(profile: &Profile) -> Kernel {
    let file = include_str!("../../shaders/roof_multiply_add.wgsl");
    let kernel = kernel(profile, "roof_multiply_add_f16", "rounds", "alias Real = f16;\n", file);
    // Directives stand before everything else.
    Kernel { wgsl: format!("enable f16;\n{}", kernel.wgsl), ..kernel }
}

fn kernel(profile: &Profile, name: &str, param: &str, constants: &str, file: &'static str) -> Kernel {
    let workgroup = match profile.class {
        AdapterClass::Cpu => profile.subgroup.unwrap_or(8),
        AdapterClass::Discrete | AdapterClass::Integrated | AdapterClass::Apple => 64,
    };
    let params_in_storage = profile.params_in_storage();
    let binding = if params_in_storage { "storage, read" } else { "uniform" };
    Kernel {
        name: name.into(),
        wgsl: format!(
            "const WG: u32 = {workgroup}u;\n{constants}struct Params {{\n    {param}: u32,\n}}\n\
             @group(0) @binding(0) var<{binding}> params: Params;\n{}",
            body(file)
        ),
        writable: vec![false, true],
        workgroup,
        params_in_storage,
        subgroups: false,
        foreign: false,
    }
}
