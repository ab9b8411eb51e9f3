//! Who leases a cluster, and when a lease is over.

use super::{
    super::{lease::Standing, *},
    server::*,
};

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
