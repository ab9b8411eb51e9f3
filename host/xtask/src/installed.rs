//! Tests the wheel as a user installs it: in empty environments outside the source tree.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::areas::SIDE_BY_SIDE;
use crate::cluster;
use crate::interpreter;
use crate::matrix::{self, Row};
use crate::project::Project;
use crate::stages::{Stage, Stages};
use crate::test_cluster::{self, TestCluster};
use crate::{files, uv};

/// The name of the distribution.
const DISTRIBUTION: &str = "dagster-ray-wasm";
/// The name of the row with the highest versions in `tests/matrix.toml`.
const HIGHEST: &str = "highest";
/// The id of an unprivileged user (`nobody` on Linux), who runs the wheel that root installed.
const OTHER_USER: &str = "65534";
/// Follows a page: writes its files, runs its commands and compares what they print.
const FOLLOW: &str = "tests/dagster/follow_page.py";
/// The first section of the README, which users of every version follow.
const QUICK_START: Page = Page { file: "README.md", section: Some("Quick start"), has_tests: false };
/// The tutorial, which takes a minute.
const TUTORIAL: Page = Page { file: "docs/tutorial.md", section: None, has_tests: true };

/// How long the processes of a page may take to end before they are killed.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// A page that is followed without the source tree.
struct Page {
    file: &'static str,
    section: Option<&'static str>,
    /// Whether the page runs a test with `simulated_ray`.
    has_tests: bool,
}

/// Installs the wheel on the lowest and the highest supported Python and follows the README's quick start, and on the
/// highest the tutorial.
pub(crate) fn run(project: &Project, stages: &Stages, wheel: &Path) {
    let rows = match matrix::read(project) {
        Ok(matrix) => matrix.rows,
        Err(error) => {
            stages.run("installed wheel", |_| Err(error));
            return;
        }
    };
    for row in rows {
        let name = format!("wheel on Python {}", row.python);
        let pages: &[Page] = if row.name == HIGHEST { &[QUICK_START, TUTORIAL] } else { &[QUICK_START] };
        match interpreter::find_version(&row.python) {
            Some(interpreter) => {
                stages.run(&name, |stage| follow(project, stage, wheel, &interpreter, pages));
            }
            None => stages.skip(&name, &format!("Python {} is not installed", row.python)),
        }
    }
}

