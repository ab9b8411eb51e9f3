//! Waits for a cluster with one list and one watch, and after 3 s also watches its head pod, whose status
//! explains failures that the cluster's status does not.

use std::collections::BTreeMap;

use dagster_ray_sdk::{
    Error,
    bindings::cluster::{ClusterRef, EndpointSet},
    clock::Clock,
    http::Http,
    json,
    model::ApiError,
    progress::{Level, ProgressListener},
};
use serde_json::{Value, json};

use super::{Clusters, Target, head, replaced, state};
use crate::{
    kubernetes::{
        EVENT, Kind, POD, RAY_CLUSTER, RAY_JOB, Selection, condition, object,
        watch::{Change, Watch},
    },
    time::WallClock,
};

/// The interval at which cancellation is checked.
const SLICE_MS: u64 = 100;
/// The time before the head's pod is watched. A head that starts normally needs less.
const BEFORE_HEAD_MS: u64 = 3_000;
/// The time before events are read. A running operator has set the status by then.
const BEFORE_EVENTS_MS: u64 = 10_000;
/// The time for which a `ReplicaFailure` must last to end the wait. KubeRay retries the creation of pods.
const REPLICA_FAILURE_MS: u64 = 30_000;
/// The lines of a container's log that are logged.
const LOG_LINES: u32 = 200;
/// The lines of a container's log that are part of the error.
const ERROR_LINES: usize = 30;

impl<H: Http, C: Clock, W: WallClock> Clusters<H, C, W> {
    /// Waits until a cluster is ready, and reports its conditions and its head pod's failures.
    ///
    /// # Errors
    /// [`Error::Backend`] with the known reasons if the cluster fails or is not ready in time,
    /// [`Error::NotFound`] if it is deleted, [`Error::Cancelled`] if the caller cancels.
    pub fn wait(
        &self,
        cluster: &ClusterRef,
        timeout_ms: u64,
        listener: &dyn ProgressListener,
    ) -> Result<EndpointSet, Error> {
        let target = self.target(cluster);
        let mut wait = Wait {
            clusters: self,
            target: &target,
            listener,
            started_ms: self.kubernetes.clock().now_ms(),
            timeout_ms,
            cluster: None,
            job: None,
            head_failures: Vec::new(),
            reported: BTreeMap::new(),
            failing_since_ms: None,
        };
        wait.run()
    }
}

struct Wait<'a, H, C, W> {
    clusters: &'a Clusters<H, C, W>,
    target: &'a Target,
    listener: &'a dyn ProgressListener,
    started_ms: u64,
    timeout_ms: u64,
    /// The RayCluster, as last received.
    cluster: Option<Value>,
    /// The RayJob that owns it, as last received.
    job: Option<Value>,
    /// The reasons why the head's pod does not run.
    head_failures: Vec<String>,
    /// The last report on each subject.
    reported: BTreeMap<String, String>,
    failing_since_ms: Option<u64>,
}

