//! What a page tests with: the rows of `tests/all/ops` on the browser's GPU, and the kernels of the library as texts for the
//! browser's compiler. `web/test/rows.mjs` and `web/test/kernels.mjs` drive it.
//!
//! No test harness runs in a page, so the rows are called by name; a panic comes out as a JavaScript exception.

#[path = "../all/models.rs"]
mod models;
// Their tests are not run here.
#[allow(dead_code, unused_imports)]
#[path = "../all/ops/mod.rs"]
mod ops;
mod texts;

use ops::harness::{Sample, decoded, prepare, run};
use wasm_bindgen::prelude::*;
use wgrad::gpu::Device;
use wgrad::graph::Graph;
use wgrad::kernels::{AdapterClass, Profile};
use wgrad::lower::lower;
use wgrad::program::{Kernel, StateLayout};

/// The classes of adapters whose kernels are run, whatever the browser's adapter is.
const CLASSES: [AdapterClass; 2] = [AdapterClass::Cpu, AdapterClass::Discrete];
/// Lanes of SwiftShader's subgroups.
const SUBGROUP: u32 = 4;

#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| wasm_bindgen::throw_str(&panic.to_string())));
}

/// A GPU's tiles for convolutions: SwiftShader, which no page gives them to, compiles one for minutes and takes 10 GB.
/// Its compiler's front end has them in `web/test/kernels.mjs`, as all kernels.
fn too_much_for_swiftshader(kernel: &Kernel) -> bool {
    kernel.name.starts_with("conv_tiled")
}

/// The browser's GPU with all rows.
#[wasm_bindgen]
pub struct Rows {
    device: Device,
    profiles: Vec<Profile>,
    rows: Vec<(&'static str, Vec<Sample>)>,
}

#[wasm_bindgen]
impl Rows {
    pub async fn open() -> Result<Rows, JsError> {
        let mut rows = ops::all_rows();
        let numbers = |sample: &Sample| sample.inputs.iter().map(|input| input.shape.numel()).sum::<usize>();
        rows.iter_mut().for_each(|(_, samples)| samples.sort_by_key(numbers));
        let device = Device::open_async(None).await?;
        let profiles = CLASSES.map(|class| Profile { class, ..device.profile().clone() }).into();
        Ok(Rows { device, profiles, rows })
    }

    /// The device was opened with subgroups of so many lanes: a software adapter's kernels make use of them.
    pub fn use_subgroups(&mut self, lanes: u32) {
        let profile = Profile { class: AdapterClass::Cpu, subgroup: Some(lanes), ..self.device.profile().clone() };
        self.profiles.push(profile);
    }

    /// The rows' names.
    pub fn names(&self) -> Vec<String> {
        self.rows.iter().map(|(name, _)| name.to_string()).collect()
    }

    /// How many samples a row has, the smallest first.
    pub fn samples(&self, row: usize) -> usize {
        self.rows[row].1.len()
    }

    /// Runs samples of a row by their places with the kernels of each class, and with subgroups where there are any. The first string is how many tensors were compared, each
    /// further one says what was wrong.
    pub async fn run(&self, row: usize, from: usize, to: usize) -> Result<Vec<String>, JsError> {
        let (name, samples) = &self.rows[row];
        let samples = &samples[from..to];
        let graph = Graph::new();
        let prepared = prepare(name, samples, &graph);
        let (mut compared, mut failures) = (0, Vec::new());
        for profile in &self.profiles {
            let program = lower(name, &graph, &StateLayout::default(), profile)?;
            if self.device.profile().class == AdapterClass::Cpu && program.kernels.iter().any(too_much_for_swiftshader)
            {
                continue;
            }
            let outputs = program.outputs.clone();
            let values = decoded(&outputs, &run(&self.device, program, &prepared.feeds).await?);
            compared += values.len();
            failures.extend(prepared.failures(&format!("{name} ({}, from {from})", profile.tier()), samples, &values));
        }
        failures.insert(0, compared.to_string());
        Ok(failures)
    }
}
