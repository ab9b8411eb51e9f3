//! A manifest and its signature, as arbitrary text: only the manifest that was signed is accepted, and each refusal
//! names the component and what the policy requires or what is wrong.
//!
//! The text is split at the first NUL: the manifest, then the signature.

use dagster_ray_policy::instance::InstancePolicy;
use dagster_ray_policy::signature::Subject;

use crate::text;

/// A public key. Its secret key has signed [`SIGNED`] once, in the corpus, and nothing else.
const KEY: &str = "RWQBI0VniavN7yNlTvJEOXGN33pPDb/T0Ch40mVkHf7IdybrzREf4wSZ";
const SIGNED: &str = "id = \"a\"\nsha256 = \"00\"\n";

/// Checks the properties for one input. Panics if one is violated.
pub fn check(data: &[u8]) {
    let (manifest, signature) = text(data).split_once('\0').unwrap_or((text(data), ""));
    let policy = format!("[signatures.keys]\nours = \"{KEY}\"\n");
    let policy = InstancePolicy::parse(&policy, "dagster-ray.toml").expect("the policy is valid");
    let trusted = policy.trusted_keys().expect("the policy requires signatures");
    let subject = Subject::artifact("oci://registry.example/a");
    match trusted.verify(&subject, Some(manifest), Some(signature)) {
        Ok(accepted) => {
            assert_eq!(manifest, SIGNED);
            assert_eq!(accepted.sha256.as_deref(), Some("00"));
            assert_eq!(trusted.signer(manifest, signature), Some("ours"));
        }
        Err(error) => {
            let error = error.to_string();
            assert!(error.starts_with("component oci://registry.example/a: "), "{error:?}");
            assert!(error.contains("dagster-ray sign"), "{error:?}");
            assert_eq!(trusted.signer(manifest, signature), None);
        }
    }
}
