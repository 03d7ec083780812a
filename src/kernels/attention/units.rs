//! The kernels for a GPU's matrix units, of queries, keys and values that are stored as f16.
//!
//! Each subgroup owns 16 rows of a head and meets 32 rows of the other side at a time, which the workgroup stages together.
//! What units multiply is f16, scores and sums are f32; weights, and the gradients of scores, are rounded to f16 before they
//! are multiplied, as fused attention does it everywhere. Nothing of a matrix can be seen but through memory: scores go
//! through workgroup memory to the lanes, `lanes / 16` of them for a row, and weights back. The forward pass keeps its result
//! in the lanes, which fade it when a larger score appears; gradients need no fading and stay in matrices.
//!
//! As for products (`matmul/cooperative.rs`), all that invocations hand each other is behind barriers of the workgroup, so
//! that nothing depends on which invocations make up a subgroup, and no rule chooses these kernels.

mod writer;

use super::{Emitted, Pass, SIGHT};
use crate::kernels::Profile;
use crate::kernels::profile::{Cooperative, UNITS};
use crate::kernels::text::Text;
use writer::Writer;

/// Rows of a head that a subgroup owns.
const OWN: u32 = 16;
/// Rows of the other side that are met at a time.
const MET: u32 = 32;

/// The matrices of a workgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    units: Cooperative,
    pub subgroups: u32,
    /// Elements of a head.
    head: u32,
}

/// What a device's units and memory admit for a pass, of at most so many subgroups.
pub fn block(profile: &Profile, head: usize, pass: Pass, most: u32) -> Option<Block> {
    let units = profile.cooperative.filter(|_| UNITS)?;
    let lanes = [16, 32, 64].contains(&units.lanes) && [8, 16].contains(&units.size);
    if !lanes || !head.is_multiple_of(16) || head == 0 {
        return None;
    }
    let fits = |block: &Block| {
        let bytes: u32 = block.tiles(pass).iter().map(Tile::bytes).sum();
        bytes + block.beside(pass) <= profile.max_workgroup_bytes && block.workgroup() <= profile.max_invocations
    };
    let halved = std::iter::successors(Some(most), |subgroups| (*subgroups > 1).then_some(subgroups / 2));
    halved.map(|subgroups| Block { units, subgroups, head: head as u32 }).find(fits)
}

/// A matrix in workgroup memory: f16 that units multiply, or f32 that they give.
#[derive(Clone, Copy)]
struct Tile {
    name: &'static str,
    rows: u32,
    cols: u32,
    half: bool,
}

impl Tile {
    /// Elements from one row to the next: rows begin at multiples of 16 bytes, and neighbours in different banks.
    fn pitch(&self) -> u32 {
        self.cols + if self.half { 8 } else { 4 }
    }

    fn bytes(&self) -> u32 {
        self.rows * self.pitch() * if self.half { 2 } else { 4 }
    }
}

impl Block {
    /// Rows that a workgroup owns.
    fn rows(&self) -> u32 {
        OWN * self.subgroups
    }

    fn workgroup(&self) -> u32 {
        self.subgroups * self.units.lanes
    }

    /// Invocations of a row.
    fn sharers(&self) -> u32 {
        self.units.lanes / OWN
    }

    /// Elements in one entry of workgroup memory. Metal's matrices are loaded through pointers to single numbers.
    fn unit(&self) -> u32 {
        if self.units.size == 16 { 4 } else { 1 }
    }

    /// A staged part of one side: rows that are owned, or those that are met.
    fn side(&self, name: &'static str, rows: u32) -> Tile {
        Tile { name, rows, cols: self.head, half: true }
    }

    fn weights(&self, name: &'static str) -> Tile {
        Tile { name, rows: self.rows(), cols: MET, half: true }
    }

    fn sums(&self) -> Tile {
        Tile { name: "sums", rows: self.rows(), cols: MET, half: false }
    }

    fn tiles(&self, pass: Pass) -> Vec<Tile> {
        let own = |name| self.side(name, self.rows());
        let met = |name| self.side(name, MET);
        let mut tiles = match pass {
            Pass::Forward => vec![own("q"), met("met")],
            Pass::GradQ => vec![own("q"), own("dout"), met("met")],
            Pass::GradKv => vec![own("k"), own("v"), met("q"), met("dout"), self.weights("slopes")],
        };
        tiles.extend([self.weights("weights"), self.sums()]);
        tiles
    }

