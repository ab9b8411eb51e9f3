//! An API server with the objects of a pool, and Ray clusters with actors.

use std::{cell::RefCell, rc::Rc};

use dagster_ray_sdk::{
    bindings::reconciler::{Leftover, Reconciliation},
    http::{Method, Request},
    model::{RunLife, RunState},
    testing::{RecordingListener, ScriptedHttp, ScriptedResponse, VirtualClock},
};
use serde_json::{Map, json};

use super::super::{acquire::Claim, *};
use crate::{kubernetes::Kubernetes, reconcile};

/// The API server's time, and the same as the `Date` of its responses.
pub(super) const NOW: u64 = 1_795_490_590;
const DATE: &str = "Tue, 24 Nov 2026 03:23:10 GMT";

/// The objects of an API server, by kind and name, and the actors on every Ray cluster.
#[derive(Default)]
pub(super) struct State {
    pub(super) objects: Map<String, Value>,
    pub(super) actors: Vec<Value>,
    version: u64,
    /// Changes that another process makes after the next list of clusters.
    pub(super) interference: Vec<(String, Value)>,
}

impl State {
    fn put(&mut self, path: &str, mut document: Value) -> Value {
        self.version += 1;
        document["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path.to_owned(), document.clone());
        document
    }
}

fn status(code: u16, reason: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "code": code, "reason": reason, "message": "m"}))
}

fn merge(target: &mut Value, patch: &Value) {
    let (Value::Object(fields), true) = (patch, target.is_object()) else {
        *target = patch.clone();
        return;
    };
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            let field = &mut target[key];
            if value.is_object() && !field.is_object() {
                *field = json!({});
            }
            merge(field, value);
        }
    }
}

/// Answers as an API server does: with label selectors, unique names and resource versions.
fn answer(state: &mut State, request: &Request) -> (u16, Value) {
    let url = request.url.replace("%2F", "/").replace("%3D", "=").replace("%2C", ",");
    let body = serde_json::from_slice::<Value>(&request.body).unwrap_or_default();
    if url.contains("/api/v0/actors") {
        return (200, json!({"data": {"result": {"result": state.actors}}}));
    }
    if url.contains("/api/v0/") {
        return (200, json!({"data": {"result": {"result": []}}}));
    }
    if url.contains("/api/jobs/") {
        return (200, json!([]));
    }
    let (path, query) = url.split_once('?').unwrap_or((&url, ""));
    let path = path.rsplit_once("/namespaces/ray/").map_or(path, |(_, path)| path).to_owned();
    match request.method {
        Method::Get if !path.contains('/') => {
            let selector = query.split('&').find_map(|part| part.strip_prefix("labelSelector="));
            let wanted: Vec<(&str, &str)> = selector
                .into_iter()
                .flat_map(|all| all.split(','))
                .filter_map(|one| one.split_once('='))
                .collect();
            let items: Vec<Value> = state
                .objects
                .iter()
                .filter(|(at, _)| at.starts_with(&format!("{path}/")))
                .map(|(_, document)| document.clone())
                .filter(|one| wanted.iter().all(|(key, text)| object::labels(one).get(key) == Some(text)))
                .collect();
            if path == "rayclusters" && wanted.iter().any(|(key, _)| *key == labels::POOL) {
                for (at, patch) in std::mem::take(&mut state.interference) {
                    let mut changed = state.objects[&at].clone();
                    merge(&mut changed, &patch);
                    state.put(&at, changed);
                }
            }
            (200, json!({"metadata": {}, "items": items}))
        }
        Method::Post => {
            let at = format!("{path}/{}", object::name(&body));
            if state.objects.contains_key(&at) {
                return status(409, "AlreadyExists");
            }
            let mut made = body;
            made["metadata"]["uid"] = format!("uid-{}", state.version + 1).into();
            made["metadata"]["creationTimestamp"] = "2026-11-24T03:23:10Z".into();
            (201, state.put(&at, made))
        }
        _ => {
            let Some(found) = state.objects.get(&path).cloned() else { return status(404, "NotFound") };
            let condition = if request.method == Method::Delete { "/preconditions" } else { "/metadata" };
            for field in ["uid", "resourceVersion"] {
                let required = object::text(&body, &format!("{condition}/{field}"));
                if required
                    .is_some_and(|text| Some(text) != object::text(&found, &format!("/metadata/{field}")))
                {
                    return status(409, "Conflict");
                }
            }
            match request.method {
                Method::Patch => {
                    let mut changed = found;
                    merge(&mut changed, &body);
                    (200, state.put(&path, changed))
                }
                Method::Delete => {
                    state.objects.remove(&path);
                    (200, json!({}))
                }
                _ => (200, found),
            }
        }
    }
}

pub(super) struct Server {
    pub(super) state: Rc<RefCell<State>>,
    http: ScriptedHttp,
}

