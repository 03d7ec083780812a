//! What a trainer holds on its device, asked for and given back.
//!
//! Knows what was allowed; the device's own words say what it refused.

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Device, Session};
use crate::program::{Program, StateLayout};
use crate::train::budget::Fitted;

/// The session of a compiled step. Where the device has no memory for it, the error says what the trainer was allowed too.
pub(super) fn session(
    device: &Device,
    layout: StateLayout,
    programs: Vec<Program>,
    fitted: Option<Fitted>,
) -> Result<Session> {
    Session::new(device, layout, programs).map_err(|error| match (error.into_kind(), fitted) {
        (ErrorKind::Memory(message), Some(Fitted { budget, .. })) => {
            Error::memory(format!("{message}. The step was made to fit into the {budget} bytes that it may take"))
        }
        (kind, _) => Error::new(kind),
    })
}

#[cfg(feature = "cli")]
impl super::Trainer {
    /// Gives the memory on the device back, for another trainer; this one is of no use any more.
    pub(in crate::train) fn free(&mut self) {
        self.session.free();
    }
}
