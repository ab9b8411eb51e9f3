//! Installs Debian's packages of programs that tests need and that no language's registry has.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::project::Project;
use crate::stages::{Stage, Stages};

/// A package, and a program that only this package has.
pub(crate) struct Package {
    name: &'static str,
    program: &'static str,
    /// Folders outside of PATH with the program, one for each installed version.
    versions: Option<(&'static str, &'static str)>,
}

/// The storage of production deployments.
pub(crate) const POSTGRESQL: Package =
    Package { name: "postgresql", program: "initdb", versions: Some(("/usr/lib/postgresql", "bin")) };
/// The browser in which the tests open Dagster's UI.
pub(crate) const CHROMIUM: Package = Package { name: "chromium", program: "chromium", versions: None };

/// Installs the packages that this machine does not have. Returns whether it has all of them then.
pub(crate) fn install(project: &Project, stages: &Stages, packages: &[Package]) -> bool {
    let missing: Vec<_> = packages.iter().filter(|package| !package.is_installed()).collect();
    missing.is_empty() || stages.run("debian packages", |stage| apt_get(project, stage, &missing))
}

impl Package {
    fn is_installed(&self) -> bool {
        let is_file = |folder: &Path| folder.join(self.program).is_file();
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let versions =
            self.versions.and_then(|(folder, below)| Some((Path::new(folder).read_dir().ok()?, below)));
        std::env::split_paths(&paths).any(|folder| is_file(&folder))
            || versions.is_some_and(|(mut folders, below)| {
                folders.any(|version| version.is_ok_and(|version| is_file(&version.path().join(below))))
            })
    }
}

fn apt_get(project: &Project, stage: &mut Stage, packages: &[&Package]) -> Result<()> {
    let names = packages.iter().map(|package| package.name);
    let install = ["install", "--yes", "--no-install-recommends"].into_iter().chain(names.clone());
    for arguments in [vec!["update"], install.collect()] {
        let mut apt_get = project.program("apt-get");
        apt_get.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        stage.execute(&mut apt_get).with_context(|| {
            let names = names.clone().collect::<Vec<_>>().join(" ");
            format!(
                "programs are missing that tests need. Install them, such as with `apt-get install {names}`"
            )
        })?;
    }
    if let Some(package) = packages.iter().find(|package| !package.is_installed()) {
        bail!("the package {} has no program {}", package.name, package.program);
    }
    Ok(())
}
