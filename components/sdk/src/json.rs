//! JSON as [`Value`]s: one parser and one writer for everything that a component reads and writes.
//!
//! `serde` makes a parser of its own for each type and each source, and an exact one for numbers for
//! each of them: together more than half of what a small component consists of. A component reads few
//! bytes and few types, so it parses into values and takes its fields out of them ([`Fields`]).

mod fields;
mod parse;
mod write;

#[cfg(test)]
mod tests;

pub use fields::{Fields, kind};
pub use parse::{Failure, Malformed, parse, read};
pub use serde_json::{Map, Number, Value};
pub use write::text;
