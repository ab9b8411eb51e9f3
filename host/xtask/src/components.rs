//! Builds the components and the test fixtures, and copies them to where the host and the tests find them.
//!
//! A built-in component is a folder `components/<name>` with a manifest `<name>.toml`. A fixture is a
//! folder `tests/fixtures/<name>`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::files::hex;
use crate::files::write_if_changed;
use crate::names;
use crate::optimizer::Optimizer;
use crate::project::Project;
use crate::stages::Stage;
use crate::toolchain::WASM;

const PROFILE: &str = "component";

struct Guest {
    name: String,
    package: String,
    manifest: Option<PathBuf>,
    destination: PathBuf,
}

/// Builds all components and fixtures with one call of cargo, so that shared crates are built once.
pub(crate) fn build(project: &Project, stage: &mut Stage) -> Result<()> {
    let guests = find(project)?;
    let mut cargo = project.cargo(&["build", "--locked", "--target", WASM, "--profile", PROFILE]);
    for guest in &guests {
        cargo.args(["--package", &guest.package]);
    }
    stage.execute(&mut cargo)?;
    let built = project.target().join(WASM).join(PROFILE);
    let optimizer = Optimizer::load(project)?;
    for guest in &guests {
        copy(guest, &built, &optimizer)?;
    }
    Ok(())
}

fn find(project: &Project) -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for folder in folders(&project.root().join("components"))? {
        let name = name_of(&folder);
        let manifest = folder.join(format!("{name}.toml"));
        if manifest.is_file() {
            guests.push(Guest {
                package: format!("dagster-ray-{name}"),
                manifest: Some(manifest),
                destination: project.package().join("components"),
                name,
            });
        }
    }
    for folder in folders(&project.root().join("tests/fixtures"))? {
        let name = name_of(&folder);
        let manifest = folder.join(format!("{name}.toml"));
        if folder.join("Cargo.toml").is_file() {
            guests.push(Guest {
                package: format!("fixture-{name}"),
                manifest: manifest.is_file().then_some(manifest),
                destination: project.fixtures(),
                name,
            });
        }
    }
    if guests.is_empty() {
        bail!("there is no component in {}", project.root().display());
    }
    Ok(guests)
}

fn copy(guest: &Guest, built: &Path, optimizer: &Optimizer) -> Result<()> {
    let source = built.join(format!("{}.wasm", guest.package.replace('-', "_")));
    let wasm = fs::read(&source).with_context(|| format!("cargo did not create {}", source.display()))?;
    let split = names::split(&wasm, &|module| optimizer.optimize(module))
        .with_context(|| format!("{} could not be optimized", source.display()))?;
    let digest = hex(&Sha256::digest(&split.wasm));
    fs::create_dir_all(&guest.destination)
        .with_context(|| format!("{} could not be created", guest.destination.display()))?;
    let to = guest.destination.join(format!("{}.wasm", guest.name));
    // The host ignores the names of another build: they contain the digest of their component.
    write_if_changed(&to.with_extension("names"), split.names(&digest).as_bytes())?;
    write_if_changed(&to, &split.wasm)?;
    if let Some(manifest) = &guest.manifest {
        let text = fs::read_to_string(manifest)
            .with_context(|| format!("{} could not be read", manifest.display()))?;
        let stamped = format!("sha256 = \"{digest}\"\n{text}");
        write_if_changed(&to.with_extension("toml"), stamped.as_bytes())?;
    }
    Ok(())
}

fn folders(parent: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(parent).with_context(|| format!("{} could not be listed", parent.display()))?;
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

fn name_of(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
