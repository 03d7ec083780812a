//! The standard workloads, of which every peer computes the same numbers: `benches/peers/README.md`.
//!
//! Data and first weights come from a generator that each peer has. Knows nothing about time; see
//! `bench.rs`.

use super::data::{Batch, TARGETS, TOKENS};
#[cfg(not(target_arch = "wasm32"))]
use super::precision::Precision;
#[cfg(not(target_arch = "wasm32"))]
use super::trainer::SAME_BATCH;
use super::trainer::{Trainer, TrainerBuilder};
use crate::dtype::DType;
use crate::error::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::Device;
use crate::graph::{Graph, Tensor};
use crate::io::HostTensor;
use crate::kernels::matmul::Matmul;
use crate::nn::models::{Cnn, CnnConfig, Gpt, GptConfig, Mlp};
use crate::nn::{Init, Parameters};
use crate::optim::{AdamW, Sgd};
use crate::shape::Shape;

/// A standard workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Products of two square matrices of this size.
    W1(usize),
    /// A perceptron with three layers.
    W2,
    /// A convolutional network.
    W3,
    /// A small GPT.
    W4,
    /// GPT-2 with 124 million parameters: for a real GPU.
    W5,
}

impl Workload {
    /// Reads a name such as `W1-512` or `w4`.
    pub fn parse(name: &str) -> std::result::Result<Workload, String> {
        let upper = name.to_ascii_uppercase();
        match (upper.as_str(), upper.strip_prefix("W1-").map(str::parse::<usize>)) {
            ("W2", _) => Ok(Workload::W2),
            ("W3", _) => Ok(Workload::W3),
            ("W4", _) => Ok(Workload::W4),
            ("W5", _) => Ok(Workload::W5),
            (_, Some(Ok(size @ 1..=16_384))) => Ok(Workload::W1(size)),
            (_, Some(_)) | ("W1", _) => Err("W1 needs a matrix size from 1 to 16384, such as W1-512".into()),
            _ => Err("the workloads are W1-N (such as W1-512), W2, W3, W4 and W5".into()),
        }
    }

    /// Untimed and timed steps (W1: samples) that the standard asks for.
    pub fn standard_steps(self) -> (usize, usize) {
        match self {
            Workload::W1(_) => (3, 10),
            Workload::W2 | Workload::W3 => (5, 20),
            Workload::W4 | Workload::W5 => (3, 10),
        }
    }
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Workload::W1(size) => write!(f, "W1-{size}"),
            Workload::W2 => f.write_str("W2"),
            Workload::W3 => f.write_str("W3"),
            Workload::W4 => f.write_str("W4"),
            Workload::W5 => f.write_str("W5"),
        }
    }
}

// ---- the generator

fn mix(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// `n` 24-bit integers of a stream; a seed moves every stream by 1000.
pub fn integers(seed: u32, stream: u32, n: usize) -> Vec<u32> {
    let key = mix(stream.wrapping_add(1000u32.wrapping_mul(seed)));
    (0..n as u32).map(|i| mix(i.wrapping_add(key)) >> 8).collect()
}

/// `n` numbers of a stream, uniform within `bound`.
pub fn uniform(seed: u32, stream: u32, n: usize, bound: f64) -> Vec<f32> {
    let bound = bound as f32;
    let unit = |h: u32| h as f32 * (1.0 / 8_388_608.0) - 1.0;
    integers(seed, stream, n).into_iter().map(|h| unit(h) * bound).collect()
}

// ---- the models

/// A model with its loss, ready to be traced.
pub type Loss = Box<dyn for<'g> Fn(&'g Graph) -> Tensor<'g>>;

/// A workload ready to be compiled.
pub struct Setup {
    pub trainer: TrainerBuilder,
    pub loss: Loss,
    pub batch: Batch,
    /// Number of scalars in all parameters.
    pub parameters: usize,
    /// Tokens in a batch, for a language model.
    pub tokens: Option<usize>,
    /// For the note of a measurement, such as `batch 128`.
    pub about: &'static str,
}

/// One product of W1, of matrices that are stored as `dtype`.
pub fn square(size: usize, dtype: DType) -> Matmul {
    Matmul { stored: [dtype; 2], ..Matmul::contiguous("nn", [1, size, size, size]) }
}

/// The setup of a training workload (not W1).
pub fn setup(workload: Workload, seed: u32) -> Result<Setup> {
    match workload {
        Workload::W2 => w2(seed),
        Workload::W3 => w3(seed),
        Workload::W4 => Gpts::W4.setup(seed),
        Workload::W5 => Gpts::W5.setup(seed),
        Workload::W1(_) => Err(Error::config(format!("{workload} multiplies matrices and trains nothing"))),
    }
}

