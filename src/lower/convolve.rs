//! Convolutions as products: the windows of an operand are walked where they lie, not copied out.
//!
//! Result, data gradient and weight gradient are each one product whose operands are walked. Where a group has too few
//! channels for a product they are computed term by term (`kernels::conv`); the data gradient of windows that lie
//! further apart by its definition (`tensor::expand`).

use super::anchors::{Hook, Plan, PortSource, Stage};
use super::chunks::{PARTIAL_BYTES, store_partials};
use crate::dtype::DType;
use crate::graph::windows::Windows;
use crate::graph::{Literal, MacroOp, Node, Op, Tensor};
use crate::kernels::matmul::{self, Matmul, Operand, Walk, Walks};
use crate::kernels::{AdapterClass, KernelSpec, Profile, conv, reduce};
use crate::shape::{Shape, View};

/// Whether a convolution has a kernel: a product, or term by term. What has neither is the data gradient of windows
/// further apart with many channels, a product in its definition. `weight` is `[o, c / groups, ..]`.
pub fn supported(op: MacroOp, weight: &Shape, samples: usize) -> bool {
    let filled = samples > 0 && weight.numel() > 0;
    match op {
        MacroOp::Conv { .. } | MacroOp::ConvWeightGrad { .. } => filled,
        MacroOp::ConvDataGrad { windows, .. } => filled && (is_direct(op, weight) || reversed(&windows).is_some()),
        _ => false,
    }
}

/// Whether a convolution is computed term by term: too few channels in a group for a matrix. Its kernels read whole
/// tensors.
pub fn is_direct(op: MacroOp, weight: &Shape) -> bool {
    let (MacroOp::Conv { groups, .. } | MacroOp::ConvDataGrad { groups, .. } | MacroOp::ConvWeightGrad { groups, .. }) =
        op
    else {
        return false;
    };
    weight[1] == 1 && weight[0] / (groups.max(1) as usize) < 4
}

/// For software adapters: the same convolution over a padded copy of its data. There a test of each element that is
/// read costs several times the copy; a GPU has it the other way round. `None` if nothing is padded.
pub fn padded_form<'g>(profile: &Profile, op: MacroOp, x: &[Tensor<'g>]) -> Option<Tensor<'g>> {
    if profile.class != AdapterClass::Cpu {
        return None;
    }
    match op {
        MacroOp::Conv { windows, groups } if !windows.is_unpadded() => {
            let op = MacroOp::Conv { windows: windows.unpadded(), groups };
            Some(padded(&windows, x[0]).apply(Op::Macro(op), &x[1..]))
        }
        MacroOp::ConvWeightGrad { windows, groups } if !windows.is_unpadded() => {
            let op = MacroOp::ConvWeightGrad { windows: windows.unpadded(), groups };
            Some(padded(&windows, x[0]).apply(Op::Macro(op), &x[1..]))
        }
        MacroOp::ConvDataGrad { windows, groups, size } => {
            // With the most padding that the windows allow the gradient has an element for each of them.
            let whole: Vec<[usize; 2]> = (0..windows.rank()).map(|axis| [windows.extent(axis) - 1; 2]).collect();
            let full = windows.padding(&whole).filter(|full| *full != windows)?;
            let missing = |axis: usize, own: usize| (full.extent(axis) - 1).checked_sub(own);
            let margins: Vec<[usize; 2]> = (0..windows.rank())
                .map(|axis| Some([missing(axis, windows.before_at(axis))?, missing(axis, windows.after_at(axis))?]))
                .collect::<Option<_>>()?;
            let g = padded(&reversed(&windows)?.padding(&margins)?, x[0]);
            // Little beside what else is read.
            let small = x[1].shape().numel() <= x[0].shape().numel();
            let weight = if is_direct(op, &x[1].shape()) || !small { x[1] } else { channels_first(x[1], groups) };
            Some(g.apply(Op::Macro(MacroOp::ConvDataGrad { windows: full, groups, size }), &[weight]))
        }
        _ => None,
    }
}

