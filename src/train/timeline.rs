//! A picture of the memory of a step: what is alive at each dispatch, stacked by category, and what makes the peak.
//!
//! Knows plans and ink. The lower bands are there all the time; the upper ones come and go.

use super::plan::{Plan, Report};
use super::svg::{self, Style, label};
use crate::program::Program;
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 924.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 404.0;
/// Where the list of the largest values begins, and the height of a line in it.
const LIST: f64 = 476.0;
const LINE: f64 = 19.0;

const STYLE: Style = Style {
    light: "\
.grid{stroke:#eceef2;stroke-width:1}.axis{stroke:#c4c9d4;stroke-width:1}\
.weights{fill:#1f3a93}.gradients{fill:#5b7fd6}.optimizer{fill:#a9bdec}.rest{fill:#c9ced8}\
.activations{fill:#d9622b}.workspace{fill:#f2b48f}.peak{stroke:#1d2433;stroke-width:1;stroke-dasharray:3 3}\
.name{fill:#344054}.bar{fill:#eceef2}",
    dark: "\
.grid{stroke:#222935}.axis{stroke:#434c5c}.weights{fill:#3d5fd0}.gradients{fill:#6f8fe0}.optimizer{fill:#93a8dc}\
.rest{fill:#4b5566}.activations{fill:#ff9a62}.workspace{fill:#8a5334}.peak{stroke:#eef1f6}.name{fill:#c9d0dc}\
.bar{fill:#222935}",
};

/// One band of the picture: its class, its name, its bytes at each dispatch.
struct Band {
    class: &'static str,
    name: &'static str,
    bytes: Vec<u64>,
}

/// The SVG text for a plan and its report.
pub fn timeline(plan: &Plan, report: &Report) -> String {
    // Micro-step and update; evaluation is another run.
    let steps = &plan.programs[..plan.programs.len().min(2)];
    let bands = bands(plan);
    let count = bands.first().map_or(0, |band| band.bytes.len());
    let sum = |at: usize| bands.iter().map(|band| band.bytes[at]).sum::<u64>();
    let most = (0..count).map(sum).max().unwrap_or(1).max(1);
    let at = (0..count).find(|&at| sum(at) == most).unwrap_or(0);
    let height = LIST + LINE * report.peak.len() as f64 + 16.0;
    let title = format!("Memory of a step: {}", report.name);
    let subtitle = format!(
        "{} in all buffers; at most {} in use at once, at dispatch {} of {count}; {}",
        bytes(report.total),
        bytes(most),
        at + 1,
        report.adapter
    );
    let mut svg = svg::open((WIDTH, height), STYLE, &title, &title, &subtitle);
    let x = |at: f64| LEFT + (RIGHT - LEFT) * at / count.max(1) as f64;
    let y = |bytes: f64| BOTTOM - (BOTTOM - TOP) * bytes / (most as f64 * 1.06);
    grid(&mut svg, most, &y);
    stack(&mut svg, &bands, &x, &y);
    ticks(&mut svg, steps, &x);
    let middle = x(at as f64 + 0.5);
    let _ = writeln!(svg, "<line class=\"peak\" x1=\"{middle:.1}\" x2=\"{middle:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>");
    legend(&mut svg, &bands);
    list(&mut svg, report);
    svg.push_str("</svg>\n");
    svg
}

fn bands(plan: &Plan) -> Vec<Band> {
    let (memory, alive) = (&plan.memory, plan.alive());
    let always = |class, name, bytes: u64| Band { class, name, bytes: vec![bytes; alive.len()] };
    let moving = |class, name, kind: usize| Band { class, name, bytes: alive.iter().map(|at| at[kind]).collect() };
    vec![
        always("weights", "weights", memory.weights),
        always("optimizer", "optimizer", memory.optimizer),
        always("gradients", "gradients", memory.gradients),
        always("rest", "inputs and others", memory.other_state + memory.io + memory.readback),
        moving("activations", "activations", 0),
        moving("workspace", "workspace", 1),
    ]
}

/// Areas as steps: a value is there for the whole of a dispatch.
fn stack(svg: &mut String, bands: &[Band], x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) {
    let count = bands.first().map_or(0, |band| band.bytes.len());
    let mut below = vec![0u64; count];
    for band in bands {
        let above: Vec<u64> = below.iter().zip(&band.bytes).map(|(below, bytes)| below + bytes).collect();
        if above != below {
            let mut path = String::new();
            for (at, &top) in above.iter().enumerate() {
                let (left, right, top) = (x(at as f64), x(at as f64 + 1.0), y(top as f64));
                let _ = write!(path, "{}{left:.1} {top:.1}L{right:.1} {top:.1}", if at == 0 { "M" } else { "L" });
            }
            for (at, &bottom) in below.iter().enumerate().rev() {
                let (left, right, bottom) = (x(at as f64), x(at as f64 + 1.0), y(bottom as f64));
                let _ = write!(path, "L{right:.1} {bottom:.1}L{left:.1} {bottom:.1}");
            }
            let _ = writeln!(svg, "<path class=\"{}\" d=\"{path}Z\"/>", band.class);
        }
        below = above;
    }
}

