//! The kernels for any adapter, in unrolled registers.
//!
//! Emitted, because the head's vector lives in them (see [`Template`]). One invocation owns a row (on a software adapter a
//! few) and meets the other side's rows at addresses that are the same for the whole workgroup, so that a load is a broadcast, on
//! a GPU as on a software adapter but SwiftShader; nothing is shared, and no barrier is needed.

use super::{Emitted, Pass, SIGHT};
use crate::kernels::profile::SWIFTSHADER;
use crate::kernels::{AdapterClass, Profile};

/// The text of a pass, in which a workgroup owns so many of the `rows` of a head.
pub fn emit(profile: &Profile, pass: Pass, size: usize, rows: usize) -> Emitted {
    let workgroup = match profile.class {
        AdapterClass::Cpu => profile.subgroup.unwrap_or(8),
        AdapterClass::Discrete | AdapterClass::Integrated | AdapterClass::Apple => 64,
    };
    let lane_rows = rows_per_lane(profile, size).min(rows.div_ceil(workgroup as usize)).max(1) as u32;
    let (name, template) = match pass {
        Pass::Forward => ("attention_forward", &FORWARD),
        Pass::GradQ => ("attention_grad_q", &GRAD_Q),
        Pass::GradKv => ("attention_grad_kv", &GRAD_KV),
    };
    let body = text(template, size / 4, lane_rows as usize, profile.dealing_lanes());
    let constants = vec![("ROWS", lane_rows)];
    Emitted { name: name.into(), body, workgroup, rows: workgroup * lane_rows, constants }
}

/// Rows that an invocation owns. A software adapter pays for each load, so several rows share one, as far
/// as its compiler stays quick; a GPU has few enough invocations here as it is.
fn rows_per_lane(profile: &Profile, size: usize) -> usize {
    match profile.class {
        AdapterClass::Cpu => (128 / size).clamp(1, 4),
        AdapterClass::Discrete | AdapterClass::Integrated | AdapterClass::Apple => 1,
    }
}

/// The body of a kernel for `vectors` vec4s of a head and `rows` rows per invocation; `lanes`: see [`deal`].
fn text(template: &Template, vectors: usize, rows: usize, lanes: Option<u32>) -> String {
    let tail: String = (0..rows).map(|row| template.tail.replace('$', &row.to_string())).collect();
    let sweep = lanes.map_or_else(|| template.sweep.to_string(), |lanes| deal(template.sweep, vectors, lanes as usize));
    let head = repeat_lines(&format!("{SIGHT}{ENTRY}{}{sweep}", template.heads), '$', rows);
    repeat_lines(&format!("{head}{tail}}}\n"), '#', vectors)
}

/// A line of a sweep that is of no row of the invocation's own reads the same in every lane. Where each lane pays for that, the lanes
/// of a subgroup, which is the workgroup, read a vec4 each and hand it to the others.
fn deal(sweep: &str, vectors: usize, lanes: usize) -> String {
    // For a quad there is an instruction that SwiftShader is quicker with.
    let broadcast = if lanes == SWIFTSHADER as usize { "quadBroadcast" } else { "subgroupBroadcast" };
    let mut out = String::with_capacity(sweep.len() * 2);
    for line in sweep.lines() {
        let Some((name, read)) = line.split_once("# = ").filter(|_| !line.contains('$')) else {
            out.push_str(&format!("{line}\n"));
            continue;
        };
        for load in 0..vectors.div_ceil(lanes) {
            let own = format!("min(lane + {}u, {}u)", lanes * load, vectors - 1);
            out.push_str(&format!("{name}_own{load} = {}\n", read.replace("#u", &own)));
        }
        let own = name.trim_start().trim_start_matches("let ");
        for vector in 0..vectors {
            out.push_str(&format!("{name}{vector} = {broadcast}({own}_own{}, {}u);\n", vector / lanes, vector % lanes));
        }
    }
    out
}

/// Repeats each line that contains the mark, which becomes 0, 1, ... up to `copies` (exclusive).
fn repeat_lines(template: &str, mark: char, copies: usize) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    for line in template.lines() {
        let copies = if line.contains(mark) { copies } else { 1 };
        for index in 0..copies {
            out.push_str(&line.replace(mark, &index.to_string()));
            out.push('\n');
        }
    }
    out
}

