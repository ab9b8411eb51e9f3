//! Reads and writes the OCI artifact of a component.
//!
//! The layout is that of `wkg`, from the guidance of the CNCF's TAG Runtime (*Wasm OCI Artifact*): an
//! image manifest, a config that repeats the component's imports and exports, and the component as the
//! only layer. `wkg oci pull` rejects an artifact with a second layer, so the component's manifest is
//! an annotation, and the function names are a further key of the config. The artifact's digest covers both.

use std::collections::BTreeMap;

use dagster_ray_policy::signature::Subject;
use dagster_ray_policy::{LoadError, MAX_COMPONENT_BYTES, TrustedKeys, sha256};
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest};
use serde::Serialize;

use crate::error::RegistryError;

pub(crate) const CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub(crate) const LAYER: &str = "application/wasm";
/// The annotation that holds the component's manifest, as TOML.
pub(crate) const MANIFEST: &str = "io.github.dagster-ray.manifest";
/// The annotation that holds the signature of the component's manifest, in the format of minisign.
const SIGNATURE: &str = "io.github.dagster-ray.signature";
/// The annotation that holds the sha256 of the function names, and the key of the config that holds the names.
const NAMES: &str = "io.github.dagster-ray.names";
/// Maximum size of a names file, in bytes. The host reads no larger file.
pub(crate) const LARGEST_NAMES: u64 = 16 << 20;
/// Maximum size of a config with function names, in bytes: JSON writes a special character as several bytes.
const LARGEST_CONFIG: u64 = 2 * LARGEST_NAMES;
const TITLE: &str = "org.opencontainers.image.title";

/// The description of a component in its artifact's image manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    /// The component.
    pub(crate) component: Blob,
    /// The component's manifest as TOML, if one was pushed with it.
    pub(crate) manifest: Option<String>,
    /// The signature of the component's manifest, if it was pushed.
    pub(crate) signature: Option<String>,
    /// The function names, if they were pushed with the component.
    pub(crate) names: Option<FunctionNames>,
}

/// A blob of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) media_type: &'static str,
    /// The sha256 of the blob, in hexadecimal.
    pub(crate) sha256: String,
    /// Size in bytes.
    pub(crate) size: u64,
}

/// The function names of a component, which explain its traps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FunctionNames {
    /// The sha256 of the names file, in hexadecimal.
    pub(crate) sha256: String,
    /// The config, which contains the names.
    pub(crate) config: Blob,
}

impl Artifact {
    /// Parses an image manifest. The caller must have checked `bytes` against its digest.
    pub(crate) fn read(reference: &str, bytes: &[u8]) -> Result<Self, RegistryError> {
        let invalid =
            |problem: String| RegistryError::NotAComponent { reference: reference.to_owned(), problem };
        let manifest: OciImageManifest = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("not an image manifest: {error}. For an index of several artifacts, write the digest of one of them")))?;
        if manifest.config.media_type != CONFIG {
            return Err(invalid(format!(
                "not a WebAssembly component: the media type of its config is {}, not {CONFIG}. Push the component with `dagster-ray push` or `wkg oci push`",
                manifest.config.media_type
            )));
        }
        let [layer] = manifest.layers.as_slice() else {
            return Err(invalid(format!("expected one layer, found {}", manifest.layers.len())));
        };
        if layer.media_type != LAYER {
            return Err(invalid(format!("the media type of its layer is {}, not {LAYER}", layer.media_type)));
        }
        let component = Blob::new(LAYER, layer, "layer").map_err(invalid)?;
        if component.size > MAX_COMPONENT_BYTES {
            let size = component.size;
            return Err(invalid(format!(
                "the component has {size} bytes, more than the limit of {MAX_COMPONENT_BYTES}"
            )));
        }
        let mut annotations = manifest.annotations.unwrap_or_default();
        let names = match annotations.remove(NAMES) {
            Some(sha256) => {
                let config = Blob::new(CONFIG, &manifest.config, "config").map_err(invalid)?;
                if config.size > LARGEST_CONFIG {
                    let size = config.size;
                    return Err(invalid(format!(
                        "its config has {size} bytes, more than the limit of {LARGEST_CONFIG}"
                    )));
                }
                Some(FunctionNames { sha256, config })
            }
            None => None,
        };
        let (manifest, signature) = (annotations.remove(MANIFEST), annotations.remove(SIGNATURE));
        Ok(Self { component, manifest, signature, names })
    }

    /// Verifies that one of the keys signed the component.
    pub(crate) fn verify(&self, reference: &str, trusted: &TrustedKeys) -> Result<(), LoadError> {
        let subject = Subject::artifact(reference);
        let manifest = trusted.verify(&subject, self.manifest.as_deref(), self.signature.as_deref())?;
        let (found, expected) = (&self.component.sha256, manifest.sha256.unwrap_or_default());
        if expected.eq_ignore_ascii_case(found) {
            return Ok(());
        }
        Err(LoadError::Digest {
            path: reference.into(),
            found: found.clone(),
            expected,
            pinned_by: "its signed manifest".to_owned(),
        })
    }
}

