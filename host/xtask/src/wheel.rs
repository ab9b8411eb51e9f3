//! `cargo xtask wheel`: what is published.

use crate::components;
use crate::project::Project;
use crate::setup;
use crate::stages::Stages;

const MATURIN: &str = "maturin==1.16.0";

/// Builds the wheel, with the components inside it, into `dist/`.
pub(crate) fn run(project: &Project, stages: &mut Stages) {
    let _ = setup::run(project, stages)
        && stages.run("components", |stage| components::build(project, stage))
        && stages.run("maturin", |stage| {
            stage.execute(project.program(project.venv_program("python")).args([
                "-m",
                "pip",
                "install",
                "--disable-pip-version-check",
                MATURIN,
            ]))
        })
        && stages.run("wheel", |stage| {
            stage.execute(
                project
                    .program(project.venv_program("maturin"))
                    .args(["build", "--release", "--locked", "--out", "dist"])
                    .args(["--manifest-path", "host/python/Cargo.toml"]),
            )
        });
}
