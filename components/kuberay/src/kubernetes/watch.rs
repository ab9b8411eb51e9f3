//! Watches objects with one list, followed by a stream of changes.
//!
//! A stream that ends is reopened at the last resource version. If the API server has discarded that version
//! (410 Gone), the watch lists again. Neither is an error.

use std::{collections::VecDeque, io::Read as _};

use dagster_ray_sdk::{
    Error,
    clock::Clock,
    error::from_io,
    http::{Body, Http},
    json,
    retry::{Policy, Retries},
};
use serde_json::Value;

use super::{Kind, Kubernetes, Selection, object, responses};

const FIRST_PAUSE_MS: u64 = 200;
const MAX_PAUSE_MS: u64 = 5_000;
const MAX_STREAM_S: u64 = 3_600;

/// A change of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The object exists, in this state.
    Updated(Value),
    /// The object does not exist, with its last state if known.
    Deleted(Option<Value>),
}

struct Line {
    kind: String,
    object: Value,
}

impl Line {
    fn read(text: &[u8]) -> Result<Self, String> {
        let mut line = json::parse(text).map_err(|error| format!("is not JSON: {error}"))?;
        let object = line.get_mut("object").map(Value::take).ok_or("has no `object`")?;
        let kind = object::text(&line, "/type").ok_or("has no `type`")?;
        Ok(Self { kind: kind.to_owned(), object })
    }
}

struct Stream {
    body: Body,
    unread: Vec<u8>,
}

/// The outcome of a read of a stream.
enum Poll {
    Pending,
    Line(Line),
    End,
}

/// A watch of some objects.
pub struct Watch<'k, H, C> {
    kubernetes: &'k Kubernetes<H, C>,
    kind: Kind,
    namespace: String,
    which: Selection,
    resource_version: Option<String>,
    stream: Option<Stream>,
    waiting: VecDeque<Change>,
    pause_ms: u64,
    outage: Retries,
    not_before_ms: u64,
    last_error: Option<Error>,
}

impl<'k, H: Http, C: Clock> Watch<'k, H, C> {
    /// Creates a watch. Sends no request until [`Watch::next`].
    pub fn new(kubernetes: &'k Kubernetes<H, C>, kind: Kind, namespace: &str, which: Selection) -> Self {
        Self {
            kubernetes,
            kind,
            namespace: namespace.to_owned(),
            which,
            resource_version: None,
            stream: None,
            waiting: VecDeque::new(),
            pause_ms: FIRST_PAUSE_MS,
            outage: Retries::new(kubernetes.patience().unreachable()),
            not_before_ms: 0,
            last_error: None,
        }
    }

    /// Returns the transient error that interrupts the watch, if any.
    pub fn last_error(&self) -> Option<&Error> {
        self.last_error.as_ref()
    }

