//! Fused pointwise code as WGSL: a hook function that reads its operands, computes, and stores.
//!
//! Values live in `let` variables named after their nodes. Every buffer that fused code touches is
//! reached through small accessors (`ld1_m0`, `ld4_m0`, `st_m0`), so that one text serves scalar and
//! `vec4` declarations alike.

use super::access::{Access, accesses, is_pointwise, pad_axes};
use super::groups::Grouping;
use super::place::{Location, Placement};
use super::views::Views;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, Value};
use crate::kernels::Param;
use crate::program::Role;
use crate::shape::{Shape, View, collapse};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

/// How a hook names its coordinates.
pub enum Grid {
    /// `e`: the linear index of the element.
    Linear,
    /// `batch`, `row`, `col`.
    Store,
    /// `o` over the kept axes, `r` over the reduced ones.
    Reduce { axes: Vec<usize> },
}

/// A buffer range that fused code binds.
#[derive(Debug, Clone)]
pub struct FusedBinding {
    pub location: Location,
    pub dtype: DType,
    pub read: bool,
    pub write: bool,
    wide: bool,
}

/// A finished hook with what its kernel must declare.
pub struct Fused {
    pub text: String,
    pub params: Vec<(String, Param)>,
    pub bindings: Vec<FusedBinding>,
    pub parts: BTreeSet<&'static str>,
    /// Every operand is walked element by element or is one scalar: neighbours can be joined.
    pub linear: bool,
}

/// The graph with everything decided about it.
pub struct Context<'a> {
    pub graph: &'a Graph,
    pub views: &'a Views,
    pub grouping: &'a Grouping,
    pub placement: &'a Placement,
}

/// The WGSL alias for a dtype's values in fused code.
pub fn alias(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => "F",
        DType::I32 => "I",
        DType::U32 | DType::U8 => "U",
        DType::Bool => "B",
    }
}

/// Writes one hook.
pub struct Emitter<'a> {
    context: &'a Context<'a>,
    shape: Shape,
    grid: Grid,
    width: u32,
    /// First letters of binding names, so that two hooks of a kernel do not collide.
    tag: &'static str,
    lines: Vec<String>,
    vars: HashMap<Value, String>,
    loads: HashMap<(Value, Vec<usize>, usize), String>,
    indices: Vec<(Vec<usize>, usize)>,
    params: Vec<(String, Param)>,
    bindings: Vec<FusedBinding>,
    parts: BTreeSet<&'static str>,
    linear: bool,
}

