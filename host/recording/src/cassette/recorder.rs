//! Records HTTP exchanges.
//!
//! Each process appends to its own file in one directory, and writes a line as soon as an exchange ends.
//! Recorded exchanges therefore survive a crash of the process.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use dagster_ray_runtime::{Next, OutgoingRequest};
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error, WasiBody};

use super::error_names::GIVEN_UP;
use super::format::{CassetteError, End, Exchange, Line, RecordedError, RecordedRequest, RecordedResponse};
use super::scrub::Scrub;
use super::{content, recorded_request};

/// Minimum length of a recorded pause.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// Maximum number of recorded bytes of a body. The rest is passed on, but not recorded.
const MAX_BODY_BYTES: usize = 16 << 20;
/// The recorded response headers: those that a component may depend on.
const RECORDED_HEADERS: [&str; 4] = ["content-type", "location", "retry-after", "etag"];

/// Records the exchanges of this process into a file.
#[derive(Debug)]
pub(crate) struct Recorder(Mutex<File>);

impl Recorder {
    /// Creates this process's file in the directory, which is created if it does not exist.
    pub(super) fn open(directory: &Path) -> Result<Self, CassetteError> {
        let wrong = |problem: String| CassetteError::new(directory, problem);
        if directory.is_file() || directory.extension().is_some_and(|extension| extension == "json") {
            return Err(wrong(
                "the path must be a directory, because each process records into its own file. Name a \
                 directory, or use `dagster-ray record --to FILE -- COMMAND` to record into one file"
                    .into(),
            ));
        }
        std::fs::create_dir_all(directory).map_err(|error| wrong(error.to_string()))?;
        let name = format!("{}-{}.jsonl", microseconds(), std::process::id());
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            // Requests and responses are confidential: only this user may read them.
            .mode(0o600)
            .open(directory.join(name))
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self(Mutex::new(file)))
    }

    /// Sends a request and records it with its response.
    pub(super) async fn record(
        self: Arc<Self>,
        outgoing: OutgoingRequest,
        scrub: Scrub,
        next: Next,
    ) -> Result<Response<WasiBody>, Error> {
        let mut pending = PendingExchange::new(self, recorded_request(&outgoing.request, &scrub), scrub);
        match next.send(outgoing).await {
            Err(error) => {
                pending.error = Some(RecordedError::from_error(&error));
                Err(error)
            }
            Ok(response) => {
                pending.head =
                    Some((response.status().as_u16(), recorded_headers(response.headers(), &pending.scrub)));
                pending.last = Instant::now();
                Ok(response.map(|body| Tee { body, pending }.boxed_unsync()))
            }
        }
    }

    fn write(&self, line: &Line) {
        let Ok(mut text) = serde_json::to_string(line) else { return };
        text.push('\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(text.as_bytes()) {
            tracing::error!("cannot record an exchange: {error}");
        }
    }
}

fn microseconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

fn recorded_headers(headers: &HeaderMap, scrub: &Scrub) -> BTreeMap<String, String> {
    RECORDED_HEADERS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), scrub.text(headers.get(*name)?.to_str().ok()?))))
        .collect()
}

/// An exchange in progress. Dropping it writes it, whatever its outcome.
struct PendingExchange {
    recorder: Arc<Recorder>,
    at: u64,
    request: RecordedRequest,
    scrub: Scrub,
    head: Option<(u16, BTreeMap<String, String>)>,
    error: Option<RecordedError>,
    body: Vec<u8>,
    /// The offset and length of each pause.
    pauses: Vec<(usize, Duration)>,
    last: Instant,
    end: Option<End>,
}

impl PendingExchange {
    fn new(recorder: Arc<Recorder>, request: RecordedRequest, scrub: Scrub) -> Self {
        Self {
            recorder,
            at: microseconds(),
            request,
            scrub,
            head: None,
            error: None,
            body: Vec::new(),
            pauses: Vec::new(),
            last: Instant::now(),
            end: Some(End::Open),
        }
    }

    fn push(&mut self, data: &[u8]) {
        if self.body.len() + data.len() > MAX_BODY_BYTES {
            return;
        }
        let pause = self.last.elapsed();
        if pause >= MIN_PAUSE {
            self.pauses.push((self.body.len(), pause));
        }
        self.body.extend_from_slice(data);
        self.last = Instant::now();
    }

    fn recorded_response(&mut self, status: u16, headers: BTreeMap<String, String>) -> RecordedResponse {
        let cuts: Vec<usize> = self.pauses.iter().map(|(at, _)| *at).collect();
        let (body, cuts) = self.scrub.body(&self.body, &cuts, self.end.is_none());
        let mut response =
            RecordedResponse { status, headers, body: None, parts: Vec::new(), end: self.end.take() };
        if cuts.iter().all(|cut| *cut == 0) || cuts.iter().all(|cut| *cut == body.len()) {
            response.body = (!body.is_empty()).then(|| content::from_bytes(body));
            return response;
        }
        let (mut from, mut after) = (0, Duration::ZERO);
        for (to, pause) in cuts.into_iter().zip(self.pauses.iter().map(|(_, pause)| *pause)) {
            if to > from {
                response.parts.push(content::part(rounded(after), &body[from..to]));
                after = Duration::ZERO;
            }
            from = to;
            after += pause;
        }
        if from < body.len() {
            response.parts.push(content::part(rounded(after), &body[from..]));
        }
        response
    }
}

fn rounded(pause: Duration) -> u64 {
    u64::try_from((pause.as_millis() + 50) / 100 * 100).unwrap_or(u64::MAX)
}

impl Drop for PendingExchange {
    fn drop(&mut self) {
        let response = self.head.take().map(|(status, headers)| self.recorded_response(status, headers));
        if response.is_none() && self.error.is_none() {
            self.error = Some(RecordedError { kind: GIVEN_UP.to_owned(), reason: None });
        }
        let (request, error) = (self.request.clone(), self.error.take());
        let exchange = Exchange { process: 0, request, response, error };
        self.recorder.write(&Line { at: self.at, exchange });
    }
}

/// Passes a body on and records it.
struct Tee {
    body: WasiBody,
    pending: PendingExchange,
}

impl Body for Tee {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.pending.push(data);
                }
            }
            Some(Err(_)) => self.pending.end = Some(End::Broken),
            None => self.pending.end = None,
        }
        if self.body.is_end_stream() && self.pending.end == Some(End::Open) {
            self.pending.end = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