impl Server {
    pub(super) fn new() -> Self {
        let state = Rc::<RefCell<State>>::default();
        let shared = Rc::clone(&state);
        let rule = move |request: &Request| {
            let (code, body) = answer(&mut shared.borrow_mut(), request);
            Some(ScriptedResponse::new(code, body.to_string()))
        };
        Self { state, http: ScriptedHttp::with_rule(rule).with_header("date", DATE) }
    }

    pub(super) fn clusters(&self) -> Clusters<&ScriptedHttp, VirtualClock> {
        Clusters::new(Kubernetes::new(&self.http, VirtualClock::default()), "ray".to_owned())
    }

    pub(super) fn pool(&self, options: &str) -> Pool {
        pool(&self.clusters(), "d", options)
    }

    /// Adds a cluster of a pool that was created an hour ago.
    pub(super) fn add(&self, pool: &Pool, name: &str, kuberay: Value, lease: Option<&Lease>) {
        let mut document = pool.document.clone();
        document["metadata"]["name"] = name.into();
        document["metadata"]["uid"] = format!("uid-{name}").into();
        document["metadata"]["creationTimestamp"] = "2026-11-24T02:23:10Z".into();
        document["status"] = kuberay;
        let notes = [Some(pool.options.annotation()), lease.map(Lease::annotation)];
        for (key, value) in notes.into_iter().flatten() {
            document["metadata"]["annotations"][key] = value;
        }
        if let Some(lease) = lease.filter(|lease| lease.released_s.is_none()) {
            document["metadata"]["labels"][labels::POOL_RUN] = lease.run_id.as_str().into();
        }
        self.state.borrow_mut().put(&format!("rayclusters/{name}"), document);
    }

    pub(super) fn add_job(&self, pool: &Pool, name: &str, deployment_status: &str, job_status: &str) {
        let document = json!({
            "metadata": {
                "name": name, "namespace": "ray", "uid": name,
                "labels": {labels::POOL: pool.id, labels::DEPLOYMENT_ID: "d", labels::ROLE: labels::ROLE_RUN},
                "managedFields": [{"time": "2026-11-24T03:20:10Z"}],
            },
            "spec": {"jobId": name},
            "status": {"jobDeploymentStatus": deployment_status, "jobStatus": job_status},
        });
        self.state.borrow_mut().put(&format!("rayjobs/{name}"), document);
    }

    pub(super) fn acquire(&self, pool: &Pool, run_id: &str, job: Option<&str>) -> Result<String, Error> {
        let clusters = self.clusters();
        let acquired = Pools::new(&clusters).acquire(pool, Claim { run_id, job });
        acquired.map(|cluster| object::name(&cluster).to_owned())
    }

    pub(super) fn names(&self) -> Vec<String> {
        let state = self.state.borrow();
        state.objects.keys().filter_map(|at| at.strip_prefix("rayclusters/")).map(str::to_owned).collect()
    }

    pub(super) fn lease(&self, name: &str) -> Option<Lease> {
        Lease::of(self.state.borrow().objects.get(&format!("rayclusters/{name}"))?)
    }

    pub(super) fn reconcile(&self, runs: Vec<RunLife>, dry_run: bool) -> Vec<Leftover> {
        let rule = Reconciliation {
            deployment: "d".to_owned(),
            namespaces: Vec::new(),
            runs,
            ended_steps: Vec::new(),
            ended_grace_s: 60,
            unknown_grace_s: Some(86_400),
            dry_run,
        };
        reconcile::reconcile(&self.clusters(), &rule, &RecordingListener::default()).unwrap()
    }
}

pub(super) fn pool(
    clusters: &Clusters<&ScriptedHttp, VirtualClock>,
    deployment: &str,
    options: &str,
) -> Pool {
    let mut options: Value = serde_json::from_str(options).unwrap();
    options["cluster"] = "pool".into();
    if options.get("image").is_none() {
        options["image"] = "i".into();
    }
    let (_, own) = crate::options::job(&options.to_string(), &Vec::new()).unwrap();
    Pools::new(clusters).pool(deployment, &own).unwrap()
}

pub(super) fn ready() -> Value {
    json!({"state": "ready", "head": {"serviceName": "s"}, "endpoints": {"dashboard": "8265"}})
}

pub(super) fn lease_of(run_id: &str, job: Option<&str>) -> Lease {
    Lease {
        deployment: "d".to_owned(),
        run_id: run_id.to_owned(),
        job: job.map(str::to_owned),
        since_s: NOW - 1_000,
        is_confirmed: true,
        released_s: None,
        runs: 1,
    }
}

pub(super) fn released(run_id: &str, ago_s: u64, runs: u64) -> Lease {
    Lease { released_s: Some(NOW - ago_s), runs, ..lease_of(run_id, None) }
}

pub(super) fn life(run_id: &str, state: RunState) -> RunLife {
    RunLife { run_id: run_id.to_owned(), state, ended_at: Some(0) }
}
