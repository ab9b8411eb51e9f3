//! Builds, installs and audits the wheel. Tests and releases use the same build of the host.

use std::env;
use std::env::consts::{ARCH, DLL_PREFIX, DLL_SUFFIX, OS};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::components;
use crate::environment::Environment;
use crate::files;
use crate::files::hex;
use crate::project::Project;
use crate::stages::{Stage, Stages};
use crate::toolchain;
use crate::uv;

/// The oldest supported glibc: that of manylinux2014.
const GLIBC: (u32, u32) = (2, 17);
/// The wheel's Python and ABI tag: the stable ABI of CPython 3.10.
const ABI: &str = "cp310-abi3";
/// The components whose machine code is not in the wheel, because only tests use them.
const COMPILED_BY_USERS: [&str; 1] = ["simulated"];
/// The maximum size of the wheel, in bytes.
const LARGEST: u64 = 15 << 20;
/// The name of the distribution in file names.
const DISTRIBUTION: &str = "dagster_ray_wasm";

/// Builds the components, the extension and the wheel. Returns the wheel's path, or `None` if a stage failed.
pub(crate) fn build(project: &Project, stages: &Stages) -> Option<PathBuf> {
    if !toolchain::wasm_target(project, stages) {
        return None;
    }
    let has_linker = stages.run("linker", |stage| linker(project, stage));
    let (components, host) = std::thread::scope(|scope| {
        // The two builds share no crate, and each leaves a core idle at times.
        let components = scope.spawn(|| stages.run("components", |stage| components::build(project, stage)));
        let host = has_linker && stages.run("host", |stage| extension(project, stage));
        (components.join().unwrap_or(false), host)
    });
    if !(components && host) {
        return None;
    }
    stages.output("wheel", |stage| {
        precompile(project, stage)?;
        pack(project, stage)
    })
}

/// Compiles the extension module, links it for an old glibc, and copies it into the package.
///
/// Only the last link differs from a plain build, so the tests and the extension share all compiled crates.
fn extension(project: &Project, stage: &mut Stage) -> Result<()> {
    let mut cargo = project.cargo(&["rustc", "--locked", "--release", "--package", "dagster-ray-python"]);
    cargo.args(["--lib", "--", "-C", "linker-flavor=gcc", "-C"]);
    cargo.arg(format!("linker={}", linker_file(project).display()));
    stage.execute(&mut cargo)?;
    let library = project.target().join("release").join(format!("{DLL_PREFIX}_native{DLL_SUFFIX}"));
    let content =
        fs::read(&library).with_context(|| format!("cargo did not create {}", library.display()))?;
    files::write_if_changed(&extension_file(project), &content)
}

fn extension_file(project: &Project) -> PathBuf {
    project.package().join("_native.abi3.so")
}

