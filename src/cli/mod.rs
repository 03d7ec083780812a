//! The command line: parse, validate, call `train`. Thin.

pub mod args;
