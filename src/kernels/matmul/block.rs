//! The parts that all blocked variants share: finding the tile, loading 4 x 4 blocks of an operand
//! into registers whatever its layout, the unrolled products, and storing.
//!
//! An operand is seen as `k` x `x`, where `x` is `m` for `a` and `n` for `b`. A block is four
//! `vec4` values `{port}{q}_0` to `{port}{q}_3`: along `k` (one per `x`) or across it (one per `k`).

use super::walk::Walks;
use crate::kernels::text::Text;

/// Row tiles that are walked before the next column of tiles, so that both operands' tiles stay in
/// the cache.
const BAND: u32 = 16;
/// Accumulators that move for each row that is stored; the others move once for so many rows.
const ROTATED: u32 = 8;

const COMPONENT: [&str; 4] = ["x", "y", "z", "w"];

/// How the text reads an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// `k` is the contiguous axis; otherwise the other one is.
    pub along_k: bool,
    /// The array is of `vec4<f32>` along the contiguous axis.
    pub vec4: bool,
    /// Offsets are found by the functions that [`super::walk`] writes, one element at a time.
    pub walk: bool,
}

impl Side {
    fn suffix(self) -> char {
        match (self.walk, self.vec4) {
            (true, _) => 'w',
            (false, true) => '4',
            (false, false) => '1',
        }
    }
}

/// What is baked into a text beside the variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub a: Side,
    pub b: Side,
    /// `k` is a multiple of the loop's step: no masks.
    pub k_exact: bool,
    pub width: u32,
    pub sums: bool,
    /// See [`super::Matmul::row_sums`].
    pub row_sums: bool,
    pub sum: Sum,
    /// Keep a compiler from seeing that the loop's bound is a uniform; see [`k_end`].
    pub hide_k: bool,
}

/// How four steps of `k` are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// One after the other.
    Steps,
    /// Among themselves first; see [`super::Matmul::pairs`].
    Pairs,
    /// As a matrix with a vector, then to the others: SwiftShader's compiler, which keeps few values in registers, makes the
    /// most of that.
    Matrix,
}

impl Layout {
    /// The end of the kernel's name: `_nt_a4_b4_w4_sums`.
    pub fn suffix(&self) -> String {
        let mut suffix =
            format!("_{}{}", if self.a.along_k { "n" } else { "t" }, if self.b.along_k { "t" } else { "n" });
        suffix.push_str(&format!("_a{}_b{}", self.a.suffix(), self.b.suffix()));
        suffix.push_str(if self.width == 4 { "_w4" } else { "_w1" });
        if !self.k_exact {
            suffix.push_str("_edge");
        }
        if self.sums {
            suffix.push_str("_sums");
        }
        if self.row_sums {
            suffix.push_str("_rows");
        }
        suffix
    }
}

/// One operand: its name, layout, and the parameters that place it.
pub struct Port<'t> {
    pub name: &'static str,
    pub side: Side,
    walks: Option<&'t Walks>,
    /// The loop takes the steps of `k` one after the other, so that a walk is counted along.
    counted: bool,
    /// The parameter with the stride of the axis that is not contiguous.
    stride: &'static str,
    /// The parameter with the extent of the axis that is not `k`.
    extent: &'static str,
    k_exact: bool,
}

