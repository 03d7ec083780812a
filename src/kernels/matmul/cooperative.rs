//! The product on a GPU's matrix units: a subgroup multiplies square matrices of f16 and adds up in f32.
//!
//! Both operands are staged in workgroup memory as f16, in the layout that they have in storage, so that whole vectors are
//! copied; the units read a matrix by rows or by columns. An operand that is stored in f32 is rounded there, as autocast
//! would. Each subgroup keeps `rows` x `cols` matrices of sums, and hands them back through workgroup memory, so that
//! `store` gets vectors of four as everywhere.
//!
//! What matrix units give is the driver's word only, so no rule chooses this variant: it has to be measured on the adapter,
//! where it is compared with the direct product first (`train/units.rs`).

use super::block::{self, Layout, Port};
use super::walk::Walks;
use super::{Matmul, Variant};
use crate::dtype::DType;
use crate::kernels::profile::Cooperative;
use crate::kernels::text::Text;

/// The matrices of a workgroup.
#[derive(Clone, Copy)]
pub struct Tile {
    pub m: u32,
    pub n: u32,
    pub k: u32,
    /// Side of a matrix.
    pub size: u32,
    /// Invocations of a subgroup.
    pub lanes: u32,
    /// Matrices of a subgroup.
    pub rows: u32,
    pub cols: u32,
}

/// The variants worth measuring on such an adapter.
pub fn variants(units: Cooperative) -> Vec<Variant> {
    let Cooperative { size, lanes } = units;
    let variant = |[tile_m, tile_n, tile_k]: [u32; 3], [m, n]: [u32; 2]| Variant::Cooperative {
        size,
        lanes,
        tile_m,
        tile_n,
        tile_k,
        rows: m / size,
        cols: n / size,
    };
    let small = [([64, 64, 32], [32, 32]), ([32, 32, 32], [16, 16]), ([64, 32, 32], [32, 16])];
    // A matrix of 8 x 8 is a quarter of the work: so many of them would be a long text.
    let large = [([128, 128, 32], [64, 32]), ([128, 128, 32], [64, 64]), ([128, 64, 32], [64, 32])];
    let large = large.iter().filter(|_| size == 16);
    small.iter().chain(large).map(|&(tile, part)| variant(tile, part)).collect()
}

/// Whether a product can be computed so: from f16, at least one side, and that side where it is summed too.
pub fn takes(mm: &Matmul) -> bool {
    let [a, b] = mm.stored;
    let halves = mm.stored.contains(&DType::F16) && !mm.stored.contains(&DType::BF16);
    halves && (!mm.bias_gradient || b == DType::F16) && (!mm.row_sums || a == DType::F16)
}

impl Tile {
    /// Subgroups along `m` and `n`.
    fn along(&self) -> (u32, u32) {
        (self.m / (self.size * self.rows), self.n / (self.size * self.cols))
    }

    fn subgroups(&self) -> u32 {
        let (m, n) = self.along();
        m * n
    }

    /// Invocations of a workgroup.
    pub fn workgroup(&self) -> u32 {
        self.subgroups() * self.lanes
    }

    /// Elements of one matrix.
    fn area(&self) -> u32 {
        self.size * self.size
    }

    /// Bytes of workgroup memory, at most.
    pub fn workgroup_bytes(&self) -> u32 {
        let staged = |extent: u32| 2 * (extent * pitch(self.k)).max(self.k * pitch(extent));
        staged(self.m) + staged(self.n) + 4 * self.subgroups() * self.area()
    }

    /// Elements in one entry of workgroup memory. Metal's matrices are loaded through pointers to single numbers.
    fn unit(&self) -> u32 {
        if self.size == 16 { 4 } else { 1 }
    }
}

/// Elements from one row of a staged operand to the next: matrices begin at multiples of 16 bytes, and neighbouring rows in
/// different banks.
fn pitch(extent: u32) -> u32 {
    extent + 8
}

/// One operand in workgroup memory.
struct Staged<'t> {
    port: Port<'t>,
    /// Elements along the axis that is not `k`.
    extent: u32,
    tile: Tile,
}

