//! The matrix product: which variant for which shape and device, and the WGSL of each.
//!
//! Shapes, strides and offsets are parameters of the dispatch, so that the many products of a
//! training step share few texts. Baked into a text are only the variant, which axis of each
//! operand is contiguous, whether it is read as `vec4`, the width of the output, and whether `k`
//! is a multiple of the unrolled step. This module knows nothing of graphs or of what is fused
//! into `store`.

pub mod alone;
mod block;
mod cooperative;
mod cost;
mod direct;
mod name;
mod register;
mod subgroup;
mod tiled;
mod walk;

#[cfg(test)]
mod tests;

use super::profile::{SWIFTSHADER, UNITS};
use super::{AdapterClass, Element, KernelSpec, Param, Port, Profile, halves};
use crate::dtype::DType;
use block::{Layout, Side, Sum};
pub use walk::{Walk, Walks};

/// `c[batch, m, n] = a[batch, m, k] * b[batch, k, n]`, computed in f32 (`torch.matmul`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Matmul {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Sizes of the outer and the inner batch axis.
    pub batch: [usize; 2],
    pub a: Operand,
    pub b: Operand,
    /// `n` is a multiple of 4 and everything the epilogue reads can be accessed as `vec4` along `n`.
    pub out_wide: bool,
    /// Also give the sums of the columns of `b` over `k`: the gradient of a bias beside that of a weight.
    pub bias_gradient: bool,
    /// Also hand the sums of the rows of `a` over `k` to `store_row_sums(batch, row, value: vec4<f32>)`, four rows at a
    /// time, which the user of the kernel writes; `m` is a multiple of 4. Not for [`Variant::Direct`].
    pub row_sums: bool,
    /// Sum four steps of `k` among themselves first, for a quarter of the roundings of a long sum.
    pub pairs: bool,
    /// How `a` and `b` are walked where two strides do not say it; `row` and `col` are not read then.
    pub walks: [Option<Walks>; 2],
    /// How `a` and `b` are stored: f32, or f16 or bf16 two to a word.
    pub stored: [DType; 2],
}

impl Matmul {
    /// A stack of products of contiguous matrices of f32, of which `kind` says which are stored transposed: `nn`, `nt`, `tn` or `tt`.
    pub(crate) fn contiguous(kind: &str, [batch, m, n, k]: [usize; 4]) -> Matmul {
        let operand = |transposed: bool, rows: usize, cols: usize| Operand {
            offset: 0,
            row: if transposed { 1 } else { cols },
            col: if transposed { rows } else { 1 },
            batch: [0, if batch == 1 { 0 } else { rows * cols }],
        };
        Matmul {
            m,
            n,
            k,
            batch: [1, batch],
            a: operand(kind.starts_with('t'), m, k),
            b: operand(kind.ends_with('t'), k, n),
            out_wide: n.is_multiple_of(4),
            bias_gradient: false,
            row_sums: false,
            pairs: false,
            walks: [None, None],
            stored: [DType::F32; 2],
        }
    }
}

/// Where an operand lies, in elements. One of `row` and `col` is 1, except along axes of size 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operand {
    pub offset: usize,
    /// Stride of the row axis: `m` for `a`, `k` for `b`.
    pub row: usize,
    /// Stride of the other axis: `k` for `a`, `n` for `b`.
    pub col: usize,
    /// Strides of the two batch axes; 0 where the operand is broadcast.
    pub batch: [usize; 2],
}

/// The shape of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Variant {
    /// One output (or four) per invocation: for any shape, and the oracle of the others.
    Direct,
    /// A block of `rows` x `4 * quads` outputs in each invocation's registers, nothing shared.
    Register { rows: u32, quads: u32 },
    /// As `Register`, but the `lanes` of a subgroup, which is the workgroup, hand each other `a`.
    Subgroup { lanes: u32, rows: u32, quads: u32 },
    /// Tiles of `tile_m` x `tile_n` through workgroup memory, `rows` x `4 * quads` per invocation.
    Tiled { tile_m: u32, tile_n: u32, tile_k: u32, rows: u32, quads: u32 },
    /// Tiles of f16 through workgroup memory to matrix units: `rows` x `cols` matrices of `size` x `size` for each subgroup
    /// of at most `lanes`. Never chosen by rule.
    Cooperative { size: u32, lanes: u32, tile_m: u32, tile_n: u32, tile_k: u32, rows: u32, cols: u32 },
}

