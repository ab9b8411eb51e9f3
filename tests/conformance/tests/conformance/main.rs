//! Tests of the conformance rules, and of the cassettes with which they replay a recorded Ray.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

mod built_ins;
mod cassettes;
