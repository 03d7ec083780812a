//! Holes that readers of weights and models had, rebuilt from their descriptions: what must be refused is refused, in
//! words that say why, and without the memory that the file asks for.

use super::allocations::measured;
use super::parsers;
use wgrad::io::onnx;
use wgrad::io::safetensors::Weights;
use wgrad::io::{files, images};

/// A safetensors file of this header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn entry(name: &str, dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}")
}

/// The reason against a file, which must be found with little memory.
fn refused(bytes: &[u8]) -> String {
    let (result, held) = measured(|| Weights::from_bytes("w", bytes));
    assert!(held <= 3 * bytes.len() as u64 + (16 << 20), "{held} bytes were held");
    match result {
        Ok(weights) => panic!("{} tensors were read", weights.tensors.len()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn malformed_safetensors_are_refused() {
    let one = |shape: &str, from: u64, to: u64, data: usize| {
        file(&format!("{{{}}}", entry("a", "F32", shape, from, to)), data)
    };
    let two = |first: String, second: String, data: usize| file(&format!("{{{first},{second}}}"), data);
    let mut beyond = file("{}", 0);
    beyond[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut longer = file("{}", 0);
    longer[0] = 3;
    let (max, half) = (u64::MAX, u64::MAX / 2 + 1);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no length", vec![1, 0, 0]),
        ("a header beyond the file", longer),
        ("a header of 2^64 bytes", beyond),
        ("no JSON", file("not json", 0)),
        ("no UTF-8", [&6u64.to_le_bytes()[..], &[b'{', b'"', 0xff, b'"', b':', b'}']].concat()),
        ("a list", file("[]", 0)),
        ("data that nothing names", file("{}", 8)),
        ("data that is cut off", one("[2]", 0, 8, 4)),
        ("a hole before", one("[1]", 4, 8, 8)),
        ("a hole between", two(entry("a", "U8", "[2]", 0, 2), entry("b", "U8", "[2]", 4, 6), 6)),
        ("an overlap", two(entry("a", "U8", "[4]", 0, 4), entry("b", "U8", "[4]", 2, 6), 6)),
        ("two at one place", two(entry("a", "U8", "[4]", 0, 4), entry("b", "U8", "[4]", 0, 4), 4)),
        ("the same name twice", two(entry("a", "U8", "[2]", 0, 2), entry("a", "U8", "[2]", 2, 4), 4)),
        ("the same name twice at one place", two(entry("a", "U8", "[2]", 0, 2), entry("a", "U8", "[2]", 0, 2), 2)),
        ("metadata twice", file("{\"__metadata__\":{\"k\":\"a\",\"k\":\"b\"}}", 0)),
        ("two sets of metadata", file("{\"__metadata__\":{},\"__metadata__\":{}}", 0)),
        ("offsets that run backwards", one("[1]", 4, 0, 4)),
        ("offsets that overflow", two(entry("a", "U8", "[0]", 0, 0), entry("b", "U8", "[1]", max, 0), 1)),
        ("a shape that overflows", one(&format!("[{half},2]"), 0, 4, 4)),
        ("a shape that overflows with its type", one(&format!("[{}]", half / 2), 0, 0, 0)),
        ("a shape of nothing that overflows beside it", one(&format!("[0,{half},{half}]"), 0, 0, 0)),
        ("a shape of less than the data", one("[1]", 0, 8, 8)),
        ("a negative size", one("[-1]", 0, 4, 4)),
        ("a size that is no integer", one("[1.5]", 0, 4, 4)),
        ("a type that there is not", file(&format!("{{{}}}", entry("a", "Q4", "[1]", 0, 1)), 1)),
        ("a type that is not read", file(&format!("{{{}}}", entry("a", "F64", "[1]", 0, 8)), 8)),
        ("metadata that is no text", file("{\"__metadata__\":{\"k\":1}}", 0)),
        ("maps within maps", file(&"{\"a\":".repeat(100_000), 0)),
        ("two tensors of nearly 2^63 bytes", {
            let size = 0x7FFF_FFFF_FFFF_FFC0u64;
            two(entry("a", "U8", &format!("[{size}]"), 0, size), entry("b", "U8", &format!("[{size}]"), size, max), 0)
        }),
    ];
    for (what, bytes) in &cases {
        let message = refused(bytes);
        assert!(message.starts_with("w is not a valid safetensors file"), "{what}: {message}");
    }
}

#[test]
fn a_header_that_would_take_much_memory_is_refused_before_it_is_read() {
    let names =
        |count: usize| (0..count).map(|i| entry(&format!("{i:x}"), "U8", "[]", 0, 0)).collect::<Vec<_>>().join(",");
    assert!(refused(&file(&format!("{{{}}}", names(200_000)), 0)).contains("memory"));
    let text = (0..600_000).map(|i| format!("\"{i:x}\":\"\"")).collect::<Vec<_>>().join(",");
    assert!(refused(&file(&format!("{{\"__metadata__\":{{{text}}}}}"), 0)).contains("memory"));
    let rank = format!("[{}0]", "1,".repeat(4 << 20));
    assert!(refused(&file(&format!("{{{}}}", entry("a", "U8", &rank, 0, 0)), 0)).contains("memory"));
    // As many tensors as a large model has, each of one byte, are read within the bound.
    let many: Vec<String> = (0..10_000u64).map(|i| entry(&format!("layer.{i}.w"), "U8", "[1]", i, i + 1)).collect();
    let bytes = file(&format!("{{{}}}", many.join(",")), 10_000);
    parsers::safetensors(&bytes);
    assert_eq!(Weights::from_bytes("w", &bytes).expect("a file").tensors.len(), 10_000);
    let mut long = file("{}", 0);
    long[..8].copy_from_slice(&100_000_001u64.to_le_bytes());
    long.resize(100_000_009, b' ');
    assert!(refused(&long).contains("100000000"));
}

#[test]
fn pickles_are_never_read_and_the_message_says_how_to_convert() {
    let zip = b"PK\x03\x04\x14\x00\x08\x08archive/data.pkl".to_vec();
    for bytes in [zip, b"\x80\x02}q\x00(X\x01\x00\x00\x00wq\x01".to_vec(), b"\x80\x04\x95\x10".to_vec()] {
        let message = refused(&bytes);
        assert!(message.contains("pickle") && message.contains("safetensors.torch.save_file"), "{message}");
        assert!(onnx::Model::parse(&bytes).is_err() && images::image_of_bytes("x", &bytes, 4, 3).is_err());
    }
}

/// Field `number` of the wire format with these bytes.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn model_refused(bytes: &[u8]) -> String {
    let (result, held) = measured(|| onnx::Model::parse(bytes));
    assert!(held <= 3 * bytes.len() as u64 + (16 << 20), "{held} bytes were held");
    result.map(|_| ()).expect_err("a hostile model").to_string()
}

#[test]
fn protobuf_that_nests_or_swells_is_refused() {
    // RUSTSEC-2024-0437: messages within messages, each of which takes a part of the stack.
    let mut graph = Vec::new();
    for _ in 0..5000 {
        graph = field(1, &field(5, &field(6, &graph)));
    }
    assert!(model_refused(&field(7, &graph)).contains("deep"));
    // Groups, the old way to nest, are not skipped but refused.
    assert!(model_refused(&[0x0b; 100_000]).contains("wire type 3"));
    // Unknown fields by the million must cost nothing.
    let unknown: Vec<u8> = [varint(1000 << 3), vec![1]].concat().repeat(1 << 20);
    let (_, held) = measured(|| onnx::Model::parse(&unknown));
    assert!(held <= 3 * unknown.len() as u64 + (16 << 20), "{held} bytes were held");
    // Two bytes become a message of two hundred.
    let nodes: Vec<u8> = [10, 0].repeat(1 << 20);
    assert!(model_refused(&field(7, &nodes)).contains("memory"));
}

/// A tensor of two floats whose elements lie elsewhere: location, offset, length and whatever else it says.
fn external(entries: &[(&str, &str)]) -> Vec<u8> {
    let pair = |key: &str, value: &str| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let data: Vec<u8> = entries.iter().flat_map(|(key, value)| pair(key, value)).collect();
    [vec![0x08, 2, 0x10, 1], field(8, b"w"), data, vec![0x70, 1]].concat()
}

/// CVE-2022-25882, 2024-27318, 2026-27489 (paths that lead out), 2026-34446 and 34447 (hard and symbolic links),
/// GHSA-538c-55jv-c5g9 (keys, negative and enormous lengths): other files are not read at all.
#[test]
fn data_in_other_files_is_never_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let there = dir.path().join("weights.bin");
    std::fs::write(&there, [0u8; 8]).expect("a file");
    let cases: &[&[(&str, &str)]] = &[
        &[("location", there.to_str().expect("a path"))],
        &[("location", "weights.bin")],
        &[("location", "../../../etc/passwd")],
        &[("location", "/etc/passwd")],
        &[("location", "a/../../b")],
        &[("location", "..\\..\\windows\\win.ini")],
        &[("location", "weights.bin"), ("offset", "-1")],
        &[("location", "weights.bin"), ("length", "-8")],
        &[("location", "weights.bin"), ("length", "1125899906842624")],
        &[("location", "weights.bin"), ("offset", "18446744073709551615"), ("length", "8")],
        &[("__class__", "x"), ("location", "weights.bin")],
        &[],
    ];
    for entries in cases {
        let tensor = external(entries);
        let message = onnx::parse_tensor(&tensor).expect_err("data elsewhere").to_string();
        assert!(message.contains("another file"), "{message}");
        parsers::onnx_tensor(&tensor);
        parsers::onnx(&field(7, &field(5, &tensor)));
    }
}

#[test]
fn tensors_that_claim_more_than_they_have_are_refused_before_memory_is_taken() {
    let tensor = |dims: &[u64], raw: usize| {
        let dims: Vec<u8> = dims.iter().flat_map(|&size| [vec![0x08], varint(size)].concat()).collect();
        [dims, vec![0x10, 1], field(9, &vec![0; raw])].concat()
    };
    let huge = 1u64 << 62;
    for dims in [&[huge][..], &[1 << 30, 4], &[huge, huge], &[0, huge, huge], &[u64::MAX], &[1 << 40], &[3]] {
        let bytes = tensor(dims, 8);
        let (result, held) = measured(|| onnx::parse_tensor(&bytes));
        assert!(result.is_err() && held < 1 << 20, "{dims:?} took {held} bytes");
    }
}

/// Found by fuzzing: half a billion elements of one, whose places were all computed before anything was refused.
#[test]
fn an_axis_that_is_resized_beyond_measure_is_refused_before_it_is_computed() {
    let ((), held) = measured(|| parsers::onnx(include_bytes!("../../../fuzz/corpus/onnx/Resize-enormous")));
    assert!(held < 64 << 20, "{held} bytes were held");
}

/// Found by fuzzing: 119 bytes whose transform of 2304 elements had its two tables of cosines and sines computed while
/// importing, for seconds and in 170 MB.
#[test]
fn a_long_transform_is_no_long_import() {
    let ((), held) = measured(|| parsers::onnx(include_bytes!("../../../fuzz/corpus/onnx/DFT-long")));
    assert!(held < 8 << 20, "{held} bytes were held");
}

/// Found by fuzzing: a palette and a sampling on which the decoders panic, and 315 bytes that were drawn over half a gigabyte for five seconds.
#[test]
fn images_that_a_decoder_does_not_look_at_closely_are_refused_before_it_sees_them() {
    let palette: &[u8] = include_bytes!("../../../fuzz/corpus/image/palette-of-131.png");
    let enormous: &[u8] = include_bytes!("../../../fuzz/corpus/image/enormous.jpg");
    let finer: &[u8] = include_bytes!("../../../fuzz/corpus/image/finer-colours.jpg");
    let reasons = [
        (palette, "palette of 131 bytes"),
        (enormous, "a file of 315 bytes cannot hold"),
        (finer, "finer than its brightness"),
    ];
    for (bytes, reason) in reasons {
        let (result, held) = measured(|| images::image_of_bytes("given.png", bytes, 8, images::CHANNELS));
        let message = result.expect_err("no image").to_string();
        assert!(message.contains(reason) && message.contains("given.png"), "{message}");
        assert!(held < 1 << 20, "{held} bytes were held");
    }
}

#[test]
fn what_nests_without_end_is_refused_where_it_is_read() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(20_000), close.repeat(20_000)).into_bytes();
    let [lists, maps] = [deep("[", "]"), deep("{\"a\":", "}")];
    for json in [&lists, &maps] {
        let manifest = [b"{\"metadata\":", json.as_slice()].concat();
        parsers::checkpoint(&manifest);
        let table = [b"{\"format\":1,\"adapters\":{\"a\":", json.as_slice(), b"}}"].concat();
        parsers::choices(&table);
        let text = String::from_utf8(table).expect("text");
        assert!(wgrad::io::choices::ChoiceFile::parse(&text).is_err());
        parsers::metrics(&[json.as_slice(), b"\n"].concat());
    }
    for toml in [[b"train = ".as_slice(), &lists].concat(), deep("a = {", "}"), deep("a.", "")] {
        assert!(toml.len() <= 1 << 17);
        parsers::config(&toml);
        let text = String::from_utf8(toml).expect("text");
        assert!(wgrad::train::config::Config::from_toml("c", &text).is_err());
    }
}

#[test]
fn what_is_no_regular_file_is_not_waited_for() {
    let message = Weights::load("/dev/zero").expect_err("no file").to_string();
    assert!(message.contains("not a regular file"), "{message}");
    assert!(files::read_text(std::path::Path::new("/dev/zero"), 8).is_err());
}
