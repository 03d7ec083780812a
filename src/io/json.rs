//! What a JSON text of somebody else may cost, looked at before it is read; and strings for texts of our own.
//!
//! Reading gives every string and every map its own place in memory, however few bytes it had in the text: six bytes
//! can become two hundred. So marks are counted first, and a text whose values would take far more than its size is
//! refused. Knows nothing of what the values mean; depth is the reader's to limit (`serde_json` stops at 128).

/// Bytes that any text may cost.
const ALLOWANCE: u64 = 16 << 20;
/// And beyond that, for each byte of the file that it came with.
const FACTOR: u64 = 2;

/// Refuses a text whose values might take more than 16 MiB and twice the bytes of the file that it came with.
pub fn check_cost(text: &[u8], file_bytes: u64) -> Result<(), String> {
    // Half of a string with its place in a map that has just grown; a map; a place in a list that has just grown.
    let cost = |byte: &u8| match byte {
        b'"' => 48,
        b'{' => 96,
        b',' => 24,
        _ => 0,
    };
    let total = text.iter().map(cost).fold(0u64, u64::saturating_add);
    let budget = file_bytes.saturating_mul(FACTOR).saturating_add(ALLOWANCE);
    match total > budget {
        true => Err(format!("reading it might take {total} bytes of memory; a file of its size may take {budget}")),
        false => Ok(()),
    }
}

/// A string of JSON (RFC 8259, section 7). All that a page needs of writing JSON, which `serde_json` would bring whole.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\0'..=' ' if letter != ' ' => quoted += &format!("\\u{:04x}", u32::from(letter)),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_read_back_as_it_was() {
        let texts = ["", "a \"b\" \\c/", "line\n\ttab\u{0}\u{1f}\u{7f}", "ä\u{2028}\u{1f600}"];
        for text in texts {
            assert_eq!(serde_json::from_str::<String>(&quoted(text)).unwrap(), text, "{}", quoted(text));
        }
        assert_eq!(quoted("\n\""), r#""\u000a\"""#);
    }

    #[test]
    fn short_texts_may_be_anything_and_long_ones_must_hold_something() {
        assert_eq!(check_cost("{\"a\":\"\"},".repeat(10_000).as_bytes(), 0), Ok(()));
        let crowd = "\"a\":\"\",".repeat(1 << 20);
        assert!(check_cost(crowd.as_bytes(), crowd.len() as u64).unwrap_err().contains("memory"));
        assert_eq!(check_cost(crowd.as_bytes(), 1 << 30), Ok(()));
        let long = format!("\"{}\"", "a".repeat(32 << 20));
        assert_eq!(check_cost(long.as_bytes(), long.len() as u64), Ok(()));
    }
}