    /// Bytes of workgroup memory beside the tiles: a number of each invocation, or two of each row that is met.
    fn beside(&self, pass: Pass) -> u32 {
        match pass {
            Pass::Forward | Pass::GradQ => 4 * self.workgroup(),
            Pass::GradKv => 8 * MET,
        }
    }
}

/// The text of a pass.
pub fn emit(pass: Pass, block: Block) -> Emitted {
    let mut writer = Writer { text: Text::new(), block, tiles: block.tiles(pass) };
    writer.begin(pass);
    match pass {
        Pass::Forward => writer.forward(),
        Pass::GradQ => writer.grad_q(),
        Pass::GradKv => writer.grad_kv(),
    }
    writer.text.close();
    let name = match pass {
        Pass::Forward => "attention_forward_cooperative",
        Pass::GradQ => "attention_grad_q_cooperative",
        Pass::GradKv => "attention_grad_kv_cooperative",
    };
    Emitted {
        name: format!("{name}{}_{}", block.units.size, block.rows()),
        body: format!("{SIGHT}{}", writer.text.finish()),
        workgroup: block.workgroup(),
        rows: block.rows(),
        constants: Vec::new(),
    }
}

impl Writer {
    /// Everything before a pass's own: memory, and where the invocation stands.
    fn begin(&mut self, pass: Pass) {
        let Block { units, subgroups, .. } = self.block;
        for tile in self.tiles.clone() {
            self.declare(&tile);
        }
        match pass {
            Pass::Forward | Pass::GradQ => self.line("var<workgroup> told: array<f32, WG>;"),
            Pass::GradKv => self.text.lines(&format!(
                "var<workgroup> met_lse: array<f32, {MET}>;\nvar<workgroup> met_delta: array<f32, {MET}>;"
            )),
        }
        self.line("");
        self.line("@compute @workgroup_size(WG)");
        self.text.open("fn main(\n    @builtin(workgroup_id) wid: vec3<u32>,\n    @builtin(num_workgroups) nwg: vec3<u32>,\n    @builtin(local_invocation_index) lane: u32,\n    @builtin(subgroup_id) subgroup_index: u32,\n)");
        self.text.lines(PLACE);
        self.line(format!("let first = group % params.tiles * {}u;", self.block.rows()));
        self.line(match pass {
            Pass::Forward | Pass::GradQ => format!("let last = min(first + {}u, params.time) - 1u;", self.block.rows()),
            Pass::GradKv => format!("let last = min(first + {}u, params.source) - 1u;", self.block.rows()),
        });
        // Subgroups that are smaller than the largest are more than there is work for: they repeat the last one's.
        self.line(format!("let own = min(subgroup_index, {}u) * {OWN}u;", subgroups - 1));
        self.line(format!("let row = lane / {}u;", units.lanes / OWN));
        self.line(format!("let part = lane % {}u;", units.lanes / OWN));
        self.line("let four = vec4<u32>(0u, 1u, 2u, 3u);");
        self.text.lines(match pass {
            Pass::Forward | Pass::GradQ => QUERIES,
            Pass::GradKv => KEYS,
        });
    }

