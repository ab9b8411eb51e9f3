//! Waiting for a cluster: one list and one watch of the cluster, and a moment later the same of its
//! head's pod, which knows what the cluster's status does not say.

use std::collections::BTreeMap;

use dagster_ray_sdk::{
    Error,
    clock::Clock,
    http::Http,
    json,
    model::ApiError,
    sink::{Level, Listener},
};
use serde_json::{Value, json};

use super::{Clusters, Target, head, replaced, state};
use crate::{
    bindings::cluster::{ClusterRef, EndpointSet},
    kubernetes::{
        EVENT, Kind, POD, RAY_CLUSTER, RAY_JOB, Selection, object,
        watch::{Change, Watch},
    },
    time::WallClock,
};

/// How soon a caller that gives up is obeyed.
const SLICE_MS: u64 = 100;
/// A head that starts as it should is not looked at.
const BEFORE_HEAD_MS: u64 = 3_000;
/// An operator that runs has written something by then.
const BEFORE_EVENTS_MS: u64 = 10_000;
/// KubeRay tries again when it could not make a pod: a refusal that lasts is one.
const REPLICA_FAILURE_MS: u64 = 30_000;
/// Lines of output for the log, and for the error.
const LOG_LINES: u32 = 200;
const TOLD_LINES: usize = 30;

impl<H: Http, C: Clock, W: WallClock> Clusters<H, C, W> {
    /// Waits until a cluster can be used.
    pub fn wait(
        &self,
        cluster: &ClusterRef,
        timeout_ms: u64,
        listener: &dyn Listener,
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
            troubles: Vec::new(),
            told: BTreeMap::new(),
            failing_since_ms: None,
        };
        wait.run()
    }
}

struct Wait<'a, H, C, W> {
    clusters: &'a Clusters<H, C, W>,
    target: &'a Target,
    listener: &'a dyn Listener,
    started_ms: u64,
    timeout_ms: u64,
    /// The RayCluster, as last seen.
    cluster: Option<Value>,
    /// The RayJob that makes it, as last seen.
    job: Option<Value>,
    /// What keeps the head's pod from running.
    troubles: Vec<String>,
    /// What was reported already, by what it is about.
    told: BTreeMap<String, String>,
    failing_since_ms: Option<u64>,
}

