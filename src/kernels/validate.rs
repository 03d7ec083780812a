//! Tests that the texts of kernels are legal: parsed and validated by naga, and written by its
//! back ends. The prelude here is the least that a body needs; the lowering writes its own.

use super::{AdapterClass, Element, KernelSpec, Param, Port, Profile};
use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use std::fmt::Write;

fn part(name: &str) -> String {
    let path = format!("{}/shaders/lib/{name}.wgsl", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether the kernel has a main result.
pub fn stores(kernel: &KernelSpec) -> bool {
    kernel.body.contains("store(0u")
}

/// The least prelude of a kernel: bindings in the order params, inputs, outputs, result.
pub fn prelude(kernel: &KernelSpec) -> String {
    let mut s = String::new();
    let wide = if kernel.width == 4 { "vec4<f32>" } else { "f32" };
    let _ = writeln!(s, "alias F = {wide};\nconst W: u32 = {}u;", kernel.width);
    let _ = writeln!(s, "const WG: u32 = {}u;", kernel.workgroup);
    for (name, value) in &kernel.constants {
        let _ = writeln!(s, "const {name}: u32 = {value}u;");
    }
    s.push_str("\nstruct Params {\n");
    for (name, value) in kernel.params.iter().chain([&("groups", Param::U32(0))]) {
        let _ = writeln!(s, "    {name}: {},", value.wgsl());
    }
    s.push_str("}\n\n@group(0) @binding(0) var<uniform> params: Params;\n");
    let result = if stores(kernel) { vec![Port::new("result", Element::Wide)] } else { Vec::new() };
    let inputs = kernel.inputs.iter().map(|port| (port, "read"));
    let outputs = kernel.outputs.iter().chain(&result).map(|port| (port, "read_write"));
    for (index, (port, access)) in inputs.chain(outputs).enumerate() {
        let (name, element) = (port.name, port.element.wgsl());
        let _ = writeln!(s, "@group(0) @binding({}) var<storage, {access}> {name}: array<{element}>;", index + 1);
    }
    s.push_str("\nfn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {\n");
    s.push_str("    return wid.x + wid.y * nwg.x;\n}\n\n");
    if stores(kernel) {
        s.push_str("fn store(batch: u32, row: u32, col: u32, value: F) {\n");
        s.push_str("    result[(row * params.cols + col) / W] = value;\n}\n\n");
    }
    s
}

/// The whole text of a kernel.
pub fn text(kernel: &KernelSpec) -> String {
    let parts: String = kernel.parts.iter().map(|name| part(name)).collect();
    format!("{}{}{parts}{}", kernel.enables(), prelude(kernel), kernel.body)
}

/// Compiles a text that uses matrix units for the one compiler of such an adapter, and sees that others refuse it.
pub fn compile_for_units(text: &str, profile: &Profile) {
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(text)));
    let units = Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16 | Capabilities::SUBGROUP;
    let info = Validator::new(ValidationFlags::all(), units)
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{}\n{text}", error.emit_to_string(text)));
    if profile.class == AdapterClass::Apple {
        let options = msl::Options { fake_missing_bindings: true, lang_version: (2, 4), ..Default::default() };
        let (text, _) = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default()).expect("MSL");
        // The writer would name types that Metal does not have, and hand pointers to vectors to what takes numbers.
        assert!(
            !text.contains("16x16") && text.contains("simdgroup_half8x8") && !text.contains("half4 tile_"),
            "{text}"
        );
    } else {
        let options = spv::Options { lang_version: (1, 3), ..Default::default() };
        spv::write_vec(&module, &info, &options, None).expect("SPIR-V");
    }
    // Direct3D, OpenGL and browsers have none: their capabilities refuse it before a writer sees it.
    for supported in [hlsl::supported_capabilities(), Capabilities::default(), Capabilities::SHADER_FLOAT16] {
        let refused = Validator::new(ValidationFlags::all(), supported).validate(&module);
        assert!(refused.is_err(), "passes without matrix units");
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::kernels::channel::{self, Sums};
    use crate::kernels::{argmax, cross_entropy, norm, scatter, softmax, sort};
    use naga::valid::ModuleInfo;

    pub fn parse(label: &str, text: &str) -> (naga::Module, ModuleInfo) {
        let module = naga::front::wgsl::parse_str(text)
            .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(text)));
        let info = Validator::new(ValidationFlags::all(), Capabilities::all())
            .validate(&module)
            .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(text)));
        (module, info)
    }

    /// Writes the module for Vulkan, Metal and DX12.
    pub fn write_all(label: &str, module: &naga::Module, info: &ModuleInfo) {
        spv::write_vec(module, info, &spv::Options { fake_missing_bindings: true, ..Default::default() }, None)
            .unwrap_or_else(|error| panic!("{label}: SPIR-V: {error}"));
        let options = msl::Options { fake_missing_bindings: true, ..Default::default() };
        msl::write_string(module, info, &options, &msl::PipelineOptions::default())
            .unwrap_or_else(|error| panic!("{label}: MSL: {error}"));
        let options = hlsl::Options { fake_missing_bindings: true, ..Default::default() };
        let mut out = String::new();
        hlsl::Writer::new(&mut out, &options, &hlsl::PipelineOptions::default())
            .write(module, info, None)
            .unwrap_or_else(|error| panic!("{label}: HLSL: {error}"));
    }

    pub fn profiles() -> [Profile; 4] {
        let baseline = Profile::baseline();
        [
            Profile { subgroup: Some(32), ..baseline.clone() },
            Profile { subgroup: Some(8), class: AdapterClass::Cpu, ..baseline.clone() },
            Profile { class: AdapterClass::Cpu, ..baseline.clone() },
            baseline,
        ]
    }

    fn row_kernels(profile: &Profile, rows: usize, cols: usize) -> Vec<KernelSpec> {
        let blocks = norm::norm_grad_blocks(profile, rows);
        vec![
            softmax::softmax(profile, rows, cols),
            softmax::log_softmax(profile, rows, cols),
            norm::layer_norm(profile, rows, cols, 1e-5),
            norm::rms_norm(profile, rows, cols, 1e-5),
            norm::layer_norm_grad(profile, rows, cols, 1e-5),
            norm::rms_norm_grad(profile, rows, cols, 1e-5),
            norm::column_sums(profile, blocks, cols),
            norm::column_sums_pair(profile, blocks, cols),
            cross_entropy::cross_entropy(profile, rows, cols),
            cross_entropy::cross_entropy_grad(profile, rows, cols),
            cross_entropy::cross_entropy_with_grad(profile, rows, cols),
            argmax::argmax(profile, rows, cols),
            scatter::scatter_links(profile, rows, 77),
            scatter::scatter_add(profile, rows, 77, cols),
            scatter::scatter_bounds(rows, 77),
            sort::argsort_block(profile, rows, cols, sort::Kind::F32, false),
            sort::argsort_merge(profile, rows, cols, 128),
            channel::channel_moments_join(profile, [rows, 16, cols], 8),
        ]
    }

    /// Sums over channels in all their forms: their hooks are part of their bodies.
    fn channel_kernels(profile: &Profile, rows: usize, cols: usize) -> Vec<KernelSpec> {
        let forms = [(Sums::Moments, 1), (Sums::Moments, 8), (Sums::Products, 1), (Sums::Products, 8)];
        forms.map(|(what, chunks)| channel::channel_sums(profile, [rows, 16, cols], what, chunks)).into()
    }

    #[test]
    fn row_kernels_are_legal_everywhere() {
        // Both widths, rows kept in registers and rows too long for that.
        for profile in profiles() {
            for cols in [3, 128, 10_001, 10_000] {
                let channels = channel_kernels(&profile, 300, cols);
                for kernel in row_kernels(&profile, 300, cols).into_iter().chain(channels) {
                    let label = format!("{} of {cols} columns, {}", kernel.name, profile.tier());
                    let (module, info) = parse(&label, &text(&kernel));
                    assert!(kernel.workgroup <= profile.max_invocations, "{label}");
                    if profile.subgroup.is_none() {
                        write_all(&label, &module, &info);
                    }
                }
            }
        }
    }

    #[test]
    fn files_are_legal_as_they_stand() {
        let profile = Profile::baseline();
        for kernel in row_kernels(&profile, 300, 256) {
            let path = format!("{}/shaders/{}.wgsl", env!("CARGO_MANIFEST_DIR"), kernel.name);
            let file = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            let Some((prelude, body)) = file.split_once("// ---- body\n") else {
                panic!("{path}: no line `// ---- body`");
            };
            assert_eq!(body, kernel.body, "{path}");
            let parts: String = kernel.parts.iter().map(|name| part(name)).collect();
            parse(&path, &format!("{prelude}{parts}{body}"));
        }
    }

    #[test]
    fn files_with_hooks_are_legal_as_they_stand() {
        let sums: &[&str] = &["wide4", "reduce_workgroup"];
        let files = [
            ("cumsum", &[][..]),
            ("scatter_sorted", &[]),
            ("scatter_parts", &[]),
            ("channel_sums", sums),
            ("roof_copy", &[]),
            ("roof_multiply_add", &[]),
        ];
        for (name, parts) in files {
            let path = format!("{}/shaders/{name}.wgsl", env!("CARGO_MANIFEST_DIR"));
            let file = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            let file = parts.iter().fold(file, |text, name| text + &part(name));
            let (module, info) = parse(&path, &file);
            write_all(&path, &module, &info);
        }
    }
}
