//! What fails beneath: each call of a save, damaged files, full disks, a process that is killed, a lost device; and numbers
//! that are not finite.

mod checkpoints;
#[cfg(feature = "cli")]
mod configurations;
#[cfg(feature = "cli")]
mod devices;
mod disk;
#[cfg(all(feature = "cli", feature = "onnx"))]
mod limits;
mod memory;
#[cfg(feature = "cli")]
mod nonfinite;
#[cfg(feature = "cli")]
pub mod runs;
#[cfg(feature = "cli")]
mod stored;
