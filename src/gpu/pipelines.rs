//! Kernels compiled for a device, each text once however many sessions use it.
//!
//! Knows nothing of buffers: binding 0 is the parameters' slot, the rest are storage as the kernel declares.

use super::{Device, lock};
use crate::error::{Error, Result};
use crate::program::Kernel;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// A compiled kernel with the layout of its bind groups.
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// What tells pipelines apart: the kernel's text and which bindings it writes.
type Key = (String, Vec<bool>);

/// Compiled kernels by text, and layouts by how the parameters are bound and which bindings are written.
#[derive(Default)]
pub(super) struct PipelineCache {
    pipelines: Mutex<HashMap<Key, Arc<Pipeline>>>,
    layouts: Mutex<HashMap<(bool, Vec<bool>), Layouts>>,
    #[cfg(not(target_arch = "wasm32"))]
    pub kept: std::sync::OnceLock<super::kept::Kept>,
}

#[derive(Clone)]
struct Layouts {
    groups: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

impl PipelineCache {
    /// Lets go of kernels that no session uses.
    pub fn release(&self) {
        lock(&self.pipelines).retain(|_, pipeline| Arc::strong_count(pipeline) > 1);
    }
}

impl Device {
    /// The pipelines of these kernels, in their order. New ones are compiled in parallel where threads exist.
    pub(super) fn pipelines(&self, kernels: &[&Kernel]) -> Result<Vec<Arc<Pipeline>>> {
        let mut missing: HashMap<Key, &Kernel> = HashMap::new();
        {
            let cached = lock(&self.cache().pipelines);
            for &kernel in kernels {
                let key = key(kernel);
                if !cached.contains_key(&key) {
                    missing.entry(key).or_insert(kernel);
                }
            }
        }
        #[cfg(not(target_arch = "wasm32"))]
        let any = !missing.is_empty();
        let compiled = self.compile_all(missing.into_values().collect())?;
        #[cfg(not(target_arch = "wasm32"))]
        if any {
            self.save_pipelines();
        }
        let mut cached = lock(&self.cache().pipelines);
        cached.extend(compiled);
        let find = |kernel: &&Kernel| {
            let refused = || Error::Kernel { kernel: kernel.name.clone(), message: "it was not compiled".into() };
            cached.get(&key(kernel)).cloned().ok_or_else(refused)
        };
        kernels.iter().map(find).collect()
    }

    #[cfg(target_arch = "wasm32")]
    fn compile_all(&self, kernels: Vec<&Kernel>) -> Result<Vec<(Key, Arc<Pipeline>)>> {
        kernels.into_iter().map(|kernel| Ok((key(kernel), self.compile(kernel)?))).collect()
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn compile_all(&self, kernels: Vec<&Kernel>) -> Result<Vec<(Key, Arc<Pipeline>)>> {
        use std::sync::atomic::{AtomicUsize, Ordering};
        // The front end of the shader compiler recurses.
        const STACK: usize = 8 << 20;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(kernels.len());
        if threads <= 1 {
            return kernels.into_iter().map(|kernel| Ok((key(kernel), self.compile(kernel)?))).collect();
        }
        let next = AtomicUsize::new(0);
        let compiled = Mutex::new(Vec::new());
        let work = || {
            while let Some(&kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
                let pipeline = self.compile(kernel).map(|pipeline| (key(kernel), pipeline));
                lock(&compiled).push(pipeline);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // A thread that cannot be had leaves its share to the others.
                let _ = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
            }
            work();
        });
        compiled.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_iter().collect()
    }

    fn compile(&self, kernel: &Kernel) -> Result<Arc<Pipeline>> {
        let name = kernel.name.clone();
        let explain = move |error: wgpu::Error| Error::Kernel { kernel: name, message: error.to_string() };
        self.guarded(explain, || {
            let layouts = self.layouts(kernel);
            let module = self.shader_module(kernel);
            #[cfg(not(target_arch = "wasm32"))]
            let cache = self.cache().kept.get().map(|kept| &kept.cache);
            #[cfg(target_arch = "wasm32")]
            let cache = None;
            let pipeline = self.wgpu_device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&kernel.name),
                layout: Some(&layouts.pipeline),
                module: &module,
                entry_point: None,
                // Kernels write workgroup memory before they read it.
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache,
            });
            Arc::new(Pipeline { pipeline, layout: layouts.groups })
        })
    }

    // wgpu would add checks to every access that the kernels make already.
    #[allow(unsafe_code)]
    fn shader_module(&self, kernel: &Kernel) -> wgpu::ShaderModule {
        // naga refuses the directive that browsers ask for.
        let header = if kernel.subgroups && cfg!(target_arch = "wasm32") { "enable subgroups;\n" } else { "" };
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(&kernel.name),
            source: wgpu::ShaderSource::Wgsl(format!("{header}{}", kernel.wgsl).into()),
        };
        // SAFETY: kernels guard their indices against the sizes in their parameters, their loops are bounded
        // and their divisors are not zero; `check` has seen that every binding lies inside its buffer.
        unsafe { self.wgpu_device().create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
    }

    fn layouts(&self, kernel: &Kernel) -> Layouts {
        let make = || {
            let device = self.wgpu_device();
            let params = match kernel.params_in_storage {
                true => wgpu::BufferBindingType::Storage { read_only: true },
                false => wgpu::BufferBindingType::Uniform,
            };
            let modes = kernel.writable.iter();
            let storage = modes.map(|&writable| wgpu::BufferBindingType::Storage { read_only: !writable });
            let entries: Vec<_> = std::iter::once(params).chain(storage).zip(0..).map(layout_entry).collect();
            let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
            let groups = device.create_bind_group_layout(&descriptor);
            let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&groups)],
                immediate_size: 0,
            });
            Layouts { groups, pipeline }
        };
        lock(&self.cache().layouts)
            .entry((kernel.params_in_storage, kernel.writable.clone()))
            .or_insert_with(make)
            .clone()
    }
}

fn key(kernel: &Kernel) -> Key {
    (kernel.wgsl.clone(), kernel.writable.clone())
}

fn layout_entry((ty, binding): (wgpu::BufferBindingType, u32)) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            // The parameters' slot, one a dispatch.
            has_dynamic_offset: binding == 0,
            min_binding_size: None,
        },
        count: None,
    }
}
