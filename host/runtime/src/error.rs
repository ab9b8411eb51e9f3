//! How loading a component and calling it fail.

use std::path::PathBuf;

use crate::bindings::dagster_ray::host::model;

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
    /// The component imports something that its manifest does not grant.
    #[error(
        "component {path}: imports {import}, which is not granted. To allow it, add to [grants] in {manifest}: {grant}"
    )]
    Ungranted {
        /// The file.
        path: PathBuf,
        /// The interface.
        import: String,
        /// The manifest.
        manifest: PathBuf,
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
    /// The cassette to record to or to answer from cannot be used.
    #[error(transparent)]
    Cassette(#[from] crate::capability::http::cassette::CassetteError),
    /// wasmtime refused.
    #[error("the WebAssembly engine: {0}")]
    Engine(String),
}

impl LoadError {
    pub(crate) fn engine(error: wasmtime::Error) -> Self {
        Self::Engine(format!("{error:#}"))
    }

    /// The file that the error is about.
    pub fn path(&self) -> Option<&std::path::Path> {
        match self {
            Self::Unreadable { path, .. }
            | Self::Digest { path, .. }
            | Self::TooLarge { path, .. }
            | Self::NotAComponent { path, .. }
            | Self::Contract { path, .. }
            | Self::NoBackend { path, .. }
            | Self::Ungranted { path, .. }
            | Self::Unknown { path, .. }
            | Self::Manifest { path, .. } => Some(path),
            Self::Cassette(error) => Some(&error.path),
            Self::Engine(_) => None,
        }
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The component could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The component does not export what was called.
    #[error("{component} does not offer {export}. It offers: {offered}")]
    NotOffered {
        /// The component.
        component: String,
        /// What was called.
        export: String,
        /// Its exports.
        offered: String,
    },
    /// The arguments do not fit the export.
    #[error("{component}: {export}: the arguments do not fit the contract: {problem}")]
    Arguments {
        /// The component.
        component: String,
        /// What was called.
        export: String,
        /// What is wrong with them.
        problem: String,
    },
    /// The component answered with an error of the contract.
    #[error("{component}: {export}: {}", explain(.error))]
    Answered {
        /// The component.
        component: String,
        /// What was called.
        export: String,
        /// Its answer.
        error: Box<model::Error>,
    },
    /// The component has a defect.
    #[error("{component}: {export}: the component failed: {reason}{}", tail(.stderr))]
    Trap {
        /// The component.
        component: String,
        /// What was called.
        export: String,
        /// Why it stopped.
        reason: String,
        /// What it wrote on its standard error, cut to the host's limit.
        stderr: String,
    },
    /// The call took longer than it may.
    #[error("{component}: {export}: not finished within {seconds} s, and stopped")]
    Deadline {
        /// The component.
        component: String,
        /// What was called.
        export: String,
        /// The limit.
        seconds: f64,
    },
    /// The caller gave up.
    #[error("{component}: {export}: cancelled")]
    Cancelled {
        /// The component.
        component: String,
        /// What was called.
        export: String,
    },
}

fn tail(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("\nThe component wrote:\n{}", stderr.trim_end()) }
}

fn explain(error: &model::Error) -> String {
    use model::Error as E;
    match error {
        E::InvalidConfig(fields) => {
            let mut text = String::from("the configuration is wrong:");
            for field in fields {
                text.push_str(&format!("\n  {}: {}", field.path, field.problem));
                if let Some(hint) = &field.hint {
                    text.push_str(&format!(" ({hint})"));
                }
            }
            text
        }
        E::NotFound(what) => format!("not found: {what}"),
        E::Conflict(what) => format!("conflict: {what}"),
        E::Denied(denial) => format!(
            "the host refused {} to {}. To allow it, add to [grants] in the component's manifest: {}",
            denial.capability, denial.target, denial.grant
        ),
        E::Unavailable(hint) => hint.reason.clone(),
        E::Timeout(ms) => format!("not finished within {} s", *ms as f64 / 1000.0),
        E::Cancelled => "cancelled".into(),
        E::Unsupported(what) => what.clone(),
        E::Backend(api) if api.status != 0 => format!("HTTP {} {}: {}", api.status, api.reason, api.message),
        E::Backend(api) => format!("{}: {}", api.reason, api.message),
        E::Other(text) => text.clone(),
    }
}
