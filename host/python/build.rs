//! An empty build script, which build dependencies require. Cargo.toml explains them.

#[allow(clippy::print_stdout, reason = "a build script passes instructions to cargo on standard output")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
