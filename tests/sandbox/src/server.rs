//! Servers on loopback, to which components under test send requests.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A response without a body that is worth reading.
pub const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// An HTTP server that records the heads of all requests.
pub struct Server {
    /// The URL without a path.
    pub url: String,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts a server. `respond` gets the head of a request in lower case, and returns the whole response.
    pub fn start(respond: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let (connections, heads) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (counter, recorded) = (connections.clone(), heads.clone());
        let authority = serve_connections(move |stream| {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut reader = BufReader::new(stream.try_clone()?);
            while let Some(head) = read_request(&mut reader)? {
                recorded.lock().expect("no thread panics with the lock").push(head.clone());
                stream.write_all(respond(&head).as_bytes())?;
            }
            Ok(())
        });
        Self { url: format!("http://{authority}"), connections, heads }
    }

    /// Returns host and port.
    pub fn authority(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.authority().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
    }

    /// Returns how many connections were made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Returns the heads of all requests, in lower case.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no thread panics with the lock").clone()
    }
}

/// Starts a server that calls `serve` for each connection, in a thread. Returns its host and port.
pub fn serve_connections(serve: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let authority = listener.local_addr().expect("an address").to_string();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let serve = serve.clone();
            // An error is the end of a connection, which the component under test reports.
            std::thread::spawn(move || drop(serve(&mut stream)));
        }
    });
    authority
}

/// Reads a request to its end: an earlier response would race with the host's limits. Returns its head in
/// lower case, or `None` if the client closed the connection.
pub fn read_request(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let head = head.to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        while read_chunk(reader)? > 0 {}
    } else if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        skip(reader, length.parse().map_err(io::Error::other)?)?;
    }
    Ok(Some(head))
}

/// Reads a chunk of a body and returns its size.
fn read_chunk(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
    skip(reader, size + 2)?;
    Ok(size)
}

fn skip(reader: &mut impl BufRead, bytes: u64) -> io::Result<()> {
    io::copy(&mut reader.take(bytes), &mut io::sink()).map(drop)
}
