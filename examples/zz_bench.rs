use std::time::Instant;
use wgrad::train::workloads::*;
fn main() {
    let t0 = Instant::now();
    let w = Workload::parse(&std::env::args().nth(1).unwrap()).unwrap();
    let device = wgrad::gpu::Device::open(None).unwrap();
    eprintln!("device {:?}", t0.elapsed());
    if let Workload::W1(n) = w {
        use wgrad::graph::Graph; use wgrad::dtype::DType; use wgrad::program::*;
        let g = Graph::new();
        let a = g.state("a", [n,n], DType::F32); let b = g.state("b", [n,n], DType::F32);
        let mut x = b; for _ in 0..8 { x = a.matmul(x); }
        g.output("x", x.slice(0,0,1).slice(1,0,1));
        let specs: Vec<StateSpec> = ["a","b"].iter().map(|s| StateSpec{name:s.to_string(), ty: wgrad::graph::TensorType::new([n,n], DType::F32), category: Category::Weights, group:"g".into()}).collect();
        let layout = StateLayout::build(&specs, 128<<20).unwrap();
        let p = wgrad::lower::lower("w1", &g, &layout, device.profile()).unwrap();
        eprintln!("{}", p.to_text());
        let mut s = wgrad::gpu::Session::new(&device, layout, vec![p]).unwrap();
        s.write_state("a", bytemuck::cast_slice(&uniform(0,1,n*n,(3.0/n as f64).sqrt()))).unwrap();
        s.write_state("b", bytemuck::cast_slice(&uniform(0,2,n*n,1.0))).unwrap();
        for _ in 0..13 { let t=Instant::now(); let k=s.run(&[0]).unwrap(); s.fetch(k).unwrap(); let e=t.elapsed().as_secs_f64()/8.0; eprintln!("{:.2} ms {:.1} GF/s", e*1e3, 2.0*(n as f64).powi(3)/e/1e9); }
        return;
    }
    let s = setup(w, 0).unwrap();
    let mut t = s.trainer.build(&device, s.loss).unwrap();
    eprintln!("built {:?} dispatches {}", t0.elapsed(), t.dispatches());
    for i in 0..14 { let t1 = Instant::now(); let r = t.step(&s.batch).unwrap(); eprintln!("{i} loss {} {:?} total {:?}", r.loss, t1.elapsed(), t0.elapsed()); }
}