/// Big tiles for GPUs: 64 invocations of 8 x 8 outputs.
const TILED: Variant = Variant::Tiled { tile_m: 64, tile_n: 64, tile_k: 16, rows: 8, quads: 2 };
/// Small tiles, where big ones would leave most of a GPU idle: 64 invocations of 4 x 4 outputs.
const TILED_SMALL: Variant = Variant::Tiled { tile_m: 32, tile_n: 32, tile_k: 16, rows: 4, quads: 1 };
/// Rows, or columns, of a product that is flat, or narrow.
const FLAT: usize = 16;
/// For products of so few rows that most of another tile would be empty, and of so few columns.
const TILED_FLAT: Variant = Variant::Tiled { tile_m: 16, tile_n: 64, tile_k: 16, rows: 4, quads: 1 };
const TILED_NARROW: Variant = Variant::Tiled { tile_m: 64, tile_n: 16, tile_k: 16, rows: 4, quads: 1 };
const REGISTER: Variant = Variant::Register { rows: 8, quads: 2 };

/// The variant that was measured to be best, or else what rules say.
pub fn choose(profile: &Profile, mm: &Matmul) -> Variant {
    profile.choices.get(profile, mm).unwrap_or_else(|| by_rule(profile, mm))
}

/// The variant that is best without measuring: by a model of the costs where it was held against measurements, on software
/// adapters, and by the number of tiles on GPUs.
fn by_rule(profile: &Profile, mm: &Matmul) -> Variant {
    match profile.class {
        AdapterClass::Cpu => cost::cheapest(profile, mm),
        AdapterClass::Discrete | AdapterClass::Integrated | AdapterClass::Apple => choose_tiled(profile, mm),
    }
}

fn choose_tiled(profile: &Profile, mm: &Matmul) -> Variant {
    let enough = match profile.class {
        AdapterClass::Discrete => 96,
        AdapterClass::Integrated | AdapterClass::Apple | AdapterClass::Cpu => 24,
    };
    let tiles = mm.m.div_ceil(64) * mm.n.div_ceil(64) * mm.batch[0] * mm.batch[1];
    if !fits(profile, TILED_SMALL) || !fits(profile, TILED_FLAT) {
        REGISTER
    } else if mm.m <= FLAT {
        TILED_FLAT
    } else if mm.n <= FLAT {
        TILED_NARROW
    } else if tiles < enough || !fits(profile, TILED) {
        TILED_SMALL
    } else {
        TILED
    }
}

/// How many of the smallest tiles that rules choose on a GPU a product has.
pub fn small_tiles(mm: &Matmul) -> usize {
    let [rows, cols] = match (mm.m <= FLAT, mm.n <= FLAT) {
        (true, _) => [FLAT, 64],
        (false, true) => [64, FLAT],
        (false, false) => [32, 32],
    };
    mm.m.div_ceil(rows) * mm.n.div_ceil(cols) * mm.batch[0] * mm.batch[1]
}

