//! A look at a file's header before it is read: what it would cost, and whether a name occurs twice.
//!
//! A hash map keeps the last of two equal names, so that two readers may see two different files. Knows the header's
//! outer form (names, each with a value, and one map of text), and leaves what values mean to the reader.

use crate::io::json::check_cost;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// Bytes of a header; the format's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// Refuses a header that is too long, would cost too much, or names something twice. What is no header at all is
/// left to the reader, which has the words for it.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    let Some((size, rest)) = bytes.split_first_chunk::<8>() else { return Ok(()) };
    let size = u64::from_le_bytes(*size);
    let Some(header) = usize::try_from(size).ok().and_then(|size| rest.get(..size)) else { return Ok(()) };
    if size > MAX_HEADER {
        return Err(format!("its header has {size} bytes; the format allows {MAX_HEADER}"));
    }
    check_cost(header, bytes.len() as u64).map_err(|message| format!("its header is refused: {message}"))?;
    let mut reader = serde_json::Deserializer::from_slice(header);
    match (Names { inner: false }).deserialize(&mut reader) {
        Err(e) if e.to_string().contains(TWICE) => Err(format!("its header {e}")),
        _ => Ok(()),
    }
}

const TWICE: &str = "has two entries named";

/// A map whose names must differ.
struct Names {
    /// Within the map of text, which has no further maps.
    inner: bool,
}

impl<'de> DeserializeSeed<'de> for Names {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Names {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let mut known: HashSet<String> = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !self.inner && name == "__metadata__" {
                map.next_value_seed(Names { inner: true })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            if known.contains(&name) {
                return Err(M::Error::custom(format_args!("{TWICE} `{name}`")));
            }
            known.insert(name);
        }
        Ok(())
    }
}
