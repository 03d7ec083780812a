//! Numbers, tables and generated text for a person to read.

use crate::program::Memory;

/// 875264 as `875,264`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the unit that gives a readable number.
pub fn bytes(n: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| n >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", n as f64 / size as f64),
        None => format!("{n} bytes"),
    }
}

/// The peak and what it is made of.
pub fn memory(memory: &Memory) -> String {
    let parts = [
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("optimizer", memory.optimizer),
        ("other state", memory.other_state),
        ("activations", memory.transient),
        ("inputs and uniforms", memory.io),
        ("readback", memory.readback),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {}", bytes(*n))).collect();
    format!("{} at most: {}", bytes(memory.total()), parts.join(", "))
}

/// Rows in columns as wide as their widest word. The first and the last column are aligned left, those between right.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().enumerate().map(|(i, word)| match i {
            0 => format!("{word:<0$}", widths[i]),
            _ if i + 1 == N => word.clone(),
            _ => format!("{word:>0$}", widths[i]),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Bytes that a model writes, as characters that are safe on a terminal.
#[derive(Default)]
pub struct Utf8 {
    pending: Vec<u8>,
}

impl Utf8 {
    /// Takes one byte; the text that is complete with it, which may be empty.
    pub fn push(&mut self, byte: u8) -> String {
        self.pending.push(byte);
        match std::str::from_utf8(&self.pending) {
            Ok(text) => {
                // Control characters could do anything to a terminal.
                let safe = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{FFFD}' } else { c };
                let text = text.chars().map(safe).collect();
                self.pending.clear();
                text
            }
            // The beginning of a character: wait for the rest.
            Err(e) if e.error_len().is_none() => String::new(),
            Err(_) => {
                // The byte that broke the sequence may begin another.
                let last = self.pending.len() - 1;
                let again = if last > 0 { self.pending.split_off(last) } else { Vec::new() };
                self.pending.clear();
                again.into_iter().fold("\u{FFFD}".to_string(), |text, byte| text + &self.push(byte))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_bytes_have_units() {
        assert_eq!([0, 999, 1000, 875_264].map(thousands), ["0", "999", "1,000", "875,264"]);
        assert_eq!([512, 1536, 3 << 20].map(bytes), ["512 bytes", "1.5 KiB", "3.0 MiB"]);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["class", "right", "for"], ["naïve", "5", "x (1)"], ["b", "10", ""]];
        let text = table(&rows.map(|row| row.map(String::from)));
        assert_eq!(text, "class  right  for\nnaïve      5  x (1)\nb         10\n");
    }

    #[test]
    fn broken_characters_and_controls_are_replaced() {
        let text = |bytes: &[u8]| {
            let mut utf8 = Utf8::default();
            bytes.iter().map(|&byte| utf8.push(byte)).collect::<String>()
        };
        assert_eq!(text("añ\n✓".as_bytes()), "añ\n✓");
        assert_eq!(text(b"\x1b[1m\xff"), "\u{FFFD}[1m\u{FFFD}");
        assert_eq!(text(b"\xe2\x9cok\xc3\xc3\xb1"), "\u{FFFD}ok\u{FFFD}ñ");
    }
}
