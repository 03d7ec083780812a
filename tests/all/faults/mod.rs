//! What fails beneath: each call of a save, damaged files, full disks.

mod disk;
mod checkpoints;
