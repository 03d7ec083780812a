//! All integration tests in one binary.

mod models;
mod scratch;
