//! What a classifier takes for what, as an SVG picture: the table of counts, and the surest mistakes with their images.
//!
//! Knows counts, names and pixels; nothing about training.

use super::classify::{Confusion, Misread};
use super::svg::{self, Style, label, turned};
use std::fmt::Write;

pub use super::classify::Look;

/// What to draw.
pub struct ConfusionPicture<'a> {
    pub title: &'a str,
    /// A second, quieter line.
    pub subtitle: &'a str,
    /// The names of the classes.
    pub classes: &'a [String],
    pub confusion: &'a Confusion,
    pub look: Look,
}

/// More classes than this are not drawn: those with the most mistakes are.
const MOST_CLASSES: usize = 40;
const TOP: f64 = 96.0;
const MARGIN: f64 = 24.0;
/// A mistake's image, and from its top to that of the next one.
const IMAGE: f64 = 72.0;
const TILE_HEIGHT: f64 = 122.0;
/// What the mistakes side by side take at most, and how many rows of them there are.
const TILES_WIDTH: f64 = 680.0;
const TILE_ROWS: usize = 8;
/// Widths of a character in any system font, since nothing here can measure them.
const CHARACTER: f64 = 6.6;
const BOLD_CHARACTER: f64 = 7.3;
const LONGEST_NAME: usize = 18;

const STYLE: Style = Style {
    light: "\
.cell{fill:#f3f4f7}.right{fill:#2f6bdb}.wrong{fill:#d9622b}.on{fill:#fff;font-weight:600}.off{fill:#1d2433}\
.sum{fill:#98a1b2}.frame{fill:none;stroke:#c4c9d4}.said{fill:#b84c1a;font-weight:600}.middle{text-anchor:middle}",
    dark: "\
.cell{fill:#1a202b}.right{fill:#4b82ea}.wrong{fill:#e2763f}.on{fill:#fff}.off{fill:#c9d0dc}.sum{fill:#69748a}\
.frame{stroke:#434c5c}.said{fill:#ffb184}",
};

/// Where the mistakes lie.
struct Tiles {
    left: f64,
    width: f64,
    per_row: usize,
    shown: usize,
}

/// Where the table lies.
struct Table {
    /// Indices of the classes drawn.
    drawn: Vec<usize>,
    cell: f64,
    left: f64,
    /// Of the first row.
    top: f64,
}

