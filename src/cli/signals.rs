//! Ctrl-C and SIGTERM: the first asks the run to save and stop, a second ends the process at once. A file that outgrows
//! a limit (`ulimit -f`) is an error of the write, as a full disk is, and no end.
//!
//! Only the command line installs handlers; a program that uses the library has its own, and sets
//! [`crate::train::run::Run::stop_flag`].

use crate::error::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// From being made until it is dropped, a signal sets the flag; afterwards it ends the process.
pub struct StopOnSignal {
    pub flag: Arc<AtomicBool>,
}

impl StopOnSignal {
    pub fn install() -> Result<StopOnSignal> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset and sets it, the next finds it set.
            let installed = flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))
                .and_then(|_| flag::register(signal, Arc::clone(&stop)));
            installed.map_err(|e| refused(signal, &e))?;
        }
        #[cfg(unix)]
        {
            // Whoever handles it is not killed by it, and the write fails.
            let signal = signal_hook::consts::SIGXFSZ;
            flag::register(signal, Arc::default()).map_err(|e| refused(signal, &e))?;
        }
        Ok(StopOnSignal { flag: stop })
    }
}

fn refused(signal: i32, error: &std::io::Error) -> Error {
    Error::config(format!("no handler for signal {signal} could be installed: {error}"))
}

impl Drop for StopOnSignal {
    fn drop(&mut self) {
        self.flag.store(true, Ordering::Relaxed);
    }
}
