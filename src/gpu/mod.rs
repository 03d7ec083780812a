//! Runs programs on a device: the only module that names wgpu.
//!
//! It knows buffers, kernels and dispatches, all of them bytes; it does not know graphs, gradients or
//! models. One source serves Vulkan, Metal, DX12 and the fake adapter natively and WebGPU in the browser:
//! functions that block exist natively only, the `_async` ones everywhere.
//!
//! Reading order: [`adapters`](mod@adapters) and `device` open a device; `supply` is where it may refuse; `check` says
//! whether programs are legal on it; `pipelines` (with what `kept` remembers of them) and `resolve` turn them into handles
//! before the first run; `run` replays them, as `pace` allows; `readback` brings results home, `canary` the proof that they
//! are results; `state` moves tensors in and out between runs; `profile` times each dispatch. `faults` and `poison` are for
//! tests.

mod adapters;
mod canary;
mod check;
mod device;
#[cfg(test)]
mod fault_tests;
mod faults;
#[cfg(not(target_arch = "wasm32"))]
mod kept;
mod pace;
mod pipelines;
mod poison;
#[cfg(not(target_arch = "wasm32"))]
mod profile;
mod readback;
mod resolve;
mod run;
mod session;
mod state;
mod supply;
#[cfg(test)]
mod tests;

#[cfg(not(target_arch = "wasm32"))]
pub use adapters::adapters;
pub use adapters::{AdapterReport, adapters_async};
pub use device::Device;
#[doc(hidden)]
pub use faults::Fault;
#[cfg(not(target_arch = "wasm32"))]
pub use profile::Timing;
pub use readback::{READBACK_RING, Results, Ticket};
pub use session::{HostStep, Session};
pub use state::HostContext;

/// A panic elsewhere leaves the values behind these locks whole, so poisoning is no reason to fail.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
