//! The standard workload W1: products of square matrices.
//!
//! Knows nothing about time; see `bench.rs`.

use super::precision::Precision;
use super::workloads::uniform;
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::{Device, Session};
use crate::graph::{Graph, TensorType};
use crate::lower::lower;
use crate::program::{Category, StateLayout, StateSpec};

/// Products in one sample.
pub const CHAIN: usize = 8;

/// Programs of a chain of products `X <- A X`, ended by reading one element, and of one product; with their matrices. In half
/// precision matrices are stored as f16 or bf16, the results of the chain among them, and the one product is f32.
pub fn product_session(
    size: usize,
    seed: u32,
    precision: Precision,
    device: &Device,
) -> Result<(Session, Vec<f32>, Vec<f32>)> {
    let dtype = precision.dtype();
    let (chain, product) = (Graph::new(), Graph::new());
    let matrices = |graph| ["a", "b"].map(|name| Graph::state(graph, name, [size, size], dtype));
    let [a, b] = matrices(&chain);
    let x = (0..CHAIN).fold(b, |x, _| a.matmul(x));
    chain.output("corner", x.slice(0, 0, 1).slice(1, 0, 1).reshape([]).cast(DType::F32));
    let [a, b] = matrices(&product).map(|matrix| matrix.cast(DType::F32));
    product.output("product", a.matmul(b));

    let specs = ["a", "b"].map(|name| StateSpec {
        name: name.into(),
        ty: TensorType::new([size, size], dtype),
        category: Category::Other,
        group: name.into(),
    });
    let layout = StateLayout::build(&specs, device.profile().max_binding_bytes)?;
    let programs = [("chain", &chain), ("product", &product)]
        .into_iter()
        .map(|(name, graph)| lower(name, graph, &layout, device.profile()))
        .collect::<Result<Vec<_>>>()?;
    let mut session = Session::new(device, layout, programs)?;
    let [a, b] = [(1, (3.0 / size as f64).sqrt()), (2, 1.0)].map(|(stream, bound)| {
        let mut values = uniform(seed, stream, size * size, bound);
        round(&mut values, dtype);
        values
    });
    session.write_state("a", &bytes(&a, dtype))?;
    session.write_state("b", &bytes(&b, dtype))?;
    Ok((session, a, b))
}

/// Rounds numbers to what a type of floats can hold.
pub(super) fn round(values: &mut [f32], dtype: DType) {
    match dtype {
        DType::F16 => values.iter_mut().for_each(|x| *x = half::f16::from_f32(*x).to_f32()),
        DType::BF16 => values.iter_mut().for_each(|x| *x = half::bf16::from_f32(*x).to_f32()),
        _ => {}
    }
}

/// Numbers as they are stored in a type of floats.
pub(super) fn bytes(values: &[f32], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F16 => values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
        _ => bytemuck::cast_slice(values).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::workloads::square;
    use super::*;
    use crate::kernels::matmul::Variant;

    /// What is measured for W1 is what W1 computes.
    #[test]
    fn a_choice_for_the_square_is_that_of_the_chain() -> Result<()> {
        let device = Device::open(None)?;
        for precision in Precision::ALL {
            let mut choices = device.profile().choices.clone();
            choices.set(&square(64, precision.dtype()), Variant::Register { rows: 4, quads: 1 });
            let (session, ..) = product_session(64, 0, precision, &device.with_choices(choices))?;
            for program in [session.program(0), session.program(1)] {
                let names: Vec<&str> = program.kernels.iter().map(|kernel| kernel.name.as_str()).collect();
                assert!(names.iter().any(|name| name.starts_with("matmul_register_4x4")), "{precision}: {names:?}");
            }
        }
        Ok(())
    }
}