/// Writes the script that links with zig, which knows the symbol versions of each glibc.
fn linker(project: &Project, stage: &mut Stage) -> Result<()> {
    Environment::Build.make(project, stage)?;
    let python = Environment::Build.program(project, "python");
    let (major, minor) = GLIBC;
    let script = format!(
        "#!/bin/sh\nexec '{}' -m ziglang cc -target {ARCH}-linux-gnu.{major}.{minor} \"$@\"\n",
        python.display()
    );
    let file = linker_file(project);
    files::write_if_changed(&file, script.as_bytes())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn linker_file(project: &Project) -> PathBuf {
    project.target().join("xtask/link")
}

/// Compiles the components for the baseline CPU of this architecture, except [`COMPILED_BY_USERS`].
///
/// The extension itself compiles them, so that the code matches the engine that loads it.
fn precompile(project: &Project, stage: &mut Stage) -> Result<()> {
    let program = "import importlib.util, sys\n\
                   spec = importlib.util.spec_from_file_location('dagster_ray._native', sys.argv[1])\n\
                   native = importlib.util.module_from_spec(spec)\n\
                   spec.loader.exec_module(native)\n\
                   print(*native.precompile(sys.argv[2], sys.argv[3:]), sep='\\n')";
    let mut python = project.program(Environment::Build.program(project, "python"));
    python.args(["-I", "-c", program]);
    python.arg(extension_file(project)).arg(project.package().join("components")).args(COMPILED_BY_USERS);
    stage.execute(&mut python).context("the components could not be compiled ahead of time")
}

/// Packs the wheel, unless the existing one was built from the same files. Returns its path.
fn pack(project: &Project, stage: &mut Stage) -> Result<PathBuf> {
    if OS != "linux" {
        bail!("cannot build a wheel on {OS}: build it on Linux");
    }
    equal_versions(project)?;
    let state = state(project)?;
    let folder = project.target().join("wheel");
    let stamp = folder.join("stamp");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == state)
        && let Ok(wheel) = only_wheel(&folder)
    {
        return Ok(wheel);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let (major, minor) = GLIBC;
    hatchling(project, stage, "standard", &folder, &format!("{ABI}-manylinux_{major}_{minor}_{ARCH}"))?;
    let wheel = only_wheel(&folder)?;
    let size = fs::metadata(&wheel)?.len();
    stage.note(&format!("{} has {:.1} MiB", wheel.display(), size as f64 / f64::from(1 << 20)))?;
    if size > LARGEST {
        bail!("the wheel {} has {size} bytes; the limit is {LARGEST}", wheel.display());
    }
    fs::write(stamp, state)?;
    Ok(wheel)
}

/// Runs hatchling. `version` is hatchling's name for the kind of wheel: `standard` or `editable`.
fn hatchling(project: &Project, stage: &mut Stage, version: &str, to: &Path, tag: &str) -> Result<()> {
    let mut build = project.program(Environment::Build.program(project, "python"));
    build.current_dir(project.python_source()).env("DAGSTER_RAY_WHEEL_TAG", tag);
    build.args(["-m", "hatchling", "build", "--target", &format!("wheel:{version}"), "--directory"]);
    stage.execute(build.arg(to))
}

/// Returns a digest of the files that the wheel is built from.
fn state(project: &Project) -> Result<String> {
    let mut digest = Sha256::new();
    let source = project.python_source();
    let mut all =
        vec![source.join("pyproject.toml"), source.join("hatch_build.py"), source.join("README.md")];
    files::below(&project.package(), &mut all)?;
    all.sort();
    for file in all {
        if file.components().any(|part| part.as_os_str() == "__pycache__") {
            continue;
        }
        let content = fs::read(&file).with_context(|| format!("{} could not be read", file.display()))?;
        digest.update(file.as_os_str().as_encoded_bytes());
        digest.update((content.len() as u64).to_le_bytes());
        digest.update(content);
    }
    Ok(hex(&digest.finalize()))
}

/// Checks that `_version.py` and `Cargo.toml` contain the same version.
pub(crate) fn equal_versions(project: &Project) -> Result<()> {
    let file = project.package().join("_version.py");
    let text = fs::read_to_string(&file).with_context(|| format!("{} could not be read", file.display()))?;
    let python = text.split('"').nth(1).context("_version.py holds no version in quotes")?;
    let cargo = env!("CARGO_PKG_VERSION");
    if python != cargo {
        bail!(
            "{} has the version {python}, and Cargo.toml has {cargo}: write the same version in both",
            file.display()
        );
    }
    Ok(())
}

fn only_wheel(folder: &Path) -> Result<PathBuf> {
    let mut wheels = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{} could not be listed", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            wheels.push(path);
        }
    }
    match wheels.as_slice() {
        [wheel] => Ok(wheel.clone()),
        _ => bail!("{} contains {} wheels instead of one", folder.display(), wheels.len()),
    }
}

/// Installs the wheel into `.venv`, unless it is already installed.
pub(crate) fn install(project: &Project, stage: &mut Stage, wheel: &Path) -> Result<()> {
    let stamp = project.venv().join("dagster-ray-wheel.stamp");
    let state = hex(&Sha256::digest(fs::read(wheel)?));
    if fs::read_to_string(&stamp).is_ok_and(|found| found == state) && is_installed(project)? {
        return Ok(());
    }
    let mut command =
        uv::command(project, stage, &["pip", "install", "--quiet", "--no-deps", "--reinstall"])?;
    command.arg("--python").arg(project.venv_program("python")).arg(wheel);
    stage.execute(&mut command)?;
    fs::write(stamp, state).context("the stamp of the installed wheel could not be written")
}

