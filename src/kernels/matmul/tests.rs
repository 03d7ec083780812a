//! The emitter's texts: legal for every compiler of their tier, and equal to the golden files.

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

use super::*;
use crate::kernels::validate::compile_for_units;
use crate::kernels::{Cooperative, Units};

/// A prelude as the lowering writes it, with a plain hook.
fn prelude(spec: &KernelSpec) -> String {
    let f = if spec.width == 4 { "vec4<f32>" } else { "f32" };
    let mut text =
        format!("alias F = {f};\nconst W = {}u;\nconst WG = {}u;\n\nstruct Params {{\n", spec.width, spec.workgroup);
    for (name, param) in &spec.params {
        text.push_str(&format!("    {name}: {},\n", param.wgsl()));
    }
    text.push_str("    groups: u32,\n}\n\n@group(0) @binding(0) var<uniform> params: Params;\n");
    let inputs = spec.inputs.iter().map(|port| (port.name, port.element, "read"));
    let outputs = spec.outputs.iter().map(|port| (port.name, port.element, "read_write"));
    let ports = inputs.chain([("c", Element::Wide, "read_write")]).chain(outputs);
    for (binding, (name, element, access)) in ports.enumerate() {
        let element = element.wgsl();
        let binding = binding + 1;
        text.push_str(&format!("@group(0) @binding({binding}) var<storage, {access}> {name}: array<{element}>;\n"));
    }
    text.push_str(
        "\nfn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {\n    return wid.x + wid.y * nwg.x;\n}\n\
         \nfn store(batch: u32, row: u32, col: u32, value: F) {\n    \
         c[((batch * params.m + row) * params.n + col) / W] = value;\n}\n\n",
    );
    text
}

fn file(spec: &KernelSpec) -> String {
    format!("{}{}// ---- body\n{}", spec.enables(), prelude(spec), spec.body)
}

/// A contiguous product; `kind` is `nn`, `nt`, `tn` or `tt`.
fn product(kind: &str, [m, n, k]: [usize; 3], bias_gradient: bool) -> Matmul {
    Matmul { bias_gradient, ..Matmul::contiguous(kind, [1, m, n, k]) }
}

fn cpu(subgroup: Option<u32>) -> Profile {
    Profile { class: AdapterClass::Cpu, subgroup, ..Profile::baseline() }
}

fn validate(text: &str, capabilities: Capabilities) -> (naga::Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(text)));
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.subgroup_stages(naga::valid::ShaderStages::all());
    validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
    let info = validator.validate(&module).unwrap_or_else(|error| panic!("{}", error.emit_to_string(text)));
    (module, info)
}

/// Emits for SPIR-V, MSL and HLSL: what the baseline must be legal for.
fn compile_everywhere(text: &str) {
    let (module, info) = validate(text, Capabilities::default());
    spv::write_vec(&module, &info, &spv::Options::default(), None).expect("SPIR-V");
    let options = msl::Options { fake_missing_bindings: true, lang_version: (2, 4), ..Default::default() };
    msl::write_string(&module, &info, &options, &msl::PipelineOptions::default()).expect("MSL");
    let options = hlsl::Options { fake_missing_bindings: true, ..Default::default() };
    let pipeline = hlsl::PipelineOptions::default();
    hlsl::Writer::new(&mut String::new(), &options, &pipeline).write(&module, &info, None).expect("HLSL");
}

