//! An interceptor that counts the component's requests and injects faults.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dagster_ray_runtime::capability::http::{Fate, Intercept};
use http::{Method, Request, StatusCode};

/// The network condition: what happens to each request.
#[derive(Debug, Clone, Default)]
pub(crate) enum Weather {
    /// Requests are sent.
    #[default]
    Fair,
    /// This fault is injected into each request, and none is sent.
    All(Fate),
    /// The response to the first request other than GET and HEAD is lost. The others are sent.
    LostAnswer,
    /// The responses to the next `times` GET or HEAD requests are cut after `after` bytes.
    Cut { times: u32, after: u64 },
}

/// An intercepted request.
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

/// The interceptor, with the current condition and the requests since it was set.
#[derive(Default)]
pub(crate) struct Network(Mutex<State>);

impl Network {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the network condition and clears the list of requests.
    pub(crate) fn set(&self, weather: Weather) {
        *self.state() = State { weather, seen: Vec::new() };
    }

    /// Returns whether no request is sent.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self.state().weather, Weather::All(_))
    }

    /// Returns the requests since the condition was set.
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
        let unanswered = state
            .seen
            .iter_mut()
            .find(|seen| seen.status.is_none() && seen.uri == uri && seen.method == *request.method());
        if let Some(seen) = unanswered {
            seen.status = status;
        }
    }
}
