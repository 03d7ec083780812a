//! What a JSON text of somebody else may cost, looked at before it is read.
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

#[cfg(test)]
mod tests {
    use super::*;

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
