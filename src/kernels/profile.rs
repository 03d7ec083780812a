//! What kernels may assume about a device: plain data, so that a program can be compiled for a
//! device that is not here.

use super::Choices;
use serde::{Deserialize, Serialize};

/// The class of adapter, which decides the shape of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdapterClass {
    Discrete,
    Integrated,
    Apple,
    /// A software adapter (lavapipe, WARP, SwiftShader): registers instead of shared memory.
    Cpu,
}

/// Matrix units: a subgroup multiplies square matrices of f16 and adds up in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cooperative {
    /// Rows, columns and depth of a matrix: 16 (Vulkan) or 8 (Metal).
    pub size: u32,
    /// Invocations of a subgroup, at most.
    pub lanes: u32,
}

/// Whether there may be matrix units. No browser has any, so that a page does without the text for them.
pub const UNITS: bool = cfg!(not(target_arch = "wasm32"));

/// The lanes of SwiftShader's subgroups.
pub const SWIFTSHADER: u32 = 4;

/// Limits and features of a device, in the words of WebGPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub class: AdapterClass,
    /// The subgroup size, if subgroups may be used and every subgroup has this size.
    pub subgroup: Option<u32>,
    pub shader_f16: bool,
    /// Whether numbers are read two at a time, as words of 64 bits (`doubled.rs`): for a software adapter on a processor where it
    /// is dear to put what a lane has read into a vector.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubled_reads: bool,
    /// The matrix units that the driver says there are. Kernels for them are chosen only where they were checked and measured
    /// ([`Choices::units`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooperative: Option<Cooperative>,
    pub max_storage_buffers: u32,
    pub max_invocations: u32,
    pub max_workgroup_bytes: u32,
    pub max_binding_bytes: u64,
    pub max_buffer_bytes: u64,
    pub max_workgroups: u32,
    /// Alignment of binding offsets, in bytes.
    pub binding_alignment: u32,
    /// Kernels that were measured to be better than those that rules choose.
    #[serde(default, skip_serializing_if = "Choices::is_empty")]
    pub choices: Choices,
}

impl Profile {
    /// The default limits of WebGPU on a discrete GPU: what every browser grants.
    pub fn baseline() -> Profile {
        Profile {
            class: AdapterClass::Discrete,
            subgroup: None,
            shader_f16: false,
            doubled_reads: false,
            cooperative: None,
            max_storage_buffers: 8,
            max_invocations: 256,
            max_workgroup_bytes: 16 << 10,
            max_binding_bytes: 128 << 20,
            max_buffer_bytes: 256 << 20,
            max_workgroups: 65_535,
            binding_alignment: 256,
            choices: Choices::default(),
        }
    }

    /// Whether kernels read their parameters from a storage buffer instead of a uniform one.
    ///
    /// lavapipe compiles a kernel anew for each submission when a value from a uniform buffer bounds
    /// a loop (60 to 130 ms each); from a storage buffer it does not. Costs one of the bindings, of
    /// which software adapters on Vulkan have plenty.
    pub fn params_in_storage(&self) -> bool {
        self.class == AdapterClass::Cpu && self.max_storage_buffers > 8
    }

    /// Turns of all its loops together that an invocation may make: lavapipe leaves them after 65,535, without a word.
    pub fn most_turns(&self) -> usize {
        if self.class == AdapterClass::Cpu { 60_000 } else { usize::MAX }
    }

    /// The lanes of a subgroup, where an invocation pays for what its neighbours read from the same place: software adapters take every load apart into
    /// lanes. There each lane reads a part and hands it to the others.
    pub fn dealing_lanes(&self) -> Option<u32> {
        self.subgroup.filter(|_| self.class == AdapterClass::Cpu)
    }

    /// The kernel tier in one word, as `wgrad devices` prints it.
    pub fn tier(&self) -> String {
        let class = match self.class {
            AdapterClass::Discrete => "discrete",
            AdapterClass::Integrated => "integrated",
            AdapterClass::Apple => "apple",
            AdapterClass::Cpu => "cpu",
        };
        match self.subgroup {
            Some(size) => format!("{class}, subgroups of {size}"),
            None => format!("{class}, baseline"),
        }
    }
}
