//! A compiled step as bytes: kept, or shipped beside an app, it spares tracing and compiling.
//!
//! Knows programs and where their state lies. What a plan says beyond that, for people, is not kept.

use super::budget::Fitted;
use super::plan::Plan;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::program::{Codec, Program, StateLayout};

const FORMAT: &str = "compiled step";
/// Bytes of the checksum at the end.
const CHECKSUM: usize = 8;

/// What a [`super::Trainer`] needs besides its description: programs for one kind of device. Kernels that were read are run with wgpu's
/// checks of indices and loops, natively too, and may be slower there than those that were compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    pub(super) layout: StateLayout,
    /// Micro-step, update, evaluation.
    pub(super) programs: Vec<Program>,
    /// See [`Plan::alive`].
    pub(super) alive: Vec<[u64; 2]>,
    pub(super) fitted: Option<Fitted>,
    /// A number for the way to train, which the programs alone do not tell.
    pub(super) kind: u64,
}

impl From<Plan> for Compiled {
    fn from(plan: Plan) -> Compiled {
        let alive = plan.alive();
        Compiled { layout: plan.layout, programs: plan.programs, alive, fitted: plan.fitted, kind: plan.kind }
    }
}

impl Compiled {
    /// The version of the library that wrote it and can read it; stands in front.
    pub const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// For [`Compiled::from_bytes`] of the same version of the library.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut codec = Codec::writing();
        self.clone().walk(&mut codec);
        let mut bytes = codec.into_bytes();
        bytes.extend(checksum(&bytes).to_le_bytes());
        bytes
    }

    /// Errors: the bytes are torn, or another version wrote them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Compiled> {
        let refused = |why: &str| Error::format("the compiled step".into(), FORMAT, format!("{why}; compile it again"));
        let (body, sum) = bytes.split_at(bytes.len().saturating_sub(CHECKSUM));
        if sum != checksum(body).to_le_bytes() {
            return Err(refused("its bytes are not those that were written"));
        }
        let nothing = Fitted { budget: 0, before: 0, saved: DType::F32, extra: 0.0 };
        let (layout, programs, alive, fitted) = (StateLayout::default(), Vec::new(), Vec::new(), Some(nothing));
        let (mut compiled, mut codec) = (Compiled { layout, programs, alive, fitted, kind: 0 }, Codec::reading(body));
        if !compiled.walk(&mut codec) {
            return Err(refused("another version of wgrad wrote it"));
        }
        if codec.whole() { Ok(compiled) } else { Err(refused("it makes no sense")) }
    }

    /// Writes or reads everything; gives whether the version is this one.
    fn walk(&mut self, codec: &mut Codec) -> bool {
        let mut version = Compiled::VERSION.to_string();
        codec.text(&mut version);
        if version != Compiled::VERSION {
            return false;
        }
        codec.number(&mut self.kind);
        self.layout.walk(codec);
        codec.list(&mut self.programs, Program::empty(), |codec, program| program.walk(codec));
        codec.list(&mut self.alive, [0; 2], |codec, bytes| bytes.iter_mut().for_each(|bytes| codec.number(bytes)));
        let mut fits = self.fitted.is_some();
        codec.flag(&mut fits);
        if !fits {
            self.fitted = None;
        }
        if let Some(fitted) = &mut self.fitted {
            codec.number(&mut fitted.budget);
            codec.number(&mut fitted.before);
            codec.dtype(&mut fitted.saved);
            codec.real(&mut fitted.extra);
        }
        true
    }
}

/// FNV-1a, of 64 bits: finds what a disk or a download has changed.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::kernels::Profile;
    use crate::train::workloads::{Workload, setup};

    fn compiled(name: &str) -> Compiled {
        let setup = setup(Workload::parse(name).unwrap(), 0).unwrap();
        let mut compiled: Compiled = setup.trainer.plan(&Profile::baseline(), setup.loss).unwrap().into();
        // What is not kept.
        for program in &mut compiled.programs {
            program.expired.clear();
            program.kernels.iter_mut().for_each(|kernel| kernel.foreign = true);
        }
        compiled
    }

    #[test]
    fn steps_survive_being_bytes() {
        for name in ["W2", "W3", "W4"] {
            let mut before = compiled(name);
            assert_eq!(Compiled::from_bytes(&before.to_bytes()).unwrap(), before);
            before.fitted = Some(Fitted { budget: 1 << 40, before: 3, saved: DType::BF16, extra: 0.25 });
            assert_eq!(Compiled::from_bytes(&before.to_bytes()).unwrap(), before);
        }
    }

    #[test]
    fn loops_host_steps_and_pieces_survive_it() {
        let graph = Graph::new();
        let mut one = compiled("W2");
        let program = crate::lower::lower("loop", &graph, &one.layout, &Profile::baseline()).unwrap();
        let body: Vec<_> = one.programs[0].each_dispatch().take(2).cloned().collect();
        let steps = vec![crate::program::ParamStep { dispatch: 1, word: 0, step: 4 }];
        one.programs.push(program);
        one.programs.iter_mut().flat_map(|program| &mut program.kernels).for_each(|kernel| kernel.foreign = true);
        one.programs[0].segments.extend([
            crate::program::Segment::Repeat { count: 7, body, steps },
            crate::program::Segment::Host("a call".into()),
        ]);
        let entry = one.layout.entries.values_mut().next().unwrap();
        let piece = entry.pieces[0];
        entry.pieces.push(piece);
        assert_eq!(Compiled::from_bytes(&one.to_bytes()).unwrap(), one);
    }

    #[test]
    fn what_is_no_compiled_step_is_refused() {
        let bytes = compiled("W2").to_bytes();
        let refused = |bytes: &[u8]| Compiled::from_bytes(bytes).map(|_| ()).unwrap_err().to_string();
        assert!(refused(&[]).contains("compile it again"), "{}", refused(&[]));
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut torn = bytes.clone();
            torn[at] ^= 1;
            assert!(refused(&torn).contains("not those that were written"), "{}", refused(&torn));
            assert!(refused(&bytes[..at]).contains("not those that were written"));
        }
        let signed = |body: &[u8]| [body, &checksum(body).to_le_bytes()].concat();
        let (body, version) = (&bytes[..bytes.len() - CHECKSUM], Compiled::VERSION.len());
        let mut other = body.to_vec();
        other[version] ^= 1;
        assert!(refused(&signed(&other)).contains("another version"));
        // Whoever signs nonsense gets an error or another program, which a session is made of only if it can run.
        for at in (0..body.len()).step_by(97) {
            let mut nonsense = body.to_vec();
            nonsense[at] = nonsense[at].wrapping_add(131);
            let _ = Compiled::from_bytes(&signed(&nonsense));
            let _ = Compiled::from_bytes(&signed(&body[..at]));
        }
    }
}
