//! Hostile servers: endless, slow, contradictory and redirecting responses.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sandbox_tests::server::serve_connections;
use sandbox_tests::{Subject, attack};

const GRANTED: &str = "id = 'hostile'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [[]] }\n[limits]\nresponse_mib = 1\ncall_seconds = 2.0\n";

/// The outcome of a request whose response is not valid HTTP.
const NO_ANSWER: &str = "hostile: launcher.plan: ErrorCode::HttpProtocolError";

/// Sends a request to a server that calls `serve` for each connection, and returns the outcome.
fn outcome(serve: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> String {
    request_outcome("raw GET http SERVER /", serve)
}

/// Does the same with a request of the hostile component's syntax, where `SERVER` is the authority.
fn request_outcome(
    request: &str,
    serve: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> String {
    let authority = serve_connections(move |stream| {
        let _ = stream.read(&mut [0; 4096]);
        serve(stream)
    });
    let subject = Subject::new("hostile", GRANTED)
        .setting("attack", &request.replace("SERVER", &authority))
        .authority(&format!("http://{authority}"), ("x-a", "b"));
    // Compile before the time is measured.
    subject.backend().describe().unwrap();
    let started = Instant::now();
    let text = attack(&subject).replace(&authority, "SERVER");
    assert!(started.elapsed() < Duration::from_secs(10), "{text}");
    text
}

fn forever(stream: &mut TcpStream, part: &[u8], pause: u64) -> std::io::Result<()> {
    loop {
        stream.write_all(part)?;
        std::thread::sleep(Duration::from_millis(pause));
    }
}

#[test]
fn an_endless_response_head_is_rejected() {
    let text = outcome(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        forever(stream, b"x-field: and another one, and another one, and another one\r\n", 0)
    });
    assert_eq!(text, NO_ANSWER);
    let text = outcome(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx-field: ")?;
        forever(stream, &[b'x'; 4096], 0)
    });
    assert_eq!(text, NO_ANSWER);
}

#[test]
fn a_slow_response_head_ends_at_the_deadline() {
    let text = outcome(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        forever(stream, b"x: y\r\n", 50)
    });
    insta::assert_snapshot!(text, @"hostile: launcher.plan: not finished within 2 s, and stopped");
    let text = outcome(|stream| forever(stream, b"HTTP/1.1 100 Continue\r\n\r\n", 10));
    insta::assert_snapshot!(text, @"hostile: launcher.plan: not finished within 2 s, and stopped");
}

#[test]
fn an_invalid_response_head_is_rejected() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a: b\rc: d\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.9\r\n",
    ] {
        assert_eq!(outcome(move |stream| stream.write_all(head.as_bytes())), NO_ANSWER, "{head:?}");
    }
    // The same server with a valid response.
    let text = outcome(|stream| stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"));
    assert_eq!(text, "hostile: launcher.plan: answered 200");
}

#[test]
fn an_unrequested_protocol_upgrade_opens_no_tunnel() {
    let (sender, ends) = mpsc::channel();
    // The component reads the response body to its end.
    let text = request_outcome("request GET http://SERVER/", move |stream| {
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: tunnel\r\n\r\nthe server speaks",
        )?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut received = Vec::new();
        let end = stream.read_to_end(&mut received).map_err(|error| error.kind());
        let _ = sender.send((end, received));
        Ok(())
    });
    insta::assert_snapshot!(text, @"hostile: launcher.plan: answered 101 ");
    let (end, received) = ends.recv_timeout(Duration::from_secs(10)).unwrap();
    // Unread bytes of the server turn the end of the connection into a reset.
    assert!(matches!(end, Ok(_) | Err(ErrorKind::ConnectionReset)), "the connection stays open: {end:?}");
    assert_eq!(String::from_utf8_lossy(&received), "");
}

#[test]
fn a_redirect_followed_by_the_component_is_checked_against_its_grants() {
    let text = outcome(|stream| {
        stream.write_all(b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/meta-data/\r\ncontent-length: 0\r\n\r\n")
    });
    insta::assert_snapshot!(text, @r#"hostile: launcher.plan: the host refused http to http://169.254.169.254/latest/meta-data/. To allow it, add to [grants] in the component's manifest: http = ["http://169.254.169.254"]"#);
}