impl<H: Http, C: Clock, W: WallClock> Wait<'_, H, C, W> {
    fn run(&mut self) -> Result<EndpointSet, Error> {
        let kubernetes = &self.clusters.kubernetes;
        let (namespace, target) = (&self.target.namespace, self.target);
        let mut watch = Watch::new(kubernetes, target.kind, namespace, Selection::Name(target.name.clone()));
        let mut pods: Option<Watch<'_, H, C>> = None;
        let mut asked_for_events = false;
        loop {
            if self.listener.cancelled() {
                return Err(Error::Cancelled);
            }
            let waited = kubernetes.clock().now_ms().saturating_sub(self.started_ms);
            if waited >= self.timeout_ms {
                let trouble = watch.trouble().map(Error::text);
                return Err(self.failed(
                    "NotReadyInTime",
                    &format!("is not ready after {} s", waited / 1_000),
                    trouble,
                ));
            }
            let left = self.timeout_ms - waited;
            if let Some(change) = watch.next(SLICE_MS.min(left), left)?
                && let Some(endpoints) = self.take(change)?
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
                    Ok(Some(Change::Now(pod))) => self.see_head(&pod),
                    Ok(_) => {}
                    // Without the right to look at pods, the cluster's own status has to do.
                    Err(error) => self.tell("pods", Level::Warning, &error.text()),
                }
            }
            if !asked_for_events && waited >= BEFORE_EVENTS_MS && self.is_ignored() {
                asked_for_events = true;
                if let Some(refusal) = self.refusal() {
                    return Err(self.failed("Invalid", "is refused by KubeRay", Some(refusal)));
                }
            }
        }
    }

    fn take(&mut self, change: Change) -> Result<Option<EndpointSet>, Error> {
        let document = match change {
            Change::Now(document) => document,
            Change::Gone(_) => {
                return Err(Error::NotFound(format!(
                    "{} was deleted while it was waited for",
                    self.target.label()
                )));
            }
        };
        if !self.target.is(&document) {
            return Err(replaced(self.target));
        }
        if object::is_deleting(&document) {
            return Err(Error::NotFound(format!(
                "{} is being deleted while it is waited for",
                self.target.label()
            )));
        }
        if self.target.kind == RAY_JOB { self.take_job(document) } else { self.take_cluster(document) }
    }

    /// KubeRay lets an interactive job wait for its driver once the cluster is ready.
    fn take_job(&mut self, job: Value) -> Result<Option<EndpointSet>, Error> {
        let status = object::text(&job, "/status/jobDeploymentStatus").unwrap_or("New").to_owned();
        let said = [object::text(&job, "/status/reason"), object::text(&job, "/status/message")];
        let said: Vec<&str> = said.into_iter().flatten().collect();
        let said = (!said.is_empty()).then(|| said.join(": "));
        self.tell("job", Level::Info, &format!("{}: {status}", self.target.label()));
        let name = object::text(&job, "/status/rayClusterName").map(str::to_owned);
        if let Some(status) = job.pointer("/status/rayClusterStatus") {
            // What the job passes on of its cluster.
            self.cluster = Some(json!({
                "metadata": {"name": name, "namespace": self.target.namespace},
                "status": status,
            }));
        }
        self.job = Some(job);
        match status.as_str() {
            "Failed" | "ValidationFailed" => {
                Err(self.failed(&status, &format!("has the status {status}"), said))
            }
            "Waiting" | "Running" | "Complete" => {
                let Some(name) = name else { return Ok(None) };
                let cluster = self.clusters.kubernetes.get(RAY_CLUSTER, &self.target.namespace, &name)?;
                self.take_cluster(cluster)
            }
            _ => Ok(None),
        }
    }

    fn take_cluster(&mut self, cluster: Value) -> Result<Option<EndpointSet>, Error> {
        for condition in state::conditions(&cluster) {
            let text = condition.text();
            if self.is_news(&condition.kind, &text) {
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
        let own = self.target.details.failure_tolerance_ms;
        let tolerated = if failure.is_some() { own } else { own.max(REPLICA_FAILURE_MS) };
        if now.saturating_sub(since) >= tolerated {
            return Err(self.failed("Failed", "failed", failure.or(refused)));
        }
        Ok(None)
    }

    fn see_head(&mut self, pod: &Value) {
        self.troubles = head::troubles(pod);
        for trouble in self.troubles.clone() {
            let about = trouble.split(": ").next().unwrap_or_default().to_owned();
            self.tell(&about, Level::Warning, &trouble);
        }
    }

    /// Reports something once.
    fn tell(&mut self, about: &str, level: Level, text: &str) {
        if self.is_news(about, text) {
            self.listener.log(level, text);
        }
    }

    fn is_news(&mut self, about: &str, text: &str) -> bool {
        self.told.insert(about.to_owned(), text.to_owned()).as_deref() != Some(text)
    }

    fn cluster_name(&self) -> Option<String> {
        if self.target.kind == RAY_CLUSTER {
            return Some(self.target.name.clone());
        }
        object::text(self.job.as_ref()?, "/status/rayClusterName").map(str::to_owned)
    }

    /// Whether KubeRay has written nothing on it so far.
    fn is_ignored(&self) -> bool {
        let seen = if self.target.kind == RAY_JOB { &self.job } else { &self.cluster };
        seen.as_ref().is_none_or(|document| {
            document.get("status").and_then(Value::as_object).is_none_or(serde_json::Map::is_empty)
        })
    }

    /// What KubeRay's operator said against a manifest that it will never act on: it does so in an
    /// event, and leaves the status empty.
    fn refusal(&self) -> Option<String> {
        let which = format!("involvedObject.name={},type=Warning", self.target.name);
        let listed: Value = self
            .clusters
            .kubernetes
            .list(EVENT, &self.target.namespace, &Selection::Fields(which), &[])
            .ok()?;
        object::elements(&listed, "/items")
            .filter(|event| is_about(event, self.target.kind))
            .find(|event| object::text(event, "/reason").is_some_and(|reason| reason.starts_with("Invalid")))
            .and_then(|event| object::text(event, "/message"))
            .map(str::to_owned)
    }

    /// The error that ends the wait, with everything that is known, and the head's last words.
    fn failed(&self, reason: &str, what: &str, why: Option<String>) -> Error {
        let mut message = format!("{} {what}", self.target.label());
        let mut parts: Vec<String> = why.into_iter().collect();
        parts.extend(self.cluster.as_ref().map(state::describe));
        parts.extend(self.troubles.iter().cloned());
        if self.cluster.is_none() && self.is_ignored() {
            parts.push("KubeRay has written nothing on it; does its operator run?".to_owned());
        }
        for part in parts {
            message.push_str("; ");
            message.push_str(&part);
        }
        let output = self
            .cluster_name()
            .map(|name| head::output(&self.clusters.kubernetes, &self.target.namespace, &name, LOG_LINES));
        if let Some(Ok(output)) = output {
            for (container, text) in output {
                self.listener.log(Level::Error, &format!("the last lines of {container}:\n{text}"));
                let lines: Vec<&str> = text.lines().collect();
                let last = &lines[lines.len().saturating_sub(TOLD_LINES)..];
                message.push_str(&format!("\nthe last lines of {container}:\n{}", last.join("\n")));
            }
        }
        let details = json!({
            "conditions": self.cluster.as_ref().map(|cluster| cluster.pointer("/status/conditions").cloned()),
            "head": self.troubles,
        });
        Error::Backend(ApiError {
            status: 0,
            reason: reason.to_owned(),
            message,
            details: Some(json::text(&details)),
        })
    }
}

fn is_about(event: &Value, kind: Kind) -> bool {
    object::text(event, "/involvedObject/kind") == Some(kind.kind)
}