/// Every variant worth measuring on a device, that of the rules first.
pub fn candidates(profile: &Profile, mm: &Matmul) -> Vec<Variant> {
    let mut all = vec![by_rule(profile, mm)];
    let mut others = vec![REGISTER, Variant::Register { rows: 8, quads: 1 }, Variant::Register { rows: 4, quads: 1 }];
    if let (AdapterClass::Cpu, Some(lanes @ (4 | 8 | 16))) = (profile.class, profile.subgroup) {
        for (rows, quads) in [(32, 1), (16, 1), (8, 1), (16, 2), (4, 1), (32, 2)] {
            others.push(Variant::Subgroup { lanes, rows, quads });
        }
        if lanes == SWIFTSHADER {
            others.push(Variant::Subgroup { lanes, rows: 8, quads: 2 });
        }
    } else if profile.class == AdapterClass::Cpu {
        for (rows, quads) in [(16, 1), (4, 2), (16, 2), (4, 4)] {
            others.push(Variant::Register { rows, quads });
        }
    }
    if profile.class != AdapterClass::Cpu {
        others.extend([TILED, TILED_SMALL, TILED_FLAT, TILED_NARROW]);
        others.push(Variant::Tiled { tile_m: 128, tile_n: 64, tile_k: 16, rows: 8, quads: 2 });
        others.push(Variant::Tiled { tile_m: 64, tile_n: 64, tile_k: 16, rows: 4, quads: 1 });
        others.push(Variant::Tiled { tile_m: 32, tile_n: 64, tile_k: 16, rows: 4, quads: 2 });
    }
    if !mm.row_sums {
        others.push(Variant::Direct);
    }
    let units = profile.cooperative.filter(|_| UNITS && profile.shader_f16 && !profile.choices.units().are_wrong());
    if let Some(units) = units.filter(|_| cooperative::takes(mm)) {
        others.extend(cooperative::variants(units));
    }
    for variant in others {
        if !all.contains(&variant) && fits(profile, variant) {
            all.push(variant);
        }
    }
    all
}

/// Whether a device's limits admit a variant.
fn fits(profile: &Profile, variant: Variant) -> bool {
    let memory = match variant {
        Variant::Tiled { tile_m, tile_n, tile_k, .. } => tiled::workgroup_bytes(tile_m, tile_n, tile_k),
        Variant::Direct | Variant::Register { .. } | Variant::Subgroup { .. } => 0,
        Variant::Cooperative { .. } => variant.matrices().map_or(0, |tile| tile.workgroup_bytes()),
    };
    memory <= profile.max_workgroup_bytes && variant.workgroup() <= profile.max_invocations
}

impl Variant {
    /// Invocations per workgroup, at most.
    pub fn workgroup(self) -> u32 {
        match self {
            Variant::Direct => direct::WORKGROUP,
            Variant::Register { .. } => register::WORKGROUP,
            Variant::Subgroup { lanes, .. } => lanes,
            Variant::Tiled { tile_m, tile_n, rows, quads, .. } => (tile_m / rows) * (tile_n / (4 * quads)),
            Variant::Cooperative { .. } => self.matrices().map_or(1, |tile| tile.workgroup()),
        }
    }

    /// Whether it needs matrix units.
    pub fn is_cooperative(&self) -> bool {
        self.matrices().is_some()
    }

    /// The matrices of a variant for matrix units.
    fn matrices(self) -> Option<cooperative::Tile> {
        match self {
            Variant::Cooperative { size, lanes, tile_m, tile_n, tile_k, rows, cols } if UNITS => {
                Some(cooperative::Tile { m: tile_m, n: tile_n, k: tile_k, size, lanes, rows, cols })
            }
            Variant::Direct | Variant::Register { .. } | Variant::Subgroup { .. } | Variant::Tiled { .. } => None,
            Variant::Cooperative { .. } => None,
        }
    }

    /// How the invocations of a workgroup lie along `m` and `n`, where a variant leaves it open.
    fn lanes(self, mm: &Matmul, profile: &Profile) -> [u32; 2] {
        match (self, profile.class) {
            (Variant::Register { rows, quads }, AdapterClass::Cpu) => register::lanes(mm, rows, quads),
            _ => register::LANES,
        }
    }

    /// Rows and columns of the output that one workgroup computes.
    fn tile(self, lanes: [u32; 2]) -> (u32, u32) {
        match self {
            Variant::Direct => (1, 1),
            Variant::Register { rows, quads } => (lanes[0] * rows, lanes[1] * 4 * quads),
            Variant::Subgroup { lanes, rows, quads } => (rows, lanes * 4 * quads),
            Variant::Tiled { tile_m, tile_n, .. } | Variant::Cooperative { tile_m, tile_n, .. } => (tile_m, tile_n),
        }
    }

    /// The step by which the loop over `k` advances.
    fn step(self) -> u32 {
        match self {
            Variant::Direct => 1,
            Variant::Register { .. } | Variant::Subgroup { .. } => 4,
            Variant::Tiled { tile_k, .. } | Variant::Cooperative { tile_k, .. } => tile_k,
        }
    }

