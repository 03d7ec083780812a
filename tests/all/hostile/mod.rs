//! Files that lie, for every parser: the kept corpora of the fuzz targets, thousands of changes of them, and holes
//! that other readers of such files had.

#[path = "../../../fuzz/src/allocations.rs"]
pub mod allocations;
mod known_holes;
#[path = "../../../fuzz/src/parsers.rs"]
mod parsers;
mod replay;

pub use parsers::signed;
