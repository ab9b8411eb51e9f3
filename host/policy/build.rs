//! Embeds the WIT files of `wit/`, so that no list of them has to be kept.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let wit = fs::canonicalize(Path::new(&root).join("../../wit"))?;
    println!("cargo::rerun-if-changed={}", wit.display());
    let mut found = Vec::new();
    list(&wit, &mut found)?;
    let deps = wit.join("deps");
    list(&deps, &mut found)?;
    for entry in fs::read_dir(&deps)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, &mut found)?;
        }
    }
    found.sort();
    let mut text = String::from("&[");
    for path in found {
        let name = path.strip_prefix(&wit).map_err(io::Error::other)?.to_string_lossy().replace('\\', "/");
        text.push_str(&format!("({name:?}, include_str!({path:?})),"));
    }
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("wit.rs"), text + "]")
}

/// Adds the WIT files of a folder.
fn list(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wit") {
            found.push(path);
        }
    }
    Ok(())
}
