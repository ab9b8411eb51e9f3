//! What every command is given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dagster_ray_runtime::{Host, HostOptions, LoadError};

use crate::interrupt::Interrupt;
use crate::output::Output;

/// What belongs to the package that the command came with.
#[derive(Debug, Clone)]
pub struct Installation {
    /// The folder with the built-in components.
    pub components: PathBuf,
    /// The commands behind the programs that a component may be granted: `python`, and `ray` for
    /// Ray's own command line.
    pub programs: BTreeMap<String, Vec<String>>,
    /// The folder whose compiled code is as trusted as this program, if it was installed with one.
    pub installed: Option<PathBuf>,
}

impl Installation {
    /// That of a program without a Python package around it: the components in the folder that
    /// `DAGSTER_RAY_COMPONENTS` names, beside the program, or in the source tree.
    pub fn of_program() -> Self {
        let named = std::env::var_os("DAGSTER_RAY_COMPONENTS").filter(|value| !value.is_empty());
        let beside = std::env::current_exe()
            .ok()
            .and_then(|program| Some(program.parent()?.join("components")))
            .filter(|folder| folder.is_dir());
        let built = || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("python/dagster_ray/components");
        let components = named.map(PathBuf::from).or(beside).unwrap_or_else(built);
        let programs = [("python", "python3"), ("ray", "ray")];
        let programs = programs.map(|(name, file)| (name.to_owned(), vec![file.to_owned()]));
        Self { components, programs: programs.into(), installed: None }
    }
}

/// What every command is given.
pub(crate) struct Context {
    /// Where its words go.
    pub(crate) output: Output,
    /// Whether the user has given up.
    pub(crate) interrupt: Interrupt,
    /// What the command came with.
    pub(crate) installation: Installation,
    host: Option<Host>,
}

impl Context {
    pub(crate) fn new(output: Output, interrupt: Interrupt, installation: Installation) -> Self {
        Self { output, interrupt, installation, host: None }
    }

    /// The host of this process, started when it is first needed.
    ///
    /// # Errors
    /// Where the engine cannot be started.
    pub(crate) fn host(&mut self) -> Result<Host, LoadError> {
        match &self.host {
            Some(host) => Ok(host.clone()),
            None => {
                let installed = self.installation.installed.clone();
                let host = Host::start_with(HostOptions { installed, ..HostOptions::of_environment()? })?;
                Ok(self.host.insert(host).clone())
            }
        }
    }

    /// Stops what components have started.
    pub(crate) fn close(&mut self) {
        if let Some(host) = self.host.take() {
            host.shutdown(std::time::Duration::from_secs(15));
        }
    }
}
