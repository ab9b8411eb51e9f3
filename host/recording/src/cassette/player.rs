//! Replays a cassette.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use dagster_ray_runtime::capability::kubernetes::is_kubernetes_api;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tokio::time::{Sleep, sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::content;
use super::format::{Cassette, Content, End, Exchange, RecordedRequest, RecordedResponse};
use super::ids::Ids;

/// How many similar recorded requests the error for an unrecorded request lists.
const NEAREST: usize = 3;
/// Maximum length of a replayed pause. Longer recorded pauses are shortened.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Replays the responses of a cassette.
pub struct Player {
    exchanges: Vec<Exchange>,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    used: BTreeSet<usize>,
    ids: Ids,
    missing: Vec<String>,
}

/// The replayed outcome of a request.
#[derive(Debug, Clone)]
pub enum Replayed {
    /// A recorded response, with the ids of the current session.
    Response {
        /// The status.
        status: u16,
        /// The headers.
        headers: Vec<(String, String)>,
        /// The parts of the body, each with the pause before it.
        parts: Vec<(Duration, Bytes)>,
        /// How the body ended, if not normally.
        end: Option<End>,
    },
    /// A recorded error of `wasi:http`.
    Error(super::RecordedError),
    /// The request was not recorded. The text lists similar requests and the first difference.
    Missing(String),
}

impl Player {
    /// Replays a cassette from its beginning.
    pub fn new(cassette: Cassette) -> Self {
        Self { exchanges: cassette.exchanges, progress: Mutex::default() }
    }

    /// Returns the messages of the requests so far that were not recorded.
    pub fn missing(&self) -> Vec<String> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).missing.clone()
    }

    /// Returns the outcome of a request.
    ///
    /// The candidates are the recorded requests with the same method, URL and body. The first unused
    /// candidate is replayed. If all are used, a GET, a HEAD and a request without a body replay the last
    /// one again, because the number of polls, and of requests to stop a job, differs between sessions.
    /// For the same reason, a GET or HEAD that was recorded
    /// after a change is not replayed before that change was requested, if a used candidate can be
    /// replayed again.
    pub fn replay(&self, request: &RecordedRequest) -> Replayed {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fitting: Vec<(usize, Ids)> = Vec::new();
        for (index, exchange) in self.exchanges.iter().enumerate() {
            let mut ids = progress.ids.clone();
            if self.fits(&mut ids, &exchange.request, request) {
                fitting.push((index, ids));
            }
        }
        let known = progress.ids.changed();
        if fitting.iter().any(|(_, ids)| ids.changed() == known) {
            fitting.retain(|(_, ids)| ids.changed() == known);
        }
        let next = fitting.iter().find(|(index, _)| !progress.used.contains(index));
        let last = fitting.iter().rev().find(|(index, _)| progress.used.contains(index));
        let safe = is_safe(&request.method);
        let chosen = match (next, last) {
            (Some(next), Some(last)) if safe && self.is_ahead(next.0, &progress.used) => Some(last),
            (Some(next), _) => Some(next),
            (None, last) => last.filter(|_| safe || request.body.is_none()),
        };
        let Some((index, ids)) = chosen.cloned() else {
            let text = self.describe_missing(request, &progress.ids, !fitting.is_empty());
            tracing::error!("{text}");
            progress.missing.push(text.clone());
            return Replayed::Missing(text);
        };
        progress.used.insert(index);
        progress.ids = ids;
        let exchange = &self.exchanges[index];
        match (&exchange.response, &exchange.error) {
            (Some(response), _) => replayed(response, &progress.ids),
            (None, Some(error)) => Replayed::Error(error.clone()),
            (None, None) => Replayed::Missing(format!(
                "the cassette has neither a response nor an error for {} {}",
                request.method, request.url
            )),
        }
    }

    /// Returns whether the exchange follows a change of its process that was not requested yet.
    fn is_ahead(&self, index: usize, used: &BTreeSet<usize>) -> bool {
        let process = self.exchanges[index].process;
        self.exchanges[..index]
            .iter()
            .enumerate()
            .any(|(at, one)| one.process == process && !is_safe(&one.request.method) && !used.contains(&at))
    }

    fn fits(&self, ids: &mut Ids, recorded: &RecordedRequest, request: &RecordedRequest) -> bool {
        recorded.method == request.method
            && same_url(ids, &recorded.url, &request.url)
            && same_body(ids, recorded.body.as_ref(), request.body.as_ref()).is_ok()
    }

    fn describe_missing(&self, request: &RecordedRequest, ids: &Ids, is_used_up: bool) -> String {
        let name = format!("{} {}", request.method, request.url);
        if is_used_up {
            return format!("the cassette has no further response to {name}: each recorded one was replayed");
        }
        let mut nearest: Vec<(usize, String)> = Vec::new();
        for exchange in &self.exchanges {
            let recorded = &exchange.request;
            let mut ids = ids.clone();
            let same = same_url(&mut ids, &recorded.url, &request.url);
            let common = recorded.url.bytes().zip(request.url.bytes()).take_while(|(a, b)| a == b).count();
            let mut text = format!("{} {}", recorded.method, recorded.url);
            let mut score = common;
            if recorded.method == request.method {
                score += 20;
                if same {
                    score += 1_000;
                    if let Err(path) = same_body(&mut ids, recorded.body.as_ref(), request.body.as_ref()) {
                        text.push_str(&format!(" (its body differs at {path})"));
                    }
                }
            }
            if !nearest.iter().any(|(_, known)| *known == text) {
                nearest.push((score, text));
            }
        }
        nearest.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        let nearest: Vec<_> = nearest.into_iter().take(NEAREST).map(|(_, text)| text).collect();
        if nearest.is_empty() {
            return format!("the cassette has no {name}: it is empty");
        }
        format!("the cassette has no {name}; nearest: {}", nearest.join("; "))
    }

    pub(super) async fn respond(&self, request: &RecordedRequest) -> Result<Response<WasiBody>, Error> {
        match self.replay(request) {
            Replayed::Response { status, headers, parts, end } => {
                let body = Parts { parts: parts.into_iter().collect(), pause: None, end };
                Ok(response(status, &headers, body.boxed_unsync()))
            }
            Replayed::Error(error) => match error.to_error() {
                Some(error) => Err(error),
                None => std::future::pending().await,
            },
            // Use the error format of Kubernetes or Ray, so that the component passes the message on.
            Replayed::Missing(text) => {
                let document = serde_json::json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "reason": "NotRecorded", "message": text, "code": 400,
                });
                let is_kubernetes = is_kubernetes_api(&request.url.parse().unwrap_or_default());
                let (kind, body) = if is_kubernetes {
                    ("application/json", document.to_string())
                } else {
                    ("text/plain; charset=utf-8", text)
                };
                let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
                let headers = [(CONTENT_TYPE.as_str().to_owned(), kind.to_owned())];
                Ok(response(StatusCode::BAD_REQUEST.as_u16(), &headers, body))
            }
        }
    }
}

