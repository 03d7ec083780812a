//! What a driver keeps of the kernels that it compiled (Vulkan's pipeline cache), sealed so that it can lie in a file: the
//! next process that compiles them is spared the work.
//!
//! A driver trusts what it is given back. So a seal says for which adapter and driver it was made, and that no byte of it
//! changed; what has another seal is as if it were not there.

use super::{Device, lock};
use std::sync::Mutex;

type Save = Box<dyn Fn(&[u8]) + Send + Sync>;

/// The cache of a device, and who is told of it.
pub(super) struct Kept {
    pub cache: wgpu::PipelineCache,
    save: Save,
    /// The checksum of what was saved last.
    saved: Mutex<Option<u32>>,
}

const MAGIC: &[u8; 8] = b"wgradpc1";

impl Device {
    /// From now on gives `save` what the driver keeps of compiled kernels, sealed, whenever kernels were compiled; begins
    /// with what an earlier process was given, if its seal is right. Whether the adapter can do that: Vulkan's can.
    #[allow(unsafe_code)]
    pub(crate) fn keep_pipelines(&self, before: Option<&[u8]>, save: impl Fn(&[u8]) + Send + Sync + 'static) -> bool {
        if !self.wgpu_device().features().contains(wgpu::Features::PIPELINE_CACHE) {
            return false;
        }
        let identity = self.identity();
        let data = before.and_then(|sealed| unseal(sealed, &identity));
        let saved = Mutex::new(data.map(crc32c::crc32c));
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("wgrad"), data, fallback: true };
        // SAFETY: the seal says that these bytes came from `get_data` on this adapter and driver and are whole; wgpu compares
        // the driver's own header besides.
        let create = || unsafe { self.wgpu_device().create_pipeline_cache(&descriptor) };
        let explain = |error: wgpu::Error| super::device::device_error("refused a cache of kernels", &error);
        let Ok(cache) = self.guarded(explain, create) else { return false };
        self.cache().kept.set(Kept { cache, save: Box::new(save), saved }).is_ok()
    }

    /// After kernels were compiled.
    pub(super) fn save_pipelines(&self) {
        let Some(kept) = self.cache().kept.get() else { return };
        let Some(data) = kept.cache.get_data() else { return };
        let sum = Some(crc32c::crc32c(&data));
        if std::mem::replace(&mut *lock(&kept.saved), sum) != sum {
            (kept.save)(&seal(&data, &self.identity()));
        }
    }
}

/// The magic, a checksum of what follows, the length of the identity, the identity, the data.
fn seal(data: &[u8], identity: &str) -> Vec<u8> {
    let length = (identity.len() as u32).to_le_bytes();
    let content = [&length[..], identity.as_bytes(), data].concat();
    [&MAGIC[..], &crc32c::crc32c(&content).to_le_bytes(), &content].concat()
}

fn unseal<'a>(sealed: &'a [u8], identity: &str) -> Option<&'a [u8]> {
    let (sum, content) = sealed.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (length, rest) = content.split_first_chunk::<4>()?;
    let (own, data) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    (own == identity.as_bytes()).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_or_belongs_to_another_driver_is_not_there() {
        let sealed = seal(b"kernels", "GPU | driver 1");
        assert_eq!(unseal(&sealed, "GPU | driver 1"), Some(&b"kernels"[..]));
        assert_eq!(unseal(&sealed, "GPU | driver 2"), None);
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 0x10;
            assert_eq!(unseal(&damaged, "GPU | driver 1"), None, "byte {at}");
            assert_eq!(unseal(&sealed[..at], "GPU | driver 1"), None, "{at} bytes");
        }
    }
}
