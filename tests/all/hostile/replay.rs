//! The corpora of `fuzz/`, as they are and changed, through the functions that are fuzzed.

use super::allocations::measured;
use super::parsers::ALL;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// Changed files of each corpus: `WGRAD_MUTATIONS`.
fn mutations() -> usize {
    std::env::var("WGRAD_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(4000)
}

/// SplitMix64 (Steele et al. 2014): the same changes in every run.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// What numbers are replaced by, as text and as bytes.
const WORDS: [&[u8]; 12] = [
    b"-1",
    b"18446744073709551615",
    b"9223372036854775807",
    b"4611686018427387904",
    b"1e400",
    b"null",
    b"[",
    b"\"",
    &[0xff; 8],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
    &[0, 0, 0, 0x80],
    &[0],
];

/// One change of a file, or several.
fn changed(file: &[u8], other: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..1 + draw.below(3) {
        let at = draw.below(bytes.len() + 1);
        let end = (at + draw.below(9)).min(bytes.len());
        match draw.below(7) {
            0 => bytes.truncate(at),
            1 | 2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (draw.next() % 8)),
            3 => drop(bytes.splice(at..end, WORDS[draw.below(WORDS.len())].iter().copied())),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let part = bytes[at..end].repeat(1 + draw.below(40));
                bytes.splice(at..at, part);
            }
            _ => {
                let from = draw.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
        }
    }
    bytes
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a file of the corpus")).collect()
}

#[test]
fn no_parser_panics_or_takes_memory_beyond_measure() {
    let mut wrong = Vec::new();
    for (target, parser) in ALL {
        let files = corpus(target);
        assert!(files.len() >= 3, "{target} has no corpus");
        let mut draw = Draw(7);
        let mut harm = |file: &[u8], what: String| {
            if std::panic::catch_unwind(|| parser(file)).is_err() {
                let kept = std::env::temp_dir().join(format!("wgrad-{target}-{}", wrong.len()));
                let kept = std::fs::write(&kept, file).map(|()| kept.display().to_string());
                wrong.push(format!("{target}, {what}, kept as {kept:?}"));
            }
        };
        for (number, file) in files.iter().enumerate() {
            harm(file, format!("file {number}"));
        }
        for round in 0..mutations() {
            let (file, other) = (draw.below(files.len()), draw.below(files.len()));
            harm(&changed(&files[file], &files[other], &mut draw), format!("round {round} of file {file}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Texts and bytes of a mebibyte that are small steps repeated, nested or never ended.
fn megabytes(files: &[Vec<u8>]) -> Vec<Vec<u8>> {
    const SIZE: usize = 1 << 20;
    let marks: [&[u8]; 12] = [
        b"[",
        b"{\"a\":",
        b"a=[",
        b"a.",
        b"[[a.",
        b"\"",
        b"\n",
        b"{\"step\":1,",
        &[0],
        &[0xff],
        &[0x0a, 0x02],
        &[0x3a, 0x80, 0x80, 0x40],
    ];
    let repeated = |part: &[u8]| part.iter().copied().cycle().take(SIZE).collect::<Vec<u8>>();
    let mut all: Vec<Vec<u8>> = marks.into_iter().map(repeated).collect();
    for file in files.iter().filter(|file| !file.is_empty()).take(6) {
        all.push(repeated(file));
        // As it begins, and then the same few bytes for ever.
        for mark in [marks[0], marks[1], marks[8], marks[10]] {
            let mut bytes = file[..file.len() / 2].to_vec();
            bytes.extend(repeated(mark));
            all.push(bytes);
        }
    }
    all
}

/// The promise is a second for each megabyte; what is not linear in it takes hours, and is found on the slowest machine.
#[test]
fn no_parser_hangs_on_a_megabyte() {
    const MOST: Duration = Duration::from_secs(120);
    for (target, parser) in ALL {
        let inputs = megabytes(&corpus(target));
        let all = inputs.len();
        let (done, outcome) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for bytes in inputs {
                let start = Instant::now();
                parser(&bytes);
                if done.send(start.elapsed()).is_err() {
                    return;
                }
            }
        });
        let (mut slowest, mut count) = (Duration::ZERO, 0);
        loop {
            match outcome.recv_timeout(MOST) {
                Ok(took) => (slowest, count) = (slowest.max(took), count + 1),
                Err(RecvTimeoutError::Timeout) => panic!("{target}: input {count} takes more than {MOST:?}"),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        println!("{target}: {count} inputs, the slowest {slowest:?}");
        assert_eq!(count, all, "{target}: it panicked at input {count}");
    }
}

#[test]
fn what_a_parser_holds_is_counted() {
    let (kept, held) = measured(|| drop(vec![0u8; 1 << 20]));
    assert!((1 << 20..1 << 21).contains(&held), "{held} {kept:?}");
}
