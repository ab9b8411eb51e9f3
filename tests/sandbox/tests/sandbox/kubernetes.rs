//! The Kubernetes API as components see it: denied requests, what the server receives, and errors if no
//! cluster can be reached.

use std::path::PathBuf;
use std::time::Duration;

use sandbox_tests::server::Server;
use sandbox_tests::{Subject, attack};
use serde_json::json;

const GRANTED: &str = "id = 'hostile'
[grants]
packages = true
objects = ['ray']
processes = { echo = [[]] }
kubernetes = [
    { group = 'ray.io', resources = ['rayclusters'], verbs = ['get', 'list', 'create'], namespaces = ['ray'] },
]
[limits]
call_seconds = 20.0
";

/// Starts an API server without TLS that accepts one token.
fn serve(token: &'static str) -> Server {
    Server::start(move |head| {
        let (status, document) = if head.contains(&format!("authorization: bearer {token}\r\n")) {
            ("200 OK", r#"{"items":[]}"#)
        } else {
            ("401 Unauthorized", r#"{"kind":"Status","code":401,"message":"Unauthorized"}"#)
        };
        let length = document.len();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{document}"
        )
    })
}

/// A kubeconfig in a temporary folder.
struct Kubeconfig(tempfile::TempDir);

impl Kubeconfig {
    fn new(server: &str, user: &str) -> Self {
        let kubeconfig = Self(tempfile::tempdir().unwrap());
        kubeconfig.write(server, user);
        kubeconfig
    }

    fn write(&self, server: &str, user: &str) {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: dev\ncontexts: [{{ name: dev, context: {{ cluster: c, user: u }} }}]\nclusters: [{{ name: c, cluster: {{ server: '{server}' }} }}]\nusers: [{{ name: u, user: {user} }}]\n"
        );
        std::fs::write(self.path(), text).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("config")
    }

    fn subject(&self, attack: &str) -> Subject {
        Subject::new("hostile", GRANTED).setting("attack", attack).kubeconfig(&self.path())
    }

    /// Returns the outcome of an attack, with the path of the kubeconfig replaced.
    fn outcome(&self, attack_name: &str) -> String {
        attack(&self.subject(attack_name)).replace(&self.path().display().to_string(), "KUBECONFIG")
    }
}

const CLUSTERS: &str = "http://kubernetes.internal/apis/ray.io/v1/namespaces/ray/rayclusters";

fn unreachable() -> Kubeconfig {
    Kubeconfig::new("http://127.0.0.1:9", "{ token: t }")
}

#[test]
fn an_ungranted_request_is_denied_with_the_grant_to_add() {
    insta::assert_snapshot!(
        unreachable().outcome("get http://kubernetes.internal/api/v1/namespaces/ray/secrets/s"),
        @r#"hostile: launcher.plan: the host refused kubernetes to GET /api/v1/namespaces/ray/secrets/s. To allow it, add to [grants] in the component's manifest: kubernetes = [{ group = "", resources = ["secrets"], verbs = ["get"], namespaces = ["ray"] }]"#
    );
    insta::assert_snapshot!(
        unreachable().outcome("get http://kubernetes.internal/apis/ray.io/v1/rayclusters?watch=true"),
        @r#"hostile: launcher.plan: the host refused kubernetes to GET /apis/ray.io/v1/rayclusters?watch=true. To allow it, add to [grants] in the component's manifest: kubernetes = [{ group = "ray.io", resources = ["rayclusters"], verbs = ["watch"] }]"#
    );
}

#[test]
fn an_ungranted_cluster_service_is_denied_with_the_grant_to_add() {
    insta::assert_snapshot!(
        unreachable().outcome("get http://head.ray.svc:8265/api/version"),
        @r#"hostile: launcher.plan: the host refused cluster_services to http://head.ray.svc:8265/api/version. To allow it, add to [grants] in the component's manifest: cluster_services = [{ namespaces = ["ray"], ports = [8265] }]"#
    );
}

#[test]
fn an_ambiguous_path_is_rejected_and_not_sent() {
    let server = serve("t");
    let kubeconfig = Kubeconfig::new(&server.url, "{ token: t }");
    for path in ["../../secrets", "x/..%2f..%2fsecrets", "%2e%2e/secrets", "/x", ""] {
        let text = kubeconfig.outcome(&format!("request GET {CLUSTERS}/{path}"));
        assert!(text.contains("answered 400") && text.contains("kubernetes.internal: the path"), "{text}");
    }
    assert!(server.heads().is_empty());
}

#[test]
fn credentials_are_added_by_the_host_and_those_of_the_component_removed() {
    let server = serve("planted");
    let kubeconfig = Kubeconfig::new(&server.url, "{ token: planted }");
    let text = kubeconfig.outcome(&format!("get-as {CLUSTERS}"));
    assert!(text.ends_with("answered 200"), "{text}");
    let text = kubeconfig.outcome(&format!("request POST {CLUSTERS} {{}}"));
    assert!(text.ends_with("answered 200 {\"items\":[]}"), "{text}");
    let _ = kubeconfig.outcome(&format!("get-with-token {CLUSTERS}"));
    let heads = server.heads();
    assert!(heads[0].starts_with("get /apis/ray.io/v1/namespaces/ray/rayclusters http/1.1\r\n"), "{heads:?}");
    assert!(
        heads[1].contains("content-type: application/json\r\ncontent-length: 2\r\n")
            || heads[1].contains("content-length: 2"),
        "{heads:?}"
    );
    for head in heads.iter() {
        assert!(head.contains("authorization: bearer planted"), "{head}");
        assert!(
            !head.contains("impersonate") && !head.contains("x-remote") && !head.contains("stolen"),
            "{head}"
        );
        assert!(!head.contains("kubernetes.internal"), "{head}");
    }
}

