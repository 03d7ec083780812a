//! Hand-built programs on a real adapter (lavapipe in CI) and on the fake one.

use super::*;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::TensorType;
use crate::kernels::Profile;
use crate::program::*;
use crate::shape::Shape;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// One device for all tests that leave it whole: opening one takes a while.
pub(super) fn device() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(open).clone()
}

pub(super) fn open() -> Device {
    Device::open(None).unwrap_or_else(|error| panic!("these tests need an adapter: {error}"))
}

pub(super) const N: usize = 8;

/// `x = x * factor + added`, in place; one invocation an element.
pub(super) fn affine() -> Kernel {
    let wgsl = "
        struct Params { n: u32, factor: f32, added: u32, pad: u32 }
        @group(0) @binding(0) var<uniform> params: Params;
        @group(0) @binding(1) var<storage, read_write> x: array<f32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if (id.x < params.n) { x[id.x] = x[id.x] * params.factor + f32(params.added); }
        }";
    Kernel {
        name: "affine".into(),
        wgsl: wgsl.into(),
        writable: vec![true],
        workgroup: 64,
        params_in_storage: false,
        foreign: false,
        subgroups: false,
    }
}

/// `y = x * scale`, with the scale from the scalar buffer.
pub(super) fn scale() -> Kernel {
    let wgsl = "
        struct Params { n: u32 }
        @group(0) @binding(0) var<uniform> params: Params;
        @group(0) @binding(1) var<storage, read> x: array<f32>;
        @group(0) @binding(2) var<storage, read> scalars: array<f32>;
        @group(0) @binding(3) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if (id.x < params.n) { y[id.x] = x[id.x] * scalars[0]; }
        }";
    let writable = vec![false, false, true];
    Kernel {
        name: "scale".into(),
        wgsl: wgsl.into(),
        writable,
        workgroup: 64,
        params_in_storage: false,
        foreign: false,
        subgroups: false,
    }
}

pub(super) fn dispatch(kernel: usize, buffers: &[usize], params: Vec<u32>) -> Dispatch {
    let bytes = |buffer: &usize| if kernel == 1 && *buffer == 1 { 4 } else { N as u64 * 4 };
    let bindings = buffers.iter().map(|&buffer| Binding { buffer, offset: 0, bytes: bytes(&buffer) }).collect();
    let label = format!("test/{kernel}");
    Dispatch { kernel, label, bindings, params, groups: [1, 1], flops: 16, bytes_moved: 64 }
}

pub(super) fn times(factor: f32, added: u32) -> Vec<u32> {
    vec![N as u32, factor.to_bits(), added, 0]
}

pub(super) fn io(name: &str, buffer: usize) -> Io {
    Io { name: name.into(), dtype: DType::F32, shape: Shape::from([N]), buffer, offset: 0 }
}

fn decl(role: Role) -> BufferDecl {
    let bytes = if role == Role::Scalars { 4 } else { N as u64 * 4 };
    BufferDecl { role, bytes }
}

/// Feeds `x`, multiplies it by the scalar `by`, gives `y` from a transient buffer.
pub(super) fn scaling() -> Program {
    Program {
        name: "scaling".into(),
        kernels: vec![affine(), scale()],
        buffers: vec![decl(Role::Input("x".into())), decl(Role::Scalars), decl(Role::Transient)],
        segments: vec![Segment::Gpu(vec![dispatch(1, &[0, 1, 2], vec![N as u32])])],
        inputs: vec![io("x", 0)],
        scalars: vec![Scalar { name: "by".into(), dtype: DType::F32 }],
        constants: vec![],
        outputs: vec![io("y", 2)],
        expired: vec![],
    }
}

/// Works on the state tensor `w` in place, and gives it as `w`.
pub(super) fn on_state(name: &str, segments: Vec<Segment>) -> Program {
    Program {
        name: name.into(),
        kernels: vec![affine()],
        buffers: vec![decl(Role::State(0)), decl(Role::Transient)],
        segments,
        inputs: vec![],
        scalars: vec![],
        constants: vec![],
        outputs: vec![io("w", 0)],
        expired: vec![],
    }
}

