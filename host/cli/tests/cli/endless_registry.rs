//! Responses of a registry that do not end: a pull stops at a limit and keeps nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::TestEnvironment;

/// A registry that sends one of its responses without an end.
struct Registry {
    port: u16,
    sent: Arc<AtomicU64>,
}

impl Registry {
    /// Starts a registry whose response to paths with `endless` has this status and no end.
    fn start(endless: &'static str, status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent = Arc::<AtomicU64>::default();
        let counter = sent.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = counter.clone();
                std::thread::spawn(move || serve(&stream, port, endless, status, &counter));
            }
        });
        Self { port, sent }
    }

    /// Pulls, checks that nothing was kept and that little was sent, and returns standard error.
    #[track_caller]
    fn pull_error(&self, code: i32) -> String {
        let environment = TestEnvironment::new();
        let reference = format!("oci://127.0.0.1:{}/mine:1", self.port);
        let output = environment.run(["pull", &reference, "--output", "mine.wasm"]);
        let text = output.fails(code).to_owned();
        let kept = std::fs::read_dir(environment.path("cache/pulled")).into_iter().flatten().count();
        assert_eq!(kept, 0, "a partial component was left behind");
        let sent = self.sent.load(Ordering::SeqCst);
        assert!(sent < 64 << 20, "the registry could send {sent} bytes: {text}");
        text
    }
}

fn serve(mut stream: &TcpStream, port: u16, endless: &str, status: &str, sent: &AtomicU64) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
    if request.contains(endless) {
        let _ = write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n\r\n");
        let block = [b' '; 64 << 10];
        while stream.write_all(&block).is_ok() {
            sent.fetch_add(block.len() as u64, Ordering::SeqCst);
        }
        return;
    }
    let realm = format!("Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"here\"");
    let body = r#"{"token": "t"}"#;
    let head = format!("HTTP/1.1 200 OK\r\nWWW-Authenticate: {realm}\r\nContent-Length: {}\r\n", body.len());
    let _ = write!(stream, "{head}Connection: close\r\n\r\n{body}");
}

#[test]
fn a_manifest_without_an_end_is_rejected() {
    let text = Registry::start("/manifests/", "200 OK").pull_error(3);
    assert!(text.contains("the image manifest is longer than the limit of 4194304 bytes"), "{text}");
}

#[test]
fn a_token_without_an_end_is_rejected() {
    let text = Registry::start("/token", "200 OK").pull_error(3);
    assert!(text.contains("the token is longer than the limit of 1048576 bytes"), "{text}");
}

#[test]
fn an_error_without_an_end_is_shown_by_its_beginning() {
    let text = Registry::start("/manifests/", "500 Internal Server Error").pull_error(1);
    assert!(text.contains("HTTP 500") && text.len() < 1_000, "{} bytes", text.len());
    let text = Registry::start("/token", "403 Forbidden").pull_error(1);
    assert!(text.contains("the registry denies access") && text.len() < 1_000, "{} bytes", text.len());
}