/// A filter that lies in memory with its channels before its outputs, so that all that one of them is multiplied with lies
/// in a row: a copy, where it would be read number by number.
fn channels_first(weight: Tensor<'_>, groups: u32) -> Tensor<'_> {
    let rank = weight.rank();
    if groups > 1 || weight.shape()[2..].iter().product::<usize>() == 1 {
        return weight;
    }
    let exchanged: Vec<usize> = [1, 0].into_iter().chain(2..rank).collect();
    weight.permute(&exchanged).apply(Op::Cast(weight.dtype()), &[]).permute(&exchanged)
}

fn padded<'g>(windows: &Windows, x: Tensor<'g>) -> Tensor<'g> {
    let side = |at: &dyn Fn(usize) -> usize| [0, 0].into_iter().chain((0..windows.rank()).map(at)).collect();
    let (before, after) = (side(&|axis| windows.before_at(axis)), side(&|axis| windows.after_at(axis)));
    x.apply(Op::Pad { before, after, value: Literal::new(x.dtype(), 0.0) }, &[])
}

/// The windows over a gradient that give the data's gradient, each reversed.
fn reversed(windows: &Windows) -> Option<Windows> {
    let rank = windows.rank();
    let before = (0..rank).map(|axis| Some([(windows.extent(axis) - 1).checked_sub(windows.before_at(axis))?, 0]));
    let before: Vec<[usize; 2]> = before.collect::<Option<_>>()?;
    if (0..rank).all(|axis| windows.stride_at(axis) == 1) { windows.padding(&before) } else { None }
}

/// Data `[n, c, ..]` seen as windows `[n, c, O.., K..]`; positions may lie outside where there is padding.
struct Opened {
    offset: usize,
    /// Strides of samples and channels.
    sample: usize,
    channel: usize,
    /// Sizes, strides and moves along the bounded axes, of `O` and of `K`.
    positions: Axes,
    taps: Axes,
    bounds: Vec<(usize, usize)>,
}

#[derive(Clone, Default)]
struct Axes {
    sizes: Vec<usize>,
    strides: Vec<usize>,
    moves: Vec<Option<(usize, usize)>>,
    /// Some strides are negative, modulo 2^32.
    backwards: bool,
}

impl Axes {
    /// With an axis before them that moves along nothing.
    fn within(&self, size: usize, stride: usize) -> Axes {
        Axes {
            sizes: [&[size], &self.sizes[..]].concat(),
            strides: [&[stride], &self.strides[..]].concat(),
            moves: [&[None], &self.moves[..]].concat(),
            backwards: self.backwards,
        }
    }

    /// Axes that move along nothing bounded.
    fn plain(sizes: &[usize], strides: &[usize]) -> Axes {
        Axes { sizes: sizes.to_vec(), strides: strides.to_vec(), moves: vec![None; sizes.len()], backwards: false }
    }

    /// Walks from the last element to the first; how far the last one lies behind the first.
    fn turn_round(&mut self) -> usize {
        let last = self.strides.iter().zip(&self.sizes).map(|(stride, size)| stride * (size - 1)).sum();
        self.strides.iter_mut().for_each(|stride| *stride = stride.wrapping_neg());
        self.backwards = true;
        last
    }

    fn walk(&self) -> Walk {
        match self.moves.iter().all(Option::is_none) && !self.backwards {
            true => Walk::new(&self.sizes, &self.strides),
            false => Walk::unjoined(&self.sizes, &self.strides, &self.moves),
        }
    }
}

impl Opened {
    fn new(windows: &Windows, data: &View, counts: &[usize]) -> Opened {
        let (mut positions, mut taps, mut bounds) = (Axes::default(), Axes::default(), Vec::new());
        let mut offset = data.offset;
        for (axis, &count) in counts.iter().enumerate() {
            let (stride, step, dilation) = (data.strides[2 + axis], windows.stride_at(axis), windows.dilation_at(axis));
            let (length, before) = (data.shape[2 + axis], windows.before_at(axis));
            offset = offset.wrapping_sub(before * stride);
            // Where no window reaches beyond the data, nothing is bounded.
            let bounded = before > 0 || (count - 1) * step + windows.extent(axis) > length;
            let moves = |by: usize| bounded.then_some((bounds.len(), by));
            positions.moves.push(moves(step));
            taps.moves.push(moves(dilation));
            positions.sizes.push(count);
            positions.strides.push(stride * step);
            taps.sizes.push(windows.kernel_at(axis));
            taps.strides.push(stride * dilation);
            if bounded {
                bounds.push((length, before));
            }
        }
        Opened { offset, sample: data.strides[0], channel: data.strides[1], positions, taps, bounds }
    }
}