impl<'t> Port<'t> {
    pub fn a(layout: &Layout, walks: &'t [Option<Walks>; 2]) -> Port<'t> {
        let stride = if layout.a.along_k { "a_row" } else { "a_col" };
        let walks = walks[0].as_ref();
        Port { name: "a", side: layout.a, walks, counted: false, stride, extent: "m", k_exact: layout.k_exact }
    }

    pub fn b(layout: &Layout, walks: &'t [Option<Walks>; 2]) -> Port<'t> {
        let stride = if layout.b.along_k { "b_col" } else { "b_row" };
        let walks = walks[1].as_ref();
        Port { name: "b", side: layout.b, walks, counted: false, stride, extent: "n", k_exact: layout.k_exact }
    }

    /// For a loop that takes every step of `k` in order.
    pub fn counted(self) -> Port<'t> {
        Port { counted: true, ..self }
    }

    /// Before the loop: the first element of the present batch, the stride, and the last legal
    /// position along `x`, in the array's own units.
    pub fn declare(&self, text: &mut Text) {
        let p = self.name;
        let shift = if self.side.vec4 { " >> 2u" } else { "" };
        text.line(format!(
            "let {p}_base = (params.{p}_offset + batch_outer * params.{p}_batch_outer \
             + batch_inner * params.{p}_batch_inner){shift};"
        ));
        text.line(format!("let {p}_stride = params.{}{shift};", self.stride));
        let units = if self.side.vec4 && !self.side.along_k { "(params.{} >> 2u)" } else { "params.{}" };
        text.line(format!("let {p}_last = {} - 1u;", units.replace("{}", self.extent)));
        if let Some(walks) = self.walks.filter(|_| self.counted) {
            walks.declare_counters(text, p);
        }
    }

    /// Before the loop: where block `q`, which starts at `x`, lies at `k = 0`. Positions beyond the
    /// edge are moved to it: they are read, but never stored.
    pub fn place(&self, text: &mut Text, q: u32, x: &str) {
        let p = self.name;
        match (self.side.along_k, self.side.vec4) {
            (true, _) => {
                for j in 0..4 {
                    text.line(format!("let {p}{q}_at{j} = {p}_base + min({x} + {j}u, {p}_last) * {p}_stride;"));
                }
            }
            (false, true) => text.line(format!("let {p}{q}_at = {p}_base + min(({x}) >> 2u, {p}_last);")),
            (false, false) => {
                (0..4)
                    .for_each(|j| self.position(text, &format!("{p}{q}_at{j}"), &format!("min({x} + {j}u, {p}_last)")));
            }
        }
    }

    /// `{name}`: where a position along the contiguous axis lies, and `{name}_0`, …: its coordinates.
    pub fn position(&self, text: &mut Text, name: &str, x: &str) {
        let p = self.name;
        let Some(walks) = self.walks else {
            text.line(format!("let {name} = {p}_base + {x};"));
            return;
        };
        text.line(format!("let {name} = {p}_base + {p}_x({x});"));
        (0..walks.bounds.len()).for_each(|i| text.line(format!("let {name}_{i} = {p}_x_along{i}({x});")));
    }

    /// `{name}`: where a step across the contiguous axis lies, and `{name}_0`, …: its coordinates.
    pub fn step(&self, text: &mut Text, name: &str, k: &str) {
        let p = self.name;
        let Some(walks) = self.walks else {
            text.line(format!("let {name} = {k} * {p}_stride;"));
            return;
        };
        text.line(format!("let {name} = {p}_k({k});"));
        (0..walks.bounds.len()).for_each(|i| text.line(format!("let {name}_{i} = {p}_k_along{i}({k});")));
    }

    /// The element at a position and a step that were named before; 0 where `inside` does not hold.
    pub fn walked(&self, walks: &Walks, at: &str, k: &str, inside: Option<String>) -> String {
        let p = self.name;
        let bounded = |(i, (length, _)): (usize, &(usize, usize))| format!("{at}_{i} + {k}_{i} < {length}u");
        let tests: Vec<String> = inside.into_iter().chain(walks.bounds.iter().enumerate().map(bounded)).collect();
        match tests.is_empty() {
            true => format!("{p}[{at} + {k}]"),
            false => format!("{p}_load({at} + {k}, {})", tests.join(" && ")),
        }
    }

    /// In the loop: offsets of the four steps from `k` on.
    pub fn advance(&self, text: &mut Text, k: &str) {
        let p = self.name;
        let at = |kk: u32| match self.k_exact {
            true => format!("({k} + {kk}u)"),
            false => format!("min({k} + {kk}u, params.k - 1u)"),
        };
        match (self.side.along_k, self.side.vec4) {
            (true, true) => text.line(format!("let {p}_k0 = {} >> 2u;", at(0))),
            (true, false) => (0..4).for_each(|kk| text.line(format!("let {p}_k{kk} = {};", at(kk)))),
            (false, _) => match self.walks.filter(|_| self.counted) {
                Some(walks) => (0..4).for_each(|kk| walks.count(text, p, kk)),
                None => (0..4).for_each(|kk| self.step(text, &format!("{p}_k{kk}"), &at(kk))),
            },
        }
        if !self.k_exact {
            (0..4).for_each(|kk| text.line(format!("let {p}_in{kk} = {k} + {kk}u < params.k;")));
        }
    }

    /// In the loop: reads block `q` into four vectors.
    pub fn load(&self, text: &mut Text, q: u32) {
        let p = self.name;
        if let Some(walks) = self.walks {
            for j in 0..4 {
                let inside = || (!self.k_exact).then(|| format!("{p}_in{j}"));
                let value = vector(|c| self.walked(walks, &format!("{p}{q}_at{c}"), &format!("{p}_k{j}"), inside()));
                text.line(format!("let {p}{q}_{j} = {value};"));
            }
            return;
        }
        for j in 0..4 {
            let value = match (self.side.along_k, self.side.vec4) {
                (true, true) => self.masked_vector(&format!("{p}[{p}{q}_at{j} + {p}_k0]"), 0),
                (false, true) => self.masked_vector(&format!("{p}[{p}{q}_at + {p}_k{j}]"), j),
                (true, false) => vector(|c| self.masked(&format!("{p}[{p}{q}_at{j} + {p}_k{c}]"), c)),
                (false, false) => vector(|c| self.masked(&format!("{p}[{p}{q}_at{c} + {p}_k{j}]"), j)),
            };
            text.line(format!("let {p}{q}_{j} = {value};"));
        }
    }

    pub fn k_exact(&self) -> bool {
        self.k_exact
    }

    pub fn masked(&self, value: &str, kk: u32) -> String {
        match self.k_exact {
            true => value.to_string(),
            false => format!("select(0.0, {value}, {}_in{kk})", self.name),
        }
    }

    pub fn masked_vector(&self, value: &str, kk: u32) -> String {
        match self.k_exact {
            true => value.to_string(),
            false => format!("select(vec4<f32>(0.0), {value}, {}_in{kk})", self.name),
        }
    }

    /// The element of block `x / 4` at step `kk` and position `x`.
    pub fn element(&self, x: u32, kk: u32) -> String {
        let (p, q, j) = (self.name, x / 4, x % 4);
        match self.side.along_k {
            true => format!("{p}{q}_{j}.{}", component(kk)),
            false => format!("{p}{q}_{kk}.{}", component(j)),
        }
    }

    /// The vector across `k` of block `q` at step `kk`.
    pub fn across(&self, q: u32, kk: u32) -> String {
        match self.side.along_k {
            true => vector(|j| self.element(4 * q + j, kk)),
            false => format!("{}{q}_{kk}", self.name),
        }
    }
}

pub fn component(index: u32) -> &'static str {
    COMPONENT[index as usize % 4]
}

