//! Waits for a cluster with one list and one watch, and after 3 s also watches its head pod, whose status
//! explains failures that the cluster's status does not.

mod failure;

use std::collections::BTreeMap;

use dagster_ray_sdk::{
    Error,
    bindings::cluster::{ClusterRef, EndpointSet},
    clock::Clock,
    http::Http,
    json,
    progress::{Level, ProgressListener},
};
use serde_json::{Value, json};

use super::{Clusters, Target, head, replaced, service::Services, state};
use crate::{
    job::status,
    kubernetes::{
        POD, RAY_CLUSTER, RAY_JOB, RAY_SERVICE, Selection, condition, object,
        watch::{Change, Watch},
    },
    labels,
};

/// How long an object may not exist after its name is known.
const MAX_ABSENT_MS: u64 = 10_000;
/// The interval at which cancellation is checked.
const SLICE_MS: u64 = 100;
/// The time before the head's pod is watched. A head that starts normally needs less.
const BEFORE_HEAD_MS: u64 = 3_000;
/// The time before events are read. A running operator has set the status by then.
const BEFORE_EVENTS_MS: u64 = 10_000;
/// The time for which a `ReplicaFailure` must last to end the wait. KubeRay retries the creation of pods.
const REPLICA_FAILURE_MS: u64 = 30_000;
impl<H: Http, C: Clock> Clusters<H, C> {
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
        self.wait_for(cluster, timeout_ms, true, listener)
    }

    /// Waits as [`Self::wait`] does. The time for which the cluster is suspended or waits for quota counts only
    /// if `counts_queue` is set.
    pub(crate) fn wait_for(
        &self,
        cluster: &ClusterRef,
        timeout_ms: u64,
        counts_queue: bool,
        listener: &dyn ProgressListener,
    ) -> Result<EndpointSet, Error> {
        let target = self.target(cluster);
        if target.kind == RAY_SERVICE {
            return Services::new(self).wait(&target, timeout_ms, listener);
        }
        let mut wait = Wait {
            clusters: self,
            target: &target,
            listener,
            started_ms: self.kubernetes.clock().now_ms(),
            timeout_ms,
            counts_queue,
            queued_ms: 0,
            queued_since_ms: None,
            cluster: None,
            job: None,
            head_failures: Vec::new(),
            reported: BTreeMap::new(),
            failing_since_ms: None,
            is_absent: false,
        };
        wait.run()
    }
}

struct Wait<'a, H, C> {
    clusters: &'a Clusters<H, C>,
    target: &'a Target,
    listener: &'a dyn ProgressListener,
    started_ms: u64,
    timeout_ms: u64,
    /// Whether the time in a queue counts.
    counts_queue: bool,
    /// The time in a queue that has ended, in milliseconds.
    queued_ms: u64,
    /// When the time in a queue began that has not ended, in milliseconds of the clock.
    queued_since_ms: Option<u64>,
    /// The RayCluster, as last received.
    cluster: Option<Value>,
    /// The RayJob that owns it, as last received.
    job: Option<Value>,
    /// The reasons why the head's pod does not run.
    head_failures: Vec<String>,
    /// The last report on each subject.
    reported: BTreeMap<String, String>,
    failing_since_ms: Option<u64>,
    /// Whether the object does not exist yet.
    is_absent: bool,
}

