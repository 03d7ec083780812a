//! Rewrites of a graph that keep its meaning. Each pass is a pure function in a file of its own.
//!
//! Choosing which operations share a kernel is not here but in `lower`, because that depends on
//! what kernels can do.

mod merge_cross_entropy;
mod mixed_precision;
mod rewrite;
mod save_in_half;
mod simplify;
mod split_batch_norm;
mod trim_scans;
mod widen_halves;

pub use mixed_precision::mixed_precision;
pub use rewrite::{Rewriter, rewrite};
pub use save_in_half::save_in_half;
pub use simplify::simplify;
pub use widen_halves::is_half;

use crate::error::Result;
use crate::graph::Graph;

/// A pass by name, as `wgrad explain` shows it.
pub type Pass = (&'static str, fn(&Graph) -> Graph);

/// The passes in their order.
pub const PASSES: &[Pass] = &[
    // Before everything: what only dead results of loops need is dead.
    ("trim_scans", trim_scans::trim_scans),
    // So that the patterns below need not know of `x * 1` or of constants in disguise; drops dead nodes.
    ("simplify", simplify::simplify),
    // After constants are folded: only then is the row gradient of a mean seen to be a constant.
    ("merge_cross_entropy", merge_cross_entropy::merge_cross_entropy),
    // For kernels' sake, so after the passes above, which see whole batch norms.
    ("split_batch_norm", split_batch_norm::split_batch_norm),
    // Last: whatever is there by now is computed in f32.
    ("widen_halves", widen_halves::widen_halves),
];

/// Runs all passes; in debug builds each result is verified.
pub fn run(graph: &Graph) -> Result<Graph> {
    graph.error()?;
    let mut current = rewrite(graph, |_, _, _| None);
    for (_, pass) in PASSES {
        current = pass(&current);
        if cfg!(debug_assertions) {
            current.verify()?;
        }
    }
    Ok(current)
}
