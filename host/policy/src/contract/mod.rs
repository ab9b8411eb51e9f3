//! Compares a component's exports, function by function, with the WIT files of `wit/`.
//!
//! The host's bindings are generated from the same files, so a component that passes can be called.
//! The error names the first difference, before anything is compiled.

mod compare;
mod interface;

use std::sync::OnceLock;

use wasmparser::types::TypesRef;
use wit_parser::{InterfaceId, Resolve, SourceMap};

use self::compare::Comparison;
pub use self::compare::Difference;
pub use self::interface::Interface;

/// The WIT files of the package `dagster-ray:host`.
const HOST: [(&str, &str); 5] = [
    ("host/model.wit", include_str!("../../../../wit/host/model.wit")),
    ("host/objects.wit", include_str!("../../../../wit/host/objects.wit")),
    ("host/packages.wit", include_str!("../../../../wit/host/packages.wit")),
    ("host/processes.wit", include_str!("../../../../wit/host/processes.wit")),
    ("host/sink.wit", include_str!("../../../../wit/host/sink.wit")),
];
/// The WIT files of the package `dagster-ray:backend`, without the worlds.
const BACKEND: [(&str, &str); 6] = [
    ("backend/cluster.wit", include_str!("../../../../wit/backend/cluster.wit")),
    ("backend/describe.wit", include_str!("../../../../wit/backend/describe.wit")),
    ("backend/executor.wit", include_str!("../../../../wit/backend/executor.wit")),
    ("backend/io.wit", include_str!("../../../../wit/backend/io.wit")),
    ("backend/launcher.wit", include_str!("../../../../wit/backend/launcher.wit")),
    ("backend/pipes.wit", include_str!("../../../../wit/backend/pipes.wit")),
];

/// The contract that this host implements.
pub struct Contract {
    resolve: Resolve,
    version: String,
    backend: wit_parser::PackageId,
}

impl Contract {
    /// Returns the contract of `wit/`, parsed once.
    ///
    /// # Errors
    /// If the embedded WIT text is invalid.
    pub fn get() -> Result<&'static Self, &'static str> {
        static CONTRACT: OnceLock<Result<Contract, String>> = OnceLock::new();
        CONTRACT
            .get_or_init(|| Self::parse().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(String::as_str)
    }

    fn parse() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut resolve = Resolve::default();
        let mut push = |files: &[(&str, &str)]| {
            let mut sources = SourceMap::default();
            for (name, text) in files {
                sources.push_str(name, *text);
            }
            let group = sources.parse().map_err(|(_, error)| error.to_string())?;
            resolve.push_group(group).map_err(|error| error.to_string())
        };
        push(&HOST)?;
        let backend = push(&BACKEND)?;
        let version =
            resolve.packages[backend].name.version.as_ref().map_or_else(String::new, ToString::to_string);
        Ok(Self { resolve, version, backend })
    }

    /// Returns the version of `dagster-ray:backend`, such as `0.1.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    fn interface(&self, interface: Interface) -> Option<InterfaceId> {
        self.resolve.packages[self.backend].interfaces.get(interface.name()).copied()
    }

    /// Returns the names of an interface's functions, in declaration order.
    pub fn functions(&self, interface: Interface) -> Vec<&str> {
        self.interface(interface)
            .map(|id| self.resolve.interfaces[id].functions.keys().map(String::as_str).collect())
            .unwrap_or_default()
    }

    /// Compares an exported interface with the contract.
    ///
    /// # Errors
    /// The first difference.
    pub(crate) fn compare(
        &self,
        interface: Interface,
        types: TypesRef<'_>,
        imports: &[String],
        export: &str,
    ) -> Result<(), Difference> {
        let Some(id) = self.interface(interface) else { return Ok(()) };
        Comparison::new(&self.resolve, types, imports).interface(&self.resolve.interfaces[id], export)
    }
}
