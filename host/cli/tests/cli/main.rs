//! Tests of the command `dagster-ray`, which they run as a process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

mod check;
mod commands;
mod common;
mod connection;
mod endless_registry;
mod faulty_registry;
mod help;
mod inspect;
mod registry;
mod signatures;
mod verbosity;
mod watch;
