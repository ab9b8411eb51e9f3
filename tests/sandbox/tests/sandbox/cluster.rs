//! Tests of the host against a real Kubernetes cluster.
//!
//! Run `cargo xtask cluster up` in one terminal, and in another
//! `KUBECONFIG=… cargo test --release --workspace --test sandbox -- --ignored cluster::`. The default image
//! belongs to the test cluster. For another cluster, set `IMAGE` to an image with Python.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dagster_ray_runtime::Backend;
use dagster_ray_runtime::capability::kubernetes::Forward;
use sandbox_tests::{Subject, call, plan_arguments};
use serde_json::{Value, json};

const GRANTED: &str = "id = 'hostile'
[grants]
packages = true
objects = ['ray']
processes = { echo = [[]] }
cluster_services = [{ ports = [1, 8265] }]
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

/// Returns the kubeconfig of the environment, or `None` in a pod, which uses its service account.
fn kubeconfig() -> Option<PathBuf> {
    let path = std::env::var_os("KUBECONFIG").map(PathBuf::from);
    assert!(
        path.is_some() || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        "KUBECONFIG names no cluster"
    );
    path
}

/// Returns a folder with a changed copy of the kubeconfig, as `config`.
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

/// A namespace with a pod, and a service for it if a test needs one. Deleted on drop.
struct Namespace {
    name: String,
}