pub fn vector(element: impl Fn(u32) -> String) -> String {
    let elements: Vec<String> = (0..4).map(element).collect();
    format!("vec4<f32>({})", elements.join(", "))
}

/// Opens `main` and finds the workgroup's tile: `batch`, `row0`, `col0`.
pub fn open_main(text: &mut Text, builtin: &str, tile_m: u32, tile_n: u32) {
    open_main_with(text, &[(builtin, "lane")], "workgroup_index(wid, nwg)", [tile_m, tile_n]);
}

/// The same with several builtins of type `u32`, each with its name, and another way to say which workgroup this is.
pub fn open_main_with(text: &mut Text, builtins: &[(&str, &str)], group: &str, [tile_m, tile_n]: [u32; 2]) {
    text.line("@compute @workgroup_size(WG)");
    text.line("fn main(");
    text.line("    @builtin(workgroup_id) wid: vec3<u32>,");
    text.line("    @builtin(num_workgroups) nwg: vec3<u32>,");
    builtins.iter().for_each(|(builtin, name)| text.line(format!("    @builtin({builtin}) {name}: u32,")));
    text.open(")");
    text.line(format!("let group = {group};"));
    text.lines("if (group >= params.groups) {\n    return;\n}");
    text.line("let tiles = params.tiles_m * params.tiles_n;");
    text.line("let batch = group / tiles;");
    text.line("let tile = group % tiles;");
    text.line(format!("let first = tile / ({BAND}u * params.tiles_n) * {BAND}u;"));
    text.line(format!("let within = tile % ({BAND}u * params.tiles_n);"));
    text.line(format!("let band = min({BAND}u, params.tiles_m - first);"));
    text.line(format!("let row0 = (first + within % band) * {tile_m}u;"));
    text.line(format!("let col0 = within / band * {tile_n}u;"));
    text.line("let batch_outer = batch / params.batch_inner;");
    text.line("let batch_inner = batch % params.batch_inner;");
}