/// One operand: where it begins, its two axes, and the strides of the two batch axes.
struct Placed {
    offset: usize,
    x: Walk,
    k: Walk,
    batch: [usize; 2],
    bounds: Vec<(usize, usize)>,
}

impl Placed {
    /// As the operand of a plain product where two strides describe it. `row_is_x` says which of them is its row.
    fn operand(self, row_is_x: bool) -> (Operand, Option<Walks>) {
        let Placed { offset, x, k, batch, bounds } = self;
        let plain = x.stride().zip(k.stride()).filter(|(x, k)| (*x == 1 || *k == 1) && bounds.is_empty());
        // A product's strides do not go backwards.
        let plain = plain.filter(|(x, k)| [x, k].iter().all(|stride| **stride <= i32::MAX as usize));
        let (row, col) = match plain {
            Some((x, k)) if row_is_x => (x, k),
            Some((x, k)) => (k, x),
            None => (0, 0),
        };
        (Operand { offset, row, col, batch }, plain.is_none().then_some(Walks { x, k, bounds }))
    }
}

fn product([m, n, k]: [usize; 3], batch: [usize; 2], a: Placed, b: Placed) -> Matmul {
    let ((a, a_walks), (b, b_walks)) = (a.operand(true), b.operand(false));
    let out_wide = n.is_multiple_of(4);
    // Networks of convolutions turn small differences into large ones (a maximum of a window that moves): sums of
    // thousands of products are worth the care.
    let walks = [a_walks, b_walks];
    let stored = [DType::F32; 2];
    Matmul { m, n, k, batch, a, b, out_wide, bias_gradient: false, row_sums: false, pairs: true, walks, stored }
}

/// Plans a convolution's kernels; its operands are given with the types in which they are stored.
/// With `sums` a weight gradient also gives the sums of the gradient over everything but channels
/// ([`gives_channel_sums`]).
pub fn plan(
    profile: &Profile,
    op: MacroOp,
    node: &Node,
    [(x, x_stored), (y, y_stored)]: &[(View, DType); 2],
    sums: bool,
) -> Option<Plan> {
    let result = &node.outputs[0].shape;
    if let Some(plan) = direct(profile, op, result, [x, y]) {
        return Some(plan);
    }
    let mm = match op {
        MacroOp::Conv { windows, groups } => forward(&windows, groups as usize, x, y, &result[2..]),
        MacroOp::ConvDataGrad { windows, groups, .. } => {
            data_grad(&reversed(&windows)?, groups as usize, x, y, &result[2..])
        }
        MacroOp::ConvWeightGrad { windows, groups } => {
            let stored = [*y_stored, *x_stored];
            return Some(weight_grad(profile, &windows, groups as usize, result.numel(), [x, y], stored, sums));
        }
        _ => return None,
    };
    let positions = result[2..].iter().product::<usize>();
    // Four neighbours are stored together where they are of one sample.
    let mm = Matmul { stored: [*y_stored, *x_stored], out_wide: positions.is_multiple_of(4), ..mm };
    let inputs = vec![PortSource::Operand(1), PortSource::Operand(0)];
    let mut spec = emit(profile, &mm);
    if mm.n != positions {
        store_by_samples(&mut spec, positions);
    }
    let stages = vec![Stage { spec, inputs, outputs: vec![], hook: Hook::Store }];
    Some(Plan { stages, product: Some(mm), ..Plan::default() })
}

/// Plans what is computed term by term.
fn direct(profile: &Profile, op: MacroOp, result: &Shape, [first, second]: [&View; 2]) -> Option<Plan> {
    let (first, second) = (&first.shape, &second.shape);
    let (windows, groups, weight, data, image) = match op {
        MacroOp::Conv { windows, groups } => (windows, groups, second, first, result),
        MacroOp::ConvDataGrad { windows, groups, .. } => (windows, groups, second, result, first),
        MacroOp::ConvWeightGrad { windows, groups } => (windows, groups, result, first, second),
        _ => return None,
    };
    if !is_direct(op, weight) {
        return None;
    }
    let groups = groups.max(1) as usize;
    let (samples, channels, filters) = (data[0], weight[1], weight[0] / groups);
    let sizes = conv::Sizes { samples, groups, channels, filters, data: &data[2..], result: &image[2..] };
    let spec = match op {
        MacroOp::Conv { .. } => conv::conv_direct(profile, &windows, sizes),
        MacroOp::ConvDataGrad { .. } => conv::conv_direct_data_grad(profile, &windows, sizes),
        _ => conv::conv_direct_weight_grad(profile, &windows, sizes),
    };
    let inputs = vec![PortSource::Operand(0), PortSource::Operand(1)];
    Some(Plan { stages: vec![Stage { spec, inputs, outputs: vec![], hook: Hook::Store }], ..Plan::default() })
}