pub(super) fn state_of(name: &str, n: usize, max_binding: u64) -> StateLayout {
    let ty = TensorType::new([n], DType::F32);
    let spec = StateSpec { name: name.into(), ty, category: Category::Weights, group: "all".into() };
    StateLayout::build(&[spec], max_binding).expect("a small state fits")
}

pub(super) fn bytes(values: &[f32]) -> &[u8] {
    bytemuck::cast_slice(values)
}

pub(super) fn counted() -> Vec<f32> {
    (0..N).map(|index| index as f32).collect()
}

#[test]
fn an_input_times_a_scalar_comes_back() -> Result<()> {
    let mut session = Session::new(&device(), StateLayout::default(), vec![scaling()])?;
    session.write_input(0, "x", bytes(&counted()))?;
    session.write_scalar(0, "by", 2f32.to_bits())?;
    let first = session.run(&[0])?;
    session.write_scalar(0, "by", 3f32.to_bits())?;
    let second = session.run(&[0])?;
    assert_eq!(session.fetch(first)?.f32("y")?, counted().iter().map(|x| x * 2.0).collect::<Vec<_>>());
    let results = session.fetch(second)?;
    assert_eq!(results.f32("y")?, counted().iter().map(|x| x * 3.0).collect::<Vec<_>>());
    assert!(
        matches!(results.i32("y").as_ref().map_err(Error::kind), Err(ErrorKind::Feed(_)))
            && matches!(results.f32("z").as_ref().map_err(Error::kind), Err(ErrorKind::Feed(_)))
    );
    Ok(())
}

#[test]
fn two_programs_share_one_state() -> Result<()> {
    let double = on_state("double", vec![Segment::Gpu(vec![dispatch(0, &[0], times(2.0, 0))])]);
    let add = on_state("add", vec![Segment::Gpu(vec![dispatch(0, &[0], times(1.0, 5))])]);
    let mut session = Session::new(&device(), state_of("w", N, 1 << 20), vec![double, add])?;
    session.write_state("w", bytes(&counted()))?;
    let ticket = session.run(&[0, 1, 0])?;
    let expected: Vec<f32> = counted().iter().map(|x| (x * 2.0 + 5.0) * 2.0).collect();
    assert_eq!(session.fetch(ticket)?.f32("w")?, *bytemuck::cast_slice::<u8, f32>(&session.read_state("w")?));
    assert_eq!(session.read_state("w")?, bytes(&expected));
    Ok(())
}

#[test]
fn a_repeat_steps_its_parameters() -> Result<()> {
    let steps = vec![ParamStep { dispatch: 0, word: 2, step: 3 }];
    let repeat = Segment::Repeat { count: 5, body: vec![dispatch(0, &[0], times(2.0, 1))], steps };
    let mut session = Session::new(&device(), state_of("w", N, 1 << 20), vec![on_state("scan", vec![repeat])])?;
    let ticket = session.run(&[0])?;
    let expected = (0..5).fold(0.0, |x, step| x * 2.0 + 1.0 + 3.0 * step as f32);
    assert_eq!(session.fetch(ticket)?.f32("w")?, [expected; N]);
    Ok(())
}

#[test]
fn a_dropped_session_frees_its_buffers() -> Result<()> {
    fn is_send<T: Send>(_: &T) {}
    let device = open();
    let held = || {
        let report = device.wgpu_device().generate_allocator_report();
        let allocations = report.map_or(Vec::new(), |report| report.allocations);
        allocations.iter().filter(|allocation| allocation.name == "weights/all").count()
    };
    let mut session = Session::new(&device, state_of("w", 1 << 20, 1 << 30), vec![])?;
    is_send(&session);
    session.write_state("w", bytes(&vec![1.0; 1 << 20]))?;
    assert_eq!(session.read_state("w")?.len(), 4 << 20);
    assert_eq!(held(), 1);
    drop(session);
    device.check()?;
    assert_eq!(held(), 0);
    Ok(())
}

struct Negate(Arc<AtomicUsize>);

impl HostStep for Negate {
    fn call(&mut self, host: &mut HostContext<'_>) -> Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let read = host.read("w")?;
        let negated: Vec<f32> = bytemuck::cast_slice::<u8, f32>(&read).iter().map(|x| -x).collect();
        host.write("w", bytes(&negated))
    }
}

