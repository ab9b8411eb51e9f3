//! Answering from what was recorded.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tokio::time::{Sleep, sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::content;
use super::format::{Answered, Asked, Cassette, Content, End, Exchange};
use super::ids::Ids;

/// How many recorded requests are named to whoever asked for another.
const NEAREST: usize = 3;
/// A pause that was recorded is kept, up to this: what counts is that there was one.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A cassette that answers.
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

/// What a request is answered with.
#[derive(Debug, Clone)]
pub enum Played {
    /// An answer as it was recorded, with the ids of now.
    Answer {
        /// Its status.
        status: u16,
        /// Its headers.
        headers: Vec<(String, String)>,
        /// Its body, in parts with the pause before each.
        parts: Vec<(Duration, Bytes)>,
        /// How the body ended, where it did not simply end.
        end: Option<End>,
    },
    /// No answer came, for a reason as `wasi:http` calls it.
    Error(super::Broken),
    /// It was never recorded. The text says what was, and what differs.
    Missing(String),
}

impl Player {
    /// Answers from a cassette, from its beginning.
    pub fn new(cassette: Cassette) -> Self {
        Self { exchanges: cassette.exchanges, progress: Mutex::default() }
    }

    /// The requests that were not recorded, so far, as what was said of them.
    pub fn missing(&self) -> Vec<String> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).missing.clone()
    }

    /// What a request is answered with.
    ///
    /// Of the recorded requests with its method, URL and body, the next one answers that has not
    /// yet. Where all have, the last one answers again if the request changes nothing: how often
    /// somebody looks is chance. For the same reason an answer from after a change is not given
    /// before that change was asked for, as long as there is an older one.
    pub fn answer(&self, asked: &Asked) -> Played {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fitting: Vec<(usize, Ids)> = Vec::new();
        for (index, exchange) in self.exchanges.iter().enumerate() {
            let mut ids = progress.ids.clone();
            if self.fits(&mut ids, &exchange.request, asked) {
                fitting.push((index, ids));
            }
        }
        let known = progress.ids.changed();
        if fitting.iter().any(|(_, ids)| ids.changed() == known) {
            fitting.retain(|(_, ids)| ids.changed() == known);
        }
        let next = fitting.iter().find(|(index, _)| !progress.used.contains(index));
        let last = fitting.iter().rev().find(|(index, _)| progress.used.contains(index));
        let safe = is_safe(&asked.method);
        let chosen = match (next, last) {
            (Some(next), Some(last)) if safe && self.is_ahead(next.0, &progress.used) => Some(last),
            (Some(next), _) => Some(next),
            (None, last) => last.filter(|_| safe),
        };
        let Some((index, ids)) = chosen.cloned() else {
            let text = self.describe_missing(asked, &progress.ids, !fitting.is_empty());
            tracing::error!("{text}");
            progress.missing.push(text.clone());
            return Played::Missing(text);
        };
        progress.used.insert(index);
        progress.ids = ids;
        let exchange = &self.exchanges[index];
        match (&exchange.response, &exchange.error) {
            (Some(response), _) => played(response, &progress.ids),
            (None, Some(error)) => Played::Error(error.clone()),
            (None, None) => {
                Played::Missing(format!("the cassette has no answer to {} {}", asked.method, asked.url))
            }
        }
    }

    /// Whether its process changed something before this that was not asked for yet.
    fn is_ahead(&self, index: usize, used: &BTreeSet<usize>) -> bool {
        let process = self.exchanges[index].process;
        self.exchanges[..index]
            .iter()
            .enumerate()
            .any(|(at, one)| one.process == process && !is_safe(&one.request.method) && !used.contains(&at))
    }

    fn fits(&self, ids: &mut Ids, recorded: &Asked, asked: &Asked) -> bool {
        recorded.method == asked.method
            && same_url(ids, &recorded.url, &asked.url)
            && same_body(ids, recorded.body.as_ref(), asked.body.as_ref()).is_ok()
    }

    fn describe_missing(&self, asked: &Asked, ids: &Ids, is_used_up: bool) -> String {
        let name = format!("{} {}", asked.method, asked.url);
        if is_used_up {
            return format!("the cassette was asked once more than it was recorded for {name}");
        }
        let mut nearest: Vec<(usize, String)> = Vec::new();
        for exchange in &self.exchanges {
            let recorded = &exchange.request;
            let mut ids = ids.clone();
            let same = same_url(&mut ids, &recorded.url, &asked.url);
            let common = recorded.url.bytes().zip(asked.url.bytes()).take_while(|(a, b)| a == b).count();
            let mut text = format!("{} {}", recorded.method, recorded.url);
            let mut score = common;
            if recorded.method == asked.method {
                score += 20;
                if same {
                    score += 1_000;
                    if let Err(path) = same_body(&mut ids, recorded.body.as_ref(), asked.body.as_ref()) {
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

    pub(super) async fn play(&self, asked: &Asked) -> Result<Response<WasiBody>, Error> {
        match self.answer(asked) {
            Played::Answer { status, headers, parts, end } => {
                let body = Parts { parts: parts.into_iter().collect(), pause: None, end };
                Ok(response(status, &headers, body.boxed_unsync()))
            }
            Played::Error(broken) => match broken.condition() {
                Some(error) => Err(error),
                None => std::future::pending().await,
            },
            // As both Ray and Kubernetes would put it, so that it reaches whoever called as it is.
            Played::Missing(text) => {
                let document = serde_json::json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "reason": "NotRecorded", "message": text, "code": 400,
                });
                let is_kubernetes =
                    crate::capability::kubernetes::is_meant(&asked.url.parse().unwrap_or_default());
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

fn played(response: &Answered, ids: &Ids) -> Played {
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
    Played::Answer {
        status: response.status,
        headers: response.headers.iter().map(|(name, value)| (name.clone(), change(value))).collect(),
        parts,
        end: response.end.clone(),
    }
}

fn same_url(ids: &mut Ids, recorded: &str, asked: &str) -> bool {
    let split = |url: &str| {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let mut query: Vec<String> =
            query.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).collect();
        query.sort();
        (address.to_owned(), query.join("&"))
    };
    let ((old, old_query), (new, new_query)) = (split(recorded), split(asked));
    ids.text(&old, &new) && ids.text(&old_query, &new_query)
}

/// Compares bodies; where they differ, says where.
fn same_body(ids: &mut Ids, recorded: Option<&Content>, asked: Option<&Content>) -> Result<(), String> {
    match (recorded, asked) {
        (None, None) => Ok(()),
        (Some(Content::Json(old)), Some(Content::Json(new))) => ids.json(old, new, ""),
        (Some(Content::Text(old)), Some(Content::Text(new))) if ids.text(old, new) => Ok(()),
        // An archive may hold times; its place in the URL tells it from others.
        (Some(Content::Digest { .. }), Some(Content::Digest { .. })) => Ok(()),
        (Some(old), Some(new)) if old == new => Ok(()),
        _ => Err("its beginning".to_owned()),
    }
}

/// A body as it came.
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
                // Nothing more was recorded, and nothing more comes: whoever reads lets go again.
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
