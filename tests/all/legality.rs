//! Every generated kernel passes the compilers of the backends that its tier declares, and a lint
//! for what naga lets through: workgroup memory, invocations, bindings, and barriers in non-uniform control
//! flow (`uniformity.rs`).

use crate::models;
use wgrad::gpu::{Device, Session};
use wgrad::kernels::{AdapterClass, Profile};
use wgrad::lower::lower;
use wgrad::program::{Kernel, Program};
use wgrad::train::workloads::{Workload, outline};

/// The backends whose writers took a kernel.
pub fn backends(kernel: &Kernel) -> Result<Vec<&'static str>, String> {
    let wgsl = &kernel.wgsl;
    let module =
        naga::front::wgsl::parse_str(wgsl).map_err(|error| format!("{}\n{wgsl}", error.emit_to_string(wgsl)))?;
    let validate = |capabilities| {
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities)
            .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
            .subgroup_operations(naga::valid::SubgroupOperationSet::all())
            .validate(&module)
            .map_err(|error| format!("{}\n{wgsl}", error.emit_to_string(wgsl)))
    };
    let info = validate(naga::valid::Capabilities::all())?;
    lint(kernel, &module)?;
    let mut passed = Vec::new();
    let options = naga::back::spv::Options::default();
    naga::back::spv::write_vec(&module, &info, &options, None).map_err(|error| format!("SPIR-V: {error}\n{wgsl}"))?;
    passed.push("SPIR-V");
    let options = naga::back::msl::Options { fake_missing_bindings: true, lang_version: (2, 4), ..Default::default() };
    naga::back::msl::write_string(&module, &info, &options, &Default::default())
        .map_err(|error| format!("MSL: {error}\n{wgsl}"))?;
    passed.push("MSL");
    let mut text = String::new();
    let options = naga::back::hlsl::Options {
        fake_missing_bindings: true,
        shader_model: naga::back::hlsl::ShaderModel::V6_0,
        ..Default::default()
    };
    let pipeline = naga::back::hlsl::PipelineOptions::default();
    naga::back::hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(&module, &info, None)
        .map_err(|error| format!("HLSL: {error}\n{wgsl}"))?;
    passed.push("HLSL");
    Ok(passed)
}

fn lint(kernel: &Kernel, module: &naga::Module) -> Result<(), String> {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).map_err(|error| error.to_string())?;
    let shared: u32 = module
        .global_variables
        .iter()
        .filter(|(_, variable)| variable.space == naga::AddressSpace::WorkGroup)
        .map(|(_, variable)| layouter[variable.ty].size)
        .sum();
    let invocations: u32 =
        module.entry_points.iter().map(|entry| entry.workgroup_size.iter().product()).max().unwrap_or(0);
    let storage =
        module.global_variables.iter().filter(|(_, v)| matches!(v.space, naga::AddressSpace::Storage { .. })).count();
    if shared > 16 << 10 {
        return Err(format!("{}: {shared} bytes of workgroup memory, the baseline has 16384", kernel.name));
    }
    if invocations > 256 || invocations != kernel.workgroup {
        return Err(format!("{}: {invocations} invocations, declared {}", kernel.name, kernel.workgroup));
    }
    if storage != kernel.writable.len() + usize::from(kernel.params_in_storage) {
        return Err(format!("{}: {storage} storage bindings, declared {}", kernel.name, kernel.writable.len()));
    }
    let enabled = kernel.wgsl.contains("subgroup") && !kernel.subgroups;
    if enabled {
        return Err(format!("{}: uses subgroups without declaring it", kernel.name));
    }
    crate::uniformity::check(module).map_err(|error| format!("{}: {error}\n{}", kernel.name, kernel.wgsl))
}

/// Panics if a kernel of a program is not legal.
pub fn check(program: &Program) {
    for kernel in &program.kernels {
        backends(kernel).unwrap_or_else(|error| panic!("{}: {error}", kernel.name));
    }
}

/// The devices for which kernels are compiled without being there.
pub fn profiles() -> Vec<(&'static str, Profile)> {
    let baseline = Profile::baseline();
    vec![
        ("WebGPU baseline", baseline.clone()),
        ("browser on a CPU", Profile { class: AdapterClass::Cpu, ..baseline.clone() }),
        ("discrete, subgroups of 32", Profile { subgroup: Some(32), ..baseline.clone() }),
        ("apple, subgroups of 32", Profile { class: AdapterClass::Apple, subgroup: Some(32), ..baseline.clone() }),
        ("lavapipe", Profile { class: AdapterClass::Cpu, subgroup: Some(8), ..baseline.clone() }),
        (
            "lavapipe without AVX-512",
            Profile { class: AdapterClass::Cpu, subgroup: Some(8), doubled_reads: true, ..baseline },
        ),
    ]
}

