//! Signatures of components, in the format of minisign.
//!
//! The signature is that of the manifest, in the file `<name>.toml.minisig` beside it. The manifest pins the
//! component with `sha256`, so that one signature covers the grants and the code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use minisign_verify::{Error, PublicKey, Signature};
use serde::Deserialize;

use crate::error::LoadError;
use crate::manifest::Manifest;

/// Maximum size of a signature file, in bytes. A signature has about 300.
pub const MAX_SIGNATURE_BYTES: u64 = 4096;

/// The public keys of `[signatures]` in the policy of an instance. A component needs a signature by one of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Section")]
pub struct TrustedKeys {
    /// The keys by their names in the policy.
    keys: BTreeMap<String, TrustedKey>,
    /// The policy's name in messages.
    origin: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct TrustedKey {
    public: PublicKey,
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    keys: BTreeMap<String, String>,
}

impl TryFrom<Section> for TrustedKeys {
    type Error = String;

    fn try_from(section: Section) -> Result<Self, String> {
        let keys = section.keys.into_iter().map(|(name, text)| {
            let invalid = || {
                format!(
                    "the key {name:?} is no public key of minisign. Write the second line of the .pub file, which begins with RW"
                )
            };
            let public = PublicKey::from_base64(text.trim()).map_err(|_| invalid())?;
            let id = key_id(text.trim()).ok_or_else(invalid)?;
            Ok((name, TrustedKey { public, id }))
        });
        Ok(Self { keys: keys.collect::<Result<_, String>>()?, origin: "the policy".to_owned() })
    }
}

/// The component that a signature is verified for, and how messages name its parts.
#[derive(Debug, Clone)]
pub struct Subject {
    component: PathBuf,
    manifest: String,
    signature: String,
}

impl Subject {
    /// Returns the names of a component file and the files beside it.
    pub fn file(component: &Path) -> Self {
        Self {
            component: component.to_owned(),
            manifest: Manifest::path_of(component).display().to_string(),
            signature: signature_path(component).display().to_string(),
        }
    }

    /// Returns the names of an artifact in a registry, whose annotations are the manifest and its signature.
    pub fn artifact(reference: &str) -> Self {
        let annotation = |name: &str| format!("in the annotation io.github.dagster-ray.{name}");
        Self {
            component: reference.into(),
            manifest: annotation("manifest"),
            signature: annotation("signature"),
        }
    }
}

impl TrustedKeys {
    pub(crate) fn set_origin(&mut self, origin: &str) {
        self.origin = format!("the policy {origin}");
    }

    /// Verifies that one of the keys signed the manifest, and that the manifest pins the component. Returns the
    /// manifest.
    ///
    /// # Errors
    /// [`LoadError::Signature`] without such a signature, [`LoadError::Manifest`] if the signed manifest is invalid.
    pub fn verify(
        &self,
        subject: &Subject,
        manifest: Option<&str>,
        signature: Option<&str>,
    ) -> Result<Manifest, LoadError> {
        let refused = |problem: String| {
            let path = subject.component.clone();
            Err(LoadError::Signature { path, problem })
        };
        let Subject { manifest: path, signature: file, .. } = subject;
        let how = "review the component, and sign it: `dagster-ray sign FILE --key KEYFILE`";
        let Some(text) = manifest else {
            return refused(format!(
                "it cannot be signed, because it has no manifest {path}, and {}. Write a manifest, {how}",
                self.requirement()
            ));
        };
        let Some(signature) = signature else {
            return refused(format!(
                "it is not signed: there is no {file}, and {}. Get the signature from the component's author, or {how}",
                self.requirement()
            ));
        };
        let decoded = match Signature::decode(signature) {
            Ok(decoded) => decoded,
            Err(error) => {
                return refused(format!(
                    "the signature {file} is not in the format of minisign: {error}. Restore the file, or {how}"
                ));
            }
        };
        let id = signer_id(signature).unwrap_or_else(|| "?".to_owned());
        let mut named = String::new();
        for (name, key) in &self.keys {
            match key.public.verify(text.as_bytes(), &decoded, false) {
                Ok(()) => return pinned(subject, text, name, &key.id),
                Err(Error::UnexpectedKeyId) => {}
                Err(error) => {
                    named = match error {
                        Error::UnexpectedAlgorithm => format!(
                            "the signature {file} by {name} ({id}) has the legacy format without a hash. Sign again with `dagster-ray sign` or a version of minisign from 0.10"
                        ),
                        _ => format!(
                            "the manifest {path} is not the one that {name} ({id}) signed: the manifest or its signature was changed. Restore both files, or {how}"
                        ),
                    };
                }
            }
        }
        if named.is_empty() {
            named = format!(
                "it is signed by the key {id}, but {}. If you trust the owner of {id}, add the public key to [signatures.keys]; otherwise {how}",
                self.requirement()
            );
        }
        refused(named)
    }

