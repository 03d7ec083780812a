//! Fused pointwise code as WGSL: a hook function that reads its operands, computes, and stores.
//!
//! Values live in `let` variables named after their nodes. Every buffer that fused code touches is
//! reached through small accessors (`ld1_m0`, `ld4_m0`, `st_m0`), so that one text serves scalar and
//! `vec4` declarations alike.

use super::access::{Access, accesses, pad_axes};
use super::bindings::{FusedBinding, alias, cast, constant};
use super::border::Walk;
use super::grouping::Grouping;
use super::place::{Location, Placement};
use super::reads::FoldSteps;
use super::views::Views;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, Value};
use crate::kernels::Param;
use crate::passes::is_half;
use crate::shape::{Shape, View};
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

/// A finished hook with what its kernel must declare.
pub struct Fused {
    pub text: String,
    pub params: Vec<(String, Param)>,
    pub bindings: Vec<FusedBinding>,
    pub parts: BTreeSet<&'static str>,
    /// Parameters that grow in each step of a loop, and by how much.
    pub steps: Vec<(String, u32)>,
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

/// Writes one hook.
pub struct Emitter<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) shape: Shape,
    pub(super) grid: Grid,
    pub(super) width: u32,
    /// First letters of binding names, so that two hooks of a kernel do not collide.
    pub(super) tag: &'static str,
    pub(super) lines: Vec<String>,
    pub(super) vars: HashMap<Value, String>,
    /// What values of halves were before they were rounded: storing rounds.
    exact: HashMap<Value, String>,
    pub(super) loads: HashMap<(Value, Vec<usize>, usize), String>,
    pub(super) indices: Vec<(Vec<usize>, usize, Walk)>,
    pub(super) params: Vec<(String, Param)>,
    pub(super) steps: Vec<(String, u32)>,
    pub(super) bindings: Vec<FusedBinding>,
    /// Buffers of scalars that another hook of the kernel binds, and the names of their arrays.
    pub(super) bound: Vec<(usize, String)>,
    pub(super) parts: BTreeSet<&'static str>,
    pub(super) linear: bool,
    /// The text holds sizes of its tensors, and serves no others.
    pub(super) own_sizes: bool,
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
            exact: HashMap::new(),
            loads: HashMap::new(),
            indices: Vec::new(),
            params: Vec::new(),
            steps: Vec::new(),
            bindings: Vec::new(),
            bound: Vec::new(),
            parts: BTreeSet::new(),
            linear: true,
            own_sizes: false,
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
            _ if self.context.grouping.is_inline(graph, root) => self.node(root.node),
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
        self.own_sizes |= matches!(node.op, Op::Pad { .. } | Op::Fold { .. });
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
                if is_half(*to) && from != *to {
                    let exact = self.unique();
                    self.lines.push(format!("let {exact}: F = {};", cast(from, *to, &operand)));
                    self.exact.insert(value, exact.clone());
                    self.rounded(*to, &exact)
                } else {
                    cast(from, *to, &operand)
                }
            }
            Op::Gather => self.gather(&reads, node.inputs[0], dtype)?,
            Op::DynamicSlice { axis, size } => self.dynamic_slice(&reads, node.inputs[0], *axis, *size)?,
            Op::DynamicUpdate { axis } => self.dynamic_update(&reads, &node.inputs, *axis)?,
            Op::Fold { axis, stride, dilation, .. } => {
                let steps = FoldSteps { axis: *axis, stride: *stride, dilation: *dilation };
                self.fold(&reads, node.inputs[0], steps, dtype)?
            }
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
                return Err(Error::compile(node.op.name().into(), "is not a fusable operation".into()));
            }
        };
        let name = self.unique();
        self.lines.push(format!("let {name}: {} = {text};", alias(dtype)));
        self.vars.insert(value, name.clone());
        Ok(name)
    }

    /// A number rounded to half precision; it goes on as f32.
    fn rounded(&mut self, to: DType, exact: &str) -> String {
        self.parts.insert("half");
        let one = |x: String| format!("wg_from_{to}(wg_to_{to}({x}))");
        match self.width {
            4 => format!("F({})", (0..4).map(|k| one(format!("{exact}[{k}]"))).collect::<Vec<_>>().join(", ")),
            _ => one(exact.to_string()),
        }
    }

    /// Names by order of appearance, so that equal code in different places is equal text.
    pub(super) fn unique(&self) -> String {
        format!("v{}", self.lines.len())
    }

    pub(super) fn operand(&mut self, access: &Access) -> Result<String> {
        match access.root {
            Some(root) => self.value(root, &access.view),
            None => self.index(access),
        }
    }

    /// Stores a value of the group at the hook's coordinates.
    pub fn store(&mut self, value: Value, name: &str) -> Result<()> {
        let tag = self.tag;
        let location = self.context.placement.locate(value)?;
        let dtype = self.context.graph.type_of(value).dtype;
        let fours = self.width == 4 && self.context.graph.type_of(value).shape.numel().is_multiple_of(4);
        if is_half(dtype) && !fours {
            return Err(Error::compile(
                format!("a tensor of {dtype}{}", self.context.graph.type_of(value).shape),
                "halves are stored four at a time, and it has no multiple of four elements; keep it in f32".into(),
            ));
        }
        if let Some((whole, view)) = self.context.grouping.part(self.context.graph, value) {
            return self.store_part(whole, &view, location, name);
        }
        let name = self.exact.get(&value).cloned().unwrap_or_else(|| name.to_string());
        if self.context.placement.is_shared(location.buffer) {
            return self.store_cell(location, dtype, &name);
        }
        let walk = self.context.views.walk(value);
        let binding = self.bind(location, dtype, false, true, walk.in_fours());
        let index = match self.grid {
            Grid::Linear => "e".to_string(),
            Grid::Store => {
                let rows = self.param("rows", self.shape[1]);
                let cols = self.param("cols", self.shape[2]);
                format!("((batch * {rows} + row) * {cols} + col)")
            }
            Grid::Reduce { .. } => {
                return Err(Error::compile("a prologue".into(), "cannot store".into()));
            }
        };
        let start = if walk.moves() {
            format!(" + {}", self.walked_param(&format!("s{binding}_offset"), 0, walk))
        } else {
            String::new()
        };
        self.lines.push(format!("st_{tag}{binding}({index}{start}, {name});"));
        Ok(())
    }

    /// Stores a scalar among others, as the word that it is.
    fn store_cell(&mut self, location: Location, dtype: DType, name: &str) -> Result<()> {
        if self.width != 1 || self.shape.numel() != 1 {
            let message = "would store a scalar more than once (please report this)".into();
            return Err(Error::compile("a fused kernel".into(), message));
        }
        let word = match dtype {
            DType::F32 | DType::I32 => format!("bitcast<u32>({name})"),
            DType::Bool => format!("select(0u, 1u, {name})"),
            DType::U32 | DType::U8 | DType::F16 | DType::BF16 => name.to_string(),
        };
        let binding = self.bind(location, dtype, false, true, false);
        let index = self.index_of(vec![0; self.shape.rank()], (location.offset / 4) as usize, Walk::default());
        self.lines.push(format!("st_{}{binding}({index}, {word});", self.tag));
        Ok(())
    }

    /// Stores a value in its place within a concatenation, of which it is the view `view`.
    fn store_part(&mut self, whole: Value, view: &View, location: Location, name: &str) -> Result<()> {
        let tag = self.tag;
        self.linear = false;
        let walk = self.context.views.walk(whole);
        let (strides, offset) = self.strides(view)?;
        let fours = strides.iter().all(|stride| stride.is_multiple_of(4) || *stride == 1);
        let wide = walk.in_fours() && offset.is_multiple_of(4) && fours;
        let binding = self.bind(location, self.context.graph.type_of(whole).dtype, false, true, wide);
        let index = self.index_of(strides, offset, walk);
        self.lines.push(format!("st_{tag}{binding}({index}, {name});"));
        Ok(())
    }

    pub(super) fn param(&mut self, name: &str, value: usize) -> String {
        let name = format!("{}_{name}", self.tag);
        if !self.params.iter().any(|(known, _)| *known == name) {
            self.params.push((name.clone(), Param::U32(value as u32)));
        }
        format!("params.{name}")
    }

    /// An offset that moves from step to step of a loop.
    pub(super) fn walked_param(&mut self, name: &str, offset: usize, walk: Walk) -> String {
        if walk.step != 0 {
            self.steps.push((format!("{}_{name}", self.tag), walk.step));
        }
        self.param(name, offset + walk.start)
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
        let Emitter { params, bindings, parts, steps, linear, .. } = self;
        Fused { text, params, bindings, parts, steps, linear }
    }
}
