//! Limits how many calls and HTTP requests of a process are in progress at once.
//!
//! Each lane has limits of its own, so that calls of one kind do not delay those of another: a health check must not
//! wait behind a thousand launches.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::export_kind;

/// Reads in progress at once, such as health checks, and their requests.
const READS: usize = 16;
/// Changes in progress at once, such as launches, and their requests.
const CHANGES: usize = 32;
/// Stores and loads of values in progress at once, and their requests.
const VALUES: usize = 32;
/// Calls of the other lanes that wait for a watch at once.
const PARKED: usize = 256;
/// Requests of one call in progress at once.
const REQUESTS_OF_CALL: usize = 16;

/// The kind of a call, by what it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// Answers after a few requests, and calls no code that could call a component.
    Read,
    /// Changes something in Ray or Kubernetes.
    Change,
    /// Stores or loads values.
    Value,
    /// Stops something, and waits until it has ended. Not limited, because it must not wait behind launches.
    Stop,
    /// Follows something for as long as it lasts. Neither the call nor its requests are limited.
    Stream,
}

impl Lane {
    fn of(export: &str) -> Self {
        match export.split_once('.') {
            Some(("cluster", "wait") | ("pipes", "launch" | "follow" | "wait")) => Self::Stream,
            _ if export_kind::has_listener(export) => Self::Stop,
            Some(("io", _)) => Self::Value,
            Some((_, "describe" | "plan" | "check" | "debug-info"))
            | Some(("cluster", "get" | "list" | "endpoints" | "expired")) => Self::Read,
            _ => Self::Change,
        }
    }
}

/// The limits of one lane.
struct Limit {
    calls: Arc<Semaphore>,
    requests: Arc<Semaphore>,
}

impl Limit {
    fn new(number: usize) -> Self {
        Self { calls: Arc::new(Semaphore::new(number)), requests: Arc::new(Semaphore::new(number)) }
    }
}

/// The limits of a process.
pub(crate) struct Lanes {
    reads: Limit,
    changes: Limit,
    values: Limit,
    parked: Arc<Semaphore>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            reads: Limit::new(READS),
            changes: Limit::new(CHANGES),
            values: Limit::new(VALUES),
            parked: Arc::new(Semaphore::new(PARKED)),
        }
    }
}

impl Lanes {
    /// Waits until a call of an export may run. Waiting calls run in the order in which they came.
    pub(crate) async fn enter(&self, export: &str) -> Slot {
        let (calls, requests) = match Lane::of(export) {
            Lane::Read => (Some(&self.reads.calls), Some(&self.reads.requests)),
            Lane::Change => (Some(&self.changes.calls), Some(&self.changes.requests)),
            Lane::Value => (Some(&self.values.calls), Some(&self.values.requests)),
            Lane::Stop => (None, Some(&self.changes.requests)),
            Lane::Stream => (None, None),
        };
        let permit = match calls {
            // A closed semaphore would not limit calls. It is never closed.
            Some(calls) => calls.clone().acquire_owned().await.ok(),
            None => None,
        };
        Slot {
            permit: Arc::new(Mutex::new(permit)),
            parked: self.parked.clone(),
            turns: Turns { of_call: Arc::new(Semaphore::new(REQUESTS_OF_CALL)), of_lane: requests.cloned() },
        }
    }
}

/// A call's share of its lane, until the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Slot {
    permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
    parked: Arc<Semaphore>,
    turns: Turns,
}

impl Slot {
    /// Makes room for other calls, because this one waits for a watch. Does nothing while too many calls do.
    pub(crate) fn park(&self) {
        let Ok(parked) = self.parked.clone().try_acquire_owned() else { return };
        let mut permit = self.permit.lock().unwrap_or_else(PoisonError::into_inner);
        if permit.is_some() {
            *permit = Some(parked);
        }
    }

    /// Returns the limits of the call's requests.
    pub(crate) fn turns(&self) -> Turns {
        self.turns.clone()
    }
}

/// Limits the requests of one call.
#[derive(Clone)]
pub(crate) struct Turns {
    of_call: Arc<Semaphore>,
    of_lane: Option<Arc<Semaphore>>,
}

/// A request's share of the limits, from before it is sent until its response has been read.
pub(crate) struct Turn {
    _of_call: Option<OwnedSemaphorePermit>,
    _of_lane: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Waits until a request may be sent.
    pub(crate) async fn next(self) -> Turn {
        let of_call = self.of_call.acquire_owned().await.ok();
        let of_lane = match self.of_lane {
            Some(lane) => lane.acquire_owned().await.ok(),
            None => None,
        };
        Turn { _of_call: of_call, _of_lane: of_lane }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_stop_or_follow_something_are_in_no_lane_with_launches() {
        for (export, lane) in [
            ("launcher.launch", Lane::Change),
            ("executor.launch", Lane::Change),
            ("executor.finish", Lane::Change),
            ("cluster.create", Lane::Change),
            ("launcher.check", Lane::Read),
            ("executor.plan", Lane::Read),
            ("cluster.endpoints", Lane::Read),
            ("describe.describe", Lane::Read),
            ("io.save", Lane::Value),
            ("launcher.terminate", Lane::Stop),
            ("pipes.terminate", Lane::Stop),
            ("reconciler.reconcile", Lane::Stop),
            ("pipes.follow", Lane::Stream),
            ("pipes.wait", Lane::Stream),
            ("cluster.wait", Lane::Stream),
        ] {
            assert_eq!(Lane::of(export), lane, "{export}");
        }
    }

    #[tokio::test]
    async fn a_call_that_watches_makes_room_for_another() {
        let lanes = Lanes::default();
        let mut running = Vec::new();
        for _ in 0..CHANGES {
            running.push(lanes.enter("executor.launch").await);
        }
        let full = lanes.enter("executor.launch");
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), full).await.is_err());
        running[0].park();
        running[0].park();
        let _entered = lanes.enter("executor.launch").await;
        assert_eq!(lanes.parked.available_permits(), PARKED - 1);
    }
}
