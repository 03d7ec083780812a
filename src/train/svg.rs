//! What the pictures of a run have in common: the page, words on it, colours for light and dark.
//!
//! Knows SVG and nothing about training.

use std::fmt::Write;

/// Colours as plain rules with an override, since many viewers know no CSS variables.
const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','DejaVu Sans',sans-serif;\
font-size:12px;fill:#667085;font-variant-numeric:tabular-nums}\
.background{fill:#fff}.title{font-size:17px;font-weight:600;fill:#1d2433}.strong{fill:#344054}";
const DARK: &str = "text{fill:#8f99ab}.background{fill:#12161e}.title{fill:#eef1f6}.strong{fill:#c9d0dc}";

/// Rules of one kind of picture, for light and for dark.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub light: &'static str,
    pub dark: &'static str,
}

/// Begins a picture with its title and a second, quieter line; `about` says what it shows to who cannot see it.
pub fn open(size: (f64, f64), style: Style, about: &str, title: &str, subtitle: &str) -> String {
    let ((width, height), Style { light, dark }) = (size, style);
    let about = escaped(about);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{about}\">\n\
         <style>{STYLE}{light}@media(prefers-color-scheme:dark){{{DARK}{dark}}}</style>\n\
         <rect class=\"background\" width=\"{width}\" height=\"{height}\" rx=\"10\"/>\n"
    );
    label(&mut svg, (24.0, 36.0), "start", "title", title);
    label(&mut svg, (24.0, 57.0), "start", "", subtitle);
    svg
}

/// Words at a place; `anchor` is `start`, `middle` or `end`.
pub fn label(svg: &mut String, (x, y): (f64, f64), anchor: &str, class: &str, text: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let text = escaped(text);
    let _ = writeln!(svg, "<text{class} x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

/// Words that are turned against the clock around their place.
pub fn turned(svg: &mut String, (x, y): (f64, f64), degrees: i32, anchor: &str, class: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" text-anchor=\"{anchor}\" transform=\"translate({x:.1} {y:.1}) rotate(-{degrees})\">{text}</text>"
    );
}

/// Text for XML, without the control characters that XML cannot hold.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let allowed = |letter: &char| !letter.is_control() && !matches!(letter, '\u{fffe}' | '\u{ffff}');
    for letter in text.chars().filter(allowed) {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

/// Whether a text is one XML element with its content: names that match, attributes in quotes, no stray signs.
#[cfg(test)]
pub(super) fn is_well_formed(text: &str) -> Result<(), String> {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text.trim();
    while let Some(start) = rest.find('<') {
        let words = &rest[..start];
        let stray = words
            .split('&')
            .skip(1)
            .any(|part| !["amp;", "lt;", "gt;", "quot;"].iter().any(|known| part.starts_with(known)));
        if stray || words.contains('>') || (open.is_empty() && !words.trim().is_empty()) {
            return Err(format!("stray signs in `{words}`"));
        }
        let end = rest.find('>').ok_or("a tag has no end")?;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> closes nothing"));
            }
            if open.is_empty() {
                return if rest.trim().is_empty() { Ok(()) } else { Err(format!("`{rest}` after the end")) };
            }
            continue;
        }
        let inside = tag.strip_suffix('/').unwrap_or(tag);
        let (name, attributes) = inside.split_once(' ').unwrap_or((inside, ""));
        if !attributes.matches('"').count().is_multiple_of(2) {
            return Err(format!("an attribute without an end in <{tag}>"));
        }
        let mut parts = attributes.split('"');
        while let Some(before) = parts.next().filter(|part| !part.trim().is_empty()) {
            let known = before.trim().strip_suffix('=').is_some_and(|name| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == ':')
            });
            let value = parts.next().unwrap_or_default();
            if !known || value.contains('<') {
                return Err(format!("`{before}` in <{tag}>"));
            }
        }
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    Err(format!("{open:?} stay open"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_knows_good_from_bad() {
        is_well_formed("<a b=\"1\"><c/>x &amp; y<d>z</d></a>\n").unwrap();
        for bad in
            ["<a>", "<a></b>", "<a b=1></a>", "<a>&x</a>", "<a>1 > 2</a>", "<a></a><b></b>", "x", "<a b=\"1></a>"]
        {
            assert!(is_well_formed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_of_any_kind_stay_words() {
        let mut svg = open((100.0, 50.0), Style { light: "", dark: "" }, "a \"b\"", "<script>", "x & y \u{1}\u{ffff}");
        turned(&mut svg, (1.0, 2.0), 90, "end", "strong", "]]>");
        svg.push_str("</svg>");
        is_well_formed(&svg).unwrap();
        assert!(svg.contains("&lt;script&gt;") && svg.contains("x &amp; y <"), "{svg}");
    }
}
