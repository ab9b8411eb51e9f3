//! `cargo xtask faults` runs the fault matrix, `cargo xtask soak` random faults. Both need a real Ray.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::project::Project;
use crate::stages::Stages;

/// How long the soak of `cargo xtask test` runs, in minutes.
const SHORT_SOAK: f64 = 0.3;
/// Log of `cargo xtask test` with the results of the Rust tests.
const RUST_TESTS: &str = "xtask/cargo-test.log";

/// The arguments of `cargo xtask faults`.
#[derive(Args)]
pub(crate) struct Faults {
    /// Run only the cells that are part of `cargo xtask test`, and write no page
    #[arg(long)]
    quick: bool,
    /// Run nothing, and write the page from the results of earlier test runs in this folder
    #[arg(long, conflicts_with = "quick")]
    page: bool,
    /// Arguments for pytest, such as `-k step-worker-9`
    #[arg(last = true)]
    pytest: Vec<String>,
}

/// The arguments of `cargo xtask soak`.
#[derive(Args)]
pub(crate) struct Soak {
    /// The seed of the actions; default: a random one, which is printed
    #[arg(long)]
    seed: Option<u32>,
    /// How long the actions go on
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
}

impl Faults {
    /// Runs the matrix, and writes the page from all results that are known.
    pub(crate) fn run(&self, project: &Project, stages: &Stages) {
        if self.quick {
            quick(project, stages, &self.pytest);
            return;
        }
        if !self.page {
            stages.run("faults", |stage| {
                let mut pytest = pytest(project);
                pytest.arg(report(project, "faults")?).args(&self.pytest);
                stage.execute(&mut pytest)
            });
        }
        write_page(project, stages);
    }
}

impl Soak {
    /// Runs the soak, and writes its results to the page.
    pub(crate) fn run(&self, project: &Project, stages: &Stages) {
        stages.run("soak", |stage| {
            let mut pytest = pytest(project);
            pytest.args(["-s", "-k", "test_soak", "--soak-minutes", &self.minutes.to_string()]);
            if let Some(seed) = self.seed {
                pytest.args(["--soak-seed", &seed.to_string()]);
            }
            let results = folder(project)?.join("soak.json");
            stage.execute(pytest.arg("--soak-results").arg(results))
        });
        write_page(project, stages);
    }
}

/// Runs the quick cells and a short soak.
pub(crate) fn quick(project: &Project, stages: &Stages, arguments: &[String]) {
    stages.run("faults", |stage| {
        let mut pytest = pytest(project);
        pytest.args(["-m", "quick", "--soak-minutes", &SHORT_SOAK.to_string()]).args(arguments);
        pytest.arg(report(project, "quick faults")?);
        stage.execute(&mut pytest)
    });
}

/// Returns the argument of pytest that writes the results of a stage for the page.
pub(crate) fn report(project: &Project, stage: &str) -> Result<String> {
    let file = folder(project)?.join(format!("{}.xml", stage.replace(' ', "-")));
    Ok(format!("--junit-xml={}", file.display()))
}

/// Writes docs/reliability.md from the latest results of the harness, of `cargo xtask test` and of the soak.
fn write_page(project: &Project, stages: &Stages) {
    stages.run("reliability", |stage| {
        let mut results: Vec<_> = fs::read_dir(folder(project)?)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .chain([project.target().join(RUST_TESTS)])
            .filter(|file| file.is_file())
            .collect();
        // A later result of a test overrides an earlier one.
        results.sort_by_key(|file| fs::metadata(file).and_then(|file| file.modified()).ok());
        let mut page = project.program(project.venv_program("python"));
        page.arg(harness(project).join("page.py")).args(results);
        let modules = [project.root().join("tests/dagster"), harness(project).join("code")];
        page.env("PYTHONPATH", std::env::join_paths(modules)?);
        stage.execute(&mut page)
    });
}

fn pytest(project: &Project) -> Command {
    let mut command = project.program(project.venv_program("python"));
    command.args(["-m", "pytest", "--durations=15"]).arg(harness(project));
    command
}

fn harness(project: &Project) -> PathBuf {
    project.root().join("tests/faults")
}

/// Returns the folder with the results of tests, which exists afterwards.
fn folder(project: &Project) -> Result<PathBuf> {
    let folder = project.target().join("faults");
    fs::create_dir_all(&folder).with_context(|| format!("{} could not be created", folder.display()))?;
    Ok(folder)
}
