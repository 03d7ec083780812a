use super::models;
use wgrad::kernels::{AdapterClass, Profile};

#[test]
fn show() {
    let profile = Profile { class: AdapterClass::Cpu, subgroup: Some(8), max_storage_buffers: 32, ..Profile::baseline() };
    for (name, traced) in [("mlp", models::mlp(128)), ("gpt", models::gpt(8, 128, 128, 4, 4, 256))] {
        let layout = models::layout(&traced.specs);
        let program = wgrad::lower::lower(name, &traced.graph, &layout, &profile).unwrap();
        println!("{}", program.to_text());
        let mut names: Vec<_> = program.kernels.iter().map(|k| k.name.clone()).collect();
        names.sort();
        println!("{names:?}");
        for kernel in &program.kernels {
            let module = naga::front::wgsl::parse_str(&kernel.wgsl);
            match module {
                Err(e) => panic!("{}\n{}", kernel.wgsl, e.emit_to_string(&kernel.wgsl)),
                Ok(module) => {
                    let mut v = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
                    if let Err(e) = v.validate(&module) { panic!("{}\n{}", kernel.wgsl, e.emit_to_string(&kernel.wgsl)); }
                }
            }
        }
    }
}
