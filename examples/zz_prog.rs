use wgrad::train::workloads::*;
fn main() {
    let w = Workload::parse(&std::env::args().nth(1).unwrap()).unwrap();
    let device = wgrad::gpu::Device::open(None).unwrap();
    let s = setup(w, 0).unwrap();
    let p = s.trainer.plan(device.profile(), s.loss).unwrap();
    println!("{}", p.programs[1].to_text());
    for k in &p.programs[1].kernels { println!("{}", k.wgsl.lines().filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n")); }
}
