//! Rows of composites that arrange elements, and of tensors that a graph makes itself.

use super::harness::{Sample, f32s, i32s, sample};
use super::table::{over, u};
use wgrad::dtype::DType;
use wgrad::tensor::{meshgrid, stack};

pub fn splits() -> Vec<Sample> {
    let mut rows = over(&[&[7, 4], &[8, 5]], |x| {
        let parts = x.split(3, 0);
        parts[0] * 2.0 + parts[1] * parts[parts.len() - 1].sum_all()
    });
    rows.extend(over(&[&[4, 6], &[3, 6]], |x| {
        let parts = x.split_sizes(&[1, 3, 2], 1);
        parts[0] + parts[1].sum(&[1]).unsqueeze(1) * parts[2]
    }));
    rows.extend(over(&[&[4, 7]], |x| x.chunk(3, -1).iter().fold(x.sum_all(), |sum, part| sum * 0.5 + part.sum_all())));
    rows.extend(over(&[&[3, 5]], |x| {
        let rows = x.unbind(0);
        stack(rows[2], &[rows[0] * rows[1], rows[1]], 1)
    }));
    rows.extend(over(&[&[3, 5]], |x| stack(x, &[x.exp()], -1) + stack(x, &[x], 0).sum_all()));
    rows.extend(over(&[&[3, 5]], |x| x.index(0, -1) * x.index(0, 1) + x.index(1, 2).sum_all()));
    rows.extend(over(&[&[3, 4, 5]], |x| x.movedim(0, 2) + x.permute(&[1, 2, 0])));
    rows
}

pub fn repeats() -> Vec<Sample> {
    let mut rows = over(&[&[3, 4], &[1, 5], &[0, 2]], |x| x.repeat(&[2, 3]) * 2.0);
    rows.extend(over(&[&[3]], |x| x.repeat(&[2, 1, 2])));
    rows.extend(over(&[&[3, 2]], |x| x.tile(&[2]).sin()));
    rows.extend(over(&[&[3, 2]], |x| x.tile(&[2, 1, 3])));
    rows.extend(over(&[&[3, 4]], |x| x.repeat_interleave(2, 0)));
    rows.extend(over(&[&[3, 4]], |x| x.repeat_interleave(3, -1) + 1.0));
    rows.extend(over(&[&[3, 4]], |x| x.repeat_interleave(0, 1)));
    rows
}

pub fn reversals() -> Vec<Sample> {
    let mut rows = over(&[&[5, 4], &[1, 3], &[0, 3], &[6, 16]], |x| x.flip(&[0]));
    rows.extend(over(&[&[5, 4]], |x| x.flip(&[1]) * x));
    rows.extend(over(&[&[2, 3, 4]], |x| x.flip(&[0, -1])));
    rows.extend(over(&[&[5, 4]], |x| x.roll(2, 0) * x.roll(-1, 1)));
    rows.extend(over(&[&[5, 4]], |x| x.roll(7, 0) + x.roll(4, 1)));
    rows.push(sample(&[i32s(&[7], 0, 9)], |x| x[0].flip(&[0])).no_gradient());
    rows
}

pub fn diagonals() -> Vec<Sample> {
    let mut rows = over(&[&[4, 4], &[3, 5], &[6, 2]], |x| x.diagonal(0, 0, 1));
    rows.extend(over(&[&[4, 5]], |x| x.diagonal(1, 0, 1) + x.diagonal(-1, 1, 0)));
    rows.extend(over(&[&[4, 5]], |x| x.diag(-2).sum_all() * x.diag(9).sum_all() + x.diag(2)));
    rows.extend(over(&[&[2, 3, 4]], |x| x.diagonal(0, -1, 0) * 2.0));
    rows.extend(over(&[&[3], &[1], &[2, 3]], |x| x.diag_embed(0)));
    rows.extend(over(&[&[3]], |x| x.diag(2) + x.diag(-2)));
    rows.extend(over(&[&[4, 4], &[3, 6]], |x| x.trace()));
    rows
}

pub fn triangles() -> Vec<Sample> {
    let mut rows = over(&[&[4, 4], &[3, 5], &[0, 4]], |x| x.tril(0));
    rows.extend(over(&[&[4, 4], &[2, 5, 3]], |x| x.triu(0)));
    rows.extend(over(&[&[4, 6]], |x| x.tril(2) * x.triu(-1)));
    rows.extend(over(&[&[4, 6]], |x| x.tril(-9) + x.triu(1)));
    rows.push(sample(&[i32s(&[4, 4], 1, 9)], |x| x[0].tril(-1) + x[0].triu(1)).no_gradient());
    rows
}

pub fn vectors() -> Vec<Sample> {
    let two = |a: &[usize], b: &[usize]| [u(a), u(b)];
    vec![
        sample(&two(&[5], &[5]), |x| x[0].dot(x[1])),
        sample(&two(&[0], &[0]), |x| x[0].dot(x[1])),
        sample(&two(&[300], &[300]), |x| x[0].dot(x[1])).sums(300, 4.0),
        sample(&two(&[5], &[3]), |x| x[0].outer(x[1])),
        sample(&two(&[1], &[7]), |x| x[0].outer(x[1]).exp()),
        sample(&two(&[2, 3], &[4, 2]), |x| x[0].kron(x[1])),
        sample(&two(&[3], &[2, 2]), |x| x[0].kron(x[1])),
        sample(&two(&[2, 1, 2], &[3]), |x| x[1].kron(x[0])),
    ]
}

pub fn constructed() -> Vec<Sample> {
    let scaled = |build: for<'g> fn(&'g wgrad::graph::Graph) -> wgrad::graph::Tensor<'g>| {
        sample(&[f32s(&[], 1.0, 2.0)], move |x| build(x[0].graph()).cast(DType::F32) * x[0])
    };
    vec![
        scaled(|g| g.full([2, 3], DType::F32, 0.5)),
        scaled(|g| g.zeros([4], DType::I32) + g.ones([4], DType::I32)),
        scaled(|g| g.eye(3, 5, DType::F32)),
        scaled(|g| g.arange(0.0, 7.0, 1.0, DType::I32)),
        scaled(|g| g.arange(2.0, -3.0, -0.7, DType::F32)),
        scaled(|g| g.arange(3.0, 3.0, 1.0, DType::F32)),
        scaled(|g| g.linspace(-1.0, 3.0, 9)),
        scaled(|g| g.linspace(5.0, 6.0, 1)),
        scaled(|g| g.linspace(0.0, 1.0, 0)),
        sample(&[u(&[3]), u(&[4]), u(&[])], |x| {
            let grid = meshgrid(&[x[0], x[1], x[2]], false);
            grid[0] * grid[1] + grid[2]
        }),
        sample(&[u(&[3]), u(&[4])], |x| meshgrid(x, true)[0] * meshgrid(x, true)[1]),
    ]
}