/// Lines at round numbers of bytes.
fn grid(svg: &mut String, most: u64, y: &impl Fn(f64) -> f64) {
    let mut step = 1u64 << 10;
    while most / step > 6 {
        step *= 2;
    }
    for line in 0..=most / step {
        let height = y((line * step) as f64);
        let class = if line == 0 { "axis" } else { "grid" };
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{height:.1}\" y2=\"{height:.1}\"/>"
        );
        label(svg, (LEFT - 8.0, height + 4.0), "end", "", &bytes(line * step));
    }
}

/// Where the programs of the step begin.
fn ticks(svg: &mut String, steps: &[Program], x: &impl Fn(f64) -> f64) {
    let mut start = 0;
    for program in steps {
        let count = program.each_dispatch().count();
        let (left, right) = (x(start as f64), x((start + count) as f64));
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{left:.1}\" x2=\"{left:.1}\" y1=\"{BOTTOM}\" y2=\"{:.1}\"/>",
            BOTTOM + 6.0
        );
        let name = format!("{}: {count} dispatch{}", program.name, if count == 1 { "" } else { "es" });
        if right - left > 7.0 * name.len() as f64 {
            label(svg, ((left + right) / 2.0, BOTTOM + 18.0), "middle", "", &name);
        } else {
            label(svg, (RIGHT, BOTTOM + 18.0), "end", "", &name);
        }
        start += count;
    }
}

fn legend(svg: &mut String, bands: &[Band]) {
    let mut left = LEFT;
    for band in bands.iter().filter(|band| band.bytes.iter().any(|&bytes| bytes > 0)) {
        let _ = writeln!(
            svg,
            "<rect class=\"{}\" x=\"{left:.1}\" y=\"66\" width=\"10\" height=\"10\" rx=\"2\"/>",
            band.class
        );
        label(svg, (left + 15.0, 75.0), "start", "", band.name);
        left += 34.0 + 6.6 * band.name.len() as f64;
    }
}

/// The largest values at the peak, each with a bar.
fn list(svg: &mut String, report: &Report) {
    label(
        svg,
        (LEFT, LIST - 24.0),
        "start",
        "strong",
        &format!("Alive at the peak of transient memory ({}):", report.peak_at),
    );
    let largest = report.peak.first().map_or(1, |value| value.bytes).max(1);
    for (row, value) in report.peak.iter().enumerate() {
        let top = LIST + LINE * row as f64;
        let width = 180.0 * value.bytes as f64 / largest as f64;
        let class = if value.waits { "activations" } else { "workspace" };
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"11\" rx=\"2\"/>",
            top - 9.0
        );
        label(svg, (LEFT + 264.0, top), "end", "", &bytes(value.bytes));
        label(svg, (LEFT + 276.0, top), "start", "name", &value.name);
    }
}

fn bytes(n: u64) -> String {
    match n {
        0 => "0".into(),
        _ if n >= 1 << 30 => format!("{:.2} GiB", n as f64 / f64::from(1 << 30)),
        _ if n >= 1 << 20 => format!("{:.1} MiB", n as f64 / f64::from(1 << 20)),
        _ if n >= 1 << 10 => format!("{:.1} KiB", n as f64 / 1024.0),
        _ => format!("{n} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::kernels::Profile;
    use crate::lower::Rates;
    use crate::train::plan::peak;
    use crate::train::workloads::{Workload, outline};

    #[test]
    fn the_picture_is_well_formed_and_shows_the_peak() -> Result<()> {
        let (trainer, loss) = outline(Workload::W2)?;
        let profile = Profile::baseline();
        let plan = trainer.plan(&profile, loss)?;
        let report = Report::new("W<2>", "none", &plan, 1, (&Rates::typical(&profile), "guessed"));
        let picture = timeline(&plan, &report);
        svg::is_well_formed(&picture).unwrap();
        assert!(picture.contains("W&lt;2&gt;") && picture.contains("layer.0/matmul"), "{picture}");
        let (at, values) = peak(&plan.lifetimes[0], &plan.programs[0]);
        assert!(report.peak_at.contains(&format!("dispatch {} ", at + 1)));
        assert_eq!(values.iter().map(|value| value.bytes).sum::<u64>(), report.programs[0].alive);
        assert_eq!(report.activations + report.workspace, plan.memory.transient);
        Ok(())
    }
}
