//! The house rules that a machine can hold: the order of modules, where wgpu may be named, sizes
//! of files, and that every kernel file is used.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules in reading order: each may use only those above it.
const ORDER: &[&str] = &[
    "error",
    "sort",
    "shape",
    "dtype",
    "cosine",
    "random",
    "graph",
    "tensor",
    "autodiff",
    "reference",
    "nn",
    "optim",
    "passes",
    "program",
    "kernels",
    "lower",
    "gpu",
    "io",
    "train",
    "cli",
    "web",
];

/// Flat tables may be longer than other files.
const FLAT: &[&str] = &["src/graph/pointwise.rs", "tests/all/ops/table.rs"];

/// Methods that no one needs a list for: options' builders, parts of gradients, and the general ones behind the others.
const INTERNAL: &[&str] = &[
    "$method",
    "apply",
    "pointwise",
    "output",
    "infer",
    "of",
    "keep_axes",
    "silu_grad",
    "gelu_grad",
    "gelu_tanh_grad",
    "stride",
    "padding",
    "dilation",
    "groups",
    "same",
    "ceil_mode",
    "with_count",
];

fn files(root: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(root)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|own| own == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix("src").unwrap_or(path);
    let first =
        inside.components().next().map(|part| part.as_os_str().to_string_lossy().to_string()).unwrap_or_default();
    first.trim_end_matches(".rs").to_string()
}

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|known| *known == module)
}

