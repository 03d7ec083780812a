//! What a page calls: thin JavaScript classes around the library.
//!
//! Nothing is computed here. Every call that waits for the GPU is a promise; numbers cross as typed arrays; errors are
//! JavaScript `Error`s with the library's messages. `web/` has the package and its tests.

mod layers;
mod model;
mod object;
mod rules;
mod spec;
mod tune;
mod weights;
mod workload;

use crate::error::Error;
use crate::gpu::Device;
use wasm_bindgen::prelude::*;

/// The library's error as JavaScript's.
fn fail(error: Error) -> JsError {
    JsError::new(&error.to_string())
}

/// An open GPU.
#[wasm_bindgen]
pub struct Engine {
    device: Device,
}

#[wasm_bindgen]
impl Engine {
    /// Opens the browser's fastest adapter; the error says why there is none and what to do.
    pub async fn open() -> Result<Engine, JsError> {
        Ok(Engine { device: Device::open_async(None).await.map_err(fail)? })
    }

    /// The device was opened with the feature `subgroups`, and all of them have so many lanes.
    #[wasm_bindgen(js_name = useSubgroups)]
    pub fn use_subgroups(&mut self, lanes: u32) {
        self.device = self.device.with_subgroups(lanes);
    }

    /// What the browser calls the adapter; browsers say little about it.
    #[wasm_bindgen(getter)]
    pub fn adapter(&self) -> String {
        self.device.name().to_string()
    }

    /// What kernels may assume of this adapter.
    #[wasm_bindgen(getter, unchecked_return_type = "Profile")]
    pub fn profile(&self) -> JsValue {
        let profile = self.device.profile();
        let number = |n: u64| JsValue::from(n as f64);
        object::object([
            ("class", format!("{:?}", profile.class).into()),
            ("shaderF16", profile.shader_f16.into()),
            ("subgroup", profile.subgroup.into()),
            ("maxStorageBuffers", profile.max_storage_buffers.into()),
            ("maxInvocations", profile.max_invocations.into()),
            ("maxWorkgroupBytes", profile.max_workgroup_bytes.into()),
            ("maxBindingBytes", number(profile.max_binding_bytes)),
            ("maxBufferBytes", number(profile.max_buffer_bytes)),
        ])
    }

    /// Why the device is lost, if it is.
    #[wasm_bindgen(getter)]
    pub fn lost(&self) -> Option<String> {
        self.device.lost()
    }
}