#[test]
fn a_host_step_sees_the_work_before_it_and_is_seen_by_the_work_after() -> Result<()> {
    let add = || Segment::Gpu(vec![dispatch(0, &[0], times(1.0, 1))]);
    let program = on_state("with host", vec![add(), Segment::Host("negate".into()), add(), add()]);
    let mut session = Session::new(&device(), state_of("w", N, 1 << 20), vec![program])?;
    assert!(
        matches!(session.run(&[0]).as_ref().map_err(Error::kind), Err(ErrorKind::Config(message)) if message.contains("negate"))
    );
    let calls = Arc::new(AtomicUsize::new(0));
    session.set_host_step("negate", Box::new(Negate(Arc::clone(&calls))));
    let ticket = session.run(&[0])?;
    assert_eq!(session.fetch(ticket)?.f32("w")?, [1.0; N]);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    Ok(())
}

#[test]
fn the_plan_is_what_is_created() -> Result<()> {
    let layout = state_of("w", 1000, 1 << 20);
    let double = on_state("double", vec![Segment::Gpu(vec![dispatch(0, &[0], times(2.0, 0))])]);
    let programs = vec![scaling(), double];
    let planned = Session::plan(&layout, &programs);
    let session = Session::new(&device(), layout, programs)?;
    assert_eq!(session.memory(), planned);
    assert_eq!(session.created_bytes(), planned.total());
    // Two programs: a shared transient, an input and a scalar, a parameter slot each; outputs of 32 bytes each.
    // Of the proof that work was done: a tally a slot, one more, and a word.
    let expected = Memory {
        weights: 4096,
        transient: 32,
        io: 32 + 4 + 2 * 256,
        readback: 3 * (64 + 256) + 260,
        ..Memory::default()
    };
    assert_eq!(planned, expected);
    Ok(())
}

#[test]
fn results_outlive_the_ring_and_dropped_tickets_free_it() -> Result<()> {
    let add = on_state("add", vec![Segment::Gpu(vec![dispatch(0, &[0], times(1.0, 1))])]);
    let mut session = Session::new(&device(), state_of("w", N, 1 << 20), vec![add])?;
    let tickets: Vec<Ticket> = (0..5).map(|_| session.run(&[0])).collect::<Result<_>>()?;
    for (index, ticket) in tickets.into_iter().enumerate().rev() {
        assert_eq!(session.fetch(ticket)?.f32("w")?, [index as f32 + 1.0; N]);
    }
    for _ in 0..7 {
        drop(session.run(&[0])?);
    }
    let (ticket, nothing) = (session.run(&[0])?, session.run(&[])?);
    assert_eq!(session.fetch(ticket)?.f32("w")?, [13.0; N]);
    session.fetch(nothing).map(|_| ())
}

#[test]
fn a_tensor_in_several_pieces_is_read_as_it_was_written() -> Result<()> {
    let ty = TensorType::new([100, 64], DType::F32);
    let spec = StateSpec { name: "wte".into(), ty, category: Category::Weights, group: "all".into() };
    let layout = StateLayout::build(&[spec], 4096)?;
    assert!(layout.entries["wte"].pieces.len() > 2);
    let mut session = Session::new(&device(), layout, vec![])?;
    let values: Vec<f32> = (0..6400).map(|index| index as f32).collect();
    assert_eq!(session.read_state("wte")?, bytes(&[0.0; 6400]));
    session.write_state("wte", bytes(&values))?;
    assert_eq!(session.read_state("wte")?, bytes(&values));
    Ok(())
}

#[test]
fn wrong_names_and_sizes_are_feed_errors() -> Result<()> {
    let mut session = Session::new(&device(), state_of("w", N, 1 << 20), vec![scaling()])?;
    let errors = [
        session.write_input(0, "x", &[0; 4]),
        session.write_input(0, "q", &[]),
        session.write_input(7, "x", &[]),
        session.write_scalar(0, "q", 0),
        session.write_state("w", &[0; 3]),
        session.write_state("q", &[]),
        session.read_state("q").map(|_| ()),
        session.run(&[1]).map(|_| ()),
    ];
    for error in errors {
        assert!(matches!(error.as_ref().map_err(Error::kind), Err(ErrorKind::Feed(_))), "{error:?}");
    }
    Ok(())
}

