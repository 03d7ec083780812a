//! A run's curves of loss and accuracy as SVG pictures, for a person to look at.
//!
//! Knows points and ink, and nothing about training. The picture is one file without scripts or
//! external fonts; it follows the reader's light or dark mode. Coordinates are rounded to a tenth
//! of a unit, so the same run always gives the same bytes.

use super::svg::{self, Style, label};
use std::fmt::Write;

/// What to draw. Values that are not finite are left out of the picture and counted in a note.
#[derive(Debug, Clone)]
pub struct Curve<'a> {
    pub quantity: Quantity,
    /// Such as the name of the run.
    pub title: &'a str,
    /// A second, quieter line, such as the size of the model.
    pub subtitle: &'a str,
    /// Values in training by step, steps rising.
    pub training: &'a [(u64, f32)],
    /// Values in validation by step, steps rising.
    pub validation: &'a [(u64, f32)],
}

/// What the values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// A loss in nats: the lowest is the best.
    Loss,
    /// A fraction of 1, drawn in percent: the highest is the best.
    Accuracy,
}

impl Quantity {
    fn name(self) -> &'static str {
        match self {
            Quantity::Loss => "loss",
            Quantity::Accuracy => "accuracy",
        }
    }

    fn value_label(self, value: f64) -> String {
        match self {
            Quantity::Loss => loss_label(value),
            Quantity::Accuracy => format!("{value:.1}%"),
        }
    }
}

// The picture, and the plot area within it.
const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 844.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 424.0;

/// A range of losses wider than this is drawn on a logarithmic axis.
const LOG_ABOVE: f64 = 20.0;

const STYLE: Style = Style {
    light: "\
.grid{stroke:#eceef2;stroke-width:1}.axis{stroke:#c4c9d4;stroke-width:1}\
path{fill:none;stroke-linejoin:round;stroke-linecap:round}\
.raw{stroke:#2f6bdb;stroke-opacity:.25;stroke-width:1}.training{stroke:#2f6bdb;stroke-width:2.25}\
.validation{stroke:#d9622b;stroke-width:2}.dot{fill:#fff;stroke:#d9622b;stroke-width:2}\
.best{fill:#d9622b;stroke:#fff;stroke-width:2}.best-text{fill:#b84c1a;font-weight:600;stroke:#fff;stroke-width:4;\
stroke-linejoin:round;paint-order:stroke}",
    dark: "\
.grid{stroke:#222935}.axis{stroke:#434c5c}.raw,.training{stroke:#6ea2ff}.raw{stroke-opacity:.3}\
.validation{stroke:#ff9a62}.dot{fill:#12161e;stroke:#ff9a62}.best{fill:#ff9a62;stroke:#12161e}\
.best-text{fill:#ffb184;stroke:#12161e}",
};

