//! Lists the files of the guest SDK, which `dagster-ray new` writes into a project.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use toml::{Table, Value};

/// The files and folders of the SDK's package, besides its manifest and the contract's WIT files.
const CONTENT: [&str; 3] = ["LICENSE", "README.md", "src"];

#[allow(clippy::print_stdout, reason = "a build script passes instructions to cargo on standard output")]
fn main() -> Result<(), Box<dyn Error>> {
    let root = fs::canonicalize(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../.."))?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let sdk = root.join("components/sdk");
    for source in ["Cargo.toml", "LICENSE", "components/sdk"] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    fs::write(out.join("sdk.toml"), manifest(&root, &sdk)?)?;
    let mut files = vec![entry("Cargo.toml", &out.join("sdk.toml"))];
    for name in CONTENT {
        list(name, &sdk.join(name), &mut files)?;
    }
    fs::write(out.join("sdk.rs"), format!("&[{}]", files.concat()))?;
    Ok(())
}

/// Returns the SDK's manifest without references to the workspace, as `cargo package` writes it.
fn manifest(root: &Path, sdk: &Path) -> Result<String, Box<dyn Error>> {
    let read = |folder: &Path| -> Result<Table, Box<dyn Error>> {
        Ok(fs::read_to_string(folder.join("Cargo.toml"))?.parse()?)
    };
    let (workspace, mut manifest) = (read(root)?, read(sdk)?);
    manifest.remove("lints");
    for table in ["package", "dependencies"] {
        for (key, value) in manifest.get_mut(table).and_then(Value::as_table_mut).into_iter().flatten() {
            if value.get("workspace").is_some() {
                *value = workspace["workspace"][table][key].clone();
            }
        }
    }
    Ok(toml::to_string(&manifest)?)
}

/// Adds a file, or the files of a folder.
fn list(name: &str, path: &Path, files: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    if !path.is_dir() {
        files.push(entry(name, path));
        return Ok(());
    }
    for inner in fs::read_dir(path)? {
        let inner = inner?.path();
        let file = inner.file_name().unwrap_or_default().to_string_lossy();
        list(&format!("{name}/{file}"), &inner, files)?;
    }
    Ok(())
}

/// Returns a path in the package and the text of its file, as Rust code.
fn entry(name: &str, path: &Path) -> String {
    format!("({name:?}, include_str!({path:?})),")
}
