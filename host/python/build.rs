//! Does nothing: it is here for the features of the build dependencies, see Cargo.toml.

#[allow(clippy::print_stdout, reason = "cargo reads what a build script prints")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
