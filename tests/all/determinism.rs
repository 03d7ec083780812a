//! The same adapter, driver, build and configuration give the same bits, with everything on that could disturb them:
//! dropout, half precision with a scaled loss, micro-batches, clipping, activations computed twice. And the losses
//! of a hundred steps are those that were stored (`tests/golden/hundred_steps.json`).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use wgrad::dtype::DType;
use wgrad::gpu::Device;
use wgrad::graph::{Graph, Tensor};
use wgrad::io::HostTensor;
use wgrad::io::safetensors::Weights;
use wgrad::lower::Recompute;
use wgrad::nn::Parameters;
use wgrad::nn::models::{Gpt, GptConfig};
use wgrad::optim::LossScaling;
use wgrad::train::workloads::{Workload, integers, losses};
use wgrad::train::{Precision, Trainer};

const CONTEXT: usize = 16;
const VOCABULARY: u32 = 40;
/// Texts of a micro-batch, and micro-batches of a step.
const ROWS: usize = 2;
const PARTS: usize = 3;

/// A small GPT with everything on. In f16 the scale grows every few steps until a step overflows.
pub fn everything(precision: Precision, seed: u64) -> Trainer {
    let mut parameters = Parameters::new();
    let vocabulary = VOCABULARY as usize;
    let config = GptConfig { vocabulary, context: CONTEXT, layers: 2, heads: 2, width: 32, dropout: 0.2, tied: true };
    let model = Gpt::new(&mut parameters, config);
    let builder = Trainer::builder(parameters).seed(seed).lr(3e-3).clip(1.0).accumulate(PARTS).precision(precision);
    let builder = builder.recompute(Recompute::Within(0));
    let builder = match precision {
        Precision::F16 => builder.loss_scaling(LossScaling { growth_interval: 3, ..LossScaling::default() }),
        Precision::F32 | Precision::BF16 => builder,
    };
    let loss = move |graph: &Graph| mean_loss(&model, graph).value();
    builder.build(&crate::device(), move |graph| Tensor::new(graph, loss(graph))).expect("compiles")
}

fn mean_loss<'g>(model: &Gpt, graph: &'g Graph) -> Tensor<'g> {
    let input = |name| graph.input(name, [ROWS, CONTEXT], DType::I32);
    model.forward(input("tokens")).cross_entropy(input("targets"))
}

/// The texts of a step, or of some of its micro-batches.
pub fn texts(step: u64, parts: std::ops::Range<usize>) -> Vec<(&'static str, HostTensor)> {
    let place = ROWS * CONTEXT;
    let all = integers(0, step as u32 % 7, PARTS * place + 1);
    let tokens: Vec<i32> = all.into_iter().map(|h| (h % VOCABULARY) as i32).collect();
    let tensor = |from: usize| {
        let part = &tokens[from + parts.start * place..from + parts.end * place];
        HostTensor::i32([parts.len() * ROWS, CONTEXT], part).expect("fits")
    };
    vec![("tokens", tensor(0)), ("targets", tensor(1))]
}

/// All that a step tells, as bits: loss, norm of the gradients, scale.
pub fn step(trainer: &mut Trainer) -> [u32; 3] {
    step_with(trainer, 0..PARTS)
}

/// A step whose first micro-batches have been added before.
pub fn step_with(trainer: &mut Trainer, parts: std::ops::Range<usize>) -> [u32; 3] {
    let report = trainer.step(&texts(trainer.steps_done(), parts)).expect("trains");
    let scale = report.scaling.map_or(1.0, |scaling| scaling.scale);
    [report.loss, report.grad_norm.expect("clipped"), scale].map(f32::to_bits)
}

/// So many steps, and all that the trainer holds afterwards.
fn trained(precision: Precision, seed: u64, steps: usize) -> (Vec<[u32; 3]>, Weights) {
    let mut trainer = everything(precision, seed);
    let told = (0..steps).map(|_| step(&mut trainer)).collect();
    (told, trainer.checkpoint().expect("reads back"))
}

fn assert_same((told, state): &(Vec<[u32; 3]>, Weights), (again, other): &(Vec<[u32; 3]>, Weights), what: &str) {
    let differs = told.iter().zip(again).position(|(a, b)| a != b);
    assert_eq!(differs.map(|step| step + 1), None, "{what}: the first step that differs");
    assert_eq!(state.metadata, other.metadata, "{what}");
    for (a, b) in state.tensors.iter().zip(&other.tensors) {
        assert!(a == b, "{what}: `{}` differs", a.name);
    }
    assert_eq!(state.tensors.len(), other.tensors.len(), "{what}");
}

#[test]
fn a_hundred_steps_twice_give_the_same_bits_with_everything_on() {
    for precision in [Precision::F16, Precision::BF16] {
        let first = trained(precision, 5, 100);
        assert_same(&first, &trained(precision, 5, 100), precision.name());
        // It matters: another seed is another run from its first step on.
        assert_ne!(first.0[0], trained(precision, 6, 1).0[0]);
        let scales: std::collections::BTreeSet<u32> = first.0.iter().map(|told| told[2]).collect();
        assert_eq!(scales.len() > 2, precision == Precision::F16, "the scale moves in f16 alone: {scales:?}");
    }
}