fn w2(seed: u32) -> Result<Setup> {
    const BATCH: usize = 128;
    let mut parameters = Parameters::new();
    let model = Mlp::new(&mut parameters, &[784, 512, 512, 10]);
    parameters.init_by(|name, shape| {
        let (stream, bound) = match name {
            "layer.0.weight" => (10, 6.0 / 784.0),
            "layer.1.weight" => (11, 6.0 / 512.0),
            "layer.2.weight" => (12, 1.0 / 512.0),
            _ => return Some(Init::Zeros),
        };
        Some(Init::Values(uniform(seed, stream, shape.numel(), f64::sqrt(bound)).into()))
    });
    let labels: Vec<i32> = integers(seed, 2, BATCH).into_iter().map(|h| (h % 10) as i32).collect();
    let x = uniform(seed, 1, BATCH * 784, f64::sqrt(3.0));
    Ok(Setup {
        parameters: parameters.count(),
        trainer: Trainer::builder(parameters).optimizer(AdamW::new().weight_decay(0.01)).lr(1e-3),
        loss: Box::new(move |graph| {
            let (x, y) = (graph.input("x", [BATCH, 784], DType::F32), graph.input("y", [BATCH], DType::I32));
            model.forward(x).cross_entropy(y)
        }),
        batch: vec![("x", HostTensor::f32([BATCH, 784], &x)?), ("y", HostTensor::i32([BATCH], &labels)?)],
        tokens: None,
        about: "batch 128",
    })
}

fn w3(seed: u32) -> Result<Setup> {
    const BATCH: usize = 64;
    const PICTURE: [usize; 4] = [BATCH, 1, 28, 28];
    let mut parameters = Parameters::new();
    let config = CnnConfig { picture: [1, 28, 28], channels: vec![16, 32], hidden: 128, classes: 10 };
    let model = Cnn::new(&mut parameters, &config);
    parameters.init_by(|name, shape| {
        let (stream, bound) = match name {
            "conv.0.weight" => (10, 6.0 / 9.0),
            "conv.1.weight" => (11, 6.0 / 144.0),
            "fc.weight" => (12, 6.0 / 1568.0),
            "head.weight" => (13, 1.0 / 128.0),
            _ => return Some(Init::Zeros),
        };
        Some(Init::Values(uniform(seed, stream, shape.numel(), f64::sqrt(bound)).into()))
    });
    let labels: Vec<i32> = integers(seed, 2, BATCH).into_iter().map(|h| (h % 10) as i32).collect();
    let x = uniform(seed, 1, PICTURE.iter().product(), f64::sqrt(3.0));
    Ok(Setup {
        parameters: parameters.count(),
        trainer: Trainer::builder(parameters).optimizer(Sgd::new().momentum(0.9)).lr(0.01),
        loss: Box::new(move |graph| {
            let (x, y) = (graph.input("x", PICTURE, DType::F32), graph.input("y", [BATCH], DType::I32));
            model.forward(x).cross_entropy(y)
        }),
        batch: vec![("x", HostTensor::f32(PICTURE, &x)?), ("y", HostTensor::i32([BATCH], &labels)?)],
        tokens: None,
        about: "batch 64",
    })
}

/// A standard GPT by its sizes.
struct Gpts {
    batch: usize,
    config: GptConfig,
    about: &'static str,
}

impl Gpts {
    const W4: Gpts = Gpts {
        batch: 8,
        config: GptConfig { vocabulary: 256, context: 128, layers: 4, heads: 4, width: 128, dropout: 0.0, tied: false },
        about: "batch 8 x 128 tokens",
    };
    const W5: Gpts = Gpts {
        batch: 4,
        config: GptConfig {
            vocabulary: 50304,
            context: 1024,
            layers: 12,
            heads: 12,
            width: 768,
            dropout: 0.0,
            tied: true,
        },
        about: "batch 4 x 1024 tokens",
    };

    fn untrained(&self) -> (Parameters, Loss) {
        let mut parameters = Parameters::new();
        let model = Gpt::new(&mut parameters, self.config);
        let shape = [self.batch, self.config.context];
        let loss: Loss = Box::new(move |graph| {
            let input = |name| graph.input(name, shape, DType::I32);
            model.forward(input(TOKENS)).cross_entropy(input(TARGETS))
        });
        (parameters, loss)
    }

    fn trainer(parameters: Parameters) -> TrainerBuilder {
        Trainer::builder(parameters).optimizer(AdamW::new().weight_decay(0.1)).lr(3e-4)
    }

