//! Devices that refuse, drop, hang and are slow, by injection; what nobody has written.

use super::tests::*;
use super::*;
use crate::error::{Error, ErrorKind, Result};
use crate::kernels::{AdapterClass, Profile};
use crate::program::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Every kind of work once: a session, writes, runs that are read and not, state that is read.
fn all_work(device: &Device) -> Result<Vec<u8>> {
    let double = on_state("double", vec![Segment::Gpu(vec![dispatch(0, &[0], times(2.0, 0))])]);
    let mut session = Session::new(device, state_of("w", N, 1 << 20), vec![scaling(), double])?;
    session.write_state("w", bytes(&counted()))?;
    session.write_input(0, "x", bytes(&counted()))?;
    session.write_scalar(0, "by", 2f32.to_bits())?;
    session.run_unread(&[1])?;
    let ticket = session.run(&[0, 1])?;
    session.fetch(ticket)?.f32("y")?;
    session.read_state("w")
}

fn fake() -> Device {
    Device::fake(&Profile::baseline()).expect("a fake device")
}

/// Fails each call of all work in turn, so many times, until there is none left; gives what came of each.
fn each_fails(fault: Fault, times: usize, device: impl Fn() -> Device) -> Vec<Result<Vec<u8>>> {
    let mut current = device();
    let expected = all_work(&current).expect("works");
    let mut outcomes = Vec::new();
    loop {
        current.inject(fault, outcomes.len(), times);
        let outcome = all_work(&current);
        if current.injected() == 0 {
            assert_eq!(outcome.expect("works without the failure"), expected);
            return outcomes;
        }
        if let Ok(state) = &outcome {
            assert_eq!(*state, expected, "got over, but not with the same numbers");
        }
        // What failed can be done again: here, or on another device if this one is gone.
        if current.lost().is_some() {
            current = device();
        }
        assert_eq!(all_work(&current).expect("works again"), expected);
        outcomes.push(outcome);
    }
}

#[test]
fn memory_that_is_short_once_is_got_over_wherever_it_is() {
    for outcomes in [each_fails(Fault::Creation, 1, fake), each_fails(Fault::Creation, 1, open)] {
        // State, transient, input, scalars, parameters, slots, canary; their contents; feeding; reading.
        assert!(outcomes.len() >= 15, "{}", outcomes.len());
        outcomes.iter().for_each(|outcome| assert!(outcome.is_ok(), "{outcome:?}"));
    }
}

#[test]
fn memory_that_stays_short_is_an_error_that_names_what_it_is_for() {
    for outcomes in [each_fails(Fault::Creation, usize::MAX, fake), each_fails(Fault::Creation, usize::MAX, open)] {
        let texts: Vec<String> = outcomes
            .into_iter()
            .map(|outcome| match outcome.map_err(Error::into_kind) {
                Err(ErrorKind::Memory(message)) => message,
                other => panic!("{other:?}"),
            })
            .collect();
        let first = ["256 bytes for `weights/all`", "`w`, takes 32", "0 of the", "smaller batch"];
        assert!(first.iter().all(|words| texts[0].contains(words)), "{}", texts[0]);
        // What is shared is named by the operation that takes the most of it.
        assert_eq!(super::check::largest_in_transient(&[scaling()], 0), Some(("test/1", 4 * N as u64)));
        assert!(texts.last().is_some_and(|text| text.contains("state readback")), "{texts:?}");
    }
}

#[test]
fn a_submission_that_is_refused_is_an_error_and_the_device_goes_on() {
    for outcomes in [each_fails(Fault::Submission, 1, fake), each_fails(Fault::Submission, 1, open)] {
        assert_eq!(outcomes.len(), 3);
        outcomes.iter().for_each(|outcome| {
            assert!(matches!(outcome.as_ref().map_err(Error::kind), Err(ErrorKind::Memory(_))), "{outcome:?}")
        });
    }
}