#[test]
fn every_text_is_legal() {
    let shapes = [[64, 64, 64], [64, 64, 10], [64, 10, 64], [10, 10, 10], [10, 64, 10], [64, 10, 10]];
    for profile in [Profile::baseline(), cpu(None), cpu(Some(4)), cpu(Some(8)), cpu(Some(16))] {
        for (kind, shape) in ["nn", "nt", "tn", "tt"].iter().flat_map(|kind| shapes.map(|shape| (kind, shape))) {
            for bias_gradient in [false, true] {
                let mm = product(kind, shape, bias_gradient);
                let narrow = Matmul { out_wide: false, stored: [DType::F16, DType::BF16], ..mm.clone() };
                let halves = Matmul { stored: [DType::BF16, DType::F16], ..mm.clone() };
                for variant in candidates(&profile, &mm) {
                    for mm in [&mm, &narrow, &halves] {
                        let text = file(&emit(variant, mm, &profile));
                        match variant {
                            Variant::Subgroup { .. } => drop(validate(&text, Capabilities::all())),
                            _ => compile_everywhere(&text),
                        }
                    }
                }
            }
        }
    }
}

/// A convolution of 16 channels of 14 x 14, windows of 3 x 3 and padding 1, as the lowering writes it.
fn walked(rows: usize, both: bool) -> Matmul {
    let taps = |channel: usize, row: usize, moves| Walk::unjoined(&[16, 3, 3], &[channel, row, 1], moves);
    let bounded = [None, Some((0, 1)), Some((1, 1))];
    let x = Walk::unjoined(&[14, 14], &[14, 1], &bounded[1..]);
    let b = Walks { x, k: taps(196, 14, &bounded), bounds: vec![(14, 1), (14, 1)] };
    let reversed = Walk::unjoined(&[16, 9], &[9 * rows, 1usize.wrapping_neg()], &[None, None]);
    let a = Walks { x: Walk::new(&[rows], &[9]), k: reversed, bounds: vec![] };
    let operand = |row, offset: usize, batch| Operand { offset, row, col: 1, batch: [batch, 0] };
    let (a_operand, b_operand) = (operand(144, 0, 0), operand(0, 0usize.wrapping_sub(15), 16 * 196));
    let walks = [both.then_some(a), Some(b)];
    let (m, batch) = (rows, [64, 1]);
    Matmul {
        m,
        n: 196,
        k: 144,
        batch,
        a: a_operand,
        b: b_operand,
        out_wide: true,
        bias_gradient: false,
        row_sums: false,
        pairs: true,
        walks,
        stored: [DType::F32; 2],
    }
}

#[test]
fn walked_operands_are_legal() {
    for profile in [Profile::baseline(), cpu(None), cpu(Some(4)), cpu(Some(8)), cpu(Some(16))] {
        for (rows, both) in [(32, false), (32, true), (16, true), (5, false)] {
            let exact = walked(rows, both);
            // A number of steps that no loop divides.
            let edge = Matmul { k: 143, out_wide: false, stored: [DType::F32, DType::F16], ..exact.clone() };
            let halves = Matmul { stored: [DType::F16; 2], ..exact.clone() };
            for mm in [exact, edge, halves] {
                for variant in candidates(&profile, &mm) {
                    let text = file(&emit(variant, &mm, &profile));
                    if text.contains("subgroup") {
                        validate(&text, Capabilities::SUBGROUP);
                    } else {
                        compile_everywhere(&text);
                    }
                }
            }
        }
    }
}

/// A GPU with matrix units: of Vulkan's size, or of Metal's.
fn with_units(size: u32) -> Profile {
    let class = if size == 16 { AdapterClass::Discrete } else { AdapterClass::Apple };
    let cooperative = Some(Cooperative { size, lanes: 32 });
    Profile { class, cooperative, shader_f16: true, max_workgroup_bytes: 32 << 10, ..Profile::baseline() }
}

/// Products for matrix units: every transposition, with and without whole tiles and vectors, epilogues and sums.
fn products_for_units() -> Vec<Matmul> {
    let mut all = Vec::new();
    for kind in ["nn", "nt", "tn", "tt"] {
        for shape in [[128, 128, 64], [64, 64, 10], [70, 10, 13], [10, 64, 64]] {
            all.push(product(kind, shape, false));
            all.push(Matmul { row_sums: shape[0].is_multiple_of(4), ..product(kind, shape, true) });
        }
    }
    all.push(Matmul { batch: [3, 2], ..product("nt", [70, 52, 40], false) });
    all.extend([walked(32, false), walked(16, true), Matmul { k: 143, out_wide: false, ..walked(5, false) }]);
    all
}

