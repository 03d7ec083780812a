//! What the fuzz targets have in common; the tests of the library replay the same functions (`tests/all/hostile`).

pub mod allocations;
pub mod parsers;