impl Staged<'_> {
    /// Rows of workgroup memory.
    fn outer(&self) -> u32 {
        if self.port.side.along_k { self.extent } else { self.tile.k }
    }

    /// Elements of a row.
    fn inner(&self) -> u32 {
        if self.port.side.along_k { self.tile.k } else { self.extent }
    }

    /// Entries from one row to the next.
    fn stride(&self) -> u32 {
        pitch(self.inner()) / self.tile.unit()
    }

    fn declare(&self, text: &mut Text) {
        let element = if self.tile.unit() == 4 { "vec4<f16>" } else { "f16" };
        text.line(format!(
            "var<workgroup> tile_{}: array<{element}, {}>;",
            self.port.name,
            self.outer() * self.stride()
        ));
    }

    /// Copies the operand's part of the tile, a 4 x 4 block per invocation and turn.
    fn stage(&self, text: &mut Text) {
        let (port, p) = (&self.port, self.port.name);
        let (fours, blocks) = (self.inner() / 4, self.inner() / 4 * (self.outer() / 4));
        // Neighbouring invocations read neighbouring vectors of storage.
        text.open(format!("for (var block = lane; block < {blocks}u; block += WG)"));
        text.line(format!("let inner = block % {fours}u * 4u;"));
        text.line(format!("let outer = block / {fours}u * 4u;"));
        let (k, x) = if port.side.along_k { ("inner", "outer") } else { ("outer", "inner") };
        text.line(format!("let k = k0 + {k};"));
        let origin = if p == "a" { "row0" } else { "col0" };
        port.place(text, 0, &format!("{origin} + {x}"));
        port.advance(text, "k");
        port.load(text, 0);
        for j in 0..4 {
            if self.tile.unit() == 4 {
                text.line(format!("tile_{p}[(outer + {j}u) * {}u + inner / 4u] = vec4<f16>({p}0_{j});", self.stride()));
                continue;
            }
            text.line(format!("let half{j} = vec4<f16>({p}0_{j});"));
            for c in 0..4 {
                let at = format!("(outer + {j}u) * {}u + inner + {c}u", self.stride());
                text.line(format!("tile_{p}[{at}] = half{j}.{};", block::component(c)));
            }
        }
        text.close();
    }

    /// The matrix that begins at `x` and `kk`, as the units read it.
    fn matrix(&self, x: &str) -> String {
        let Tile { size, .. } = self.tile;
        let (role, unit, stride) = (self.port.name.to_ascii_uppercase(), self.tile.unit(), self.stride());
        let entry = |at: &str| if unit == 1 { at.to_string() } else { format!("({at}) / {unit}u") };
        let at = match self.port.side.along_k {
            true => format!("({x}) * {stride}u + {}", entry("kk")),
            false => format!("kk * {stride}u + {}", entry(x)),
        };
        // `a` is `m` x `k`, `b` is `k` x `n`: which of them has rows in memory depends on the axis that is contiguous.
        let load = if (self.port.name == "a") == self.port.side.along_k { "coopLoadT" } else { "coopLoad" };
        format!("{load}<coop_mat{size}x{size}<f16, {role}>>(&tile_{}[{at}], {stride}u)", self.port.name)
    }

    /// Adds what is staged along `k` to the vector `sum`, of four neighbours at `4 * lane`.
    fn add_up(&self, text: &mut Text, sum: &str) {
        let (along_k, unit, stride) = (self.port.side.along_k, self.tile.unit(), self.stride());
        let entry = |j: u32| {
            let at = match (along_k, unit) {
                (true, _) => format!("(lane * 4u + {j}u) * {stride}u + i"),
                (false, 4) => format!("i * {stride}u + lane"),
                (false, _) => format!("i * {stride}u + lane * 4u + {j}u"),
            };
            format!("tile_{}[{at}]", self.port.name)
        };
        let value = match (along_k, unit) {
            (false, 4) => format!("vec4<f32>({})", entry(0)),
            (true, 4) => block::vector(|j| format!("dot(vec4<f32>({}), vec4<f32>(1.0))", entry(j))),
            _ => block::vector(|j| format!("f32({})", entry(j))),
        };
        let steps = if along_k { self.tile.k / unit } else { self.tile.k };
        text.open(format!("for (var i = 0u; i < {steps}u; i += 1u)"));
        text.line(format!("{sum} += {value};"));
        text.close();
    }
}

/// The text of a variant. The sums beside a product are those of what is staged, which is what is multiplied.
pub fn body(layout: &Layout, walks: &[Option<Walks>; 2], tile: Tile) -> String {
    let mut text = Text::new();
    let a = Staged { port: Port::a(layout, walks), extent: tile.m, tile };
    let b = Staged { port: Port::b(layout, walks), extent: tile.n, tile };
    let (_, along_n) = tile.along();
    text.line(format!("const AREA: u32 = {}u;", tile.area() / tile.unit()));
    a.declare(&mut text);
    b.declare(&mut text);
    let sums = if tile.unit() == 4 { "vec4<f32>" } else { "f32" };
    text.line(format!("var<workgroup> tile_c: array<{sums}, {}>;", tile.subgroups() * tile.area() / tile.unit()));
    text.line("");
    block::store_quad(&mut text, layout);
    block::open_main_with(
        &mut text,
        &[("local_invocation_index", "lane"), ("subgroup_id", "subgroup_index")],
        // naga tells from this, and not through a function, that all invocations return together.
        "wid.x + wid.y * nwg.x",
        [tile.m, tile.n],
    );
    // Subgroups that are smaller than the largest are more than there is work for: they repeat the last one's.
    text.line(format!("let subgroup = min(subgroup_index, {}u);", tile.subgroups() - 1));
    text.line(format!("let sub_m = subgroup / {along_n}u * {}u;", tile.size * tile.rows));
    text.line(format!("let sub_n = subgroup % {along_n}u * {}u;", tile.size * tile.cols));
    a.port.declare(&mut text);
    b.port.declare(&mut text);
    text.line(block::k_end(layout));
    accumulators(&mut text, layout, tile);
    text.open(format!("for (var k0 = 0u; k0 < k_end; k0 += {}u)", tile.k));
    a.stage(&mut text);
    b.stage(&mut text);
    text.line("workgroupBarrier();");
    add_up(&mut text, layout, [&a, &b]);
    text.open(format!("for (var kk = 0u; kk < {}u; kk += {}u)", tile.k, tile.size));
    multiply(&mut text, tile, &a, &b);
    text.close();
    text.line("workgroupBarrier();");
    text.close();
    each(tile, |r, c| hand_back(&mut text, tile, r, c));
    store_sums(&mut text, layout, tile);
    text.close();
    text.finish()
}