    fn name(self) -> String {
        match self {
            Variant::Direct => "matmul_direct".to_string(),
            Variant::Register { rows, quads } => format!("matmul_register_{rows}x{}", 4 * quads),
            Variant::Subgroup { lanes, rows, quads } => format!("matmul_subgroup{lanes}_{rows}x{}", 4 * quads),
            Variant::Tiled { tile_m, tile_n, tile_k, .. } => format!("matmul_tiled_{tile_m}x{tile_n}x{tile_k}"),
            Variant::Cooperative { size, tile_m, tile_n, tile_k, rows, cols, .. } => {
                format!("matmul_cooperative{size}_{tile_m}x{tile_n}x{tile_k}_{}x{}", rows * size, cols * size)
            }
        }
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name().trim_start_matches("matmul_"))
    }
}

/// The kernel of a variant for one product.
pub fn emit(variant: Variant, mm: &Matmul, profile: &Profile) -> KernelSpec {
    let layout = layout(variant, mm, profile);
    let lanes = variant.lanes(mm, profile);
    let tile = variant.tile(lanes);
    let body = match variant {
        Variant::Direct => direct::body(&layout, &mm.walks),
        Variant::Register { rows, quads } => register::body(&layout, &mm.walks, [rows, quads], lanes),
        Variant::Subgroup { lanes, rows, quads } => subgroup::body(&layout, &mm.walks, lanes, rows, quads),
        Variant::Tiled { tile_m, tile_n, tile_k, rows, quads } => {
            tiled::body(&layout, &mm.walks, tiled::Tile { m: tile_m, n: tile_n, k: tile_k, rows, quads })
        }
        Variant::Cooperative { .. } => {
            variant.matrices().map_or_else(String::new, |tile| cooperative::body(&layout, &mm.walks, tile))
        }
    };
    let element = |vec4: bool| if vec4 { Element::F32x4 } else { Element::F32 };
    let walks = mm.walks.iter().zip(["a", "b"]).filter_map(|(walks, port)| Some(walks.as_ref()?.text(port)));
    let body = walks.collect::<String>() + &body;
    let mut outputs = Vec::new();
    if layout.sums {
        outputs.push(Port::new("column_sums", Element::Wide));
    }
    let (workgroup, beside) = match variant {
        Variant::Register { .. } if lanes != register::LANES => {
            (lanes[0] * lanes[1], format!("_{}x{}", lanes[0], lanes[1]))
        }
        _ => (variant.workgroup(), String::new()),
    };
    let mut spec = KernelSpec {
        name: format!("{}{}{}{beside}", variant.name(), layout.suffix(), stored_suffix(&mm.stored)),
        body: body.into(),
        parts: Vec::new(),
        inputs: vec![Port::new("a", element(layout.a.vec4)), Port::new("b", element(layout.b.vec4))],
        outputs,
        params: params(tile, mm),
        constants: Vec::new(),
        width: layout.width,
        workgroup,
        groups: groups(variant, tile, mm, layout.width),
        flops: 2 * mm.m as u64 * mm.n as u64 * mm.k as u64 * batches(mm),
    };
    for (port, &stored) in mm.stored.iter().enumerate() {
        match variant.is_cooperative() && stored == DType::F16 {
            true => halves::read_native(&mut spec, port),
            false => halves::read_packed(&mut spec, port, stored),
        }
    }
    spec
}

/// What tells names of operands in half precision apart: `_af16`.
fn stored_suffix(stored: &[DType; 2]) -> String {
    let halves = stored.iter().zip(["a", "b"]).filter(|(stored, _)| **stored != DType::F32);
    halves.map(|(stored, port)| format!("_{port}{stored}")).collect()
}

fn batches(mm: &Matmul) -> u64 {
    mm.batch[0] as u64 * mm.batch[1] as u64
}