    fn forward(&mut self) {
        let shares = self.shares(MET);
        self.stage("q", "q", "first", "params.time");
        self.zero();
        for (part, [_, cols]) in self.parts().into_iter().enumerate() {
            (0..self.shares(cols)).for_each(|j| self.line(format!("var o{part}_{j} = vec4<f32>(0.0);")));
        }
        self.text.lines("var top = LOWEST;\nvar total = 0.0;");
        self.text.open(format!("for (var s = begin; s < end; s += {MET}u)"));
        self.stage("met", "k", "s", "params.source");
        self.barrier();
        self.scores("q", "met");
        self.in_sight("seen", "s", ["start", "stop"]);
        self.line("var peak = LOWEST;");
        for j in 0..shares {
            let at = self.share(j);
            self.line(format!("let x{j} = select(vec4<f32>(LOWEST), sums(row, {at}) * params.scale, seen{j});"));
            self.line(format!("peak = max(peak, max(max(x{j}.x, x{j}.y), max(x{j}.z, x{j}.w)));"));
        }
        self.stage("met", "v", "s", "params.source");
        self.tell("highest", "peak", |a, b| format!("max({a}, {b})"));
        self.text
            .lines("let new_top = max(top, highest);\nlet fade = exp(top - new_top);\ntop = new_top;\ntotal *= fade;");
        for j in 0..shares {
            let at = self.share(j);
            self.line(format!("let p{j} = exp(x{j} - top);"));
            self.line(format!("total += (p{j}.x + p{j}.y) + (p{j}.z + p{j}.w);"));
            self.line(format!("put_weights(row, {at}, vec4<f16>(p{j}));"));
        }
        self.barrier();
        for (part, [col, cols]) in self.parts().into_iter().enumerate() {
            self.text.scope();
            self.zeros("s", cols);
            self.multiply("s", "weights", "met", false, [col, cols]);
            self.store("s", [0, cols]);
            self.text.close();
            self.barrier();
            for j in 0..self.shares(cols) {
                let at = self.share(j);
                self.line(format!("o{part}_{j} = o{part}_{j} * fade + sums(row, {at});"));
            }
            self.barrier();
        }
        self.text.close();
        self.tell("all", "total", |a, b| format!("{a} + {b}"));
        self.text.open("if (first + row < params.time)");
        self.text.lines(
            "let o_row = params.o_offset + batch * params.o_batch + t * params.o_time + head * params.o_head;\n\
             let share = select(0.0, 1.0 / all, stop > start);",
        );
        for (part, [col, cols]) in self.parts().into_iter().enumerate() {
            for j in 0..self.shares(cols) {
                let at = self.share(j);
                self.line(format!("o[o_row + {}u + {at}] = o{part}_{j} * share;", col / 4));
            }
        }
        self.text.open("if (part == 0u)");
        self.line("lse[stack * params.time + t] = select(0.0, top + log(all), stop > start);");
        self.text.close();
        self.text.close();
    }

    /// With p = exp(score - lse), dp = dot(dout, v), ds = p * (dp - delta): dq = scale * sum over keys of ds * k.
    fn grad_q(&mut self) {
        self.text.lines(OF_QUERIES);
        self.stage("q", "q", "first", "params.time");
        self.stage("dout", "dout", "first", "params.time");
        self.line("var products = vec4<f32>(0.0);");
        for j in 0..self.shares(self.block.head) {
            let at = self.share(j);
            self.line(format!("products += vec4<f32>(dout[dout_row + {at}]) * o[o_row + {at}];"));
        }
        self.zero();
        self.tell("own_delta", "(products.x + products.y) + (products.z + products.w)", |a, b| format!("{a} + {b}"));
        self.zeros("dq", self.block.head);
        self.text.open(format!("for (var s = begin; s < end; s += {MET}u)"));
        self.stage("met", "v", "s", "params.source");
        self.barrier();
        self.scores("dout", "met");
        self.take("slope");
        self.stage("met", "k", "s", "params.source");
        self.barrier();
        self.scores("q", "met");
        self.in_sight("seen", "s", ["start", "stop"]);
        for j in 0..self.shares(MET) {
            let at = self.share(j);
            self.line(format!("let score{j} = sums(row, {at}) * params.scale;"));
            self.line(format!("let p{j} = select(vec4<f32>(0.0), exp(score{j} - own_lse), seen{j});"));
            self.line(format!("put_weights(row, {at}, vec4<f16>(p{j} * (slope{j} - own_delta)));"));
        }
        self.barrier();
        self.multiply("dq", "weights", "met", false, [0, self.block.head]);
        self.barrier();
        self.text.close();
        self.line(
            "let dq_row = params.dq_offset + batch * params.dq_batch + t * params.dq_time + head * params.dq_head;",
        );
        self.hand_back("dq", "dq", "first + row < params.time", " * params.scale");
        self.text.open("if (first + row < params.time && part == 0u)");
        self.line("delta[stack * params.time + t] = own_delta;");
        self.text.close();
    }