fn on_units(profile: &Profile, mm: &Matmul) -> Vec<Variant> {
    candidates(profile, mm).into_iter().filter(Variant::is_cooperative).collect()
}

#[test]
fn texts_for_matrix_units_are_legal_where_they_are() {
    for profile in [with_units(16), with_units(8)] {
        let mut texts = 0;
        for mm in products_for_units() {
            for stored in [[DType::F16; 2], [DType::F32, DType::F16], [DType::F16, DType::F32]] {
                let mm = Matmul { stored, ..mm.clone() };
                let found = on_units(&profile, &mm);
                let rounded_sums =
                    mm.bias_gradient && stored[1] == DType::F32 || mm.row_sums && stored[0] == DType::F32;
                assert_eq!(found.len() >= 3, !rounded_sums, "{found:?} for {mm:?}");
                for variant in found {
                    let text = file(&emit(variant, &mm, &profile));
                    let hook = "fn store_row_sums(batch: u32, row: u32, value: vec4<f32>) {}\n";
                    compile_for_units(&format!("{text}{hook}"), &profile);
                    texts += 1;
                }
            }
        }
        assert!(texts >= 200, "{texts}");
    }
}

/// The driver's word is not enough: only units that were checked are chosen, and where they were wrong nothing brings them back.
#[test]
fn matrix_units_are_chosen_only_where_they_were_checked() {
    let mut profile = with_units(16);
    let mm = Matmul { stored: [DType::F16; 2], ..product("nt", [512, 512, 512], false) };
    let rule = by_rule(&profile, &mm);
    let units = on_units(&profile, &mm)[0];
    assert!(!rule.is_cooperative());
    profile.choices.set(&mm, units);
    assert_eq!(choose(&profile, &mm), rule, "measured, but not checked");
    profile.choices.judge_units(Units::Right);
    assert_eq!(choose(&profile, &mm), units);
    let without = [
        Profile { cooperative: None, ..profile.clone() },
        Profile { shader_f16: false, ..profile.clone() },
        Profile { choices: profile.choices.clone().for_another(), ..profile.clone() },
    ];
    without.iter().for_each(|profile| assert_eq!(choose(profile, &mm), rule));
    for stored in [[DType::F32; 2], [DType::BF16, DType::F16]] {
        assert_eq!(on_units(&profile, &Matmul { stored, ..mm.clone() }), []);
    }
    profile.choices.judge_units(Units::Wrong("a number".into()));
    assert!(!profile.choices.knows(&mm), "it would not be measured again");
    profile.choices.judge_units(Units::Right);
    profile.choices.set(&mm, units);
    assert_eq!((choose(&profile, &mm), on_units(&profile, &mm)), (rule, vec![]));
}

#[test]
fn workgroup_memory_and_size_fit_the_baseline() {
    let profile = Profile::baseline();
    let candidates = candidates(&profile, &product("nn", [1024, 1024, 1024], false));
    assert!(candidates.contains(&TILED) && candidates.contains(&TILED_SMALL) && candidates.contains(&Variant::Direct));
    for variant in candidates {
        assert!(fits(&profile, variant), "{variant:?}");
    }
}

#[test]
fn shapes_share_texts() {
    let profile = cpu(Some(8));
    let text = |shape| emit(choose(&profile, &product("nn", shape, false)), &product("nn", shape, false), &profile);
    let (first, second) = (text([128, 512, 784]), text([1024, 384, 128]));
    assert_eq!(first.body, second.body);
    assert_eq!(first.name, second.name);
    assert_eq!(second.groups, 32 * 12);
    assert_eq!(second.flops, 2 * 1024 * 384 * 128);
}

