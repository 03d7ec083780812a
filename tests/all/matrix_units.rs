//! Whole training steps on matrix units: their products' kernels, with all that is fused into them, pass naga's validation and the
//! one writer of the API that has such units.

use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use std::collections::{BTreeMap, BTreeSet};
use wgrad::kernels::attention;
use wgrad::kernels::matmul::{Variant, candidates};
use wgrad::kernels::{AdapterClass, Choices, Cooperative, Profile, Units};
use wgrad::program::Kernel;
use wgrad::train::Precision;
use wgrad::train::workloads::{Workload, setup};

fn compile(kernel: &Kernel, size: u32) {
    let wgsl = &kernel.wgsl;
    let module = naga::front::wgsl::parse_str(wgsl);
    let module = module.unwrap_or_else(|error| panic!("{}\n{wgsl}", error.emit_to_string(wgsl)));
    let units = Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16 | Capabilities::SUBGROUP;
    let info = Validator::new(ValidationFlags::all(), units)
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{}\n{wgsl}", error.emit_to_string(wgsl)));
    crate::uniformity::check(&module).unwrap_or_else(|error| panic!("{}: {error}\n{wgsl}", kernel.name));
    if size == 16 {
        naga::back::spv::write_vec(&module, &info, &Default::default(), None).expect("SPIR-V");
    } else {
        let options =
            naga::back::msl::Options { fake_missing_bindings: true, lang_version: (2, 4), ..Default::default() };
        naga::back::msl::write_string(&module, &info, &options, &Default::default()).expect("MSL");
    }
}

#[test]
fn steps_on_matrix_units_are_legal() {
    for (size, class) in [(16, AdapterClass::Discrete), (8, AdapterClass::Apple)] {
        let cooperative = Some(Cooperative { size, lanes: 32 });
        let profile = Profile {
            class,
            cooperative,
            shader_f16: true,
            subgroup: Some(32),
            max_workgroup_bytes: 32 << 10,
            ..Profile::baseline()
        };
        let mut kernels = BTreeMap::new();
        for workload in [Workload::W2, Workload::W3, Workload::W4] {
            let setup = setup(workload, 0).expect("a workload");
            let trainer = setup.trainer.precision(Precision::F16);
            let mut choices = Choices::default();
            choices.judge_units(Units::Right);
            let tunable = trainer.tunable(&profile, &*setup.loss).expect("products");
            for (product, _) in tunable.products {
                if let Some(&units) = candidates(&profile, &product).iter().find(|&it| Variant::is_cooperative(it)) {
                    choices.set(&product, units);
                }
            }
            assert!(choices.len() >= 2, "{workload}: {} products", choices.len());
            for (shape, _) in tunable.attentions {
                choices.set_attention(&shape, attention::candidates(&profile, &shape)[1]);
            }
            let chosen = choices.len();
            let plan = trainer.plan(&Profile { choices, ..profile.clone() }, setup.loss).expect("compiles");
            let on_units = plan.programs.iter().flat_map(|program| &program.kernels);
            let on_units: Vec<&Kernel> = on_units.filter(|kernel| kernel.wgsl.contains("coop_mat")).collect();
            println!("{workload}, {size} x {size}: {chosen} choices, {} kernels", on_units.len());
            assert!(on_units.len() >= 2, "{workload}: the choices change nothing");
            let names: BTreeSet<&str> = on_units.iter().map(|kernel| kernel.name.as_str()).collect();
            let passes = names.iter().filter(|name| name.starts_with("attention")).count();
            assert_eq!(passes, if workload == Workload::W4 { 3 } else { 0 }, "{workload}: {names:?}");
            kernels.extend(on_units.into_iter().map(|kernel| (kernel.wgsl.clone(), kernel.clone())));
        }
        kernels.values().for_each(|kernel| compile(kernel, size));
    }
}