    /// Verifies the signature beside a component file, as [`Self::verify`] does.
    ///
    /// # Errors
    /// As [`Self::verify`], and if the signature cannot be read.
    pub fn verify_file(&self, component: &Path, manifest: Option<&str>) -> Result<Manifest, LoadError> {
        let signature = read_signature(component)?;
        self.verify(&Subject::file(component), manifest, signature.as_deref())
    }

    /// Returns the name of the key that made the signature of a manifest.
    pub fn signer(&self, manifest: &str, signature: &str) -> Option<&str> {
        let decoded = Signature::decode(signature).ok()?;
        let signed = |key: &TrustedKey| key.public.verify(manifest.as_bytes(), &decoded, false).is_ok();
        self.keys.iter().find(|(_, key)| signed(key)).map(|(name, _)| name.as_str())
    }

    fn requirement(&self) -> String {
        let keys: Vec<_> = self.keys.iter().map(|(name, key)| format!("{name} ({})", key.id)).collect();
        match keys.as_slice() {
            [] => format!("{} allows only built-in components: [signatures] has no key", self.origin),
            keys => format!("{} requires a signature by {}", self.origin, keys.join(" or ")),
        }
    }
}

/// Returns the manifest that the key `name` signed. Without `sha256`, it would go with any component.
fn pinned(subject: &Subject, text: &str, name: &str, id: &str) -> Result<Manifest, LoadError> {
    let manifest = Manifest::parse(text, Path::new(&subject.manifest))?;
    if manifest.sha256.is_some() {
        return Ok(manifest);
    }
    Err(LoadError::Signature {
        path: subject.component.clone(),
        problem: format!(
            "the manifest {} that {name} ({id}) signed names no component: it has no sha256. Sign with `dagster-ray sign`, which adds it",
            subject.manifest
        ),
    })
}

/// Returns the path of the signature of a component's manifest.
pub fn signature_path(component: &Path) -> PathBuf {
    let mut path = Manifest::path_of(component).into_os_string();
    path.push(".minisig");
    path.into()
}

/// Reads the signature beside a component file; none if the file does not exist.
///
/// # Errors
/// If the file cannot be read, or is too long.
pub fn read_signature(component: &Path) -> Result<Option<String>, LoadError> {
    let path = signature_path(component);
    let refused = |problem: String| LoadError::Signature {
        path: component.to_owned(),
        problem: format!("the signature {}: {problem}", path.display()),
    };
    match crate::manifest::read_text(&path, MAX_SIGNATURE_BYTES) {
        Ok(Some(text)) if text.len() as u64 > MAX_SIGNATURE_BYTES => {
            Err(refused(format!("the file is longer than {MAX_SIGNATURE_BYTES} bytes")))
        }
        Ok(text) => Ok(text),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// Returns the id of the key that the text of a signature names. Its second line is the signature itself.
pub fn signer_id(signature: &str) -> Option<String> {
    signature.lines().nth(1).and_then(key_id)
}

/// Returns the id of a public key or a signature from its base64 text, as minisign prints it.
pub fn key_id(base64: &str) -> Option<String> {
    let bytes = BASE64_STANDARD.decode(base64).ok()?;
    let id = bytes.get(2..10)?;
    Some(id.iter().rev().map(|byte| format!("{byte:02X}")).collect())
}

#[cfg(test)]
mod tests;
