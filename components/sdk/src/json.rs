//! JSON as [`Value`]s: one parser and one writer for everything that a component reads and writes.
//!
//! `serde` makes code for each type and each kind of source, and `serde_json` an exact reader of numbers
//! for each kind of source: together more than a fifth of a small component's code. A component reads
//! few bytes and few types, so it parses into values and takes its fields out of them ([`Fields`]).

mod fields;
mod parse;
mod write;

#[cfg(test)]
mod tests;

pub use fields::{Fields, kind};
pub use parse::{Failure, Malformed, parse, read};
pub use serde_json::{Map, Number, Value};
pub use write::text;