#[test]
fn modules_use_only_what_stands_above_them() {
    let mut wrong = Vec::new();
    for path in files("src", "rs") {
        let Some(own) = rank(&module_of(&path)) else { continue };
        let text = fs::read_to_string(&path).expect("a source file");
        for (number, line) in text.lines().enumerate() {
            for part in line.split("crate::").skip(1) {
                let name: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if rank(&name).is_some_and(|other| other > own) {
                    wrong.push(format!("{}:{}: uses `{name}`, which comes later", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_gpu_module_names_wgpu() {
    for path in files("src", "rs").iter().filter(|path| module_of(path) != "gpu" && module_of(path) != "lib") {
        let text = fs::read_to_string(path).expect("a source file");
        assert!(!text.contains("wgpu::"), "{} names wgpu", path.display());
    }
}

/// Where `unsafe` may stand, beside a `SAFETY` comment that says why it holds.
const UNSAFE: &[&str] = &[
    // The environment is changed before there is another thread.
    "src/main.rs",
    // Kernels check their indices, so that wgpu need not.
    "src/gpu/pipelines.rs",
    // What a driver is given back is what it gave: a seal says so.
    "src/gpu/kept.rs",
    // Matrix units, which wgpu calls experimental, are used only where they were compared first.
    "src/gpu/adapters.rs",
    // An allocator that counts is an unsafe trait; for tests and fuzzing alone.
    "fuzz/src/allocations.rs",
];

#[test]
fn unsafe_stands_only_where_it_is_known_to() {
    let folders = ["src", "tests", "examples", "fuzz/src", "fuzz/fuzz_targets"];
    for path in folders.iter().flat_map(|folder| files(folder, "rs")) {
        let text = fs::read_to_string(&path).expect("a source file");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let word = |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
        let name = path.display().to_string();
        // This file names it in texts.
        if code.clone().any(word) && name != "tests/all/tidy.rs" {
            assert!(UNSAFE.contains(&name.as_str()), "{name} is not among the files that may have unsafe code");
            assert!(text.contains("SAFETY: "), "{name} does not say why its unsafe code is sound");
        }
    }
    let library = fs::read_to_string("src/lib.rs").expect("the library");
    assert!(library.contains("#![deny(unsafe_code)]"));
}

#[test]
fn files_stay_readable() {
    let mut long = Vec::new();
    for path in files("src", "rs").into_iter().chain(files("tests", "rs")).chain(files("examples", "rs")) {
        let lines = fs::read_to_string(&path).expect("a source file").lines().count();
        let name = path.display().to_string();
        let most = if name.starts_with("examples") { 150 } else { 520 };
        if lines > most && !FLAT.contains(&name.as_str()) {
            long.push(format!("{name}: {lines} lines, at most {most}"));
        }
    }
    for path in files("shaders", "wgsl") {
        let lines = fs::read_to_string(&path).expect("a shader").lines().count();
        if lines > 300 && !path.display().to_string().contains("matmul") {
            long.push(format!("{}: {lines} lines, at most 300", path.display()));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_shader_file_is_named_by_a_kernel() {
    let sources: String =
        files("src", "rs").iter().map(|path| fs::read_to_string(path).expect("a source file")).collect();
    for path in files("shaders", "wgsl") {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().to_string()).unwrap_or_default();
        assert!(
            sources.contains(&format!("{stem}.wgsl")) || sources.contains(&format!("\"{stem}\"")),
            "no kernel uses {}",
            path.display()
        );
    }
}

/// Words in backticks outside parentheses.
fn quoted(text: &str) -> Vec<String> {
    let mut depth = 0usize;
    let outside: String = text
        .chars()
        .filter(|c| {
            depth = match c {
                '(' => depth + 1,
                ')' => depth.saturating_sub(1),
                _ => depth,
            };
            depth == 0
        })
        .collect();
    outside.split('`').skip(1).step_by(2).map(String::from).collect()
}

/// The methods of tensors in `src/tensor` and `src/graph`: `pub fn name(self`, and lines `name Row;` of the
/// tables of unary and binary methods.
fn tensor_methods() -> Vec<String> {
    let mut methods = Vec::new();
    for path in files("src/tensor", "rs").into_iter().chain(files("src/graph", "rs")) {
        let text = fs::read_to_string(&path).expect("a source file");
        let rows = ["\nunary_methods! {", "\nbinary_methods! {"].into_iter().filter_map(|head| text.split_once(head));
        for table in rows.filter_map(|(_, rest)| rest.split_once("\n}")) {
            let names = table.0.lines().filter_map(|line| line.trim().strip_suffix(';')?.split_once(' '));
            methods.extend(names.map(|(name, _)| name.to_string()));
        }
        for part in text.split("pub fn ").skip(1) {
            let end = part.find(['(', '<']).unwrap_or(0);
            let head: String = part.chars().take(200).filter(|c| !c.is_whitespace()).collect();
            if head[end..].starts_with("(self,") || head[end..].starts_with("(self)->Tensor<'g>") {
                methods.push(part[..end].to_string());
            }
        }
    }
    methods
}

#[test]
fn the_page_of_configuration_has_a_row_for_every_key_and_no_other() {
    let source = fs::read_to_string("src/train/config/keys.rs").expect("the table");
    let joined: String = source.split_whitespace().collect();
    let behind = |mark: &str| joined.split(mark).skip(1).map(str::to_string).collect::<Vec<String>>();
    let rows = ["key(\"", "text(\"", "flag(\""].into_iter().flat_map(behind);
    let keys: BTreeSet<String> = rows.filter_map(|rest| rest.split('"').next().map(str::to_string)).collect();
    assert!(keys.len() > 60, "only {} keys found", keys.len());
    let page = fs::read_to_string("docs/configuration.md").expect("the page");
    let named = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_string));
    let named: BTreeSet<String> = named.collect();
    assert_eq!(keys, named);
}

#[test]
fn the_page_of_operations_names_what_there_is() {
    let page = fs::read_to_string("docs/operations.md").expect("the page");
    let rows: String = page.lines().filter(|line| line.starts_with("| ")).collect();
    let named = quoted(&rows);
    assert!(named.len() > 200, "only {} operations are named", named.len());
    let sources: String = ["src/tensor", "src/graph"]
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .map(|path| fs::read_to_string(path).expect("a source file"))
        .collect();
    let methods = tensor_methods();
    let exists = |name: &String| {
        methods.contains(name) || ["(", "<"].iter().any(|end| sources.contains(&format!("fn {name}{end}")))
    };
    let unknown: Vec<&String> =
        named.iter().filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_') && !exists(name)).collect();
    assert!(unknown.is_empty(), "docs/operations.md names what there is not: {unknown:?}");
    let all = quoted(&page);
    let missing: Vec<&String> =
        methods.iter().filter(|name| !all.contains(name) && !INTERNAL.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "docs/operations.md does not name: {missing:?}");
}
