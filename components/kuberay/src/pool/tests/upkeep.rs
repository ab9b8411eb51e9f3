//! Refilling, deletion of idle clusters, and reconciliation.

use dagster_ray_sdk::{bindings::reconciler::Outcome, model::RunState, testing::RecordingListener};

use super::{
    super::{
        member::{Health, surplus},
        *,
    },
    server::{self, *},
};

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
    let foreign = server::pool(&server.clusters(), "other", "{}");
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
