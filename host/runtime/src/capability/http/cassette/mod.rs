//! Cassettes: recordings of HTTP exchanges that are replayed without a network.
//!
//! The cassette sees a request after the policy check and before the host adds credentials. It never
//! records credentials, and replayed requests need the same grants. [`Cassette`] is the file format.

mod content;
mod error_names;
mod format;
mod ids;
mod player;
mod recorder;
mod scrub;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use http::{Request, Response};
use wasmtime_wasi_http::{Error, WasiBody};

pub use self::format::{
    Cassette, CassetteError, Content, End, Exchange, Part, RecordedError, RecordedRequest, RecordedResponse,
};
pub use self::player::{Player, Replayed};
use self::recorder::Recorder;
use self::scrub::Scrub;

/// The environment variable that enables recording or replaying. [`CassetteMode`] parses its value.
pub const VARIABLE: &str = "DAGSTER_RAY_CASSETTE";

/// How a cassette is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CassetteMode {
    /// Sends requests and records them into this directory.
    Record(PathBuf),
    /// Replays this file or directory. No request is sent.
    Replay(PathBuf),
}

impl FromStr for CassetteMode {
    type Err = CassetteError;

    /// Parses `record:<directory>` or `replay:<file or directory>`.
    fn from_str(text: &str) -> Result<Self, CassetteError> {
        match text.split_once(':') {
            Some(("record", path)) if !path.is_empty() => Ok(Self::Record(path.into())),
            Some(("replay", path)) if !path.is_empty() => Ok(Self::Replay(path.into())),
            _ => Err(CassetteError {
                path: text.into(),
                problem: "write record:<directory> or replay:<file>".into(),
            }),
        }
    }
}

/// A recorder or a player.
#[derive(Clone)]
pub(crate) enum CassetteHandle {
    Recording(Arc<Recorder>),
    Replaying(Arc<Player>),
}

impl CassetteHandle {
    pub(crate) fn open(mode: &CassetteMode) -> Result<Self, CassetteError> {
        Ok(match mode {
            CassetteMode::Record(directory) => Self::Recording(Arc::new(Recorder::open(directory)?)),
            CassetteMode::Replay(path) => Self::Replaying(Arc::new(Player::new(Cassette::read(path)?))),
        })
    }

    /// Replays the response to a request, or sends the request and records its response. `credentials`
    /// are the values that the host adds for this authority; they are removed from the recording.
    pub(super) async fn send<F>(
        self,
        request: Request<Bytes>,
        credentials: Vec<String>,
        send: impl FnOnce(Request<Bytes>) -> F,
    ) -> Result<Response<WasiBody>, Error>
    where
        F: Future<Output = Result<Response<WasiBody>, Error>>,
    {
        let scrub = Scrub::new(credentials);
        match self {
            Self::Recording(recorder) => recorder.record(request, scrub, send).await,
            Self::Replaying(player) => player.respond(&recorded_request(&request, &scrub)).await,
        }
    }
}

/// Converts a request to the form of a cassette.
fn recorded_request(request: &Request<Bytes>, scrub: &Scrub) -> RecordedRequest {
    let headers = [ACCEPT, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH]
        .iter()
        .filter_map(|name| {
            Some((name.as_str().to_owned(), scrub.text(request.headers().get(name)?.to_str().ok()?)))
        })
        .collect();
    RecordedRequest {
        method: request.method().to_string(),
        url: scrub.text(&request.uri().to_string()),
        headers,
        body: content::from_request_body(request.body(), scrub),
    }
}
