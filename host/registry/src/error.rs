//! The errors of pulling and pushing components.

use std::path::PathBuf;

use dagster_ray_policy::LoadError;

/// Why a component could not be pulled from a registry or pushed to it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The text is not a valid reference.
    #[error("invalid reference {text}: {problem}. Write oci://host/name:tag or oci://host/name@sha256:…")]
    InvalidReference {
        /// The text as written.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The reference has no digest.
    #[error(
        "{text} has no digest, and a tag can be moved to other content. Run `dagster-ray pull {text}` and write the reference that it prints"
    )]
    NoDigest {
        /// The text as written.
        text: String,
    },
    /// The reference to push to has a digest.
    #[error(
        "{text}: a digest cannot be chosen, because it is computed by the push; write oci://host/name:tag"
    )]
    DigestInPush {
        /// The text as written.
        text: String,
    },
    /// The registry could not be reached or returned an error.
    #[error("{reference}: the registry cannot be used: {problem}")]
    Unavailable {
        /// The artifact.
        reference: String,
        /// What happened.
        problem: String,
    },
    /// The registry has no artifact with this name, tag or digest.
    #[error("{reference}: the registry has no such artifact")]
    NotFound {
        /// The artifact.
        reference: String,
    },
    /// The registry denies access to this user.
    #[error(
        "{reference}: the registry denies access: {problem}. Run `docker login {registry}` to store credentials"
    )]
    Refused {
        /// The artifact.
        reference: String,
        /// The registry.
        registry: String,
        /// The reason that it gives.
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
    /// The artifact is not a component.
    #[error("{reference}: {problem}")]
    NotAComponent {
        /// The artifact.
        reference: String,
        /// Why it is not one.
        problem: String,
    },
    /// The received content does not match its digest.
    #[error(
        "{reference}: the received content has the digest {found}, expected {expected}: the registry or a proxy changed it. Nothing was stored"
    )]
    Digest {
        /// The artifact.
        reference: String,
        /// The digest of the received content.
        found: String,
        /// The expected digest.
        expected: String,
    },
    /// The download has fewer or more bytes than the manifest announces.
    #[error("{reference}: received {found} of {expected} bytes. Nothing was stored; try again")]
    Incomplete {
        /// The artifact.
        reference: String,
        /// The number of bytes received.
        found: u64,
        /// The number of bytes announced.
        expected: u64,
    },
    /// The file to push is not a loadable component.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A local file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// There is no cache directory for pulled components.
    #[error("there is no cache directory for pulled components: set DAGSTER_RAY_CACHE_DIR")]
    NoCacheDirectory,
    /// The host failed before the registry answered, for example because no thread could be started.
    #[error("the request to the registry could not be completed: {0}")]
    Internal(String),
}

impl RegistryError {
    /// Returns whether a retry may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Incomplete { .. })
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