fn emit(profile: &Profile, mm: &Matmul) -> KernelSpec {
    let spec = matmul::emit(matmul::choose(profile, mm), mm, profile);
    KernelSpec { name: spec.name.replacen("matmul", "conv", 1), ..spec }
}

/// Lets a product whose columns are the positions of all samples, one sample after the other, store each sample's by itself.
fn store_by_samples(spec: &mut KernelSpec, positions: usize) {
    const STORE: &str = "\
fn store_position(batch: u32, row: u32, col: u32, value: F) {
    let sample = col / POSITIONS;
    store(sample * params.batch_inner + batch, row, col - sample * POSITIONS, value);
}

";
    let body = spec.body.replace(" store(batch, row, col", " store_position(batch, row, col");
    debug_assert_ne!(body, spec.body, "{} stores in other words", spec.name);
    spec.body = format!("{STORE}{body}").into();
    spec.constants.push(("POSITIONS", positions as u32));
}

/// The product of filters with windows over so many channels of a group. The samples lie side by side as its columns, so that
/// only the last tile of all is not full; but each has a product to itself where one is plain, as of windows of one element.
fn product_of_windows(
    [m, k]: [usize; 2],
    [samples, groups]: [usize; 2],
    a: Placed,
    (open, channels): (Opened, usize),
) -> Matmul {
    let positions: usize = open.positions.sizes.iter().product();
    let steps = open.taps.within(channels, open.channel).walk();
    let plain = open.bounds.is_empty() && open.positions.walk().stride() == Some(1) && steps.stride().is_some();
    let (x, sample, columns) = match plain {
        true => (open.positions.walk(), open.sample, positions),
        false => (open.positions.within(samples, open.sample).walk(), 0, samples * positions),
    };
    let batch = [sample, channels * open.channel];
    let b = Placed { offset: open.offset, x, k: steps, batch, bounds: open.bounds };
    product([m, columns, k], [if plain { samples } else { 1 }, groups], a, b)
}

/// `weight [o, c K] x windows [c K, n O]` for each group.
fn forward(windows: &Windows, groups: usize, x: &View, weight: &View, counts: &[usize]) -> Matmul {
    let open = Opened::new(windows, x, counts);
    let (rows, channels) = (weight.shape[0] / groups, weight.shape[1]);
    let a = Placed {
        offset: weight.offset,
        x: Walk::new(&[rows], &weight.strides[..1]),
        k: Walk::new(&weight.shape[1..], &weight.strides[1..]),
        batch: [0, rows * weight.strides[0]],
        bounds: vec![],
    };
    product_of_windows([rows, channels * windows.area()], [x.shape[0], groups], a, (open, channels))
}

/// The same over the gradient, with channels exchanged and every window reversed: the filter's taps are walked backwards, or
/// the gradient's where the filter lies in rows ([`channels_first`]).
fn data_grad(windows: &Windows, groups: usize, g: &View, weight: &View, size: &[usize]) -> Matmul {
    let mut open = Opened::new(windows, g, size);
    let (outputs, rows) = (weight.shape[0] / groups, weight.shape[1]);
    let mut weights = Axes::plain(&weight.shape[2..], &weight.strides[2..]);
    let in_rows = weights.within(outputs, weight.strides[0]).walk();
    let (k, last) = if in_rows.stride() == Some(1) && open.bounds.is_empty() {
        open.offset = open.offset.wrapping_add(open.taps.turn_round());
        (in_rows, 0)
    } else {
        let last = weights.turn_round();
        (weights.within(outputs, weight.strides[0]).walk(), last)
    };
    let a = Placed {
        offset: weight.offset + last,
        x: Walk::new(&[rows], &weight.strides[1..2]),
        k,
        batch: [0, outputs * weight.strides[0]],
        bounds: vec![],
    };
    product_of_windows([rows, outputs * windows.area()], [g.shape[0], groups], a, (open, outputs))
}

