//! Finds a Python, and keeps the virtual environment.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::project::Project;
use crate::stages::Stage;

const OLDEST: (u32, u32) = (3, 10);
const REQUIREMENTS: [&str; 2] = ["requirements-dev.txt", "constraints-dev.txt"];

/// Makes `.venv` with the pinned requirements, or finds that it is as it should be.
pub(crate) fn environment(project: &Project, stage: &mut Stage) -> Result<()> {
    let wanted = wanted_state(project)?;
    let stamp = project.venv().join("dagster-ray.stamp");
    let interpreter = project.venv_program("python");
    let usable = version(&interpreter).is_ok_and(|found| found >= OLDEST);
    if usable && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if !usable {
        let base = find()?;
        stage.note(&format!("making .venv with {}", base.display()))?;
        let mut command = project.program(&base);
        command.args(["-m", "venv", "--clear"]).arg(project.venv());
        stage.execute(&mut command).with_context(|| {
            format!(
                "{} cannot make a virtual environment. On Debian and Ubuntu its module comes \
                 with the package python3-venv",
                base.display()
            )
        })?;
    }
    let source = project.python_source();
    let mut install = project.program(&interpreter);
    install
        .args(["-m", "pip", "install", "--disable-pip-version-check"])
        .args(["--no-input", "--progress-bar", "off", "-r"])
        .arg(source.join(REQUIREMENTS[0]))
        .arg("-c")
        .arg(source.join(REQUIREMENTS[1]));
    stage.execute(&mut install).context("the Python requirements could not be installed")?;
    put_on_path(project, &interpreter)?;
    fs::write(&stamp, wanted).context("the stamp of .venv could not be written")?;
    Ok(())
}

/// A `.pth` file, not an installed package: what is imported is always the source tree, and no
/// build tool zips a large extension at each change.
fn put_on_path(project: &Project, interpreter: &Path) -> Result<()> {
    let site = print(interpreter, "import sysconfig; print(sysconfig.get_path('purelib'))")?;
    let file = Path::new(&site).join("dagster_ray_source.pth");
    fs::write(&file, format!("{}\n", project.python_source().display()))
        .with_context(|| format!("{} could not be written", file.display()))
}

/// Everything the environment depends on: when it changes, the requirements are installed anew.
fn wanted_state(project: &Project) -> Result<String> {
    let mut digest = Sha256::new();
    for name in REQUIREMENTS {
        let file = project.python_source().join(name);
        let text = fs::read(&file).with_context(|| format!("{} could not be read", file.display()))?;
        digest.update(text);
    }
    digest.update(project.python_source().to_string_lossy().as_bytes());
    Ok(hex(&digest.finalize()))
}

/// `$PYTHON` where it is set, else the first of the usual names that is recent enough.
pub(crate) fn find() -> Result<PathBuf> {
    if let Some(chosen) = env::var_os("PYTHON").filter(|value| !value.is_empty()) {
        let path = PathBuf::from(chosen);
        let found =
            version(&path).with_context(|| format!("PYTHON names {}, which does not run", path.display()))?;
        if found < OLDEST {
            bail!(
                "PYTHON names {}, which is Python {}.{}; {}.{} or newer is needed",
                path.display(),
                found.0,
                found.1,
                OLDEST.0,
                OLDEST.1
            );
        }
        return Ok(path);
    }
    let names = ["python3".to_owned()]
        .into_iter()
        .chain((OLDEST.1..=14).rev().map(|minor| format!("python3.{minor}")));
    let mut too_old = Vec::new();
    for name in names {
        match version(Path::new(&name)) {
            Ok(found) if found >= OLDEST => return Ok(PathBuf::from(name)),
            Ok(found) => too_old.push(format!("{name} is Python {}.{}", found.0, found.1)),
            Err(_) => {}
        }
    }
    let seen = if too_old.is_empty() { "none was found as python3".to_owned() } else { too_old.join(", ") };
    bail!(
        "Python {}.{} or newer is needed, and {seen}. Install one, or name it: \
         PYTHON=/path/to/python3 cargo xtask setup",
        OLDEST.0,
        OLDEST.1
    )
}

fn version(interpreter: &Path) -> Result<(u32, u32)> {
    let text = print(interpreter, "import sys; print(sys.version_info[0], sys.version_info[1])")?;
    let (major, minor) = text.split_once(' ').context("it printed no version of Python")?;
    Ok((major.parse()?, minor.parse()?))
}

fn print(interpreter: &Path, program: &str) -> Result<String> {
    let output = Command::new(interpreter)
        .args(["-I", "-c", program])
        .output()
        .with_context(|| format!("{} could not be run", interpreter.display()))?;
    if !output.status.success() {
        bail!("{} failed: {}", interpreter.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
