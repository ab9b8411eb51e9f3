//! The host against a real cluster: `cargo xtask cluster up` in one terminal, in another one
//! `KUBECONFIG=… cargo test --test cluster -- --ignored`. Its image is one of those of the test
//! cluster; for another, set `IMAGE` to one that has Python.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dagster_ray_runtime::Backend;
use dagster_ray_runtime::capability::kubernetes::Forward;
use sandbox_tests::{Subject, call};
use serde_json::{Value, json};

const GRANTED: &str = "id = 'hostile'
[grants]
packages = true
objects = ['ray']
processes = { echo = [[]] }
http = ['cluster-services']
kubernetes = [
    { group = '', resources = ['namespaces'], verbs = ['create', 'delete', 'get'] },
    { group = '', resources = ['pods', 'services'], verbs = ['create', 'delete', 'get', 'list', 'watch'] },
    { group = 'discovery.k8s.io', resources = ['endpointslices'], verbs = ['list'] },
]
[limits]
call_seconds = 90.0
";
const SERVER: &str = "
import http.server, os, socketserver
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    wbufsize = -1
    def do_GET(self):
        body = f'{os.uname().nodename} {self.client_address[1]}'.encode()
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(('0.0.0.0', 8265), Handler).serve_forever()
";

/// None in a pod of the cluster.
fn kubeconfig() -> Option<PathBuf> {
    let path = std::env::var_os("KUBECONFIG").map(PathBuf::from);
    assert!(
        path.is_some() || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        "KUBECONFIG names no cluster"
    );
    path
}

/// The kubeconfig with something else in it.
fn changed(change: impl FnOnce(&str) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(kubeconfig().expect("not in a pod")).unwrap();
    std::fs::write(folder.path().join("config"), change(&text)).unwrap();
    folder
}

fn attack_with(kubeconfig: &tempfile::TempDir, attack: &str) -> String {
    let path = kubeconfig.path().join("config");
    let subject = Subject::new("hostile", GRANTED).setting("attack", attack).kubeconfig(&path);
    outcome(&subject.backend())
}

/// A namespace with a service and a pod behind it.
struct Place {
    namespace: String,
}

impl Place {
    fn new(name: &str) -> Self {
        let place = Self { namespace: format!("test-{name}-{}", std::process::id()) };
        place.api("POST", "", &json!({ "metadata": { "name": place.namespace } }));
        let deadline = Instant::now() + Duration::from_secs(30);
        // Pods cannot be made before their service account.
        loop {
            let made = place.ask("POST", "/pods", &place.pod("first"));
            if made.contains("answered 201") {
                return place;
            }
            assert!(Instant::now() < deadline, "{made}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn with_service(name: &str) -> Self {
        let place = Self::new(name);
        place.api(
            "POST",
            "/services",
            &json!({
                "metadata": { "name": "head" },
                "spec": { "clusterIP": "None", "selector": { "app": "head" }, "ports": [{ "port": 8265 }] },
            }),
        );
        place
    }

    fn pod(&self, name: &str) -> Value {
        let image = std::env::var("IMAGE").unwrap_or_else(|_| "rayproject/ray:2.60.0".into());
        json!({
            "metadata": { "name": name, "labels": { "app": "head" } },
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "server",
                    "image": image,
                    "command": ["python", "-c", SERVER],
                    "readinessProbe": {
                        "exec": { "command": ["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 8265), 1)"] },
                        "periodSeconds": 1,
                    },
                }],
            },
        })
    }

    fn ask(&self, method: &str, path: &str, document: &Value) -> String {
        let base = "http://kubernetes.internal/api/v1/namespaces";
        let url = match (method, path) {
            ("POST", "") => base.to_owned(),
            _ => format!("{base}/{}{path}", self.namespace),
        };
        attack(&format!("ask {method} {url} {document}"))
    }

    fn api(&self, method: &str, path: &str, document: &Value) -> String {
        let text = self.ask(method, path, document);
        assert!(text.contains("answered 20"), "{text}");
        text
    }

    fn url(&self) -> String {
        format!("http://head.{}.svc:8265/", self.namespace)
    }

    /// Asks the service until it answers.
    fn reach(&self, backend: &Backend) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let text = outcome(backend);
            if text.contains("answered 200") {
                return text;
            }
            assert!(Instant::now() < deadline, "{text}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.ask("DELETE", "", &json!({}));
    }
}

fn backend(attack: &str) -> Backend {
    // The folder has to outlive the backend, which is the process.
    let mut subject = Subject::new("hostile", GRANTED).setting("attack", attack);
    if let Some(path) = kubeconfig() {
        subject = subject.kubeconfig(&path);
    }
    Box::leak(Box::new(subject)).backend()
}

fn outcome(backend: &Backend) -> String {
    call(backend, "launcher.locate", &json!({"run_id": "r", "attempt": 0})).unwrap_err().to_string()
}

fn attack(attack: &str) -> String {
    outcome(&backend(attack))
}

fn forward(backend: &Backend, place: &Place) -> Forward {
    let mut opening = backend.forward(&place.namespace, "head", 8265);
    opening.wait(Duration::from_secs(30)).expect("in time").expect("a port")
}