fn groups(variant: Variant, (tile_m, tile_n): (u32, u32), mm: &Matmul, width: u32) -> u64 {
    match variant {
        Variant::Direct => {
            let outputs = mm.m as u64 * mm.n as u64 / u64::from(width) * batches(mm);
            outputs.div_ceil(u64::from(direct::WORKGROUP))
        }
        Variant::Register { .. } | Variant::Subgroup { .. } | Variant::Tiled { .. } | Variant::Cooperative { .. } => {
            (mm.m as u64).div_ceil(tile_m.into()) * (mm.n as u64).div_ceil(tile_n.into()) * batches(mm)
        }
    }
}

/// The values that vary between products of one text; strides and offsets in elements.
fn params((tile_m, tile_n): (u32, u32), mm: &Matmul) -> Vec<(&'static str, Param)> {
    let mut params = vec![
        ("m", mm.m),
        ("n", mm.n),
        ("k", mm.k),
        ("batch_outer", mm.batch[0]),
        ("batch_inner", mm.batch[1]),
        ("tiles_m", mm.m.div_ceil(tile_m as usize)),
        ("tiles_n", mm.n.div_ceil(tile_n as usize)),
        ("a_offset", mm.a.offset),
        ("a_row", mm.a.row),
        ("a_col", mm.a.col),
        ("a_batch_outer", mm.a.batch[0]),
        ("a_batch_inner", mm.a.batch[1]),
        ("b_offset", mm.b.offset),
        ("b_row", mm.b.row),
        ("b_col", mm.b.col),
        ("b_batch_outer", mm.b.batch[0]),
        ("b_batch_inner", mm.b.batch[1]),
    ];
    if mm.bias_gradient {
        params.push(("sums_offset", 0));
    }
    params.into_iter().map(|(name, value)| (name, Param::U32(value as u32))).collect()
}

/// What of a product is baked into its text.
fn layout(variant: Variant, mm: &Matmul, profile: &Profile) -> Layout {
    let walked = Side { along_k: false, vec4: false, walk: true };
    let a = mm.walks[0].as_ref().map_or_else(|| side(mm.m, mm.k, mm.a.row, mm.a.col, &mm.a), |_| walked);
    let b = mm.walks[1].as_ref().map_or_else(|| side(mm.n, mm.k, mm.b.col, mm.b.row, &mm.b), |_| walked);
    let width = if mm.out_wide { 4 } else { 1 };
    let k_exact = mm.k.is_multiple_of(variant.step() as usize);
    let hide_k = profile.class == AdapterClass::Cpu;
    let sum = match (variant, profile.class) {
        (Variant::Register { .. } | Variant::Subgroup { lanes: SWIFTSHADER, .. }, AdapterClass::Cpu) => Sum::Matrix,
        _ if mm.pairs => Sum::Pairs,
        _ => Sum::Steps,
    };
    let layout = Layout { a, b, k_exact, width, sums: mm.bias_gradient, row_sums: mm.row_sums, sum, hide_k };
    match variant {
        Variant::Direct => direct::layout(layout),
        Variant::Register { .. } | Variant::Subgroup { .. } | Variant::Tiled { .. } | Variant::Cooperative { .. } => {
            layout
        }
    }
}

/// Which axis of an operand is contiguous, preferring one that can be read as `vec4`. `x` is the
/// axis that is not `k`.
fn side(x: usize, k: usize, x_stride: usize, k_stride: usize, operand: &Operand) -> Side {
    let aligned = [operand.offset, operand.batch[0], operand.batch[1]].iter().all(|step| step.is_multiple_of(4));
    let vec4 = |extent: usize, others: usize, stride: usize| {
        aligned && extent.is_multiple_of(4) && (others == 1 || stride.is_multiple_of(4))
    };
    let along_k = (k_stride == 1 || k == 1).then(|| Side { along_k: true, vec4: vec4(k, x, x_stride), walk: false });
    let along_x = (x_stride == 1 || x == 1).then(|| Side { along_k: false, vec4: vec4(x, k, k_stride), walk: false });
    match (along_k, along_x) {
        (Some(side), _) if side.vec4 => side,
        (_, Some(side)) if side.vec4 => side,
        (Some(side), _) | (None, Some(side)) => side,
        // The lowering copies such an operand first; named here so that nothing panics.
        (None, None) => Side { along_k: false, vec4: false, walk: false },
    }
}
