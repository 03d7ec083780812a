//! Attention by itself, forward and backward, on every tier that there is for it.

use super::{Candidate, Clock, least};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::{Device, Session};
use crate::graph::{Eps, Graph, MacroOp, Op, Tensor, TensorType};
use crate::kernels::attention::{AttentionShape, Tier, candidates};
use crate::kernels::{Choices, Profile, Units};
use crate::lower::lower;
use crate::program::{Category, Program, StateLayout, StateSpec};
use crate::shape::Shape;
use crate::train::products as squares;
use crate::train::workloads::uniform;

/// The results, in order.
const RESULTS: [&str; 4] = ["o", "dq", "dk", "dv"];

/// Every tier for an attention, the rules' first, with its least time if it was right. There is nothing to measure where
/// there is only one.
pub fn measure(device: &Device, shape: &AttentionShape, clock: Clock) -> Result<Vec<Candidate<Tier>>> {
    let tiers = candidates(device.profile(), shape);
    let mut right = vec![true];
    if tiers.len() > 1 {
        let expected = results(device, shape, tiers[0])?;
        for &tier in &tiers[1..] {
            right.push(agree(&expected, &results(device, shape, tier)?));
        }
    }
    let program = |&tier: &Tier| program(shape, device.profile(), tier, false);
    let programs = tiers.iter().map(program).collect::<Result<_>>()?;
    let times = least(&mut session(device, shape, programs)?, &right, clock, f64::INFINITY)?;
    Ok(tiers.into_iter().zip(times).map(|(variant, micros)| Candidate { variant, micros }).collect())
}

/// Result and gradients on a tier.
pub fn results(device: &Device, shape: &AttentionShape, tier: Tier) -> Result<Vec<Vec<f32>>> {
    results_of(device, shape, program(shape, device.profile(), tier, true)?)
}

/// The same of a program with these results.
pub fn results_of(device: &Device, shape: &AttentionShape, program: Program) -> Result<Vec<Vec<f32>>> {
    let mut session = session(device, shape, vec![program])?;
    let ticket = session.run(&[0])?;
    let results = session.fetch(ticket)?;
    RESULTS.iter().map(|name| results.f32(name)).collect()
}

/// Whether numbers differ by no more than weights that were rounded to f16 explain, with plenty to spare: rows have a
/// relative error of some 2^-12, and a matrix in a wrong place makes numbers of the size of the others.
pub fn agree(expected: &[Vec<f32>], found: &[Vec<f32>]) -> bool {
    let same = |(expected, found): (&Vec<f32>, &Vec<f32>)| {
        let squares: f64 = expected.iter().map(|x| f64::from(*x).powi(2)).sum();
        let usual = (squares / expected.len().max(1) as f64).sqrt() as f32;
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 0.02 * usual + 0.01 * a.abs() + 1e-6;
        expected.len() == found.len() && expected.iter().zip(found).all(near)
    };
    expected.len() == found.len() && expected.iter().zip(found).all(same)
}

/// Forward and backward from the tensors of [`operands`]; their whole results, or for measuring just one element of each.
pub fn program(shape: &AttentionShape, profile: &Profile, tier: Tier, whole: bool) -> Result<Program> {
    let graph = Graph::new();
    let read = operands(shape).map(|(name, sizes)| graph.state(name, sizes, stored(shape)).cast(DType::F32));
    let [q, k, v, dout] = read;
    let (sight, scale) = (shape.sight, Eps::new(shape.scale));
    let o = q.apply(Op::Macro(MacroOp::Attention { sight, scale }), &[k, v]);
    let dq = q.apply(Op::Macro(MacroOp::AttentionGrad { sight, scale }), &[k, v, o, o.output(1), dout]);
    for (name, result) in RESULTS.iter().zip([o, dq, dq.output(1), dq.output(2)]) {
        graph.output(name, if whole { result } else { corner(result) });
    }
    let mut profile = profile.clone();
    profile.choices = Choices::default();
    profile.choices.judge_units(Units::Right);
    profile.choices.set_attention(shape, tier);
    lower("attention", &graph, &layout(shape, &profile)?, &profile)
}

fn corner(x: Tensor<'_>) -> Tensor<'_> {
    (0..4).fold(x, |x, axis| x.slice(axis, 0, 1))
}

/// Queries, keys, values and the gradient of the result.
fn operands(shape: &AttentionShape) -> [(&'static str, Shape); 4] {
    let AttentionShape { batch, time, source, heads, key_heads, size, .. } = *shape;
    let (queries, keys) = (Shape::from([batch, time, heads, size]), Shape::from([batch, source, key_heads, size]));
    [("q", queries.clone()), ("k", keys.clone()), ("v", keys), ("dout", queries)]
}

fn stored(shape: &AttentionShape) -> DType {
    if shape.halves { DType::F16 } else { DType::F32 }
}

fn layout(shape: &AttentionShape, profile: &Profile) -> Result<StateLayout> {
    let specs = operands(shape).map(|(name, sizes)| StateSpec {
        name: name.into(),
        ty: TensorType::new(sizes, stored(shape)),
        category: Category::Other,
        group: name.into(),
    });
    StateLayout::build(&specs, profile.max_binding_bytes)
}

/// Programs over the same operands, whose numbers lie within 1.
fn session(device: &Device, shape: &AttentionShape, programs: Vec<Program>) -> Result<Session> {
    let mut session = Session::new(device, layout(shape, device.profile())?, programs)?;
    for (stream, (name, sizes)) in (1..).zip(operands(shape)) {
        session.write_state(name, &squares::bytes(&uniform(0, stream, sizes.numel(), 1.0), stored(shape)))?;
    }
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Sight;

    #[test]
    fn rounding_agrees_and_a_wrong_number_does_not() {
        let expected: Vec<f32> = (0..512).map(|i| (i as f32 * 0.7).sin() * 0.1).collect();
        let agrees = |found: &[f32]| agree(std::slice::from_ref(&expected), &[found.to_vec()]);
        let rounded: Vec<f32> = expected.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect();
        assert!(agrees(&rounded) && !agrees(&expected[..500]));
        for wrong in [f32::NAN, expected[9] * 2.0, 0.0] {
            let mut found = expected.clone();
            found[9] = wrong;
            assert!(!agrees(&found), "{wrong}");
        }
    }

    /// Where there are no matrix units the plain tier is measured alone, and halves and whole numbers give the same.
    #[test]
    fn an_attention_is_measured_and_its_choice_is_kept() -> Result<()> {
        let device = Device::open(None)?;
        let sight = Sight::new(true);
        let [batch, time, source, heads, key_heads, size] = [1, 40, 40, 2, 1, 16];
        let full = AttentionShape { batch, time, source, heads, key_heads, size, sight, scale: 0.25, halves: false };
        let halves = AttentionShape { halves: true, ..full };
        let mut choices = Choices::default();
        for shape in [full, halves] {
            let found = measure(&device, &shape, Clock::Device)?;
            assert_eq!(found.len(), candidates(device.profile(), &shape).len());
            assert!(found.iter().all(|candidate| candidate.micros.is_some_and(|micros| micros > 0.0)), "{found:?}");
            choices.set_attention(&shape, found[0].variant);
            assert!(choices.knows_attention(&shape));
        }
        let results = [full, halves].map(|shape| results(&device, &shape, Tier::Plain));
        let [full, halves] = results;
        assert!(agree(&full?, &halves?));
        Ok(())
    }
}
