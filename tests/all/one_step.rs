//! `docs/one-step.md` shows the texts of one training step after each stage of the compiler. They are
//! generated here and compared; `WGRAD_BLESS=1` writes them into the document instead.
//!
//! A block of the document that is compared begins with ```` ```text NAME ```` or ```` ```rust NAME ````.

use std::fs;
use std::process::Command;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::kernels::Profile;
use wgrad::nn::Parameters;
use wgrad::nn::models::Mlp;
use wgrad::optim::AdamW;
use wgrad::program::{Program, StateLayout};
use wgrad::train::{Plan, Trainer, TrainerBuilder};
use wgrad::{Result, passes};

const DOCUMENT: &str = "docs/one-step.md";

// begin model
/// A perceptron 6-8-4 on batches of 4: cross-entropy, gradients clipped to norm 1, AdamW.
fn model() -> (TrainerBuilder, impl for<'g> Fn(&'g Graph) -> Tensor<'g>) {
    let mut parameters = Parameters::new();
    let mlp = Mlp::new(&mut parameters, &[6, 8, 4]);
    let trainer = Trainer::builder(parameters).optimizer(AdamW::new()).lr(1e-3).clip(1.0);
    (trainer, move |graph: &Graph| {
        let x_bi = graph.input("x", [4, 6], DType::F32);
        let y_b = graph.input("y", [4], DType::I32);
        mlp.forward(x_bi).cross_entropy(y_b)
    })
}
// end model

/// The text of each block, by its name.
fn blocks() -> Result<Vec<(&'static str, String)>> {
    let (trainer, loss) = model();
    let [micro, update, forward] = trainer.trace(&loss)?;
    let Plan { layout, programs, memory, .. } = trainer.plan(&Profile::baseline(), &loss)?;
    let forward = forward.to_text();
    let gradients =
        micro.to_text().lines().filter(|line| !forward.contains(line)).map(|line| format!("{line}\n")).collect();
    assert_eq!(
        passes::run(&update)?.to_text(),
        update.to_text(),
        "the document says that passes leave the update alone"
    );
    let total = memory.total();
    Ok(vec![
        ("model", between(include_str!("one_step.rs"), "// begin model\n", "// end model")),
        ("forward", forward),
        ("gradients", gradients),
        ("update", one_parameter(&update.to_text())),
        ("passes", passes::run(&micro)?.to_text()),
        ("state", state(&layout)),
        ("micro-step", programs[0].to_text()),
        ("update-program", programs[1].to_text()),
        ("kernel", fused(&programs[0])),
        ("memory", format!("{memory:#?}\ntotal: {total} bytes\n")),
        ("executor", "impl Recorder<'_> {\n    // ...\n\n".to_string() + &between(EXECUTOR, EXECUTOR_STARTS, "\0")),
    ])
}

/// The source of the executor's loop, and where it starts: the last function of its file.
const EXECUTOR: &str = include_str!("../../src/gpu/run.rs");
const EXECUTOR_STARTS: &str = "    /// Steps in one pass, or in several submissions where they would take too long.\n";

/// The text from after `start` to before `end` or the end of the text; `start` stays where it is a line of code.
fn between(text: &str, start: &str, end: &str) -> String {
    let rest = text.split_once(start).map_or("", |(_, rest)| rest);
    let inside = rest.split_once(end).map_or(rest, |(inside, _)| inside);
    if start.starts_with("// ") { inside.to_string() } else { format!("{start}{inside}") }
}

/// The update's text with what is said of the first parameter only.
fn one_parameter(text: &str) -> String {
    let assigns: Vec<usize> =
        text.lines().enumerate().filter(|(_, line)| line.contains("= assign")).map(|(i, _)| i).collect();
    let (first, last) = (assigns[2], assigns[assigns.len() - 1]);
    let lines = text.lines().enumerate();
    lines
        .filter(|(i, _)| *i <= first + 1 || *i > last)
        .map(|(i, line)| if i == first + 1 { "...\n".to_string() } else { format!("{line}\n") })
        .collect()
}

