//! Whether an adapter's matrix units give right numbers: a driver may announce what is not there, or compute it wrongly.
//!
//! They are compared with the direct kernel over products of every layout, with edges, sums beside them and long sums, on a
//! device of their own, so that whatever happens there leaves the one in use alone. What is found holds for the adapter
//! under its driver, and is kept with the measured choices.

use super::tune::{agree, data, judge, results, session};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::Device;
use crate::kernels::Profile;
use crate::kernels::matmul::{Choices, Matmul, Units, Variant, candidates};

/// Choices that say no more than what is known of the matrix units after this. They are checked here if that was not done
/// before and one of the products could be computed on them.
pub fn judged<'p>(device: &Device, mut products: impl Iterator<Item = &'p Matmul>) -> Choices {
    let mut choices = device.profile().choices.units_alone();
    if choices.units().are_unchecked() && products.any(|mm| !on_units(device.profile(), mm).is_empty()) {
        choices.judge_units(checked(device));
    }
    choices
}

/// The device with choices that were made before. What they say of matrix units is checked again, for the driver may be
/// another one now.
pub fn with_checked(device: &Device, choices: Choices) -> Device {
    let device = device.with_choices(choices);
    if *device.profile().choices.units() != Units::Right {
        return device;
    }
    let mut choices = device.profile().choices.clone().for_another();
    choices.judge_units(checked(&device));
    device.with_choices(choices)
}

/// Whether matrix units are there, could compute one of the products, and were not checked yet.
pub fn are_unchecked(device: &Device, products: &[(Matmul, u64)]) -> bool {
    let could = |(mm, _): &(Matmul, u64)| !on_units(device.profile(), mm).is_empty();
    device.profile().choices.units().are_unchecked() && products.iter().any(could)
}

/// The verdict on a variant that gave wrong numbers.
pub fn wrong(variant: Variant, mm: &Matmul) -> Units {
    Units::Wrong(format!("{variant} gave other numbers than the direct kernel for {}", mm.name()))
}

/// The candidates that need matrix units.
fn on_units(profile: &Profile, mm: &Matmul) -> Vec<Variant> {
    candidates(profile, mm).into_iter().filter(Variant::is_cooperative).collect()
}

/// Checks matrix units. A device that is not ours to open again is left alone, and its units unused.
fn checked(device: &Device) -> Units {
    let Some(device) = device.profile().cooperative.and_then(|_| device.reopener()().ok()) else {
        return Units::Unchecked;
    };
    match first_wrong(&device) {
        Ok(None) => Units::Right,
        Ok(Some(wrong)) => wrong,
        // Be it that a kernel does not compile: on this device nothing else was asked for.
        Err(error) => Units::Wrong(error.to_string()),
    }
}

fn first_wrong(device: &Device) -> Result<Option<Units>> {
    for mm in probes() {
        let data = data(&mm, true);
        let expected = results(&mut session(device, &[judge(&mm)], &mm, &data)?, 0)?;
        let variants = on_units(device.profile(), &mm);
        let mut session = session(device, &variants, &mm, &data)?;
        for (index, &variant) in variants.iter().enumerate() {
            if !agree(&expected, &results(&mut session, index)?, mm.k) {
                return Ok(Some(wrong(variant, &mm)));
            }
        }
    }
    Ok(None)
}

/// Products on which the units are judged: all transpositions of a whole tile, of rows that are vectors and of none that are,
/// each side in f32, batches, sums beside the product, and a sum so long that f16 could not hold it.
fn probes() -> Vec<Matmul> {
    let halves = |mm: Matmul| Matmul { stored: [DType::F16; 2], ..mm };
    let mut all = Vec::new();
    for kind in ["nn", "nt", "tn", "tt"] {
        let sizes = [[1, 128, 128, 64], [1, 70, 52, 40], [2, 33, 7, 13]];
        all.extend(sizes.map(|sizes| halves(Matmul::contiguous(kind, sizes))));
    }
    let mixed = Matmul::contiguous("nt", [3, 48, 40, 24]);
    all.push(Matmul { stored: [DType::F16, DType::F32], ..mixed.clone() });
    all.push(Matmul { stored: [DType::F32, DType::F16], ..mixed.clone() });
    all.push(Matmul { bias_gradient: true, ..halves(Matmul::contiguous("tn", [1, 72, 140, 100])) });
    all.push(Matmul { row_sums: true, ..halves(mixed) });
    all.push(halves(Matmul::contiguous("nn", [1, 32, 32, 2048])));
    all
}

