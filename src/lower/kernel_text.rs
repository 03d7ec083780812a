//! A kernel's text put together: aliases, constants, parameters, bindings, library, fused code, body.
//!
//! Knows texts and names, not what is computed.

use super::expression::Fused;
use crate::kernels::doubled::finished;
use crate::kernels::wgsl::wgsl;
use crate::kernels::{KernelSpec, Param, Profile};
use std::fmt::Write;

/// A kernel's text being assembled.
pub struct Text {
    pub params: Vec<(String, Param)>,
    bindings: Vec<(String, String)>,
}

impl Text {
    pub fn new(spec: &KernelSpec, fused: &[Fused]) -> Text {
        let mut params: Vec<(String, Param)> =
            spec.params.iter().map(|(name, param)| (name.to_string(), *param)).collect();
        params.push(("groups".into(), Param::U32(spec.groups as u32)));
        params.extend(fused.iter().flat_map(|part| part.params.iter().cloned()));
        Text { params, bindings: Vec::new() }
    }

    pub fn binding(&mut self, name: &str, element: &str) {
        self.bindings.push((name.to_string(), element.to_string()));
    }

    /// The number of an array that is declared.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.bindings.iter().position(|(known, _)| known == name)
    }

    pub fn finish(&self, spec: &KernelSpec, fused: &[Fused], writable: &[bool], profile: &Profile) -> String {
        let params = if profile.params_in_storage() { "storage, read" } else { "uniform" };
        let mut text = spec.enables();
        let vector = |scalar: &str| if spec.width == 4 { format!("vec4<{scalar}>") } else { scalar.to_string() };
        for (name, scalar) in [("F", "f32"), ("I", "i32"), ("U", "u32"), ("L", "bool")] {
            let _ = writeln!(text, "alias {name} = {};", vector(scalar));
        }
        let _ = writeln!(text, "const W: u32 = {}u;\nconst WG: u32 = {}u;", spec.width, spec.workgroup);
        for (name, value) in &spec.constants {
            let _ = writeln!(text, "const {name}: u32 = {value}u;");
        }
        let _ = writeln!(text, "struct Params {{");
        for (name, param) in &self.params {
            let _ = writeln!(text, "    {name}: {},", param.wgsl());
        }
        let _ = writeln!(text, "}}\n@group(0) @binding(0) var<{params}> params: Params;");
        for (index, ((name, element), write)) in self.bindings.iter().zip(writable).enumerate() {
            let mode = if *write { "read_write" } else { "read" };
            let _ = writeln!(text, "@group(0) @binding({}) var<storage, {mode}> {name}: array<{element}>;", index + 1);
        }
        text.push_str("fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 { return wid.x + wid.y * nwg.x; }\n");
        let mut parts: Vec<&str> = spec.parts.clone();
        for part in fused.iter().flat_map(|fused| &fused.parts) {
            if !parts.contains(part) {
                parts.push(part);
            }
        }
        for part in parts {
            text.push_str(library(part));
        }
        fused.iter().for_each(|part| text.push_str(&part.text));
        text.push_str(&spec.body);
        finished(text, profile)
    }
}

/// A file of `shaders/lib`, without its default prelude.
fn library(part: &str) -> &'static str {
    match part {
        "half" => wgsl!("lib/half"),
        "math" => wgsl!("lib/math"),
        "threefry" => wgsl!("lib/threefry"),
        "wide1" => wgsl!("lib/wide1"),
        "wide4" => wgsl!("lib/wide4"),
        "reduce_subgroup" => wgsl!("lib/reduce_subgroup"),
        "reduce_workgroup" => wgsl!("lib/reduce_workgroup"),
        _ => "",
    }
}
