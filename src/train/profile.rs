//! Where the time of a step goes: timings of its dispatches as a table by kernel, and as a trace for a viewer.
//!
//! Knows programs and times, not how they were taken (`gpu::profile`).

use super::roof::Roofs;
use crate::gpu::Timing;
use crate::program::{Dispatch, Program};
use serde::Serialize;
use std::collections::HashMap;
use std::fmt::Write;

/// One dispatch of a step: the best of several rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    pub program: String,
    pub kernel: String,
    /// The scope and operation it serves.
    pub label: String,
    /// Microseconds since the step began, in the last round.
    pub start: f64,
    pub micros: f64,
    pub flops: u64,
    /// Bytes read and written, each binding counted once.
    pub bytes: u64,
}

/// Every dispatch of a step, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    pub dispatches: Vec<Timed>,
}

/// Dispatches of one kernel for one purpose.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row<'a> {
    pub kernel: &'a str,
    label: &'a str,
    pub count: usize,
    pub micros: f64,
    pub flops: u64,
    pub bytes: u64,
    /// What the roofs allow, in microseconds.
    pub least: f64,
}

impl Profile {
    /// From rounds of the same programs, with the least time of each dispatch.
    pub fn new(programs: &[&Program], rounds: &[Vec<Timing>]) -> Profile {
        let Some(last) = rounds.last() else { return Profile::default() };
        let of: Vec<Vec<&Dispatch>> = programs.iter().map(|program| program.each_dispatch().collect()).collect();
        let timed = |(step, timing): (usize, &Timing)| {
            let (program, dispatch) = (programs[timing.turn], of[timing.turn][timing.dispatch]);
            let least = rounds.iter().filter_map(|round| round.get(step)).map(|timing| timing.micros);
            Timed {
                program: program.name.clone(),
                kernel: program.kernels[dispatch.kernel].name.clone(),
                label: dispatch.label.clone(),
                start: timing.start,
                micros: least.fold(f64::INFINITY, f64::min),
                flops: dispatch.flops,
                bytes: dispatch.bytes_moved,
            }
        };
        Profile { dispatches: last.iter().enumerate().map(timed).collect() }
    }

    /// The sum of all dispatches, in microseconds.
    pub fn micros(&self) -> f64 {
        self.dispatches.iter().map(|timed| timed.micros).sum()
    }

