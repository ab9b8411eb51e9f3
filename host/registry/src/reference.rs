//! References to artifacts: `oci://host/name:tag` and `oci://host/name@sha256:…`.

use std::fmt;
use std::net::IpAddr;

use oci_client::Reference as OciReference;

use crate::error::RegistryError;

/// The prefix of a reference.
pub const SCHEME: &str = "oci://";

/// A reference to an artifact, with or without a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference(OciReference);

impl Reference {
    /// Parses `oci://host/name:tag`, `oci://host/name@sha256:…` or both together.
    ///
    /// # Errors
    /// If `text` is not such a reference.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let wrong = |problem: String| RegistryError::InvalidReference { text: text.to_owned(), problem };
        let rest =
            text.strip_prefix(SCHEME).ok_or_else(|| wrong(format!("it does not begin with {SCHEME}")))?;
        // The grammar of `OciReference` reads a name without a host as one on Docker Hub.
        match rest.split_once('/') {
            Some((host, name)) if !name.is_empty() && host.contains(['.', ':']) || is_on_localhost(rest) => {}
            _ => return Err(wrong("it names no registry host".into())),
        }
        let reference: OciReference =
            rest.parse().map_err(|error: oci_client::ParseError| wrong(error.to_string()))?;
        if let Some(digest) = reference.digest()
            && !digest.starts_with("sha256:")
        {
            return Err(wrong(format!("the digest {digest} is not a sha256")));
        }
        Ok(Self(reference))
    }

    /// Returns the last segment of the artifact's name.
    pub fn name(&self) -> &str {
        let repository = self.0.repository();
        repository.rsplit('/').next().unwrap_or(repository)
    }

    /// Returns the registry's host, with the port if there is one.
    pub fn registry(&self) -> &str {
        self.0.registry()
    }

    /// Returns the reference with a digest, given as hexadecimal sha256, and without a tag.
    pub fn pinned(&self, digest: &str) -> PinnedReference {
        let (registry, repository) = (self.0.registry().to_owned(), self.0.repository().to_owned());
        PinnedReference(Self(OciReference::with_digest(registry, repository, format!("sha256:{digest}"))))
    }

    /// Returns the hexadecimal sha256 of the digest, if there is one.
    pub fn digest(&self) -> Option<&str> {
        self.0.digest().and_then(|digest| digest.strip_prefix("sha256:"))
    }

    pub(crate) fn as_oci(&self) -> &OciReference {
        &self.0
    }

    /// Returns whether the registry is on loopback, where registries have no certificate.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.registry();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        host == "localhost"
            || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }
}

fn is_on_localhost(rest: &str) -> bool {
    rest.starts_with("localhost/")
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.0)
    }
}

/// A reference with a digest, which always refers to the same content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedReference(Reference);

impl PinnedReference {
    /// Parses `oci://host/name@sha256:…`.
    ///
    /// # Errors
    /// If `text` is not a reference, or has no digest.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let reference = Reference::parse(text)?;
        match reference.digest() {
            Some(digest) => Ok(reference.pinned(digest)),
            None => Err(RegistryError::NoDigest { text: text.to_owned() }),
        }
    }

    /// Returns the reference as a [`Reference`].
    pub fn reference(&self) -> &Reference {
        &self.0
    }

    /// Returns the sha256 of the artifact's manifest, in hexadecimal.
    pub fn sha256(&self) -> &str {
        self.0.digest().unwrap_or_default()
    }
}

impl fmt::Display for PinnedReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

    #[test]
    fn a_pinned_reference_drops_the_tag() {
        let text = format!("oci://ghcr.io/team/backend:1.2@sha256:{DIGEST}");
        let pinned = PinnedReference::parse(&text).unwrap();
        assert_eq!(pinned.to_string(), format!("oci://ghcr.io/team/backend@sha256:{DIGEST}"));
        assert_eq!((pinned.sha256(), pinned.reference().name()), (DIGEST, "backend"));
    }

    #[test]
    fn a_reference_without_a_digest_suggests_pull() {
        let text = PinnedReference::parse("oci://ghcr.io/team/backend:1.2").unwrap_err().to_string();
        assert!(text.contains("dagster-ray pull oci://ghcr.io/team/backend:1.2"), "{text}");
    }

    #[test]
    fn a_reference_without_a_registry_host_is_refused() {
        for text in ["oci://backend:1", "oci://team/backend:1", "ghcr.io/team/backend:1", "oci://"] {
            let error = Reference::parse(text).unwrap_err().to_string();
            assert!(error.contains("oci://host/name"), "{error}");
        }
        assert!(Reference::parse(&format!("oci://ghcr.io/a@sha512:{DIGEST}{DIGEST}")).is_err());
        assert!(Reference::parse("oci://localhost/backend:1").is_ok());
    }

    #[test]
    fn plain_http_is_used_on_loopback_only() {
        let loopback = |text: &str| Reference::parse(text).unwrap().is_loopback();
        assert!(loopback("oci://127.0.0.1:5000/a") && loopback("oci://localhost:5000/a"));
        assert!(!loopback("oci://127.0.0.1.example:5000/a") && !loopback("oci://ghcr.io/a"));
    }
}
