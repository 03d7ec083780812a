//! What fails beneath: each call of a save, damaged files, full disks, a process that is killed.

mod checkpoints;
mod disk;
#[cfg(feature = "cli")]
mod runs;
