//! Sums over the channels of `[samples, channels, size]`: mean and variance, and those behind the gradient of
//! batch normalisation.
//!
//! Squares are summed of deviations from the channel's first element, which stands for the mean that one sweep does
//! not know yet: nothing is lost where the mean is large beside the deviation. A channel of many elements is cut
//! into chunks, whose sums a second kernel adds in order.

use super::row::wide;
use super::wgsl::wgsl;
use super::{AdapterClass, Element, KernelSpec, Param, Port, Profile, reduce};

/// What is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sums {
    /// Of `x`: mean and variance.
    Moments,
    /// Of `dy`, and of `dy` times `x` less its mean.
    Products,
}

const MOMENTS: &str = "
fn shift_of(channel: u32) -> f32 { return fat(x[channel * (params.size / W)], 0u); }
fn factor(at: u32, deviation: F) -> F { return deviation; }
";

const PRODUCTS: &str = "
fn shift_of(channel: u32) -> f32 { return mean[channel]; }
fn factor(at: u32, deviation: F) -> F { return dy[at]; }
";

const PUT_PARTIALS: &str = "
fn put(channel: u32, chunk: u32, shift: f32, first: f32, second: f32) {
    partials[chunk * params.channels + channel] = first;
    partials[(params.chunks + chunk) * params.channels + channel] = second;
}
";

const PUT_MOMENTS: &str = "
fn put(channel: u32, chunk: u32, shift: f32, first: f32, second: f32) {
    let offset = first / params.count;
    mean[channel] = shift + offset;
    variance[channel] = max(second / params.count - offset * offset, 0.0);
}
";

const PUT_PRODUCTS: &str = "
fn put(channel: u32, chunk: u32, shift: f32, first: f32, second: f32) {
    sums[channel] = first;
    products[channel] = second;
}
";

/// Into how many chunks each channel is cut.
pub fn chunks(profile: &Profile, [samples, channels, size]: [usize; 3]) -> usize {
    reduce::chunks(profile, channels, samples * size, true)
}

/// The sums of `Moments`, `(x)` to `mean` and `variance`; or of `Products`, `(dy, x, mean)` to `sums` and `products`.
/// With more than one chunk: `partials [2, chunks, channels]`.
pub fn channel_sums(profile: &Profile, sizes: [usize; 3], what: Sums, chunks: usize) -> KernelSpec {
    let [samples, channels, size] = sizes;
    let width = if size.is_multiple_of(4) { 4 } else { 1 };
    let (workgroup, part) = lanes(profile);
    let length = samples * size / width as usize;
    let vector = |name| Port::new(name, Element::F32);
    let (hooks, inputs) = match what {
        Sums::Moments => (MOMENTS, vec![Port::new("x", Element::Wide)]),
        Sums::Products => {
            (PRODUCTS, vec![Port::new("dy", Element::Wide), Port::new("x", Element::Wide), vector("mean")])
        }
    };
    let (put, outputs) = match what {
        _ if chunks > 1 => (PUT_PARTIALS, vec![vector("partials")]),
        Sums::Moments => (PUT_MOMENTS, vec![vector("mean"), vector("variance")]),
        Sums::Products => (PUT_PRODUCTS, vec![vector("sums"), vector("products")]),
    };
    KernelSpec {
        name: "channel_sums".into(),
        body: format!("{hooks}{put}{}", wgsl!("channel_sums")).into(),
        parts: vec![wide(width), part],
        inputs,
        outputs,
        params: vec![
            ("channels", Param::U32(channels as u32)),
            ("size", Param::U32(size as u32)),
            ("length", Param::U32(length as u32)),
            ("chunk", Param::U32(length.div_ceil(chunks) as u32)),
            ("chunks", Param::U32(chunks as u32)),
            ("count", Param::F32((samples * size) as f32)),
        ],
        constants: vec![],
        width,
        workgroup,
        groups: (channels * chunks) as u64,
        flops: 4 * (samples * channels * size) as u64,
    }
}

/// Mean and variance from the `partials` of [`channel_sums`] and `x`.
pub fn channel_moments_join(profile: &Profile, sizes: [usize; 3], chunks: usize) -> KernelSpec {
    let [samples, channels, size] = sizes;
    let workgroup = if profile.class == AdapterClass::Cpu { profile.subgroup.unwrap_or(16) } else { 32 };
    let port = |name| Port::new(name, Element::F32);
    KernelSpec {
        name: "channel_moments_join".into(),
        body: wgsl!("channel_moments_join").into(),
        parts: vec![],
        inputs: vec![port("partials"), port("x")],
        outputs: vec![port("mean"), port("variance")],
        params: vec![
            ("channels", Param::U32(channels as u32)),
            ("size", Param::U32(size as u32)),
            ("chunks", Param::U32(chunks as u32)),
            ("count", Param::F32((samples * size) as f32)),
        ],
        constants: vec![],
        width: 1,
        workgroup,
        groups: (channels as u64).div_ceil(u64::from(workgroup)),
        flops: 2 * (channels * chunks) as u64,
    }
}

/// Lanes of a workgroup and the part that joins them: one subgroup on a software adapter, which pays for barriers.
fn lanes(profile: &Profile) -> (u32, &'static str) {
    match (profile.class, profile.subgroup) {
        (AdapterClass::Cpu, Some(size)) => (size, "reduce_subgroup"),
        (AdapterClass::Cpu, None) => (16, "reduce_workgroup"),
        _ => (256.min(profile.max_invocations), "reduce_workgroup"),
    }
}
