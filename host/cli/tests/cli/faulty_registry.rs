//! Faulty responses of a registry: nothing of a failed pull is kept.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use crate::common::{TestEnvironment, fixture};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A registry with one artifact. It answers every request for a blob that is not the config with the layer.
struct Registry {
    port: u16,
    digest: String,
}

struct Content {
    manifest: Vec<u8>,
    layer: Vec<u8>,
    config: Vec<u8>,
    /// The `Content-Length` of the layer.
    announced: usize,
    status: &'static str,
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn manifest(layer: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": format!("sha256:{}", sha256(b"{}")), "size": 2},
        "layers": [{"mediaType": "application/wasm", "digest": format!("sha256:{}", sha256(layer)), "size": layer.len()}],
    })
}

impl Registry {
    fn start(manifest: &Value, layer: Vec<u8>, announced: usize) -> Self {
        Self::answering(manifest, layer, announced, "200 OK")
    }

    /// Starts a registry whose artifact has this config.
    fn with_config(manifest: &Value, layer: Vec<u8>, config: Vec<u8>) -> Self {
        let announced = layer.len();
        Self::serving(manifest, Content { manifest: Vec::new(), layer, config, announced, status: "200 OK" })
    }

    fn answering(manifest: &Value, layer: Vec<u8>, announced: usize, status: &'static str) -> Self {
        let config = b"{}".to_vec();
        Self::serving(manifest, Content { manifest: Vec::new(), layer, config, announced, status })
    }

    fn serving(manifest: &Value, content: Content) -> Self {
        let manifest = serde_json::to_vec(manifest).unwrap();
        let digest = sha256(&manifest);
        let content = Arc::new(Content { manifest, ..content });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let content = content.clone();
                std::thread::spawn(move || serve(&stream, &content));
            }
        });
        Self { port, digest }
    }

    fn pinned(&self) -> String {
        format!("oci://127.0.0.1:{}/mine@sha256:{}", self.port, self.digest)
    }
}