    /// dv = sum over queries of p * dout; dk = scale * sum over queries of ds * q, with p and ds as in `grad_q`.
    fn grad_kv(&mut self) {
        self.stage("k", "k", "first", "params.source");
        self.stage("v", "v", "first", "params.source");
        self.zero();
        ["dk", "dv"].into_iter().for_each(|sum| self.zeros(sum, self.block.head));
        self.line("// The heads of the queries that this head serves.");
        self.text
            .open("for (var query_head = head * params.share; query_head < (head + 1u) * params.share; query_head++)");
        self.text.lines(OF_QUERY_HEAD);
        self.text.open(format!("for (var t = begin; t < end; t += {MET}u)"));
        self.stage("q", "q", "t", "params.time");
        self.stage("dout", "dout", "t", "params.time");
        self.text.open(format!("for (var i = lane; i < {MET}u; i += WG)"));
        self.text
            .lines("let at = line + min(t + i, params.time - 1u);\nmet_lse[i] = lse[at];\nmet_delta[i] = delta[at];");
        self.text.close();
        self.barrier();
        self.scores("v", "dout");
        self.take("slope");
        self.barrier();
        self.scores("k", "q");
        self.in_sight("seen", "t", ["start", "stop"]);
        for j in 0..self.shares(MET) {
            let at = self.share(j);
            let met = |what: &str| {
                let one = |i: u32| format!("met_{what}[c{j} + {i}u]");
                format!("vec4<f32>({}, {}, {}, {})", one(0), one(1), one(2), one(3))
            };
            self.line(format!("let c{j} = ({at}) * 4u;"));
            self.line(format!("let score{j} = sums(row, {at}) * params.scale - {};", met("lse")));
            self.line(format!("let p{j} = select(vec4<f32>(0.0), exp(score{j}), seen{j});"));
            self.line(format!("put_weights(row, {at}, vec4<f16>(p{j}));"));
            self.line(format!("put_slopes(row, {at}, vec4<f16>(p{j} * (slope{j} - {})));", met("delta")));
        }
        self.barrier();
        self.multiply("dv", "weights", "dout", false, [0, self.block.head]);
        self.multiply("dk", "slopes", "q", false, [0, self.block.head]);
        self.barrier();
        self.text.close();
        self.text.close();
        for (sum, factor) in [("dk", " * params.scale"), ("dv", "")] {
            let place = ["batch * params.$_batch", "s * params.$_time", "head * params.$_head"].join(" + ");
            self.line(format!("let $_row = params.$_offset + {place};").replace('$', sum));
            self.hand_back(sum, sum, "first + row < params.source", factor);
        }
    }
}

const PLACE: &str = "\
let group = wid.x + wid.y * nwg.x;
if (group >= params.groups) {
    return;
}
let stack = group / params.tiles;
let batch = stack / params.heads;
let head = stack % params.heads;
";

/// The invocation's query, and the keys that the workgroup's queries see.
const QUERIES: &str = "\
let key_head = head / params.share;
let q_at = params.q_offset + batch * params.q_batch + head * params.q_head;
let k_at = params.k_offset + batch * params.k_batch + key_head * params.k_head;
let v_at = params.v_offset + batch * params.v_batch + key_head * params.v_head;
let t = min(first + row, params.time - 1u);
let start = first_key(t);
let stop = keys_seen(t);
let begin = first_key(first);
let end = keys_seen(last);
";

/// The invocation's key, and the queries that see the workgroup's keys.
const KEYS: &str = "\
let k_at = params.k_offset + batch * params.k_batch + head * params.k_head;
let v_at = params.v_offset + batch * params.v_batch + head * params.v_head;
let s = min(first + row, params.source - 1u);
let start = first_query(s);
let stop = last_query(s);
let begin = first_query(first);
let end = last_query(last);
";

/// What the gradient of queries reads beside.
const OF_QUERIES: &str = "\
let dout_at = params.dout_offset + batch * params.dout_batch + head * params.dout_head;
let dout_row = dout_at + t * params.dout_time;
let o_row = params.o_offset + batch * params.o_batch + t * params.o_time + head * params.o_head;
let own_lse = lse[stack * params.time + t];
";

/// Where a head of queries lies that is served.
const OF_QUERY_HEAD: &str = "\
let q_at = params.q_offset + batch * params.q_batch + query_head * params.q_head;
let dout_at = params.dout_offset + batch * params.dout_batch + query_head * params.dout_head;
let line = (batch * params.heads * params.share + query_head) * params.time;
";
