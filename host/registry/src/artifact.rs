//! A component as an OCI artifact.
//!
//! As `wkg` lays it out, by the guidance of the CNCF's TAG Runtime (*Wasm OCI Artifact*): an image
//! manifest, a config that repeats the component's imports and exports, and the component as the one
//! layer. `wkg oci pull` refuses an artifact with a second layer, so the component's manifest is an
//! annotation: it too is covered by the digest of the artifact.

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

/// What is known of a component from its artifact's manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    /// The sha256 of the component, in hexadecimal.
    pub(crate) sha256: String,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its manifest, where one was pushed with it.
    pub(crate) manifest: Option<String>,
}

impl Artifact {
    /// Reads the artifact's manifest, which must have been checked against its digest.
    pub(crate) fn read(reference: &str, bytes: &[u8]) -> Result<Self, RegistryError> {
        let not = |problem: String| RegistryError::NotAComponent { reference: reference.to_owned(), problem };
        let manifest: OciImageManifest = serde_json::from_slice(bytes)
            .map_err(|error| not(format!("this is no image manifest ({error}). An index of several artifacts has a digest for each: use one of those")))?;
        if manifest.config.media_type != CONFIG {
            return Err(not(format!(
                "this is no WebAssembly component: its config is {}, not {CONFIG}. `dagster-ray push` and `wkg oci push` make such artifacts",
                manifest.config.media_type
            )));
        }
        let [layer] = manifest.layers.as_slice() else {
            return Err(not(format!("a component is one layer; here are {}", manifest.layers.len())));
        };
        if layer.media_type != LAYER {
            return Err(not(format!("its layer is {}, not {LAYER}", layer.media_type)));
        }
        let sha256 = layer.digest.strip_prefix("sha256:").ok_or_else(|| {
            not(format!("the digest of its layer is {}: only sha256 is supported", layer.digest))
        })?;
        let size = u64::try_from(layer.size).map_err(|_| not("its layer has a negative size".into()))?;
        if size > LARGEST {
            return Err(not(format!("{size} bytes, more than the limit of {LARGEST} for a component")));
        }
        Ok(Self {
            sha256: sha256.to_owned(),
            size,
            manifest: manifest.annotations.and_then(|mut all| all.remove(MANIFEST)),
        })
    }
}

/// What the config says of the component.
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
            // The same component must have the same digest whenever it is pushed.
            created: "1970-01-01T00:00:00Z",
            architecture: "wasm",
            os: "wasip2",
            layer_digests: [format!("sha256:{sha256}")],
            component: Interfaces { exports, imports, target: None },
        }
    }
}

/// The manifest of an artifact: what is pushed last, and what its digest is of.
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
    fn an_artifact_is_read_as_it_was_made() {
        let made = serde_json::to_vec(&manifest("a", b"wasm", b"{}", Some("id = 'a'"))).unwrap();
        let read = Artifact::read("oci://x/a", &made).unwrap();
        let expected = Artifact { sha256: hex_digest(b"wasm"), size: 4, manifest: Some("id = 'a'".into()) };
        assert_eq!(read, expected);
        // As `wkg` says it: what registries and scanners take for a Docker image is none.
        let told: serde_json::Value = serde_json::from_slice(&made).unwrap();
        assert_eq!(told["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    }

    #[test]
    fn what_is_no_component_is_refused_before_anything_is_fetched() {
        let text = refusal(|made| made.config.media_type = "application/vnd.oci.image.config.v1+json".into());
        assert!(text.contains("no WebAssembly component") && text.contains("wkg oci push"), "{text}");
        let text = refusal(|made| made.layers.push(made.layers[0].clone()));
        assert!(text.contains("here are 2"), "{text}");
        let text = refusal(|made| made.layers[0].size = i64::MAX);
        assert!(text.contains("more than the limit"), "{text}");
        assert!(refusal(|made| made.layers[0].digest = "sha512:00".into()).contains("only sha256"));
    }
}
