//! Tests of recording and replay with a real component.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

mod cassettes;
