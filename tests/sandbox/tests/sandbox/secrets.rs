//! Secrets stay in the host: planted secrets must not be in a component's memory, errors or log lines.

use base64::prelude::*;
use dagster_ray_runtime::{Authority, AuthorityOptions};
use sandbox_tests::server::Server;
use sandbox_tests::{Subject, attack, lines, plan_arguments};

const GRANTED: &str = "id = 'hostile'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [[]] }\nkubernetes = [{ group = '', resources = ['pods'], verbs = ['list'] }]\n";

/// Starts a server that answers 200 to requests with the secret, and never sends the secret.
fn serve(secret: &'static str) -> Server {
    Server::start(move |head| {
        let status = if head.contains(secret) { "200 OK" } else { "401 Unauthorized" };
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
        )
    })
}

/// Returns how many requests contained the secret.
fn accepted(server: &Server, secret: &str) -> usize {
    server.heads().iter().filter(|head| head.contains(secret)).count()
}

fn inverted(text: &str) -> String {
    text.bytes().map(|byte| format!("{:02x}", !byte)).collect()
}

#[test]
fn a_secret_is_not_in_the_memory_errors_or_log_of_a_component() {
    let dashboard = serve("planted-dashboard-header");
    let behind_cookie = serve("session=planted-cookie");
    let api_server = serve("planted-kubeconfig-token");
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    std::fs::write(
        &kubeconfig,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: dev\ncontexts: [{{ name: dev, context: {{ cluster: c, user: u }} }}]\nclusters: [{{ name: c, cluster: {{ server: '{}' }} }}]\nusers: [{{ name: u, user: {{ token: planted-kubeconfig-token }} }}]\n",
            api_server.url
        ),
    )
    .unwrap();
    let path = std::env::var("PATH").unwrap();
    // The component has the last text as a setting, which proves that the search works.
    let searched = [
        "planted-dashboard-header",
        "planted-kubeconfig-token",
        "planted-cookie",
        path.as_str(),
        "given-as-a-setting",
    ];
    let texts: Vec<_> = searched.iter().map(|text| inverted(text)).collect();
    let urls = format!("{}/api,{}/,http://kubernetes.internal/api/v1/pods", dashboard.url, behind_cookie.url);
    let subject = Subject::new("hostile", GRANTED)
        .setting("attack", &format!("search {urls} {}", texts.join(" ")))
        .setting("known", "given-as-a-setting")
        .authority(&dashboard.url, ("authorization", "Bearer planted-dashboard-header"))
        .cookie(&behind_cookie.url, ("session", "planted-cookie"))
        .kubeconfig(&kubeconfig);
    let logged = lines(&subject.backend(), "launcher.plan", &plan_arguments("r")).join("\n");
    assert!(logged.contains("given-as-a-setting") && !logged.contains("planted"), "{logged}");
    let text = attack(&subject);
    let (_, counts) = text.rsplit_once("found ").unwrap_or_else(|| panic!("{text}"));
    let counts: Vec<usize> = counts.split(' ').map(|count| count.parse().unwrap()).collect();
    assert_eq!(counts[..4], [0; 4], "{text}");
    assert!(counts[4] > 0, "{text}");
    // Two requests: one for each of the two calls.
    for (server, secret) in [
        (dashboard, "planted-dashboard-header"),
        (behind_cookie, "session=planted-cookie"),
        (api_server, "planted-kubeconfig-token"),
    ] {
        assert_eq!(accepted(&server, secret), 2, "{} got a request without its secret", server.url);
    }
}

#[test]
fn the_error_of_an_unusable_credential_does_not_contain_it() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    let pem = |kind: &str, text: &str| {
        BASE64_STANDARD.encode(format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n"))
    };
    let key = pem("PRIVATE KEY", "planted-client-key");
    let certificate = pem("CERTIFICATE", "planted-certificate");
    for (user, secrets) in [
        (
            format!("client-certificate-data: {certificate}, client-key-data: {key}"),
            ["planted-client-key", key.as_str()],
        ),
        (
            "client-certificate-data: '!planted!', client-key-data: '!planted!'".to_owned(),
            ["!planted!", "planted"],
        ),
        (
            "token: planted-token, username: u, password: planted-password".to_owned(),
            ["planted-token", "planted-password"],
        ),
    ] {
        std::fs::write(
            &kubeconfig,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: dev\ncontexts: [{{ name: dev, context: {{ cluster: c, user: u }} }}]\nclusters: [{{ name: c, cluster: {{ server: 'https://127.0.0.1:9' }} }}]\nusers: [{{ name: u, user: {{ {user} }} }}]\n"
            ),
        )
        .unwrap();
        let subject = Subject::new("hostile", GRANTED)
            .setting("attack", "request GET http://kubernetes.internal/api/v1/pods")
            .kubeconfig(&kubeconfig);
        let text = attack(&subject);
        assert!(text.contains("127.0.0.1:9") || text.contains("config"), "{text}");
        for secret in secrets {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

#[test]
fn the_error_of_a_kubeconfig_or_a_credential_plugin_quotes_neither() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    let plugin = |script: &str| {
        format!(
            "exec: {{ apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, '{script}'], env: [{{ name: A, value: planted-variable }}] }}"
        )
    };
    for (user, expected) in [
        ("token: planted-token\n    username: [planted".to_owned(), "at line "),
        ("token: planted-token\n    username: { planted: name }".to_owned(), "a value has the wrong type"),
        (plugin("echo planted-output; echo planted-error >&2; exit 3"), "(exit status: 3)"),
        (plugin("echo planted-output"), "printed no valid ExecCredential"),
    ] {
        std::fs::write(
            &kubeconfig,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: dev\ncontexts: [{{ name: dev, context: {{ cluster: c, user: u }} }}]\nclusters: [{{ name: c, cluster: {{ server: 'https://127.0.0.1:9' }} }}]\nusers:\n- name: u\n  user:\n    {user}\n"
            ),
        )
        .unwrap();
        let subject = Subject::new("hostile", GRANTED)
            .setting("attack", "request GET http://kubernetes.internal/api/v1/pods")
            .kubeconfig(&kubeconfig);
        let text = attack(&subject);
        assert!(text.contains(expected) && !text.contains("planted"), "{user}: {text}");
    }
}

#[test]
fn the_error_of_an_invalid_header_does_not_contain_its_value() {
    let options = AuthorityOptions {
        url: "http://head:8265".into(),
        headers: [("authorization".to_owned(), "Bearer planted\n".to_owned())].into(),
        cookies: Default::default(),
        ray_token: false,
        verify: Default::default(),
    };
    let text = Authority::new(options).unwrap_err().to_string();
    assert!(text.contains("authorization") && !text.contains("planted"), "{text}");
}

#[test]
fn a_component_sees_only_its_own_settings() {
    let subject =
        |name: &str| Subject::new("hostile", GRANTED).setting("attack", "settings").setting("tenant", name);
    let (first, second) = (subject("first"), subject("second"));
    for _ in 0..2 {
        assert!(attack(&first).contains("first") && !attack(&first).contains("second"));
        assert!(attack(&second).contains("second") && !attack(&second).contains("first"));
    }
}
