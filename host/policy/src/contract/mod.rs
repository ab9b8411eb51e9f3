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

/// The WIT files of the contract and of the WASI packages that it uses: each path below `wit/`, and the text.
pub const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/wit.rs"));

/// The folder of the package `dagster-ray:host` below `wit/`.
const HOST: &str = "deps/dagster-ray-host/";
/// The file with the worlds. They import WASI packages, which no exported function uses.
const WORLDS: &str = "worlds.wit";

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
        let mut push = |belongs: fn(&str) -> bool| {
            let mut sources = SourceMap::default();
            for (path, text) in FILES.iter().filter(|(path, _)| belongs(path)) {
                sources.push_str(path, *text);
            }
            let group = sources.parse().map_err(|(_, error)| error.to_string())?;
            resolve.push_group(group).map_err(|error| error.to_string())
        };
        push(|path| path.starts_with(HOST))?;
        let backend = push(|path| !path.contains('/') && path != WORLDS)?;
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
