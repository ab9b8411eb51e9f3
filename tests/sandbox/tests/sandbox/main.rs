//! Tests of the host with components that misbehave. One crate for all files: each crate links the host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

mod answers;
mod attacks;
mod audit;
mod cache;
mod cluster;
mod compiling;
mod egress;
mod files;
mod floods;
mod grants;
mod keyvalue;
mod kubernetes;
mod lanes;
mod loading;
mod names;
mod programs;
mod secrets;
mod start;
mod suite;