fn serve(mut stream: &TcpStream, content: &Content) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
    let (status, length, body): (_, _, &[u8]) = if request.contains("/manifests/") {
        (content.status, content.manifest.len(), &content.manifest)
    } else if request.contains(&format!("/blobs/sha256:{}", sha256(&content.config))) {
        ("200 OK", content.config.len(), &content.config)
    } else if request.contains("/blobs/") {
        ("200 OK", content.announced, &content.layer)
    } else {
        ("200 OK", 2, b"{}")
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// Pulls, checks that nothing was kept, and returns standard error.
#[track_caller]
fn pull_error(registry: &Registry, code: i32) -> String {
    let environment = TestEnvironment::new();
    let output = environment.run(["pull", &registry.pinned(), "--output", "mine.wasm"]);
    let text = output.fails(code).to_owned();
    assert!(!environment.path("mine.wasm").exists());
    let kept = std::fs::read_dir(environment.path("cache/pulled")).into_iter().flatten().count();
    assert_eq!(kept, 0, "a partial component was left behind");
    text
}

#[test]
fn valid_artifact_is_pulled() {
    let wasm = std::fs::read(fixture("echo")).unwrap();
    let registry = Registry::start(&manifest(&wasm), wasm.clone(), wasm.len());
    let environment = TestEnvironment::new();
    environment.run(["pull", &registry.pinned(), "--output", "mine.wasm", "--json"]).json();
    assert_eq!(std::fs::read(environment.path("mine.wasm")).unwrap(), wasm);
}

/// Returns the image manifest of an artifact with function names, and its config.
fn manifest_with_names(layer: &[u8], names: &str, announced: &str) -> (Value, Vec<u8>) {
    let config = serde_json::to_vec(&json!({"io.github.dagster-ray.names": names})).unwrap();
    let mut manifest = manifest(layer);
    manifest["config"]["digest"] = format!("sha256:{}", sha256(&config)).into();
    manifest["config"]["size"] = config.len().into();
    manifest["annotations"] = json!({"io.github.dagster-ray.names": sha256(announced.as_bytes())});
    (manifest, config)
}

#[test]
fn function_names_are_pulled_beside_the_component() {
    let wasm = std::fs::read(fixture("echo")).unwrap();
    let names = format!("sha256 {}\nmodule a\n0 f\n", sha256(&wasm));
    let (manifest, config) = manifest_with_names(&wasm, &names, &names);
    let registry = Registry::with_config(&manifest, wasm, config);
    let environment = TestEnvironment::new();
    environment.run(["pull", &registry.pinned(), "--output", "mine.wasm", "--json"]).json();
    assert_eq!(std::fs::read_to_string(environment.path("mine.names")).unwrap(), names);
}

#[test]
fn function_names_with_a_wrong_digest_are_rejected() {
    let wasm = std::fs::read(fixture("echo")).unwrap();
    let (manifest, config) = manifest_with_names(&wasm, "changed", "names");
    let text = pull_error(&Registry::with_config(&manifest, wasm, config), 3);
    assert!(text.contains("the function names in its config") && text.contains(&sha256(b"names")), "{text}");
}

#[test]
fn clean_can_keep_pulled_components() {
    let wasm = std::fs::read(fixture("echo")).unwrap();
    let registry = Registry::start(&manifest(&wasm), wasm.clone(), wasm.len());
    let environment = TestEnvironment::new();
    environment.run(["pull", &registry.pinned(), "--json"]).json();
    let kept = environment.run(["clean", "--keep-pulled", "--json"]).json();
    assert_eq!(kept["pulled"], 0);
    let listed = environment.run(["components", "--json"]).json();
    assert!(listed.as_array().unwrap().iter().any(|row| row["source"] == "pulled"), "{listed}");
    let freed = environment.run(["clean", "--json"]).json();
    assert_eq!(freed["pulled"], 1);
}

#[test]
fn layer_with_a_wrong_digest_is_rejected() {
    let wasm = std::fs::read(fixture("echo")).unwrap();
    let mut other = wasm.clone();
    let last = other.len() - 1;
    other[last] ^= 1;
    let registry = Registry::start(&manifest(&wasm), other.clone(), other.len());
    let text = pull_error(&registry, 3);
    assert!(text.contains(&sha256(&wasm)) && text.contains(&sha256(&other)), "{text}");
}

#[test]
fn manifest_with_a_wrong_digest_is_rejected() {
    let wasm = std::fs::read(fixture("echo")).unwrap();
    let mut registry = Registry::start(&manifest(&wasm), wasm.clone(), wasm.len());
    let real = std::mem::replace(&mut registry.digest, sha256(b"another"));
    let text = pull_error(&registry, 3);
    assert!(text.contains(&real) && text.contains(&sha256(b"another")), "{text}");
}

#[test]
fn truncated_layer_is_rejected() {
    let wasm = std::fs::read(fixture("echo")).unwrap();
    let half = wasm[..wasm.len() / 2].to_vec();
    let text = pull_error(&Registry::start(&manifest(&wasm), half.clone(), wasm.len()), 1);
    assert!(text.contains(&format!("received {} of {} bytes", half.len(), wasm.len())), "{text}");
    // The registry announces the truncated length.
    let text = pull_error(&Registry::start(&manifest(&wasm), half.clone(), half.len()), 1);
    assert!(text.contains(&format!("received {} of {} bytes", half.len(), wasm.len())), "{text}");
}

#[test]
fn layer_longer_than_announced_is_rejected() {
    let wasm = std::fs::read(fixture("echo")).unwrap();
    let mut manifest = manifest(&wasm);
    manifest["layers"][0]["size"] = 100.into();
    let text = pull_error(&Registry::start(&manifest, wasm.clone(), wasm.len()), 1);
    assert!(text.contains("of 100"), "{text}");
}

#[test]
fn artifact_that_is_not_a_component_is_rejected() {
    let mut image = manifest(b"x");
    image["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip".into();
    let text = pull_error(&Registry::start(&image, b"x".to_vec(), 1), 3);
    assert!(text.contains("tar+gzip, not application/wasm"), "{text}");
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []});
    let text = pull_error(&Registry::start(&index, Vec::new(), 0), 3);
    assert!(text.contains("index of several artifacts"), "{text}");
}

#[test]
fn error_quotes_only_the_beginning_of_a_long_response() {
    let answer = json!("x".repeat(1 << 20));
    let registry = Registry::answering(&answer, Vec::new(), 0, "500 Internal Server Error");
    let text = pull_error(&registry, 1);
    assert!(text.contains("HTTP 500: ") && text.len() < 1_000, "{} bytes", text.len());
}

#[test]
fn unauthorized_error_suggests_docker_login() {
    let registry = Registry::answering(
        &json!({"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]}),
        Vec::new(),
        0,
        "401 Unauthorized",
    );
    let text = pull_error(&registry, 1);
    assert!(text.contains("docker login 127.0.0.1"), "{text}");
}