    /// Returns the next change, or `None` after about `wait_ms`. The first changes are the listed objects.
    ///
    /// `last_for_ms` is how long the caller still intends to watch, which limits a stream's duration.
    ///
    /// # Errors
    /// A permanent error, or the last one of an outage that lasted as long as the client's patience.
    pub fn next(&mut self, wait_ms: u64, last_for_ms: u64) -> Result<Option<Change>, Error> {
        let until = self.kubernetes.clock().now_ms().saturating_add(wait_ms);
        loop {
            if let Some(change) = self.waiting.pop_front() {
                return Ok(Some(change));
            }
            let now = self.kubernetes.clock().now_ms();
            if self.stream.is_none() && now < self.not_before_ms {
                self.kubernetes.clock().sleep_ms(self.not_before_ms.min(until).saturating_sub(now));
                if self.kubernetes.clock().now_ms() < self.not_before_ms {
                    return Ok(None);
                }
            }
            match self.step(until.saturating_sub(now), last_for_ms) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) if error.is_transient() => {
                    self.stream = None;
                    let clock = self.kubernetes.clock();
                    let Some(wait_ms) = self.outage.wait_after(clock, error.retry_after_ms()) else {
                        return Err(error);
                    };
                    self.last_error = Some(error);
                    self.back_off(wait_ms);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lists, opens a stream or reads from it, whichever is next. Returns `false` if no data arrived in time.
    fn step(&mut self, wait_ms: u64, last_for_ms: u64) -> Result<bool, Error> {
        let Some(from) = self.resource_version.clone() else {
            self.list()?;
            return Ok(true);
        };
        let Some(stream) = &mut self.stream else {
            let seconds = (last_for_ms / 1_000 + 5).min(MAX_STREAM_S);
            match self.kubernetes.stream(self.kind, &self.namespace, &self.which, &from, seconds) {
                Ok(response) => {
                    self.stream = Some(Stream { body: response.body, unread: Vec::new() });
                    self.outage.reset();
                    self.last_error = None;
                }
                Err(Error::Backend(api)) if api.status == 410 => self.resource_version = None,
                Err(error) => return Err(error),
            }
            return Ok(true);
        };
        match stream.poll(wait_ms)? {
            Poll::Pending => Ok(false),
            Poll::End => {
                self.stream = None;
                self.back_off(0);
                Ok(true)
            }
            Poll::Line(line) => {
                self.handle(line)?;
                Ok(true)
            }
        }
    }

    fn list(&mut self) -> Result<(), Error> {
        // The watch itself repeats a failed list, so that its caller can stop between two attempts.
        let once = Policy::ONCE;
        let mut listed = self.kubernetes.list_with(&once, self.kind, &self.namespace, &self.which, &[])?;
        self.outage.reset();
        self.resource_version = Some(object::resource_version(&listed).to_owned());
        self.stream = None;
        self.last_error = None;
        let items = match listed.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        // Tells the caller that the one watched object does not exist.
        if items.is_empty() && matches!(self.which, Selection::Name(_)) {
            self.waiting.push_back(Change::Deleted(None));
        }
        self.waiting.extend(items.into_iter().map(Change::Updated));
        Ok(())
    }

    fn handle(&mut self, line: Line) -> Result<(), Error> {
        if line.kind == "ERROR" {
            let code =
                line.object.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
            self.stream = None;
            self.back_off(0);
            if code == Some(410) {
                self.resource_version = None;
                return Ok(());
            }
            let info = responses::RequestInfo {
                verb: "watch",
                kind: self.kind,
                namespace: &self.namespace,
                name: None,
            };
            return Err(responses::failure(code.unwrap_or(500), None, &json::text(&line.object), &info));
        }
        self.pause_ms = FIRST_PAUSE_MS;
        let seen = object::resource_version(&line.object);
        if !seen.is_empty() {
            self.resource_version = Some(seen.to_owned());
        }
        match line.kind.as_str() {
            "ADDED" | "MODIFIED" => self.waiting.push_back(Change::Updated(line.object)),
            "DELETED" => self.waiting.push_back(Change::Deleted(Some(line.object))),
            // BOOKMARK only advances the resource version. Unknown types are ignored.
            _ => {}
        }
        Ok(())
    }

    /// Delays the next request by at least `wait_ms`, and by a pause that is twice as long each time, up to
    /// [`MAX_PAUSE_MS`]. Half of the pause is random.
    fn back_off(&mut self, wait_ms: u64) {
        let clock = self.kubernetes.clock();
        let half = self.pause_ms / 2;
        let pause_ms = half + clock.jitter_ms(self.pause_ms - half);
        self.not_before_ms = clock.now_ms().saturating_add(pause_ms.max(wait_ms));
        self.pause_ms = (self.pause_ms * 2).min(MAX_PAUSE_MS);
    }
}

impl Stream {
    fn poll(&mut self, wait_ms: u64) -> Result<Poll, Error> {
        const PIECE: usize = 16 * 1024;

        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Line::read(&line).map(Poll::Line).map_err(|problem| {
                    Error::unavailable(format!("the API server sent a watch event that {problem}"), false)
                });
            }
            if !self.body.wait_readable(wait_ms) {
                return Ok(Poll::Pending);
            }
            let mut piece = [0; PIECE];
            match self.body.read(&mut piece).map_err(|broken| from_io(broken, "watching"))? {
                0 => return Ok(Poll::End),
                count => self.unread.extend_from_slice(&piece[..count]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::testing::{ScriptedHttp, ScriptedResponse, VirtualClock};

    use super::{super::RAY_CLUSTER, *};

    fn chunks(lines: &[&str]) -> ScriptedResponse {
        ScriptedResponse::Complete {
            status: 200,
            chunks: lines.iter().map(|line| line.as_bytes().to_vec()).collect(),
        }
    }

    #[test]
    fn a_watch_resumes_after_a_broken_stream_and_lists_again_after_410() {
        let http = ScriptedHttp::new([
            ScriptedResponse::new(200, r#"{"metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"name": "a"}}]}"#),
            // A line in two chunks, a bookmark, and a broken connection.
            ScriptedResponse::Broken {
                status: 200,
                chunks: vec![
                    br#"{"type":"MODIFIED","object":{"metadata":{"name":"a","#.to_vec(),
                    b"\"resourceVersion\":\"6\"}}}\n{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n".to_vec(),
                ],
                error: Error::unavailable("reset", false),
            },
            chunks(&["{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\"}}\n"]),
            ScriptedResponse::new(200, r#"{"metadata": {"resourceVersion": "20"}, "items": []}"#),
        ]);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let mut watch = Watch::new(&kubernetes, RAY_CLUSTER, "ray", Selection::Name("a".to_owned()));
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.extend(watch.next(1_000, 60_000).unwrap());
        }
        assert!(matches!(
            (&seen[0], &seen[1], &seen[2]),
            (Change::Updated(_), Change::Updated(_), Change::Deleted(None))
        ));
        let urls: Vec<String> = http.requests().into_iter().map(|request| request.url).collect();
        assert!(urls[1].contains("watch=1&allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds=65"));
        assert!(urls[1].contains("fieldSelector=metadata.name%3Da"));
        assert!(urls[2].contains("resourceVersion=9"));
        assert!(!urls[3].contains("watch"));
    }

    #[test]
    fn a_watch_outlasts_an_outage_until_the_patience_is_over() {
        let http = ScriptedHttp::with_rule(|_| {
            Some(ScriptedResponse::Error(Error::unavailable("connection refused", false)))
        });
        let clock = VirtualClock::default();
        let kubernetes = Kubernetes::new(&http, &clock);
        let mut watch = Watch::new(&kubernetes, RAY_CLUSTER, "ray", Selection::Name("a".to_owned()));
        let error = loop {
            match watch.next(1_000, 60_000) {
                Ok(change) => assert_eq!(change, None),
                Err(error) => break error,
            }
        };
        assert!(error.message().contains("refused"));
        assert!((600_000..610_000).contains(&clock.now_ms()), "{}", clock.now_ms());
    }

    #[test]
    fn a_forbidden_request_ends_the_watch() {
        let http = ScriptedHttp::new([
            ScriptedResponse::new(200, r#"{"metadata": {"resourceVersion": "5"}, "items": []}"#),
            ScriptedResponse::new(403, r#"{"kind":"Status","code":403,"reason":"Forbidden","message":"no"}"#),
        ]);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let mut watch = Watch::new(&kubernetes, RAY_CLUSTER, "ray", Selection::Name("a".to_owned()));
        assert_eq!(watch.next(1_000, 60_000).unwrap(), Some(Change::Deleted(None)));
        let refused = watch.next(1_000, 60_000).unwrap_err();
        assert!(refused.message().contains("verbs: [\"watch\"]"));
    }
}
