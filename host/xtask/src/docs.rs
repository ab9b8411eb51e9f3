//! `cargo xtask docs`: builds the documentation site in `target/docs/site`.

use std::fs;

use anyhow::{Context, Result};

use crate::environment::Environment;
use crate::project::Project;
use crate::stages::{Stage, Stages};

/// The interpreter whose `dagster-ray` prints the reference of the command. `host/site/prepare.py` reads it.
const PYTHON: &str = "DAGSTER_RAY_DOCS_PYTHON";

/// Builds the site and checks its links. The package must be installed in `.venv`.
pub(crate) fn run(project: &Project, stages: &Stages) -> bool {
    stages.run("docs", |stage| build(project, stage))
}

fn build(project: &Project, stage: &mut Stage) -> Result<()> {
    Environment::Docs.make(project, stage)?;
    let folder = project.target().join("docs");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("{} could not be removed", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("{} could not be created", folder.display()))?;
    let mut prepare = project.program(Environment::Docs.program(project, "python"));
    prepare.arg(project.root().join("host/site/prepare.py")).arg(&folder);
    stage.execute(prepare.env(PYTHON, project.venv_program("python")))?;
    let mut build = project.program(Environment::Docs.program(project, "zensical"));
    stage.execute(build.current_dir(&folder).args(["build", "--strict"]).env("NO_COLOR", "1"))?;
    stage.note(&format!("{}", folder.join("site/index.html").display()))
}
