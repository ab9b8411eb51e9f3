use std::{cell::RefCell, rc::Rc};

use dagster_ray_sdk::{
    bindings::reconciler::{Leftover, Outcome, Reconciliation},
    http::{Method, Request},
    model::{RunLife, RunState},
    testing::{RecordingListener, ScriptedHttp, ScriptedResponse, VirtualClock},
};
use serde_json::{Map, json};

use super::{
    acquire::Claim,
    lease::Standing,
    member::{Health, surplus},
    *,
};
use crate::{kubernetes::Kubernetes, reconcile};

/// The API server's time, and the same as the `Date` of its responses.
const NOW: u64 = 1_795_490_590;
const DATE: &str = "Tue, 24 Nov 2026 03:23:10 GMT";

/// The objects of an API server, by kind and name, and the actors on every Ray cluster.
#[derive(Default)]
struct State {
    objects: Map<String, Value>,
    actors: Vec<Value>,
    version: u64,
    /// Changes that another process makes after the next list of clusters.
    interference: Vec<(String, Value)>,
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

struct Server {
    state: Rc<RefCell<State>>,
    http: ScriptedHttp,
}

impl Server {
    fn new() -> Self {
        let state = Rc::<RefCell<State>>::default();
        let shared = Rc::clone(&state);
        let rule = move |request: &Request| {
            let (code, body) = answer(&mut shared.borrow_mut(), request);
            Some(ScriptedResponse::new(code, body.to_string()))
        };
        Self { state, http: ScriptedHttp::with_rule(rule).with_header("date", DATE) }
    }

    fn clusters(&self) -> Clusters<&ScriptedHttp, VirtualClock> {
        Clusters::new(Kubernetes::new(&self.http, VirtualClock::default()), "ray".to_owned())
    }

    fn pool(&self, options: &str) -> Pool {
        pool(&self.clusters(), "d", options)
    }