#[test]
fn work_that_was_dropped_is_noticed_whichever_it_was() {
    for outcomes in [each_fails(Fault::Dropped, 1, fake), each_fails(Fault::Dropped, 1, open)] {
        assert_eq!(outcomes.len(), 3);
        for outcome in outcomes {
            let Err(ErrorKind::DeviceLost { message }) = outcome.as_ref().map_err(Error::kind) else {
                panic!("{outcome:?}")
            };
            assert!(message.contains("dropped work"), "{message}");
        }
    }
}

#[test]
fn a_mapping_that_fails_is_the_loss_of_the_device() {
    for outcomes in [each_fails(Fault::Mapping, 1, fake), each_fails(Fault::Mapping, 1, open)] {
        assert_eq!(outcomes.len(), 2);
        outcomes.iter().for_each(|outcome| {
            assert!(matches!(outcome.as_ref().map_err(Error::kind), Err(ErrorKind::DeviceLost { .. })), "{outcome:?}")
        });
    }
}

#[test]
fn a_lost_device_is_not_taken_for_one_without_memory() {
    let device = open();
    device.wgpu_device().destroy();
    device.inject(Fault::Creation, 0, 1);
    let refused = device.buffer("a buffer", 4, wgpu::BufferUsages::STORAGE, None).map(|_| ());
    assert!(matches!(refused.as_ref().map_err(Error::kind), Err(ErrorKind::DeviceLost { .. })), "{refused:?}");
    assert_eq!(device.injected(), 1);
}

#[test]
fn state_is_read_in_small_pieces_where_staging_is_short() -> Result<()> {
    let device = open();
    let n = 1 << 20;
    let mut session = Session::new(&device, state_of("w", n, 1 << 30), vec![])?;
    let values: Vec<f32> = (0..n).map(|index| index as f32).collect();
    session.write_state("w", bytes(&values))?;
    // Four megabytes are refused twice, half a megabyte twice.
    device.inject(Fault::Creation, 0, 4);
    let before = device.submissions();
    assert!(session.read_state("w")? == bytes(&values));
    assert_eq!(device.injected(), 4);
    assert!(device.submissions() - before > 60);
    Ok(())
}

/// Five dispatches on `w` that count as 97 ms each on an integrated GPU.
fn heavy() -> Program {
    let heavy = Dispatch { flops: 29_000_000_000, ..dispatch(0, &[0], times(2.0, 1)) };
    on_state("heavy", vec![Segment::Gpu(vec![heavy; 5])])
}

#[test]
fn a_run_that_fails_in_its_middle_leaves_no_state_that_passes_for_whole() -> Result<()> {
    let device = open();
    device.limit_submissions(1.0);
    let mut session = Session::new(&device, state_of("w", N, 1 << 20), vec![heavy()])?;
    device.inject(Fault::Submission, 2, 1);
    assert!(matches!(session.run(&[0]).map(|_| ()).as_ref().map_err(Error::kind), Err(ErrorKind::Memory(_))));
    for refused in [session.run(&[0]).map(|_| ()), session.read_state("w").map(|_| ())] {
        assert!(
            matches!(refused.as_ref().map_err(Error::kind), Err(ErrorKind::Device { message, .. }) if message.contains("middle")),
            "{refused:?}"
        );
    }
    session.write_state("w", bytes(&[0.0; N]))?;
    session.state_is_whole();
    let ticket = session.run(&[0])?;
    assert_eq!(session.fetch(ticket)?.f32("w")?, [31.0; N]);
    // Before anything was submitted nothing is torn.
    device.inject(Fault::Submission, 0, 1);
    assert!(session.run(&[0]).is_err());
    let ticket = session.run(&[0])?;
    session.fetch(ticket).map(|_| ())
}

#[test]
fn long_work_is_cut_into_several_submissions() -> Result<()> {
    let profile = Profile { class: AdapterClass::Integrated, ..Profile::baseline() };
    let device = Device::fake(&profile)?;
    let mut session = Session::new(&device, state_of("w", N, 1 << 20), vec![heavy()])?;
    let ticket = session.run(&[0])?;
    assert_eq!(device.submissions(), 3);
    session.fetch(ticket).map(|_| ())
}