impl Blob {
    /// Reads a descriptor. `what` names the blob in errors.
    fn new(media_type: &'static str, descriptor: &OciDescriptor, what: &str) -> Result<Self, String> {
        let sha256 = descriptor.digest.strip_prefix("sha256:").ok_or_else(|| {
            format!("the digest of its {what} is {}; only sha256 is supported", descriptor.digest)
        })?;
        let size = u64::try_from(descriptor.size).map_err(|_| format!("its {what} has a negative size"))?;
        Ok(Self { media_type, sha256: sha256.to_owned(), size })
    }
}

impl FunctionNames {
    /// Returns the names file from the config. The caller must have checked `config` against its digest.
    pub(crate) fn read(&self, reference: &str, config: &[u8]) -> Result<String, RegistryError> {
        let invalid =
            |problem: String| RegistryError::NotAComponent { reference: reference.to_owned(), problem };
        let document: serde_json::Value = serde_json::from_slice(config)
            .map_err(|error| invalid(format!("its config is not JSON: {error}")))?;
        let names = document.get(NAMES).and_then(serde_json::Value::as_str);
        let names = names.ok_or_else(|| invalid(format!("its config has no text under the key {NAMES}")))?;
        let found = sha256(names.as_bytes());
        if found != self.sha256 {
            return Err(invalid(format!(
                "the function names in its config have the digest {found}, expected {}",
                self.sha256
            )));
        }
        Ok(names.to_owned())
    }
}

/// The artifact's config: the component's digest, exports and imports.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config<'a> {
    created: &'static str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [String; 1],
    component: Interfaces<'a>,
    #[serde(rename = "io.github.dagster-ray.names", skip_serializing_if = "Option::is_none")]
    names: Option<&'a str>,
}

#[derive(Serialize)]
struct Interfaces<'a> {
    exports: &'a [String],
    imports: &'a [String],
    target: Option<String>,
}

impl<'a> Config<'a> {
    pub(crate) fn new(
        sha256: &str,
        exports: &'a [String],
        imports: &'a [String],
        names: Option<&'a str>,
    ) -> Self {
        Self {
            // A fixed time, so that each push of a component gives the same digest.
            created: "1970-01-01T00:00:00Z",
            architecture: "wasm",
            os: "wasip2",
            layer_digests: [format!("sha256:{sha256}")],
            component: Interfaces { exports, imports, target: None },
            names,
        }
    }
}

/// The texts that are published with a component.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Texts<'a> {
    /// The component's manifest, as TOML.
    pub(crate) manifest: Option<&'a str>,
    /// The signature of the component's manifest.
    pub(crate) signature: Option<&'a str>,
    /// The function names, which the config contains.
    pub(crate) names: Option<&'a str>,
}