    /// Adds a cluster of a pool that was created an hour ago.
    fn add(&self, pool: &Pool, name: &str, kuberay: Value, lease: Option<&Lease>) {
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

    fn add_job(&self, pool: &Pool, name: &str, deployment_status: &str, job_status: &str) {
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

    fn acquire(&self, pool: &Pool, run_id: &str, job: Option<&str>) -> Result<String, Error> {
        let clusters = self.clusters();
        let acquired = Pools::new(&clusters).acquire(pool, Claim { run_id, job });
        acquired.map(|cluster| object::name(&cluster).to_owned())
    }

    fn names(&self) -> Vec<String> {
        let state = self.state.borrow();
        state.objects.keys().filter_map(|at| at.strip_prefix("rayclusters/")).map(str::to_owned).collect()
    }

    fn lease(&self, name: &str) -> Option<Lease> {
        Lease::of(self.state.borrow().objects.get(&format!("rayclusters/{name}"))?)
    }

    fn reconcile(&self, runs: Vec<RunLife>, dry_run: bool) -> Vec<Leftover> {
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

fn pool(clusters: &Clusters<&ScriptedHttp, VirtualClock>, deployment: &str, options: &str) -> Pool {
    let mut options: Value = serde_json::from_str(options).unwrap();
    options["cluster"] = "pool".into();
    if options.get("image").is_none() {
        options["image"] = "i".into();
    }
    let (_, own) = crate::options::job(&options.to_string(), &Vec::new()).unwrap();
    Pools::new(clusters).pool(deployment, &own).unwrap()
}

fn ready() -> Value {
    json!({"state": "ready", "head": {"serviceName": "s"}, "endpoints": {"dashboard": "8265"}})
}

fn lease_of(run_id: &str, job: Option<&str>) -> Lease {
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

fn released(run_id: &str, ago_s: u64, runs: u64) -> Lease {
    Lease { released_s: Some(NOW - ago_s), runs, ..lease_of(run_id, None) }
}

fn life(run_id: &str, state: RunState) -> RunLife {
    RunLife { run_id: run_id.to_owned(), state, ended_at: Some(0) }
}

#[test]
fn runs_share_a_pool_only_if_their_clusters_would_be_alike_and_their_keys_are_the_same() {
    let server = Server::new();
    let clusters = server.clusters();
    let id = |deployment: &str, options: &str| pool(&clusters, deployment, options).id;
    let one = id("d", r#"{"pool": {"size": 2}}"#);
    assert_eq!(one, id("d", r#"{"pool": {"size": 1, "max": 3}, "num_cpus": 1}"#));
    for (deployment, options) in [
        ("other", "{}"),
        ("d", r#"{"image": "other"}"#),
        ("d", r#"{"namespace": "other"}"#),
        ("d", r#"{"pool": {"key": "nightly"}}"#),
        ("d", r#"{"ray_job": {"spec": {"rayClusterSpec": {"rayVersion": "2.60.0"}}}}"#),
        ("d", r#"{"ray_job": {"metadata": {"labels": {"team": "x"}}}}"#),
    ] {
        assert_ne!(one, id(deployment, options), "{deployment} {options}");
    }
    let (_, own) = crate::options::job(r#"{"image": "i"}"#, &Vec::new()).unwrap();
    assert!(matches!(Pools::new(&clusters).pool("", &own), Err(Error::InvalidConfig(_))));
}

#[test]
fn mistakes_in_the_options_of_a_pool_are_reported() {
    let mistakes = |pool: &str| {
        let text = format!(r#"{{"cluster": "pool", "pool": {pool}}}"#);
        crate::options::job(&text, &Vec::new()).unwrap_err().message()
    };
    for (pool, part) in [
        (r#"{"max": 0}"#, "`pool.max`: is 0"),
        (r#"{"size": 3, "max": 2}"#, "less than size (3)"),
        (r#"{"reuse": 0}"#, "`pool.reuse`: is 0"),
        (r#"{"sizes": 1}"#, "idle_seconds"),
        (r#"{"size": 0.5}"#, "`pool.size`"),
    ] {
        assert!(mistakes(pool).contains(part), "{pool}: {}", mistakes(pool));
    }
    let (_, own) = crate::options::job(r#"{"pool": {"size": 9}}"#, &Vec::new()).unwrap();
    assert_eq!(own.pool.map(|pool| pool.max), Some(9));
}

#[test]
fn a_run_leases_a_ready_cluster_and_never_one_that_another_run_has() {
    let server = Server::new();
    let pool = server.pool(r#"{"pool": {"max": 3}}"#);
    server.add(&pool, "a-starting", json!({}), None);
    server.add(&pool, "b-ready", ready(), None);
    assert_eq!(server.acquire(&pool, "one", Some("job-one")), Ok("b-ready".to_owned()));
    assert_eq!(server.acquire(&pool, "two", Some("job-two")), Ok("a-starting".to_owned()));
    let third = server.acquire(&pool, "three", Some("job-three")).unwrap();
    assert!(third.starts_with("dg-pool-"), "{third}");
    // A lost response or a killed daemon repeats the call.
    assert_eq!(server.acquire(&pool, "one", Some("job-one")), Ok("b-ready".to_owned()));
    // The steps of the run use its cluster, too, and so does the run's next worker.
    assert_eq!(server.acquire(&pool, "one", None), Ok("b-ready".to_owned()));
    assert_eq!(server.acquire(&pool, "one", Some("job-one-1")), Ok("b-ready".to_owned()));
    let lease = server.lease("b-ready").unwrap();
    assert_eq!((lease.deployment.as_str(), lease.run_id.as_str(), lease.runs), ("d", "one", 1));
    assert_eq!(lease.job.as_deref(), Some("job-one-1"));
    assert_eq!(server.names().len(), 3);
}

#[test]
fn a_step_uses_the_cluster_of_its_runs_worker_also_if_only_the_worker_has_a_key() {
    let server = Server::new();
    let of_worker = server.pool(r#"{"pool": {"key": "nightly"}}"#);
    let of_steps = server.pool("{}");
    server.add(&of_steps, "b", ready(), None);
    let leased = server.acquire(&of_worker, "one", Some("job")).unwrap();
    assert_eq!(server.acquire(&of_steps, "one", None), Ok(leased.clone()));
    let other_image = server.pool(r#"{"image": "other"}"#);
    assert_ne!(server.acquire(&other_image, "one", None), Ok(leased));
}

#[test]
fn the_run_that_the_api_server_accepts_second_takes_another_cluster() {
    let server = Server::new();
    let pool = server.pool("{}");
    server.add(&pool, "a", ready(), None);
    server.add(&pool, "b", ready(), None);
    // Another process leases the first candidate between this one's list and its patch.
    let (key, value) = lease_of("other", None).annotation();
    let change = json!({"metadata": {"annotations": {key: value}}});
    server.state.borrow_mut().interference.push(("rayclusters/b".to_owned(), change));
    assert_eq!(server.acquire(&pool, "one", Some("job")), Ok("a".to_owned()));
    assert_eq!(server.lease("b").unwrap().run_id, "other");
}

#[test]
fn a_full_pool_lets_a_run_wait_and_then_names_what_uses_its_clusters() {
    let server = Server::new();
    let pool = server.pool(r#"{"pool": {"max": 1, "wait_seconds": 30}}"#);
    server.add(&pool, "a", ready(), Some(&lease_of("other", None)));
    let Err(Error::Unavailable(hint)) = server.acquire(&pool, "one", Some("job")) else { panic!() };
    for part in ["30 s", "run other", "`max` is 1", "pool.max"] {
        assert!(hint.reason.contains(part), "{part}: {}", hint.reason);
    }
    assert_eq!(server.names(), ["a"]);
}

#[test]
fn a_failed_or_worn_cluster_is_never_leased_and_makes_room_for_a_new_one() {
    let failed = json!({"state": "failed", "reason": "why"});
    let mut headless = ready();
    headless["conditions"] = json!([
        {"type": "RayClusterProvisioned", "status": "True"},
        {"type": "HeadPodReady", "status": "False", "reason": "ContainersNotReady"},
    ]);
    for (kuberay, lease) in [
        (failed, None),
        (headless, None),
        (ready(), Some(released("before", 5, 10))),
        (json!({}), Some(released("before", 5, 1))),
    ] {
        let server = Server::new();
        let pool = server.pool(r#"{"pool": {"max": 1}}"#);
        server.add(&pool, "a", kuberay.clone(), lease.as_ref());
        let leased = server.acquire(&pool, "one", Some("job")).unwrap();
        assert_ne!(leased, "a", "{kuberay}");
        assert_eq!(server.names(), [leased]);
    }
}

#[test]
fn a_cluster_with_actors_of_its_last_run_is_deleted_instead_of_leased_again() {
    let server = Server::new();
    let pool = server.pool("{}");
    server.add(&pool, "a", ready(), Some(&released("before", 5, 1)));
    server.state.borrow_mut().actors =
        vec![json!({"class_name": "_StatsActor", "ray_namespace": "_dataset_stats_actor"})];
    assert_eq!(server.acquire(&pool, "one", Some("job-one")), Ok("a".to_owned()));
    assert_eq!(server.lease("a").unwrap().runs, 2);

    let server = Server::new();
    server.add(&pool, "a", ready(), Some(&released("before", 5, 1)));
    server.state.borrow_mut().actors = vec![json!({"class_name": "Counter", "ray_namespace": "mine"})];
    assert_ne!(server.acquire(&pool, "one", Some("job-one")), Ok("a".to_owned()));
    assert!(!server.names().contains(&"a".to_owned()));
}

#[test]
fn steps_that_start_together_use_one_cluster() {
    let server = Server::new();
    let pool = server.pool("{}");
    let unconfirmed = Lease { is_confirmed: false, since_s: NOW, ..lease_of("one", None) };
    server.add(&pool, "b", ready(), None);
    // Another step of the run leases and confirms a cluster after this one's first list.
    server.add(&pool, "a", json!({}), None);
    let confirmed = Lease { is_confirmed: true, ..unconfirmed };
    let (key, value) = confirmed.annotation();
    let change = json!({"metadata": {
        "annotations": {key: value}, "labels": {labels::POOL_RUN: "one"},
    }});
    server.state.borrow_mut().interference.push(("rayclusters/a".to_owned(), change));
    assert_eq!(server.acquire(&pool, "one", None), Ok("a".to_owned()));
    assert!(server.lease("b").unwrap().released_s.is_some());
}

#[test]
fn a_lease_is_over_when_its_rayjob_has_ended_or_was_never_created() {
    let job = |deployment: &str, job: &str, changed: &str| {
        vec![json!({
            "metadata": {"name": "j", "managedFields": [{"time": changed}]},
            "status": {"jobDeploymentStatus": deployment, "jobStatus": job},
        })]
    };
    let (long_ago, just_now) = ("2026-11-24T02:23:10Z", "2026-11-24T03:22:10Z");
    let held = lease_of("r", Some("j"));
    let over = Lease { released_s: Some(NOW - 5), ..held.clone() };
    for (lease, jobs, expected) in [
        (&held, job("Running", "RUNNING", long_ago), "held"),
        (&held, job("Initializing", "", long_ago), "held"),
        (&held, job("Complete", "SUCCEEDED", just_now), "over"),
        // Dagster may resume the run.
        (&held, job("Failed", "FAILED", just_now), "held"),
        (&held, job("Failed", "FAILED", long_ago), "over"),
        (&held, Vec::new(), "over"),
        // The worker has reported the end of its run, and still exits.
        (&over, job("Running", "RUNNING", just_now), "held"),
        (&over, job("Failed", "FAILED", just_now), "free"),
        (&over, Vec::new(), "free"),
        (&Lease { since_s: NOW - 5, ..held.clone() }, Vec::new(), "held"),
        (&lease_of("r", None), Vec::new(), "held"),
        (&released("r", 5, 1), Vec::new(), "free"),
    ] {
        let found = match lease.standing(&jobs, NOW) {
            Standing::Free(_) => "free",
            Standing::Over(_) => "over",
            Standing::Held(_) => "held",
        };
        assert_eq!(found, expected, "{lease:?} {jobs:?}");
        assert_eq!(
            Lease::of(&json!({"metadata": {"annotations": {lease::LEASE: lease.annotation().1}}})).as_ref(),
            Some(lease)
        );
    }
}

#[test]
fn a_pool_is_refilled_up_to_its_size_and_its_max() {
    for (options, in_use, expected) in [
        (r#"{"pool": {"size": 2}}"#, 1, 3),
        (r#"{"pool": {"size": 2, "max": 2}}"#, 1, 2),
        (r#"{"pool": {"size": 0}}"#, 1, 1),
        (r#"{"pool": {"size": 1}}"#, 0, 1),
    ] {
        let server = Server::new();
        let pool = server.pool(options);
        for n in 0..in_use {
            server.add(&pool, &format!("used-{n}"), ready(), Some(&lease_of("other", None)));
        }
        let clusters = server.clusters();
        for _ in 0..2 {
            Pools::new(&clusters).keep_up(&pool);
            assert_eq!(server.names().len(), expected, "{options}");
        }
    }
}

#[test]
fn idle_clusters_above_the_size_are_deleted_and_those_in_use_never() {
    let server = Server::new();
    let pool = server.pool(r#"{"pool": {"size": 1, "idle_seconds": 600}}"#);
    server.add(&pool, "idle-long", ready(), Some(&released("a", 700, 1)));
    server.add(&pool, "idle", ready(), Some(&released("b", 650, 1)));
    server.add(&pool, "idle-short", ready(), Some(&released("c", 500, 1)));
    server.add(&pool, "used", ready(), Some(&lease_of("d", None)));
    let clusters = server.clusters();
    Pools::new(&clusters).keep_up(&pool);
    assert_eq!(server.names(), ["idle-short", "used"]);
}

#[test]
fn a_pool_that_no_run_uses_is_deleted_as_a_whole_and_one_in_use_is_not() {
    let server = Server::new();
    let pool = server.pool(r#"{"pool": {"unused_seconds": 3000}}"#);
    server.add(&pool, "a", ready(), None);
    let names = |may_end| {
        let clusters = server.clusters();
        let seen = Pools::new(&clusters).see(&pool).unwrap();
        let over = surplus(&seen.members, &pool.options, seen.now_s, may_end);
        over.into_iter().map(|(member, _)| member.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(true), ["a"]);
    assert!(names(false).is_empty());
    server.add(&pool, "used", ready(), Some(&lease_of("d", None)));
    assert!(names(true).is_empty());
}

#[test]
fn reconciliation_takes_back_the_leases_of_ended_runs_and_explains_what_stays() {
    let server = Server::new();
    let pool = server.pool(r#"{"pool": {"size": 1, "idle_seconds": 600}}"#);
    server.add(&pool, "of-ended", ready(), Some(&lease_of("over", None)));
    server.add(&pool, "of-live", ready(), Some(&lease_of("live", None)));
    server.add(&pool, "of-unknown", ready(), Some(&lease_of("unknown", None)));
    server.add(&pool, "idle", ready(), Some(&released("b", 700, 1)));
    server.add(&pool, "warm", ready(), Some(&released("c", 500, 1)));
    server.add(&pool, "starting", json!({}), Some(&lease_of("live-2", Some("j"))));
    server.add_job(&pool, "j", "Initializing", "");
    let foreign = super::tests::pool(&server.clusters(), "other", "{}");
    server.add(&foreign, "of-another", ready(), Some(&released("x", 100_000, 10)));
    let runs =
        || vec![life("over", RunState::Failed), life("live", RunState::Live), life("live-2", RunState::Live)];
    let found = |dry_run: bool, outcome: Outcome| {
        let all = server.reconcile(runs(), dry_run);
        let mut all: Vec<String> =
            all.into_iter().filter(|one| one.outcome == outcome).map(|one| one.name).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(found(true, Outcome::WouldRemove), ["idle", "of-ended"]);
    assert_eq!(found(true, Outcome::Kept), ["of-live", "of-unknown", "starting", "warm"]);
    assert_eq!(found(true, Outcome::NotOwned), ["of-another"]);
    let first = server.reconcile(Vec::new(), true);
    let named: Vec<&str> = first.iter().filter_map(|one| one.run_id.as_deref()).collect();
    assert!(named.contains(&"over") && named.contains(&"live"), "{named:?}");

    assert_eq!(found(false, Outcome::Removed), ["idle", "of-ended"]);
    assert!(server.lease("of-ended").unwrap().released_s.is_some());
    assert_eq!(server.lease("of-live"), Some(lease_of("live", None)));
    assert!(!server.names().contains(&"idle".to_owned()));
    assert!(server.names().contains(&"of-another".to_owned()));
    assert_eq!(server.acquire(&pool, "next", Some("job")), Ok("of-ended".to_owned()));
}

#[test]
fn a_terminated_runs_cluster_returns_to_its_pool_unless_it_cannot_be_cleaned() {
    let server = Server::new();
    let pool = server.pool("{}");
    server.add(&pool, "a", ready(), Some(&lease_of("one", Some("job"))));
    server.add(&pool, "b", json!({}), Some(&lease_of("two", Some("job-two"))));
    let clusters = server.clusters();
    let listener = RecordingListener::default();
    for run in ["one", "two"] {
        Pools::new(&clusters).take_back("ray", run, &listener).unwrap();
    }
    assert_eq!(server.names(), ["a"]);
    let lease = server.lease("a").unwrap();
    assert!(lease.released_s.is_some());
    let member = Member::read(server.state.borrow().objects["rayclusters/a"].clone(), &[], NOW);
    assert_eq!((member.health(), member.is_available(&pool.options)), (Health::Ready, true));
}