/// Whether the gradient of a weight `[o, c / groups, ..]` can give that of a bias beside: its sums are written four
/// channels at a time.
pub fn gives_channel_sums(op: MacroOp, weight: &Shape) -> bool {
    let MacroOp::ConvWeightGrad { groups, .. } = op else { return false };
    let groups = groups.max(1) as usize;
    !is_direct(op, weight) && weight[0].is_multiple_of(4 * groups)
}

/// `g [o, O] x windows [O, c K]`, summed over the samples of a chunk in one product and over chunks behind it. With
/// `sums` each chunk's partial sums are followed by those of `g`.
fn weight_grad(
    profile: &Profile,
    windows: &Windows,
    groups: usize,
    outputs: usize,
    [x, g]: [&View; 2],
    stored: [DType; 2],
    sums: bool,
) -> Plan {
    let counts = &g.shape[2..];
    let open = Opened::new(windows, x, counts);
    let (rows, channels) = (g.shape[1] / groups, x.shape[1] / groups);
    let samples = x.shape[0];
    let most = (PARTIAL_BYTES / (4 * outputs.max(1))).clamp(1, samples);
    // Chunks of equal size.
    let chunks = (1..=most).rev().find(|&chunks| samples.is_multiple_of(chunks)).unwrap_or(1);
    let chunk = samples / chunks;
    let a = Placed {
        offset: g.offset,
        x: Walk::new(&[rows], &g.strides[1..2]),
        k: Walk::new(&[&[chunk], counts].concat(), &[&g.strides[..1], &g.strides[2..]].concat()),
        batch: [chunk * g.strides[0], rows * g.strides[1]],
        bounds: vec![],
    };
    let b = Placed {
        offset: open.offset,
        x: open.taps.within(channels, open.channel).walk(),
        k: open.positions.within(chunk, open.sample).walk(),
        batch: [chunk * open.sample, channels * open.channel],
        bounds: open.bounds,
    };
    let k = chunk * counts.iter().product::<usize>();
    let mm = product([rows, channels * windows.area(), k], [chunks, groups], a, b);
    let beside = if sums { g.shape[1] } else { 0 };
    let mm = Matmul { row_sums: sums, stored, ..mm };
    let mut first = emit(profile, &mm);
    if sums {
        first.body = format!("{}{}", partial_row_sums(first.width), first.body).into();
    }
    store_partials(&mut first, outputs + beside);
    first.constants.push(("ROW_SUMS", outputs as u32));
    let inputs = vec![PortSource::Operand(1), PortSource::Operand(0)];
    let work = vec![PortSource::Workspace(0)];
    let second = reduce::sum_chunks(profile, [outputs, beside], chunks);
    let results = if sums { vec![PortSource::ColumnSums] } else { vec![] };
    Plan {
        stages: vec![
            Stage { spec: first, inputs, outputs: work.clone(), hook: Hook::None },
            Stage { spec: second, inputs: work, outputs: results, hook: Hook::Store },
        ],
        workspaces: vec![(chunks * (outputs + beside)) as u64 * 4],
        product: Some(mm),
        ..Plan::default()
    }
}

/// What a product's row sums are written to when another stage adds up its chunks.
fn partial_row_sums(width: u32) -> String {
    let write = match width {
        4 => "    partials[at / W] = value;\n".to_string(),
        _ => (0..4).map(|j| format!("    partials[at + {j}u] = value[{j}];\n")).collect(),
    };
    format!(
        "fn store_row_sums(batch: u32, row: u32, value: vec4<f32>) {{\n    \
         let within = batch % params.batch_inner * params.m + row;\n    \
         let at = batch / params.batch_inner * PARTIALS + ROW_SUMS + within;\n{write}}}\n\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parameter of a product that is read in fours is divided by four, which a negative number modulo 2^32 does not survive.
    #[test]
    fn what_goes_backwards_is_walked() {
        let placed = |stride: usize| Placed {
            offset: 8,
            x: Walk::new(&[32], &[1]),
            k: Walk::unjoined(&[3], &[stride], &[None]),
            batch: [0, 0],
            bounds: vec![],
        };
        assert_eq!(placed(4).operand(false).1, None);
        assert!(placed(4usize.wrapping_neg()).operand(false).1.is_some());
    }
}