impl<H: Http, C: Clock> Wait<'_, H, C> {
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
            let waited = self.waited_ms();
            if waited >= self.timeout_ms {
                let last_error = watch.last_error().map(Error::message);
                return Err(self.failed(
                    "NotReadyInTime",
                    &format!("is not ready after {} s", waited / 1_000),
                    last_error,
                ));
            }
            if self.is_absent && waited >= MAX_ABSENT_MS {
                return Err(Error::NotFound(format!("{} does not exist", self.target.label())));
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

    /// Returns the time of the wait that counts, in milliseconds.
    fn waited_ms(&self) -> u64 {
        let now = self.clusters.kubernetes.clock().now_ms();
        let all = now.saturating_sub(self.started_ms);
        if self.counts_queue {
            return all;
        }
        let queued = self.queued_ms + self.queued_since_ms.map_or(0, |since| now.saturating_sub(since));
        all.saturating_sub(queued)
    }

    /// Records and reports that the object waits in a queue or for quota, or no longer does.
    fn set_queued(&mut self, reason: Option<String>) {
        let now = self.clusters.kubernetes.clock().now_ms();
        match (&reason, self.queued_since_ms) {
            (Some(_), None) => self.queued_since_ms = Some(now),
            (None, Some(since)) => {
                self.queued_ms += now.saturating_sub(since);
                self.queued_since_ms = None;
                self.reported.remove("queue");
            }
            _ => {}
        }
        if let Some(reason) = reason {
            self.report("queue", Level::Info, &format!("{} {reason}", self.target.label()));
        }
    }

    /// Returns whether the object may not have been created yet. KubeRay names the cluster of a RayJob in the job's
    /// status, and creates it afterwards.
    fn may_be_created(&self) -> bool {
        self.target.uid.is_none() && self.cluster.is_none() && self.job.is_none()
    }

    fn handle_change(&mut self, change: Change) -> Result<Option<EndpointSet>, Error> {
        let document = match change {
            Change::Updated(document) => document,
            Change::Deleted(None) if self.may_be_created() => {
                self.is_absent = true;
                return Ok(None);
            }
            Change::Deleted(_) => {
                return Err(Error::NotFound(format!(
                    "{} was deleted while it was starting",
                    self.target.label()
                )));
            }
        };
        self.is_absent = false;
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
        let state = object::text(&job, "/status/jobDeploymentStatus").unwrap_or("New").to_owned();
        let why = [object::text(&job, "/status/reason"), object::text(&job, "/status/message")];
        let why: Vec<&str> = why.into_iter().flatten().collect();
        let why = (!why.is_empty()).then(|| why.join(": "));
        self.report("job", Level::Info, &format!("{}: {state}", self.target.label()));
        let is_suspended = matches!(state.as_str(), "Suspending" | "Suspended");
        self.set_queued(is_suspended.then(|| status::suspended(labels::queue(&job))));
        let name = object::text(&job, "/status/rayClusterName").map(str::to_owned);
        if let Some(status) = job.pointer("/status/rayClusterStatus") {
            self.cluster = Some(json!({
                "metadata": {"name": name, "namespace": self.target.namespace},
                "status": status,
            }));
        }
        self.job = Some(job);
        match state.as_str() {
            "Failed" | "ValidationFailed" => {
                Err(self.failed(&state, &format!("has the status {state}"), why))
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
        let queue = state::waits_for(&cluster);
        let refused = state::replica_failure(&cluster).filter(|_| queue.is_none());
        self.set_queued(queue);
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
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use dagster_ray_sdk::testing::{RecordingListener, ScriptedHttp, ScriptedResponse, VirtualClock};

    use super::*;
    use crate::kubernetes::Kubernetes;

    /// Waits 900 s for a cluster that has `status` and then, after more than 900 s, is ready.
    fn wait(status: Value, counts_queue: bool) -> (Result<EndpointSet, Error>, Vec<String>) {
        let streams = Cell::new(0);
        let rule = move |request: &dagster_ray_sdk::http::Request| {
            let cluster =
                |status: Value| json!({"metadata": {"name": "c", "namespace": "ray"}, "status": status});
            if !request.url.contains("/rayclusters") {
                return Some(ScriptedResponse::new(
                    200,
                    r#"{"metadata": {"resourceVersion": "1"}, "items": []}"#,
                ));
            }
            if !request.url.contains("watch=1") {
                let listed =
                    json!({"metadata": {"resourceVersion": "1"}, "items": [cluster(status.clone())]});
                return Some(ScriptedResponse::new(200, listed.to_string()));
            }
            // A stream that ends at once delays the next one by up to 5 s.
            streams.set(streams.get() + 1);
            let ready = json!({
                "state": "ready", "head": {"serviceName": "s"}, "endpoints": {"dashboard": "8265"},
            });
            let line = json!({"type": "MODIFIED", "object": cluster(ready)}).to_string() + "\n";
            Some(ScriptedResponse::new(200, if streams.get() < 250 { String::new() } else { line }))
        };
        let http = ScriptedHttp::with_rule(rule);
        let clusters = Clusters::new(Kubernetes::new(&http, VirtualClock::default()), "ray".to_owned());
        let listener = RecordingListener::default();
        let cluster = ClusterRef { name: "c".into(), namespace: None, uid: None, details: None };
        let ended = clusters.wait_for(&cluster, 900_000, counts_queue, &listener);
        assert!(clusters.kubernetes.clock().now_ms() >= 900_000);
        let logs = listener.logs.borrow().clone();
        (ended, logs)
    }

    #[test]
    fn the_time_in_a_queue_or_without_quota_counts_only_on_request() {
        let quota = json!({"conditions": [
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreateHeadPod",
             "message": "pods \"c-head\" is forbidden: exceeded quota: small"},
        ]});
        for (status, reason) in [(json!({"state": "suspended"}), "is suspended"), (quota, "exceeded quota")] {
            let (ended, logs) = wait(status.clone(), false);
            assert_eq!(ended.unwrap().host, "s.ray.svc");
            // The reason is reported once.
            assert_eq!(logs.iter().filter(|line| line.contains(reason)).count(), 1, "{logs:?}");
            let Err(Error::Backend(late)) = wait(status, true).0 else { panic!("{reason}") };
            assert!(late.message.contains("is not ready after 900 s") && late.message.contains(reason));
        }
        let Err(Error::Backend(late)) = wait(json!({}), false).0 else { panic!() };
        assert!(late.message.contains("is not ready after 900 s"), "{}", late.message);
    }

    /// Waits for a cluster that a RayJob has named, and that `line` of a watch creates, if any.
    fn wait_for_named(line: Option<Value>) -> (Result<EndpointSet, Error>, u64) {
        let http = ScriptedHttp::with_rule(move |request: &dagster_ray_sdk::http::Request| {
            let is_stream = request.url.contains("watch=1") && request.url.contains("/rayclusters");
            let body = match &line {
                Some(line) if is_stream => line.to_string() + "\n",
                _ if is_stream => String::new(),
                _ => r#"{"metadata": {"resourceVersion": "1"}, "items": []}"#.to_owned(),
            };
            Some(ScriptedResponse::new(200, body))
        });
        let clusters = Clusters::new(Kubernetes::new(&http, VirtualClock::default()), "ray".to_owned());
        let cluster = ClusterRef { name: "c".into(), namespace: None, uid: None, details: None };
        let ended = clusters.wait_for(&cluster, 60_000, true, &RecordingListener::default());
        let ms = clusters.kubernetes.clock().now_ms();
        (ended, ms)
    }

    #[test]
    fn a_cluster_that_does_not_exist_yet_is_waited_for_a_short_time() {
        let object = json!({"metadata": {"name": "c", "namespace": "ray", "resourceVersion": "2"}, "status": {
            "state": "ready", "head": {"serviceName": "s"}, "endpoints": {"dashboard": "8265"}}});
        let (ended, _) = wait_for_named(Some(json!({"type": "ADDED", "object": object})));
        assert!(ended.is_ok(), "{ended:?}");
        let (ended, ms) = wait_for_named(None);
        assert!(
            matches!(&ended, Err(Error::NotFound(what)) if what.ends_with("does not exist")),
            "{ended:?}"
        );
        assert!((MAX_ABSENT_MS..MAX_ABSENT_MS + 10_000).contains(&ms), "{ms}");
    }
}
