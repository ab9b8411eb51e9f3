//! Servers that attack: heads and bodies that never end, trickle, contradict themselves or lead away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use sandbox_tests::{Subject, attack};

const GRANTED: &str = "id = 'hostile'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [[]] }\n[limits]\nresponse_mib = 1\ncall_seconds = 2.0\n";

/// What came of a request to a server that does this with each connection.
fn outcome(serve: fn(&mut TcpStream) -> std::io::Result<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut seen = [0; 4096];
                let _ = stream.read(&mut seen);
                let _ = serve(&mut stream);
            });
        }
    });
    let subject = Subject::new("hostile", GRANTED)
        .setting("attack", &format!("raw GET http {authority} /"))
        .authority(&format!("http://{authority}"), ("x-a", "b"));
    // Compiling is not what is timed.
    subject.backend().describe().unwrap();
    let begun = Instant::now();
    let text = attack(&subject).replace(&authority, "SERVER");
    assert!(begun.elapsed() < Duration::from_secs(10), "{text}");
    text
}

fn forever(stream: &mut TcpStream, part: &[u8], pause: u64) -> std::io::Result<()> {
    loop {
        stream.write_all(part)?;
        std::thread::sleep(Duration::from_millis(pause));
    }
}

#[test]
fn a_head_without_end_is_given_up() {
    let text = outcome(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        forever(stream, b"x-field: and another one, and another one, and another one\r\n", 0)
    });
    assert!(!text.contains("answered") && !text.contains("not finished"), "{text}");
    let text = outcome(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx-field: ")?;
        forever(stream, &[b'x'; 4096], 0)
    });
    assert!(!text.contains("answered") && !text.contains("not finished"), "{text}");
}

#[test]
fn a_head_that_trickles_ends_with_the_call() {
    let text = outcome(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        forever(stream, b"x: y\r\n", 50)
    });
    insta::assert_snapshot!(text, @"hostile: launcher.locate: not finished within 2 s, and stopped");
    let text = outcome(|stream| forever(stream, b"HTTP/1.1 100 Continue\r\n\r\n", 10));
    insta::assert_snapshot!(text, @"hostile: launcher.locate: not finished within 2 s, and stopped");
}

#[test]
fn an_answer_that_contradicts_itself_is_no_answer() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a: b\rc: d\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.9\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let head = head.to_owned();
        let shown = head.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut seen = [0; 4096];
                let _ = stream.read(&mut seen);
                let _ = stream.write_all(head.as_bytes());
            }
        });
        let subject = Subject::new("hostile", GRANTED)
            .setting("attack", &format!("raw GET http {authority} /"))
            .authority(&format!("http://{authority}"), ("x-a", "b"));
        let text = attack(&subject);
        assert!(!text.contains("answered") && !text.contains("not finished"), "{shown:?}: {text}");
    }
}

#[test]
fn a_change_of_protocols_that_nobody_asked_for_gives_no_tunnel() {
    let text = outcome(|stream| {
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: tunnel\r\n\r\nhello",
        )?;
        forever(stream, b"tunnel", 50)
    });
    assert!(!text.contains("hello") && !text.contains("tunnel"), "{text}");
}

#[test]
fn a_redirect_that_the_component_follows_is_judged_anew() {
    let text = outcome(|stream| {
        stream.write_all(b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/meta-data/\r\ncontent-length: 0\r\n\r\n")
    });
    insta::assert_snapshot!(text, @r#"hostile: launcher.locate: the host refused http to http://169.254.169.254/latest/meta-data/. To allow it, add to [grants] in the component's manifest: http = ["http://169.254.169.254"]"#);
}
