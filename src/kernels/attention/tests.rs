//! The emitters' texts: legal for every compiler of their tier, and equal to the files in `shaders/`.

use super::*;
use crate::kernels::validate::tests::{parse, profiles, write_all};
use crate::kernels::validate::{compile_for_units, prelude, text};
use crate::kernels::{AdapterClass, Cooperative, Units};

fn shape(size: usize) -> AttentionShape {
    let [batch, time, source, heads, key_heads] = [2, 70, 90, 6, 3];
    let sight = Sight { before: Some(40), after: Some(0) };
    AttentionShape { batch, time, source, heads, key_heads, size, sight, scale: 0.2, halves: true }
}

fn kernels_of(profile: &Profile, size: usize, view: HeadView) -> Option<Vec<KernelSpec>> {
    let shape = shape(size);
    let views = GradViews { q: view, k: view, v: view, o: view, dout: view, dq: view, dk: view, dv: view };
    Some(vec![
        attention_forward(profile, &shape, view, view, view, view)?,
        attention_grad_q(profile, &shape, &views)?,
        attention_grad_kv(profile, &shape, &views)?,
    ])
}

fn kernels(profile: &Profile, size: usize) -> Vec<KernelSpec> {
    let kernels = kernels_of(profile, size, HeadView::contiguous(70, 3, size));
    kernels.unwrap_or_else(|| panic!("no kernels for heads of {size}"))
}

#[test]
fn plain_texts_are_legal_everywhere() {
    for profile in profiles() {
        for size in [4, 32, 64, 128] {
            for kernel in kernels(&profile, size) {
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
fn what_cannot_be_unrolled_is_refused() {
    let profile = Profile::baseline();
    for size in [0, 6, 132] {
        assert!(kernels_of(&profile, size, HeadView::contiguous(70, 3, size)).is_none(), "{size}");
    }
    let view = HeadView { offset: 2, ..HeadView::contiguous(70, 3, 8) };
    assert!(kernels_of(&profile, 8, view).is_none());
}

/// A GPU with matrix units that were checked, and the tier chosen for heads of this size.
fn with_units(units: Cooperative, bytes: u32, size: usize, tier: Tier) -> Profile {
    let class = if units.size == 16 { AdapterClass::Discrete } else { AdapterClass::Apple };
    let cooperative = Some(units);
    let mut profile =
        Profile { class, cooperative, shader_f16: true, max_workgroup_bytes: bytes, ..Profile::baseline() };
    profile.choices.judge_units(Units::Right);
    profile.choices.set_attention(&shape(size), tier);
    profile
}

const VULKAN: Cooperative = Cooperative { size: 16, lanes: 32 };

#[test]
fn texts_for_matrix_units_are_legal_where_they_are() {
    let metal = Cooperative { size: 8, lanes: 32 };
    let others = [16, 64].map(|lanes| Cooperative { lanes, ..VULKAN });
    for (units, bytes) in [(VULKAN, 48 << 10), (metal, 32 << 10), (others[0], 64 << 10), (others[1], 32 << 10)] {
        for size in (16..=MAX_HEAD_SIZE).step_by(16) {
            let open = with_units(units, bytes, size, Tier::Plain);
            let tiers = candidates(&open, &shape(size));
            assert!(tiers.len() >= 3 && tiers[0] == Tier::Plain, "{units:?}, heads of {size}: {tiers:?}");
            for &tier in &tiers[1..] {
                let profile = with_units(units, bytes, size, tier);
                let kernels = kernels(&profile, size);
                assert_eq!(kernels.iter().filter(|kernel| kernel.body.contains("coopMultiplyAdd")).count(), 3);
                kernels.iter().for_each(|kernel| compile_for_units(&text(kernel), &profile));
            }
        }
    }
}

/// As for products: a driver's word is not enough, and units that were wrong once are not chosen again.
#[test]
fn matrix_units_are_chosen_only_where_they_were_checked() {
    let tier = Tier::Cooperative { subgroups: 2 };
    let chosen = with_units(VULKAN, 32 << 10, 64, tier);
    assert_eq!(choose(&chosen, &shape(64)), tier);
    let unknown = Profile { choices: chosen.choices.clone().for_another(), ..chosen.clone() };
    let mut wrong = chosen.clone();
    wrong.choices.judge_units(Units::Wrong("a number".into()));
    assert!(!wrong.choices.knows_attention(&shape(64)), "it would not be measured again");
    wrong.choices.set_attention(&shape(64), tier);
    let without = Profile { cooperative: None, ..chosen.clone() };
    let small = Profile { max_workgroup_bytes: 8 << 10, ..chosen.clone() };
    for profile in [unknown, wrong, without, small] {
        assert_eq!(choose(&profile, &shape(64)), Tier::Plain);
        assert_eq!(kernels(&profile, 64)[0].body, kernels(&Profile { cooperative: None, ..profile }, 64)[0].body);
    }
    assert_eq!(candidates(&chosen, &AttentionShape { halves: false, ..shape(64) }), [Tier::Plain]);
    // Nor for heads that are no whole matrices.
    assert_eq!(candidates(&chosen, &shape(40)), [Tier::Plain]);
}

/// The texts for small heads are kept where they can be read. WGRAD_BLESS=1 rewrites them.
#[test]
fn texts_are_those_in_shaders() {
    let units = with_units(VULKAN, 32 << 10, 16, Tier::Cooperative { subgroups: 2 });
    let sizes = [(Profile::baseline(), 32), (units, 16)];
    for (size, kernel) in
        sizes.iter().flat_map(|(profile, size)| kernels(profile, *size).into_iter().map(|it| (*size, it)))
    {
        let name = kernel.name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
        let path = format!("{}/shaders/{name}.wgsl", env!("CARGO_MANIFEST_DIR"));
        let note =
            format!("// Emitted by kernels::attention for heads of {size}; a test rewrites it under WGRAD_BLESS=1.");
        let enables = kernel.enables();
        let text = format!("{note}\n\n{enables}{}// ---- body\n{}", prelude(&kernel), kernel.body);
        if std::env::var_os("WGRAD_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        let file = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(file == text, "{path} differs from what the emitter writes; WGRAD_BLESS=1 rewrites it");
    }
}
