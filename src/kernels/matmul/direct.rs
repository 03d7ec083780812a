//! The direct product: each invocation sums over `k` for itself. No shared memory, no unrolling,
//! any strides: slow, and the oracle of every other variant.

use super::block::{self, Layout, Port, Side};
use super::walk::Walks;
use crate::kernels::text::Text;

pub const WORKGROUP: u32 = 64;

/// Strides are read from the parameters, so that one text serves every transposition.
pub fn layout(layout: Layout) -> Layout {
    let vec4 = layout.b.vec4 && !layout.b.along_k && layout.width == 4;
    let a = Side { along_k: true, vec4: false, ..layout.a };
    Layout { a, b: Side { along_k: false, vec4, ..layout.b }, ..layout }
}

pub fn body(layout: &Layout, walks: &[Option<Walks>; 2]) -> String {
    let mut text = Text::new();
    text.line("@compute @workgroup_size(WG)");
    text.line("fn main(");
    text.line("    @builtin(workgroup_id) wid: vec3<u32>,");
    text.line("    @builtin(num_workgroups) nwg: vec3<u32>,");
    text.line("    @builtin(local_invocation_index) lane: u32,");
    text.open(")");
    text.lines(PLACE);
    let (a, b) = (Port::a(layout, walks), Port::b(layout, walks));
    let lanes = if layout.b.walk { layout.width } else { 0 };
    match &walks[0] {
        Some(_) => a.position(&mut text, "a_at", "row"),
        None => text.line("let a_at = a_base + row * params.a_row;"),
    }
    (0..lanes).for_each(|j| b.position(&mut text, &format!("b_at{j}"), &format!("(col + {j}u)")));
    if !layout.b.walk {
        text.line("let b_at = b_base + col * params.b_col;");
    }
    text.line(block::k_end(layout));
    text.line("var sum = F(0.0);");
    if layout.sums {
        text.line("var column = F(0.0);");
    }
    text.open("for (var k = 0u; k < k_end; k += 1u)");
    let b_value = match &walks[1] {
        Some(walks) => {
            b.step(&mut text, "b_k0", "k");
            let part = |j: u32| b.walked(walks, &format!("b_at{j}"), "b_k0", None);
            if layout.width == 1 { part(0) } else { block::vector(part) }
        }
        None => b_value(layout),
    };
    text.line(format!("let b_value = {b_value};"));
    let a_value = match &walks[0] {
        Some(walks) => {
            a.step(&mut text, "a_k0", "k");
            a.walked(walks, "a_at", "a_k0", None)
        }
        None => "a[a_at + k * params.a_col]".to_string(),
    };
    text.line(format!("sum += {a_value} * b_value;"));
    if layout.sums {
        text.line("column += b_value;");
    }
    text.close();
    text.line("store(batch, row, col, sum);");
    if layout.sums {
        text.open("if (row == 0u && batch == 0u)");
        text.line("column_sums[(params.sums_offset + col) / W] = column;");
        text.close();
    }
    text.close();
    text.finish()
}

const PLACE: &str = "\
let group = workgroup_index(wid, nwg);
if (group >= params.groups) {
    return;
}
let cols = params.n / W;
let index = group * WG + lane;
let batch = index / (cols * params.m);
if (batch >= params.batch_outer * params.batch_inner) {
    return;
}
let row = index / cols % params.m;
let col = index % cols * W;
let batch_outer = batch / params.batch_inner;
let batch_inner = batch % params.batch_inner;
let a_base = params.a_offset + batch_outer * params.a_batch_outer + batch_inner * params.a_batch_inner;
let b_base = params.b_offset + batch_outer * params.b_batch_outer + batch_inner * params.b_batch_inner;";

fn b_value(layout: &Layout) -> String {
    if layout.b.vec4 {
        return "b[(b_at + k * params.b_row) >> 2u]".to_string();
    }
    if layout.width == 1 {
        return "b[b_at + k * params.b_row]".to_string();
    }
    let parts: Vec<String> = (0..4).map(|j| format!("b[b_at + k * params.b_row + {j}u * params.b_col]")).collect();
    format!("F({})", parts.join(", "))
}