impl Curve<'_> {
    /// The SVG text.
    pub fn to_svg(&self) -> String {
        let training = finite(self.training, self.quantity);
        let validation = finite(self.validation, self.quantity);
        let axes = Axes::around(self.quantity, &training, &validation);
        let about = format!("{} by step: {}", capital(self.quantity.name()), self.title);
        let mut svg = svg::open((WIDTH, HEIGHT), STYLE, &about, self.title, self.subtitle);
        axes.draw(&mut svg);
        draw_training(&mut svg, &axes, &training);
        draw_validation(&mut svg, &axes, &validation);
        let left_out = self.training.len() + self.validation.len() - training.len() - validation.len();
        draw_legend(&mut svg, &training, &validation);
        let (one, many) = match self.quantity {
            Quantity::Loss => ("loss", "losses"),
            Quantity::Accuracy => ("accuracy", "accuracies"),
        };
        let note = match (training.is_empty() && validation.is_empty(), left_out) {
            (true, 0) => Some(format!("no {many} recorded")),
            (true, _) => Some(format!("no {one} is finite")),
            (false, 0) => None,
            (false, 1) => Some(format!("1 {one} is not finite and not drawn")),
            (false, count) => Some(format!("{count} {many} are not finite and not drawn")),
        };
        if let Some(note) = note {
            label(&mut svg, (RIGHT, HEIGHT - 14.0), "end", "strong", &note);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Points with finite values, as f64, in the unit of the axis.
fn finite(points: &[(u64, f32)], quantity: Quantity) -> Vec<(f64, f64)> {
    let unit = if quantity == Quantity::Accuracy { 100.0 } else { 1.0 };
    let kept = points.iter().filter(|(_, value)| value.is_finite());
    kept.map(|&(step, value)| (step as f64, f64::from(value) * unit)).collect()
}

/// One tick of an axis: where, and what stands there.
struct Tick {
    value: f64,
    label: String,
}

/// The mapping from steps and losses (or accuracies) to the plot area.
struct Axes {
    quantity: Quantity,
    steps: (f64, f64),
    losses: (f64, f64),
    log: bool,
    step_ticks: Vec<Tick>,
    loss_ticks: Vec<Tick>,
}

impl Axes {
    fn around(quantity: Quantity, training: &[(f64, f64)], validation: &[(f64, f64)]) -> Axes {
        let range = |values: &mut dyn Iterator<Item = f64>| {
            values.fold(None, |range: Option<(f64, f64)>, value| {
                let (low, high) = range.unwrap_or((value, value));
                Some((low.min(value), high.max(value)))
            })
        };
        let points = || training.iter().chain(validation);
        let (first, last) = range(&mut points().map(|point| point.0)).unwrap_or((0.0, 1.0));
        let (low, high) = range(&mut points().map(|point| point.1)).unwrap_or((0.0, 1.0));
        let log = quantity == Quantity::Loss && low > 0.0 && high / low > LOG_ABOVE;
        // A run from its beginning starts at the corner.
        let first = if first <= 1.0 { 0.0 } else { first };
        // The relative part is for step numbers so large that adding one would change nothing.
        let steps = if last > first { (first, last) } else { (first, first * 1.000_001 + 1.0) };
        let (mut losses, mut loss_ticks) = if log { log_axis(low, high) } else { linear_axis(low, high) };
        if quantity == Quantity::Accuracy {
            losses = (losses.0.max(0.0), losses.1.min(100.0));
            loss_ticks.retain(|tick| (losses.0..=losses.1 + 1e-9).contains(&tick.value));
        }
        let step_ticks = ticks(steps.0, steps.1, 8).filter(|value| value.fract() == 0.0);
        let step_ticks = step_ticks.map(|value| Tick { value, label: step_label(value, last) }).collect();
        Axes { quantity, steps, losses, log, step_ticks, loss_ticks }
    }

    fn x(&self, step: f64) -> f64 {
        LEFT + (step - self.steps.0) / (self.steps.1 - self.steps.0) * (RIGHT - LEFT)
    }

    fn y(&self, loss: f64) -> f64 {
        let (low, high) = self.losses;
        let part = if self.log { (loss / low).ln() / (high / low).ln() } else { (loss - low) / (high - low) };
        BOTTOM - part * (BOTTOM - TOP)
    }

    fn draw(&self, svg: &mut String) {
        for tick in &self.loss_ticks {
            let y = self.y(tick.value);
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
            label(svg, (LEFT - 10.0, y + 4.0), "end", "", &tick.label);
        }
        let _ = writeln!(svg, "<path class=\"axis\" d=\"M{LEFT} {BOTTOM}H{RIGHT}\"/>");
        for tick in &self.step_ticks {
            let x = self.x(tick.value);
            let _ = writeln!(svg, "<path class=\"axis\" d=\"M{x:.1} {BOTTOM}v5\"/>");
            label(svg, (x, BOTTOM + 20.0), "middle", "", &tick.label);
        }
        label(svg, ((LEFT + RIGHT) / 2.0, BOTTOM + 42.0), "middle", "strong", "step");
        let name = match self.quantity {
            Quantity::Loss if self.log => "loss (nats, logarithmic)",
            Quantity::Loss => "loss (nats)",
            Quantity::Accuracy => "accuracy (%)",
        };
        svg::turned(svg, (LEFT - 46.0, (TOP + BOTTOM) / 2.0), 90, "middle", "strong", name);
    }
}

/// Round values from `low` to `high`, at most `most` intervals of 1, 2, 2.5 or 5 times a power of ten.
fn ticks(low: f64, high: f64, most: usize) -> impl Iterator<Item = f64> {
    let step = round_step((high - low) / most as f64);
    let first = (low / step - 1e-9).ceil();
    let count = ((high / step + 1e-9).floor() - first).max(0.0) as usize;
    // `+ 0.0` turns a negative zero into zero.
    (0..=count).map(move |i| (first + i as f64) * step + 0.0)
}

/// The smallest round number that is no less than `least`.
fn round_step(least: f64) -> f64 {
    if least.is_nan() || least < 1e-300 {
        return 1e-300;
    }
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// The range widened to round numbers, and its ticks.
fn linear_axis(low: f64, high: f64) -> ((f64, f64), Vec<Tick>) {
    // A constant loss gets some room around it.
    let room = if high - low > 1e-6 * high.abs().max(1e-6) { 0.0 } else { high.abs().max(1e-3) * 0.1 };
    let (low, high) = (low - room, high + room);
    let step = round_step((high - low) / 6.0);
    let range = ((low / step).floor() * step, (high / step).ceil() * step);
    // Powers of ten times 2.5 need one digit more than their exponent says.
    let digits = (0..12).find(|&digits| {
        let scaled = step * 10f64.powi(digits);
        (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1.0) && scaled > 0.5
    });
    let name = |value: f64| match digits {
        Some(digits) => format!("{value:.*}", digits as usize),
        None => format!("{value:.1e}"),
    };
    let ticks = ticks(range.0, range.1, 6).map(|value| Tick { value, label: name(value) }).collect();
    (range, ticks)
}

/// Decades, with 2 and 5 between them where there are few.
fn log_axis(low: f64, high: f64) -> ((f64, f64), Vec<Tick>) {
    let factors: &[f64] = if high / low < 2e3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let stride = 1 + (powers.end() - powers.start()) as usize / 10;
    let marks = powers.step_by(stride).flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
    let marks: Vec<f64> = marks.collect();
    // From the last mark at or below the data to the first at or above it.
    let below = marks.iter().copied().filter(|mark| *mark <= low * 1.000_001).fold(low, |_, mark| mark);
    let above = marks.iter().copied().find(|mark| *mark >= high * 0.999_999).unwrap_or(high);
    let inside = marks.into_iter().filter(|mark| (below * 0.999_999..=above * 1.000_001).contains(mark));
    let name = |value: f64| if (1e-4..1e5).contains(&value) { plain(value) } else { format!("{value:.0e}") };
    ((below, above), inside.map(|value| Tick { value, label: name(value) }).collect())
}

/// A mark of a logarithmic axis without trailing zeros.
fn plain(value: f64) -> String {
    if value >= 1.0 {
        return format!("{value:.0}");
    }
    let text = format!("{value:.5}");
    text.trim_end_matches('0').to_string()
}

/// 250, 5,000, 20k, 1.5M; all labels of an axis in the unit that its end asks for.
fn step_label(step: f64, end: f64) -> String {
    let short = |value: f64, unit: &str| format!("{}{unit}", (value * 1000.0).round() / 1000.0);
    match (step, end) {
        (0.0, _) => "0".into(),
        (_, end) if end >= 1e6 => short(step / 1e6, "M"),
        (_, end) if end >= 1e4 => short(step / 1e3, "k"),
        (step, _) if step >= 1e3 => format!("{},{:03}", (step / 1e3).floor(), step % 1e3),
        _ => format!("{step}"),
    }
}

/// A loss with four digits that say something: 1.849, 0.004312, 0.00001200.
fn loss_label(loss: f64) -> String {
    let before = if loss == 0.0 { 1 } else { loss.abs().log10().floor() as i32 + 1 };
    format!("{loss:.*}", (4 - before).clamp(0, 12) as usize)
}

fn draw_training(svg: &mut String, axes: &Axes, points: &[(f64, f64)]) {
    if points.len() < 2 {
        for &(step, loss) in points {
            let (x, y) = (axes.x(step), axes.y(loss));
            let _ = writeln!(svg, "<path class=\"training\" d=\"M{x:.1} {y:.1}h.1\"/>");
        }
        return;
    }
    if points.len() >= 20 {
        line(svg, axes, "raw", &thinned(points));
    }
    let stride = points.len().div_ceil(2 * (RIGHT - LEFT) as usize);
    let mut smooth: Vec<_> = (0..points.len()).step_by(stride).map(|i| smoothed(points, i)).collect();
    // The end of the curve is what one looks for.
    if !(points.len() - 1).is_multiple_of(stride) {
        smooth.push(smoothed(points, points.len() - 1));
    }
    line(svg, axes, "training", &smooth);
}

/// Mean over a window around a point, about a fortieth of the run to either side. The window
/// shrinks towards the beginning, where it must stay symmetric, or the steep curve would be bent.
/// Summed anew for each point: a running sum would lose small losses behind a huge one.
fn smoothed(points: &[(f64, f64)], i: usize) -> (f64, f64) {
    let reach = if points.len() < 20 { 0 } else { (points.len() / 40).max(1) };
    let before = reach.min(i);
    // At the end some smoothing is left: a last value that jumps would mislead.
    let after = before.min(points.len() - 1 - i);
    let before = if i + reach >= points.len() { before } else { after };
    let window = &points[i - before..=i + after];
    let sum: f64 = window.iter().map(|point| point.1).sum();
    (points[i].0, sum / window.len() as f64)
}

/// No more than the lowest and highest point of each of some 750 columns: what a longer run's line
/// would cover anyway.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let column = points.len().div_ceil((RIGHT - LEFT) as usize);
    if column <= 2 {
        return points.to_vec();
    }
    let mut kept = Vec::new();
    for part in points.chunks(column) {
        let by_loss = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (low, high) = (part.iter().min_by(by_loss), part.iter().max_by(by_loss));
        let mut both: Vec<(f64, f64)> = low.into_iter().chain(high).copied().collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        kept.extend(both);
    }
    kept
}

fn draw_validation(svg: &mut String, axes: &Axes, points: &[(f64, f64)]) {
    line(svg, axes, "validation", points);
    // Dots that would touch each other say nothing.
    if points.len() <= 60 {
        for &(step, loss) in points {
            dot(svg, axes, "dot", (step, loss), 3.0);
        }
    }
    let loss = |point: &(f64, f64)| if axes.quantity == Quantity::Loss { point.1 } else { -point.1 };
    let Some(best) = points.iter().min_by(|a, b| loss(a).total_cmp(&loss(b))) else { return };
    dot(svg, axes, "best", *best, 5.0);
    let (x, y) = (axes.x(best.0), axes.y(best.1));
    let (anchor, x) = if x < LEFT + 80.0 {
        ("start", x)
    } else if x > RIGHT - 80.0 {
        ("end", x + 4.0)
    } else {
        ("middle", x)
    };
    // Above the point, where a falling curve leaves room, or below it, where a rising one does.
    let above = axes.quantity == Quantity::Loss && y > TOP + 30.0;
    let y = if above || y > BOTTOM - 30.0 { y - 14.0 } else { y + 24.0 };
    label(svg, (x, y), anchor, "best-text", &format!("best {} at step {}", axes.quantity.value_label(best.1), best.0));
}

fn draw_legend(svg: &mut String, training: &[(f64, f64)], validation: &[(f64, f64)]) {
    // Places that fit the words in any system font, since nothing here can measure them.
    let entries = [("validation", validation, 62.0), ("training", training, 54.0)];
    let mut x = RIGHT;
    for (name, _, width) in entries.into_iter().filter(|entry| !entry.1.is_empty()) {
        x -= width;
        label(svg, (x, 57.0), "start", "strong", name);
        let _ = writeln!(svg, "<path class=\"{name}\" d=\"M{:.1} 53h20\"/>", x - 28.0);
        if name == "validation" {
            let _ = writeln!(svg, "<circle class=\"dot\" cx=\"{:.1}\" cy=\"53\" r=\"3\"/>", x - 18.0);
        }
        x -= 50.0;
    }
}

fn line(svg: &mut String, axes: &Axes, class: &str, points: &[(f64, f64)]) {
    if points.len() < 2 {
        return;
    }
    let _ = write!(svg, "<path class=\"{class}\" d=\"");
    for (i, &(step, loss)) in points.iter().enumerate() {
        let command = if i == 0 { 'M' } else { 'L' };
        let _ = write!(svg, "{command}{:.1} {:.1}", axes.x(step), axes.y(loss));
    }
    svg.push_str("\"/>\n");
}

fn dot(svg: &mut String, axes: &Axes, class: &str, (step, loss): (f64, f64), radius: f64) {
    let (x, y) = (axes.x(step), axes.y(loss));
    let _ = writeln!(svg, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that looks like one: falling, with noise from a fixed sequence.
    fn run(steps: u64, floor: f32) -> Vec<(u64, f32)> {
        let noise = |step: u64| (step.wrapping_mul(2_654_435_761) >> 7 & 1023) as f32 / 1023.0 - 0.5;
        (1..=steps)
            .map(|step| (step, floor + 3.4 * (-(step as f32) * 9.0 / steps as f32).exp() + 0.35 * noise(step)))
            .collect()
    }

    fn svg(training: &[(u64, f32)], validation: &[(u64, f32)]) -> String {
        let (title, subtitle) = ("a < b & \"c\"", "875,264 parameters");
        Curve { quantity: Quantity::Loss, title, subtitle, training, validation }.to_svg()
    }

    /// Every number of every attribute that holds coordinates, checked to lie within the picture.
    fn check(svg: &str) {
        for bad in ["NaN", "inf", "-0.0\""] {
            assert!(!svg.contains(bad), "{bad} in {svg}");
        }
        for part in svg.split(" d=\"").skip(1) {
            let numbers =
                part.split('"').next().unwrap().split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'));
            for number in numbers.filter(|number| !number.is_empty()) {
                let number: f64 = number.parse().unwrap();
                assert!((0.0..=WIDTH).contains(&number), "{number} in {part}");
            }
        }
        super::super::svg::is_well_formed(svg).unwrap();
    }

    #[test]
    fn a_run_is_drawn_with_both_lines_ticks_and_the_best_point() {
        let validation = [(100, 3.0), (200, 1.75), (300, 1.5), (400, 1.625)];
        let picture = svg(&run(400, 1.4), &validation);
        check(&picture);
        for wanted in
            ["class=\"raw\"", "class=\"training\"", "class=\"validation\"", "best 1.500 at step 300", ">5<", ">400<"]
        {
            assert!(picture.contains(wanted), "{wanted} in {picture}");
        }
        assert!(picture.contains("a &lt; b &amp; &quot;c&quot;") && picture.contains("prefers-color-scheme:dark"));
        assert!(!picture.contains("logarithmic"));
        assert_eq!(picture, svg(&run(400, 1.4), &validation));
    }

    #[test]
    fn accuracies_are_drawn_in_percent_and_the_highest_is_the_best() {
        let draw = |training: &[(u64, f32)], validation: &[(u64, f32)]| {
            let picture = Curve { quantity: Quantity::Accuracy, title: "Run 1", subtitle: "", training, validation };
            picture.to_svg()
        };
        let training: Vec<(u64, f32)> = (1..=50).map(|step| (step, 1.0 - 0.9 / step as f32)).collect();
        let picture = draw(&training, &[(25, 0.5), (50, 0.9875)]);
        check(&picture);
        assert!(picture.contains("accuracy (%)") && picture.contains("best 98.8% at step 50"), "{picture}");
        assert!(picture.contains(">100<") && !picture.contains(">120<"));
        check(&draw(&[(1, 1.0), (2, 1.0)], &[(2, 1.0)]));
        check(&draw(&[(1, 0.0)], &[]));
        assert!(draw(&[], &[]).contains("no accuracies recorded"));
    }

    #[test]
    fn losses_over_many_orders_of_magnitude_get_a_logarithmic_axis() {
        let points: Vec<(u64, f32)> = (1..=50).map(|step| (step, 10f32.powi(-(step as i32) / 10))).collect();
        let picture = svg(&points, &[]);
        check(&picture);
        assert!(picture.contains("logarithmic") && picture.contains(">0.001<"), "{picture}");
        check(&svg(&[(1, 1e-38), (2, 1e38)], &[]));
        check(&svg(&[(1, -5.0), (2, 100.0)], &[]));
    }

    #[test]
    fn hardly_any_points_and_equal_points_are_drawn() {
        check(&svg(&[], &[]));
        assert!(svg(&[], &[]).contains("no losses recorded"));
        check(&svg(&[(1, 2.5)], &[]));
        check(&svg(&[(7, 0.0)], &[(7, 0.0)]));
        check(&svg(&[(1, 2.5), (2, 2.5)], &[(2, 2.5)]));
        check(&svg(&[(u64::MAX - 1, 1.0), (u64::MAX, 2.0)], &[]));
        check(&svg(&[(1, f32::MAX), (2, f32::MIN)], &[]));
    }

    #[test]
    fn losses_that_are_not_finite_are_left_out_and_counted() {
        let mut points = run(100, 1.0);
        points[30].1 = f32::NAN;
        points[31].1 = f32::INFINITY;
        let picture = svg(&points, &[(50, f32::NAN)]);
        check(&picture);
        assert!(picture.contains("3 losses are not finite"), "{picture}");
        assert!(svg(&[(1, f32::NAN)], &[]).contains("no loss is finite"));
    }

    #[test]
    fn a_long_run_stays_a_small_file() {
        let picture = svg(&run(100_000, 1.0), &[]);
        check(&picture);
        assert!(picture.len() < 60_000, "{}", picture.len());
        assert!(picture.contains(">100k<") && picture.contains(">20k<"), "{picture}");
    }

    #[test]
    fn axes_are_marked_with_round_numbers() {
        let marks = |low, high| linear_axis(low, high).1.into_iter().map(|tick| tick.label).collect::<Vec<_>>();
        assert_eq!(marks(1.3, 5.6), ["1", "2", "3", "4", "5", "6"]);
        assert_eq!(marks(0.11, 0.24), ["0.100", "0.125", "0.150", "0.175", "0.200", "0.225", "0.250"]);
        assert_eq!([250.0, 1500.0].map(|step| step_label(step, 2000.0)), ["250", "1,500"]);
        assert_eq!([0.0, 2500.0, 20_000.0].map(|step| step_label(step, 20_000.0)), ["0", "2.5k", "20k"]);
        assert_eq!(step_label(1.5e6, 2e6), "1.5M");
        assert_eq!([1.8494, 0.004_312_4, 12.0, 0.0].map(loss_label), ["1.849", "0.004312", "12.00", "0.000"]);
        let marks: Vec<String> = log_axis(0.03, 4.0).1.into_iter().map(|tick| tick.label).collect();
        assert_eq!(marks, ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5"]);
    }

    #[test]
    fn smoothing_keeps_a_straight_line_straight() {
        let line: Vec<(f64, f64)> = (0..200).map(|i| (f64::from(i), 10.0 - f64::from(i) * 0.01)).collect();
        for (i, point) in line.iter().enumerate().take(190) {
            assert!((point.1 - smoothed(&line, i).1).abs() < 1e-9);
        }
    }

    #[test]
    fn a_huge_loss_does_not_swallow_the_small_ones_after_it() {
        let spike: Vec<(u64, f32)> = (1..=200).map(|step| (step, if step == 3 { 1e30 } else { 1e-3 })).collect();
        check(&svg(&spike, &[]));
    }
}
