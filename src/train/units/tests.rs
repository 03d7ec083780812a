//! What is chosen of matrix units, and their kernels with loops in place of the units.

use super::emulator::emulated;
use super::*;
use crate::gpu::Session;
use crate::graph::Graph;
use crate::kernels::Cooperative;
use crate::kernels::matmul::alone::program;
use crate::lower::lower;
use crate::program::StateLayout;
use crate::train::tune::products::session_of;
use crate::train::workloads::uniform;

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
    let product = |mm: &Matmul| Tunable { products: vec![(mm.clone(), 1)], attentions: vec![] };
    let attention = |shape: AttentionShape| Tunable { products: vec![], attentions: vec![(shape, 1)] };
    assert!(judged(&device, &product(&full)).units().are_unchecked());
    assert!(!are_unchecked(&device, &product(&full)) && are_unchecked(&device, &product(&halves)));
    let shape = attention_probes().remove(0);
    assert!(!are_unchecked(&device, &attention(AttentionShape { halves: false, ..shape })));
    assert!(are_unchecked(&device, &attention(shape)));
    let found = judged(&device, &product(&halves));
    assert!(found.units().are_wrong(), "{:?}", found.units());
    let again = device.with_choices(found.clone());
    assert_eq!(judged(&again, &product(&halves)), found);
    assert!(!are_unchecked(&again, &product(&halves)) && !are_unchecked(&again, &attention(shape)));
    // A run's choices, when it goes on: their trust is not taken over.
    let mut before = Choices::default();
    before.judge_units(Units::Right);
    before.set(&halves, on_units(&profile, &halves)[0]);
    let resumed = with_checked(&device, before.clone());
    assert!(resumed.profile().choices.units().are_wrong() && !resumed.profile().choices.knows(&halves));
    let elsewhere = Device::fake(&Profile { cooperative: None, ..profile }).expect("a fake device");
    assert!(with_checked(&elsewhere, before).profile().choices.units().are_unchecked());
}

/// All of attention's kernels for matrix units but the units: what they give is what the plain kernels give.
fn attention_is_right(size: u32, wanted: impl Fn(usize, Tier) -> bool) -> Result<()> {
    let units = Cooperative { size, lanes: 32 };
    let Some((device, profile)) = emulating(units)? else { return Ok(()) };
    for (index, shape) in attention_probes().iter().enumerate() {
        let expected = attention::results(&device, shape, Tier::Plain)?;
        for tier in tiers_on_units(&profile, shape).into_iter().filter(|&tier| wanted(index, tier)) {
            println!("{tier}: {}", shape.name());
            let program = attention::program(shape, &profile, tier, true)?;
            let on_units = program.kernels.iter().filter(|kernel| kernel.wgsl.contains("coopMultiplyAdd")).count();
            assert_eq!(on_units, 3, "{:?}", program.kernels);
            let found = attention::results_of(&device, shape, emulated(program, units))?;
            assert!(attention::agree(&expected, &found), "{tier} of {}", shape.name());
        }
    }
    Ok(())
}

/// That the tests of attention can fail: a mistake in any of the three kernels is seen.
#[test]
fn mistakes_in_attention_are_seen() -> Result<()> {
    let units = Cooperative { size: 16, lanes: 32 };
    let Some((device, profile)) = emulating(units)? else { return Ok(()) };
    let shape = attention_probes().remove(0);
    let expected = attention::results(&device, &shape, Tier::Plain)?;
    let right = attention::program(&shape, &profile, Tier::Cooperative { subgroups: 2 }, true)?;
    for (kernel, from, to) in [
        ("forward", "coopLoad<coop_mat16x16<f16, B>>(&tile_met", "coopLoadT<coop_mat16x16<f16, B>>(&tile_met"),
        ("forward", "&tile_q[(own + 0u)", "&tile_q[(0u)"),
        ("forward", "* fade + sums", "+ sums"),
        ("forward", "(at0 < vec4<u32>(stop))", "(at0 <= vec4<u32>(stop))"),
        ("grad_q", "&tile_dout[(own", "&tile_q[(own"),
        ("grad_q", "- own_delta", "+ own_delta"),
        ("grad_kv", "&tile_slopes[(own", "&tile_weights[(own"),
        ("grad_kv", "(at1 >= vec4<u32>(start))", "(at1 > vec4<u32>(start))"),
        ("grad_kv", "coopStoreT(dv0_3", "coopStoreT(dv0_2"),
    ] {
        let mut program = right.clone();
        let named = |name: &str| name.starts_with(&format!("attention_{kernel}_"));
        let text = program.kernels.iter_mut().find(|it| named(&it.name)).map(|kernel| &mut kernel.wgsl);
        let text = text.unwrap_or_else(|| panic!("no {kernel}"));
        assert!(text.contains(from), "no `{from}` in {text}");
        *text = text.replace(from, to);
        let found = attention::results_of(&device, &shape, emulated(program, units))?;
        assert!(!attention::agree(&expected, &found), "`{to}` in {kernel} is not seen");
    }
    Ok(())
}

/// Every probe in workgroups of two subgroups.
fn pairs(_: usize, tier: Tier) -> bool {
    tier == Tier::Cooperative { subgroups: 2 }
}

#[test]
fn attention_on_units_of_vulkan_is_right() -> Result<()> {
    attention_is_right(16, pairs)
}

#[test]
fn attention_on_units_of_metal_is_right() -> Result<()> {
    attention_is_right(8, |index, tier| index != 2 && pairs(index, tier))
}

#[test]
#[ignore = "nightly: a software adapter compiles large tiles for minutes"]
fn attention_on_all_tiers_is_right() -> Result<()> {
    attention_is_right(16, |index, tier| !pairs(index, tier))?;
    attention_is_right(8, |index, tier| index == 2 || !pairs(index, tier))
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
