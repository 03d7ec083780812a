//! The house rules that a machine can hold: the order of modules, where wgpu may be named, sizes
//! of files, and that every kernel file is used.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules in reading order: each may use only those above it.
const ORDER: &[&str] = &[
    "error",
    "shape",
    "dtype",
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

#[test]
fn files_stay_readable() {
    let mut long = Vec::new();
    for path in files("src", "rs").into_iter().chain(files("tests", "rs")).chain(files("examples", "rs")) {
        let lines = fs::read_to_string(&path).expect("a source file").lines().count();
        let name = path.display().to_string();
        let most = if name.starts_with("examples") { 150 } else { 700 };
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