    /// Kernels, the dearest first.
    pub(super) fn kernels(&self, roofs: &Roofs) -> Vec<Row<'_>> {
        self.rows_by(Some(roofs), |_| "")
    }

    /// Kernels with what they serve, the dearest first.
    fn rows(&self, roofs: Option<&Roofs>) -> Vec<Row<'_>> {
        self.rows_by(roofs, |timed| &timed.label)
    }

    fn rows_by(&self, roofs: Option<&Roofs>, label: fn(&Timed) -> &str) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = Vec::new();
        let mut known: HashMap<(&str, &str), usize> = HashMap::new();
        for timed in &self.dispatches {
            let (kernel, label) = (timed.kernel.as_str(), label(timed));
            let at = *known.entry((kernel, label)).or_insert_with(|| {
                rows.push(Row { kernel, label, count: 0, micros: 0.0, flops: 0, bytes: 0, least: 0.0 });
                rows.len() - 1
            });
            let row = &mut rows[at];
            row.count += 1;
            row.micros += timed.micros;
            row.flops += timed.flops;
            row.bytes += timed.bytes;
            row.least += roofs.map_or(0.0, |roofs| roofs.micros(timed.flops, timed.bytes));
        }
        rows.sort_by(|a, b| b.micros.total_cmp(&a.micros));
        rows
    }

    /// A line for each kernel and what it serves: time, share, rates, and with `roofs` the share of its time that the
    /// device would need at least.
    pub fn table(&self, roofs: Option<&Roofs>) -> String {
        let total = self.micros();
        let mut text = String::from("     ms  share  count  GFLOP/s    GB/s   roof  kernel <serves>\n");
        for row in self.rows(roofs) {
            let seconds = row.micros / 1e6;
            let rate = |amount: u64| if seconds > 0.0 { amount as f64 / seconds / 1e9 } else { 0.0 };
            let (gflops, gigabytes) = (rate(row.flops), rate(row.bytes));
            let nearest = roofs.map(|_| 100.0 * row.least / row.micros.max(f64::MIN_POSITIVE));
            let nearest = nearest.map_or("-".into(), |percent| format!("{percent:.0} %"));
            // Writing to a `String` cannot fail.
            let _ = writeln!(
                text,
                "{:7.3} {:5.1} % {:6} {gflops:8.1} {gigabytes:7.1} {nearest:>6}  {} <{}>",
                row.micros / 1e3,
                if total > 0.0 { 100.0 * row.micros / total } else { 0.0 },
                row.count,
                row.kernel,
                row.label,
            );
        }
        let (flops, bytes) = self.dispatches.iter().fold((0, 0), |sum, t| (sum.0 + t.flops, sum.1 + t.bytes));
        let _ = writeln!(
            text,
            "{:7.3} ms in {} dispatches: {:.3} GFLOP, {:.1} MB",
            total / 1e3,
            self.dispatches.len(),
            flops as f64 / 1e9,
            bytes as f64 / 1e6
        );
        text
    }

    /// The step in Chrome's trace format, which Perfetto reads too.
    pub fn trace(&self) -> String {
        #[derive(Serialize)]
        struct Event<'a> {
            name: &'a str,
            cat: &'a str,
            ph: &'a str,
            ts: f64,
            dur: f64,
            pid: u32,
            tid: u32,
            args: Args<'a>,
        }
        #[derive(Serialize)]
        struct Args<'a> {
            kernel: &'a str,
            flops: u64,
            bytes: u64,
        }
        let event = |t: &Timed| {
            let args = Args { kernel: &t.kernel, flops: t.flops, bytes: t.bytes };
            let (name, cat) = (t.label.as_str(), t.program.as_str());
            serde_json::to_string(&Event { name, cat, ph: "X", ts: t.start, dur: t.micros, pid: 1, tid: 1, args })
        };
        let events: Vec<String> = self.dispatches.iter().filter_map(|timed| event(timed).ok()).collect();
        format!("{{\"traceEvents\":[\n{}\n]}}\n", events.join(",\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::roof::CopyRate;
    use super::*;

    fn timed(kernel: &str, label: &str, start: f64, micros: f64) -> Timed {
        let (kernel, label) = (kernel.into(), label.into());
        Timed { program: "micro".into(), kernel, label, start, micros, flops: 4000, bytes: 1000 }
    }

    #[test]
    fn dispatches_of_one_kernel_are_one_row() {
        let dispatches = vec![timed("a", "x", 0.0, 1.0), timed("b", "y", 1.0, 5.0), timed("a", "x", 6.0, 2.0)];
        let roofs = Roofs { gflops: 8.0, gflops_f16: None, copies: vec![CopyRate { bytes: 1 << 20, gigabytes: 2.0 }] };
        let table = Profile { dispatches }.table(Some(&roofs));
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(lines[1].ends_with("b <y>") && lines[1].contains("62.5 %"), "{table}");
        // 4000 operations at 8 a nanosecond and 1000 bytes at 2 a nanosecond both take half a microsecond.
        assert!(lines[2].ends_with("a <x>") && lines[2].contains(" 2 ") && lines[2].contains(" 33 %"), "{table}");
        assert!(lines[3].contains("0.008 ms in 3 dispatches"), "{table}");
    }

    #[test]
    fn the_trace_is_json() {
        let trace = Profile { dispatches: vec![timed("k", "\"quoted\"", 1.5, 2.0)] }.trace();
        let value: serde_json::Value = serde_json::from_str(&trace).unwrap();
        assert_eq!(value["traceEvents"][0]["ts"], 1.5);
        assert_eq!(value["traceEvents"][0]["args"]["flops"], 4000);
    }
}
