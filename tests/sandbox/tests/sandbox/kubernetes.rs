//! The Kubernetes API as components see it: denied requests, what the server receives, and errors if no
//! cluster can be reached.

use std::path::PathBuf;

use sandbox_tests::server::Server;
use sandbox_tests::{Subject, attack};

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
        @r#"hostile: launcher.plan: the host refused http to http://head.ray.svc:8265/api/version. To allow it, add to [grants] in the component's manifest: http = ["cluster-services"]"#
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
