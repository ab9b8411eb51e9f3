//! Does nothing: it is here for the features of the build dependencies, see Cargo.toml.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
