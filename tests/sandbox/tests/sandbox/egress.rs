//! HTTP egress: what a server receives, and which responses reach a component.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use sandbox_tests::server::{EMPTY, Server, serve_connections};
use sandbox_tests::{Subject, attack, call, plan_arguments};

const GRANTED: &str = "id = 'hostile'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [[]] }\n[limits]\nresponse_mib = 1\ncall_seconds = 20.0\n";

fn subject(server: &Server, attack: &str) -> Subject {
    Subject::new("hostile", GRANTED)
        .setting("attack", &attack.replace("URL", &server.url))
        .authority(&server.url, ("authorization", "Bearer planted"))
}

fn serve(response: &'static str) -> Server {
    Server::start(move |_| response.to_owned())
}

#[test]
fn credentials_are_added_by_the_host() {
    let server = serve(EMPTY);
    assert!(attack(&subject(&server, "get URL/api")).ends_with("answered 200"));
    let heads = server.heads();
    assert!(heads[0].contains("authorization: bearer planted"), "{heads:?}");
}

/// Header fields that only the host may set: credentials, and fields for connections and proxies.
const FORBIDDEN: [&str; 24] = [
    "authorization",
    "connection",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-auth-request-email",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-user",
    "x-ray-authorization",
    "x-remote-extra-scopes",
    "x-remote-user",
];

#[test]
fn a_request_with_a_forbidden_header_is_refused_and_not_sent() {
    let server = serve(EMPTY);
    let authority = server.authority();
    let outcome =
        |field: &str| attack(&subject(&server, &format!("raw GET http {authority} / {field}=stolen")));
    for field in FORBIDDEN {
        // Both ways of writing a field in `wasi:http`, and another spelling.
        for written in [field.to_owned(), field.to_uppercase(), format!("set:{field}")] {
            let name = written.trim_start_matches("set:");
            assert_eq!(
                outcome(&written),
                format!(
                    "hostile: launcher.plan: the field {name} refused by wasi:http (HeaderError::Forbidden)"
                ),
                "{written}"
            );
        }
    }
    for attack_name in ["get-with-token", "get-with-host"] {
        let text = attack(&subject(&server, &format!("{attack_name} URL/api")));
        let expected =
            format!("GET {}/api: the host rejected a header field: HeaderError::Forbidden", server.url);
        assert_eq!(text, format!("hostile: launcher.plan: {expected}"));
    }
    assert_eq!(server.connections(), 0);
    assert_eq!(outcome("x-own"), "hostile: launcher.plan: answered 200");
    let heads = server.heads();
    assert!(heads.len() == 1 && heads[0].contains("x-own: stolen"), "{heads:?}");
}

#[test]
fn a_request_has_a_user_agent_and_a_component_can_set_its_own() {
    let server = serve(EMPTY);
    assert!(attack(&subject(&server, "get URL/api")).ends_with("answered 200"));
    let own = format!("raw GET http {} / user-agent=own", server.authority());
    assert!(attack(&subject(&server, &own)).ends_with("answered 200"));
    let heads = server.heads();
    assert!(heads[0].contains("user-agent: dagster-ray/"), "{heads:?}");
    assert!(heads[1].contains("user-agent: own") && !heads[1].contains("dagster-ray/"), "{heads:?}");
}

#[test]
fn redirects_are_not_followed_by_the_host() {
    let target = serve(EMPTY);
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: {}/\r\ncontent-length: 0\r\n\r\n", target.url);
    let server = Server::start(move |_| answer.clone());
    assert!(attack(&subject(&server, "get URL/")).ends_with("answered 302"));
    assert_eq!(target.connections(), 0);
}

#[test]
fn connections_are_reused_across_calls() {
    let server = serve(EMPTY);
    let subject = subject(&server, "get URL/api");
    let backend = subject.backend();
    for _ in 0..20 {
        let _ = call(&backend, "launcher.plan", &plan_arguments("r"));
    }
    assert_eq!(server.heads().len(), 20);
    assert_eq!(server.connections(), 1);
}

#[test]
fn finished_requests_release_their_handles() {
    let server = serve(EMPTY);
    // Twice the handle limit of a call.
    assert!(attack(&subject(&server, "get-often 2048 URL/api")).ends_with("answered 2048 times"));
}

#[test]
fn a_refused_connection_is_reported_with_the_url() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let subject = Subject::new("hostile", GRANTED)
        .setting("attack", &format!("get {url}/api"))
        .authority(&url, ("x-a", "b"));
    let text = attack(&subject);
    assert!(text.contains("refused") && text.contains(&url), "{text}");
}

/// Makes a request to a server that calls `serve` after it has received the request. Returns the outcome.
fn outcome_of(serve: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> String {
    let authority = serve_connections(move |stream| {
        // A response before the request would break the connection.
        let _ = stream.read(&mut [0; 4096]);
        serve(stream)
    });
    let url = format!("http://{authority}");
    let subject = Subject::new("hostile", GRANTED)
        .setting("attack", &format!("get {url}/api"))
        .authority(&url, ("x-a", "b"));
    attack(&subject).replace(&url, "URL")
}

#[test]
fn a_truncated_response_is_an_error() {
    let outcome =
        outcome_of(|stream| stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart"));
    insta::assert_snapshot!(outcome, @"hostile: launcher.plan: GET URL/api: incomplete HTTP response");
}

#[test]
fn an_endless_response_ends_at_the_limit() {
    let outcome = outcome_of(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            stream.write_all(&[b'x'; 65536])?;
        }
    });
    insta::assert_snapshot!(outcome, @"hostile: launcher.plan: GET URL/api: HTTP response body size exceeds limit: 1048576 bytes");
}
