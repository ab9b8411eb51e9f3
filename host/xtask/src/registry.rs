//! Builds a real OCI registry from its Go module, for the tests of `dagster-ray push` and `pull`.

use std::path::PathBuf;

use crate::cluster::{Cluster, Program};
use crate::project::Project;
use crate::stages::Stages;

/// The environment variable in which the tests find the program's path.
pub(crate) const VARIABLE: &str = "DAGSTER_RAY_TEST_REGISTRY";

const REGISTRY: Program = Program {
    name: "registry",
    group: "registry",
    module: "github.com/distribution/distribution/v3",
    package: "github.com/distribution/distribution/v3/cmd/registry",
    version_stamp: None,
};

/// Returns the path of the program. Builds it if it is not in the cache. Returns `None` if that failed.
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