/// Returns whether the package is installed in `.venv`. An update to a new lock file removes it.
fn is_installed(project: &Project) -> Result<bool> {
    for entry in fs::read_dir(project.venv().join("lib"))? {
        let record = format!("site-packages/{DISTRIBUTION}-{}.dist-info/RECORD", env!("CARGO_PKG_VERSION"));
        if entry?.path().join(record).is_file() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Packs an editable wheel, which only points to the source tree. Returns its path.
fn editable(project: &Project, stage: &mut Stage) -> Result<PathBuf> {
    let folder = project.target().join("editable");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    hatchling(project, stage, "editable", &folder, &format!("{ABI}-linux_{ARCH}"))?;
    only_wheel(&folder)
}

/// Installs an editable wheel into `.venv`, so that an edited Python file needs no build.
pub(crate) fn develop(project: &Project, stage: &mut Stage) -> Result<()> {
    let wheel = editable(project, stage)?;
    let stamp = project.venv().join("dagster-ray-wheel.stamp");
    if stamp.exists() {
        fs::remove_file(&stamp)?;
    }
    let mut command =
        uv::command(project, stage, &["pip", "install", "--quiet", "--no-deps", "--reinstall"])?;
    stage.execute(command.arg("--python").arg(project.venv_program("python")).arg(wheel))
}

/// Checks the symbols, the stable ABI, the contents and the metadata of the wheel, and that the editable
/// wheel of `cargo xtask develop` can be packed.
pub(crate) fn audit(project: &Project, stage: &mut Stage, wheel: &Path) -> Result<()> {
    Environment::Audit.make(project, stage)?;
    let program = |name: &str| project.program(Environment::Audit.program(project, name));
    let (major, minor) = GLIBC;
    let show =
        program("auditwheel").arg("show").arg(wheel).output().context("auditwheel could not be run")?;
    // auditwheel wraps its lines.
    let text = String::from_utf8_lossy(&show.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    stage.note(&text)?;
    let tag = format!("manylinux_{major}_{minor}_{ARCH}");
    if !show.status.success()
        || !text.contains(&format!("consistent with the following platform tag: \"{tag}\""))
    {
        bail!("the wheel is not {tag}: {text} {}", String::from_utf8_lossy(&show.stderr));
    }
    stage.execute(program("abi3audit").args(["--strict", "--summary", "--verbose"]).arg(wheel))?;
    stage.execute(
        program("check-wheel-contents")
            .arg("--config")
            .arg(project.python_source().join("pyproject.toml"))
            .arg(wheel),
    )?;
    stage.execute(program("twine").args(["check", "--strict"]).arg(wheel))?;
    no_local_paths(project)?;
    editable(project, stage).map(drop)
}

/// Checks that no built file of the package contains a path of this machine (see `host/xtask/rustc`).
fn no_local_paths(project: &Project) -> Result<()> {
    let homes = ["HOME", "CARGO_HOME"].map(|name| env::var(name).ok().filter(|home| home.len() > 1));
    let own = [project.root(), project.target()].map(|folder| folder.display().to_string());
    let folders: Vec<String> =
        homes.into_iter().flatten().chain(own).map(|folder| format!("{folder}/")).collect();
    let mut files = vec![extension_file(project)];
    files::below(&project.package().join("components"), &mut files)?;
    for file in files {
        let content = fs::read(&file).with_context(|| format!("{} could not be read", file.display()))?;
        for folder in &folders {
            let found = content.windows(folder.len()).position(|part| part == folder.as_bytes());
            let Some((_, rest)) = found.and_then(|at| content.split_at_checked(at)) else { continue };
            let path: Vec<u8> = rest.iter().copied().take(100).take_while(u8::is_ascii_graphic).collect();
            bail!(
                "{} contains the path {}. Build without the variable RUSTC_WRAPPER; if this does not help, \
                 remove what was built before: cargo clean --release",
                file.display(),
                String::from_utf8_lossy(&path)
            );
        }
    }
    Ok(())
}

/// Builds the wheel, audits it and copies it to `dist/`.
pub(crate) fn run(project: &Project, stages: &Stages) {
    let Some(wheel) = build(project, stages) else { return };
    let _ = stages.run("audit", |stage| audit(project, stage, &wheel))
        && stages.run("dist", |stage| {
            let dist = project.root().join("dist");
            fs::create_dir_all(&dist)?;
            let to = dist.join(wheel.file_name().unwrap_or_default());
            fs::copy(&wheel, &to).with_context(|| format!("{} could not be written", to.display()))?;
            stage.note(&format!("{}", to.display()))
        });
}
