//! Counts the component's requests and chooses the faults that are injected.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dagster_ray_recording::{ClockSpeed, Faults, InjectedFault};
use dagster_ray_runtime::Clock;
use http::{Method, Request, StatusCode};

/// The clock speed while no request is sent. Components mostly wait between retries then, so the clock runs
/// faster.
pub(crate) const FAST: ClockSpeed = ClockSpeed::multiple(20);

/// The network condition: what happens to each request.
#[derive(Debug, Clone, Default)]
pub(crate) enum NetworkCondition {
    /// Requests are sent.
    #[default]
    Normal,
    /// This fault is injected into each request, and none is sent.
    Fault(InjectedFault),
    /// The response to the first request other than GET and HEAD is lost. The others are sent.
    LoseResponse,
    /// The responses to the next `times` GET or HEAD requests are cut after `after` bytes.
    CutResponses { times: u32, after: u64 },
}

/// An intercepted request.
#[derive(Debug, Clone)]
pub(crate) struct RecordedRequest {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) body: Bytes,
    pub(crate) status: Option<StatusCode>,
}

#[derive(Default)]
struct State {
    condition: NetworkCondition,
    requests: Vec<RecordedRequest>,
}

/// The interceptor, with the current condition and the requests since it was set.
#[derive(Default)]
pub(crate) struct Network(Mutex<State>);

impl Network {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the network condition and clears the list of requests.
    pub(crate) fn set(&self, condition: NetworkCondition) {
        *self.state() = State { condition, requests: Vec::new() };
    }

    /// Returns whether no request is sent.
    pub(crate) fn is_offline(&self) -> bool {
        matches!(self.state().condition, NetworkCondition::Fault(_))
    }

    /// Returns the requests since the condition was set.
    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.state().requests.clone()
    }
}

/// The condition does not change from or to [`NetworkCondition::Fault`] during a call, so the speed does not
/// either.
impl Clock for Network {
    fn to_component(&self, real: u64) -> u64 {
        if self.is_offline() { FAST.to_component(real) } else { real }
    }

    fn to_real(&self, shown: u64) -> u64 {
        if self.is_offline() { FAST.to_real(shown) } else { shown }
    }
}

impl Faults for Network {
    fn decide(&self, request: &Request<Bytes>) -> InjectedFault {
        let mut state = self.state();
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
        state.requests.push(RecordedRequest {
            method: request.method().clone(),
            uri: request.uri().to_string(),
            body: request.body().clone(),
            status: None,
        });
        match &mut state.condition {
            NetworkCondition::Normal => InjectedFault::None,
            NetworkCondition::Fault(fault) => fault.clone(),
            NetworkCondition::LoseResponse if changes => {
                state.condition = NetworkCondition::Normal;
                InjectedFault::LoseResponse
            }
            NetworkCondition::CutResponses { times, after } if !changes && *times > 0 => {
                *times -= 1;
                InjectedFault::TruncateResponse(*after)
            }
            NetworkCondition::LoseResponse | NetworkCondition::CutResponses { .. } => InjectedFault::None,
        }
    }

    fn on_response(&self, request: &Request<Bytes>, status: Option<StatusCode>) {
        let uri = request.uri().to_string();
        let mut state = self.state();
        let unanswered = state
            .requests
            .iter_mut()
            .find(|one| one.status.is_none() && one.uri == uri && one.method == *request.method());
        if let Some(unanswered) = unanswered {
            unanswered.status = status;
        }
    }
}
