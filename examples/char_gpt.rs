//! A GPT learns to write code from the text embedded in the library, then writes some.
//!
//! `cargo run --release --example char_gpt`, or with a number of steps behind it

use wgrad::Result;
use wgrad::dtype::DType::I32;
use wgrad::gpu::Device;
use wgrad::graph::Graph;
use wgrad::io::text::{Corpus, EMBEDDED, TextSource};
use wgrad::nn::Parameters;
use wgrad::nn::models::{Gpt, GptConfig};
use wgrad::optim::{AdamW, Schedule};
use wgrad::train::{DataSource, Generator, Sampling, TARGETS, TOKENS, TextData, Trainer};

const BATCH: usize = 8;
const CONFIG: GptConfig =
    GptConfig { vocabulary: 256, context: 64, layers: 2, heads: 2, width: 64, dropout: 0.1, tied: false };

fn main() -> Result<()> {
    let steps = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(200);
    let device = Device::open(None)?;

    // The model, and how it is trained: no weight decay on gains and biases.
    let mut parameters = Parameters::new();
    let gpt = Gpt::new(&mut parameters, CONFIG);
    parameters.group_by("no_decay", |_, shape| shape.rank() < 2).weight_decay(0.0);
    println!("{} parameters on {}", parameters.count(), device.name());
    let mut trainer = Trainer::builder(parameters)
        .optimizer(AdamW::new().weight_decay(0.1))
        .lr(Schedule::cosine(2e-3, 20, steps))
        .clip(1.0)
        .build(&device, |graph: &Graph| {
            let input = |name| graph.input(name, [BATCH, CONFIG.context], I32);
            gpt.forward(input(TOKENS)).cross_entropy(input(TARGETS))
        })?;

    // The loop. The batch depends on the seed and the number of samples seen, and on nothing else.
    let data = TextData::new(Corpus::new(TextSource::Embedded(EMBEDDED), CONFIG.context, 0.1)?, BATCH, CONFIG.context);
    for step in 1..=steps {
        let batch = data.training(trainer.seed(), trainer.samples_done())?;
        let report = trainer.step(&batch)?;
        if step == 1 || step % 50 == 0 {
            let held_out = trainer.evaluate(&data.validation(0, 1)?)?;
            println!("step {step}: loss {:.3}, held-out {held_out:.3}", report.loss);
        }
    }

    // One token at a time, with a cache of keys and values.
    let prompt: Vec<u32> = "fn ".bytes().map(u32::from).collect();
    let mut text = Vec::new();
    let mut generator = Generator::new(&device, CONFIG, &trainer.weights()?)?;
    generator.generate(&prompt, 200, Sampling::default(), |token| text.push(token as u8))?;
    println!("fn {}", String::from_utf8_lossy(&text));
    Ok(())
}