#[cfg(test)]
mod tests {
    use super::super::tune::session_of;
    use super::*;
    use crate::gpu::Session;
    use crate::graph::Graph;
    use crate::kernels::Cooperative;
    use crate::kernels::matmul::alone::program;
    use crate::lower::lower;
    use crate::program::{Program, StateLayout};
    use crate::train::workloads::uniform;

    /// The kernel's text with loops in place of matrix units: each invocation keeps its share of a subgroup's sums. All that
    /// the text says of matrices, where they lie, how far apart their rows are and in which order they are multiplied, is
    /// taken from it as it stands.
    fn emulated(mut program: Program, units: Cooperative) -> Program {
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
        *text = text.lines().map(|line| emulated_line(line, units)).collect::<String>() + &helpers(units);
        assert!(!text.contains("coop"), "{text}");
    }

    /// `load_tile_a(lane, at, stride, by_rows)` for `coopLoad<type>(&tile_a[at], stride)`, and `store_tile_c` likewise.
    fn emulated_line(line: &str, Cooperative { size, lanes }: Cooperative) -> String {
        let Some((before, call)) = line.split_once("coop") else { return format!("{line}\n") };
        let (array, rest) = call.split_once('&').and_then(|(_, it)| it.split_once('[')).expect("an array");
        let (at, stride) = rest.rsplit_once("], ").expect("an index and a stride");
        let given = format!("lane % {lanes}u, {at}, {}", stride.strip_suffix(");").expect("a stride"));
        let Some(load) = call.strip_prefix("Load") else {
            let matrix = call.strip_prefix("StoreT(").and_then(|it| it.split_once(',')).expect("a store by rows").0;
            return format!("{before}store_{array}({given}, {matrix});\n");
        };
        let role = match array {
            "tile_a" => "f16, A",
            "tile_b" => "f16, B",
            _ => "f32, C",
        };
        assert!(load.contains(&format!("<coop_mat{size}x{size}<{role}>>")), "{line}");
        format!("{before}load_{array}({given}, {});\n", load.starts_with('T'))
    }