    fn setup(&self, seed: u32) -> Result<Setup> {
        let (mut parameters, loss) = self.untrained();
        let (batch, context, vocabulary) = (self.batch, self.config.context, self.config.vocabulary as u32);
        parameters.init_by(|name, shape| gpt_init(seed, name, shape));
        let integers = integers(seed, 1, batch * (context + 1)).into_iter();
        let z: Vec<i32> = integers.map(|h| (h % vocabulary) as i32).collect();
        let columns = |first: usize| -> Result<HostTensor> {
            let rows = z.chunks_exact(context + 1).flat_map(|row| &row[first..first + context]);
            HostTensor::i32([batch, context], &rows.copied().collect::<Vec<_>>())
        };
        Ok(Setup {
            parameters: parameters.count(),
            trainer: Gpts::trainer(parameters),
            loss,
            batch: vec![(TOKENS, columns(0)?), (TARGETS, columns(1)?)],
            tokens: Some(batch * context),
            about: self.about,
        })
    }
}

/// A training workload without its first values and its batch, which a plan does not need and which are large for W5.
pub fn outline(workload: Workload) -> Result<(TrainerBuilder, Loss)> {
    let outline = |gpt: Gpts| {
        let (parameters, loss) = gpt.untrained();
        (Gpts::trainer(parameters), loss)
    };
    match workload {
        Workload::W4 => Ok(outline(Gpts::W4)),
        Workload::W5 => Ok(outline(Gpts::W5)),
        Workload::W1(_) | Workload::W2 | Workload::W3 => setup(workload, 0).map(|setup| (setup.trainer, setup.loss)),
    }
}

/// Streams 10 to 12 for the tables and the head, `20 + 4 l` on for the matrices of layer `l`.
fn gpt_init(seed: u32, name: &str, shape: &Shape) -> Option<Init> {
    let stream = match name {
        "wte.weight" => 10,
        "wpe.weight" => 11,
        "head.weight" => 12,
        // Gains stay 1 and biases 0.
        _ if shape.rank() != 2 => return None,
        _ => {
            let layer: u32 = name.strip_prefix("block.")?.split('.').next()?.parse().ok()?;
            let place = ["qkv", "proj", "fc", "out"].iter().position(|part| name.contains(&format!(".{part}.")))?;
            20 + 4 * layer + place as u32
        }
    };
    Some(Init::Values(uniform(seed, stream, shape.numel(), 0.02 * f64::sqrt(3.0)).into()))
}

#[cfg(not(target_arch = "wasm32"))]
/// The losses of the first steps of a training workload, each taken before that step's update.
pub fn losses(workload: Workload, seed: u32, steps: usize, device: &Device) -> Result<Vec<f32>> {
    losses_in(Precision::F32, workload, seed, steps, device)
}

#[cfg(not(target_arch = "wasm32"))]
/// The same in a precision.
pub fn losses_in(
    precision: Precision,
    workload: Workload,
    seed: u32,
    steps: usize,
    device: &Device,
) -> Result<Vec<f32>> {
    let Setup { trainer, loss, batch, .. } = setup(workload, seed)?;
    let mut trainer = trainer.precision(precision).build(device, loss)?;
    let mut losses = Vec::new();
    for step in 0..steps {
        let report = if step == 0 { trainer.step(&batch)? } else { trainer.step(SAME_BATCH)? };
        losses.push(report.loss);
    }
    Ok(losses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_check_values() {
        assert_eq!(integers(0, 1, 4), [5_829_961, 13_785_971, 13_303_779, 14_966_870]);
        let expected = [-0.278_345_1, 0.674_115_3, -0.583_116_3, 0.649_637_6];
        for (a, b) in uniform(0, 10, 4, 1.0).into_iter().zip(expected) {
            assert!((a - b).abs() < 1e-7, "{a} {b}");
        }
        assert_eq!(integers(2, 1, 3), integers(0, 2001, 3));
    }

    #[test]
    fn the_models_have_the_standard_sizes() -> Result<()> {
        assert_eq!(setup(Workload::W2, 0)?.parameters, 669_706);
        assert_eq!(setup(Workload::W3, 0)?.parameters, 206_922);
        assert_eq!(setup(Workload::W4, 0)?.parameters, 875_264);
        assert_eq!(outline(Workload::W5)?.0.parameters().count(), 124_475_904);
        assert!(setup(Workload::W1(8), 0).is_err());
        Ok(())
    }

    #[test]
    fn every_matrix_of_the_gpt_has_its_stream() {
        let shape = Shape::from([2, 2]);
        let first = |name: &str| match gpt_init(0, name, &shape) {
            Some(Init::Values(values)) => Some(values[0]),
            _ => None,
        };
        let own = |stream| Some(uniform(0, stream, 1, 0.02 * f64::sqrt(3.0))[0]);
        assert_eq!(first("block.0.attn.qkv.weight"), own(20));
        assert_eq!(first("block.2.mlp.out.weight"), own(31));
        assert_eq!(first("block.3.attn.proj.weight"), own(33));
        assert_eq!(first("head.weight"), own(12));
        assert_eq!(gpt_init(0, "block.0.ln1.weight", &Shape::from([2])), None);
    }
}
