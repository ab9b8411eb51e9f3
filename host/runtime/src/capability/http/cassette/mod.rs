//! Cassettes: what a component's requests came to, recorded once and served again without a network.
//!
//! A request passes here after policy has decided on it and before credentials are added, so a
//! cassette never sees one, and a component that replays is held to its grants as ever. See
//! [`Cassette`] for the file.

mod conditions;
mod content;
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

pub use self::format::{Answered, Asked, Broken, Cassette, CassetteError, Content, End, Exchange, Part};
pub use self::player::{Played, Player};
use self::recorder::Recorder;
use self::scrub::Scrub;

/// The environment variable by which a process is told to record or to replay, in the form that
/// [`CassetteMode`] is read from.
pub const VARIABLE: &str = "DAGSTER_RAY_CASSETTE";

/// What is done with a cassette.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CassetteMode {
    /// Requests are sent, and recorded into this directory.
    Record(PathBuf),
    /// Nothing is sent; this file, or what was recorded into this directory, answers.
    Replay(PathBuf),
}

impl FromStr for CassetteMode {
    type Err = CassetteError;

    /// Reads `record:<directory>` or `replay:<file or directory>`.
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

/// A cassette in use.
#[derive(Clone)]
pub(crate) enum Tape {
    Recording(Arc<Recorder>),
    Playing(Arc<Player>),
}

impl Tape {
    pub(crate) fn open(mode: &CassetteMode) -> Result<Self, CassetteError> {
        Ok(match mode {
            CassetteMode::Record(directory) => Self::Recording(Arc::new(Recorder::open(directory)?)),
            CassetteMode::Replay(path) => Self::Playing(Arc::new(Player::new(Cassette::read(path)?))),
        })
    }

    /// Answers a request, or sends it and takes down its answer. `credentials` are what the host
    /// adds to requests of this authority.
    pub(super) async fn pass<F>(
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
            Self::Playing(player) => player.play(&asked(&request, &scrub)).await,
        }
    }
}

/// A request as a cassette keeps it.
fn asked(request: &Request<Bytes>, scrub: &Scrub) -> Asked {
    let headers = [ACCEPT, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH]
        .iter()
        .filter_map(|name| {
            Some((name.as_str().to_owned(), scrub.text(request.headers().get(name)?.to_str().ok()?)))
        })
        .collect();
    Asked {
        method: request.method().to_string(),
        url: scrub.text(&request.uri().to_string()),
        headers,
        body: content::of_request(request.body(), scrub),
    }
}