impl Namespace {
    fn new(name: &str) -> Self {
        let namespace = Self { name: format!("test-{name}-{}", std::process::id()) };
        namespace.request_successfully("POST", "", &json!({ "metadata": { "name": namespace.name } }));
        let deadline = Instant::now() + Duration::from_secs(30);
        // A pod cannot be created before the namespace's service account.
        loop {
            let made = namespace.request("POST", "/pods", &namespace.pod("first"));
            if made.contains("answered 201") {
                return namespace;
            }
            assert!(Instant::now() < deadline, "{made}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn with_service(name: &str) -> Self {
        let namespace = Self::new(name);
        namespace.create_service("head", "head");
        namespace
    }

    /// Creates a headless service in front of the pods of an app.
    fn create_service(&self, name: &str, app: &str) {
        self.request_successfully(
            "POST",
            "/services",
            &json!({
                "metadata": { "name": name },
                "spec": { "clusterIP": "None", "selector": { "app": app }, "ports": [{ "port": 8265 }] },
            }),
        );
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

    fn request(&self, method: &str, path: &str, document: &Value) -> String {
        let base = "http://kubernetes.internal/api/v1/namespaces";
        let url = match (method, path) {
            ("POST", "") => base.to_owned(),
            _ => format!("{base}/{}{path}", self.name),
        };
        attack(&format!("request {method} {url} {document}"))
    }

    fn request_successfully(&self, method: &str, path: &str, document: &Value) -> String {
        let text = self.request(method, path, document);
        assert!(text.contains("answered 20"), "{text}");
        text
    }

    fn url(&self) -> String {
        format!("http://head.{}.svc:8265/", self.name)
    }

    /// Repeats the request until the service answers with 200.
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

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.request("DELETE", "", &json!({}));
    }
}

fn backend(attack: &str) -> Backend {
    // The folder must outlive the backend, which lives as long as the process.
    let mut subject = Subject::new("hostile", GRANTED).setting("attack", attack);
    if let Some(path) = kubeconfig() {
        subject = subject.kubeconfig(&path);
    }
    Box::leak(Box::new(subject)).backend()
}

fn outcome(backend: &Backend) -> String {
    call(backend, "launcher.plan", &plan_arguments("r")).unwrap_err().to_string()
}

fn attack(attack: &str) -> String {
    outcome(&backend(attack))
}

fn forward(backend: &Backend, namespace: &Namespace) -> Forward {
    let mut opening = backend.forward(&namespace.name, "head", 8265);
    opening.wait(Duration::from_secs(30)).expect("in time").expect("a port")
}

/// Requests `/` over a new connection to a local port and returns the response.
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
fn objects_are_created_read_listed_and_watched() {
    let namespace = Namespace::new("api");
    assert!(namespace.request_successfully("GET", "/pods/first", &json!({})).contains("\"app\":\"head\""));
    assert!(namespace.request_successfully("GET", "/pods", &json!({})).contains("PodList"));
    let missing = namespace.request("GET", "/pods/other", &json!({}));
    assert!(missing.contains("answered 404") && missing.contains("NotFound"), "{missing}");
    let url = format!("http://kubernetes.internal/api/v1/namespaces/{}/pods?watch=true", namespace.name);
    // The first event is the existing pod; the next one arrives when a pod is created.
    let watching = std::thread::spawn(move || attack(&format!("lines 20 {url}&timeoutSeconds=8")));
    std::thread::sleep(Duration::from_secs(2));
    namespace.request_successfully("POST", "/pods", &namespace.pod("second"));
    let seen = watching.join().unwrap();
    assert!(seen.contains("answered 200") && seen.contains("\"name\":\"first\""), "{seen}");
    assert!(seen.contains("\"type\":\"ADDED\"") && seen.contains("\"name\":\"second\""), "{seen}");
    let version = attack("request GET http://kubernetes.internal/version");
    assert!(version.contains("gitVersion"), "{version}");
}

#[test]
#[ignore = "needs a Kubernetes cluster in KUBECONFIG"]
fn a_service_is_reached_by_name_and_again_after_its_pod_was_replaced() {
    let namespace = Namespace::with_service("service");
    let backend = backend(&format!("request GET {}", namespace.url()));
    let first = namespace.reach(&backend);
    let started = Instant::now();
    for _ in 0..100 {
        // The connection is reused: the server sees the same client port.
        assert_eq!(outcome(&backend), first);
    }
    println!("100 requests by one port-forward: {:?}", started.elapsed());
    namespace.request_successfully("DELETE", "/pods/first", &json!({}));
    namespace.request_successfully("POST", "/pods", &namespace.pod("second"));
    let started = Instant::now();
    let second = namespace.reach(&backend);
    println!("the next pod after {:?}", started.elapsed());
    assert!(second.contains("second"), "{second}");
}

#[test]
#[ignore = "needs a Kubernetes cluster in KUBECONFIG"]
fn an_unreachable_service_names_the_missing_part() {
    let namespace = Namespace::new("absent");
    let text = attack(&format!("request GET http://absent.{}.svc:8265/", namespace.name));
    assert!(text.contains("there is no service absent in namespace test-absent"), "{text}");
    namespace.create_service("empty", "none");
    let text = attack(&format!("request GET http://empty.{}.svc:8265/", namespace.name));
    assert!(text.contains("no pod behind the service empty"), "{text}");
    namespace.create_service("head", "head");
    namespace.reach(&backend(&format!("request GET {}", namespace.url())));
    let text = attack(&format!("request GET http://head.{}.svc:1/", namespace.name));
    assert!(text.contains("connection refused"), "{text}");
}

#[test]
#[ignore = "needs a Kubernetes cluster in KUBECONFIG"]
fn a_local_port_forwards_to_the_service_until_it_is_dropped() {
    let namespace = Namespace::with_service("forward");
    let backend = backend(&format!("request GET {}", namespace.url()));
    namespace.reach(&backend);
    let forward = forward(&backend, &namespace);
    let port = forward.port();
    assert!(fetch(port).unwrap().contains("first"));
    let started = Instant::now();
    for _ in 0..20 {
        fetch(port).unwrap();
    }
    println!("20 connections through a local port: {:?}", started.elapsed());
    namespace.request_successfully("DELETE", "/pods/first", &json!({}));
    namespace.request_successfully("POST", "/pods", &namespace.pod("second"));
    // The forward waits for the new pod.
    let started = Instant::now();
    let deadline = started + Duration::from_secs(60);
    while !fetch(port).is_ok_and(|text| text.contains("second")) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("the next pod after {:?}", started.elapsed());
    let mut open = TcpStream::connect(("127.0.0.1", port)).unwrap();
    open.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    drop(forward);
    assert_eq!(open.read(&mut [0; 1]).unwrap_or(0), 0);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
#[ignore = "needs a Kubernetes cluster in KUBECONFIG"]
fn a_forbidden_request_names_the_missing_permission() {
    let namespace = Namespace::with_service("rights");
    namespace.reach(&backend(&format!("request GET {}", namespace.url())));
    let kubeconfig = changed(|text| text.replacen("  user:\n", "  user:\n    as: guest\n", 1));
    let text =
        attack_with(&kubeconfig, "request GET http://kubernetes.internal/api/v1/namespaces/default/pods");
    assert!(text.contains("answered 403") && text.contains("User \\\"guest\\\" cannot list"), "{text}");
    let text = attack_with(&kubeconfig, &format!("request GET {}", namespace.url()));
    assert!(
        text.contains("answered 403") && text.contains("resources: [endpointslices], verbs: [list]"),
        "{text}"
    );
}

#[test]
#[ignore = "needs a Kubernetes cluster in KUBECONFIG"]
fn an_untrusted_server_certificate_stops_the_request() {
    let kubeconfig = changed(|text| {
        let kept = text.lines().filter(|line| !line.contains("certificate-authority"));
        kept.collect::<Vec<_>>().join("\n")
    });
    let text = attack_with(&kubeconfig, "request GET http://kubernetes.internal/version");
    assert!(text.contains("answered 421") && text.contains("certificate is not trusted"), "{text}");
}
