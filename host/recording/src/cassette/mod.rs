//! Cassettes: recordings of HTTP exchanges that are replayed without a network.
//!
//! A recorder or player gets a request after the policy check and before the host adds credentials. So
//! credentials are not recorded, and replayed requests need the same grants. [`Cassette`] is the file format.

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
use dagster_ray_runtime::{Interceptor, Next, OutgoingRequest, PendingResponse};
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};

pub use self::format::{
    Cassette, CassetteError, Content, End, Exchange, Part, RecordedError, RecordedRequest, RecordedResponse,
};
pub use self::player::{Player, Replayed};
use self::recorder::Recorder;
use self::scrub::Scrub;

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

/// Opens a cassette: creates a recorder or a player.
///
/// # Errors
/// If the directory to record into cannot be used, or the cassette to replay is invalid.
pub fn open(mode: &CassetteMode) -> Result<Arc<dyn Interceptor>, CassetteError> {
    Ok(match mode {
        CassetteMode::Record(directory) => Arc::new(Recorder::open(directory)?),
        CassetteMode::Replay(path) => Arc::new(Player::new(Cassette::read(path)?)),
    })
}

impl Interceptor for Recorder {
    fn intercept(self: Arc<Self>, outgoing: OutgoingRequest, next: Next) -> PendingResponse {
        let scrub = Scrub::new(outgoing.credentials.iter().cloned());
        Box::pin(self.record(outgoing, scrub, next))
    }
}

impl Interceptor for Player {
    fn intercept(self: Arc<Self>, outgoing: OutgoingRequest, _: Next) -> PendingResponse {
        let request = recorded_request(&outgoing.request, &Scrub::new(outgoing.credentials));
        Box::pin(async move { self.respond(&request).await })
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
