//! Tests the wheel as a user installs it: in empty environments outside the source tree.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::areas::SIDE_BY_SIDE;
use crate::interpreter;
use crate::matrix::{self, Row};
use crate::project::Project;
use crate::stages::{Stage, Stages};
use crate::{files, uv};

/// The id of an unprivileged user (`nobody` on Linux), who runs the wheel that root installed.
const OTHER_USER: &str = "65534";
/// The heading of the README section that is executed.
const SECTION: &str = "## Quick start";

/// Installs the wheel on the lowest and the highest supported Python and runs the README's quick start.
pub(crate) fn run(project: &Project, stages: &Stages, wheel: &Path) {
    let rows = match matrix::rows(project) {
        Ok(rows) => rows,
        Err(error) => {
            stages.run("installed wheel", |_| Err(error));
            return;
        }
    };
    for row in rows {
        let name = format!("wheel on Python {}", row.python);
        match interpreter::find_version(&row.python) {
            Some(interpreter) => {
                stages.run(&name, |stage| quick_start(project, stage, wheel, &interpreter));
            }
            None => stages.skip(&name, &format!("Python {} is not installed", row.python)),
        }
    }
}

/// Tests the rows of the version matrix and writes `docs/supported.md`.
pub(crate) fn matrix(project: &Project, stages: &Stages, wheel: &Path) {
    let mut results = Vec::new();
    let Some(rows) = stages.output("matrix", |_| matrix::rows(project)) else { return };
    for row in rows {
        let name = format!("matrix {}", row.name);
        let Some(interpreter) = interpreter::find_version(&row.python) else {
            let reason = format!("Python {} is not installed", row.python);
            stages.skip(&name, &reason);
            results.push((row, reason));
            continue;
        };
        let passed = stages.run(&name, |stage| tests_on(project, stage, wheel, &row, &interpreter));
        results.push((row, if passed { "passed" } else { "failed" }.to_owned()));
    }
    stages.run("supported versions", |_| matrix::write(project, &results));
}

/// The test files of `tests/dagster` that depend on interfaces of Dagster, Ray and Python.
const MATRIX_TESTS: [&str; 8] =
    ["config", "executor", "import", "io_manager", "launcher", "package", "pipes", "resources"];

/// Runs these test files with the versions of a row.
fn tests_on(project: &Project, stage: &mut Stage, wheel: &Path, row: &Row, base: &Path) -> Result<()> {
    let venv = project.target().join("envs").join(format!("matrix-{}", row.name));
    uv::venv(project, stage, base, &venv)?;
    let interpreter = venv.join("bin/python");
    let overrides = venv.join("overrides.txt");
    fs::write(&overrides, row.overrides())?;
    let mut install = uv::command(project, stage, &["pip", "install", "--quiet", "--python"])?;
    install.arg(&interpreter).arg(wheel).arg("--overrides").arg(&overrides);
    install.arg("--requirements").arg(project.python_source().join("requirements/test.in"));
    stage.execute(&mut install)?;
    let mut pytest = project.program(&interpreter);
    pytest.args(["-m", "pytest", "-m", "not kubernetes"]).args(SIDE_BY_SIDE);
    pytest.args(MATRIX_TESTS.map(|name| format!("tests/dagster/test_{name}.py")));
    stage.execute(&mut pytest)
}

/// Installs the wheel into an empty environment and runs the README's quick start there.
///
/// If this process is root, another user runs the quick start.
fn quick_start(project: &Project, stage: &mut Stage, wheel: &Path, base: &Path) -> Result<()> {
    let readme = project.root().join("README.md");
    let text = fs::read_to_string(&readme).context("README.md could not be read")?;
    let steps = Steps::parse(&text)?;
    let folder = tempfile::Builder::new().prefix("dagster-ray-wheel-").tempdir()?;
    let root = folder.path().canonicalize()?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    let is_root = is_root(project)?;
    let base =
        if is_root { reachable_copy(project, stage, base, &root.join("python"))? } else { base.to_owned() };
    let venv = root.join("venv");
    uv::venv(project, stage, &base, &venv)?;
    let lock = project.python_source().join("requirements/demo.lock");
    let mut install = uv::command(project, stage, &["pip", "install", "--quiet", "--link-mode", "copy"])?;
    install.arg("--python").arg(venv.join("bin/python")).arg("--constraint").arg(lock);
    install.arg(format!("{}{}", wheel.display(), steps.extras));
    stage.execute(&mut install)?;

    let work = root.join("work");
    let home = root.join("home");
    for folder in [&work, &home] {
        fs::create_dir_all(folder)?;
    }
    for (name, content) in &steps.files {
        fs::write(work.join(name), content)?;
    }
    fs::write(work.join("quick-start.sh"), format!("set -eu\n{}", steps.commands))?;
    let output = root.join("output");
    let script = format!("bash quick-start.sh > {} 2>&1", output.display());
    let mut command = if is_root {
        fs::write(&output, "")?;
        let mut owner = Command::new("chown");
        let owned = format!("{OTHER_USER}:{OTHER_USER}");
        stage.execute(owner.args(["-R", &owned]).arg(&work).arg(&home).arg(&output))?;
        let mut other = Command::new("setpriv");
        other.args(["--reuid", OTHER_USER, "--regid", OTHER_USER, "--clear-groups", "bash", "-c", &script]);
        other
    } else {
        stage.note("not root: the same user installs and runs the wheel")?;
        let mut same = Command::new("bash");
        same.args(["-c", &script]);
        same
    };
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", venv.join("bin").display());
    command.current_dir(&work).env_clear().env("HOME", &home).env("PATH", path).env("LANG", "C.UTF-8");
    // Ray keeps files of its last head below /tmp/ray, which another user's head cannot overwrite.
    command.env("RAY_TMPDIR", &home);
    // A copied Python may have its own libpython, which it searches at its original path.
    command.env("LD_LIBRARY_PATH", root.join("python/lib"));
    let ran = stage.execute(&mut command);
    // The Ray head runs on for a minute. The quick start on the next Python has another home, so it would use the
    // head without keeping it alive, and lose it within its run.
    let folder = root.display().to_string();
    project.program("pkill").args(["--full", &folder]).status().context("pkill could not be run")?;
    let printed = fs::read_to_string(&output).unwrap_or_default();
    stage.note(&printed)?;
    ran.with_context(|| format!("the quick start failed:\n{}", tail(&printed)))?;
    for line in &steps.shown {
        if !printed.contains(line.as_str()) {
            bail!("the README shows the line {line:?}, but the quick start printed:\n{}", tail(&printed));
        }
    }
    let mut written = Vec::new();
    files::below(&home, &mut written)?;
    if let Some(compiled) =
        written.iter().find(|file| file.extension().is_some_and(|ending| ending == "cwasm"))
    {
        bail!("a component was compiled on the user's machine: {}", compiled.display());
    }
    Ok(())
}