#[test]
fn a_destroyed_device_is_an_error_everywhere_and_no_panic() -> Result<()> {
    let device = open();
    let mut session = Session::new(&device, state_of("w", N, 1 << 20), vec![scaling()])?;
    let ticket = session.run(&[0])?;
    session.write_input(0, "x", bytes(&counted()))?;
    device.wgpu_device().destroy();
    let is_lost = |outcome: Result<()>| {
        assert!(matches!(outcome.as_ref().map_err(Error::kind), Err(ErrorKind::DeviceLost { .. })), "{outcome:?}")
    };
    // The loss shows when the work before it is done, so at the latest with the results.
    is_lost(session.run(&[0]).and_then(|ticket| session.fetch(ticket)).map(|_| ()));
    is_lost(session.fetch(ticket).map(|_| ()));
    is_lost(session.run(&[0]).map(|_| ()));
    is_lost(session.write_state("w", bytes(&counted())));
    is_lost(session.read_state("w").map(|_| ()));
    is_lost(Session::new(&device, state_of("w", N, 1 << 20), vec![scaling()]).map(|_| ()));
    assert!(device.lost().is_some());
    // Another one on the same adapter works.
    let device = device.reopener()()?;
    let mut session = Session::new(&device, state_of("w", N, 1 << 20), vec![scaling()])?;
    let ticket = session.run(&[0])?;
    session.fetch(ticket).map(|_| ())
}

#[test]
fn a_kernel_that_does_not_compile_is_named_and_the_device_stays_usable() -> Result<()> {
    let mut program = scaling();
    program.kernels[1].wgsl = program.kernels[1].wgsl.replace("scalars[0]", "nonsense");
    let error = Session::new(&device(), StateLayout::default(), vec![program]).map(|_| ());
    let named = |kernel: &str, message: &str| kernel == "scale" && message.contains("nonsense");
    assert!(
        matches!(error.as_ref().map_err(Error::kind), Err(ErrorKind::Kernel { kernel, message }) if named(kernel, message)),
        "{error:?}"
    );
    Session::new(&device(), StateLayout::default(), vec![scaling()]).map(|_| ())
}

#[test]
fn a_fake_device_has_the_limits_it_is_given() -> Result<()> {
    let small = Profile { max_binding_bytes: 1024, max_buffer_bytes: 4096, ..Profile::baseline() };
    let profile = Profile { max_invocations: 64, ..small };
    let fake = Device::fake(&profile)?;
    assert_eq!(fake.profile(), &profile);
    let mut session = Session::new(&fake, StateLayout::default(), vec![scaling()])?;
    let ticket = session.run(&[0])?;
    assert_eq!(session.fetch(ticket)?.f32("y")?.len(), N);
    let mut large = scaling();
    large.buffers.iter_mut().for_each(|buffer| buffer.bytes = 2048);
    let Segment::Gpu(dispatches) = &mut large.segments[0] else { unreachable!() };
    dispatches[0].bindings[2].bytes = 2048;
    let refused = |program: &Program, words: [&str; 2]| {
        let error = Session::new(&fake, StateLayout::default(), vec![program.clone()]).map(|_| ());
        let explained = |message: &str| words.iter().all(|word| message.contains(word));
        assert!(
            matches!(error.as_ref().map_err(Error::kind), Err(ErrorKind::Memory(message)) if explained(message)),
            "{error:?}"
        );
    };
    refused(&large, ["2048", "1024"]);
    large.buffers[0].bytes = 8192;
    refused(&large, ["8192", "4096"]);
    let mut wide = scaling();
    wide.kernels[1].wgsl = wide.kernels[1].wgsl.replace("workgroup_size(64)", "workgroup_size(128)");
    let error = Session::new(&fake, StateLayout::default(), vec![wide]).map(|_| ());
    assert!(matches!(error.as_ref().map_err(Error::kind), Err(ErrorKind::Kernel { .. })), "{error:?}");
    Ok(())
}

