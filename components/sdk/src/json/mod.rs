//! One parser and one writer for JSON as [`Value`]s.
//!
//! This is for code size. `serde` generates code for each type and each source, and `serde_json` an exact
//! number parser for each source: together more than a fifth of a small component's code. A component
//! reads few bytes and few types, so it parses into values and reads their [`Fields`].

mod fields;
mod parse;
mod write;

#[cfg(test)]
mod tests;

pub use fields::{Fields, type_name};
pub use parse::{Failure, Malformed, parse, read, read_elements};
pub use serde_json::{Map, Number, Value, json};
pub use write::text;
