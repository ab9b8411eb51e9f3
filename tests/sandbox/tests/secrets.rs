//! What a component must never see: planted secrets are searched for in its whole memory, in what it
//! says, and in what it logs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use sandbox_tests::{Subject, attack};

const GRANTED: &str = "id = 'hostile'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [[]] }\nkubernetes = [{ group = '', resources = ['pods'], verbs = ['list'] }]\n";

/// A server that lets in who sends the secret, and never says it.
fn door(secret: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
            let status = if head.contains(secret) { "200 OK" } else { "401 Unauthorized" };
            let body = "{}";
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

fn inverted(text: &str) -> String {
    text.bytes().map(|byte| format!("{:02x}", !byte)).collect()
}

#[test]
fn a_secret_is_nowhere_in_a_component_that_uses_it() {
    let dashboard = door("planted-dashboard-header");
    let api_server = door("planted-kubeconfig-token");
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    std::fs::write(
        &kubeconfig,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: dev\ncontexts: [{{ name: dev, context: {{ cluster: c, user: u }} }}]\nclusters: [{{ name: c, cluster: {{ server: '{api_server}' }} }}]\nusers: [{{ name: u, user: {{ token: planted-kubeconfig-token }} }}]\n"
        ),
    )
    .unwrap();
    let path = std::env::var("PATH").unwrap();
    // The last one it is given, to see that the search finds what is there.
    let searched =
        ["planted-dashboard-header", "planted-kubeconfig-token", path.as_str(), "given-as-a-setting"];
    let texts: Vec<_> = searched.iter().map(|text| inverted(text)).collect();
    let urls = format!("{dashboard}/api,http://kubernetes.internal/api/v1/pods");
    let subject = Subject::new("hostile", GRANTED)
        .setting("attack", &format!("search {urls} {}", texts.join(" ")))
        .setting("known", "given-as-a-setting")
        .authority(&dashboard, ("authorization", "Bearer planted-dashboard-header"))
        .kubeconfig(&kubeconfig);
    let text = attack(&subject);
    let (_, counts) = text.rsplit_once("found ").unwrap_or_else(|| panic!("{text}"));
    let counts: Vec<usize> = counts.split(' ').map(|count| count.parse().unwrap()).collect();
    assert_eq!(counts[..3], [0, 0, 0], "{text}");
    assert!(counts[3] > 0, "{text}");
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
