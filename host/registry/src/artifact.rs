//! Reads and writes the OCI artifact of a component.
//!
//! The layout is that of `wkg`, from the guidance of the CNCF's TAG Runtime (*Wasm OCI Artifact*): an
//! image manifest, a config that repeats the component's imports and exports, and the component as the
//! only layer. `wkg oci pull` rejects an artifact with a second layer, so the component's manifest is
//! an annotation. The artifact's digest covers it too.

use std::collections::BTreeMap;

use dagster_ray_policy::LARGEST;
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest};
use serde::Serialize;

use crate::error::RegistryError;
use crate::store::hex_digest;

pub(crate) const CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub(crate) const LAYER: &str = "application/wasm";
/// The annotation that holds the component's manifest, as TOML.
pub(crate) const MANIFEST: &str = "io.github.dagster-ray.manifest";
const TITLE: &str = "org.opencontainers.image.title";

/// The description of a component in its artifact's image manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    /// The sha256 of the component, in hexadecimal.
    pub(crate) sha256: String,
    /// Size of the component in bytes.
    pub(crate) size: u64,
    /// The component's manifest as TOML, if one was pushed with it.
    pub(crate) manifest: Option<String>,
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
        let sha256 = layer.digest.strip_prefix("sha256:").ok_or_else(|| {
            invalid(format!("the digest of its layer is {}; only sha256 is supported", layer.digest))
        })?;
        let size = u64::try_from(layer.size).map_err(|_| invalid("its layer has a negative size".into()))?;
        if size > LARGEST {
            return Err(invalid(format!("the component has {size} bytes, more than the limit of {LARGEST}")));
        }
        Ok(Self {
            sha256: sha256.to_owned(),
            size,
            manifest: manifest.annotations.and_then(|mut all| all.remove(MANIFEST)),
        })
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
}

#[derive(Serialize)]
struct Interfaces<'a> {
    exports: &'a [String],
    imports: &'a [String],
    target: Option<String>,
}

impl<'a> Config<'a> {
    pub(crate) fn new(sha256: &str, exports: &'a [String], imports: &'a [String]) -> Self {
        Self {
            // A fixed time, so that each push of a component gives the same digest.
            created: "1970-01-01T00:00:00Z",
            architecture: "wasm",
            os: "wasip2",
            layer_digests: [format!("sha256:{sha256}")],
            component: Interfaces { exports, imports, target: None },
        }
    }
}

/// Builds the image manifest of a component. Its digest is the digest of the artifact.
pub(crate) fn manifest(name: &str, wasm: &[u8], config: &[u8], toml: Option<&str>) -> OciImageManifest {
    let descriptor = |media_type: &str, content: &[u8]| OciDescriptor {
        media_type: media_type.to_owned(),
        digest: format!("sha256:{}", hex_digest(content)),
        size: i64::try_from(content.len()).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    };
    let mut layer = descriptor(LAYER, wasm);
    layer.annotations = Some(BTreeMap::from([(TITLE.to_owned(), format!("{name}.wasm"))]));
    OciImageManifest {
        schema_version: 2,
        media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
        config: descriptor(CONFIG, config),
        layers: vec![layer],
        annotations: toml.map(|text| BTreeMap::from([(MANIFEST.to_owned(), text.to_owned())])),
        subject: None,
        artifact_type: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut OciImageManifest)) -> String {
        let mut made = manifest("a", b"wasm", b"{}", Some("id = 'a'"));
        change(&mut made);
        Artifact::read("oci://x/a", &serde_json::to_vec(&made).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn a_written_manifest_is_read_back_unchanged() {
        let made = serde_json::to_vec(&manifest("a", b"wasm", b"{}", Some("id = 'a'"))).unwrap();
        let read = Artifact::read("oci://x/a", &made).unwrap();
        let expected = Artifact { sha256: hex_digest(b"wasm"), size: 4, manifest: Some("id = 'a'".into()) };
        assert_eq!(read, expected);
        // `wkg` writes the media type too: registries and scanners must not take a component for a Docker
        // image.
        let document: serde_json::Value = serde_json::from_slice(&made).unwrap();
        assert_eq!(document["mediaType"], "application/vnd.oci.image.manifest.v1+json");
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
    }
}