impl<H: Http, C: Clock, W: WallClock> Wait<'_, H, C, W> {
    fn run(&mut self) -> Result<EndpointSet, Error> {
        let kubernetes = &self.clusters.kubernetes;
        let (namespace, target) = (&self.target.namespace, self.target);
        let mut watch = Watch::new(kubernetes, target.kind, namespace, Selection::Name(target.name.clone()));
        let mut pods: Option<Watch<'_, H, C>> = None;
        let mut has_read_events = false;
        loop {
            if self.listener.cancelled() {
                return Err(Error::Cancelled);
            }
            let waited = kubernetes.clock().now_ms().saturating_sub(self.started_ms);
            if waited >= self.timeout_ms {
                let last_error = watch.last_error().map(Error::message);
                return Err(self.failed(
                    "NotReadyInTime",
                    &format!("is not ready after {} s", waited / 1_000),
                    last_error,
                ));
            }
            let left = self.timeout_ms - waited;
            if let Some(change) = watch.next(SLICE_MS.min(left), left)?
                && let Some(endpoints) = self.handle_change(change)?
            {
                return Ok(endpoints);
            }
            if pods.is_none()
                && waited >= BEFORE_HEAD_MS
                && let Some(name) = self.cluster_name()
            {
                pods = Some(Watch::new(kubernetes, POD, namespace, head::selection(&name)));
            }
            if let Some(watch) = &mut pods {
                match watch.next(0, left) {
                    Ok(Some(Change::Updated(pod))) => self.handle_head(&pod),
                    Ok(_) => {}
                    // Not fatal: without permission to read pods, the cluster's status is still watched.
                    Err(error) => self.report("pods", Level::Warning, &error.message()),
                }
            }
            if !has_read_events && waited >= BEFORE_EVENTS_MS && self.has_no_status() {
                has_read_events = true;
                if let Some(rejection) = self.rejection() {
                    return Err(self.failed("Invalid", "was rejected by KubeRay", Some(rejection)));
                }
            }
        }
    }

    fn handle_change(&mut self, change: Change) -> Result<Option<EndpointSet>, Error> {
        let document = match change {
            Change::Updated(document) => document,
            Change::Deleted(_) => {
                return Err(Error::NotFound(format!(
                    "{} was deleted while it was starting",
                    self.target.label()
                )));
            }
        };
        if !self.target.matches_uid(&document) {
            return Err(replaced(self.target));
        }
        if object::is_deleting(&document) {
            return Err(Error::NotFound(format!(
                "{} is being deleted while it is starting",
                self.target.label()
            )));
        }
        if self.target.kind == RAY_JOB { self.handle_job(document) } else { self.handle_cluster(document) }
    }

    /// Handles a change of an interactive RayJob. Its status is `Waiting` once the cluster is ready.
    fn handle_job(&mut self, job: Value) -> Result<Option<EndpointSet>, Error> {
        let status = object::text(&job, "/status/jobDeploymentStatus").unwrap_or("New").to_owned();
        let why = [object::text(&job, "/status/reason"), object::text(&job, "/status/message")];
        let why: Vec<&str> = why.into_iter().flatten().collect();
        let why = (!why.is_empty()).then(|| why.join(": "));
        self.report("job", Level::Info, &format!("{}: {status}", self.target.label()));
        let name = object::text(&job, "/status/rayClusterName").map(str::to_owned);
        if let Some(status) = job.pointer("/status/rayClusterStatus") {
            self.cluster = Some(json!({
                "metadata": {"name": name, "namespace": self.target.namespace},
                "status": status,
            }));
        }
        self.job = Some(job);
        match status.as_str() {
            "Failed" | "ValidationFailed" => {
                Err(self.failed(&status, &format!("has the status {status}"), why))
            }
            "Waiting" | "Running" | "Complete" => {
                let Some(name) = name else { return Ok(None) };
                let cluster = self.clusters.kubernetes.get(RAY_CLUSTER, &self.target.namespace, &name)?;
                self.handle_cluster(cluster)
            }
            _ => Ok(None),
        }
    }

    fn handle_cluster(&mut self, cluster: Value) -> Result<Option<EndpointSet>, Error> {
        for condition in condition::conditions(&cluster) {
            let text = condition.summary();
            if self.is_new(&condition.kind, &text) {
                let body = json!({
                    "type": condition.kind, "status": condition.status,
                    "reason": condition.reason, "message": condition.message,
                });
                self.listener.event("cluster-condition", &json::text(&body));
                self.listener.progress(&text);
            }
        }
        if let Some(endpoints) = state::endpoints(&cluster) {
            return Ok(Some(endpoints));
        }
        let failure = state::failure(&cluster);
        let refused = state::replica_failure(&cluster);
        let known = failure.is_some() || refused.is_some();
        self.cluster = Some(cluster);
        if !known {
            self.failing_since_ms = None;
            return Ok(None);
        }
        let now = self.clusters.kubernetes.clock().now_ms();
        let since = *self.failing_since_ms.get_or_insert(now);
        let tolerance_ms = self.target.details.failure_tolerance_ms;
        let tolerated = if failure.is_some() { tolerance_ms } else { tolerance_ms.max(REPLICA_FAILURE_MS) };
        if now.saturating_sub(since) >= tolerated {
            return Err(self.failed("Failed", "failed", failure.or(refused)));
        }
        Ok(None)
    }

    fn handle_head(&mut self, pod: &Value) {
        self.head_failures = head::failures(pod);
        for failure in self.head_failures.clone() {
            let about = failure.split(": ").next().unwrap_or_default().to_owned();
            self.report(&about, Level::Warning, &failure);
        }
    }

    /// Logs a text, unless it repeats the last report on the same subject.
    fn report(&mut self, about: &str, level: Level, text: &str) {
        if self.is_new(about, text) {
            self.listener.log(level, text);
        }
    }

    fn is_new(&mut self, about: &str, text: &str) -> bool {
        self.reported.insert(about.to_owned(), text.to_owned()).as_deref() != Some(text)
    }

    fn cluster_name(&self) -> Option<String> {
        if self.target.kind == RAY_CLUSTER {
            return Some(self.target.name.clone());
        }
        object::text(self.job.as_ref()?, "/status/rayClusterName").map(str::to_owned)
    }

    /// Returns whether KubeRay has not set the object's status yet.
    fn has_no_status(&self) -> bool {
        let seen = if self.target.kind == RAY_JOB { &self.job } else { &self.cluster };
        seen.as_ref().is_none_or(|document| {
            document.get("status").and_then(Value::as_object).is_none_or(serde_json::Map::is_empty)
        })
    }

    /// Returns why KubeRay's operator rejected the manifest. The operator reports this only in an event and
    /// leaves the status empty.
    fn rejection(&self) -> Option<String> {
        let which = format!("involvedObject.name={},type=Warning", self.target.name);
        let listed: Value = self
            .clusters
            .kubernetes
            .list(EVENT, &self.target.namespace, &Selection::Fields(which), &[])
            .ok()?;
        object::elements(&listed, "/items")
            .filter(|event| is_of_kind(event, self.target.kind))
            .find(|event| object::text(event, "/reason").is_some_and(|reason| reason.starts_with("Invalid")))
            .and_then(|event| object::text(event, "/message"))
            .map(str::to_owned)
    }

    /// Builds the error that ends the wait, with all known reasons and the end of the head's log.
    fn failed(&self, reason: &str, what: &str, why: Option<String>) -> Error {
        let mut message = format!("{} {what}", self.target.label());
        let mut parts: Vec<String> = why.into_iter().collect();
        parts.extend(self.cluster.as_ref().map(state::describe));
        parts.extend(self.head_failures.iter().cloned());
        if self.cluster.is_none() && self.has_no_status() {
            parts.push("KubeRay has not set its status; is the KubeRay operator running?".to_owned());
        }
        for part in parts {
            message.push_str("; ");
            message.push_str(&part);
        }
        let output = self
            .cluster_name()
            .map(|name| head::log_tails(&self.clusters.kubernetes, &self.target.namespace, &name, LOG_LINES));
        if let Some(Ok(output)) = output {
            for (container, text) in output {
                self.listener.log(Level::Error, &format!("the last lines of {container}:\n{text}"));
                let lines: Vec<&str> = text.lines().collect();
                let last = &lines[lines.len().saturating_sub(ERROR_LINES)..];
                message.push_str(&format!("\nthe last lines of {container}:\n{}", last.join("\n")));
            }
        }
        let details = json!({
            "conditions": self.cluster.as_ref().map(|cluster| cluster.pointer("/status/conditions").cloned()),
            "head": self.head_failures,
        });
        Error::Backend(ApiError {
            status: 0,
            reason: reason.to_owned(),
            message,
            details: Some(json::text(&details)),
        })
    }
}

fn is_of_kind(event: &Value, kind: Kind) -> bool {
    object::text(event, "/involvedObject/kind") == Some(kind.kind)
}
