//! The wheel: the one build of the host that is both tested and shipped.

use std::env::consts::{ARCH, DLL_PREFIX, DLL_SUFFIX, OS};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::components;
use crate::files;
use crate::project::Project;
use crate::python::{Environment, hex};
use crate::stages::{Stage, Stages};
use crate::toolchain;
use crate::uv;

/// The oldest glibc that the extension is linked for: that of manylinux2014.
const GLIBC: (u32, u32) = (2, 17);
/// The oldest CPython whose stable ABI is used.
const ABI: &str = "cp310-abi3";
/// Most bytes of a wheel.
const LARGEST: u64 = 15 << 20;
/// The name of the distribution, as it stands in file names.
const DISTRIBUTION: &str = "dagster_ray_wasm";

/// Builds the components, the extension and the wheel, and returns the wheel's path.
pub(crate) fn build(project: &Project, stages: &Stages) -> Option<PathBuf> {
    if !toolchain::wasm_target(project, stages) {
        return None;
    }
    let made = stages.run("linker", |stage| linker(project, stage));
    let (components, host) = std::thread::scope(|scope| {
        // They share no crate, and each leaves a core idle at times.
        let components = scope.spawn(|| stages.run("components", |stage| components::build(project, stage)));
        let host = made && stages.run("host", |stage| extension(project, stage));
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

/// Compiles the extension module, links it for an old glibc, and puts it into the package.
///
/// Only the last link differs from a plain build, so that tests and extension share all that is
/// compiled.
fn extension(project: &Project, stage: &mut Stage) -> Result<()> {
    let mut cargo = project.cargo(&["rustc", "--locked", "--release", "--package", "dagster-ray-python"]);
    cargo.args(["--lib", "--", "-C", "linker-flavor=gcc", "-C"]);
    cargo.arg(format!("linker={}", linker_file(project).display()));
    stage.execute(&mut cargo)?;
    let library = project.target().join("release").join(format!("{DLL_PREFIX}_native{DLL_SUFFIX}"));
    let content = fs::read(&library).with_context(|| format!("cargo did not make {}", library.display()))?;
    files::write_if_changed(&extension_file(project), &content)
}

fn extension_file(project: &Project) -> PathBuf {
    project.package().join("_native.abi3.so")
}

/// Makes the program that links with zig, which knows the symbols of each version of glibc.
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

/// Compiles the components for every CPU of this architecture, with the extension itself: code and
/// host then fit each other.
fn precompile(project: &Project, stage: &mut Stage) -> Result<()> {
    let program = "import importlib.util, sys\n\
                   spec = importlib.util.spec_from_file_location('dagster_ray._native', sys.argv[1])\n\
                   native = importlib.util.module_from_spec(spec)\n\
                   spec.loader.exec_module(native)\n\
                   print(*native.precompile(sys.argv[2]), sep='\\n')";
    let mut python = project.program(Environment::Build.program(project, "python"));
    python.args(["-I", "-c", program]);
    python.arg(extension_file(project)).arg(project.package().join("components"));
    stage.execute(&mut python).context("the components could not be compiled ahead of time")
}

/// Packs the wheel, unless the one that is there was made of the same files.
fn pack(project: &Project, stage: &mut Stage) -> Result<PathBuf> {
    if OS != "linux" {
        bail!("a wheel is built on Linux only; `cargo xtask develop` works here");
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
        bail!("the wheel has {size} bytes, more than {LARGEST}");
    }
    fs::write(stamp, state)?;
    Ok(wheel)
}

/// Runs the build backend. `version` is hatchling's word for what kind of wheel.
fn hatchling(project: &Project, stage: &mut Stage, version: &str, to: &Path, tag: &str) -> Result<()> {
    let mut build = project.program(Environment::Build.program(project, "python"));
    build.current_dir(project.python_source()).env("DAGSTER_RAY_WHEEL_TAG", tag);
    build.args(["-m", "hatchling", "build", "--target", &format!("wheel:{version}"), "--directory"]);
    stage.execute(build.arg(to))
}

/// What the wheel is made of.
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

/// The workspace and the package name their version in a file each.
fn equal_versions(project: &Project) -> Result<()> {
    let file = project.package().join("_version.py");
    let text = fs::read_to_string(&file).with_context(|| format!("{} could not be read", file.display()))?;
    let python = text.split('"').nth(1).context("_version.py holds no version in quotes")?;
    let cargo = env!("CARGO_PKG_VERSION");
    if python != cargo {
        bail!(
            "{} says {python}, and Cargo.toml says {cargo}: write the same version in both",
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
        _ => bail!("{} holds {} wheels instead of one", folder.display(), wheels.len()),
    }
}

/// Installs the wheel into `.venv`, unless it is there already.
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

/// Whether the environment holds the package. A new lock file takes it away.
fn is_installed(project: &Project) -> Result<bool> {
    for entry in fs::read_dir(project.venv().join("lib"))? {
        let record = format!("site-packages/{DISTRIBUTION}-{}.dist-info/RECORD", env!("CARGO_PKG_VERSION"));
        if entry?.path().join(record).is_file() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes `.venv` use the source tree, so that an edited Python file needs no build.
pub(crate) fn develop(project: &Project, stage: &mut Stage) -> Result<()> {
    let folder = project.target().join("editable");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    hatchling(project, stage, "editable", &folder, &format!("{ABI}-linux_{ARCH}"))?;
    let stamp = project.venv().join("dagster-ray-wheel.stamp");
    if stamp.exists() {
        fs::remove_file(&stamp)?;
    }
    let mut command =
        uv::command(project, stage, &["pip", "install", "--quiet", "--no-deps", "--reinstall"])?;
    stage.execute(command.arg("--python").arg(project.venv_program("python")).arg(only_wheel(&folder)?))
}

/// Checks the wheel: symbols, stable ABI, contents, metadata.
pub(crate) fn audit(project: &Project, stage: &mut Stage, wheel: &Path) -> Result<()> {
    Environment::Audit.make(project, stage)?;
    let program = |name: &str| project.program(Environment::Audit.program(project, name));
    let (major, minor) = GLIBC;
    let show =
        program("auditwheel").arg("show").arg(wheel).output().context("auditwheel could not be run")?;
    // It breaks its lines to a width.
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
    stage.execute(program("twine").args(["check", "--strict"]).arg(wheel))
}

/// `cargo xtask wheel`: builds, audits and copies the wheel into `dist/`.
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
