//! Files of `shaders/` as text in the program: what stands behind the line `// ---- body`, cut out by the compiler.
//!
//! Browsers download the program, so for them comments, indentation and most spaces are cut too; natively the text
//! stays as its author wrote it, since people read it in goldens and error messages. Knows no kernel.

/// The body of the file of this name in `shaders/`, as a `&'static str`.
macro_rules! wgsl {
    ($name:literal) => {{
        const FILE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl"));
        const LENGTH: usize = $crate::kernels::wgsl::packed_length(FILE, cfg!(target_arch = "wasm32"));
        const BYTES: [u8; LENGTH] = $crate::kernels::wgsl::packed(FILE, cfg!(target_arch = "wasm32"));
        const TEXT: &str = $crate::kernels::wgsl::text(&BYTES);
        TEXT
    }};
}

pub(crate) use wgsl;

const MARK: &[u8] = b"// ---- body\n";

/// Where the body of a file begins: behind the mark, or at once.
const fn body_start(file: &[u8]) -> usize {
    let mut at = 0;
    while at + MARK.len() <= file.len() {
        let mut same = 0;
        while same < MARK.len() && file[at + same] == MARK[same] {
            same += 1;
        }
        if same == MARK.len() {
            return at + MARK.len();
        }
        at += 1;
    }
    0
}

/// Takes bytes over one by one; what it leaves out depends on what came before.
#[derive(Clone, Copy)]
struct Packer {
    /// The last byte that was kept; a newline at the beginning of a line.
    last: u8,
    in_comment: bool,
    /// Spaces lie between the last byte and this one.
    spaced: bool,
}

/// At the beginning of a body.
const START: Packer = Packer { last: b'\n', in_comment: false, spaced: false };

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.'
}

const fn ends_a_token(byte: u8) -> bool {
    matches!(byte, b'\n' | b',' | b';' | b':' | b'(' | b')' | b'{' | b'}' | b'[' | b']')
}

impl Packer {
    /// How many spaces and how many bytes of its own (each 0 or 1) this byte adds.
    const fn take(&mut self, byte: u8, next: u8) -> (usize, usize) {
        if byte == b'\n' {
            let wanted = self.last != b'\n';
            *self = START;
            return (0, wanted as usize);
        }
        if self.in_comment || byte == b'/' && next == b'/' {
            self.in_comment = true;
            return (0, 0);
        }
        if byte == b' ' {
            self.spaced = true;
            return (0, 0);
        }
        // Words would grow together, and so would operators.
        let apart = is_word(self.last) == is_word(byte) && !ends_a_token(self.last) && !ends_a_token(byte);
        let space = self.spaced && apart;
        (self.last, self.spaced) = (byte, false);
        (space as usize, 1)
    }
}

/// Bytes of the body of a file; without comments, indentation and empty lines if it is to be `tight`.
pub(crate) const fn packed_length(file: &str, tight: bool) -> usize {
    let bytes = file.as_bytes();
    let (mut at, mut length) = (body_start(bytes), 0);
    let mut packer = START;
    while at < bytes.len() {
        let next = if at + 1 < bytes.len() { bytes[at + 1] } else { 0 };
        let (spaces, own) = if tight { packer.take(bytes[at], next) } else { (0, 1) };
        (at, length) = (at + 1, length + spaces + own);
    }
    length
}

/// The body itself, in the `N` bytes that [`packed_length`] says.
pub(crate) const fn packed<const N: usize>(file: &str, tight: bool) -> [u8; N] {
    let bytes = file.as_bytes();
    let (mut at, mut length, mut kept) = (body_start(bytes), 0, [b' '; N]);
    let mut packer = START;
    while at < bytes.len() {
        let next = if at + 1 < bytes.len() { bytes[at + 1] } else { 0 };
        let (spaces, own) = if tight { packer.take(bytes[at], next) } else { (0, 1) };
        if own == 1 {
            kept[length + spaces] = bytes[at];
        }
        (at, length) = (at + 1, length + spaces + own);
    }
    kept
}

/// The bytes of a file as text. Where it is not UTF-8 any more the program does not compile.
pub(crate) const fn text(bytes: &'static [u8]) -> &'static str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => panic!("a character of a shader was cut in two"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str =
        "const A: u32 = 1u;\n// ---- body\n// What it does.\nfn a() {\n\n    let x  = 4 / 2 - -1; // half\n    //\n}\n";

    #[test]
    fn the_body_stays_as_it_is_or_loses_what_no_compiler_reads() {
        const LOOSE: [u8; packed_length(SAMPLE, false)] = packed(SAMPLE, false);
        assert_eq!(text(&LOOSE), crate::kernels::spec::body(SAMPLE));
        const TIGHT: [u8; packed_length(SAMPLE, true)] = packed(SAMPLE, true);
        assert_eq!(text(&TIGHT), "fn a(){\nlet x=4/2- -1;\n}\n");
    }

    #[test]
    fn no_shader_means_something_else_without_its_comments() {
        let mut files = 0;
        for folder in ["shaders", "shaders/lib"] {
            let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|extension| extension != "wgsl") {
                    continue;
                }
                let file = std::fs::read_to_string(&path).unwrap();
                let body = crate::kernels::spec::body(Box::leak(file.clone().into_boxed_str()));
                let mut tight = [0; 1 << 15];
                let length = packed_length(&file, true);
                // The array is longer than the text: what lies behind it stays blank.
                tight.copy_from_slice(&packed::<{ 1 << 15 }>(&file, true));
                let tight = std::str::from_utf8(&tight[..length]).unwrap();
                assert!(!tight.contains("//") && !tight.contains("\n ") && !tight.contains(" \n"), "{path:?}");
                let solid = |text: &str| -> String {
                    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
                    code.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect()
                };
                assert_eq!(solid(tight), solid(body), "{path:?}");
                // What is separated by spaces stays so between two words.
                let words = |text: &str| {
                    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
                    code.flat_map(|line| line.split(|c| !word(c)))
                        .filter(|w| !w.is_empty())
                        .map(String::from)
                        .collect::<Vec<_>>()
                };
                assert_eq!(words(tight), words(body), "{path:?}");
                files += 1;
            }
        }
        assert!(files > 40, "{files}");
    }
}
