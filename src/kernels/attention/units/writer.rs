//! The words of which the kernels for matrix units are made: staging, matrices, sums, and what the invocations of a row tell
//! each other.

use super::{Block, MET, OWN, Tile};
use crate::kernels::text::Text;

/// A kernel's text in the making.
pub struct Writer {
    pub text: Text,
    pub block: Block,
    pub tiles: Vec<Tile>,
}

impl Writer {
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.text.line(line);
    }

    pub fn barrier(&mut self) {
        self.line("workgroupBarrier();");
    }

    /// Vectors of a row that each of its invocations has: of `cols` columns the `part`-th, and every `sharers`-th from there on.
    pub fn shares(&self, cols: u32) -> u32 {
        cols / 4 / self.block.sharers()
    }

    /// The vector of a row that is an invocation's `index`-th.
    pub fn share(&self, index: u32) -> String {
        format!("part + {}u", index * self.block.sharers())
    }

    pub fn tile(&self, name: &str) -> Tile {
        // Every name is one that `Block::tiles` gives.
        *self.tiles.iter().find(|tile| tile.name == name).unwrap_or(&self.tiles[0])
    }

    /// A tile, with the function that the invocations use it by.
    pub fn declare(&mut self, tile: &Tile) {
        let Tile { name, rows, half, .. } = *tile;
        let unit = self.block.unit();
        let number = if half { "f16" } else { "f32" };
        let element = if unit == 4 { format!("vec4<{number}>") } else { number.to_string() };
        let (entries, pitch) = (rows * tile.pitch() / unit, tile.pitch() / 4);
        self.line(format!("var<workgroup> tile_{name}: array<{element}, {entries}>;"));
        self.line("");
        let at = |j: u32| match unit {
            4 => format!("tile_{name}[row * {pitch}u + vector]"),
            _ => format!("tile_{name}[(row * {pitch}u + vector) * 4u + {j}u]"),
        };
        if half {
            self.text.open(format!("fn put_{name}(row: u32, vector: u32, value: vec4<f16>)"));
            match unit {
                4 => self.line(format!("{} = value;", at(0))),
                _ => (0..4).for_each(|j| self.line(format!("{} = value[{j}];", at(j)))),
            }
        } else {
            self.text.open(format!("fn {name}(row: u32, vector: u32) -> vec4<f32>"));
            match unit {
                4 => self.line(format!("return {};", at(0))),
                _ => self.line(format!("return vec4<f32>({}, {}, {}, {});", at(0), at(1), at(2), at(3))),
            }
        }
        self.text.close();
        self.line("");
    }

    /// Copies rows of a head, from row `from` on and up to row `end`, beyond which the last is repeated.
    pub fn stage(&mut self, tile: &str, port: &str, from: &str, end: &str) {
        let tile = self.tile(tile);
        let vectors = tile.cols / 4;
        self.text.open(format!("for (var i = lane; i < {}u; i += WG)", tile.rows * vectors));
        self.line(format!("let at = {port}_at + min({from} + i / {vectors}u, {end} - 1u) * params.{port}_time;"));
        self.line(format!("put_{}(i / {vectors}u, i % {vectors}u, {port}[at + i % {vectors}u]);", tile.name));
        self.text.close();
    }

    /// The matrix of a factor that begins at a row and a column; `by_rows`: the factor is the tile and not what it is
    /// transposed.
    pub fn load(&self, role: &str, tile: &Tile, [row, col]: [&str; 2], by_rows: bool) -> String {
        let (size, unit) = (self.block.units.size, self.block.unit());
        let pitch = tile.pitch() / unit;
        let (load, col) = (
            if by_rows { "coopLoadT" } else { "coopLoad" },
            if unit == 1 { col.to_string() } else { format!("({col}) / {unit}u") },
        );
        let number = if tile.half { "f16" } else { "f32" };
        format!(
            "{load}<coop_mat{size}x{size}<{number}, {role}>>(&tile_{}[({row}) * {pitch}u + {col}], {pitch}u)",
            tile.name
        )
    }

    /// `{sum}{r}_{c} += left * right` for every matrix of `cols` columns from `col0` on; the owned rows of `left`, and of
    /// `right` all of its rows, or columns if it is `transposed`.
    pub fn multiply(&mut self, sum: &str, left: &str, right: &str, transposed: bool, [col0, cols]: [u32; 2]) {
        let (left, right, size) = (self.tile(left), self.tile(right), self.block.units.size);
        self.text.open(format!("for (var kk = 0u; kk < {}u; kk += {size}u)", left.cols));
        for r in 0..OWN / size {
            let matrix = self.load("A", &left, [&format!("own + {}u", r * size), "kk"], true);
            self.line(format!("let a{r} = {matrix};"));
        }
        for c in 0..cols / size {
            let col = format!("{}u", col0 + c * size);
            let at = if transposed { [col.as_str(), "kk"] } else { ["kk", col.as_str()] };
            let matrix = self.load("B", &right, at, !transposed);
            self.line(format!("let b{c} = {matrix};"));
            for r in 0..OWN / size {
                self.line(format!("{sum}{r}_{c} = coopMultiplyAdd(a{r}, b{c}, {sum}{r}_{c});"));
            }
        }
        self.text.close();
    }

    /// Matrices of `cols` columns, from zero.
    pub fn zeros(&mut self, sum: &str, cols: u32) {
        let size = self.block.units.size;
        for (r, c) in matrices(size, cols) {
            self.line(format!("var {sum}{r}_{c} = zero;"));
        }
    }

    /// Matrices from the `skip`-th column of them on to the tile of sums.
    pub fn store(&mut self, sum: &str, [skip, cols]: [u32; 2]) {
        let (size, unit, pitch) =
            (self.block.units.size, self.block.unit(), self.block.sums().pitch() / self.block.unit());
        for (r, c) in matrices(size, cols) {
            let at = format!("(own + {}u) * {pitch}u + {}u", r * size, c * size / unit);
            self.line(format!("coopStoreT({sum}{r}_{}, &tile_sums[{at}], {pitch}u);", c + skip / size));
        }
    }

    /// The products of the owned rows with all that are met, which the invocations find in `sums` behind the barrier.
    pub fn scores(&mut self, own: &str, met: &str) {
        self.text.scope();
        self.zeros("s", MET);
        self.multiply("s", own, met, true, [0, MET]);
        self.store("s", [0, MET]);
        self.text.close();
        self.barrier();
    }

    /// `zero`, from which all sums start: on Metal a matrix that is not loaded holds anything.
    pub fn zero(&mut self) {
        let (unit, sums) = (self.block.unit(), self.block.sums());
        let value = if unit == 4 { "vec4<f32>(0.0)" } else { "0.0" };
        self.text.open(format!("for (var i = lane; i < {}u; i += WG)", sums.rows * sums.pitch() / unit));
        self.line(format!("tile_sums[i] = {value};"));
        self.text.close();
        self.barrier();
        let zero = self.load("C", &sums, ["0u", "0u"], true);
        self.line(format!("let zero = {zero};"));
    }

    /// What the invocations of a row tell each other: `name` becomes `join` of all their `own`.
    pub fn tell(&mut self, name: &str, own: &str, join: impl Fn(String, String) -> String) {
        self.line(format!("told[lane] = {own};"));
        self.barrier();
        let sharers = self.block.sharers();
        let one = |i: u32| format!("told[row * {sharers}u + {i}u]");
        let joined = (1..sharers).fold(one(0), |joined, i| join(joined, one(i)));
        self.line(format!("let {name} = {joined};"));
    }

    /// Columns in parts that the tile of sums has room for: first, number.
    pub fn parts(&self) -> Vec<[u32; 2]> {
        (0..self.block.head).step_by(MET as usize).map(|col| [col, MET.min(self.block.head - col)]).collect()
    }

    /// Hands matrices back through the tile of sums, to rows that begin at `at`.
    pub fn hand_back(&mut self, sum: &str, port: &str, inside: &str, factor: &str) {
        for [col, cols] in self.parts() {
            self.barrier();
            self.store(sum, [col, cols]);
            self.barrier();
            self.text.open(format!("if ({inside})"));
            for j in 0..self.shares(cols) {
                let at = self.share(j);
                self.line(format!("{port}[{port}_row + {}u + {at}] = sums(row, {at}){factor};", col / 4));
            }
            self.text.close();
        }
    }

    /// The invocation's vectors of what lies in `sums`, as `{name}{j}`.
    pub fn take(&mut self, name: &str) {
        for j in 0..self.shares(MET) {
            let at = self.share(j);
            self.line(format!("let {name}{j} = sums(row, {at});"));
        }
    }

    /// `{name}{j}`: which of the invocation's columns, the first of all being `from`, lie within bounds.
    pub fn in_sight(&mut self, name: &str, from: &str, [start, stop]: [&str; 2]) {
        for j in 0..self.shares(MET) {
            let at = self.share(j);
            self.line(format!("let at{j} = vec4<u32>({from} + ({at}) * 4u) + four;"));
            self.line(format!("let {name}{j} = (at{j} >= vec4<u32>({start})) & (at{j} < vec4<u32>({stop}));"));
        }
    }
}

/// Row and column of the matrices that a subgroup has of so many columns.
fn matrices(size: u32, cols: u32) -> Vec<(u32, u32)> {
    (0..OWN / size).flat_map(|r| (0..cols / size).map(move |c| (r, c))).collect()
}