/// The loop's bound. lavapipe compiles a shader anew at every submission when inlining a uniform
/// that bounds a loop would shrink it much, which costs a hundred times the product itself. No
/// array is empty, so that this is always `params.k`, but a compiler cannot know it.
pub fn k_end(layout: &Layout) -> &'static str {
    match layout.hide_k {
        true => "let k_end = select(params.k, 0u, arrayLength(&a) == 0u);",
        false => "let k_end = params.k;",
    }
}

/// The accumulators `c{row}_{quad}`, `s{quad}` of the column sums, and `t{row}` of the row sums.
pub fn accumulators(text: &mut Text, layout: &Layout, rows: u32, quads: u32) {
    if layout.row_sums {
        (0..rows).for_each(|i| text.line(format!("var t{i} = 0.0;")));
    }
    for q in 0..quads {
        (0..rows).for_each(|i| text.line(format!("var c{i}_{q} = vec4<f32>(0.0);")));
        if layout.sums {
            text.line(format!("var s{q} = vec4<f32>(0.0);"));
        }
    }
}

/// `steps` of `k`: the products of `a(row, step)` with `b(quad, step)`, row by row, so that an
/// accumulator stays in its register through the steps.
pub fn products(
    text: &mut Text,
    layout: &Layout,
    (rows, quads, steps): (u32, u32, u32),
    a: impl Fn(u32, u32) -> String,
    b: impl Fn(u32, u32) -> String,
) {
    if layout.row_sums {
        // The first column of tiles sees every row.
        text.open("if (col0 == 0u)");
        for i in 0..rows {
            let parts: Vec<String> = (0..steps).map(|kk| a(i, kk)).collect();
            text.line(format!("t{i} += {};", parts.join(" + ")));
        }
        text.close();
    }
    for q in 0..quads {
        (0..steps).for_each(|kk| text.line(format!("let y{q}_{kk} = {};", b(q, kk))));
        let sum = if steps == 4 { layout.sum } else { Sum::Steps };
        if sum == Sum::Matrix {
            text.line(format!("let y{q} = mat4x4<f32>(y{q}_0, y{q}_1, y{q}_2, y{q}_3);"));
        }
        for i in 0..rows {
            let product = |kk: u32| format!("{} * y{q}_{kk}", a(i, kk));
            match sum {
                Sum::Steps => (0..steps).for_each(|kk| text.line(format!("c{i}_{q} += {};", product(kk)))),
                Sum::Pairs => {
                    let [p0, p1, p2, p3] = [0, 1, 2, 3].map(product);
                    text.line(format!("c{i}_{q} += ({p0} + {p1}) + ({p2} + {p3});"));
                }
                Sum::Matrix => text.line(format!("c{i}_{q} += y{q} * {};", vector(|kk| a(i, kk)))),
            }
        }
        if layout.sums {
            (0..steps).for_each(|kk| text.line(format!("s{q} += y{q}_{kk};")));
        }
    }
}

/// `store_quad`, before `main`: four neighbouring outputs, or those of them that exist.
pub fn store_quad(text: &mut Text, layout: &Layout) {
    text.open("fn store_quad(batch: u32, row: u32, col: u32, value: vec4<f32>)");
    text.open("if (row < params.m)");
    guarded(text, layout, |offset, part| format!("store(batch, row, col{offset}, value{part});"));
    text.close();
    text.close();
    text.line("");
    if layout.sums {
        text.open("fn store_sums(col: u32, value: vec4<f32>)");
        let at = |offset: &str| match layout.width {
            4 => "(params.sums_offset + col) >> 2u".to_string(),
            _ => format!("params.sums_offset + col{offset}"),
        };
        guarded(text, layout, |offset, part| format!("column_sums[{}] = value{part};", at(offset)));
        text.close();
        text.line("");
    }
}

