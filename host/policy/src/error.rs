//! How checking and loading a component fail.

use std::path::{Path, PathBuf};

/// Why a component could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("component {path}: {problem}. Give `backend` a built-in name or the path of a .wasm file")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's word on it.
        problem: String,
    },
    /// The file's digest is not the pinned one.
    #[error(
        "component {path}: its sha256 is {found}, but {pinned_by} pins {expected}. Put the pinned file back, or change the pin if you trust this one"
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// The digest of the file as it is.
        found: String,
        /// The digest that was asked for.
        expected: String,
        /// Who asked: the manifest's path, or the configuration.
        pinned_by: String,
    },
    /// The file is larger than a component may be.
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
        /// What it is instead, or where it breaks.
        problem: String,
    },
    /// The component was built against another version of the contract.
    #[error(
        "component {path}: built for {found}, but this host speaks {supported}. Use a component built for that version, or another version of dagster-ray-wasm"
    )]
    Contract {
        /// The file.
        path: PathBuf,
        /// The interface that it names.
        found: String,
        /// What the host offers.
        supported: String,
    },
    /// The component exports nothing that the host could call.
    #[error("component {path}: exports no interface of dagster-ray:backend. It exports: {exports}")]
    NoBackend {
        /// The file.
        path: PathBuf,
        /// What it exports.
        exports: String,
    },
    /// An export is not what the contract says it is.
    #[error(
        "component {path}: its export {interface} is not the contract's: {function}: {problem}. This host speaks dagster-ray:backend@{speaks}: build the component against the WIT of that version"
    )]
    World {
        /// The file.
        path: PathBuf,
        /// The interface, as the component names it.
        interface: String,
        /// The function that differs.
        function: String,
        /// In what it differs.
        problem: String,
        /// The version of the contract that the host speaks.
        speaks: String,
    },
    /// The component imports something that its manifest does not grant, or the operator takes away.
    #[error("component {path}: imports {import}, which is not granted. To allow it, add to {place}: {grant}")]
    Ungranted {
        /// The file.
        path: PathBuf,
        /// The interface.
        import: String,
        /// Where the grant is missing: the manifest's `[grants]`, or the operator's.
        place: String,
        /// The line to add.
        grant: String,
    },
    /// The component imports something that no grant can give.
    #[error("component {path}: imports {import}, which this host does not offer to anyone")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The interface.
        import: String,
    },
    /// The manifest is wrong.
    #[error("manifest {path}: {problem}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// What the operator allows is no such thing.
    #[error("{0}")]
    Narrowing(String),
    /// The cassette to record to, or to answer from, cannot be used.
    #[error("cassette {path}: {problem}")]
    Cassette {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// wasmtime refused.
    #[error("the WebAssembly engine: {0}")]
    Engine(String),
}

impl LoadError {
    /// The file that the error is about.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unreadable { path, .. }
            | Self::Digest { path, .. }
            | Self::TooLarge { path, .. }
            | Self::NotAComponent { path, .. }
            | Self::Contract { path, .. }
            | Self::NoBackend { path, .. }
            | Self::World { path, .. }
            | Self::Ungranted { path, .. }
            | Self::Unknown { path, .. }
            | Self::Manifest { path, .. }
            | Self::Cassette { path, .. } => Some(path),
            Self::Narrowing(_) | Self::Engine(_) => None,
        }
    }
}