#[test]
fn a_token_renewed_in_the_kubeconfig_is_used() {
    let server = serve("new");
    let kubeconfig = Kubeconfig::new(&server.url, "{ token: old }");
    let refused = kubeconfig.outcome(&format!("request GET {CLUSTERS}"));
    assert!(refused.contains("answered 401"), "{refused}");
    assert!(refused.contains("does not accept the credentials"), "{refused}");
    assert!(refused.contains("context dev of KUBECONFIG"), "{refused}");
    kubeconfig.write(&server.url, "{ token: new }");
    let text = kubeconfig.outcome(&format!("request GET {CLUSTERS}"));
    assert!(text.contains("answered 200"), "{text}");
}

#[test]
fn an_unusable_cluster_reports_the_cause_and_the_fix() {
    let gone = unreachable();
    std::fs::remove_file(gone.path()).unwrap();
    let text = gone.outcome(&format!("request GET {CLUSTERS}"));
    assert!(
        text.contains("answered 421") && text.contains("KUBECONFIG") && text.contains("No such file"),
        "{text}"
    );

    let other = unreachable();
    std::fs::write(
        other.path(),
        std::fs::read_to_string(other.path())
            .unwrap()
            .replace("current-context: dev", "current-context: prod"),
    )
    .unwrap();
    let text = other.outcome(&format!("request GET {CLUSTERS}"));
    assert!(text.contains("it has no context \\\"prod\\\". It has: dev"), "{text}");

    let text = unreachable().outcome(&format!("request GET {CLUSTERS}"));
    assert!(
        text.contains("answered 503") && text.contains("http://127.0.0.1:9/ (context dev of KUBECONFIG)"),
        "{text}"
    );
    assert!(text.contains("cannot be reached: Connection refused"), "{text}");

    let plugin = "{ exec: { apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, 'echo log in first >&2; exit 3'] } }";
    let text = Kubeconfig::new("http://127.0.0.1:9", plugin).outcome(&format!("request GET {CLUSTERS}"));
    assert!(text.contains("answered 401") && text.contains("the credential plugin failed"), "{text}");
    assert!(text.contains("(exit status: 3). Run `kubectl version` with this context"), "{text}");

    let plugin = "{ exec: { apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin } }";
    let text = Kubeconfig::new("http://127.0.0.1:9", plugin).outcome(&format!("request GET {CLUSTERS}"));
    assert!(text.contains("answered 401") && text.contains("cannot be started"), "{text}");
}

/// Starts an API server with a Service whose only pod uses the network of its node.
fn serve_host_network() -> Server {
    Server::start(|head| {
        let document = match head.split(' ').nth(1).unwrap_or_default() {
            path if path.contains("/services/") => {
                r#"{"metadata":{"name":"head"},"spec":{"clusterIP":"None"}}"#
            }
            path if path.contains("/endpointslices") => {
                r#"{"metadata":{},"items":[{"metadata":{},"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"],"targetRef":{"kind":"Pod","name":"p"}}]}]}"#
            }
            path if path.ends_with("/pods/p") => {
                r#"{"metadata":{"name":"p"},"spec":{"hostNetwork":true,"containers":[]}}"#
            }
            _ => "{}",
        };
        let length = document.len();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{document}"
        )
    })
}

const SERVICES: &str = "id = 'hostile'
[grants]
packages = true
objects = ['ray']
processes = { echo = [[]] }
cluster_services = [{ namespaces = ['ray', 'other'], ports = [8265] }]
";

fn opened(subject: &Subject, namespace: &str, port: u16) -> String {
    let mut opening = subject.backend().forward(namespace, "head", port);
    match opening.wait(Duration::from_secs(30)).expect("in time") {
        Ok(forward) => format!("open on {}", forward.port()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_loopback_interface_of_a_node_is_not_reached_through_a_pod_in_its_network() {
    let server = serve_host_network();
    let kubeconfig = Kubeconfig::new(&server.url, "{ token: t }");
    let subject = Subject::new("hostile", SERVICES)
        .setting("attack", "request GET http://head.ray.svc:8265/")
        .kubeconfig(&kubeconfig.path());
    let text = attack(&subject);
    assert!(
        text.contains("answered 403") && text.contains("the pod p in namespace ray uses the network"),
        "{text}"
    );
    let text = opened(&subject, "ray", 8265);
    assert!(text.contains("(hostNetwork)") && text.contains("loopback interface of the node"), "{text}");
    assert!(!server.heads().iter().any(|head| head.contains("portforward")), "{:?}", server.heads());
}

#[test]
fn a_port_is_forwarded_only_to_a_granted_service() {
    let server = serve_host_network();
    let kubeconfig = Kubeconfig::new(&server.url, "{ token: t }");
    let subject = || Subject::new("hostile", SERVICES).kubeconfig(&kubeconfig.path());
    insta::assert_snapshot!(
        opened(&subject(), "kube-system", 8265),
        @r#"the host refused cluster_services to head.kube-system.svc:8265. To allow it, add to [grants] in the component's manifest: cluster_services = [{ namespaces = ["kube-system"], ports = [8265] }]"#
    );
    assert!(opened(&subject(), "ray", 10250).contains("ports = [10250]"));
    let restriction = json!({"grants": {
        "packages": true, "objects": ["ray"], "processes": {"echo": [[]]},
        "cluster_services": [{"namespaces": ["ray"], "ports": [8265]}],
    }});
    assert!(opened(&subject().restricted(&restriction), "other", 8265).contains("namespaces = [\"other\"]"));
    assert!(server.heads().is_empty(), "{:?}", server.heads());
}
