//! Buffers that fused code binds, with their accessors, and how dtypes are spelled in WGSL.

use super::expression::Emitter;
use super::place::Location;
use crate::dtype::DType;
use crate::passes::is_half;
use std::fmt::Write;

/// A buffer range that fused code binds.
#[derive(Debug, Clone)]
pub struct FusedBinding {
    pub location: Location,
    pub dtype: DType,
    pub read: bool,
    pub write: bool,
    pub(super) wide: bool,
    /// The array's name, if another hook of the kernel binds it.
    pub array: Option<String>,
}

impl FusedBinding {
    /// Bytes to bind: whole vectors, where vectors are read.
    pub fn bytes(&self) -> u64 {
        self.location.bytes.next_multiple_of(if self.wide { 16 } else { 4 })
    }

    /// The element type of the binding's array.
    pub fn array_type(&self) -> String {
        let stored = stored_type(self.dtype);
        if self.wide && self.dtype != DType::U8 && !is_half(self.dtype) {
            format!("vec4<{stored}>")
        } else {
            stored.to_string()
        }
    }
}

impl Emitter<'_> {
    /// Accessors for each binding: one element, four elements, store.
    pub(super) fn declare_bindings(&self, text: &mut String) {
        let tag = self.tag;
        for (m, binding) in self.bindings.iter().enumerate() {
            let FusedBinding { dtype, wide, read, write, .. } = binding;
            let array = binding.array.clone().unwrap_or_else(|| format!("{tag}{m}"));
            let (stored, ty) = (stored_type(*dtype), value_type(*dtype));
            let decode = |x: String| if *dtype == DType::Bool { format!("({x} != 0u)") } else { x };
            let decode4 = |x: String| if *dtype == DType::Bool { format!("({x} != vec4<u32>(0u))") } else { x };
            if *read && *dtype == DType::U8 {
                let _ = writeln!(
                    text,
                    "fn ld1_{tag}{m}(i: u32) -> u32 {{ return ({array}[i >> 2u] >> (8u * (i & 3u))) & 255u; }}"
                );
                let _ =
                    writeln!(text, "fn ld4_{tag}{m}(i: u32) -> vec4<u32> {{ return unpack4xU8({array}[i >> 2u]); }}");
            } else if *read && is_half(*dtype) {
                let from = format!("wg_from_{dtype}");
                let part = format!("({array}[i >> 1u] >> (16u * (i & 1u))) & 0xffffu");
                let _ = writeln!(text, "fn ld1_{tag}{m}(i: u32) -> f32 {{ return {from}({part}); }}");
                if self.width == 4 {
                    let word = |k: u32| format!("{array}[(i >> 1u) + {k}u]");
                    let pair = |k: u32| format!("{from}({0} & 0xffffu), {from}({0} >> 16u)", word(k));
                    let _ = writeln!(
                        text,
                        "fn ld4_{tag}{m}(i: u32) -> vec4<f32> {{ return vec4<f32>({}, {}); }}",
                        pair(0),
                        pair(1)
                    );
                }
            } else if *read {
                let one = if *wide { format!("{array}[i >> 2u][i & 3u]") } else { format!("{array}[i]") };
                let _ = writeln!(text, "fn ld1_{tag}{m}(i: u32) -> {ty} {{ return {}; }}", decode(one));
                if self.width == 4 {
                    let four = if *wide {
                        format!("{array}[i >> 2u]")
                    } else {
                        format!("vec4<{stored}>({array}[i], {array}[i + 1u], {array}[i + 2u], {array}[i + 3u])")
                    };
                    let _ = writeln!(text, "fn ld4_{tag}{m}(i: u32) -> vec4<{ty}> {{ return {}; }}", decode4(four));
                }
            }
            if *write && is_half(*dtype) {
                // Four at a time: one invocation owns whole words.
                let pair = |k: usize| format!("wg_to_{dtype}(value[{k}]) | (wg_to_{dtype}(value[{}]) << 16u)", k + 1);
                let at = format!("{array}[i >> 1u] = {}; {array}[(i >> 1u) + 1u] = {};", pair(0), pair(2));
                let _ = writeln!(text, "fn st_{tag}{m}(i: u32, value: F) {{ {at} }}");
            } else if *write {
                let a = alias(*dtype);
                let coded = match (*dtype, self.width) {
                    (DType::Bool, 4) => "select(vec4<u32>(0u), vec4<u32>(1u), value)",
                    (DType::Bool, _) => "select(0u, 1u, value)",
                    _ => "value",
                };
                let body = match (self.width, wide) {
                    (4, true) => format!("{array}[i >> 2u] = {coded};"),
                    (4, false) => {
                        (0..4).map(|k| format!("{array}[i + {k}u] = ({coded})[{k}];")).collect::<Vec<_>>().join(" ")
                    }
                    _ => format!("{array}[i] = {coded};"),
                };
                let _ = writeln!(text, "fn st_{tag}{m}(i: u32, value: {a}) {{ {body} }}");
            }
        }
    }

    pub(super) fn bind(&mut self, location: Location, dtype: DType, read: bool, write: bool, wide: bool) -> usize {
        let placement = self.context.placement;
        // Scalars lie in buffers that are bound whole.
        let shared = placement.is_shared(location.buffer);
        let location = if shared {
            Location { offset: 0, bytes: placement.buffers[location.buffer].bytes, ..location }
        } else {
            location
        };
        let wide = wide && self.width == 4 && !shared;
        if is_half(dtype) {
            self.parts.insert("half");
        }
        let found = self
            .bindings
            .iter_mut()
            .enumerate()
            .find(|(_, known)| known.location == location && (shared || known.dtype == dtype));
        match found {
            Some((index, known)) => {
                known.read |= read;
                known.write |= write;
                known.wide &= wide;
                index
            }
            None => {
                self.bindings.push(FusedBinding {
                    location,
                    dtype: if shared { DType::U32 } else { dtype },
                    read,
                    write,
                    wide,
                    array: self
                        .bound
                        .iter()
                        .find(|(buffer, _)| *buffer == location.buffer)
                        .map(|(_, name)| name.clone()),
                });
                self.bindings.len() - 1
            }
        }
    }
}

