//! The answers of a registry, as arbitrary bytes: they are parsed or rejected with a message without control
//! characters, and an accepted artifact has a bounded size.
//!
//! The bytes are split at the first NUL: a challenge, then an image manifest.

use dagster_ray_policy::MAX_COMPONENT_BYTES;
use dagster_ray_registry::answers;

use crate::text;

/// Checks the properties for one input. Panics if one is violated.
pub fn check(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (challenge, manifest) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    if let Some(realm) = answers::token_server(text(challenge)) {
        assert!(!realm.contains(char::is_control), "{realm:?}");
    }
    match answers::component_size("oci://registry.example/backend", manifest) {
        Ok(size) => assert!(size <= MAX_COMPONENT_BYTES),
        Err(error) => {
            let error = error.to_string();
            assert!(error.starts_with("oci://registry.example/backend: "), "{error:?}");
        }
    }
}