#[test]
fn empty_products_launch_nothing() {
    for shape in [[0, 8, 8], [8, 0, 8]] {
        for variant in candidates(&cpu(Some(8)), &product("nn", shape, false)) {
            assert_eq!(emit(variant, &product("nn", shape, false), &cpu(Some(8))).groups, 0);
        }
    }
}

#[test]
fn alignment_decides_how_operands_are_read() {
    let profile = cpu(Some(8));
    let elements = |mm: &Matmul| {
        let spec = emit(choose(&profile, mm), mm, &profile);
        (spec.inputs[0].element, spec.inputs[1].element, spec.width)
    };
    let mut mm = product("nn", [64, 64, 64], false);
    assert_eq!(elements(&mm), (Element::F32x4, Element::F32x4, 4));
    mm.a.offset = 2;
    mm.b.row = 65;
    assert_eq!(elements(&mm), (Element::F32, Element::F32, 4));
    // k = 10: rows of `a` are not made of whole vectors, those of `b` are.
    assert_eq!(elements(&product("nn", [64, 64, 10], false)), (Element::F32, Element::F32x4, 4));
    // A single row or column may be read along either axis.
    assert_eq!(elements(&product("tn", [1, 64, 64], false)).0, Element::F32x4);
}

/// The default instances, kept in `shaders/` where they can be read. `WGRAD_BLESS=1` rewrites them.
#[test]
fn workgroups_of_a_software_adapter_compute_little_beyond_the_edge() {
    let cpu = cpu(None);
    // Product, batches, and how many of the blocks that are computed are wanted, at least.
    for (sizes, batch, wanted) in [
        ([512, 512, 512], 1, 1.0),
        ([32, 196, 144], 64, 0.9),
        ([16, 784, 9], 64, 0.9),
        ([32, 144, 196], 64, 0.9),
        ([16, 9, 784], 64, 0.5),
        ([128, 10, 512], 1, 0.6),
    ] {
        let mm = Matmul { batch: [batch, 1], ..product("nn", sizes, false) };
        let spec = emit(REGISTER, &mm, &cpu);
        let computed = spec.groups * u64::from(spec.workgroup) * 64;
        let part = (sizes[0] * sizes[1] * batch) as f64 / computed as f64;
        assert!(part >= wanted, "{sizes:?}: {part:.2} of what is computed is wanted");
        assert!(spec.workgroup.is_multiple_of(4) && spec.workgroup <= 64, "{sizes:?}: {}", spec.workgroup);
    }
}

#[test]
fn golden_texts() {
    let mm = product("nn", [512, 512, 512], false);
    let gpu = Profile::baseline();
    let conv = walked(32, false);
    let (units, halves) = (with_units(16), Matmul { stored: [DType::F16; 2], ..mm.clone() });
    let goldens = [
        ("matmul_cooperative", on_units(&units, &halves)[0], &units, &halves),
        ("matmul_direct", Variant::Direct, &gpu, &mm),
        ("matmul_register", REGISTER, &gpu, &mm),
        ("matmul_subgroup", choose(&cpu(Some(8)), &mm), &cpu(Some(8)), &mm),
        ("matmul_tiled", TILED, &gpu, &mm),
        ("matmul_walked", TILED_SMALL, &gpu, &conv),
        ("matmul_walked_subgroup", choose(&cpu(Some(8)), &conv), &cpu(Some(8)), &conv),
    ];
    for (name, variant, profile, mm) in goldens {
        let path = format!("{}/shaders/{name}.wgsl", env!("CARGO_MANIFEST_DIR"));
        let text = format!("// {}\n\n{}", about(name), file(&emit(variant, mm, profile)));
        if std::env::var_os("WGRAD_BLESS").is_some() {
            std::fs::write(&path, &text).expect("shaders/ is writable");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(golden == text, "{path} differs from the emitter; if that is meant, run with WGRAD_BLESS=1");
        validate(&golden, Capabilities::all());
    }
}

fn about(name: &str) -> String {
    format!("{name}: written by src/kernels/matmul, kept here to be read; a test compares the two.")
}
