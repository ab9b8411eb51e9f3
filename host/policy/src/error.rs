//! Errors of checking and loading a component.

use std::path::{Path, PathBuf};

/// Why a component could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("component {path}: {problem}. Give `backend` a built-in name or the path of a .wasm file")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's message.
        problem: String,
    },
    /// The file's digest is not the pinned one.
    #[error(
        "component {path}: its sha256 is {found}, but {pinned_by} pins {expected}. Restore the pinned file, or change the pin if you trust this one"
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// The digest of the file as it is.
        found: String,
        /// The pinned digest.
        expected: String,
        /// The origin of the pin: the manifest's path, or the configuration.
        pinned_by: String,
    },
    /// The file exceeds the maximum size.
    #[error("component {path}: {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file is not a WebAssembly component.
    #[error("component {path}: {problem}")]
    NotAComponent {
        /// The file.
        path: PathBuf,
        /// What the file is instead, or where it is damaged.
        problem: String,
    },
    /// The component was built against another version of the contract.
    #[error(
        "component {path}: built for {found}, but this host supports {supported}. Use a component built for that version, or another version of dagster-ray-wasm"
    )]
    Contract {
        /// The file.
        path: PathBuf,
        /// The interface that the component names.
        found: String,
        /// The versions that the host supports.
        supported: String,
    },
    /// The component exports no interface of the contract.
    #[error("component {path}: exports no interface of dagster-ray:backend. It exports: {exports}")]
    NoBackend {
        /// The file.
        path: PathBuf,
        /// The component's exports.
        exports: String,
    },
    /// An export does not match the contract.
    #[error(
        "component {path}: its export {interface} does not match the contract: {function}: {problem}. This host implements dagster-ray:backend@{host_version}: build the component against the WIT of that version"
    )]
    ContractMismatch {
        /// The file.
        path: PathBuf,
        /// The interface, as the component names it.
        interface: String,
        /// The function that differs.
        function: String,
        /// The difference.
        problem: String,
        /// The version of the contract that the host implements.
        host_version: String,
    },
    /// The component imports an interface that its manifest does not grant, or that the operator revoked.
    #[error(
        "component {path}: imports {import}, which is not granted. To allow it, add to {location}: {grant}"
    )]
    MissingGrant {
        /// The file.
        path: PathBuf,
        /// The interface.
        import: String,
        /// Where to add the grant: the manifest's `[grants]`, or the operator's.
        location: String,
        /// The line to add.
        grant: String,
    },
    /// The component imports an interface that no grant provides.
    #[error("component {path}: imports {import}, which this host does not provide")]
    UnknownImport {
        /// The file.
        path: PathBuf,
        /// The interface.
        import: String,
    },
    /// The manifest is invalid.
    #[error("manifest {path}: {problem}")]
    Manifest {
        /// The manifest's path.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The policy of the instance requires a signature that the component does not have.
    #[error("component {path}: {problem}")]
    Signature {
        /// The file.
        path: PathBuf,
        /// What is wrong with the signature, and what to do.
        problem: String,
    },
    /// The operator's restriction is invalid.
    #[error("{0}")]
    Restriction(String),
    /// wasmtime failed.
    #[error("the WebAssembly engine: {0}")]
    Engine(String),
}

impl LoadError {
    /// Returns the file that the error is about.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unreadable { path, .. }
            | Self::Digest { path, .. }
            | Self::TooLarge { path, .. }
            | Self::NotAComponent { path, .. }
            | Self::Contract { path, .. }
            | Self::NoBackend { path, .. }
            | Self::ContractMismatch { path, .. }
            | Self::MissingGrant { path, .. }
            | Self::UnknownImport { path, .. }
            | Self::Manifest { path, .. }
            | Self::Signature { path, .. } => Some(path),
            Self::Restriction(_) | Self::Engine(_) => None,
        }
    }
}