/// The WGSL alias for a dtype's values in fused code.
pub fn alias(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => "F",
        DType::I32 => "I",
        DType::U32 | DType::U8 => "U",
        // `B` is what WGSL with matrix units calls the right factor.
        DType::Bool => "L",
    }
}

pub fn stored_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::I32 => "i32",
        DType::U32 | DType::Bool | DType::U8 | DType::F16 | DType::BF16 => "u32",
    }
}

pub fn value_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => "f32",
        DType::I32 => "i32",
        DType::U32 | DType::U8 => "u32",
        DType::Bool => "bool",
    }
}

/// A constant in fused code. Non-finite floats become the largest finite ones: WGSL has no others.
pub fn constant(dtype: DType, value: f64) -> String {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => {
            let value = (value as f32).clamp(f32::MIN, f32::MAX);
            format!("F({value:?})")
        }
        DType::I32 => match value as i64 {
            least if least == i64::from(i32::MIN) => "I(-2147483647 - 1)".to_string(),
            value => format!("I({value})"),
        },
        DType::U32 | DType::U8 => format!("U({}u)", value as u64),
        DType::Bool => format!("L({})", value != 0.0),
    }
}

pub fn cast(from: DType, to: DType, x: &str) -> String {
    let zero = constant(from, 0.0);
    match (alias(from), alias(to)) {
        (a, b) if a == b => x.to_string(),
        ("L", _) => format!("select({}, {}, {x})", constant(to, 0.0), constant(to, 1.0)),
        (_, "L") => format!("({x} != {zero})"),
        (_, target) => format!("{target}({x})"),
    }
}