#[test]
fn illegal_programs_are_refused_before_anything_is_created() -> Result<()> {
    let fake = Device::fake(&Profile::baseline())?;
    let edits: [fn(&mut Dispatch); 6] = [
        |dispatch| dispatch.kernel = 9,
        |dispatch| dispatch.bindings[0].buffer = 9,
        |dispatch| dispatch.bindings[0].bytes = 0,
        |dispatch| dispatch.bindings[0].offset = 256,
        |dispatch| dispatch.bindings[0].buffer = 2,
        |dispatch| dispatch.groups = [65_536, 1],
    ];
    for edit in edits {
        let mut program = scaling();
        let Segment::Gpu(dispatches) = &mut program.segments[0] else { unreachable!() };
        edit(&mut dispatches[0]);
        let error = Session::new(&fake, StateLayout::default(), vec![program]).map(|_| ());
        assert!(matches!(error.as_ref().map_err(Error::kind), Err(ErrorKind::Compile { .. })), "{error:?}");
    }
    Ok(())
}

#[test]
fn tensors_without_elements_are_fed_and_fetched() -> Result<()> {
    let mut program = scaling();
    program.inputs.push(Io { name: "none".into(), shape: Shape::from([0]), ..io("none", 0) });
    program.outputs.push(Io { name: "nothing".into(), shape: Shape::from([0, 3]), ..io("nothing", 2) });
    let mut session = Session::new(&device(), StateLayout::default(), vec![program])?;
    session.write_input(0, "none", &[])?;
    let ticket = session.run(&[0])?;
    assert!(session.fetch(ticket)?.f32("nothing")?.is_empty());
    Ok(())
}

#[test]
fn dispatches_share_passes_and_bind_groups() -> Result<()> {
    let many = vec![dispatch(0, &[0], times(1.0, 1)); 1000];
    let program = on_state("many", vec![Segment::Gpu(many)]);
    let session = Session::new(&Device::fake(&Profile::baseline())?, state_of("w", N, 1 << 20), vec![program])?;
    let resolved = &session.resolved[0];
    assert_eq!((resolved.steps.len(), resolved.groups.len(), resolved.stretches.len()), (1000, 1, 1));
    Ok(())
}

#[test]
fn a_borrowed_device_keeps_the_handler_of_its_app() -> Result<()> {
    let ours = open();
    let (device, queue) = (ours.wgpu_device().clone(), ours.wgpu_queue().clone());
    let errors = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&errors);
    device.on_uncaptured_error(Arc::new(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
    }));
    let borrowed = Device::borrow(device.clone(), queue, &device.adapter_info());
    assert_eq!(borrowed.profile(), ours.profile());
    let mut broken = scaling();
    broken.kernels[0].wgsl = "nonsense".into();
    let error = Session::new(&borrowed, StateLayout::default(), vec![broken]).map(|_| ());
    assert!(matches!(error.as_ref().map_err(Error::kind), Err(ErrorKind::Kernel { .. })), "{error:?}");
    let mut session = Session::new(&borrowed, StateLayout::default(), vec![scaling()])?;
    let ticket = session.run(&[0])?;
    session.fetch(ticket)?;
    assert_eq!(errors.load(Ordering::Relaxed), 0);
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::STORAGE;
    let _ = device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 4, usage, mapped_at_creation: false });
    assert_eq!(errors.load(Ordering::Relaxed), 1);
    device.destroy();
    let outcome = session.run(&[0]).and_then(|ticket| session.fetch(ticket));
    assert!(matches!(outcome.map(|_| ()).as_ref().map_err(Error::kind), Err(ErrorKind::DeviceLost { .. })));
    Ok(())
}

#[test]
fn adapters_are_listed_and_chosen() -> Result<()> {
    let all = adapters();
    let first = all.first().expect("these tests need an adapter");
    assert_eq!(Device::open(Some(&first.name.to_uppercase()))?.name(), first.name);
    assert_eq!(Device::open(Some("0"))?.profile(), &first.profile);
    let error = Device::open(Some("no such adapter")).map(|_| ());
    assert!(
        matches!(error.as_ref().map_err(Error::kind), Err(ErrorKind::NoAdapter(message)) if message.contains(&first.name)),
        "{error:?}"
    );
    Ok(())
}