/// Bindings and fused code of the first kernel of a program.
fn fused(program: &Program) -> String {
    let wgsl = program.kernels.first().map_or("", |kernel| kernel.wgsl.as_str());
    let hook = between(wgsl, "@group(0) @binding(0)", "\n}\nvar<workgroup>");
    hook + "\n}\n"
}

/// Where each tensor of the state lies.
fn state(layout: &StateLayout) -> String {
    let mut lines = Vec::new();
    for (name, entry) in &layout.entries {
        for piece in &entry.pieces {
            let buffer = &layout.buffers[piece.buffer].label;
            let (at, bytes) = (piece.offset, piece.bytes);
            lines.push((piece.buffer, at, format!("state {} ({buffer}) +{at}: {bytes} bytes, {name}\n", piece.buffer)));
        }
    }
    lines.sort();
    lines.into_iter().map(|(_, _, line)| line).collect()
}

/// The document with the content of its named blocks replaced; the names that have no text; all names.
fn fill(document: &str, blocks: &[(&str, String)]) -> (String, Vec<String>, Vec<String>) {
    let (mut filled, mut unknown, mut seen) = (String::new(), Vec::new(), Vec::new());
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        filled.push_str(line);
        filled.push('\n');
        let name = ["```text ", "```rust "].iter().find_map(|fence| line.strip_prefix(fence));
        let Some(name) = name else { continue };
        seen.push(name.to_string());
        match blocks.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => {
                filled.push_str(text);
                filled.push_str("```\n");
                lines.by_ref().find(|line| *line == "```");
            }
            None => unknown.push(name.to_string()),
        }
    }
    (filled, unknown, seen)
}

#[test]
fn the_document_shows_what_the_compiler_does() {
    let blocks = blocks().expect("compiles");
    let document = fs::read_to_string(DOCUMENT).expect("the document");
    let (filled, unknown, seen) = fill(&document, &blocks);
    assert!(unknown.is_empty(), "{DOCUMENT} has blocks that nothing generates: {unknown:?}");
    let missing: Vec<_> = blocks.iter().filter(|(name, _)| !seen.iter().any(|seen| seen == name)).collect();
    assert!(missing.is_empty(), "{DOCUMENT} lacks the blocks {missing:?}");
    if std::env::var("WGRAD_BLESS").is_ok() {
        fs::write(DOCUMENT, filled).expect("writes the document");
        return;
    }
    let differs = document.lines().zip(filled.lines()).position(|(old, new)| old != new);
    let same_length = document.lines().count() == filled.lines().count();
    if let Some(line) = differs.or((!same_length).then_some(0)) {
        let (old, new) = (document.lines().nth(line).unwrap_or(""), filled.lines().nth(line).unwrap_or(""));
        panic!(
            "{DOCUMENT} line {}:\n  says {old}\n  but  {new}\nWGRAD_BLESS=1 cargo test one_step rewrites it; read the difference",
            line + 1
        );
    }
}

/// What `wgrad explain` says, given these words.
fn explained(words: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wgrad"));
    let output = command.arg("explain").args(words.split_whitespace()).output().expect("the program runs");
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn explain_shows_the_step_in_the_precision_and_under_the_limits_that_are_asked_for() {
    let halves = |words: &str| explained(words).contains("f16");
    assert!(!halves("mlp --stage passes") && halves("mlp --stage passes --precision f16"));
    let dispatches = |words: &str| -> usize {
        let text = explained(words);
        assert!(text.contains("==== programs for WebGPU's default limits"), "{text}");
        let count = text.split("a step takes ").nth(1).and_then(|rest| rest.split(' ').next());
        count.and_then(|count| count.parse().ok()).expect("a count")
    };
    let program = "W4 --stage program --limits webgpu";
    assert!(dispatches(&format!("{program} --recompute")) > dispatches(program));
}