/// Builds the image manifest of a component. Its digest is the digest of the artifact.
pub(crate) fn manifest(name: &str, wasm: &[u8], config: &[u8], texts: Texts<'_>) -> OciImageManifest {
    let descriptor = |media_type: &str, content: &[u8]| OciDescriptor {
        media_type: media_type.to_owned(),
        digest: format!("sha256:{}", sha256(content)),
        size: i64::try_from(content.len()).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    };
    let mut layer = descriptor(LAYER, wasm);
    layer.annotations = Some(BTreeMap::from([(TITLE.to_owned(), format!("{name}.wasm"))]));
    let mut annotations = BTreeMap::new();
    for (key, text) in [(MANIFEST, texts.manifest), (SIGNATURE, texts.signature)] {
        if let Some(text) = text {
            annotations.insert(key.to_owned(), text.to_owned());
        }
    }
    if let Some(names) = texts.names {
        annotations.insert(NAMES.to_owned(), sha256(names.as_bytes()));
    }
    OciImageManifest {
        schema_version: 2,
        media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
        config: descriptor(CONFIG, config),
        layers: vec![layer],
        annotations: Some(annotations).filter(|all| !all.is_empty()),
        subject: None,
        artifact_type: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut OciImageManifest)) -> String {
        let texts = Texts { manifest: Some("id = 'a'"), names: Some("names"), ..Texts::default() };
        let mut made = manifest("a", b"wasm", b"{}", texts);
        change(&mut made);
        Artifact::read("oci://x/a", &serde_json::to_vec(&made).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn a_written_manifest_is_read_back_unchanged() {
        let texts = Texts { manifest: Some("id = 'a'"), signature: Some("signed"), ..Texts::default() };
        let made = serde_json::to_vec(&manifest("a", b"wasm", b"{}", texts)).unwrap();
        let read = Artifact::read("oci://x/a", &made).unwrap();
        let component = Blob { media_type: LAYER, sha256: sha256(b"wasm"), size: 4 };
        let expected = Artifact {
            component,
            manifest: Some("id = 'a'".into()),
            signature: Some("signed".into()),
            names: None,
        };
        assert_eq!(read, expected);
        // `wkg` writes the media type too: registries and scanners must not take a component for a Docker
        // image.
        let document: serde_json::Value = serde_json::from_slice(&made).unwrap();
        assert_eq!(document["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    }

    #[test]
    fn function_names_are_in_the_config_and_the_component_stays_the_only_layer() {
        let config = |names| serde_json::to_vec(&Config::new("00", &[], &[], names)).unwrap();
        let with_names = config(Some("sha256 00\n\"f\"\n"));
        let texts = Texts { names: Some("sha256 00\n\"f\"\n"), ..Texts::default() };
        let made = manifest("a", b"wasm", &with_names, texts);
        assert_eq!(made.layers.len(), 1);
        let names = Artifact::read("oci://x/a", &serde_json::to_vec(&made).unwrap()).unwrap().names.unwrap();
        assert_eq!(names.config.sha256, sha256(&with_names));
        assert_eq!(names.read("oci://x/a", &with_names).unwrap(), "sha256 00\n\"f\"\n");
        for (changed, problem) in [(config(None), "no text under the key"), (config(Some("x")), "expected")] {
            let error = names.read("oci://x/a", &changed).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        // An artifact without names is the same as before names were pushed.
        assert!(!String::from_utf8(config(None)).unwrap().contains(NAMES));
    }

    #[test]
    fn artifacts_that_are_not_components_are_refused() {
        let text = refusal(|made| made.config.media_type = "application/vnd.oci.image.config.v1+json".into());
        assert!(text.contains("not a WebAssembly component") && text.contains("wkg oci push"), "{text}");
        let text = refusal(|made| made.layers.push(made.layers[0].clone()));
        assert!(text.contains("found 2"), "{text}");
        let text = refusal(|made| made.layers[0].size = i64::MAX);
        assert!(text.contains("more than the limit"), "{text}");
        assert!(refusal(|made| made.layers[0].digest = "sha512:00".into()).contains("only sha256"));
        assert!(refusal(|made| made.config.size = i64::MAX).contains("its config has"));
    }
}