/// Returns the last lines of an output.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Returns whether this process runs as root.
fn is_root(project: &Project) -> Result<bool> {
    let output = project.program("id").arg("-u").output().context("id could not be run")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// Copies a Python installation to where another user can run it, because root's often is in root's home.
fn reachable_copy(project: &Project, stage: &mut Stage, interpreter: &Path, to: &Path) -> Result<PathBuf> {
    let prefix = interpreter::print(interpreter, "import sys; print(sys.base_prefix)")?;
    if ["/usr", "/usr/local"].contains(&prefix.as_str()) {
        return Ok(interpreter.to_owned());
    }
    stage.execute(project.program("cp").arg("-a").arg(&prefix).arg(to))?;
    let name = interpreter::print(interpreter, "import sys; print('python%d.%d' % sys.version_info[:2])")?;
    Ok(to.join("bin").join(name))
}

/// The steps of the README's quick start.
#[derive(Debug, PartialEq, Eq)]
struct Steps {
    /// The extras in the `pip install` line, with their brackets.
    extras: String,
    /// File names and contents. The text before a block names its file.
    files: Vec<(String, String)>,
    /// The shell commands after the installation.
    commands: String,
    /// Lines that the README shows as output.
    shown: Vec<String>,
}

impl Steps {
    fn parse(readme: &str) -> Result<Self> {
        let section = readme.split_once(SECTION).with_context(|| format!("README.md has no {SECTION:?}"))?.1;
        let section = section.split("\n## ").next().unwrap_or_default();
        let mut steps =
            Self { extras: String::new(), files: Vec::new(), commands: String::new(), shown: Vec::new() };
        let mut parts = section.split("```");
        let mut prose = parts.next().unwrap_or_default();
        while let (Some(block), after) = (parts.next(), parts.next().unwrap_or_default()) {
            let (language, content) = block.split_once('\n').unwrap_or((block, ""));
            match language {
                "shell" => {
                    for line in content.lines() {
                        match line.strip_prefix("pip install ") {
                            Some(what) => {
                                let what = what.trim_matches(['\'', '"']);
                                steps.extras = what.find('[').map_or("", |at| &what[at..]).to_owned();
                            }
                            None => steps.commands.push_str(&format!("{line}\n")),
                        }
                    }
                }
                "text" => steps.shown.extend(
                    content.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()),
                ),
                _ => {
                    let name = prose.rsplit('`').nth(1).context(
                        "a block of README.md's quick start has no `file name` in the text before it",
                    )?;
                    steps.files.push((name.to_owned(), content.to_owned()));
                }
            }
            prose = after;
        }
        if steps.extras.is_empty() || steps.files.is_empty() || steps.commands.is_empty() {
            bail!("the quick start of README.md lacks a pip install line, a file or a command");
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_parsed_only_from_the_quick_start_section() {
        let readme = "# x\n```shell\nrm -rf /\n```\n## Quick start\n\n```shell\npip install 'x[a,b]'\n```\n\
            Write `jobs.py`:\n\n```python\nprint(1)\n```\nand run it:\n```shell\npython jobs.py\n```\n\
            ```text\n  1\n```\n## Next\n```python\nno\n```\n";
        let steps = Steps::parse(readme).unwrap();
        assert_eq!(
            steps,
            Steps {
                extras: "[a,b]".into(),
                files: vec![("jobs.py".into(), "print(1)\n".into())],
                commands: "python jobs.py\n".into(),
                shown: vec!["1".into()],
            }
        );
        assert!(Steps::parse("# nothing").is_err());
    }
}
