//! The kernels of a step under the roofs of their adapter, as an SVG picture.
//!
//! Knows times, operations and bytes; not how they were measured.

use super::profile::{Profile, Row};
use super::roof::Roofs;
use super::svg::{self, Style, label};
use std::fmt::Write;

const SIZE: (f64, f64) = (1080.0, 560.0);
const LEFT: f64 = 84.0;
const RIGHT: f64 = 640.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = 490.0;
/// Kernels with a number and a line of words: the dearest.
const NAMED: usize = 14;
/// Letters of a line beside the picture.
const LETTERS: usize = 52;

const STYLE: Style = Style {
    light: "\
.grid{stroke:#eceef2;stroke-width:1}.axis{stroke:#c4c9d4;stroke-width:1}\
.roof{fill:none;stroke:#d9622b;stroke-width:2.25;stroke-linejoin:round}.cache{stroke-dasharray:5 4;stroke-width:1.5}\
.kernel{fill:#2f6bdb;fill-opacity:.35;stroke:#2f6bdb}.number{fill:#1d2433;font-weight:600;font-size:11px}\
.roof-name{fill:#b84c1a;font-weight:600}",
    dark: "\
.grid{stroke:#222935}.axis{stroke:#434c5c}.roof{stroke:#ff9a62}.kernel{fill:#6ea2ff;stroke:#6ea2ff}\
.number{fill:#eef1f6}.roof-name{fill:#ffb184}",
};

/// A point: operations a byte, and billions of operations a second.
type Point = (f64, f64);

