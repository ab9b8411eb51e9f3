//! The network as the rules want it: counted, and failing where they say.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dagster_ray_runtime::capability::http::{Fate, Intercept};
use http::{Method, Request, StatusCode};

/// What happens to the requests from now on.
#[derive(Debug, Clone, Default)]
pub(crate) enum Weather {
    /// They go their way.
    #[default]
    Fair,
    /// Each meets this, and none goes out.
    All(Fate),
    /// The answer to the first that changes something is lost. The rest go their way.
    LostAnswer,
    /// So many of those that ask for something have their answers cut after so many bytes.
    Cut { times: u32, after: u64 },
}

/// A request that came by.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) body: Bytes,
    pub(crate) status: Option<StatusCode>,
}

#[derive(Default)]
struct State {
    weather: Weather,
    seen: Vec<Seen>,
}

/// The door's keeper.
#[derive(Default)]
pub(crate) struct Network(Mutex<State>);

impl Network {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the weather, and forgets what came by before.
    pub(crate) fn set(&self, weather: Weather) {
        *self.state() = State { weather, seen: Vec::new() };
    }

    /// Whether nothing goes out.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self.state().weather, Weather::All(_))
    }

    /// What has come by since the weather changed.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }
}

impl Intercept for Network {
    fn decide(&self, request: &Request<Bytes>) -> Fate {
        let mut state = self.state();
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
        state.seen.push(Seen {
            method: request.method().clone(),
            uri: request.uri().to_string(),
            body: request.body().clone(),
            status: None,
        });
        match &mut state.weather {
            Weather::Fair => Fate::Pass,
            Weather::All(fate) => fate.clone(),
            Weather::LostAnswer if changes => {
                state.weather = Weather::Fair;
                Fate::LoseAnswer
            }
            Weather::Cut { times, after } if !changes && *times > 0 => {
                *times -= 1;
                Fate::CutAnswer(*after)
            }
            Weather::LostAnswer | Weather::Cut { .. } => Fate::Pass,
        }
    }

    fn answered(&self, request: &Request<Bytes>, status: Option<StatusCode>) {
        let uri = request.uri().to_string();
        let mut state = self.state();
        let asked = state
            .seen
            .iter_mut()
            .find(|seen| seen.status.is_none() && seen.uri == uri && seen.method == *request.method());
        if let Some(seen) = asked {
            seen.status = status;
        }
    }
}
