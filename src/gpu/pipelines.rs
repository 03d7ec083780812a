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

/// What tells pipelines apart: the kernel's text, which bindings it writes, and whether it is checked.
type Key = (String, Vec<bool>, bool);

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
            let refused = || Error::kernel(kernel.name.clone(), "it was not compiled".into());
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
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let compiled = at_once(&kernels, threads, |kernel| Ok((key(kernel), self.compile(kernel)?)));
        compiled.into_iter().collect()
    }

    fn compile(&self, kernel: &Kernel) -> Result<Arc<Pipeline>> {
        let name = kernel.name.clone();
        let explain = move |error: wgpu::Error| Error::kernel(name, error.to_string());
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

    // wgpu would add checks to every access that our own kernels make already.
    #[allow(unsafe_code)]
    fn shader_module(&self, kernel: &Kernel) -> wgpu::ShaderModule {
        // naga refuses the directive that browsers ask for.
        let header = if kernel.subgroups && cfg!(target_arch = "wasm32") { "enable subgroups;\n" } else { "" };
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(&kernel.name),
            source: wgpu::ShaderSource::Wgsl(format!("{header}{}", kernel.wgsl).into()),
        };
        if kernel.foreign {
            return self.wgpu_device().create_shader_module(descriptor);
        }
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

/// What `work` makes of each item, in any order, by so many threads at once.
#[cfg(not(target_arch = "wasm32"))]
fn at_once<T: Sync, R: Send>(items: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    // The front end of the shader compiler recurses.
    const STACK: usize = 8 << 20;
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let share = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            let made = work(item);
            lock(&done).push(made);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(items.len()) {
            // A thread that cannot be had leaves its share to the others.
            let _ = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, share);
        }
        share();
    });
    done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn key(kernel: &Kernel) -> Key {
    (kernel.wgsl.clone(), kernel.writable.clone(), kernel.foreign)
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

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use std::sync::Condvar;
    use std::time::Duration;

    #[test]
    fn kernels_are_compiled_at_once_by_several_threads() {
        // Each waits until another one is under way: one after the other, none would end before its patience does.
        let (under_way, changed) = (Mutex::new(0), Condvar::new());
        let meet = |&item: &i32| {
            let mut count = lock(&under_way);
            *count += 1;
            changed.notify_all();
            let (_count, patience) =
                changed.wait_timeout_while(count, Duration::from_secs(60), |count| *count < 3).unwrap();
            (item, patience.timed_out())
        };
        let mut met = at_once(&[1, 2, 3], 3, meet);
        met.sort_unstable();
        assert_eq!(met, [(1, false), (2, false), (3, false)]);
        assert_eq!(at_once(&[] as &[i32], 3, |_| 0), [0; 0]);
        assert_eq!(at_once(&[5, 6], 1, |item| item + 1), [6, 7]);
    }
}
