//! Functions in place of a kernel's loads: what it reads may be stored otherwise, or nowhere, and its text is the same.

use super::{Element, KernelSpec, Port};

/// A port whose numbers are computed as they are read, by a function `{port}_element(e) -> F` of the element's number, or of the
/// first of four: the function that the body calls in place of each load. Where it asks whether there is anything at all, it
/// asks so of `read`, an array that is.
pub fn computed(spec: &mut KernelSpec, port: &Port, read: &str) -> String {
    let name = port.name;
    let body = called(&spec.body, name, "computed");
    spec.body = body.replace(&format!("arrayLength(&{name})"), &format!("arrayLength(&{read})")).into();
    let wide = port.element == Element::F32x4 || port.element == Element::Wide && spec.width == 4;
    let one = |j: u32| format!("{name}_element(i * 4u + {j}u)");
    let (ty, value) = match (wide, spec.width) {
        (true, 4) => ("vec4<f32>", format!("{name}_element(i * 4u)")),
        (true, _) => ("vec4<f32>", format!("vec4<f32>({}, {}, {}, {})", one(0), one(1), one(2), one(3))),
        (false, 4) => ("f32", format!("{name}_element(i & ~3u)[i & 3u]")),
        (false, _) => ("f32", format!("{name}_element(i)")),
    };
    format!("fn {name}_computed(i: u32) -> {ty} {{ return {value}; }}\n")
}

/// A text with `array_{how}(index)` for each `array[index]`.
pub(super) fn called(text: &str, array: &str, how: &str) -> String {
    let opening = format!("{array}[");
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let (mut out, mut rest) = (String::with_capacity(text.len() * 9 / 8), text);
    while let Some(at) = rest.find(&opening) {
        let (before, behind) = (&rest[..at], &rest[at + opening.len()..]);
        out.push_str(before);
        if before.chars().next_back().is_some_and(is_word) {
            // The end of a longer name.
            out.push_str(&opening);
            rest = behind;
            continue;
        }
        let end = closing(behind);
        // What is inside may read the same array again.
        out.push_str(&format!("{array}_{how}({})", called(&behind[..end], array, how)));
        rest = &behind[(end + 1).min(behind.len())..];
    }
    out.push_str(rest);
    out
}

/// Where the bracket closes that was opened before the text.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    let found = text.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '[') - i32::from(*c == ']');
        depth < 0
    });
    found.map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loads_of_the_array_itself_become_calls() {
        let text = "let v = a[i] + tile_a[i] - p.a[j]; let l = arrayLength(&a); let w = a[u32(o[a[k]]) * 2u].x;";
        let wanted = "let v = a_packed(i) + tile_a[i] - p.a[j]; let l = arrayLength(&a); let w = a_packed(u32(o[a_packed(k)]) * 2u).x;";
        assert_eq!(called(text, "a", "packed"), wanted);
        assert_eq!(called("b[0]", "a", "packed"), "b[0]");
    }
}
