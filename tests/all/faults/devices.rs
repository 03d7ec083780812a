//! Devices that are lost while a run trains: it goes on on another one with the same numbers, or ends with a checkpoint.

use super::runs::{assert_same, small, train};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use wgrad::gpu::Device;
use wgrad::random::Stream;
use wgrad::train::keeper::newest;
use wgrad::train::run::{Ended, Event, Run};
use wgrad::{Error, ErrorKind};

/// Destroys the device at so many random moments: in steps, evaluations, saves, and while it is replaced.
fn destroyed(times: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let steps = 3 * times as u64;
    let config = small(&[&format!("train.steps={steps}"), "train.checkpoint_every=5"]);
    let (whole, path) = (dir.path().join("whole"), dir.path().join("run"));
    train(&mut Run::begin(config.clone(), &whole, &crate::device()).expect("begins"), None);
    let device = crate::device();
    let (reopen, current) = (device.reopener(), Arc::new(Mutex::new(device.clone())));
    let mut run = Run::begin(config, &path, &device).expect("begins");
    let newly = Arc::clone(&current);
    run.reopen_with(move || {
        let device = reopen()?;
        *newly.lock().expect("whole") = device.clone();
        Ok(device)
    });
    let (mut reached, mut losses, mut warnings) = (0, 0, Vec::new());
    let outcome = run.train(&mut |event| match event {
        Event::Step(record) if record.step > reached => {
            reached = record.step;
            if reached % 3 == 1 {
                losses += 1;
                let moment = Duration::from_secs_f32(Stream::new(5, losses).uniform(1, 0.0, 0.03)[0]);
                let current = Arc::clone(&current);
                std::thread::spawn(move || {
                    std::thread::sleep(moment);
                    current.lock().expect("whole").wgpu_device().destroy();
                });
            }
        }
        Event::Step(_) | Event::Saved(_) | Event::Slower { .. } => {}
        Event::Warning(warning) => warnings.push(warning.to_string()),
    });
    let outcome = outcome.unwrap_or_else(|error| panic!("{error}: {warnings:#?}"));
    assert_eq!((outcome.ended, outcome.steps), (Ended::Finished, steps));
    let met = warnings.iter().filter(|warning| warning.contains("with the same numbers")).count();
    println!("{losses} devices destroyed, {met} losses met, {} warnings", warnings.len());
    assert!(4 * met >= losses as usize, "{warnings:#?}");
    assert_same(&path, &whole, "after losses");
}

#[test]
fn a_run_whose_device_is_destroyed_again_and_again_is_the_run_whose_was_not() {
    destroyed(25);
}

#[test]
#[ignore = "minutes: nightly"]
fn a_run_whose_device_is_destroyed_a_hundred_times_is_the_run_whose_was_not() {
    destroyed(100);
}

#[test]
fn a_device_that_cannot_be_replaced_leaves_a_checkpoint_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = small(&["train.steps=12", "train.checkpoint_every=5"]);
    let (whole, path) = (dir.path().join("whole"), dir.path().join("run"));
    train(&mut Run::begin(config.clone(), &whole, &crate::device()).expect("begins"), None);
    let device = crate::device();
    let mut run = Run::begin(config.clone(), &path, &device).expect("begins");
    let tries = Rc::new(RefCell::new(0));
    let counted = Rc::clone(&tries);
    run.reopen_with(move || {
        *counted.borrow_mut() += 1;
        Err(Error::no_adapter("the adapter was unplugged".into()))
    });
    let outcome = run.train(&mut |event| {
        if matches!(event, Event::Step(record) if record.step == 7) {
            device.wgpu_device().destroy();
        }
    });
    let Err(kind @ ErrorKind::DeviceLost { .. }) = outcome.as_ref().map_err(Error::kind) else { panic!("{outcome:?}") };
    let message = kind.to_string();
    assert!(message.contains("unplugged") && message.contains("saved up to step 5"), "{message}");
    assert_eq!(*tries.borrow(), 3);
    drop(run);
    train(&mut Run::resume(config, &path, &crate::device()).expect("resumes"), None);
    assert_same(&path, &whole, "resumed after the loss");
}

#[test]
fn a_device_that_is_lost_before_anything_was_saved_begins_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = small(&["train.steps=6", "train.checkpoint_every=0"]);
    let (whole, path) = (dir.path().join("whole"), dir.path().join("run"));
    train(&mut Run::begin(config.clone(), &whole, &crate::device()).expect("begins"), None);
    let device: Device = crate::device();
    let mut run = Run::begin(config, &path, &device).expect("begins");
    device.wgpu_device().destroy();
    let (outcome, warnings) = train(&mut run, None);
    assert_eq!(outcome.steps, 6);
    assert!(warnings.len() == 1 && warnings[0].contains("goes on from step 0"), "{warnings:?}");
    assert!(newest(&path).expect("reads").is_some());
    assert_same(&path, &whole, "from the beginning");
}

#[test]
fn a_run_on_a_borrowed_device_asks_its_app_for_another_and_leaves_the_apps_handlers_alone() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let dir = tempfile::tempdir().expect("a directory");
    let config = small(&["train.steps=9", "train.checkpoint_every=3"]);
    let (whole, path) = (dir.path().join("whole"), dir.path().join("run"));
    train(&mut Run::begin(config.clone(), &whole, &crate::device()).expect("begins"), None);
    // The app's devices, with handlers of its own.
    let (losses, errors) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let opened = Arc::new(Mutex::new(Vec::new()));
    let lend = {
        let (losses, errors, opened) = (Arc::clone(&losses), Arc::clone(&errors), Arc::clone(&opened));
        move || {
            let own = crate::device();
            let (device, queue) = (own.wgpu_device().clone(), own.wgpu_queue().clone());
            let (lost, failed) = (Arc::clone(&losses), Arc::clone(&errors));
            device.set_device_lost_callback(move |_, _| {
                lost.fetch_add(1, Ordering::Relaxed);
            });
            device.on_uncaptured_error(Arc::new(move |_| {
                failed.fetch_add(1, Ordering::Relaxed);
            }));
            opened.lock().expect("whole").push(device.clone());
            let lent = Device::borrow(device.clone(), queue, &device.adapter_info());
            lent.poison();
            lent
        }
    };
    let mut run = Run::begin(config, &path, &lend()).expect("begins");
    run.reopen_with(move || Ok(lend()));
    let (mut destroyed, mut warnings) = (false, Vec::new());
    let outcome = run.train(&mut |event| match event {
        Event::Step(record) if record.step == 5 && !destroyed => {
            destroyed = true;
            opened.lock().expect("whole")[0].destroy();
        }
        Event::Warning(warning) => warnings.push(warning.to_string()),
        _ => {}
    });
    outcome.unwrap_or_else(|error| panic!("{error}: {warnings:#?}"));
    assert_eq!(opened.lock().expect("whole").len(), 2);
    assert!(warnings.len() == 1 && warnings[0].contains("with the same numbers"), "{warnings:#?}");
    assert_eq!((losses.load(Ordering::Relaxed), errors.load(Ordering::Relaxed)), (1, 0));
    // Still the app's: an error of its own work comes to it.
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::STORAGE;
    let wrong = wgpu::BufferDescriptor { label: None, size: 4, usage, mapped_at_creation: false };
    let _ = opened.lock().expect("whole")[1].create_buffer(&wrong);
    assert_eq!(errors.load(Ordering::Relaxed), 1);
    assert_same(&path, &whole, "on the app's second device");
}