impl ConfusionPicture<'_> {
    /// The SVG text.
    pub fn to_svg(&self) -> String {
        let drawn = self.drawn();
        let cell = (560.0 / drawn.len().max(1) as f64).clamp(16.0, 42.0);
        let longest = drawn.iter().map(|&class| self.name(class).chars().count()).max().unwrap_or(1) as f64;
        // Names that are wider than a column stand upright.
        let upright = longest * CHARACTER > cell - 4.0;
        let column_names = if upright { longest * CHARACTER + 8.0 } else { 16.0 };
        let left = MARGIN + 30.0 + longest * CHARACTER;
        let table = Table { cell, left, top: TOP + 12.0 + column_names, drawn };
        let side = cell * table.drawn.len() as f64;
        let tiles = self.tiles(left + side + 110.0);
        let rows = tiles.shown.div_ceil(tiles.per_row) as f64;
        let tiles_width = (tiles.per_row.min(tiles.shown) as f64 * tiles.width).max(210.0);
        let width = (tiles.left + tiles_width + MARGIN).max(560.0);
        let height = (table.top + side + 40.0).max(TOP + 22.0 + rows * TILE_HEIGHT + 16.0);
        let about = format!("Confusion matrix: {}", self.title);
        let mut svg = svg::open((width.ceil(), height.ceil()), STYLE, &about, self.title, self.subtitle);
        self.draw_names(&mut svg, &table, upright);
        self.draw_cells(&mut svg, &table);
        self.draw_mistakes(&mut svg, &tiles);
        svg.push_str("</svg>\n");
        svg
    }

    /// All classes, or those with the most mistakes in their own order.
    fn drawn(&self) -> Vec<usize> {
        let confusion = self.confusion;
        let mut classes: Vec<usize> = (0..confusion.classes()).collect();
        if classes.len() > MOST_CLASSES {
            classes.sort_by_key(|&class| confusion.count(class, class) as i64 - confusion.of_class(class) as i64);
            classes.truncate(MOST_CLASSES);
            classes.sort_unstable();
        }
        classes
    }

    fn name(&self, class: usize) -> String {
        let name = self.classes.get(class).map_or("", String::as_str);
        match name.chars().count() {
            0..=LONGEST_NAME => name.to_string(),
            _ => name.chars().take(LONGEST_NAME - 1).chain(['…']).collect(),
        }
    }

    /// Tiles as wide as the longest words under one of them.
    fn tiles(&self, left: f64) -> Tiles {
        let misread = self.confusion.misread();
        let width = misread.iter().map(|mistake| {
            let [said, is] = self.captions(mistake).map(|words| words.chars().count() as f64);
            (said * BOLD_CHARACTER).max(is * CHARACTER)
        });
        let width = width.fold(IMAGE, f64::max).ceil() + 16.0;
        let per_row = ((TILES_WIDTH / width) as usize).clamp(1, 5);
        Tiles { left, width, per_row, shown: misread.len().min(per_row * TILE_ROWS) }
    }

    /// The two lines under a mistake.
    fn captions(&self, mistake: &Misread) -> [String; 2] {
        let sure = (100.0 * mistake.confidence).round();
        [
            format!("{} {}", self.look.said(), self.name(mistake.predicted)),
            format!("is {}, {sure}% sure", self.name(mistake.label)),
        ]
    }

    fn draw_names(&self, svg: &mut String, table: &Table, upright: bool) {
        let Table { drawn, cell, left, top } = table;
        let side = cell * drawn.len() as f64;
        label(svg, (left + side / 2.0, TOP - 4.0), "middle", "strong", self.look.said());
        turned(svg, (MARGIN + 10.0, top + side / 2.0), 90, "middle", "strong", "is");
        label(svg, (left + side + 10.0, top - 8.0), "start", "strong", "right");
        for (place, &class) in drawn.iter().enumerate() {
            let middle = (place as f64 + 0.5) * cell;
            label(svg, (left - 8.0, top + middle + 4.0), "end", "strong", &self.name(class));
            match upright {
                true => turned(svg, (left + middle + 4.0, top - 8.0), 90, "start", "strong", &self.name(class)),
                false => label(svg, (left + middle, top - 8.0), "middle", "strong", &self.name(class)),
            }
            let (right, all) = (self.confusion.count(class, class), self.confusion.of_class(class));
            if all > 0 {
                let share = format!("{right} of {all}");
                label(svg, (left + side + 10.0, top + middle + 4.0), "start", "sum", &share);
            }
        }
        if drawn.len() < self.confusion.classes() {
            let note = format!("the {} of {} classes with the most mistakes", drawn.len(), self.confusion.classes());
            label(svg, (*left, top + side + 22.0), "start", "", &note);
        }
    }

    fn draw_cells(&self, svg: &mut String, table: &Table) {
        let Table { drawn, cell, left, top } = table;
        for (row, &is) in drawn.iter().enumerate() {
            for (column, &said) in drawn.iter().enumerate() {
                let count = self.confusion.count(is, said);
                let (x, y, size) = (left + column as f64 * cell, top + row as f64 * cell, cell - 1.5);
                let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{size:.1}\" height=\"{size:.1}\" rx=\"2\"");
                let _ = writeln!(svg, "<rect class=\"cell\" {place}/>");
                if count == 0 {
                    continue;
                }
                let share = count as f64 / self.confusion.of_class(is).max(1) as f64;
                // Rare mistakes must be seen, so they do not begin at nothing.
                let strength = if is == said { 0.25 + 0.75 * share } else { (0.25 + share.sqrt()).min(1.0) };
                let class = if is == said { "right" } else { "wrong" };
                let hint = format!("{}: {count} {} {}", self.name(is), self.look.said(), self.name(said));
                let _ = writeln!(
                    svg,
                    "<rect class=\"{class}\" fill-opacity=\"{strength:.2}\" {place}><title>{}</title></rect>",
                    svg::escaped(&hint)
                );
                let text = count.to_string();
                if text.len() as f64 * 7.0 <= cell - 2.0 {
                    let ink = if strength > 0.5 { "on" } else { "off" };
                    label(svg, (x + size / 2.0, y + size / 2.0 + 4.3), "middle", ink, &text);
                }
            }
        }
    }

    fn draw_mistakes(&self, svg: &mut String, tiles: &Tiles) {
        let &Tiles { left, width, per_row, shown } = tiles;
        let all = self.confusion.images() - self.confusion.right();
        let title = match (all, shown as u64) {
            (0, _) => "no mistakes".to_string(),
            (all, shown) if shown < all => format!("mistakes: the {shown} surest of {all}"),
            (all, _) => format!("mistakes: {all}, the surest first"),
        };
        label(svg, (left, TOP - 4.0), "start", "strong", &title);
        for (number, mistake) in self.confusion.misread().iter().take(shown).enumerate() {
            let x = left + (number % per_row) as f64 * width;
            let y = TOP + 14.0 + (number / per_row) as f64 * TILE_HEIGHT;
            self.draw_image(svg, (x, y), mistake);
            let [said, is] = self.captions(mistake);
            label(svg, (x, y + IMAGE + 16.0), "start", "said", &said);
            label(svg, (x, y + IMAGE + 31.0), "start", "", &is);
        }
    }

    fn draw_image(&self, svg: &mut String, (x, y): (f64, f64), mistake: &Misread) {
        let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{IMAGE}\" height=\"{IMAGE}\"");
        if let Some(png) = self.png(mistake) {
            let data = base64(&png);
            let _ = writeln!(svg, "<image {place} href=\"data:image/png;base64,{data}\"/>");
        }
        let _ = writeln!(svg, "<rect class=\"frame\" {place}/>");
    }

    /// The image with square pixels that no viewer has to enlarge; `None` if it cannot be written.
    fn png(&self, mistake: &Misread) -> Option<Vec<u8>> {
        let pixels = mistake.pixels.len() / mistake.channels.max(1);
        let side = pixels.isqrt();
        if side == 0 {
            return None;
        }
        let times = (2.0 * IMAGE / side as f64).ceil().max(1.0) as usize;
        let value = |channel: usize, at: usize| {
            let own = mistake.pixels.get(channel.min(mistake.channels - 1) * pixels + at).copied().unwrap_or(0);
            match self.look {
                Look::Ink(full) => 255 - (u32::from(own) * 255 / u32::from(full.max(1))).min(255) as u8,
                Look::Colour => own,
            }
        };
        let large = side * times;
        let mut bytes = Vec::with_capacity(large * large * 3);
        for row in 0..large {
            for column in 0..large {
                let at = row / times * side + column / times;
                bytes.extend((0..3).map(|channel| value(channel, at)));
            }
        }
        let mut png = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut png);
        let size = u32::try_from(large).ok()?;
        image::ImageEncoder::write_image(encoder, &bytes, size, size, image::ExtendedColorType::Rgb8).ok()?;
        Some(png)
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |word, i| word << 8 | u32::from(part.get(i).copied().unwrap_or(0)));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= part.len() { letter as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::classify::{IMAGES, LABELS};
    use super::super::svg::is_well_formed;
    use super::*;
    use crate::io::HostTensor;

    /// `wrong` of `each` images of every class are taken for the next class.
    fn confusion(classes: usize, each: usize, wrong: usize) -> Confusion {
        let n = classes * each;
        let labels: Vec<i32> = (0..n).map(|i| (i / each) as i32).collect();
        let pixels: Vec<u8> = (0..n * 64).map(|i| (i * 7 % 17) as u8).collect();
        let batch = vec![
            (IMAGES, HostTensor::u8([n, 1, 8, 8], &pixels).unwrap()),
            (LABELS, HostTensor::i32([n], &labels).unwrap()),
        ];
        let score = |i: usize, class: usize| {
            let said = if i % each < wrong { (i / each + 1) % classes } else { i / each };
            if class == said { -0.1 } else { -3.0 }
        };
        let rows: Vec<f32> = (0..n).flat_map(|i| (0..classes).map(move |class| score(i, class))).collect();
        let mut confusion = Confusion::new(classes);
        confusion.add_rows(&batch, &rows).unwrap();
        confusion
    }

    fn draw(names: &[String], confusion: &Confusion) -> String {
        let picture =
            ConfusionPicture { title: "Run <1>", subtitle: "", classes: names, confusion, look: Look::Ink(16) };
        let svg = picture.to_svg();
        is_well_formed(&svg).unwrap();
        for bad in ["NaN", "inf\"", "\"-"] {
            assert!(!svg.contains(bad), "{bad} in {svg}");
        }
        svg
    }

    #[test]
    fn counts_and_mistakes_are_drawn_with_their_names() {
        let names: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
        let svg = draw(&names, &confusion(10, 20, 1));
        assert_eq!(svg.matches(">19</text>").count(), 10);
        assert_eq!(svg.matches("data:image/png;base64,iVBORw0KGgo").count(), 10);
        for wanted in ["read as", "mistakes: 10, the surest first", "is 3, 90% sure", "19 of 20", "Run &lt;1&gt;"] {
            assert!(svg.contains(wanted), "{wanted} in {svg}");
        }
        assert!(draw(&names, &confusion(10, 5, 0)).contains("no mistakes"));
        draw(&names, &Confusion::new(10));
    }

    #[test]
    fn many_classes_and_any_names_are_drawn() {
        let names: Vec<String> =
            (0..300).map(|i| format!("class & \"number\" <{i}> with a name beyond measure")).collect();
        let svg = draw(&names, &confusion(300, 3, 1));
        assert!(svg.contains("the 40 of 300 classes") && svg.contains("the 24 surest of 300"), "{}", svg.len());
        assert!(svg.len() < 700_000, "{}", svg.len());
        draw(&names[..2], &confusion(2, 1000, 400));
        draw(&[], &confusion(2, 1, 1));
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let coded = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(texts.map(|text| base64(text.as_bytes())), coded);
    }
}