/// A kernel's text: in a line, `#` is one of the vec4s of a head and `$` one of the invocation's rows. A line of the sweep with the first
/// alone is a load.
struct Template {
    /// Where the vectors of the workgroup's head start.
    heads: &'static str,
    /// From the invocation's own rows to the end of the loop over the other side.
    sweep: &'static str,
    /// Writes the results of row `$`.
    tail: &'static str,
}

const ENTRY: &str = "\
// Rows of a workgroup: lane l owns rows l, l + WG, ... of them.
const TILE: u32 = WG * ROWS;

fn sum4(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = workgroup_index(wid, nwg);
    if (group >= params.groups) {
        return;
    }
    let first = group % params.tiles * TILE;
    let stack = group / params.tiles;
    let batch = stack / params.heads;
    let head = stack % params.heads;
";

/// Where the heads of a query's kernels lie.
const QUERY_HEADS: &str = "\
    let key_head = head / params.share;
    let q_at = params.q_offset + batch * params.q_batch + head * params.q_head;
    let k_at = params.k_offset + batch * params.k_batch + key_head * params.k_head;
    let v_at = params.v_offset + batch * params.v_batch + key_head * params.v_head;
";

/// Where the head of the keys' kernel lies.
const KEY_HEADS: &str = "\
    let k_at = params.k_offset + batch * params.k_batch + head * params.k_head;
    let v_at = params.v_offset + batch * params.v_batch + head * params.v_head;
";

/// Online softmax over four keys at a time: one maximum and one rescaling for the four. The loops over the
/// four are left to the compiler, whose work on a software adapter they keep short.
const FORWARD: Template = Template {
    heads: QUERY_HEADS,
    sweep: "\
    let t$ = min(first + lane + $u * WG, params.time - 1u);
    let from$ = first_key(t$);
    let seen$ = keys_seen(t$);
    let q_row$ = q_at + t$ * params.q_time;
    let q$_# = q[q_row$ + #u] * params.scale;
    var o$_# = vec4<f32>(0.0);
    var top$ = LOWEST;
    var total$ = 0.0;
    let four = vec4<u32>(0u, 1u, 2u, 3u);
    let last = params.source - 1u;
    let end = keys_seen(min(first + TILE, params.time) - 1u);
    for (var s = first_key(first); s < end; s += 4u) {
        var score$ = vec4<f32>(LOWEST);
        for (var j = 0u; j < 4u; j++) {
            let k_row = k_at + min(s + j, last) * params.k_time;
            let k# = k[k_row + #u];
            var sum$ = vec4<f32>(0.0);
            sum$ += q$_# * k#;
            score$ = select(score$, vec4<f32>(sum4(sum$)), vec4<u32>(j) == four);
        }
        // Keys out of sight, or beyond the last one.
        let at$ = vec4<u32>(s) + four;
        score$ = select(vec4<f32>(LOWEST), score$, (at$ >= vec4<u32>(from$)) & (at$ < vec4<u32>(seen$)));
        let new_top$ = max(top$, max(max(score$.x, score$.y), max(score$.z, score$.w)));
        let fade$ = exp(top$ - new_top$);
        let p$ = exp(score$ - new_top$);
        top$ = new_top$;
        total$ = total$ * fade$ + sum4(p$);
        o$_# *= fade$;
        for (var j = 0u; j < 4u; j++) {
            let v_row = v_at + min(s + j, last) * params.v_time;
            let v# = v[v_row + #u];
            let weight$ = p$[j];
            o$_# += weight$ * v#;
        }
    }
",
    tail: "\
    if (first + lane + $u * WG < params.time) {
        let o_row = params.o_offset + batch * params.o_batch + t$ * params.o_time + head * params.o_head;
        let scale = select(0.0, 1.0 / total$, seen$ > from$);
        o[o_row + #u] = o$_# * scale;
        lse[stack * params.time + t$] = select(0.0, top$ + log(total$), seen$ > from$);
    }
",
};

/// With p = exp(score - lse), dp = dot(dout, v), ds = p * (dp - delta): dq = scale * sum over keys of ds * k.
const GRAD_Q: Template = Template {
    heads: QUERY_HEADS,
    sweep: "\
    let o_at = params.o_offset + batch * params.o_batch + head * params.o_head;
    let dout_at = params.dout_offset + batch * params.dout_batch + head * params.dout_head;
    let t$ = min(first + lane + $u * WG, params.time - 1u);
    let from$ = first_key(t$);
    let seen$ = keys_seen(t$);
    let q_row$ = q_at + t$ * params.q_time;
    let o_row$ = o_at + t$ * params.o_time;
    let dout_row$ = dout_at + t$ * params.dout_time;
    let q$_# = q[q_row$ + #u] * params.scale;
    let dout$_# = dout[dout_row$ + #u];
    var delta4_$ = vec4<f32>(0.0);
    delta4_$ += dout$_# * o[o_row$ + #u];
    let delta$ = sum4(delta4_$);
    let lse$ = lse[stack * params.time + t$];
    var dq$_# = vec4<f32>(0.0);
    let end = keys_seen(min(first + TILE, params.time) - 1u);
    for (var s = first_key(first); s < end; s++) {
        let k_row = k_at + s * params.k_time;
        let v_row = v_at + s * params.v_time;
        let k# = k[k_row + #u];
        let v# = v[v_row + #u];
        var score$ = vec4<f32>(0.0);
        score$ += q$_# * k#;
        var dp$ = vec4<f32>(0.0);
        dp$ += dout$_# * v#;
        let p$ = select(0.0, exp(sum4(score$) - lse$), s >= from$ && s < seen$);
        let ds$ = p$ * (sum4(dp$) - delta$);
        dq$_# += ds$ * k#;
    }
",
    tail: "\
    if (first + lane + $u * WG < params.time) {
        let dq_row = params.dq_offset + batch * params.dq_batch + t$ * params.dq_time + head * params.dq_head;
        dq[dq_row + #u] = dq$_# * params.scale;
        delta[stack * params.time + t$] = delta$;
    }
",
};

/// dv = sum over queries of p * dout; dk = scale * sum over queries of ds * q, with p and ds as in [`GRAD_Q`].
const GRAD_KV: Template = Template {
    heads: KEY_HEADS,
    sweep: "\
    let s$ = min(first + lane + $u * WG, params.source - 1u);
    let start$ = first_query(s$);
    let stop$ = last_query(s$);
    let k_row$ = k_at + s$ * params.k_time;
    let v_row$ = v_at + s$ * params.v_time;
    let k$_# = k[k_row$ + #u] * params.scale;
    let v$_# = v[v_row$ + #u];
    var dk$_# = vec4<f32>(0.0);
    var dv$_# = vec4<f32>(0.0);
    let end = last_query(min(first + TILE, params.source) - 1u);
    // The heads of the queries that this head serves.
    for (var query_head = head * params.share; query_head < (head + 1u) * params.share; query_head++) {
        let q_at = params.q_offset + batch * params.q_batch + query_head * params.q_head;
        let dout_at = params.dout_offset + batch * params.dout_batch + query_head * params.dout_head;
        let line = (batch * params.heads * params.share + query_head) * params.time;
        for (var t = first_query(first); t < end; t++) {
            let q_row = q_at + t * params.q_time;
            let dout_row = dout_at + t * params.dout_time;
            let q# = q[q_row + #u];
            let dout# = dout[dout_row + #u];
            let query_lse = lse[line + t];
            let query_delta = delta[line + t];
            var score$ = vec4<f32>(0.0);
            score$ += k$_# * q#;
            var dp$ = vec4<f32>(0.0);
            dp$ += v$_# * dout#;
            let p$ = select(0.0, exp(sum4(score$) - query_lse), t >= start$ && t < stop$);
            let ds$ = p$ * (sum4(dp$) - query_delta);
            dk$_# += ds$ * q#;
            dv$_# += p$ * dout#;
        }
    }
",
    tail: "\
    if (first + lane + $u * WG < params.source) {
        let dk_row = params.dk_offset + batch * params.dk_batch + s$ * params.dk_time + head * params.dk_head;
        let dv_row = params.dv_offset + batch * params.dv_batch + s$ * params.dv_time + head * params.dv_head;
        dk[dk_row + #u] = dk$_# * params.scale;
        dv[dv_row + #u] = dv$_#;
    }
",
};
