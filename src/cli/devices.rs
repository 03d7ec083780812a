//! `wgrad devices`: what is there, and what kernels may use on it.

use super::format::bytes;
use super::say;
use crate::error::Result;
use crate::gpu::{AdapterReport, Device, adapters};
use std::process::ExitCode;

/// Lists all adapters.
pub fn devices() -> Result<ExitCode> {
    let adapters = adapters();
    if adapters.is_empty() {
        // Opening one fails with the message that says what to install.
        Device::open(None)?;
    }
    for adapter in &adapters {
        say(describe(adapter))?;
    }
    say(
        "choose one with --adapter NAME or the environment variable WGRAD_ADAPTER; a part of the name or the index will do",
    )?;
    Ok(ExitCode::SUCCESS)
}

fn describe(adapter: &AdapterReport) -> String {
    let AdapterReport { index, name, backend, driver, device_type, subgroup_sizes, timestamps, profile } = adapter;
    let yes = |flag: bool| if flag { "yes" } else { "no" };
    let [smallest, largest] = subgroup_sizes;
    format!(
        "{index}: {name}\n\
         \x20  kind             {device_type} through {backend}\n\
         \x20  driver           {driver}\n\
         \x20  kernel tier      {}\n\
         \x20  features         shader-f16 {}, timestamps {}, subgroups of {smallest} to {largest}, matrix units {}\n\
         \x20  limits           {} a buffer, {} a binding, {} storage buffers\n\
         \x20                   {} invocations and {} of shared memory a workgroup, {} workgroups\n",
        profile.tier(),
        yes(profile.shader_f16),
        yes(*timestamps),
        profile.cooperative.map_or("no".into(), |units| format!("of {0} x {0}", units.size)),
        bytes(profile.max_buffer_bytes),
        bytes(profile.max_binding_bytes),
        profile.max_storage_buffers,
        profile.max_invocations,
        bytes(u64::from(profile.max_workgroup_bytes)),
        profile.max_workgroups,
    )
}
