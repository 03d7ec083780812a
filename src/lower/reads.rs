//! What fused code reads: plain loads, and loads at indices that are computed at run time.
//!
//! Part of the emitter in [`super::expression`].

use super::access::Access;
use super::bindings::{alias, constant};
use super::expression::{Emitter, Grid};
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Op, Value};
use crate::shape::{Shape, View};

/// The attributes of a fold.
#[derive(Clone, Copy)]
pub(super) struct FoldSteps {
    pub axis: usize,
    pub stride: usize,
    pub dilation: usize,
}

impl Emitter<'_> {
    /// A value read from memory.
    pub(super) fn load(&mut self, root: Value, view: &View) -> Result<String> {
        let tag = self.tag;
        let location = self.context.placement.locate(root)?;
        let dtype = self.context.graph.type_of(root).dtype;
        let (strides, mut offset) = self.strides(view)?;
        if self.context.placement.is_shared(location.buffer) {
            offset += (location.offset / 4) as usize;
        }
        let key = (root, strides.clone(), offset);
        if let Some(name) = self.loads.get(&key) {
            return Ok(name.clone());
        }
        let walk = self.context.views.walk(root);
        let scalar = strides.iter().all(|&stride| stride == 0);
        let whole = matches!(self.grid, Grid::Linear) && self.is_whole(&strides, offset) && !walk.moves();
        self.linear &= scalar || whole;
        let index = self.index_of(strides.clone(), offset, walk);
        let stride = self.lane_stride(&strides);
        let starts = offset.is_multiple_of(4) && walk.in_fours();
        let aligned = starts && strides.iter().all(|stride| stride.is_multiple_of(4) || *stride == 1);
        let one_unit =
            strides.iter().zip(self.shape.iter()).filter(|(stride, size)| **stride == 1 && **size != 1).count() <= 1;
        let text = match (self.width, stride) {
            (1, _) => {
                let binding = self.bind(location, dtype, true, false, false);
                self.typed(binding, dtype, &format!("ld1_{tag}{binding}({index})"))
            }
            (_, 0) => {
                let binding = self.bind(location, dtype, true, false, true);
                let one = self.typed(binding, dtype, &format!("ld1_{tag}{binding}({index})"));
                format!("{}({one})", alias(dtype))
            }
            (_, 1) if whole || aligned && one_unit => {
                let binding = self.bind(location, dtype, true, false, true);
                format!("ld4_{tag}{binding}({index})")
            }
            (_, stride) => {
                let binding = self.bind(location, dtype, true, false, false);
                let step = if stride == 1 { "1u".to_string() } else { self.stride_param(&index, stride) };
                let lane = |k: u32| format!("ld1_{tag}{binding}({index} + {k}u * {step})");
                format!("{}({}, {}, {}, {})", alias(dtype), lane(0), lane(1), lane(2), lane(3))
            }
        };
        let name = self.unique();
        self.lines.push(format!("let {name}: {} = {text};", alias(dtype)));
        self.loads.insert(key, name.clone());
        Ok(name)
    }

    /// Words of a buffer of scalars, read as what they are.
    pub(super) fn typed(&self, binding: usize, dtype: DType, word: &str) -> String {
        let shared = self.context.placement.is_shared(self.bindings[binding].location.buffer);
        if self.bindings[binding].dtype == dtype || !shared {
            return word.to_string();
        }
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => format!("bitcast<f32>({word})"),
            DType::I32 => format!("bitcast<i32>({word})"),
            DType::U32 | DType::U8 => word.to_string(),
            DType::Bool => format!("({word} != 0u)"),
        }
    }

    pub(super) fn random_bits(&mut self, shape: &Shape, stream: u32, key: Value, view: &View) -> Result<String> {
        let tag = self.tag;
        self.parts.insert("threefry");
        let location = self.context.placement.locate(self.context.views.get(key).root)?;
        let binding = self.bind(location, DType::U32, true, false, false);
        let rest: usize = shape.iter().skip(1).product::<usize>().max(1);
        let index = self.lane_index(view)?;
        self.linear = false;
        let at = self.unique();
        self.lines.push(format!("let {at} = {index};"));
        let bits = |lane: &str| {
            format!(
                "wg_random_bits(ld1_{tag}{binding}(0u), {stream}u, ld1_{tag}{binding}(1u) + {at}{lane} / {rest}u, {at}{lane} % {rest}u)"
            )
        };
        Ok(match self.width {
            1 => bits(""),
            _ => format!("U({}, {}, {}, {})", bits(".x"), bits(".y"), bits(".z"), bits(".w")),
        })
    }

    /// A load at an index that is itself computed.
    pub(super) fn load_at(&mut self, operand: Value, access: &Access, index: &str) -> Result<String> {
        let tag = self.tag;
        self.linear = false;
        let root = self.context.views.get(operand).root;
        if let Op::Const(literal) = self.context.graph.node(root.node).op {
            return Ok(constant(literal.dtype, literal.value()));
        }
        let location = self.context.placement.locate(root)?;
        let dtype = self.context.graph.type_of(root).dtype;
        let (strides, offset) = self.strides(&access.view)?;
        // A buffer of scalars is bound whole.
        let index = if self.context.placement.is_shared(location.buffer) {
            format!("{index} + {}u", location.offset / 4)
        } else {
            index.to_string()
        };
        let stride = self.lane_stride(&strides);
        // Of two axes with stride 1, as overlapping windows have, one starts vectors at any element.
        let in_fours = |strides: &[usize], sizes: &[usize]| {
            let units = strides.iter().zip(sizes).filter(|(stride, size)| **stride == 1 && **size != 1).count();
            units <= 1 && strides.iter().all(|stride| stride.is_multiple_of(4) || *stride == 1)
        };
        let own = &self.context.views.get(operand).view;
        let starts = offset.is_multiple_of(4) && self.context.views.walk(root).in_fours();
        let aligned = starts && in_fours(&strides, &self.shape) && in_fours(&own.strides, &own.shape);
        Ok(match (self.width, stride) {
            (1, _) | (_, 0) => {
                let binding = self.bind(location, dtype, true, false, false);
                let one = self.typed(binding, dtype, &format!("ld1_{tag}{binding}({index})"));
                format!("{}({one})", alias(dtype))
            }
            (_, 1) if aligned => {
                let binding = self.bind(location, dtype, true, false, true);
                format!("ld4_{tag}{binding}({index})")
            }
            (_, stride) => {
                let binding = self.bind(location, dtype, true, false, false);
                let lane = |k: usize| format!("ld1_{tag}{binding}({index} + {}u)", k * stride);
                format!("{}({}, {}, {}, {})", alias(dtype), lane(0), lane(1), lane(2), lane(3))
            }
        })
    }

    pub(super) fn let_index(&mut self, text: String) -> String {
        let name = self.unique();
        self.lines.push(format!("let {name} = {text};"));
        name
    }

    /// A scalar operand of index arithmetic: the first lane of whatever width.
    pub(super) fn scalar_index(&mut self, access: &Access) -> Result<String> {
        let text = self.operand(access)?;
        let scalar = if self.width == 4 { format!("({text}).x") } else { text };
        Ok(self.let_index(format!("i32({scalar})")))
    }

    pub(super) fn gather(&mut self, reads: &[Access], table: Value, dtype: DType) -> Result<String> {
        let at = self.scalar_index(&reads[0])?;
        let view = &self.context.views.get(table).view;
        let (rows, stride) = (view.shape[0], view.strides[0]);
        let base = self.index(&reads[1])?;
        let rows = self.param(&format!("{at}_rows"), rows);
        let stride = self.param(&format!("{at}_stride"), stride);
        let inside = self.let_index(format!("{at} >= 0 && {at} < i32({rows})"));
        let index = self.let_index(format!("{base} + select(0u, u32({at}), {inside}) * {stride}"));
        let loaded = self.load_at(table, &reads[1], &index)?;
        Ok(format!("select({}, {loaded}, {inside})", constant(dtype, 0.0)))
    }

    pub(super) fn dynamic_slice(
        &mut self,
        reads: &[Access],
        operand: Value,
        axis: usize,
        size: usize,
    ) -> Result<String> {
        let start = self.scalar_index(&reads[0])?;
        let view = &self.context.views.get(operand).view;
        let (most, stride) = (view.shape[axis] - size, view.strides[axis]);
        let base = self.index(&reads[1])?;
        let most = self.param(&format!("{start}_most"), most);
        let stride = self.param(&format!("{start}_stride"), stride);
        let index = self.let_index(format!("{base} + u32(clamp({start}, 0, i32({most}))) * {stride}"));
        self.load_at(operand, &reads[1], &index)
    }

    pub(super) fn dynamic_update(&mut self, reads: &[Access], inputs: &[Value], axis: usize) -> Result<String> {
        let start = self.scalar_index(&reads[0])?;
        let at = self.index(&reads[1])?;
        let (whole, part) = (&self.context.views.get(inputs[0]).view, &self.context.views.get(inputs[1]).view);
        let (most, size, stride) = (whole.shape[axis] - part.shape[axis], part.shape[axis], part.strides[axis]);
        let base = self.index(&reads[2])?;
        let most = self.param(&format!("{start}_most"), most);
        let size = self.param(&format!("{start}_size"), size);
        let stride = self.param(&format!("{start}_stride"), stride);
        let from = self.let_index(format!("u32(clamp({start}, 0, i32({most})))"));
        let inside = self.let_index(format!("{at} >= {from} && {at} - {from} < {size}"));
        let index = self.let_index(format!("select(0u, {base} - {from} * {stride}, {inside})"));
        let update = self.load_at(inputs[1], &reads[2], &index)?;
        let old = self.operand(&reads[3])?;
        Ok(format!("select({old}, {update}, {inside})"))
    }

    pub(super) fn pad(&mut self, reads: &[Access], bounds: &[(usize, usize)], fill: &str) -> Result<String> {
        let Some((inner, coordinates)) = reads.split_last() else { return Ok(fill.to_string()) };
        if self.width == 4 {
            return self.pad_four(inner, coordinates, bounds, fill);
        }
        let mut tests = Vec::new();
        for (access, &(start, stop)) in coordinates.iter().zip(bounds) {
            let at = self.index(access)?;
            tests.push(format!("{at} >= {start}u && {at} < {stop}u"));
        }
        let test = if tests.is_empty() { "true".to_string() } else { tests.join(" && ") };
        let inside = self.let_index(test);
        let base = self.index(inner)?;
        let index = self.let_index(format!("select(0u, {base}, {inside})"));
        let loaded = self.load_root(inner, &index)?;
        Ok(format!("select({fill}, {loaded}, {inside})"))
    }

    /// Four neighbours of a padded tensor, of which each may lie outside for itself.
    fn pad_four(
        &mut self,
        inner: &Access,
        coordinates: &[Access],
        bounds: &[(usize, usize)],
        fill: &str,
    ) -> Result<String> {
        let mut tests = vec!["vec4<bool>(true)".to_string()];
        for (access, &(start, stop)) in coordinates.iter().zip(bounds) {
            let at = self.lane_index(&access.view)?;
            let at = self.let_index(at);
            tests.push(format!("({at} >= U({start}u)) & ({at} < U({stop}u))"));
        }
        let inside = self.let_index(tests.join(" & "));
        let Some(root) = inner.root else { return Ok(fill.to_string()) };
        if let Op::Const(literal) = self.context.graph.node(root.node).op {
            return Ok(format!("select({fill}, {}, {inside})", constant(literal.dtype, literal.value())));
        }
        let (strides, _) = self.strides(&inner.view)?;
        let first = self.index(inner)?;
        let lanes = match self.lane_stride(&strides) {
            0 => format!("U({first})"),
            1 => format!("U({first}) + vec4<u32>(0u, 1u, 2u, 3u)"),
            stride => format!("U({first}) + {} * vec4<u32>(0u, 1u, 2u, 3u)", self.stride_param(&first, stride)),
        };
        let index = self.let_index(format!("select(U(0u), {lanes}, {inside})"));
        let location = self.context.placement.locate(root)?;
        let dtype = self.context.graph.type_of(root).dtype;
        let binding = self.bind(location, dtype, true, false, false);
        let word = if self.context.placement.is_shared(location.buffer) { location.offset / 4 } else { 0 };
        let tag = self.tag;
        let lane = |k: usize| self.typed(binding, dtype, &format!("ld1_{tag}{binding}({index}[{k}] + {word}u)"));
        Ok(format!("select({fill}, {}({}, {}, {}, {}), {inside})", alias(dtype), lane(0), lane(1), lane(2), lane(3)))
    }

    pub(super) fn concat(&mut self, reads: &[Access], sizes: &[usize], dtype: DType) -> Result<String> {
        let at = self.index(&reads[0])?;
        let mut text = constant(dtype, 0.0);
        let mut start = 0;
        for (access, size) in reads[1..].iter().zip(sizes) {
            let inside = self.let_index(format!("{at} >= {start}u && {at} < {}u", start + size));
            let base = self.index(access)?;
            let index = self.let_index(format!("select(0u, {base}, {inside})"));
            let loaded = self.load_root(access, &index)?;
            text = format!("select({text}, {loaded}, {inside})");
            start += size;
        }
        Ok(text)
    }

    /// The sum of what all windows that meet the element's coordinate hold there, first element of a window first.
    pub(super) fn fold(&mut self, reads: &[Access], operand: Value, steps: FoldSteps, dtype: DType) -> Result<String> {
        let FoldSteps { axis, stride, dilation } = steps;
        let at = self.index(&reads[0])?;
        let base = self.index(&reads[1])?;
        let view = &self.context.views.get(operand).view;
        let last = view.shape.rank() - 1;
        let (count, size) = (view.shape[axis], view.shape[last]);
        let sum = self.unique();
        let window_step = self.param(&format!("{sum}_window"), view.strides[axis]);
        let element_step = self.param(&format!("{sum}_element"), view.strides[last]);
        self.lines.push(format!("var {sum} = {};", constant(dtype, 0.0)));
        // Neighbours in a window that are one element apart: only every `stride`-th meets the coordinate.
        let (first, step) = if dilation == 1 { (format!("{at} % {stride}u"), stride) } else { ("0u".into(), 1) };
        self.lines.push(format!("for (var s = {first}; s < {size}u; s += {step}u) {{"));
        self.lines.push(format!("    let back = s * {dilation}u;"));
        self.lines.push(format!("    let window = ({at} - back) / {stride}u;"));
        let met = if dilation == 1 { String::new() } else { format!(" && ({at} - back) % {stride}u == 0u") };
        self.lines.push(format!("    if ({at} >= back && window < {count}u{met}) {{"));
        let loaded =
            self.load_at(operand, &reads[1], &format!("{base} + window * {window_step} + s * {element_step}"))?;
        self.lines.push(format!("        {sum} += {loaded};"));
        self.lines.push("    }".into());
        self.lines.push("}".into());
        Ok(sum)
    }

    /// A masked load of a pad's or concatenation's operand, which may be a constant.
    pub(super) fn load_root(&mut self, access: &Access, index: &str) -> Result<String> {
        let Some(root) = access.root else { return Ok(index.to_string()) };
        let node = self.context.graph.node(root.node);
        if let Op::Const(literal) = node.op {
            return Ok(constant(literal.dtype, literal.value()));
        }
        self.load_at(root, access, index)
    }
}
