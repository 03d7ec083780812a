//! What a kernel tells the lowering about itself: its text, what it binds, its parameters and grid.
//!
//! A kernel's body never mentions binding numbers. It names its ports and parameters, and hands
//! its main result to the hook `store(batch, row, col, value)`; the lowering writes the prelude
//! that declares all of them, and splices fused pointwise code into the hook.

use std::borrow::Cow;

/// The element type of a port's array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// `F`: `f32` or `vec4<f32>`, following the kernel's width.
    Wide,
    F32,
    /// Numbers of two bytes, for kernels that need a device with `shader-f16`.
    F16,
    F16x4,
    /// `vec4<f32>` whatever the width.
    F32x4,
    I32,
    I32x4,
    U32,
    /// `vec2<u32>`: four halves.
    U32x2,
    U32x4,
}

impl Element {
    /// The array's element type in WGSL, `F` being the alias of the kernel's width.
    pub fn wgsl(self) -> &'static str {
        match self {
            Element::Wide => "F",
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::F16x4 => "vec4<f16>",
            Element::F32x4 => "vec4<f32>",
            Element::I32 => "i32",
            Element::I32x4 => "vec4<i32>",
            Element::U32 => "u32",
            Element::U32x2 => "vec2<u32>",
            Element::U32x4 => "vec4<u32>",
        }
    }
}

/// A named array of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: &'static str,
    pub element: Element,
}

impl Port {
    pub const fn new(name: &'static str, element: Element) -> Port {
        Port { name, element }
    }
}

/// A value in the kernel's `params` struct.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Param {
    U32(u32),
    F32(f32),
}

impl Param {
    pub fn bits(self) -> u32 {
        match self {
            Param::U32(value) => value,
            Param::F32(value) => value.to_bits(),
        }
    }

    pub fn wgsl(self) -> &'static str {
        match self {
            Param::U32(_) => "u32",
            Param::F32(_) => "f32",
        }
    }
}

/// A kernel ready to be placed: the body and everything its prelude needs.
///
/// Available to a body besides its ports and `params`: `alias F` (`f32` or `vec4<f32>`),
/// `const W` (1 or 4), `const WG` (workgroup size), every `constants` entry as `const NAME: u32`,
/// `fn store(batch: u32, row: u32, col: u32, value: F)` (col in elements, a multiple of `W`), and
/// the library `parts`. The entry point is `main` with `@workgroup_size(WG)`; the linear workgroup
/// index is `workgroup_index(wid, nwg)`, and the body must return (uniformly) when it is
/// at or beyond `params.groups`, which the lowering adds.
#[derive(Debug, Clone)]
pub struct KernelSpec {
    /// The file's name in `shaders/`, or the emitter's; also the label on the GPU.
    pub name: String,
    pub body: Cow<'static, str>,
    /// Files of `shaders/lib` to put before the body, e.g. `"reduce"`.
    pub parts: Vec<&'static str>,
    pub inputs: Vec<Port>,
    /// Secondary outputs, written by the body itself. The main output goes through `store`.
    pub outputs: Vec<Port>,
    pub params: Vec<(&'static str, Param)>,
    pub constants: Vec<(&'static str, u32)>,
    /// Vector width of `F`: 1 or 4.
    pub width: u32,
    pub workgroup: u32,
    /// Number of workgroups, linear.
    pub groups: u64,
    /// Floating-point operations of one dispatch, for reports and the cost model.
    pub flops: u64,
}

impl KernelSpec {
    /// Lets the body add to a secondary output, each of whose elements it writes once, what it would overwrite it with.
    pub fn add_to(&mut self, port: usize) {
        let array = format!("{}[", self.outputs[port].name);
        let (mut text, mut from) = (self.body.to_string(), 0);
        while let Some(at) = text[from..].find(&array) {
            from += at + array.len();
            if let Some(end) = text[from..].find("] = ") {
                text.insert(from + end + 2, '+');
            }
        }
        self.body = text.into();
        self.name.push_str("_added");
    }

    /// The directives with which a text begins that uses f16 and matrix units; nothing for all others.
    pub fn enables(&self) -> String {
        let used = [("f16>", "f16"), ("coop_mat", "wgpu_cooperative_matrix")];
        let used = used.iter().filter(|(mark, _)| self.body.contains(mark));
        used.map(|(_, name)| format!("enable {name};\n")).collect()
    }
}

/// The part of a kernel file behind the line `// ---- body`: what runs whatever the prelude.
pub fn body(file: &'static str) -> &'static str {
    match file.split_once("// ---- body\n") {
        Some((_, body)) => body,
        None => file,
    }
}

#[cfg(test)]
mod tests {

    use crate::kernels::matmul::{self, Matmul};
    use crate::kernels::{Profile, norm, reduce};

    fn product() -> Matmul {
        Matmul { bias_gradient: true, ..Matmul::contiguous("tn", [1, 64, 48, 32]) }
    }

    #[test]
    fn every_write_of_a_secondary_output_becomes_an_addition_and_nothing_else() {
        let profile = Profile::baseline();
        let pair = norm::column_sums_pair(&profile, 16, 64);
        let chunks = reduce::sum_chunks(&profile, [128, 32], 4);
        let products = matmul::candidates(&profile, &product()).into_iter();
        let products = products.map(|variant| matmul::emit(variant, &product(), &profile));
        for kernel in [norm::column_sums(&profile, 16, 64), pair, chunks].into_iter().chain(products) {
            for port in 0..kernel.outputs.len() {
                let mut added = kernel.clone();
                added.add_to(port);
                let write = |mark: &str| {
                    let array = format!("{}[", kernel.outputs[port].name);
                    let lines =
                        |text: &str| text.lines().filter(|line| line.contains(&array) && line.contains(mark)).count();
                    [lines(&kernel.body), lines(&added.body)]
                };
                let ([before, left], [_, new]) = (write("] = "), write("] += "));
                assert!(before > 0 && left == 0 && new == before, "{}", added.body);
                assert_eq!(added.body.replace("] += ", "] = "), kernel.body.replace("] += ", "] = "));
                assert_eq!(added.body.len(), kernel.body.len() + before);
            }
        }
    }
}