/// The picture: each kernel is a circle, as large as its share of the time.
pub fn roofline(profile: &Profile, roofs: &Roofs, title: &str) -> String {
    let rows = profile.kernels(roofs);
    let total = profile.micros();
    let drawn: Vec<(&Row<'_>, Point)> = rows.iter().filter_map(|row| Some((row, place(row)?))).collect();
    let subtitle =
        format!("a step of {:.2} ms by kernel; a circle's area is the kernel's share of the time", total / 1e3);
    let mut svg = svg::open(SIZE, STYLE, &format!("Roofline: {title}"), title, &subtitle);
    let axes = Axes::around(&drawn, roofs);
    axes.draw(&mut svg);
    axes.draw_roofs(&mut svg, roofs);
    for (row, point) in &drawn {
        let (x, y) = axes.place(*point);
        let radius = 3.0 + 34.0 * (row.micros / total.max(f64::MIN_POSITIVE)).sqrt();
        let _ = writeln!(svg, "<circle class=\"kernel\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>");
    }
    for (index, (row, point)) in drawn.iter().take(NAMED).enumerate() {
        let (x, y) = axes.place(*point);
        let number = (index + 1).to_string();
        label(&mut svg, (x, y + 4.0), "middle", "number", &number);
        let at = TOP + 8.0 + index as f64 * 28.0;
        let percent = |part: f64| 100.0 * part / f64::max(total, f64::MIN_POSITIVE);
        let reached = 100.0 * row.least / row.micros.max(f64::MIN_POSITIVE);
        label(&mut svg, (RIGHT + 40.0, at), "end", "number", &number);
        label(&mut svg, (RIGHT + 50.0, at), "start", "strong", &shortened(row.kernel));
        let share = percent(row.micros);
        let count = row.count;
        let words = format!("{share:.1} % of the time in {count}, {reached:.0} % of what the roofs allow");
        label(&mut svg, (RIGHT + 50.0, at + 13.0), "start", "", &words);
    }
    let left_out = rows.len() - drawn.len();
    if left_out > 0 {
        let kernels =
            if left_out == 1 { "kernel that only moves bytes is" } else { "kernels that only move bytes are" };
        label(&mut svg, (SIZE.0 - 24.0, SIZE.1 - 16.0), "end", "", &format!("{left_out} {kernels} not drawn"));
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where a kernel stands; one without operations has no place on a logarithmic axis.
fn place(row: &Row<'_>) -> Option<Point> {
    let known = row.flops > 0 && row.bytes > 0 && row.micros > 0.0;
    known.then(|| (row.flops as f64 / row.bytes as f64, row.flops as f64 / row.micros / 1e3))
}

fn shortened(text: &str) -> String {
    match text.chars().count() {
        0..=LETTERS => text.to_string(),
        _ => text.chars().take(LETTERS - 1).chain(['…']).collect(),
    }
}

/// Both axes are logarithmic; their ends are powers of ten.
struct Axes {
    low: Point,
    high: Point,
}

impl Axes {
    fn around(drawn: &[(&Row<'_>, Point)], roofs: &Roofs) -> Axes {
        // The corner of the roof is always in sight.
        let corner = (roofs.gflops / roofs.memory().max(1e-9), roofs.gflops);
        let points =
            || drawn.iter().map(|(_, point)| *point).chain([corner, (corner.0 * 4.0, corner.1), (0.25, corner.1)]);
        let ends = |of: fn(Point) -> f64| {
            let values = points().map(of).filter(|value| value.is_finite() && *value > 0.0);
            let (low, high) = values.fold((f64::INFINITY, 0.0), |(low, high), v| (f64::min(low, v), f64::max(high, v)));
            let (low, high) = if low <= high { (low, high) } else { (1.0, 10.0) };
            // Nothing below a millionth of the highest is worth the room.
            let low = low.max(high * 1e-6);
            (10f64.powf((low * 0.9).log10().floor()), 10f64.powf((high * 1.1).log10().ceil()))
        };
        let (x, y) = (ends(|point| point.0), ends(|point| point.1));
        Axes { low: (x.0, y.0), high: (x.1, y.1) }
    }

    fn place(&self, (x, y): Point) -> (f64, f64) {
        let part = |value: f64, low: f64, high: f64| ((value / low).ln() / (high / low).ln()).clamp(0.0, 1.0);
        let (along, up) = (part(x, self.low.0, self.high.0), part(y, self.low.1, self.high.1));
        (LEFT + along * (RIGHT - LEFT), BOTTOM - up * (BOTTOM - TOP))
    }

    fn draw(&self, svg: &mut String) {
        for value in decades(self.low.1, self.high.1) {
            let (_, y) = self.place((self.low.0, value));
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
            label(svg, (LEFT - 10.0, y + 4.0), "end", "", &format!("{value}"));
        }
        for value in decades(self.low.0, self.high.0) {
            let (x, _) = self.place((value, self.low.1));
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/>");
            label(svg, (x, BOTTOM + 20.0), "middle", "", &format!("{value}"));
        }
        let _ = writeln!(svg, "<path class=\"axis\" d=\"M{LEFT} {BOTTOM}H{RIGHT}\"/>");
        label(svg, ((LEFT + RIGHT) / 2.0, BOTTOM + 42.0), "middle", "strong", "operations for each byte moved");
        svg::turned(svg, (LEFT - 56.0, (TOP + BOTTOM) / 2.0), 90, "middle", "strong", "GFLOP/s");
    }

    /// The slope of the memory, the level of the arithmetic, and dashed the slope of the fastest cache.
    fn draw_roofs(&self, svg: &mut String, roofs: &Roofs) {
        let slope = |svg: &mut String, class: &str, gigabytes: f64| {
            let corner = roofs.gflops / gigabytes.max(1e-9);
            // From where the slope enters the picture: at its left, or at its bottom.
            let enters = f64::max(self.low.0, self.low.1 / gigabytes.max(1e-9));
            let (from, bend) = (self.place((enters, enters * gigabytes)), self.place((corner, roofs.gflops)));
            let end = self.place((self.high.0, roofs.gflops)).0;
            let path = format!("M{:.1} {:.1}L{:.1} {:.1}H{end:.1}", from.0, from.1, bend.0, bend.1);
            let _ = writeln!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
        };
        let cached = roofs.bandwidth(0);
        if cached > 1.2 * roofs.memory() {
            slope(svg, "roof cache", cached);
        }
        slope(svg, "roof", roofs.memory());
        let (_, y) = self.place((self.high.0, roofs.gflops));
        label(svg, (RIGHT, y - 8.0), "end", "roof-name", &format!("{:.0} GFLOP/s", roofs.gflops));
        let caches =
            if cached > 1.2 * roofs.memory() { format!(", caches {cached:.0} GB/s (dashed)") } else { String::new() };
        let words = format!("memory {:.0} GB/s{caches}", roofs.memory());
        label(svg, (LEFT + 8.0, TOP - 10.0), "start", "roof-name", &words);
    }
}

/// Powers of ten from one end to the other.
fn decades(low: f64, high: f64) -> impl Iterator<Item = f64> {
    let (first, last) = (low.log10().round() as i32, high.log10().round() as i32);
    (first..=last).map(|power| format!("1e{power}").parse().unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use super::super::profile::Timed;
    use super::super::roof::CopyRate;
    use super::*;

    fn timed(kernel: &str, micros: f64, flops: u64, bytes: u64) -> Timed {
        let (kernel, label) = (kernel.into(), "a<b".into());
        Timed { program: "micro".into(), kernel, label, start: 0.0, micros, flops, bytes }
    }

    fn roofs() -> Roofs {
        let copies = [(1000, 40.0), (1 << 28, 10.0)].map(|(bytes, gigabytes)| CopyRate { bytes, gigabytes });
        Roofs { gflops: 50.0, gflops_f16: None, copies: copies.into() }
    }

    #[test]
    fn kernels_with_operations_are_drawn() {
        let dispatches = vec![timed("product", 9.0, 90_000, 3000), timed("copy", 1.0, 0, 5000)];
        let svg = roofline(&Profile { dispatches }, &roofs(), "W2 & others");
        svg::is_well_formed(&svg).unwrap();
        assert_eq!(svg.matches("<circle").count(), 1, "{svg}");
        assert!(svg.contains("1 kernel that only moves bytes is not drawn"), "{svg}");
        assert!(svg.contains("90.0 % of the time in 1, 20 % of what the roofs allow"), "{svg}");
    }

    #[test]
    fn a_step_without_kernels_and_absurd_roofs_still_make_a_picture() {
        let none = Roofs { gflops: 0.0, gflops_f16: None, copies: Vec::new() };
        for (profile, roofs) in [(Profile::default(), roofs()), (Profile::default(), none.clone())] {
            let svg = roofline(&profile, &roofs, "nothing");
            svg::is_well_formed(&svg).unwrap();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
