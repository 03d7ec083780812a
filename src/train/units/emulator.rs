//! Kernels for matrix units with loops in place of the units: each invocation keeps its share of a subgroup's sums. All that a
//! text says of matrices, where they lie, how far apart their rows are and in which order they are multiplied, is taken from
//! it as it stands.

use crate::kernels::Cooperative;
use crate::program::Program;

/// A program's kernels so that they run on an adapter without matrix units.
pub fn emulated(mut program: Program, units: Cooperative) -> Program {
    program.kernels.iter_mut().for_each(|kernel| emulate(&mut kernel.wgsl, units));
    program
}

fn emulate(text: &mut String, units: Cooperative) {
    if !text.contains("coop") {
        return;
    }
    for (from, to) in [
        ("enable wgpu_cooperative_matrix;\n", String::new()),
        ("    @builtin(subgroup_id) subgroup_index: u32,\n", String::new()),
        ("min(subgroup_index, ", format!("min(lane / {}u, ", units.lanes)),
        ("coopMultiplyAdd(", format!("multiply_add(lane % {}u, ", units.lanes)),
    ] {
        assert!(text.contains(from), "no `{from}` in {text}");
        *text = text.replace(from, &to);
    }
    let tiles = tiles(text);
    let emulated: String = text.lines().map(|line| emulated_line(line, &tiles, units)).collect();
    *text = emulated + &helpers(&tiles, units);
    assert!(!text.contains("coop"), "{text}");
}

/// An array of workgroup memory.
struct Tile {
    name: String,
    half: bool,
    /// Numbers in an entry.
    unit: u32,
}

fn tiles(text: &str) -> Vec<Tile> {
    let declared = text.lines().filter_map(|line| line.strip_prefix("var<workgroup> tile_"));
    let tile = |line: &str| {
        let (name, element) = line.split_once(": array<").expect("a tile is an array");
        let unit = if element.starts_with("vec4") { 4 } else { 1 };
        Tile { name: name.to_string(), half: element.contains("f16"), unit }
    };
    declared.map(tile).collect()
}

/// `Matrix(..)` for `coopLoad<type>(&tile_a[at], stride)`, what is in it being read as it is multiplied; sums are loaded and stored by
/// functions.
fn emulated_line(line: &str, tiles: &[Tile], Cooperative { size, lanes }: Cooperative) -> String {
    let Some((before, call)) = line.split_once("coop") else { return format!("{line}\n") };
    let (array, rest) = call.split_once("&tile_").and_then(|(_, it)| it.split_once('[')).expect("a tile");
    let (at, stride) = rest.rsplit_once("], ").expect("an index and a stride");
    let stride = stride.strip_suffix(");").expect("a stride");
    let index = tiles.iter().position(|tile| tile.name == array).expect("a declared tile");
    let Some(load) = call.strip_prefix("Load") else {
        let matrix = call.strip_prefix("StoreT(").and_then(|it| it.split_once(',')).expect("a store by rows").0;
        return format!("{before}store_{array}(lane % {lanes}u, {at}, {stride}, {matrix});\n");
    };
    let by_rows = load.starts_with('T');
    let of = |role: &str| load.contains(&format!("<coop_mat{size}x{size}<{role}>>"));
    match tiles[index].half {
        true if of("f16, A") || of("f16, B") => format!("{before}Matrix({index}u, {at}, {stride}, {by_rows});\n"),
        false if of("f32, C") => format!("{before}load_{array}(lane % {lanes}u, {at}, {stride}, {by_rows});\n"),
        _ => panic!("a matrix of another type than its tile: {line}"),
    }
}

fn helpers(tiles: &[Tile], units: Cooperative) -> String {
    let Cooperative { size, lanes } = units;
    let share = size * size / lanes;
    let unit = tiles.first().map_or(1, |tile| tile.unit);
    let halves: String = tiles.iter().enumerate().filter(|(_, tile)| tile.half).map(half_case).collect();
    let sums: String = tiles.iter().filter(|tile| !tile.half).map(|tile| sums(tile, units)).collect();
    format!(
        "
        struct Matrix {{ tile: u32, at: u32, stride: u32, by_rows: bool }}
        alias Share = array<f32, {share}>;
        fn place(matrix: Matrix, row: u32, col: u32) -> u32 {{
            let along = select(col, row, matrix.by_rows) * matrix.stride * {unit}u;
            return matrix.at * {unit}u + along + select(row, col, matrix.by_rows);
        }}
        fn half_of(matrix: Matrix, row: u32, col: u32) -> f32 {{
            let e = place(matrix, row, col);
            switch matrix.tile {{
                {halves}
                default: {{ return 0.0; }}
            }}
        }}
        fn multiply_add(lane: u32, a: Matrix, b: Matrix, given: Share) -> Share {{
            var sums = given;
            // The compiler would unroll it for minutes if it knew the number.
            let end = select({size}u, 0u, params.groups == 0u);
            for (var i = 0u; i < {share}u; i += 1u) {{
                let row = (i * {lanes}u + lane) / {size}u;
                let col = (i * {lanes}u + lane) % {size}u;
                for (var k = 0u; k < end; k += 1u) {{
                    sums[i] += half_of(a, row, k) * half_of(b, k, col);
                }}
            }}
            return sums;
        }}
        {sums}"
    )
}

fn entry(tile: &Tile) -> String {
    match tile.unit {
        4 => format!("tile_{}[e / 4u][e % 4u]", tile.name),
        _ => format!("tile_{}[e]", tile.name),
    }
}

fn half_case((index, tile): (usize, &Tile)) -> String {
    format!("case {index}u: {{ return f32({}); }}\n", entry(tile))
}

/// The functions that load and store sums.
fn sums(tile: &Tile, Cooperative { size, lanes }: Cooperative) -> String {
    let (name, entry, share) = (&tile.name, entry(tile), size * size / lanes);
    let each = |by_rows: &str| {
        format!(
            "for (var i = 0u; i < {share}u; i += 1u) {{
                let cell = i * {lanes}u + lane;
                let e = place(Matrix(0u, at, stride, {by_rows}), cell / {size}u, cell % {size}u);"
        )
    };
    format!(
        "
        fn load_{name}(lane: u32, at: u32, stride: u32, by_rows: bool) -> Share {{
            var sums: Share;
            {}
                sums[i] = {entry};
            }}
            return sums;
        }}
        fn store_{name}(lane: u32, at: u32, stride: u32, given: Share) {{
            var sums = given;
            {}
                {entry} = sums[i];
            }}
        }}
        ",
        each("by_rows"),
        each("true")
    )
}
