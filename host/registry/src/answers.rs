//! The parsers of a registry's answers, for the fuzz target `registry_answers`.

use crate::artifact::Artifact;
use crate::error::RegistryError;
use crate::session::TokenServer;

/// Returns the URL of the token server that a value of `WWW-Authenticate` names, if there is one.
pub fn token_server(challenge: &str) -> Option<String> {
    TokenServer::read(challenge).map(|server| server.realm.to_string())
}

/// Returns the size of the component that an image manifest describes, in bytes.
///
/// # Errors
/// If the manifest is not that of a component, or the component is too large.
pub fn component_size(reference: &str, manifest: &[u8]) -> Result<u64, RegistryError> {
    Artifact::read(reference, manifest).map(|artifact| artifact.component.size)
}
