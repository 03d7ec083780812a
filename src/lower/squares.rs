//! Sums of squares of many tensors: one launch for each run of them that lies side by side, and one that ends it.
//!
//! State lies in flat buffers, so that the gradients of a group are one run. Read before: `emit.rs`.

use super::anchors::Plan;
use super::emit::{GroupEmitter, Launch};
use super::place::Location;
use crate::error::Result;
use crate::graph::Op;
use crate::kernels::reduce::{self, Part};
use crate::kernels::{KernelSpec, Param};

/// Operands that lie side by side: where, and which of the operands lies there.
struct Run {
    all: Location,
    tensors: Vec<(usize, Location)>,
}

impl GroupEmitter<'_> {
    /// The launches of a group whose anchor is [`Op::SumSquares`].
    pub(super) fn squares(&self, plan: &Plan) -> Result<Vec<Launch>> {
        let node = self.context.graph.node(self.group().anchor.unwrap_or(0));
        let each = node.op == Op::SumSquares { each: true };
        let mut places = Vec::new();
        for (index, &input) in node.inputs.iter().enumerate() {
            let location = self.context.placement.locate(self.context.views.get(input).root)?;
            let elements = self.context.graph.type_of(input).shape.numel();
            if elements > 0 {
                places.push((Location { bytes: 4 * elements as u64, ..location }, index));
            }
        }
        crate::sort::sort(&mut places);
        let mut launches = Vec::new();
        let (mut base, mut parts) = (0, vec![[0, 0]; node.inputs.len()]);
        for run in runs(places) {
            let spec = if each { self.each(&run, base, &mut parts) } else { self.whole(&run, base) };
            let all = Location { bytes: run.all.bytes.next_multiple_of(16), ..run.all };
            base += spec.groups as usize;
            let ports = vec![(spec.inputs[0].clone(), all, false), (spec.outputs[0].clone(), self.workspaces[0], true)];
            launches.push(self.launch(spec, vec![], ports, false)?);
        }
        let mut last = plan.stages[plan.stages.len() - 1].clone();
        if each {
            last.spec = reduce::squares_join(self.profile, &parts);
        }
        for (name, value) in &mut last.spec.params {
            if *name == "length" || *name == "chunk" {
                *value = Param::U32(base as u32);
            }
        }
        launches.push(self.stage(&last)?);
        Ok(launches)
    }

    /// Of all tensors of a run together.
    fn whole(&self, run: &Run, base: usize) -> KernelSpec {
        reduce::sum_squares(self.profile, (run.all.bytes / 4) as usize, base)
    }

    /// Of each by itself; notes where its partial sums are.
    fn each(&self, run: &Run, base: usize, partials: &mut [[usize; 2]]) -> KernelSpec {
        let (mut parts, mut first) = (Vec::new(), base);
        for (index, place) in &run.tensors {
            let start = ((place.offset - run.all.offset) / 16) as usize;
            let part = Part { start, elements: (place.bytes / 4) as usize };
            partials[*index] = [first, part.groups()];
            first += part.groups();
            parts.push(part);
        }
        reduce::squares_each(self.profile, &parts, base)
    }
}

/// Sorted places as runs.
fn runs(places: Vec<(Location, usize)>) -> Vec<Run> {
    let mut joined: Vec<Run> = Vec::new();
    for (place, index) in places {
        match joined.last_mut() {
            // The gap between neighbours in a flat buffer is less than one alignment, and zero.
            Some(Run { all, tensors })
                if all.buffer == place.buffer
                    && place.offset < all.offset + all.bytes + 256
                    && (place.offset - all.offset).is_multiple_of(16) =>
            {
                all.bytes = all.bytes.max(place.offset + place.bytes - all.offset);
                tensors.push((index, place));
            }
            _ => joined.push(Run { all: place, tensors: vec![(index, place)] }),
        }
    }
    joined
}