#[test]
fn where_work_is_cut_changes_no_bit() -> Result<()> {
    let device = open();
    let steps = vec![ParamStep { dispatch: 0, word: 2, step: 3 }];
    let repeat = Segment::Repeat { count: 70, body: vec![dispatch(0, &[0], times(0.37, 1))], steps };
    let program = on_state("scan", vec![repeat]);
    let mut states = Vec::new();
    for (limit, submissions) in [(f32::INFINITY, 1), (1e-6, 70)] {
        device.limit_submissions(limit);
        let mut session = Session::new(&device, state_of("w", N, 1 << 20), vec![program.clone()])?;
        session.write_state("w", bytes(&counted()))?;
        let before = device.submissions();
        let ticket = session.run(&[0])?;
        assert_eq!(device.submissions() - before, submissions);
        session.fetch(ticket)?;
        states.push(session.read_state("w")?);
    }
    assert_eq!(states[0], states[1]);
    Ok(())
}

/// Keeps a device busy for so many dependent steps, of which a processor makes fewer than 10^10 a second. In groups of
/// 60,000, because lavapipe ends loops after 65,535 turns.
fn spin(steps: u32) -> Program {
    let busy = Dispatch { groups: [steps.div_ceil(60_000), 1], ..dispatch(0, &[0], vec![60_000, 0, 0, 0]) };
    let mut program = on_state("spin", vec![Segment::Gpu(vec![busy])]);
    program.kernels[0].wgsl = "
        struct Params { n: u32, a: u32, b: u32, c: u32 }
        @group(0) @binding(0) var<uniform> params: Params;
        @group(0) @binding(1) var<storage, read_write> x: array<f32>;
        @compute @workgroup_size(1)
        fn main() {
            var bits = 1u;
            for (var step = 0u; step < params.n; step += 1u) {
                bits ^= bits << 13u;
                bits ^= bits >> 17u;
                bits ^= bits << 5u;
            }
            x[0] = f32(bits);
        }"
    .into();
    program
}

#[test]
fn runs_that_take_longer_than_estimated_make_submissions_shorter() -> Result<()> {
    let device = open();
    device.limit_submissions(200_000.0);
    let mut session = Session::new(&device, state_of("w", N, 1 << 20), vec![spin(600_000_000)])?;
    assert_eq!(session.pace.longest(), 200_000.0);
    let ticket = session.run(&[0])?;
    session.fetch(ticket)?;
    // It counts as 16 operations.
    assert_eq!(session.pace.longest(), 200_000.0 / 64.0);
    Ok(())
}

struct Nothing;

