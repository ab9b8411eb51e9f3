//! Installs PostgreSQL, Debian's package, for the tests of a production deployment's storage.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::project::Project;
use crate::stages::{Stage, Stages};

/// The folder in which Debian keeps the programs of each version.
const FOLDER: &str = "/usr/lib/postgresql";
/// A program that only the server's package has.
const PROGRAM: &str = "initdb";
const PACKAGE: &str = "postgresql";

/// Installs PostgreSQL if this machine does not have it.
pub(crate) fn install(project: &Project, stages: &Stages) -> bool {
    if is_installed()
        || std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|directory| directory.join(PROGRAM).is_file())
        })
    {
        return true;
    }
    stages.run(PACKAGE, |stage| {
        apt_get(project, stage).with_context(|| {
            format!("PostgreSQL is not installed. Install it, such as with `apt-get install {PACKAGE}`")
        })
    })
}

fn is_installed() -> bool {
    let Ok(versions) = Path::new(FOLDER).read_dir() else { return false };
    versions.flatten().any(|version| version.path().join("bin").join(PROGRAM).is_file())
}

fn apt_get(project: &Project, stage: &mut Stage) -> Result<()> {
    for arguments in [&["update"] as &[_], &["install", "--yes", "--no-install-recommends", PACKAGE]] {
        let mut apt_get = project.program("apt-get");
        apt_get.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        stage.execute(&mut apt_get)?;
    }
    if !is_installed() {
        bail!("the package has no {FOLDER}/*/bin/{PROGRAM}");
    }
    Ok(())
}