/// What a new connection to a local port answers.
fn fetch(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: head\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
#[ignore = "needs a Kubernetes cluster in KUBECONFIG"]
fn objects_are_made_read_listed_and_watched() {
    let place = Place::new("api");
    assert!(place.api("GET", "/pods/first", &json!({})).contains("\"app\":\"head\""));
    assert!(place.api("GET", "/pods", &json!({})).contains("PodList"));
    let missing = place.ask("GET", "/pods/other", &json!({}));
    assert!(missing.contains("answered 404") && missing.contains("NotFound"), "{missing}");
    let url = format!("http://kubernetes.internal/api/v1/namespaces/{}/pods?watch=true", place.namespace);
    // The first event is the pod that is there; the next one waits for something to happen.
    let watching = std::thread::spawn(move || attack(&format!("lines 20 {url}&timeoutSeconds=8")));
    std::thread::sleep(Duration::from_secs(2));
    place.api("POST", "/pods", &place.pod("second"));
    let seen = watching.join().unwrap();
    assert!(seen.contains("answered 200") && seen.contains("\"name\":\"first\""), "{seen}");
    assert!(seen.contains("\"type\":\"ADDED\"") && seen.contains("\"name\":\"second\""), "{seen}");
    let version = attack("ask GET http://kubernetes.internal/version");
    assert!(version.contains("gitVersion"), "{version}");
}

#[test]
#[ignore = "needs a Kubernetes cluster in KUBECONFIG"]
fn a_service_is_reached_by_its_name_and_again_when_its_pod_was_replaced() {
    let place = Place::with_service("service");
    let backend = backend(&format!("ask GET {}", place.url()));
    let first = place.reach(&backend);
    let begun = Instant::now();
    for _ in 0..100 {
        // The same connection: the server sees the same port of its client.
        assert_eq!(outcome(&backend), first);
    }
    println!("100 requests by one port-forward: {:?}", begun.elapsed());
    place.api("DELETE", "/pods/first", &json!({}));
    place.api("POST", "/pods", &place.pod("second"));
    let begun = Instant::now();
    let second = place.reach(&backend);
    println!("the next pod after {:?}", begun.elapsed());
    assert!(second.contains("second"), "{second}");
}

#[test]
#[ignore = "needs a Kubernetes cluster in KUBECONFIG"]
fn what_is_not_behind_a_service_is_named() {
    let place = Place::new("absent");
    let text = attack(&format!("ask GET http://nobody.{}.svc:8265/", place.namespace));
    assert!(text.contains("there is no service nobody in namespace test-absent"), "{text}");
    place.api(
        "POST",
        "/services",
        &json!({
            "metadata": { "name": "empty" },
            "spec": { "clusterIP": "None", "selector": { "app": "none" }, "ports": [{ "port": 8265 }] },
        }),
    );
    let text = attack(&format!("ask GET http://empty.{}.svc:8265/", place.namespace));
    assert!(text.contains("no pod behind the service empty"), "{text}");
    place.api(
        "POST",
        "/services",
        &json!({
            "metadata": { "name": "head" },
            "spec": { "clusterIP": "None", "selector": { "app": "head" }, "ports": [{ "port": 8265 }] },
        }),
    );
    place.reach(&backend(&format!("ask GET {}", place.url())));
    let text = attack(&format!("ask GET http://head.{}.svc:1/", place.namespace));
    assert!(text.contains("connection refused"), "{text}");
}

#[test]
#[ignore = "needs a Kubernetes cluster in KUBECONFIG"]
fn a_local_port_leads_to_the_service_until_it_is_dropped() {
    let place = Place::with_service("forward");
    let backend = backend(&format!("ask GET {}", place.url()));
    place.reach(&backend);
    let forward = forward(&backend, &place);
    let port = forward.port();
    assert!(fetch(port).unwrap().contains("first"));
    let begun = Instant::now();
    for _ in 0..20 {
        fetch(port).unwrap();
    }
    println!("20 connections through a local port: {:?}", begun.elapsed());
    place.api("DELETE", "/pods/first", &json!({}));
    place.api("POST", "/pods", &place.pod("second"));
    // It waits for the pod by itself.
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(60);
    while !fetch(port).is_ok_and(|text| text.contains("second")) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("the next pod after {:?}", begun.elapsed());
    let mut open = TcpStream::connect(("127.0.0.1", port)).unwrap();
    open.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    drop(forward);
    assert_eq!(open.read(&mut [0; 1]).unwrap_or(0), 0);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
#[ignore = "needs a Kubernetes cluster in KUBECONFIG"]
fn a_user_without_rights_is_told_which_are_missing() {
    let place = Place::with_service("rights");
    place.reach(&backend(&format!("ask GET {}", place.url())));
    let nobody = changed(|text| text.replacen("  user:\n", "  user:\n    as: nobody\n", 1));
    let text = attack_with(&nobody, "ask GET http://kubernetes.internal/api/v1/namespaces/default/pods");
    assert!(text.contains("answered 403") && text.contains("User \\\"nobody\\\" cannot list"), "{text}");
    let text = attack_with(&nobody, &format!("ask GET {}", place.url()));
    assert!(
        text.contains("answered 403") && text.contains("resources: [endpointslices], verbs: [list]"),
        "{text}"
    );
}

#[test]
#[ignore = "needs a Kubernetes cluster in KUBECONFIG"]
fn a_server_that_cannot_be_trusted_is_sent_nothing() {
    let other = changed(|text| {
        let kept = text.lines().filter(|line| !line.contains("certificate-authority"));
        kept.collect::<Vec<_>>().join("\n")
    });
    let text = attack_with(&other, "ask GET http://kubernetes.internal/version");
    assert!(text.contains("answered 421") && text.contains("certificate is not trusted"), "{text}");
}