#[test]
fn kernels_of_the_workloads_pass_the_compilers_of_every_tier() {
    println!("{:<28} {:<36} backends", "tier", "kernel");
    for (tier, profile) in profiles() {
        for traced in
            [models::mlp(128), models::cnn(6), models::gpt(2, 64, 64, 2, 4, 256), models::gpt(1, 7, 6, 1, 2, 10)]
        {
            let program = lower("step", &traced.graph, &models::layout(&traced.specs), &profile).expect("compiles");
            for kernel in &program.kernels {
                assert!(kernel.writable.len() <= 8, "{}: more than eight storage buffers", kernel.name);
                let passed = backends(kernel).unwrap_or_else(|error| panic!("{tier}: {}: {error}", kernel.name));
                println!("{tier:<28} {:<36} {}", kernel.name, passed.join(" "));
            }
        }
    }
}

#[test]
fn kernels_of_the_rows_pass_the_compilers_in_a_browser() {
    use wgrad::graph::Graph;
    let mut refused = Vec::new();
    for (name, samples) in crate::ops::all_rows() {
        let graph = Graph::new();
        crate::ops::harness::trace_all(name, &samples, &graph);
        for (tier, profile) in profiles().into_iter().take(2) {
            match lower(name, &graph, &Default::default(), &profile) {
                Ok(program) => {
                    let wrong = program.kernels.iter().filter_map(|kernel| backends(kernel).err());
                    refused.extend(wrong.map(|error| format!("{tier}, {name}: {error}")));
                }
                Err(error) => refused.push(format!("{tier}, {name}: {error}")),
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn programs_are_legal_under_the_default_limits_of_webgpu() {
    let profile = Profile::baseline();
    let device = Device::fake(&profile).expect("wgpu's noop backend");
    for traced in [models::mlp(128), models::cnn(6), models::gpt(8, 128, 128, 4, 4, 256)] {
        let layout = models::layout(&traced.specs);
        let program = lower("step", &traced.graph, &layout, &profile).expect("compiles");
        let mut session = Session::new(&device, layout, vec![program]).expect("legal under the baseline's limits");
        session.run(&[0]).expect("encodes without a validation error");
    }
}

#[test]
fn steps_whose_every_value_is_counted_are_split_over_kernels_of_eight_buffers() {
    for class in [AdapterClass::Cpu, AdapterClass::Discrete] {
        let profile = Profile { class, ..Profile::baseline() };
        for workload in [Workload::W2, Workload::W3] {
            let (trainer, loss) = outline(workload).expect("a workload");
            let plan = trainer.watched().plan(&profile, loss).unwrap_or_else(|error| panic!("{workload}: {error}"));
            plan.programs.iter().for_each(check);
        }
    }
}

#[test]
fn many_operands_are_split_over_kernels_of_eight_buffers() {
    use wgrad::dtype::DType;
    use wgrad::graph::{Graph, TensorType};
    use wgrad::program::{Category, StateLayout, StateSpec};
    let profile = Profile::baseline();
    for shape in [vec![7], vec![1], vec![]] {
        let graph = Graph::new();
        let mut specs = Vec::new();
        let mut sum = graph.input("x", shape.clone(), DType::F32);
        for i in 0..20 {
            let name = format!("s{i}");
            sum = sum + graph.state(&name, shape.clone(), DType::F32).tanh();
            specs.push(StateSpec {
                name,
                ty: TensorType::new(shape.clone(), DType::F32),
                category: Category::Other,
                group: "g".into(),
            });
        }
        graph.output("sum", sum);
        let layout = StateLayout::build(&specs, 1 << 20).expect("fits");
        let program = lower("sum", &graph, &layout, &profile).unwrap_or_else(|error| panic!("{shape:?}: {error}"));
        check(&program);
    }
}

#[test]
fn long_scalar_expressions_compile_at_once() {
    let graph = wgrad::graph::Graph::new();
    let mut s = graph.input("s", [], wgrad::dtype::DType::F32);
    for _ in 0..40 {
        s = s * 0.7 + s * s;
    }
    graph.output("s", s);
    check(&lower("chain", &graph, &Default::default(), &Profile::baseline()).expect("compiles"));
}

#[test]
fn nan_constants_are_refused_with_a_reason() {
    let graph = wgrad::graph::Graph::new();
    let x = graph.input("x", [4], wgrad::dtype::DType::F32);
    graph.output("y", x + f64::NAN);
    let error = lower("nan", &graph, &Default::default(), &Profile::baseline()).expect_err("NaN has no literal");
    assert!(error.to_string().contains("NaN"), "{error}");
}
