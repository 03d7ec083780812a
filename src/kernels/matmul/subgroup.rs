//! The product for software adapters whose subgroups are SIMD registers (lavapipe, SwiftShader): a workgroup is
//! one subgroup. A lane's own load is dear there (it is taken lane by lane), a broadcast is almost
//! free: so each lane loads one part of `a` and hands it to the others.

use super::block::{self, Layout, Port, component, vector};
use super::walk::Walks;
use crate::kernels::profile::SWIFTSHADER;
use crate::kernels::text::Text;

pub fn body(layout: &Layout, walks: &[Option<Walks>; 2], lanes: u32, rows: u32, quads: u32) -> String {
    let mut text = Text::new();
    let (a, b) = (Port::a(layout, walks), Port::b(layout, walks).counted());
    let shared = Shared { a: &a, walks: walks[0].as_ref(), lanes, rows };
    block::store_quad(&mut text, layout);
    block::open_main(&mut text, "subgroup_invocation_id", rows, lanes * 4 * quads);
    (0..quads).for_each(|q| text.line(format!("let col_q{q} = col0 + (lane + {}u) * 4u;", q * lanes)));
    a.declare(&mut text);
    b.declare(&mut text);
    shared.place(&mut text);
    (0..quads).for_each(|q| b.place(&mut text, q, &format!("col_q{q}")));
    text.line(block::k_end(layout));
    block::accumulators(&mut text, layout, rows, quads);
    text.open("for (var k = 0u; k < k_end; k += 4u)");
    b.advance(&mut text, "k");
    shared.load(&mut text);
    (0..quads).for_each(|q| b.load(&mut text, q));
    block::products(&mut text, layout, (rows, quads, 4), |i, kk| shared.element(i, kk), |q, kk| b.across(q, kk));
    text.close();
    block::store_row_sums(&mut text, layout, rows, "lane == 0u", |i| format!("row0 + {i}u"));
    block::store_rotating(&mut text, layout, (rows, quads), "row0", |q| format!("col_q{q}"));
    text.close();
    text.finish()
}

/// `a`'s part of four steps: `rows` vectors, dealt over the lanes; `v{load}` is a lane's own.
struct Shared<'t> {
    a: &'t Port<'t>,
    walks: Option<&'t Walks>,
    lanes: u32,
    rows: u32,
}

impl Shared<'_> {
    fn loads(&self) -> u32 {
        self.rows.div_ceil(self.lanes)
    }

    /// Before the loop: which vector is this lane's, and where it lies at `k = 0`.
    fn place(&self, text: &mut Text) {
        let Shared { rows, lanes, .. } = self;
        for load in 0..self.loads() {
            text.line(format!("let v{load} = min(lane + {}u, {}u);", load * lanes, rows - 1));
            if self.a.side.along_k {
                text.line(format!("let v{load}_at = a_base + min(row0 + v{load}, a_last) * a_stride;"));
                continue;
            }
            // Across: vector v is step v / (rows / 4), rows 4 * (v % (rows / 4)) and on.
            let fours = rows / 4;
            text.line(format!("let v{load}_k = v{load} / {fours}u;"));
            if self.a.side.vec4 {
                text.line(format!("let v{load}_at = a_base + min((row0 >> 2u) + v{load} % {fours}u, a_last);"));
            } else {
                text.line(format!("let v{load}_row = row0 + v{load} % {fours}u * 4u;"));
                for j in 0..4 {
                    self.a.position(text, &format!("v{load}_at{j}"), &format!("min(v{load}_row + {j}u, a_last)"));
                }
            }
        }
    }

    /// In the loop: every lane's loads.
    fn load(&self, text: &mut Text) {
        if self.a.side.along_k {
            self.a.advance(text, "k");
        }
        for load in 0..self.loads() {
            let value = match (self.a.side.along_k, self.a.side.vec4) {
                (true, true) => format!("a[v{load}_at + a_k0]"),
                (true, false) => vector(|c| self.a.masked(&format!("a[v{load}_at + a_k{c}]"), c)),
                (false, vec4) => self.load_across(text, load, vec4),
            };
            text.line(format!("let a{load} = {value};"));
        }
        // One broadcast a row where lanes hold four k of a row each, and one for four rows of one k otherwise.
        // SwiftShader takes the broadcast in a subgroup apart into masks and sums, and not the one in a quad, which it is as well.
        let broadcast = if self.lanes == SWIFTSHADER { "quadBroadcast" } else { "subgroupBroadcast" };
        for v in 0..self.rows {
            let (load, lane) = (v / self.lanes, v % self.lanes);
            text.line(format!("let r{v} = {broadcast}(a{load}, {lane}u);"));
        }
    }

    fn load_across(&self, text: &mut Text, load: u32, vec4: bool) -> String {
        let k = format!("k + v{load}_k");
        let step = if self.a.k_exact() { format!("({k})") } else { format!("min({k}, params.k - 1u)") };
        self.a.step(text, &format!("a_k{load}"), &step);
        if let Some(walks) = self.walks {
            let inside = || (!self.a.k_exact()).then(|| format!("{k} < params.k"));
            return vector(|j| self.a.walked(walks, &format!("v{load}_at{j}"), &format!("a_k{load}"), inside()));
        }
        let value = match vec4 {
            true => format!("a[v{load}_at + a_k{load}]"),
            false => vector(|j| format!("a[v{load}_at{j} + a_k{load}]")),
        };
        match self.a.k_exact() {
            true => value,
            false => format!("select(vec4<f32>(0.0), {value}, {k} < params.k)"),
        }
    }

    fn element(&self, row: u32, kk: u32) -> String {
        match self.a.side.along_k {
            true => format!("r{row}.{}", component(kk)),
            false => format!("r{}.{}", kk * (self.rows / 4) + row / 4, component(row % 4)),
        }
    }
}
