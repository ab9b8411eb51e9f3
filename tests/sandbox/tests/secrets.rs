//! What a component must never see: planted secrets are searched for in its whole memory, in what it
//! says, and in what it logs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::prelude::*;
use dagster_ray_runtime::{Authority, AuthorityOptions};
use sandbox_tests::{Subject, attack, lines};
use serde_json::json;

const GRANTED: &str = "id = 'hostile'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [[]] }\nkubernetes = [{ group = '', resources = ['pods'], verbs = ['list'] }]\n";

/// A server that lets in who sends the secret, and never says it.
struct Door {
    url: String,
    let_in: Arc<AtomicUsize>,
}

fn door(secret: &'static str) -> Door {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let door = Door { url, let_in: Arc::default() };
    let let_in = door.let_in.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
            let status = if head.contains(secret) {
                let_in.fetch_add(1, Ordering::SeqCst);
                "200 OK"
            } else {
                "401 Unauthorized"
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    door
}

fn inverted(text: &str) -> String {
    text.bytes().map(|byte| format!("{:02x}", !byte)).collect()
}

#[test]
fn a_secret_is_nowhere_in_a_component_that_uses_it() {
    let dashboard = door("planted-dashboard-header");
    let behind_cookie = door("session=planted-cookie");
    let api_server = door("planted-kubeconfig-token");
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
    // The last one it is given, to see that the search finds what is there.
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
    let told = lines(&subject.backend(), "launcher.locate", &json!({"run_id": "r", "attempt": 0})).join("\n");
    assert!(told.contains("given-as-a-setting") && !told.contains("planted"), "{told}");
    let text = attack(&subject);
    let (_, counts) = text.rsplit_once("found ").unwrap_or_else(|| panic!("{text}"));
    let counts: Vec<usize> = counts.split(' ').map(|count| count.parse().unwrap()).collect();
    assert_eq!(counts[..4], [0; 4], "{text}");
    assert!(counts[4] > 0, "{text}");
    // Twice: for what it logs, and for what it finds.
    for door in [dashboard, behind_cookie, api_server] {
        assert_eq!(door.let_in.load(Ordering::SeqCst), 2, "{} was asked without its secret", door.url);
    }
}

#[test]
fn a_key_that_cannot_be_used_is_not_in_the_error_that_says_so() {
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
            .setting("attack", "ask GET http://kubernetes.internal/api/v1/pods")
            .kubeconfig(&kubeconfig);
        let text = attack(&subject);
        assert!(text.contains("127.0.0.1:9") || text.contains("config"), "{text}");
        for secret in secrets {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

#[test]
fn a_header_that_cannot_be_sent_is_not_in_the_error_that_says_so() {
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
fn a_component_sees_its_own_settings_only() {
    let subject =
        |name: &str| Subject::new("hostile", GRANTED).setting("attack", "settings").setting("tenant", name);
    let (first, second) = (subject("first"), subject("second"));
    for _ in 0..2 {
        assert!(attack(&first).contains("first") && !attack(&first).contains("second"));
        assert!(attack(&second).contains("second") && !attack(&second).contains("first"));
    }
}