    fn helpers(Cooperative { size, lanes }: Cooperative) -> String {
        let (share, unit) = (size * size / lanes, if size == 16 { 4 } else { 1 });
        let entry = |array: &str, e: &str| match unit {
            4 => format!("{array}[({e}) / 4u][({e}) % 4u]"),
            _ => format!("{array}[{e}]"),
        };
        let left = entry("tile_a", "place(a, row, k)");
        let right = entry("tile_b", "place(b, k, col)");
        let [loaded, stored] = ["e", "e"].map(|e| entry("tile_c", e));
        format!(
            "
            struct Matrix {{ at: u32, stride: u32, by_rows: bool }}
            alias Share = array<f32, {share}>;
            fn place(matrix: Matrix, row: u32, col: u32) -> u32 {{
                let along = select(col, row, matrix.by_rows) * matrix.stride * {unit}u;
                return matrix.at * {unit}u + along + select(row, col, matrix.by_rows);
            }}
            fn load_tile_a(lane: u32, at: u32, stride: u32, by_rows: bool) -> Matrix {{ return Matrix(at, stride, by_rows); }}
            fn load_tile_b(lane: u32, at: u32, stride: u32, by_rows: bool) -> Matrix {{ return Matrix(at, stride, by_rows); }}
            fn load_tile_c(lane: u32, at: u32, stride: u32, by_rows: bool) -> Share {{
                var sums: Share;
                for (var i = 0u; i < {share}u; i += 1u) {{
                    let e = place(Matrix(at, stride, by_rows), (i * {lanes}u + lane) / {size}u, (i * {lanes}u + lane) % {size}u);
                    sums[i] = {loaded};
                }}
                return sums;
            }}
            fn store_tile_c(lane: u32, at: u32, stride: u32, given: Share) {{
                var sums = given;
                for (var i = 0u; i < {share}u; i += 1u) {{
                    let e = place(Matrix(at, stride, true), (i * {lanes}u + lane) / {size}u, (i * {lanes}u + lane) % {size}u);
                    {stored} = sums[i];
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
                        sums[i] += f32({left}) * f32({right});
                    }}
                }}
                return sums;
            }}
            "
        )
    }

    /// The product in f64, and the sums beside it: what the kernel has to give.
    fn reference(mm: &Matmul, [a, b]: &[Vec<f32>; 2]) -> Vec<Vec<f32>> {
        let (mut product, mut columns, mut rows) = (Vec::new(), vec![0.0; mm.n], Vec::new());
        for batch in 0..mm.batch[0] * mm.batch[1] {
            let start = |operand: &crate::kernels::matmul::Operand| {
                operand.offset + batch / mm.batch[1] * operand.batch[0] + batch % mm.batch[1] * operand.batch[1]
            };
            let left = |i: usize, k: usize| f64::from(a[start(&mm.a) + i * mm.a.row + k * mm.a.col]);
            let right = |k: usize, j: usize| f64::from(b[start(&mm.b) + k * mm.b.row + j * mm.b.col]);
            let sum = |i: usize, j: usize| (0..mm.k).map(|k| left(i, k) * right(k, j)).sum::<f64>() as f32;
            (0..mm.m).for_each(|i| product.extend((0..mm.n).map(|j| sum(i, j))));
            columns.iter_mut().enumerate().for_each(|(j, it)| *it += (0..mm.k).map(|k| right(k, j)).sum::<f64>());
            rows.extend((0..mm.m).map(|i| (0..mm.k).map(|k| left(i, k)).sum::<f64>() as f32));
        }
        let columns = columns.into_iter().map(|x| x as f32).collect();
        [(true, product), (mm.bias_gradient, columns), (mm.row_sums, rows)]
            .into_iter()
            .filter(|it| it.0)
            .map(|it| it.1)
            .collect()
    }

    /// A device with a profile as if it had matrix units, if it has f16 to emulate them with.
    fn emulating(units: Cooperative) -> Result<Option<(Device, Profile)>> {
        let device = Device::open(None)?;
        let profile = Profile { cooperative: Some(units), ..device.profile().clone() };
        let able = profile.shader_f16 && profile.max_workgroup_bytes >= 32 << 10;
        if !able {
            println!("not tested: this adapter has no f16, or too little shared memory");
        }
        Ok(able.then_some((device, profile)))
    }

    /// All of the kernel for matrix units but the units: loops stand in for them.
    fn indices_are_right(size: u32, wanted: impl Fn(&Matmul, u32) -> bool) -> Result<()> {
        let units = Cooperative { size, lanes: 32 };
        let Some((device, profile)) = emulating(units)? else { return Ok(()) };
        for mm in probes() {
            let data = data(&mm, true);
            let expected = reference(&mm, &data);
            let area = |variant: Variant| match variant {
                Variant::Cooperative { rows, cols, .. } => rows * cols * size * size,
                _ => 0,
            };
            let variants: Vec<Variant> =
                on_units(&profile, &mm).into_iter().filter(|&variant| wanted(&mm, area(variant))).collect();
            let programs = variants.iter().map(|&variant| emulated(program(variant, &mm, &profile), units)).collect();
            let mut session = session_of(&device, programs, &mm, &data)?;
            for (index, variant) in variants.iter().enumerate() {
                println!("{variant} of {}", mm.name());
                assert!(agree(&expected, &results(&mut session, index)?, mm.k), "{variant} of {mm:?}");
            }
        }
        Ok(())
    }

    /// Everything with the smallest tile, and one size with larger ones.
    fn usual(mm: &Matmul, area: u32) -> bool {
        area == 16 * 16 || (mm.m == 70 && mm.a.col == 1 && area <= 32 * 32)
    }

    #[test]
    fn the_indices_for_units_of_vulkan_are_right() -> Result<()> {
        indices_are_right(16, usual)
    }

    #[test]
    fn the_indices_for_units_of_metal_are_right() -> Result<()> {
        indices_are_right(8, usual)
    }

    /// Between other kernels: stored halves are bound as f16 where they lie, and what follows is fused into the product.
    #[test]
    fn products_on_matrix_units_read_and_store_as_others() -> Result<()> {
        let units = Cooperative { size: 16, lanes: 32 };
        let Some((device, mut profile)) = emulating(units)? else { return Ok(()) };
        let graph = Graph::new();
        let half = |name: &str, shape: [usize; 2]| {
            let stored = graph.input(name, shape, DType::F32).cast(DType::F16);
            graph.output(&format!("{name} is stored"), stored.cast(DType::F32) * 2.0);
            stored.cast(DType::F32)
        };
        let (x, w) = (half("x", [72, 40]), half("w", [52, 40]).t());
        let y = x.slice(0, 2, 66).matmul(w) + graph.input("bias", [52], DType::F32);
        graph.output("y", y.relu());
        let lowered = |profile: &Profile| lower("step", &graph, &StateLayout::default(), profile);
        let usual = lowered(&profile)?;
        let variant = on_units(&profile, &probes()[0])[1];
        profile.choices.judge_units(Units::Right);
        profile.choices.set_named("64x52x40 batch 1x1 a k4 b k4 out 4 a f16 b f16".into(), variant);
        let chosen = lowered(&profile)?;
        assert!(chosen.kernels.iter().any(|kernel| kernel.wgsl.contains("coopMultiplyAdd")), "{chosen:?}");
        let mut session = Session::new(&device, StateLayout::default(), vec![usual, emulated(chosen, units)])?;
        let mut found = Vec::new();
        for program in [0, 1] {
            for (stream, (name, length)) in (1..).zip([("x", 72 * 40), ("w", 52 * 40), ("bias", 52)]) {
                session.write_input(program, name, bytemuck::cast_slice(&uniform(0, stream, length, 1.0)))?;
            }
            let ticket = session.run(&[program])?;
            found.push(vec![session.fetch(ticket)?.f32("y")?]);
        }
        assert!(found[0][0].iter().any(|y| *y > 1.0) && agree(&found[0], &found[1], 40));
        Ok(())
    }

    /// That the tests above can fail.
    #[test]
    fn matrices_in_wrong_places_are_seen() -> Result<()> {
        let units = Cooperative { size: 16, lanes: 32 };
        let Some((device, profile)) = emulating(units)? else { return Ok(()) };
        let mm = Matmul { stored: [DType::F16; 2], ..Matmul::contiguous("nn", [1, 40, 44, 64]) };
        let data = data(&mm, true);
        let right = program(on_units(&profile, &mm)[1], &mm, &profile);
        let misplaced = |(from, to): (&str, &str)| {
            let mut program = right.clone();
            let text = &mut program.kernels[0].wgsl;
            assert!(text.contains(from), "no `{from}` in {text}");
            *text = text.replace(from, to);
            emulated(program, units)
        };
        let programs = [
            ("coopLoadT<coop_mat16x16<f16, A>>", "coopLoad<coop_mat16x16<f16, A>>"),
            ("u + (kk) / 4u], ", "u + 0u], "),
            ("(sub_n + 0u)", "(sub_m + 0u)"),
            ("], 10u);", "], 9u);"),
            ("owner / 2u", "owner % 2u"),
            ("(outer + 1u)", "(outer + 2u)"),
            ("row0 + outer", "row0 + inner"),
        ];
        let programs = programs.map(misplaced).into_iter().chain([emulated(right.clone(), units)]).collect();
        let mut session = session_of(&device, programs, &mm, &data)?;
        for index in 0..8 {
            let agrees = agree(&reference(&mm, &data), &results(&mut session, index)?, mm.k);
            assert_eq!(agrees, index == 7, "text {index}");
        }
        Ok(())
    }

    /// Units that give wrong numbers, and a device that is not there again: neither is trusted.
    #[test]
    fn units_are_judged_once_and_only_where_they_could_be_used() {
        let profile = Profile {
            cooperative: Some(Cooperative { size: 16, lanes: 32 }),
            shader_f16: true,
            subgroup: Some(32),
            max_workgroup_bytes: 32 << 10,
            ..Profile::baseline()
        };
        // It executes nothing, so that its products are zero; it knows no matrix units.
        let device = Device::fake(&profile).expect("a fake device");
        let halves = probes().remove(0);
        let full = Matmul { stored: [DType::F32; 2], ..halves.clone() };
        assert!(judged(&device, [&full].into_iter()).units().are_unchecked());
        assert!(!are_unchecked(&device, &[(full, 1)]) && are_unchecked(&device, &[(halves.clone(), 1)]));
        let found = judged(&device, [&halves].into_iter());
        assert!(found.units().are_wrong(), "{:?}", found.units());
        let again = device.with_choices(found.clone());
        assert_eq!(judged(&again, [&halves].into_iter()), found);
        assert!(!are_unchecked(&again, &[(halves.clone(), 1)]));
        // A run's choices, when it goes on: their trust is not taken over.
        let mut before = Choices::default();
        before.judge_units(Units::Right);
        before.set(&halves, on_units(&profile, &halves)[0]);
        let resumed = with_checked(&device, before.clone());
        assert!(resumed.profile().choices.units().are_wrong() && !resumed.profile().choices.knows(&halves));
        let elsewhere = Device::fake(&Profile { cooperative: None, ..profile }).expect("a fake device");
        assert!(with_checked(&elsewhere, before).profile().choices.units().are_unchecked());
    }

    #[test]
    #[ignore = "nightly: a software adapter compiles large tiles for minutes"]
    fn the_indices_of_all_variants_are_right() -> Result<()> {
        // The largest for a few sizes only. Lavapipe ends a kernel's loops after 65535 turns altogether, of which the emulation
        // of a long sum takes more.
        let fits = |mm: &Matmul, area| area <= 32 * 32 || mm.m == 72 || mm.a.col + mm.m == 129;
        let others = |mm: &Matmul, area| !usual(mm, area) && fits(mm, area) && mm.k < 1024;
        indices_are_right(16, others)?;
        indices_are_right(8, others)
    }
}
