//! The library in Chromium, by the suites of `web/test`: kernels, rows, package and site. A binary of its own, so that nothing else
//! runs beside a browser.
//!
//! They need node 20, npm, a Chromium, and Rust's wasm target and rust-src component. Without those they say so, loudly, and pass:
//! `WGRAD_BROWSER=required` makes that a failure.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// One at a time: a browser on a software adapter takes every core.
static TURN: Mutex<()> = Mutex::new(());

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a program prints, if it can be run.
fn output(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// What the suites need and this machine lacks, with what to do.
fn missing() -> &'static [String] {
    static MISSING: OnceLock<Vec<String>> = OnceLock::new();
    MISSING.get_or_init(|| {
        let mut missing = Vec::new();
        let version = output("node", &["--version"]).unwrap_or_default();
        let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < 20) {
            let found = if version.is_empty() { "none".to_string() } else { version };
            missing
                .push(format!("node 20 or newer (found: {found}); https://nodejs.org, or Debian's package `nodejs`"));
        }
        if output("npm", &["--version"]).is_none() {
            missing.push("npm; it comes with node, or as Debian's package `npm`".into());
        }
        let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into());
        if !Path::new(&chromium).exists() {
            missing.push(format!("Chromium at {chromium}; Debian's package `chromium`, or CHROMIUM=path"));
        }
        let library = output("rustc", &["--print", "target-libdir", "--target", "wasm32-unknown-unknown"]);
        if library.is_none_or(|folder| !Path::new(&folder).exists()) {
            missing.push("Rust's target; `rustup target add wasm32-unknown-unknown`".into());
        }
        // The page's program is built with its own standard library (`web/build.sh`).
        let root = output("rustc", &["--print", "sysroot"]);
        if root.is_none_or(|folder| !Path::new(&folder).join("lib/rustlib/src/rust/library").exists()) {
            missing.push("the sources of Rust's standard library; `rustup component add rust-src`".into());
        }
        missing
    })
}

/// Whether the suites can run; says what is missing where they cannot.
///
/// # Panics
/// Where they cannot but must.
fn ready(suite: &str) -> bool {
    let missing = missing();
    if missing.is_empty() {
        return true;
    }
    let list = missing.iter().map(|what| format!("\n    {what}")).collect::<String>();
    let message = format!("SKIPPED: web/test/{suite} was not run in a browser. Missing:{list}");
    assert!(std::env::var("WGRAD_BROWSER").as_deref() != Ok("required"), "{message}");
    // Past the harness, which would keep it to itself.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("\n{message}\n").as_bytes());
    false
}

/// Runs a program in `web`; its output is shown where the harness shows a test's.
fn run(program: &str, words: &[&str]) {
    // Weights go from pages to the command line tool and back.
    let mut command = Command::new(program);
    command.args(words).current_dir(root().join("web")).env("WGRAD", env!("CARGO_BIN_EXE_wgrad"));
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{program} {words:?}: {error}"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    assert!(output.status.success(), "{program} {} failed:\n{text}", words.join(" "));
}

/// Builds once, however many suites want it.
fn built(done: &OnceLock<()>, script: &str) {
    done.get_or_init(|| {
        if !root().join("web/node_modules").exists() {
            run("npm", &["ci", "--no-audit", "--no-fund"]);
        }
        run("bash", &[script]);
    });
}

/// The package, its size and its types.
fn package() {
    static DONE: OnceLock<()> = OnceLock::new();
    built(&DONE, "build.sh");
    run("npm", &["run", "--silent", "types"]);
}

fn in_browser() {
    static DONE: OnceLock<()> = OnceLock::new();
    built(&DONE, "test/build.sh");
}

fn suite(name: &str, words: &[&str], build: fn()) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if ready(name) {
        build();
        let script = format!("test/{name}");
        let words: Vec<&str> = std::iter::once(script.as_str()).chain(words.iter().copied()).collect();
        run("node", &words);
    }
}

#[test]
fn every_kernel_is_compiled_by_the_browser() {
    suite("kernels.mjs", &[], in_browser);
}

#[test]
#[ignore = "minutes: nightly"]
fn every_kernel_becomes_a_pipeline_in_the_browser() {
    suite("kernels.mjs", &["--pipelines"], in_browser);
}

#[test]
fn rows_agree_with_the_reference_in_the_browser() {
    suite("rows.mjs", &["--few"], in_browser);
}

#[test]
#[ignore = "minutes: nightly"]
fn all_samples_of_rows_agree_with_the_reference_in_the_browser() {
    suite("rows.mjs", &[], in_browser);
}

#[test]
fn the_package_trains_in_the_browser() {
    suite("package.mjs", &[], package);
}

#[test]
fn a_fresh_project_trains_with_the_package() {
    suite("pack.mjs", &[], package);
}

#[test]
fn the_site_works_in_the_browser() {
    suite("site.mjs", &[], || {
        package();
        run("npm", &["run", "--silent", "site"]);
    });
}
