//! Reads of 64 bits: the same text, in which arrays of vectors that are only read are arrays of `u64`.
//!
//! lavapipe reads for one lane after the other, and puts what each has read into a vector of 32-bit integers at a place that
//! its compiler does not know. Without AVX-512 LLVM writes the vector to the stack, the one word over it, and reads the vector
//! back, for which the processor waits. Words of 64 bits halve the number of these waits, which were two thirds of a product's
//! time (docs/performance.md).

use super::Profile;
use super::loads::called;

/// A whole text as a device is to have it.
pub fn finished(text: String, profile: &Profile) -> String {
    // In a page it never is, and the program is smaller without.
    if cfg!(not(target_arch = "wasm32")) && profile.doubled_reads { doubled(&text) } else { text }
}

/// A kernel's text with such reads; for a device that has `SHADER_INT64`.
fn doubled(text: &str) -> String {
    let wide = text.contains("alias F = vec4<f32>;");
    let mut out = text.to_string();
    for line in text.lines() {
        let Some((head, array)) = line.split_once("var<storage, read> ") else { continue };
        let Some((name, element)) = array.split_once(": array<") else { continue };
        let value = match element.trim_end_matches(">;") {
            "F" if wide => "vec4<f32>",
            vector @ ("vec4<f32>" | "vec4<i32>" | "vec4<u32>" | "vec2<u32>") => vector,
            _ => continue,
        };
        let (words, half, shift, all) = match value {
            "vec2<u32>" => ("u64", "u32", "32u", "vec2<u32>(low, high)"),
            _ => ("vec2<u64>", "vec2<u32>", "vec2<u32>(32u)", "vec4<u32>(low.x, high.x, low.y, high.y)"),
        };
        let Some((before, behind)) = out.split_once(line) else { continue };
        out = format!(
            "{before}{head}var<storage, read> {name}: array<{words}>;\n\
             fn {name}_doubled(i: u32) -> {value} {{\n    let words = {name}[i];\n    \
             let low = {half}(words);\n    let high = {half}(words >> {shift});\n    return bitcast<{value}>({all});\n}}{}",
            called(behind, name, "doubled")
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_vectors_that_are_only_read_are_read_so() {
        let text = "alias F = vec4<f32>;\n@group(0) @binding(1) var<storage, read> a: array<F>;\n\
                    @group(0) @binding(2) var<storage, read> one: array<f32>;\n\
                    @group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>;\n\
                    fn main() {\n    c[0] = a[u32(one[1])] + c[1];\n}\n";
        let new = doubled(text);
        assert!(new.contains("@group(0) @binding(1) var<storage, read> a: array<vec2<u64>>;"), "{new}");
        assert!(new.contains("fn a_doubled(i: u32) -> vec4<f32> {\n    let words = a[i];"), "{new}");
        assert!(new.ends_with("    c[0] = a_doubled(u32(one[1])) + c[1];\n}\n"), "{new}");
        let narrow = text.replace("alias F = vec4<f32>;", "alias F = f32;");
        assert_eq!(doubled(&narrow), narrow);
    }
}