impl HostStep for Nothing {
    fn call(&mut self, _: &mut HostContext<'_>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_device_that_does_not_answer_is_an_error_wherever_it_is_waited_for() -> Result<()> {
    let device = open();
    let mut hosted = spin(1);
    hosted.segments.push(Segment::Host("nothing".into()));
    let mut session = Session::new(&device, state_of("w", N, 1 << 20), vec![spin(60_000_000), hosted])?;
    session.set_host_step("nothing", Box::new(Nothing));
    type Wait = fn(&mut Session) -> Result<()>;
    let waits: [(&str, Wait); 6] = [
        ("results", |session| session.run(&[0]).and_then(|ticket| session.fetch(ticket)).map(|_| ())),
        ("a free slot", |session| {
            let tickets = (0..READBACK_RING + 1).map(|_| session.run(&[0]));
            tickets.collect::<Result<Vec<_>>>().map(|_| ())
        }),
        ("the slot of a run whose results were given up", |session| {
            (0..READBACK_RING + 1).try_for_each(|_| session.run(&[0]).map(drop))
        }),
        ("state", |session| session.run_unread(&[0]).and_then(|()| session.read_state("w")).map(|_| ())),
        ("a host step", |session| session.run_unread(&[0, 1])),
        ("times", |session| session.profile(&[0]).map(|_| ())),
    ];
    for (what, wait) in waits {
        // No device is as fast as that.
        device.set_timeout(Duration::ZERO);
        let outcome = wait(&mut session);
        assert!(
            matches!(outcome.as_ref().map_err(Error::kind), Err(ErrorKind::DeviceHung { .. })),
            "{what}: {outcome:?}"
        );
        let released = device.release();
        assert!(
            matches!(released.as_ref().map_err(Error::kind), Err(ErrorKind::DeviceHung { .. })),
            "{what}: {released:?}"
        );
        // It was only slow.
        device.set_timeout(Duration::from_secs(600));
        device.release()?;
        session.state_is_whole();
        let ticket = session.run(&[0])?;
        session.fetch(ticket)?;
    }
    Ok(())
}

#[test]
fn a_hung_device_is_let_go_of_without_waiting_for_it() -> Result<()> {
    let device = open();
    let mut session = Session::new(&device, state_of("w", N, 1 << 20), vec![spin(1_000_000_000)])?;
    device.set_timeout(Duration::ZERO);
    let outcome = session.run(&[0]).and_then(|ticket| session.fetch(ticket)).map(|_| ());
    assert!(matches!(outcome.as_ref().map_err(Error::kind), Err(ErrorKind::DeviceHung { .. })), "{outcome:?}");
    let done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&done);
    device.wgpu_queue().on_submitted_work_done(move || told.store(true, Ordering::Relaxed));
    drop(session);
    drop(device);
    // Waiting would have told.
    assert!(!done.load(Ordering::Relaxed));
    Ok(())
}

#[test]
fn what_nobody_wrote_is_nan_in_tests() -> Result<()> {
    for device in [fake(), open()] {
        device.poison();
        // `y` is written by one program, and read back from the same memory by another that writes nothing.
        let mut reader = on_state("reader", vec![]);
        reader.outputs = vec![io("left", 1)];
        let layout = StateLayout::build(
            &["a", "b"].map(|name| StateSpec {
                name: name.into(),
                ty: crate::graph::TensorType::new([N], crate::dtype::DType::F32),
                category: Category::Weights,
                group: "all".into(),
            }),
            1 << 20,
        )?;
        let mut session = Session::new(&device, layout, vec![scaling(), reader])?;
        session.write_input(0, "x", bytes(&counted()))?;
        let ticket = session.run(&[0, 1])?;
        let left = session.fetch(ticket)?.f32("left")?;
        assert!(left.iter().all(|x| x.is_nan()), "{left:?}");
        // State is zeros, as is promised.
        assert_eq!(session.read_state("b")?, bytes(&[0.0; N]));
    }
    Ok(())
}

#[test]
fn what_nobody_needs_any_more_is_nan_in_tests() -> Result<()> {
    let scaled = dispatch(1, &[0, 1, 2], vec![N as u32]);
    let later = Segment::Gpu(vec![dispatch(0, &[0], times(1.0, 0))]);
    let once = Segment::Gpu(vec![scaled.clone()]);
    let looped = Segment::Repeat { count: 3, body: vec![scaled], steps: vec![] };
    for first in [once, looped] {
        let range = Binding { buffer: 2, offset: 0, bytes: N as u64 * 4 };
        let expired = vec![Expired { after: 0, range }];
        let program = Program { segments: vec![first, later.clone()], expired, ..scaling() };
        let given = |device: &Device| -> Result<Vec<f32>> {
            let mut session = Session::new(device, StateLayout::default(), vec![program.clone()])?;
            session.write_input(0, "x", bytes(&counted()))?;
            session.write_scalar(0, "by", 2f32.to_bits())?;
            let ticket = session.run(&[0])?;
            session.fetch(ticket)?.f32("y")
        };
        let doubled: Vec<f32> = counted().iter().map(|x| 2.0 * x).collect();
        assert_eq!(given(&open())?, doubled);
        let device = open();
        device.poison();
        // The second dispatch ran when `y` had expired.
        assert!(given(&device)?.iter().all(|x| x.is_nan()));
    }
    Ok(())
}