fn guarded(text: &mut Text, layout: &Layout, write: impl Fn(&str, &str) -> String) {
    if layout.width == 4 {
        text.open("if (col < params.n)");
        text.line(write("", ""));
        text.close();
        return;
    }
    for (j, part) in COMPONENT.iter().enumerate() {
        text.open(format!("if (col + {j}u < params.n)"));
        text.line(write(&format!(" + {j}u"), &format!(".{part}")));
        text.close();
    }
}

/// Stores all accumulators; `row(i)` and `col(quad)` say where they belong.
pub fn store_all(
    text: &mut Text,
    layout: &Layout,
    (rows, quads): (u32, u32),
    row: impl Fn(u32) -> String,
    col: impl Fn(u32) -> String,
) {
    for q in 0..quads {
        for i in 0..rows {
            text.line(format!("store_quad(batch, {}, {}, c{i}_{q});", row(i), col(q)));
        }
    }
    store_all_sums(text, layout, quads, &row(0), col);
}

/// As [`store_all`] for consecutive rows from `row` on, but the text of `store` occurs only once per
/// quad, while the accumulators move through the first of them. On software adapters compiling an
/// epilogue once per row costs far more than the moves. A move is a load and a store all the same: only a few accumulators
/// move with every row.
pub fn store_rotating(
    text: &mut Text,
    layout: &Layout,
    (rows, quads): (u32, u32),
    row: &str,
    col: impl Fn(u32) -> String,
) {
    let shift = |text: &mut Text, name: &str, by: u32, count: u32, q: u32| {
        (by..count).for_each(|i| text.line(format!("{name}{}_{q} = {name}{i}_{q};", i - by)));
    };
    // The bounds must not be constants: the loops would be unrolled.
    let end = format!("min({rows}u, max(params.m, {row}) - {row})");
    if rows <= ROTATED {
        text.open(format!("for (var i = 0u; i < {end}; i += 1u)"));
        for q in 0..quads {
            text.line(format!("store_quad(batch, {row} + i, {}, c0_{q});", col(q)));
            shift(text, "c", 1, rows, q);
        }
    } else {
        text.line(format!("let rows_end = {end};"));
        text.open(format!("for (var i = 0u; i < rows_end; i += {ROTATED}u)"));
        for q in 0..quads {
            (0..ROTATED).for_each(|i| text.line(format!("var d{i}_{q} = c{i}_{q};")));
        }
        text.open(format!("for (var j = i; j < min(i + {ROTATED}u, rows_end); j += 1u)"));
        for q in 0..quads {
            text.line(format!("store_quad(batch, {row} + j, {}, d0_{q});", col(q)));
            shift(text, "d", 1, ROTATED, q);
        }
        text.close();
        (0..quads).for_each(|q| shift(text, "c", ROTATED, rows, q));
    }
    text.close();
    store_all_sums(text, layout, quads, row, col);
}

/// Hands out the row sums, from the invocations for which `first` holds.
pub fn store_row_sums(text: &mut Text, layout: &Layout, rows: u32, first: &str, row: impl Fn(u32) -> String) {
    if !layout.row_sums {
        return;
    }
    text.open(format!("if (col0 == 0u && {first})"));
    for i in (0..rows).step_by(4) {
        let value = vector(|j| format!("t{}", i + j));
        text.open(format!("if ({} < params.m)", row(i)));
        text.line(format!("store_row_sums(batch, {}, {value});", row(i)));
        text.close();
    }
    text.close();
}

fn store_all_sums(text: &mut Text, layout: &Layout, quads: u32, row: &str, col: impl Fn(u32) -> String) {
    if layout.sums {
        text.open(format!("if ({row} == 0u && batch == 0u)"));
        (0..quads).for_each(|q| text.line(format!("store_sums({}, s{q});", col(q))));
        text.close();
    }
}
