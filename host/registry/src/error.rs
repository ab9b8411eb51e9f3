//! How getting a component out of a registry fails, or putting one in.

use std::path::PathBuf;

use dagster_ray_policy::LoadError;

/// Why a component could not be had from a registry, or be put there.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// What was written is no reference.
    #[error(
        "{text}: {problem}. Write oci://host/name@sha256:…, or oci://host/name:tag where a tag is enough"
    )]
    Reference {
        /// What was written.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The reference has no digest.
    #[error(
        "{text}: has no digest, and what a tag stands for may change at any time. `dagster-ray pull {text}` prints the reference with its digest: write that one"
    )]
    NoDigest {
        /// What was written.
        text: String,
    },
    /// The registry could not be reached, or failed.
    #[error("{reference}: the registry cannot be used: {problem}")]
    Unavailable {
        /// The artifact.
        reference: String,
        /// What happened.
        problem: String,
    },
    /// The registry has nothing of that name.
    #[error("{reference}: the registry has no such artifact")]
    NotFound {
        /// The artifact.
        reference: String,
    },
    /// The registry does not let this user in.
    #[error(
        "{reference}: the registry refuses this user: {problem}. `docker login {registry}` keeps credentials where they are looked for"
    )]
    Refused {
        /// The artifact.
        reference: String,
        /// The registry.
        registry: String,
        /// Its word on it.
        problem: String,
    },
    /// The credentials of the registry cannot be read.
    #[error("the credentials for {registry} cannot be used: {problem}")]
    Credentials {
        /// The registry.
        registry: String,
        /// What is wrong.
        problem: String,
    },
    /// The artifact is no component.
    #[error("{reference}: {problem}")]
    NotAComponent {
        /// The artifact.
        reference: String,
        /// What it is instead.
        problem: String,
    },
    /// What came is not what the digest promises.
    #[error(
        "{reference}: what came has the digest {found}, not {expected}: the registry, or something before it, changed it. Nothing was kept"
    )]
    Digest {
        /// The artifact.
        reference: String,
        /// The digest of what came.
        found: String,
        /// The digest that was promised.
        expected: String,
    },
    /// Less came than there is, or more.
    #[error("{reference}: {found} bytes came of {expected}. Nothing was kept; try again")]
    Cut {
        /// The artifact.
        reference: String,
        /// How many bytes came.
        found: u64,
        /// How many there should be.
        expected: u64,
    },
    /// The component cannot be pushed as it is.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A file of this machine cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word on it.
        source: std::io::Error,
    },
    /// There is no folder for what is pulled.
    #[error("there is no place for pulled components: set DAGSTER_RAY_CACHE_DIR")]
    NoPlace,
    /// The thread that asked the registry ended without an answer.
    #[error("asking the registry ended without an answer: {0}")]
    Host(String),
}

impl RegistryError {
    /// Whether the same may succeed a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Cut { .. })
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