fn each(tile: Tile, mut what: impl FnMut(u32, u32)) {
    (0..tile.rows).for_each(|r| (0..tile.cols).for_each(|c| what(r, c)));
}

/// `c{row}_{col}`: a subgroup's sums, from zero; and those beside the product.
fn accumulators(text: &mut Text, layout: &Layout, tile: Tile) {
    let (size, zero) = (tile.size, if tile.unit() == 4 { "vec4<f32>(0.0)" } else { "0.0" });
    // A matrix that is not loaded holds anything on Metal.
    text.open(format!("for (var i = lane; i < {}u * AREA; i += WG)", tile.subgroups()));
    text.line(format!("tile_c[i] = {zero};"));
    text.close();
    text.line("workgroupBarrier();");
    let stride = size / tile.unit();
    let zeros = format!("coopLoadT<coop_mat{size}x{size}<f32, C>>(&tile_c[subgroup * AREA], {stride}u)");
    each(tile, |r, c| text.line(format!("var c{r}_{c} = {zeros};")));
    for (wanted, name) in [(layout.sums, "column_sum"), (layout.row_sums, "row_sum")] {
        if wanted {
            text.line(format!("var {name} = vec4<f32>(0.0);"));
        }
    }
}

/// The sums beside the product, of the first row or column of tiles.
fn add_up(text: &mut Text, layout: &Layout, [a, b]: [&Staged<'_>; 2]) {
    for (wanted, name, staged, first) in
        [(layout.sums, "column_sum", b, "row0 == 0u"), (layout.row_sums, "row_sum", a, "col0 == 0u")]
    {
        if wanted {
            text.open(format!("if ({first} && lane < {}u)", staged.extent / 4));
            staged.add_up(text, name);
            text.close();
        }
    }
}

fn store_sums(text: &mut Text, layout: &Layout, tile: Tile) {
    if layout.sums {
        text.open(format!("if (row0 == 0u && batch == 0u && lane < {}u)", tile.n / 4));
        text.line("store_sums(col0 + lane * 4u, column_sum);");
        text.close();
    }
    if layout.row_sums {
        text.open(format!("if (col0 == 0u && lane < {}u && row0 + lane * 4u < params.m)", tile.m / 4));
        text.line("store_row_sums(batch, row0 + lane * 4u, row_sum);");
        text.close();
    }
}

/// `size` steps of `k` from `kk` on.
fn multiply(text: &mut Text, tile: Tile, a: &Staged<'_>, b: &Staged<'_>) {
    let at = |part: &str, i: u32| format!("{part} + {}u", i * tile.size);
    (0..tile.rows).for_each(|r| text.line(format!("let a{r} = {};", a.matrix(&at("sub_m", r)))));
    (0..tile.cols).for_each(|c| text.line(format!("let b{c} = {};", b.matrix(&at("sub_n", c)))));
    each(tile, |r, c| text.line(format!("c{r}_{c} = coopMultiplyAdd(a{r}, b{c}, c{r}_{c});")));
}

/// One matrix of every subgroup through workgroup memory to `store`, its vectors dealt over all invocations.
fn hand_back(text: &mut Text, tile: Tile, r: u32, c: u32) {
    let Tile { size, rows, cols, .. } = tile;
    let (_, along_n) = tile.along();
    let (fours, quads) = (size / 4, tile.area() / 4);
    text.line(format!("coopStoreT(c{r}_{c}, &tile_c[subgroup * AREA], {}u);", size / tile.unit()));
    text.line("workgroupBarrier();");
    text.open(format!("for (var quad = lane; quad < {}u; quad += WG)", quads * tile.subgroups()));
    text.line(format!("let owner = quad / {quads}u;"));
    let row = format!("owner / {along_n}u * {}u + quad % {quads}u / {fours}u + {}u", size * rows, r * size);
    let col = format!("owner % {along_n}u * {}u + quad % {fours}u * 4u + {}u", size * cols, c * size);
    let value = match tile.unit() {
        4 => "tile_c[quad]".to_string(),
        _ => block::vector(|j| format!("tile_c[quad * 4u + {j}u]")),
    };
    text.line(format!("store_quad(batch, row0 + {row}, col0 + {col}, {value});"));
    text.close();
    text.line("workgroupBarrier();");
}