impl<'a> Emitter<'a> {
    pub fn new(context: &'a Context<'a>, shape: Shape, grid: Grid, width: u32, tag: &'static str) -> Emitter<'a> {
        Emitter {
            context,
            shape,
            grid,
            width,
            tag,
            lines: Vec::new(),
            vars: HashMap::new(),
            loads: HashMap::new(),
            indices: Vec::new(),
            params: Vec::new(),
            bindings: Vec::new(),
            parts: BTreeSet::new(),
            linear: true,
        }
    }

    /// Names a value that the hook receives.
    pub fn given(&mut self, value: Value, name: &str) {
        self.vars.insert(value, name.to_string());
    }

    /// Computes a value at the hook's coordinates; its name.
    pub fn value(&mut self, root: Value, view: &View) -> Result<String> {
        if let Some(name) = self.vars.get(&root) {
            return Ok(name.clone());
        }
        let graph = self.context.graph;
        let node = graph.node(root.node);
        let dtype = graph.type_of(root).dtype;
        match &node.op {
            Op::Const(literal) => Ok(constant(dtype, literal.value())),
            Op::Iota { shape, axis } => {
                let inner: usize = shape[axis + 1..].iter().product();
                let index = self.lane_index(view)?;
                Ok(format!("I(({index} / {inner}u) % {}u)", shape[*axis].max(1)))
            }
            Op::RandomBits { shape, stream } => self.random_bits(shape, *stream, node.inputs[0], view),
            op if is_pointwise(op)
                && self.context.grouping.group_of[root.node as usize].is_none()
                && !self.context.grouping.assembled.contains_key(&root.node) =>
            {
                self.node(root.node)
            }
            _ => self.load(root, view),
        }
    }

    /// Computes a pointwise node into a variable; its name.
    pub fn node(&mut self, index: u32) -> Result<String> {
        let value = Value { node: index, output: 0 };
        if let Some(name) = self.vars.get(&value) {
            return Ok(name.clone());
        }
        let node = self.context.graph.node(index);
        let dtype = node.outputs[0].dtype;
        let reads = accesses(self.context.graph, self.context.views, index);
        let text = match &node.op {
            Op::Pointwise(op) => {
                let mut text = op.row().wgsl.to_string();
                if text.contains("wg_") {
                    self.parts.insert("math");
                }
                for (operand, access) in reads.iter().enumerate() {
                    text = text.replace(&format!("{{{operand}}}"), &self.operand(access)?);
                }
                text
            }
            Op::Cast(to) => {
                let from = self.context.graph.type_of(node.inputs[0]).dtype;
                let operand = self.operand(&reads[0])?;
                cast(from, *to, &operand)
            }
            Op::Gather => self.gather(&reads, node.inputs[0], dtype)?,
            Op::DynamicSlice { axis, size } => self.dynamic_slice(&reads, node.inputs[0], *axis, *size)?,
            Op::DynamicUpdate { axis } => self.dynamic_update(&reads, &node.inputs, *axis)?,
            Op::Pad { before, value: fill, .. } => {
                let inner = self.context.views.get(node.inputs[0]).view.shape.clone();
                let axes = pad_axes(&node.op, &node.outputs[0].shape, &inner);
                let bounds = axes.iter().map(|&axis| (before[axis], before[axis] + inner[axis])).collect::<Vec<_>>();
                self.pad(&reads, &bounds, &constant(dtype, fill.value()))?
            }
            Op::Concat { axis } => {
                let sizes: Vec<usize> =
                    node.inputs.iter().map(|&input| self.context.graph.type_of(input).shape[*axis]).collect();
                self.concat(&reads, &sizes, dtype)?
            }
            _ => {
                return Err(Error::Compile {
                    what: node.op.name().into(),
                    message: "is not a fusable operation".into(),
                });
            }
        };
        let name = self.unique();
        self.lines.push(format!("let {name}: {} = {text};", alias(dtype)));
        self.vars.insert(value, name.clone());
        Ok(name)
    }

    /// Names by order of appearance, so that equal code in different places is equal text.
    fn unique(&self) -> String {
        format!("v{}", self.lines.len())
    }

    fn operand(&mut self, access: &Access) -> Result<String> {
        match access.root {
            Some(root) => self.value(root, &access.view),
            None => self.index(&access.view),
        }
    }

    /// Stores a value of the group at the hook's coordinates.
    pub fn store(&mut self, value: Value, name: &str) -> Result<()> {
        let tag = self.tag;
        let location = self.context.placement.locate(value)?;
        let dtype = self.context.graph.type_of(value).dtype;
        let binding = self.bind(location, dtype, false, true, true);
        let index = match self.grid {
            Grid::Linear => "e".to_string(),
            Grid::Store => {
                let rows = self.param("rows", self.shape[1]);
                let cols = self.param("cols", self.shape[2]);
                format!("((batch * {rows} + row) * {cols} + col)")
            }
            Grid::Reduce { .. } => {
                return Err(Error::Compile { what: "a prologue".into(), message: "cannot store".into() });
            }
        };
        self.lines.push(format!("st_{tag}{binding}({index}, {name});"));
        Ok(())
    }

    fn param(&mut self, name: &str, value: usize) -> String {
        let name = format!("{}_{name}", self.tag);
        if !self.params.iter().any(|(known, _)| *known == name) {
            self.params.push((name.clone(), Param::U32(value as u32)));
        }
        format!("params.{name}")
    }

    fn bind(&mut self, location: Location, dtype: DType, read: bool, write: bool, wide: bool) -> usize {
        let placement = self.context.placement;
        // Scalars and constants share a buffer that is bound whole.
        let shared = matches!(placement.buffers[location.buffer].role, Role::Scalars);
        let location = if shared {
            Location { offset: 0, bytes: placement.buffers[location.buffer].bytes, ..location }
        } else {
            location
        };
        let wide = wide && self.width == 4 && !shared;
        let found = self
            .bindings
            .iter_mut()
            .enumerate()
            .find(|(_, known)| known.location == location && (shared || known.dtype == dtype));
        match found {
            Some((index, known)) => {
                known.read |= read;
                known.write |= write;
                known.wide &= wide;
                index
            }
            None => {
                self.bindings.push(FusedBinding {
                    location,
                    dtype: if shared { DType::U32 } else { dtype },
                    read,
                    write,
                    wide,
                });
                self.bindings.len() - 1
            }
        }
    }

    /// Strides of a view over the grid.
    fn strides(&self, view: &View) -> Result<(Vec<usize>, usize)> {
        if view.shape.numel() == 1 {
            return Ok((vec![0; self.shape.rank()], view.offset));
        }
        let walked = view.reshape(&self.shape).ok_or_else(|| Error::Compile {
            what: "a fused kernel".into(),
            message: format!("cannot walk {:?} on {} (please report this)", view.strides, self.shape),
        })?;
        let strides =
            walked.strides.iter().zip(self.shape.iter()).map(|(&stride, &size)| if size == 1 { 0 } else { stride });
        Ok((strides.collect(), walked.offset))
    }

    /// The stride along the axis in which the hook's lanes of a vector lie.
    fn lane_stride(&self, strides: &[usize]) -> usize {
        let axis = match &self.grid {
            Grid::Linear | Grid::Store => (0..self.shape.rank()).rev().find(|&axis| self.shape[axis] != 1),
            Grid::Reduce { axes } => {
                (0..self.shape.rank()).rev().find(|axis| self.shape[*axis] != 1 && !axes.contains(axis))
            }
        };
        axis.map_or(0, |axis| strides[axis])
    }

    fn is_whole(&self, strides: &[usize], offset: usize) -> bool {
        let wanted = self.shape.strides();
        offset == 0 && (0..self.shape.rank()).all(|axis| self.shape[axis] == 1 || strides[axis] == wanted[axis])
    }

    /// The element index (u32) of a view at the coordinates of the vector's first lane.
    fn index(&mut self, view: &View) -> Result<String> {
        let (strides, offset) = self.strides(view)?;
        Ok(self.index_of(strides, offset))
    }

    fn index_of(&mut self, strides: Vec<usize>, offset: usize) -> String {
        if matches!(self.grid, Grid::Linear) && self.is_whole(&strides, offset) {
            return "e".into();
        }
        let key = (strides, offset);
        let known = self.indices.iter().position(|known| *known == key);
        let index = known.unwrap_or_else(|| {
            self.indices.push(key);
            self.indices.len() - 1
        });
        format!("j{index}")
    }

    /// The element indices of all lanes (`U`).
    fn lane_index(&mut self, view: &View) -> Result<String> {
        let (strides, offset) = self.strides(view)?;
        let stride = self.lane_stride(&strides);
        let first = self.index_of(strides, offset);
        self.linear = false;
        Ok(match (self.width, stride) {
            (1, _) => first,
            (_, 0) => format!("U({first})"),
            (_, 1) => format!("(U({first}) + vec4<u32>(0u, 1u, 2u, 3u))"),
            (_, stride) => {
                let step = self.stride_param(&first, stride);
                format!("(U({first}) + {step} * vec4<u32>(0u, 1u, 2u, 3u))")
            }
        })
    }

    fn stride_param(&mut self, index: &str, stride: usize) -> String {
        self.param(&format!("{index}_lane"), stride)
    }

    /// A value read from memory.
    fn load(&mut self, root: Value, view: &View) -> Result<String> {
        let tag = self.tag;
        let location = self.context.placement.locate(root)?;
        let dtype = self.context.graph.type_of(root).dtype;
        let (strides, mut offset) = self.strides(view)?;
        if matches!(self.context.placement.buffers[location.buffer].role, Role::Scalars) {
            offset += (location.offset / 4) as usize;
        }
        let key = (root, strides.clone(), offset);
        if let Some(name) = self.loads.get(&key) {
            return Ok(name.clone());
        }
        let scalar = strides.iter().all(|&stride| stride == 0);
        let whole = matches!(self.grid, Grid::Linear) && self.is_whole(&strides, offset);
        self.linear &= scalar || whole;
        let index = self.index_of(strides.clone(), offset);
        let stride = self.lane_stride(&strides);
        let aligned = offset.is_multiple_of(4) && strides.iter().all(|stride| stride.is_multiple_of(4) || *stride == 1);
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

    /// Words of the shared scalar buffer, read as what they are.
    fn typed(&self, binding: usize, dtype: DType, word: &str) -> String {
        if self.bindings[binding].dtype == dtype
            || !matches!(self.context.placement.buffers[self.bindings[binding].location.buffer].role, Role::Scalars)
        {
            return word.to_string();
        }
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => format!("bitcast<f32>({word})"),
            DType::I32 => format!("bitcast<i32>({word})"),
            DType::U32 | DType::U8 => word.to_string(),
            DType::Bool => format!("({word} != 0u)"),
        }
    }

    fn random_bits(&mut self, shape: &Shape, stream: u32, key: Value, view: &View) -> Result<String> {
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
    fn load_at(&mut self, operand: Value, access: &Access, index: &str) -> Result<String> {
        let tag = self.tag;
        self.linear = false;
        let root = self.context.views.get(operand).root;
        if let Op::Const(literal) = self.context.graph.node(root.node).op {
            return Ok(constant(literal.dtype, literal.value()));
        }
        let location = self.context.placement.locate(root)?;
        let dtype = self.context.graph.type_of(root).dtype;
        let (strides, offset) = self.strides(&access.view)?;
        let stride = self.lane_stride(&strides);
        let aligned = offset.is_multiple_of(4)
            && strides.iter().all(|stride| stride.is_multiple_of(4) || *stride == 1)
            && self
                .context
                .views
                .get(operand)
                .view
                .strides
                .iter()
                .all(|stride| stride.is_multiple_of(4) || *stride == 1);
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

    fn let_index(&mut self, text: String) -> String {
        let name = self.unique();
        self.lines.push(format!("let {name} = {text};"));
        name
    }

    /// A scalar operand of index arithmetic: the first lane of whatever width.
    fn scalar_index(&mut self, access: &Access) -> Result<String> {
        let text = self.operand(access)?;
        let scalar = if self.width == 4 { format!("({text}).x") } else { text };
        Ok(self.let_index(format!("i32({scalar})")))
    }

    fn gather(&mut self, reads: &[Access], table: Value, dtype: DType) -> Result<String> {
        let at = self.scalar_index(&reads[0])?;
        let view = &self.context.views.get(table).view;
        let (rows, stride) = (view.shape[0], view.strides[0]);
        let base = self.index(&reads[1].view)?;
        let rows = self.param(&format!("{at}_rows"), rows);
        let stride = self.param(&format!("{at}_stride"), stride);
        let inside = self.let_index(format!("{at} >= 0 && {at} < i32({rows})"));
        let index = self.let_index(format!("{base} + select(0u, u32({at}), {inside}) * {stride}"));
        let loaded = self.load_at(table, &reads[1], &index)?;
        Ok(format!("select({}, {loaded}, {inside})", constant(dtype, 0.0)))
    }

    fn dynamic_slice(&mut self, reads: &[Access], operand: Value, axis: usize, size: usize) -> Result<String> {
        let start = self.scalar_index(&reads[0])?;
        let view = &self.context.views.get(operand).view;
        let (most, stride) = (view.shape[axis] - size, view.strides[axis]);
        let base = self.index(&reads[1].view)?;
        let most = self.param(&format!("{start}_most"), most);
        let stride = self.param(&format!("{start}_stride"), stride);
        let index = self.let_index(format!("{base} + u32(clamp({start}, 0, i32({most}))) * {stride}"));
        self.load_at(operand, &reads[1], &index)
    }

    fn dynamic_update(&mut self, reads: &[Access], inputs: &[Value], axis: usize) -> Result<String> {
        let start = self.scalar_index(&reads[0])?;
        let at = self.index(&reads[1].view)?;
        let (whole, part) = (&self.context.views.get(inputs[0]).view, &self.context.views.get(inputs[1]).view);
        let (most, size, stride) = (whole.shape[axis] - part.shape[axis], part.shape[axis], part.strides[axis]);
        let base = self.index(&reads[2].view)?;
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

    fn pad(&mut self, reads: &[Access], bounds: &[(usize, usize)], fill: &str) -> Result<String> {
        let Some((inner, coordinates)) = reads.split_last() else { return Ok(fill.to_string()) };
        let mut tests = Vec::new();
        for (access, &(start, stop)) in coordinates.iter().zip(bounds) {
            let at = self.index(&access.view)?;
            tests.push(format!("{at} >= {start}u && {at} < {stop}u"));
        }
        let test = if tests.is_empty() { "true".to_string() } else { tests.join(" && ") };
        let inside = self.let_index(test);
        let base = self.index(&inner.view)?;
        let index = self.let_index(format!("select(0u, {base}, {inside})"));
        let loaded = self.load_root(inner, &index)?;
        Ok(format!("select({fill}, {loaded}, {inside})"))
    }

    fn concat(&mut self, reads: &[Access], sizes: &[usize], dtype: DType) -> Result<String> {
        let at = self.index(&reads[0].view)?;
        let mut text = constant(dtype, 0.0);
        let mut start = 0;
        for (access, size) in reads[1..].iter().zip(sizes) {
            let inside = self.let_index(format!("{at} >= {start}u && {at} < {}u", start + size));
            let base = self.index(&access.view)?;
            let index = self.let_index(format!("select(0u, {base}, {inside})"));
            let loaded = self.load_root(access, &index)?;
            text = format!("select({text}, {loaded}, {inside})");
            start += size;
        }
        Ok(text)
    }

    /// A masked load of a pad's or concatenation's operand, which may be a constant.
    fn load_root(&mut self, access: &Access, index: &str) -> Result<String> {
        let Some(root) = access.root else { return Ok(index.to_string()) };
        let node = self.context.graph.node(root.node);
        if let Op::Const(literal) = node.op {
            return Ok(constant(literal.dtype, literal.value()));
        }
        self.load_at(root, access, index)
    }

    /// The hook's text. `head` is its signature; the body ends with `tail`.
    pub fn finish(mut self, head: &str, tail: &str) -> Fused {
        let mut text = String::new();
        self.declare_bindings(&mut text);
        let _ = writeln!(text, "{head} {{");
        for line in self.index_lines() {
            let _ = writeln!(text, "    {line}");
        }
        for line in &self.lines {
            let _ = writeln!(text, "    {line}");
        }
        if !tail.is_empty() {
            let _ = writeln!(text, "    {tail}");
        }
        text.push_str("}\n");
        Fused { text, params: self.params, bindings: self.bindings, parts: self.parts, linear: self.linear }
    }

    /// `let j0 = …;` for every index in use, over the fewest coordinates.
    fn index_lines(&mut self) -> Vec<String> {
        let indices = std::mem::take(&mut self.indices);
        if indices.is_empty() {
            return Vec::new();
        }
        let (mut lines, terms) = match &self.grid {
            Grid::Store => (Vec::new(), self.store_terms(&indices)),
            Grid::Linear => {
                let axes: Vec<usize> = (0..self.shape.rank()).collect();
                self.walk("e", "c", &axes, &indices)
            }
            Grid::Reduce { axes } => {
                let reduced = axes.clone();
                let kept: Vec<usize> = (0..self.shape.rank()).filter(|axis| !reduced.contains(axis)).collect();
                let (mut lines, mut terms) = self.walk("o", "k", &kept, &indices);
                let (more, others) = self.walk("r", "d", &reduced, &indices);
                lines.extend(more);
                terms.iter_mut().zip(others).for_each(|(terms, others)| terms.extend(others));
                (lines, terms)
            }
        };
        for (index, ((_, offset), terms)) in indices.iter().zip(terms).enumerate() {
            let mut sum = vec![self.param(&format!("j{index}_offset"), *offset)];
            for (coordinate, stride) in terms {
                match stride {
                    0 => {}
                    1 => sum.push(coordinate),
                    _ => {
                        let stride = self.param(&format!("j{index}_{coordinate}"), stride);
                        sum.push(format!("{coordinate} * {stride}"));
                    }
                }
            }
            lines.push(format!("let j{index} = {};", sum.join(" + ")));
        }
        lines
    }

    fn store_terms(&self, indices: &[(Vec<usize>, usize)]) -> Vec<Vec<(String, usize)>> {
        let names = ["batch", "row", "col"];
        indices
            .iter()
            .map(|(strides, _)| names.iter().map(|name| name.to_string()).zip(strides.iter().copied()).collect())
            .collect()
    }

    /// Splits a linear index over some axes into coordinates, joining what all walk alike.
    fn walk(
        &mut self,
        linear: &str,
        prefix: &str,
        axes: &[usize],
        indices: &[(Vec<usize>, usize)],
    ) -> (Vec<String>, Vec<Vec<(String, usize)>>) {
        let shape: Shape = axes.iter().map(|&axis| self.shape[axis]).collect();
        let strides: Vec<Vec<usize>> =
            indices.iter().map(|(all, _)| axes.iter().map(|&axis| all[axis]).collect()).collect();
        let borrowed: Vec<&[usize]> = strides.iter().map(Vec::as_slice).collect();
        let (sizes, collapsed) = collapse(&shape, &borrowed);
        let rank = sizes.rank();
        let mut lines = Vec::new();
        let mut rest = linear.to_string();
        let mut names = vec![String::new(); rank];
        for axis in (0..rank).rev() {
            names[axis] = format!("{prefix}{axis}");
            if axis == 0 {
                lines.push(format!("let {} = {rest};", names[axis]));
            } else {
                let size = self.param(&format!("{prefix}{axis}_size"), sizes[axis]);
                lines.push(format!("let {} = {rest} % {size};", names[axis]));
                lines.push(format!("let {prefix}{axis}_rest = {rest} / {size};"));
                rest = format!("{prefix}{axis}_rest");
            }
        }
        let terms = collapsed.into_iter().map(|strides| names.iter().cloned().zip(strides).collect()).collect();
        (lines, terms)
    }

    /// Accessors for each binding: one element, four elements, store.
    fn declare_bindings(&self, text: &mut String) {
        let tag = self.tag;
        for (m, binding) in self.bindings.iter().enumerate() {
            let FusedBinding { dtype, wide, read, write, .. } = binding;
            let (stored, ty) = (stored_type(*dtype), value_type(*dtype));
            let decode = |x: String| if *dtype == DType::Bool { format!("({x} != 0u)") } else { x };
            let decode4 = |x: String| if *dtype == DType::Bool { format!("({x} != vec4<u32>(0u))") } else { x };
            if *read && *dtype == DType::U8 {
                let _ = writeln!(
                    text,
                    "fn ld1_{tag}{m}(i: u32) -> u32 {{ return ({tag}{m}[i >> 2u] >> (8u * (i & 3u))) & 255u; }}"
                );
                let _ =
                    writeln!(text, "fn ld4_{tag}{m}(i: u32) -> vec4<u32> {{ return unpack4xU8({tag}{m}[i >> 2u]); }}");
            } else if *read {
                let one = if *wide { format!("{tag}{m}[i >> 2u][i & 3u]") } else { format!("{tag}{m}[i]") };
                let _ = writeln!(text, "fn ld1_{tag}{m}(i: u32) -> {ty} {{ return {}; }}", decode(one));
                if self.width == 4 {
                    let four = if *wide {
                        format!("{tag}{m}[i >> 2u]")
                    } else {
                        format!("vec4<{stored}>({tag}{m}[i], {tag}{m}[i + 1u], {tag}{m}[i + 2u], {tag}{m}[i + 3u])")
                    };
                    let _ = writeln!(text, "fn ld4_{tag}{m}(i: u32) -> vec4<{ty}> {{ return {}; }}", decode4(four));
                }
            }
            if *write {
                let a = alias(*dtype);
                let coded = match (*dtype, self.width) {
                    (DType::Bool, 4) => "select(vec4<u32>(0u), vec4<u32>(1u), value)",
                    (DType::Bool, _) => "select(0u, 1u, value)",
                    _ => "value",
                };
                let body = match (self.width, wide) {
                    (4, true) => format!("{tag}{m}[i >> 2u] = {coded};"),
                    (4, false) => {
                        (0..4).map(|k| format!("{tag}{m}[i + {k}u] = ({coded})[{k}];")).collect::<Vec<_>>().join(" ")
                    }
                    _ => format!("{tag}{m}[i] = {coded};"),
                };
                let _ = writeln!(text, "fn st_{tag}{m}(i: u32, value: {a}) {{ {body} }}");
            }
        }
    }
}

impl FusedBinding {
    /// Bytes to bind: whole vectors, where vectors are read.
    pub fn bytes(&self) -> u64 {
        self.location.bytes.next_multiple_of(if self.wide { 16 } else { 4 })
    }

    /// The element type of the binding's array.
    pub fn array_type(&self) -> String {
        let stored = stored_type(self.dtype);
        if self.wide && self.dtype != DType::U8 { format!("vec4<{stored}>") } else { stored.to_string() }
    }
}

fn stored_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::I32 => "i32",
        DType::U32 | DType::Bool | DType::U8 | DType::F16 | DType::BF16 => "u32",
    }
}

fn value_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => "f32",
        DType::I32 => "i32",
        DType::U32 | DType::U8 => "u32",
        DType::Bool => "bool",
    }
}

/// A constant in fused code. Non-finite floats become the largest finite ones: WGSL has no others.
pub fn constant(dtype: DType, value: f64) -> String {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => {
            let value = (value as f32).clamp(f32::MIN, f32::MAX);
            format!("F({value:?})")
        }
        DType::I32 => match value as i64 {
            least if least == i64::from(i32::MIN) => "I(-2147483647 - 1)".to_string(),
            value => format!("I({value})"),
        },
        DType::U32 | DType::U8 => format!("U({}u)", value as u64),
        DType::Bool => format!("B({})", value != 0.0),
    }
}

fn cast(from: DType, to: DType, x: &str) -> String {
    let zero = constant(from, 0.0);
    match (alias(from), alias(to)) {
        (a, b) if a == b => x.to_string(),
        ("B", _) => format!("select({}, {}, {x})", constant(to, 0.0), constant(to, 1.0)),
        (_, "B") => format!("({x} != {zero})"),
        (_, target) => format!("{target}({x})"),
    }
}
