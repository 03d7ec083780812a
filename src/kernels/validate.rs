//! Tests that the texts of kernels are legal: parsed and validated by naga, and written by its
//! back ends. The prelude here is the least that a body needs; the lowering writes its own.

use super::{Element, KernelSpec, Param, Port};
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
    format!("{}{parts}{}", prelude(kernel), kernel.body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Sight;
    use crate::kernels::attention::{self, AttentionShape, GradViews, HeadView};
    use crate::kernels::channel::{self, Sums};
    use crate::kernels::{AdapterClass, Profile};
    use crate::kernels::{argmax, cross_entropy, norm, scatter, softmax, sort};
    use naga::back::{hlsl, msl, spv};
    use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

    fn parse(label: &str, text: &str) -> (naga::Module, ModuleInfo) {
        let module = naga::front::wgsl::parse_str(text)
            .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(text)));
        let info = Validator::new(ValidationFlags::all(), Capabilities::all())
            .validate(&module)
            .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(text)));
        (module, info)
    }

    /// Writes the module for Vulkan, Metal and DX12.
    fn write_all(label: &str, module: &naga::Module, info: &ModuleInfo) {
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

    fn profiles() -> [Profile; 4] {
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

    fn attention_kernels(profile: &Profile, size: usize, view: HeadView) -> Option<Vec<KernelSpec>> {
        let (sight, scale) = (Sight { before: Some(40), after: Some(0) }, 0.2);
        let shape = AttentionShape { batch: 2, time: 70, source: 90, heads: 6, key_heads: 3, size, sight, scale };
        let views = GradViews { q: view, k: view, v: view, o: view, dout: view, dq: view, dk: view, dv: view };
        Some(vec![
            attention::attention_forward(profile, &shape, view, view, view, view)?,
            attention::attention_grad_q(profile, &shape, &views)?,
            attention::attention_grad_kv(profile, &shape, &views)?,
        ])
    }

    #[test]
    fn attention_is_legal_everywhere() {
        for profile in profiles() {
            for size in [4, 32, 64, 128] {
                let kernels = attention_kernels(&profile, size, HeadView::contiguous(70, 3, size));
                for kernel in kernels.unwrap_or_else(|| panic!("no kernels for heads of {size}")) {
                    let label = format!("{} of {size}, {}", kernel.name, profile.tier());
                    let (module, info) = parse(&label, &text(&kernel));
                    write_all(&label, &module, &info);
                    let buffers = kernel.inputs.len() + kernel.outputs.len();
                    assert!(buffers <= profile.max_storage_buffers as usize, "{label}");
                }
            }
        }
    }

    #[test]
    fn attention_refuses_what_it_cannot_unroll() {
        let profile = Profile::baseline();
        for size in [0, 6, 132] {
            assert!(attention_kernels(&profile, size, HeadView::contiguous(70, 3, size)).is_none(), "{size}");
        }
        let view = HeadView { offset: 2, ..HeadView::contiguous(70, 3, 8) };
        assert!(attention_kernels(&profile, 8, view).is_none());
    }

    /// The emitter's texts for heads of 32 are kept where they can be read. WGRAD_BLESS=1 rewrites them.
    #[test]
    fn attention_texts_are_those_in_shaders() {
        let profile = Profile::baseline();
        for kernel in attention_kernels(&profile, 32, HeadView::contiguous(70, 3, 32)).unwrap_or_default() {
            let path = format!("{}/shaders/{}.wgsl", env!("CARGO_MANIFEST_DIR"), kernel.name);
            let note = "// Emitted by kernels::attention for heads of 32; a test rewrites it under WGRAD_BLESS=1.";
            let text = format!("{note}\n\n{}// ---- body\n{}", prelude(&kernel), kernel.body);
            if std::env::var_os("WGRAD_BLESS").is_some() {
                std::fs::write(&path, &text).unwrap_or_else(|error| panic!("{path}: {error}"));
            }
            let file = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(file == text, "{path} differs from what the emitter writes; WGRAD_BLESS=1 rewrites it");
        }
    }
}
