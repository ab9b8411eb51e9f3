//! A real registry for the tests of `dagster-ray push` and `pull`, built from its Go module as the
//! cluster's programs are.

use std::path::PathBuf;

use crate::cluster::{Cluster, Program};
use crate::project::Project;
use crate::stages::Stages;

/// Where the tests look for the program.
pub(crate) const VARIABLE: &str = "DAGSTER_RAY_TEST_REGISTRY";

const REGISTRY: Program = Program {
    name: "registry",
    group: "registry",
    module: "github.com/distribution/distribution/v3",
    package: "github.com/distribution/distribution/v3/cmd/registry",
    version_stamp: None,
};

/// The program, built if it is not there yet; nothing, if that failed.
pub(crate) fn build(project: &Project, stages: &Stages) -> Option<PathBuf> {
    let mut program = None;
    stages.run(REGISTRY.name, |stage| {
        let programs = Cluster::find(project)?;
        programs.program(&REGISTRY, stage)?;
        program = Some(programs.directory(&REGISTRY)?.join(REGISTRY.name));
        Ok(())
    });
    program
}