#[test]
fn a_state_taken_anywhere_within_a_step_goes_on_with_the_same_bits() {
    let mut straight = everything(Precision::F16, 5);
    // Another seed and other steps: whatever matters comes from the state.
    let mut resumed = everything(Precision::F16, 9);
    for round in 0..4 * PARTS {
        let stop = round % PARTS;
        (0..stop).for_each(|part| straight.add(&texts(straight.steps_done(), part..part + 1)).expect("adds"));
        let file = straight.checkpoint().expect("reads back").to_bytes().expect("a file");
        step(&mut resumed);
        resumed.resume(&Weights::from_bytes("state", &file).expect("is read")).expect("fits");
        assert_eq!(resumed.micro_batches_added(), stop);
        let [a, b] = [&mut straight, &mut resumed].map(|trainer| {
            let told = (step_with(trainer, stop..PARTS), step(trainer));
            (vec![told.0, told.1], trainer.checkpoint().expect("reads back"))
        });
        assert_same(&a, &b, &format!("after {stop} micro-batches of step {}", straight.steps_done() - 1));
    }
}

/// `WGRAD_REPETITIONS` and `WGRAD_STEPS` change how much.
#[test]
#[ignore = "minutes: nightly"]
fn a_thousand_steps_twenty_times_give_the_same_bits() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let (steps, repetitions) = (number("WGRAD_STEPS").unwrap_or(1000), number("WGRAD_REPETITIONS").unwrap_or(20));
    let first = trained(Precision::F16, 5, steps);
    for repetition in 1..repetitions {
        assert_same(&first, &trained(Precision::F16, 5, steps), &format!("repetition {repetition}"));
    }
    println!("{repetitions} times {steps} steps: no difference");
}

/// Losses of the first hundred steps, by run, as they are in f32.
type Losses = BTreeMap<String, Vec<f32>>;

const STORED: &str = "tests/golden/hundred_steps.json";
/// Steps that are stored.
const STEPS: usize = 100;

/// What bits depend on: adapter, driver, subgroup size, and where the adapter is a program, the CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Machine {
    adapter: String,
    subgroup: Option<u32>,
    cpu: Option<String>,
}

/// What one machine computed.
#[derive(Serialize, Deserialize)]
struct Stored {
    machine: Machine,
    losses: Losses,
}

impl Machine {
    fn of(device: &Device) -> Machine {
        let software = device.profile().class == wgrad::kernels::AdapterClass::Cpu;
        let cpu = software.then(cpu);
        Machine { adapter: device.identity(), subgroup: device.profile().subgroup, cpu }
    }
}

/// Model and the features that a compiler chooses instructions by, as Linux tells them; else the architecture.
fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.split_once(':').map(|(_, it)| it.trim()));
    let Some(model) = of("model name") else { return std::env::consts::ARCH.into() };
    let telling = ["fma", "avx", "avx2", "avx512f", "f16c"];
    let flags: Vec<&str> = of("flags").unwrap_or_default().split(' ').filter(|flag| telling.contains(flag)).collect();
    format!("{model}: {}", flags.join(" "))
}

fn hundred_steps(device: &Device) -> Losses {
    let gpt = || {
        let mut trainer = everything(Precision::F32, 5);
        (0..STEPS).map(|_| f32::from_bits(step(&mut trainer)[0])).collect()
    };
    BTreeMap::from([
        ("W2".to_string(), losses(Workload::W2, 0, STEPS, device).expect("trains")),
        ("gpt with dropout, micro-batches, clipping".to_string(), gpt()),
    ])
}

#[test]
fn a_hundred_losses_are_those_that_were_stored() {
    let device = crate::device();
    let (machine, found) = (Machine::of(&device), hundred_steps(&device));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(STORED);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|_| "[]".into());
    let mut stored: Vec<Stored> = serde_json::from_str(&text).expect("the stored losses are JSON");
    let own = stored.iter().find(|one| one.machine == machine);
    if std::env::var_os("WGRAD_BLESS").is_some() {
        if own.is_none_or(|own| own.losses != found) {
            // Where this machine's numbers changed, those of the others are of kernels that are no more.
            let changed = own.is_some();
            stored.retain(|one| !changed && one.machine != machine);
            stored.push(Stored { machine, losses: found });
            let text = serde_json::to_string(&stored).expect("JSON").replace("},{", "},\n{");
            std::fs::write(&path, text + "\n").expect("writes");
        }
        return;
    }
    let (wanted, exactly) = (own.or(stored.first()).expect("some are stored"), own.is_some());
    println!("{machine:?}: {}", if exactly { "exactly" } else { "another machine, within 1e-4" });
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.losses.keys().collect::<Vec<_>>());
    for (run, wanted) in &wanted.losses {
        assert_eq!((found[run].len(), wanted.len()), (STEPS, STEPS));
        for (step, (&got, &want)) in found[run].iter().zip(wanted).enumerate() {
            let near = (got - want).abs() <= 1e-4 * want.abs().max(1.0);
            let right = if exactly { got.to_bits() == want.to_bits() } else { near };
            assert!(
                right,
                "{run}, step {}: the loss is {got}, stored is {want}; where kernels were meant to change, \
                 `WGRAD_BLESS=1` stores the new ones",
                step + 1
            );
        }
    }
}