fn response(status: u16, headers: &[(String, String)], body: WasiBody) -> Response<WasiBody> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

fn replayed(response: &RecordedResponse, ids: &Ids) -> Replayed {
    let change = |text: &str| ids.translate(text).into_owned();
    let mut parts: Vec<(Duration, Bytes)> = response
        .parts
        .iter()
        .map(|part| {
            let pause = Duration::from_millis(part.after_ms).min(LONGEST_PAUSE);
            (pause, content::part_bytes(part, change))
        })
        .collect();
    if let Some(body) = &response.body {
        parts.insert(0, (Duration::ZERO, content::bytes(body, change)));
    }
    Replayed::Response {
        status: response.status,
        headers: response.headers.iter().map(|(name, value)| (name.clone(), change(value))).collect(),
        parts,
        end: response.end.clone(),
    }
}

fn same_url(ids: &mut Ids, recorded: &str, request: &str) -> bool {
    let split = |url: &str| {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let mut query: Vec<String> =
            query.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).collect();
        query.sort();
        (address.to_owned(), query.join("&"))
    };
    let ((old, old_query), (new, new_query)) = (split(recorded), split(request));
    ids.text(&old, &new) && ids.text(&old_query, &new_query)
}

/// Compares bodies. The error is the location of the first difference.
fn same_body(ids: &mut Ids, recorded: Option<&Content>, request: Option<&Content>) -> Result<(), String> {
    match (recorded, request) {
        (None, None) => Ok(()),
        (Some(Content::Json(old)), Some(Content::Json(new))) => ids.json(old, new, ""),
        (Some(Content::Text(old)), Some(Content::Text(new))) if ids.text(old, new) => Ok(()),
        // Archives contain timestamps, so digests differ. The URL identifies the package.
        (Some(Content::Digest { .. }), Some(Content::Digest { .. })) => Ok(()),
        (Some(old), Some(new)) if old == new => Ok(()),
        _ => Err("the start".to_owned()),
    }
}

/// A replayed body with its pauses.
struct Parts {
    parts: std::collections::VecDeque<(Duration, Bytes)>,
    pause: Option<Pin<Box<Sleep>>>,
    end: Option<End>,
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some((pause, _)) = self.parts.front() {
            let pause = *pause;
            let waiting = self.pause.get_or_insert_with(|| Box::pin(sleep(pause)));
            if !pause.is_zero() {
                std::task::ready!(waiting.as_mut().poll(cx));
            }
        }
        self.pause = None;
        match self.parts.pop_front() {
            Some((_, bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => match self.end {
                None => Poll::Ready(None),
                // The recorded reader stopped here, so the current one is expected to stop too.
                Some(End::Open) => Poll::Pending,
                Some(End::Broken) => {
                    self.end = None;
                    Poll::Ready(Some(Err(Error::HttpResponseIncomplete)))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty() && self.end.is_none()
    }
}

#[cfg(test)]
mod tests;