/// Tests the rows of the version matrix and writes `docs/supported.md`.
pub(crate) fn matrix(project: &Project, stages: &Stages, wheel: &Path) {
    let mut results = Vec::new();
    let Some(versions) = stages.output("matrix", |_| matrix::read(project)) else { return };
    for row in versions.rows {
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
    let operators: Vec<_> =
        versions.operators.iter().filter_map(|folder| on_operator(project, stages, folder)).collect();
    stages.run("supported versions", |_| matrix::write(project, &results, &operators));
}

/// The test files of `tests/dagster` that depend on objects of KubeRay.
const KUBERAY_TESTS: [&str; 4] = ["kuberay_client", "kuberay_cluster", "kuberay_pipes", "kuberay_runs"];

/// Runs these test files with a version of the KubeRay operator. Returns the version and the result.
fn on_operator(project: &Project, stages: &Stages, folder: &str) -> Option<(String, String)> {
    let version =
        stages.output(&format!("version of {folder}"), |_| cluster::operator_version(project, folder))?;
    let passed = cluster::build(project, stages, folder)
        && TestCluster::start(project, stages, folder).is_some_and(|cluster| {
            stages.run(&format!("matrix KubeRay {version}"), |stage| {
                let mut pytest = project.program(project.venv_program("python"));
                pytest.args(["-m", "pytest", "-m", "kubernetes and not nightly"]);
                pytest.args(KUBERAY_TESTS.map(|name| format!("tests/dagster/test_{name}.py")));
                stage.execute(pytest.env(test_cluster::VARIABLE, &cluster.ready))
            })
        });
    Some((version, if passed { "passed" } else { "failed" }.to_owned()))
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

/// Installs the wheel into an empty environment, with what the pages install, and follows the pages there.
///
/// If this process is root, another user follows them. The test of tests/dagster compares the same pages with Ray.
fn follow(project: &Project, stage: &mut Stage, wheel: &Path, base: &Path, pages: &[Page]) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("dagster-ray-wheel-").tempdir()?;
    let root = folder.path().canonicalize()?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    let is_root = is_root(project)?;
    let base =
        if is_root { reachable_copy(project, stage, base, &root.join("python"))? } else { base.to_owned() };
    let venv = root.join("venv");
    uv::venv(project, stage, &base, &venv)?;
    let interpreter = venv.join("bin/python");
    let lock = project.python_source().join("requirements/test.lock");
    let mut install = uv::command(project, stage, &["pip", "install", "--quiet", "--link-mode", "copy"])?;
    install.arg("--python").arg(&interpreter).arg("--constraint").arg(lock);
    for page in pages {
        install.args(page.requirements(project, &interpreter, wheel)?);
    }
    stage.execute(&mut install)?;

    let script = root.join("follow_page.py");
    fs::copy(project.root().join(FOLLOW), &script)
        .with_context(|| format!("{FOLLOW} could not be copied"))?;
    let home = root.join("home");
    fs::create_dir_all(&home)?;
    pages.iter().try_for_each(|page| {
        let followed = page.follow(project, stage, &root, is_root).with_context(|| page.file.to_owned());
        // The Ray head runs on for a minute. The next page's commands run in another folder, and that head would not
        // find their files. On the next Python, the home is another, so that nothing would keep that head alive.
        end_processes(project, &root)?;
        followed?;
        // Tests compile the simulated backend, which is not precompiled.
        if page.has_tests { Ok(()) } else { nothing_compiled(&home) }
    })
}

/// Ends the processes whose command line contains a folder, and waits until they have ended.
fn end_processes(project: &Project, folder: &Path) -> Result<()> {
    let pattern = folder.display().to_string();
    let until = Instant::now() + ENDS_WITHIN;
    let mut signal = "TERM";
    while project
        .program("pkill")
        .args(["--full", "--signal", signal, &pattern])
        .status()
        .context("pkill could not be run")?
        .success()
    {
        if Instant::now() > until {
            signal = "KILL";
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Fails if a component was compiled, which puts its code into the user's cache.
fn nothing_compiled(home: &Path) -> Result<()> {
    let mut written = Vec::new();
    files::below(home, &mut written)?;
    match written.iter().find(|file| file.extension().is_some_and(|ending| ending == "cwasm")) {
        Some(compiled) => bail!("a component was compiled on the user's machine: {}", compiled.display()),
        None => Ok(()),
    }
}

impl Page {
    /// Returns what the page installs, with the wheel in place of the distribution's name.
    fn requirements(&self, project: &Project, python: &Path, wheel: &Path) -> Result<Vec<String>> {
        let mut command = project.program(python);
        command.args([FOLLOW, "--requirements", self.file]);
        if let Some(section) = self.section {
            command.args(["--section", section]);
        }
        let output = command.output().with_context(|| format!("{FOLLOW} could not be run"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() || !text.lines().any(|line| line.starts_with(DISTRIBUTION)) {
            bail!(
                "{} installs no {DISTRIBUTION}: {text}{}",
                self.file,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let wheel = wheel.display().to_string();
        Ok(text.lines().map(|line| line.replacen(DISTRIBUTION, &wheel, 1)).collect())
    }

    /// Follows the page in an empty folder below `root`.
    fn follow(&self, project: &Project, stage: &mut Stage, root: &Path, is_root: bool) -> Result<()> {
        let name = Path::new(self.file).file_name().context("a page has a file name")?;
        let page = root.join(name);
        fs::copy(project.root().join(self.file), &page)?;
        let work = root.join("work").join(Path::new(name).with_extension(""));
        fs::create_dir_all(&work)?;
        let (venv, home) = (root.join("venv"), root.join("home"));
        let mut command = if is_root {
            let mut owner = Command::new("chown");
            stage.execute(owner.args(["-R", &format!("{OTHER_USER}:{OTHER_USER}")]).arg(&work).arg(&home))?;
            let mut other = Command::new("setpriv");
            other.args(["--reuid", OTHER_USER, "--regid", OTHER_USER, "--clear-groups"]);
            other.arg(venv.join("bin/python"));
            other
        } else {
            stage.note("not root: the same user installs and runs the wheel")?;
            Command::new(venv.join("bin/python"))
        };
        command.arg(root.join("follow_page.py")).arg(&page);
        if let Some(section) = self.section {
            command.args(["--section", section]);
        }
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", venv.join("bin").display());
        command.current_dir(&work).env_clear().env("HOME", &home).env("PATH", path).env("LANG", "C.UTF-8");
        // Ray keeps files of its last head below /tmp/ray, which another user's head cannot overwrite.
        command.env("RAY_TMPDIR", &home);
        // A copied Python may have its own libpython, which it searches at its original path.
        command.env("LD_LIBRARY_PATH", root.join("python/lib"));
        stage.execute(&mut command)
    }
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
