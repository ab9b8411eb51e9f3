//! The audit trail: one line for each denied request, and one for each credential that a call uses.

use std::sync::{Mutex, Once, PoisonError};

use dagster_ray_cli::log::{Level, Line, Logger, Sink, install};
use sandbox_tests::server::{EMPTY, Server};
use sandbox_tests::{Subject, attack, call, plan_arguments};
use serde_json::{Value, json};

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

struct Recorder;

impl Sink for Recorder {
    fn is_enabled(&self, _: Level, logger: Logger<'_>) -> bool {
        logger.name() == "dagster_ray.audit"
    }

    fn write(&self, line: Line) {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// Makes an attack and returns the lines of the audit trail. The manifest's id must be unique in this process.
fn audited(id: &str, attack_name: &str, prepare: impl FnOnce(Subject) -> Subject) -> (Vec<Value>, String) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| assert!(install(Recorder), "another sink is installed"));
    let grants = "http = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [['hello']] }\n\
        kubernetes = [{ group = '', resources = ['pods'], verbs = ['list'], namespaces = ['ray'] }]";
    let subject = Subject::new("hostile", &format!("id = '{id}'\n[grants]\n{grants}\n"));
    let subject = prepare(subject.setting("attack", attack_name));
    let digest = subject.backend().describe().unwrap().1;
    let _ = attack(&subject);
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(&line.text).expect(&line.text));
    let own: Vec<_> = lines.filter(|line| line["component"] == id).collect();
    assert!(own.iter().all(|line| line["digest"] == digest.as_str()), "{own:?}");
    (own, digest)
}

#[test]
fn a_denied_request_is_one_line_that_names_the_component_and_the_run() {
    let (lines, digest) = audited("audit-http", "get http://metadata.internal/latest", |subject| subject);
    let expected = json!({
        "event": "denied", "capability": "http", "target": "http://metadata.internal/latest",
        "grant": "http = [\"http://metadata.internal\"]", "component": "audit-http", "digest": digest,
        "export": "launcher.plan", "runs": ["r"],
    });
    assert_eq!(lines, [expected]);
}

#[test]
fn every_capability_logs_its_denials() {
    for (id, attack, capability) in [
        ("audit-packages", "read /etc:passwd", "packages"),
        ("audit-objects", "load theirs:key", "objects"),
        ("audit-processes", "run sh -c id", "processes"),
        ("audit-kubernetes", "get http://kubernetes.internal/api/v1/namespaces/ray/secrets/s", "kubernetes"),
        ("audit-services", "get http://head.ray.svc:8265/", "cluster_services"),
    ] {
        let (lines, _) = audited(id, attack, |subject| subject.program("echo", &["/bin/echo"]));
        assert_eq!(lines.len(), 1, "{id}: {lines:?}");
        assert_eq!((&lines[0]["event"], &lines[0]["capability"]), (&json!("denied"), &json!(capability)));
    }
}

#[test]
fn each_credential_is_one_line_that_does_not_contain_it() {
    let server = Server::start(|_| EMPTY.to_owned());
    let (url, get) = (server.url.clone(), format!("get {}/", server.url));
    let (lines, digest) = audited("audit-header", &get, |subject| {
        subject.authority(&url, ("authorization", "Bearer planted-in-a-header"))
    });
    let expected = json!({
        "event": "credential", "authority": server.url, "credential": "authorization",
        "component": "audit-header", "digest": digest, "export": "launcher.plan", "runs": ["r"],
    });
    assert_eq!(lines, [expected]);

    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: dev\ncontexts: [{{ name: dev, context: {{ cluster: c, user: u }} }}]\nclusters: [{{ name: c, cluster: {{ server: '{}' }} }}]\nusers: [{{ name: u, user: {{ token: planted-token }} }}]\n",
        server.url
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let list = "get http://kubernetes.internal/api/v1/namespaces/ray/pods";
    let (lines, _) = audited("audit-kubeconfig", list, |subject| subject.kubeconfig(&kubeconfig));
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(line["credential"], "kubeconfig context dev");
    assert_eq!(line["authority"].as_str().unwrap().trim_end_matches('/'), server.url);
    assert!(!line.to_string().contains("planted"), "{line}");
}

#[test]
fn a_denied_port_forward_is_logged() {
    let (_, _) = audited("audit-forward", "no such attack", |subject| {
        let backend = subject.backend();
        let mut opening = backend.forward("kube-system", "dns", 53);
        assert!(opening.wait(std::time::Duration::from_secs(30)).unwrap().is_err());
        assert!(call(&backend, "launcher.plan", &plan_arguments("r")).is_err());
        subject
    });
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let of_forward: Vec<_> = lines.iter().filter(|line| line.text.contains("audit-forward")).collect();
    let [line] = of_forward.as_slice() else { panic!("{of_forward:?}") };
    assert!(line.text.contains("\"target\":\"dns.kube-system.svc:53\""), "{}", line.text);
}
