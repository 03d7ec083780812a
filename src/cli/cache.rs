//! What is kept between runs in this user's directory for caches, and devices that are opened with it.

use crate::error::Result;
use crate::gpu::Device;
use crate::io::files::{read_whole, write_atomic};
use std::path::{Path, PathBuf};

/// More than what a driver keeps of all kernels of many models.
const MOST_BYTES: u64 = 256 << 20;

/// The directory, which need not be there yet; `None` if the environment names no place.
pub fn directory() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || variable("HOME");
    let cache = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_vendor = "apple") {
        home().map(|home| home.join("Library/Caches"))
    } else {
        variable("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache")))
    };
    Some(cache?.join("wgrad"))
}

/// Opens a device. Where its driver lets compiled kernels be kept (Vulkan's do), they are, for the next start.
pub fn open(choice: Option<&str>) -> Result<Device> {
    let device = Device::open(choice)?;
    if let Some(directory) = directory() {
        keep(&device, &directory);
    }
    Ok(device)
}

/// A file for each adapter and driver. That it is missing, damaged or cannot be written costs time, and is no error.
fn keep(device: &Device, directory: &Path) {
    let directory = directory.join("pipelines");
    let path = directory.join(format!("{:08x}.bin", crc32c::crc32c(device.identity().as_bytes())));
    let before = read_whole(&path, MOST_BYTES).ok();
    device.keep_pipelines(before.as_deref(), move |sealed| {
        let _ = std::fs::create_dir_all(&directory);
        let _ = write_atomic(&path, sealed);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::workloads::{Workload, losses};

    fn file_of(directory: &Path) -> Option<PathBuf> {
        let mut files = std::fs::read_dir(directory.join("pipelines")).ok()?.flatten().map(|entry| entry.path());
        files.find(|path| path.extension().is_some_and(|extension| extension == "bin"))
    }

    #[test]
    fn what_the_driver_keeps_lies_in_a_file_and_a_damaged_one_is_ignored() -> Result<()> {
        let place = tempfile::tempdir().map_err(|e| crate::error::Error::file("a temporary directory", &e))?;
        let train = || {
            let device = Device::open(None)?;
            keep(&device, place.path());
            losses(Workload::W2, 0, 2, &device)
        };
        let first = train()?;
        // Not every driver keeps something.
        let Some(path) = file_of(place.path()) else { return Ok(()) };
        let whole = std::fs::read(&path).unwrap_or_default();
        assert!(!whole.is_empty());
        assert_eq!(train()?, first);
        let mut damaged = whole.clone();
        if let Some(last) = damaged.last_mut() {
            *last ^= 1;
        }
        for content in [&damaged[..], &whole[..whole.len() / 2], b""] {
            let _ = std::fs::write(&path, content);
            assert_eq!(train()?, first);
            assert_ne!(std::fs::read(&path).unwrap_or_default(), content, "it is written anew");
        }
        Ok(())
    }
}
