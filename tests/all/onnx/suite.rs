//! The node suite: every case on the reference, those that pass on the device too, and a list that may only grow.

use super::cases::{self, Case, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

fn ratchet() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/onnx_ratchet.txt")
}

pub fn listed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(ratchet()).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(String::from).collect()
}

/// The cases, or a loud word about how to get them.
fn cases() -> Option<Vec<Case>> {
    let Some(folder) = cases::folder() else {
        eprintln!("SKIPPED: the ONNX node suite is not there; run tests/oracle/onnx_cases.sh, or set WGRAD_ONNX_CASES");
        return None;
    };
    let all = cases::all(&folder);
    assert!(all.len() >= 1800, "only {} cases in {}", all.len(), folder.display());
    Some(all)
}

/// Verdicts on the reference, computed by a few threads.
fn verdicts(cases: &[Case]) -> BTreeMap<String, Verdict> {
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
    let next = std::sync::atomic::AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            done.push((case.name.clone(), cases::run(case)));
        }
        done
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(take)).collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("no case panics")).collect()
    })
}

#[test]
fn the_node_suite_on_the_reference() {
    let Some(cases) = cases() else { return };
    let verdicts = verdicts(&cases);
    let passed: BTreeSet<String> =
        verdicts.iter().filter(|(_, verdict)| **verdict == Verdict::Passed).map(|(name, _)| name.clone()).collect();
    if let Some(path) = std::env::var_os("WGRAD_ONNX_REPORT") {
        let lines = verdicts.iter().map(|(name, verdict)| format!("{name}\t{verdict:?}\n")).collect::<String>();
        std::fs::write(path, lines).expect("a writable report");
    }
    let wrong: Vec<String> = verdicts
        .iter()
        .filter_map(|(name, verdict)| match verdict {
            Verdict::Wrong(message) => Some(format!("{name}: {message}")),
            Verdict::Passed | Verdict::Refused(_) => None,
        })
        .collect();
    assert!(wrong.is_empty(), "wrong answers:\n{}", wrong.join("\n"));
    let listed = listed();
    if std::env::var_os("WGRAD_BLESS").is_some() {
        let head = "# Cases of the ONNX node suite (onnx 1.23.2) that pass. This list may only grow: WGRAD_BLESS=1 adds to it.\n";
        let all: BTreeSet<&String> = listed.union(&passed).collect();
        let lines = all.into_iter().map(|name| format!("{name}\n")).collect::<String>();
        std::fs::write(ratchet(), format!("{head}{lines}")).expect("the list");
        return;
    }
    let lost: Vec<String> =
        listed.difference(&passed).map(|name| format!("{name}: {:?}", verdicts.get(name))).collect();
    assert!(lost.is_empty(), "cases that used to pass:\n{}", lost.join("\n"));
    let new: Vec<&String> = passed.difference(&listed).collect();
    assert!(new.is_empty(), "{} new cases pass; WGRAD_BLESS=1 adds them to the list: {new:?}", new.len());
    eprintln!("{} of {} cases of the ONNX node suite pass", passed.len(), cases.len());
}
