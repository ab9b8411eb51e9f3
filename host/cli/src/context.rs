//! The state that every command receives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dagster_ray_runtime::capability::processes::SharedProgramOptions;
use dagster_ray_runtime::instance::PolicyText;
use dagster_ray_runtime::{Host, HostOptions, TrustedKeys};

use crate::exit::Refused;
use crate::interrupt::Interrupt;
use crate::output::Output;

/// The files of the package that the command belongs to.
#[derive(Debug, Clone)]
pub struct Installation {
    /// The folder with the built-in components.
    pub components: PathBuf,
    /// The command lines of the programs that a component may be granted: `python`, and `ray` for Ray's CLI.
    pub programs: BTreeMap<String, Vec<String>>,
    /// The folder with trusted compiled code, if the program was installed with one.
    pub installed: Option<PathBuf>,
    /// How to run programs that outlive the command.
    pub shared_programs: Option<SharedProgramOptions>,
}

impl Installation {
    /// Returns the installation of a program without a Python package.
    ///
    /// The components are in the folder of `DAGSTER_RAY_COMPONENTS`, beside the program, or in the source
    /// tree.
    pub fn from_environment() -> Self {
        let named = std::env::var_os("DAGSTER_RAY_COMPONENTS").filter(|value| !value.is_empty());
        let beside = std::env::current_exe()
            .ok()
            .and_then(|program| Some(program.parent()?.join("components")))
            .filter(|folder| folder.is_dir());
        let built = || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("python/dagster_ray/components");
        let components = named.map(PathBuf::from).or(beside).unwrap_or_else(built);
        let programs = [("python", "python3"), ("ray", "ray")];
        let programs = programs.map(|(name, file)| (name.to_owned(), vec![file.to_owned()]));
        Self { components, programs: programs.into(), installed: None, shared_programs: None }
    }
}

/// The state that every command receives.
pub(crate) struct Context {
    /// Standard output and standard error.
    pub(crate) output: Output,
    /// Whether the user has interrupted the command.
    pub(crate) interrupt: Interrupt,
    /// The package that the command belongs to.
    pub(crate) installation: Installation,
    host: Option<Host>,
}

impl Context {
    pub(crate) fn new(output: Output, interrupt: Interrupt, installation: Installation) -> Self {
        Self { output, interrupt, installation, host: None }
    }

    /// Returns the host of this process, and starts it on first use. It records or replays requests if the
    /// environment asks for it.
    ///
    /// # Errors
    /// If the engine cannot be started, or the cassette of the environment cannot be used.
    pub(crate) fn host(&mut self) -> anyhow::Result<Host> {
        match &self.host {
            Some(host) => Ok(host.clone()),
            None => {
                let interceptor =
                    dagster_ray_recording::from_environment().map_err(|error| Refused(error.to_string()))?;
                let installed = self.installation.installed.clone();
                let shared_programs = self.installation.shared_programs.clone();
                let host = Host::start_with(HostOptions {
                    interceptor,
                    installed,
                    shared_programs,
                    ..HostOptions::default()
                })?;
                Ok(self.host.insert(host).clone())
            }
        }
    }

    /// Returns the keys of which one must have signed a component, by the policy of the environment.
    ///
    /// # Errors
    /// If the policy cannot be read.
    pub(crate) fn trusted_keys(&self) -> anyhow::Result<Option<TrustedKeys>> {
        let policy = PolicyText::find(None).map_err(|error| Refused(error.to_string()))?;
        let policy = policy.parse().map_err(|error| Refused(error.to_string()))?;
        Ok(policy.trusted_keys().cloned())
    }

    /// Stops the programs that components have started.
    pub(crate) fn close(&mut self) {
        if let Some(host) = self.host.take() {
            host.shutdown(std::time::Duration::from_secs(15));
        }
    }
}
