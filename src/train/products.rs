//! The standard workload W1: products of square matrices.
//!
//! Knows nothing about time; see `bench.rs`.

use super::workloads::uniform;
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::{Device, Session};
use crate::graph::{Graph, TensorType};
use crate::lower::lower;
use crate::program::{Category, StateLayout, StateSpec};

/// Products in one sample.
pub const CHAIN: usize = 8;

/// Programs of a chain of products `X <- A X`, ended by reading one element, and of one product; with their matrices.
pub fn product_session(size: usize, seed: u32, device: &Device) -> Result<(Session, Vec<f32>, Vec<f32>)> {
    let (chain, product) = (Graph::new(), Graph::new());
    let matrices = |graph| ["a", "b"].map(|name| Graph::state(graph, name, [size, size], DType::F32));
    let [a, b] = matrices(&chain);
    let x = (0..CHAIN).fold(b, |x, _| a.matmul(x));
    chain.output("corner", x.slice(0, 0, 1).slice(1, 0, 1).reshape([]));
    let [a, b] = matrices(&product);
    product.output("product", a.matmul(b));

    let specs = ["a", "b"].map(|name| StateSpec {
        name: name.into(),
        ty: TensorType::new([size, size], DType::F32),
        category: Category::Other,
        group: name.into(),
    });
    let layout = StateLayout::build(&specs, device.profile().max_binding_bytes)?;
    let programs = [("chain", &chain), ("product", &product)]
        .into_iter()
        .map(|(name, graph)| lower(name, graph, &layout, device.profile()))
        .collect::<Result<Vec<_>>>()?;
    let mut session = Session::new(device, layout, programs)?;
    let a = uniform(seed, 1, size * size, (3.0 / size as f64).sqrt());
    let b = uniform(seed, 2, size * size, 1.0);
    session.write_state("a", bytemuck::cast_slice(&a))?;
    session.write_state("b", bytemuck::cast_slice(&b))?;
    Ok((session, a, b))
}
