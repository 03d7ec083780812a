//! Which adapters there are, what would be asked of each, and what kernels may then assume.
//!
//! Knows no programs.

use super::Device;
use crate::error::{Error, Result};
use crate::kernels::Choices;
use crate::kernels::{AdapterClass, Cooperative, Profile};
use serde::Serialize;

/// One adapter as `wgrad devices` lists it.
#[derive(Debug, Clone, Serialize)]
pub struct AdapterReport {
    /// What [`Device::open`] takes to choose it.
    pub index: usize,
    pub name: String,
    /// `Vulkan`, `Metal`, `Dx12` or `BrowserWebGpu`.
    pub backend: String,
    pub driver: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu` or `Other`.
    pub device_type: String,
    /// The smallest and largest subgroup; the same number where kernels may rely on it.
    pub subgroup_sizes: [u32; 2],
    pub timestamps: bool,
    /// Limits, features and kernel tier of a device opened on it.
    pub profile: Profile,
}

/// All adapters, in the order of their indices.
#[cfg(not(target_arch = "wasm32"))]
pub fn adapters() -> Vec<AdapterReport> {
    pollster::block_on(adapters_async())
}

/// All adapters, in the order of their indices. A browser shows one.
pub async fn adapters_async() -> Vec<AdapterReport> {
    let adapters = enumerate().await;
    adapters.iter().enumerate().map(|(index, adapter)| report(index, adapter)).collect()
}

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = BACKENDS;
    wgpu::Instance::new(descriptor)
}

/// OpenGL is left out: its compute shaders lack what the kernels need.
const BACKENDS: wgpu::Backends = wgpu::Backends::PRIMARY;

async fn enumerate() -> Vec<wgpu::Adapter> {
    instance().enumerate_adapters(BACKENDS).await
}

fn report(index: usize, adapter: &wgpu::Adapter) -> AdapterReport {
    let info = adapter.get_info();
    let (features, cooperative) = wanted(adapter, &info);
    AdapterReport {
        index,
        backend: format!("{:?}", info.backend),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        device_type: format!("{:?}", info.device_type),
        subgroup_sizes: [info.subgroup_min_size, info.subgroup_max_size],
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        profile: Profile { cooperative, ..profile_of(&info, features, &wanted_limits(&adapter.limits())) },
        name: info.name,
    }
}

/// The adapter that the user chose, or the fastest.
pub(super) async fn choose(choice: Option<&str>) -> Result<wgpu::Adapter> {
    let Some(choice) = choice else {
        let power_preference = wgpu::PowerPreference::HighPerformance;
        let options = wgpu::RequestAdapterOptions { power_preference, ..Default::default() };
        let adapter = instance().request_adapter(&options).await;
        return adapter.map_err(|error| Error::no_adapter(no_adapter(&error.to_string())));
    };
    let mut adapters = enumerate().await;
    let described: Vec<String> = adapters.iter().map(describe).collect();
    let wanted = choice.to_ascii_lowercase();
    let by_name = || described.iter().position(|text| text.to_ascii_lowercase().contains(&wanted));
    let index = choice.parse::<usize>().ok().filter(|&index| index < adapters.len()).or_else(by_name);
    match index {
        Some(index) => Ok(adapters.swap_remove(index)),
        None if described.is_empty() => Err(Error::no_adapter(no_adapter("none is listed"))),
        None => Err(Error::no_adapter(format!(
            "no adapter matches `{choice}`; choose by index or by a part of the name: {}",
            described.iter().enumerate().map(|(index, text)| format!("{index}: {text}")).collect::<Vec<_>>().join("; ")
        ))),
    }
}

fn describe(adapter: &wgpu::Adapter) -> String {
    let info = adapter.get_info();
    format!("{} ({:?})", info.name, info.backend)
}

fn no_adapter(reason: &str) -> String {
    if cfg!(target_arch = "wasm32") {
        return format!("this browser offers no WebGPU adapter ({reason}); use a browser that supports WebGPU");
    }
    format!(
        "there is no usable GPU adapter ({reason}); install a Vulkan, Metal or DX12 driver, \
         or the software adapter lavapipe (package mesa-vulkan-drivers)"
    )
}

/// What kernels can make use of, where it is there. In the browser wgpu offers no subgroups: [`Device::with_subgroups`].
pub(super) fn wanted_features(offered: wgpu::Features) -> wgpu::Features {
    let compute = wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY;
    offered & (compute | wgpu::Features::PIPELINE_CACHE)
}

/// What is asked of an adapter, and the matrix units that come with it.
fn wanted(adapter: &wgpu::Adapter, info: &wgpu::AdapterInfo) -> (wgpu::Features, Option<Cooperative>) {
    const UNITS: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    let features = wanted_features(adapter.features());
    let needed = wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
    let offered = adapter.features().contains(UNITS) && features.contains(needed) && !cfg!(target_arch = "wasm32");
    let words = if pays_to_double(info) { wgpu::Features::SHADER_INT64 } else { wgpu::Features::empty() };
    let features = features | (adapter.features() & words);
    let units = if offered { units_of(info, &adapter.cooperative_matrix_properties()) } else { None };
    (if units.is_some() { features | UNITS } else { features }, units)
}

/// Whether a software adapter runs on a processor on which reads of 64 bits pay: `kernels/doubled.rs`.
fn pays_to_double(info: &wgpu::AdapterInfo) -> bool {
    #[cfg(target_arch = "x86_64")]
    let masks = std::arch::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    let masks = true;
    class_of(info) == AdapterClass::Cpu && !masks
}

/// The matrix units that kernels can use: f16 with sums in f32, of the one size that can be written for the backend.
fn units_of(info: &wgpu::AdapterInfo, offered: &[wgpu::CooperativeMatrixProperties]) -> Option<Cooperative> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let (size, lanes) = match info.backend {
        wgpu::Backend::Vulkan => (16, info.subgroup_max_size),
        // Every GPU of Apple's that has such units has subgroups of 32.
        wgpu::Backend::Metal => (8, 32),
        _ => return None,
    };
    let fits = |one: &wgpu::CooperativeMatrixProperties| {
        [one.m_size, one.n_size, one.k_size] == [size; 3] && (one.ab_type, one.cr_type) == (F16, F32)
    };
    let usual = lanes.is_power_of_two() && (4..=128).contains(&lanes);
    (usual && offered.iter().any(fits)).then_some(Cooperative { size, lanes })
}

/// The adapter's own limits for what compute uses, the defaults for the rest, which can cost memory.
pub(super) fn wanted_limits(offered: &wgpu::Limits) -> wgpu::Limits {
    wgpu::Limits {
        max_storage_buffers_per_shader_stage: offered.max_storage_buffers_per_shader_stage,
        max_buffers_and_acceleration_structures_per_shader_stage: offered
            .max_buffers_and_acceleration_structures_per_shader_stage,
        max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
        max_buffer_size: offered.max_buffer_size,
        max_compute_workgroup_storage_size: offered.max_compute_workgroup_storage_size,
        max_compute_invocations_per_workgroup: offered.max_compute_invocations_per_workgroup,
        max_compute_workgroup_size_x: offered.max_compute_workgroup_size_x,
        max_compute_workgroups_per_dimension: offered.max_compute_workgroups_per_dimension,
        min_storage_buffer_offset_alignment: offered.min_storage_buffer_offset_alignment,
        ..wgpu::Limits::default().or_worse_values_from(offered)
    }
}

/// What kernels may assume about a device with these features and limits.
pub(super) fn profile_of(info: &wgpu::AdapterInfo, features: wgpu::Features, limits: &wgpu::Limits) -> Profile {
    // Whole slots of 256 bytes, so that a buffer filled up to the limit can still be bound.
    let whole = |bytes: u64| bytes / 256 * 256;
    Profile {
        class: class_of(info),
        subgroup: subgroup_of(info, features),
        shader_f16: features.contains(wgpu::Features::SHADER_F16),
        doubled_reads: features.contains(wgpu::Features::SHADER_INT64) && pays_to_double(info),
        cooperative: None,
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        max_invocations: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        max_binding_bytes: whole(limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)),
        max_buffer_bytes: whole(limits.max_buffer_size),
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        binding_alignment: limits.min_storage_buffer_offset_alignment,
        choices: Choices::default(),
    }
}

fn class_of(info: &wgpu::AdapterInfo) -> AdapterClass {
    match (info.device_type, info.backend) {
        (wgpu::DeviceType::Cpu, _) => AdapterClass::Cpu,
        (_, wgpu::Backend::Metal) => AdapterClass::Apple,
        (_, wgpu::Backend::BrowserWebGpu) if info.name.to_ascii_lowercase().contains("apple") => AdapterClass::Apple,
        (wgpu::DeviceType::DiscreteGpu | wgpu::DeviceType::VirtualGpu, _) => AdapterClass::Discrete,
        // A browser does not say what it runs on; an integrated GPU is the cautious guess.
        (wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::Other, _) => AdapterClass::Integrated,
    }
}

/// The sizes of subgroups that kernels can make use of.
pub(super) const SUBGROUPS: std::ops::RangeInclusive<u32> = 4..=128;

/// The subgroup size, if every subgroup is sure to have it.
fn subgroup_of(info: &wgpu::AdapterInfo, features: wgpu::Features) -> Option<u32> {
    let size = info.subgroup_min_size;
    let fixed = size == info.subgroup_max_size && SUBGROUPS.contains(&size);
    let usable = features.contains(wgpu::Features::SUBGROUP) && !cfg!(target_arch = "wasm32");
    (fixed && usable).then_some(size)
}

/// Opens a device of our own on this adapter.
pub(super) async fn open(adapter: wgpu::Adapter) -> Result<Device> {
    let info = adapter.get_info();
    let (features, cooperative) = wanted(&adapter, &info);
    let limits = wanted_limits(&adapter.limits());
    let profile = Profile { cooperative, ..profile_of(&info, features, &limits) };
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("wgrad"),
        required_features: features,
        required_limits: limits,
        experimental_features: experimental(cooperative),
        // Peaks are planned to the byte; large blocks held in reserve would break the promise.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    };
    let (device, queue) = adapter
        .request_device(&descriptor)
        .await
        .map_err(|error| Error::no_adapter(format!("the adapter `{}` refused to open a device: {error}", info.name)))?;
    Ok(Device::own(device, queue, info, profile))
}

/// The permission to use what wgpu calls experimental, where there are matrix units.
#[allow(unsafe_code)]
fn experimental(units: Option<Cooperative>) -> wgpu::ExperimentalFeatures {
    if units.is_none() {
        return wgpu::ExperimentalFeatures::disabled();
    }
    // SAFETY: of the experimental features only matrix units are asked for. Kernels that use them are run only to be compared
    // with the direct product on this adapter, and after that only where they gave its numbers; whatever the size of a
    // subgroup, the matrices that they load and store lie within workgroup memory.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// The adapter that says the same of itself as this one did.
#[cfg(not(target_arch = "wasm32"))]
pub(super) async fn the_same(info: &wgpu::AdapterInfo) -> Result<wgpu::Adapter> {
    let found = enumerate().await.into_iter().find(|adapter| adapter.get_info() == *info);
    found.ok_or_else(|| Error::no_adapter(format!("the adapter `{}` is no longer there", info.name)))
}

/// An adapter that validates everything and executes nothing, with exactly these limits.
#[cfg(not(target_arch = "wasm32"))]
pub(super) async fn fake(profile: &Profile) -> Result<wgpu::Adapter> {
    let mut features = wgpu::Features::empty();
    features.set(wgpu::Features::SHADER_F16, profile.shader_f16);
    features.set(wgpu::Features::SUBGROUP, profile.subgroup.is_some());
    features.set(wgpu::Features::SHADER_INT64, profile.doubled_reads);
    let limits = wgpu::Limits {
        max_storage_buffers_per_shader_stage: profile.max_storage_buffers,
        max_storage_buffer_binding_size: profile.max_binding_bytes,
        max_buffer_size: profile.max_buffer_bytes,
        max_compute_workgroup_storage_size: profile.max_workgroup_bytes,
        max_compute_invocations_per_workgroup: profile.max_invocations,
        max_compute_workgroup_size_x: profile.max_invocations,
        max_compute_workgroups_per_dimension: profile.max_workgroups,
        min_storage_buffer_offset_alignment: profile.binding_alignment,
        max_buffers_and_acceleration_structures_per_shader_stage: profile.max_storage_buffers + 12,
        ..wgpu::Limits::default()
    };
    let noop = wgpu::NoopBackendOptions {
        enable: true,
        limits: Some(limits),
        features: Some(features),
        device_type: Some(wgpu::DeviceType::Other),
        subgroup_min_size: profile.subgroup,
        subgroup_max_size: profile.subgroup,
    };
    let descriptor = wgpu::InstanceDescriptor {
        backends: wgpu::Backends::NOOP,
        backend_options: wgpu::BackendOptions { noop, ..Default::default() },
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let adapter = wgpu::Instance::new(descriptor).request_adapter(&wgpu::RequestAdapterOptions::default()).await;
    adapter.map_err(|error| Error::no_adapter(format!("the fake adapter could not be made: {error}")))
}
