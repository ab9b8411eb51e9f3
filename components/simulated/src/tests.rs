//! Tests each fault through the shared rules and the real client, without processes or real waits.

use dagster_ray_jobs::{RayJobs as _, Submission};
use dagster_ray_sdk::{
    Error,
    bindings::{
        cluster::{ClusterSpec, Creation, Expiry, Owner, Query},
        executor::{Placement, StepRef, StepSpec},
        pipes::ScriptSpec,
    },
    clock::Clock,
    model::{JobState, WorkerCommand},
    settings::Settings,
    testing::RecordingListener,
};
use dagster_ray_submission::{executor::Executor, kill_pending, patience::Patience, scripts::Scripts};
use std::collections::BTreeMap;

use crate::{
    clusters::Clusters,
    fake::{FakeMachine, MemoryStore},
    faults::{self, Fault},
    keys::KeyValueStore,
    options,
    ray::SimulatedRay,
    simulation::{CLOCK, Simulation},
};

type Fake = Simulation<MemoryStore, FakeMachine>;
type FakeRay = SimulatedRay<MemoryStore, FakeMachine>;

fn simulation(faults: &str) -> Fake {
    let settings = BTreeMap::from([("faults".to_owned(), faults.to_owned())]);
    let faults: Vec<Fault> = faults::all(&settings, &MemoryStore::default()).unwrap();
    Simulation::new(MemoryStore::default(), FakeMachine::default(), faults)
}

fn executor(simulation: &Fake) -> Executor<FakeRay, Fake> {
    Executor::new(SimulatedRay::new(simulation).unwrap(), simulation.clone(), Patience::default())
}

/// Launches a step on Ray.
fn launch(executor: &Executor<FakeRay, Fake>, step: &StepSpec) -> StepRef {
    match executor.launch(step).unwrap() {
        Placement::Job(step) => step,
        other => panic!("{other:?}"),
    }
}

fn scripts(simulation: &Fake) -> Scripts<FakeRay, Fake> {
    Scripts::new(SimulatedRay::new(simulation).unwrap(), simulation.clone(), Patience::default())
}

fn skipped_ms(simulation: &Fake) -> u64 {
    simulation.keys().number(CLOCK).unwrap()
}

fn step(key: &str) -> StepSpec {
    StepSpec {
        deployment: String::new(),
        run_id: "r".to_owned(),
        step_key: key.to_owned(),
        attempt: 0,
        job_name: "training".to_owned(),
        code_location: None,
        command: WorkerCommand {
            argv: vec!["work".to_owned()],
            payload: None,
            env: vec![("SECRET".to_owned(), "x".to_owned())],
        },
        tags: Vec::new(),
        options: "{}".to_owned(),
    }
}

fn script(options: &str) -> ScriptSpec {
    ScriptSpec {
        deployment: String::new(),
        run_id: "r".to_owned(),
        step_key: "s".to_owned(),
        attempt: 0,
        nonce: "abc".to_owned(),
        bootstrap: Vec::new(),
        labels: Vec::new(),
        image: None,
        options: options.to_owned(),
    }
}

fn state(simulation: &Fake, step: &StepRef) -> (JobState, Option<String>, Option<i32>) {
    let status = executor(simulation).check(std::slice::from_ref(step)).unwrap().remove(0);
    (status.state, status.error_type, status.exit_code)
}

#[test]
fn jobs_run_with_the_submitted_environment_and_report_the_exit_code() {
    let simulation = simulation("");
    let mut spec = step("train");
    spec.options =
        r#"{"runtime_env": {"working_dir": "/code", "py_modules": ["/lib/own/"], "env_vars": {"A": "1"}}}"#
            .to_owned();
    let launched = launch(&executor(&simulation), &spec);
    assert_eq!(launched.job.submission_id, "dagster-step-r-train");
    {
        let started = simulation.machine().started.borrow();
        let (id, launch) = &started[0];
        assert_eq!((id.as_str(), launch.entrypoint.as_str()), ("dagster-step-r-train", "exec work"));
        assert_eq!(
            (launch.directory.as_str(), launch.python_path.join(":")),
            ("/code", "/code:/lib".to_owned())
        );
        for pair in [("A", "1"), ("SECRET", "x"), ("DAGSTER_RUN_STEP_KEY", "train")] {
            assert!(launch.env.contains(&(pair.0.to_owned(), pair.1.to_owned())), "{pair:?}");
        }
    }
    assert_eq!(state(&simulation, &launched).0, JobState::Running);
    simulation.machine().writes("first\nlast words\n");
    simulation.machine().end("dagster-step-r-train", 3);
    let status = executor(&simulation).check(&[launched]).unwrap().remove(0);
    assert_eq!((status.state, status.exit_code), (JobState::Failed, Some(3)));
    assert!(status.message.unwrap().ends_with("(truncated to 20,000 chars):\nfirst\nlast words"));
}

#[test]
fn an_unavailable_head_outlasts_the_retries_of_one_launch_without_real_waits() {
    let simulation = simulation(r#"[{"fault": "unavailable", "seconds": 300}]"#);
    let mut launches = 0;
    let launched = loop {
        launches += 1;
        match executor(&simulation).launch(&step("train")) {
            Ok(Placement::Job(launched)) => break launched,
            Err(Error::Unavailable(hint)) => assert!(hint.reason.contains("answered 503"), "{}", hint.reason),
            other => panic!("{other:?}"),
        }
        assert!(launches < 20);
    };
    assert!(launches > 1, "one launch must not retry for five minutes");
    assert_eq!(state(&simulation, &launched).0, JobState::Running);
    assert_eq!(simulation.machine().waited.get(), 0);
    assert!((300_000..340_000).contains(&skipped_ms(&simulation)), "{}", skipped_ms(&simulation));
    assert_eq!(simulation.machine().started.borrow().len(), 1);
}

#[test]
fn out_of_memory_kills_only_the_selected_jobs_and_only_the_given_number() {
    let simulation = simulation(r#"[{"fault": "out-of-memory", "step": "train", "times": 2}]"#);
    let mut ends = Vec::new();
    for (key, attempt) in [("load", 0), ("train", 0), ("train[1]", 0), ("train", 1)] {
        let launched = launch(&executor(&simulation), &StepSpec { attempt, ..step(key) });
        ends.push(state(&simulation, &launched));
    }
    let killed = (JobState::Failed, Some("JOB_ENTRYPOINT_COMMAND_ERROR".to_owned()), Some(-9));
    let runs = (JobState::Running, None, None);
    assert_eq!(ends, [runs.clone(), killed.clone(), killed, runs]);
}

#[test]
fn head_out_of_memory_fails_every_running_job() {
    let simulation = simulation(r#"[{"fault": "head-out-of-memory", "step": "train"}]"#);
    let executor = executor(&simulation);
    let other = launch(&executor, &step("load"));
    assert_eq!(state(&simulation, &other).0, JobState::Running);
    let train = launch(&executor, &step("train"));
    let ends = executor.check(&[other, train]).unwrap();
    for end in ends {
        assert_eq!(
            (end.state, end.error_type.as_deref()),
            (JobState::Failed, Some(kill_pending::SUPERVISOR_DIED))
        );
        assert!(end.message.unwrap().contains("NODE_OUT_OF_MEMORY"));
        assert_eq!(simulation.keys().number(&format!("kill/{}", end.submission_id)).unwrap(), 1);
    }
    let next = launch(&executor, &step("after"));
    assert_eq!(state(&simulation, &next).0, JobState::Running);
}

#[test]
fn terminating_a_pending_job_kills_it_as_on_a_real_cluster() {
    let simulation = simulation(r#"[{"fault": "pending"}]"#);
    let launched = launch(&executor(&simulation), &step("train"));
    assert_eq!(state(&simulation, &launched).0, JobState::Pending);
    let listener = RecordingListener::default();
    let ends = executor(&simulation).terminate(&[launched], &listener).unwrap();
    assert_eq!(ends[0].state, JobState::Stopped);
    assert_eq!(ends[0].message.as_deref(), Some("killed before it started"));
    assert_eq!(simulation.machine().waited.get(), 0);
    assert!(skipped_ms(&simulation) >= 5_000);
    assert!(simulation.machine().started.borrow().is_empty());
}

#[test]
fn launch_is_idempotent_when_the_response_is_lost() {
    let simulation = simulation(r#"[{"fault": "answer-lost", "times": 3}]"#);
    let executor = executor(&simulation);
    for key in ["a", "b", "a"] {
        launch(&executor, &step(key));
    }
    let started: Vec<_> = simulation.machine().started.borrow().iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(started, ["dagster-step-r-a", "dagster-step-r-b"]);
}

#[test]
fn terminate_waits_in_real_time_for_a_running_process() {
    let simulation = simulation("");
    let launched = launch(&executor(&simulation), &step("train"));
    simulation.machine().ends_after(400);
    let ends = executor(&simulation).terminate(&[launched], &RecordingListener::default()).unwrap();
    assert_eq!(ends[0].state, JobState::Stopped);
    assert_eq!(simulation.keys().number("stop/dagster-step-r-train").unwrap(), 1);
    assert!(simulation.machine().waited.get() >= 400);
    assert_eq!(skipped_ms(&simulation), 0);
}

#[test]
fn a_job_submitted_again_under_a_deleted_id_has_its_own_end() {
    let simulation = simulation("");
    let ray = SimulatedRay::new(&simulation).unwrap();
    let submission =
        Submission { entrypoint: "work".to_owned(), submission_id: "a".to_owned(), ..Submission::default() };
    ray.submit(&submission).unwrap();
    assert!(matches!(ray.stop_many(&["a".to_owned()])[..], [Ok(true)]));
    simulation.machine().end("a", 3);
    assert_eq!(ray.get("a").unwrap().status, "STOPPED");
    assert!(ray.delete("a").unwrap());

    ray.submit(&submission).unwrap();
    assert_eq!(ray.get("a").unwrap().status, "RUNNING");
    let process = simulation.machine().started.borrow()[1].0.clone();
    simulation.machine().end(&process, 0);
    assert_eq!(ray.get("a").unwrap().status, "SUCCEEDED");
}

#[test]
fn logs_are_delivered_completely_when_connections_break() {
    let simulation = simulation(r#"[{"fault": "log-cut", "lines": 2, "script": "it.py", "times": 2}]"#);
    let lines: Vec<String> = (0..50).map(|n| format!("line {n}")).collect();
    simulation.machine().writes(&lines.join("\n"));
    let listener = RecordingListener::default();
    let scripts = scripts(&simulation);
    let job = scripts.launch(&script(r#"{"entrypoint": "python it.py"}"#), &listener).unwrap();
    simulation.machine().ends_after(1_500);
    let followed = scripts.follow(&job, None, &listener).unwrap();
    assert!(followed.complete);
    let delivered: Vec<_> =
        listener.lines.borrow().iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    assert_eq!(delivered, lines);
    assert_eq!(simulation.keys().number("fault/0/used").unwrap(), 2);
    assert_eq!(scripts.wait(&job, &listener).unwrap().state, JobState::Succeeded);
}

#[test]
fn a_rayjob_manifest_is_converted_to_job_parameters() {
    let manifest = r#"{"ray_job": {"spec": {"entrypoint": "python a.py", "rayClusterSpec": {}}}, "namespace": "n",
        "runtime_env": {"env_vars": {"A": "1"}}, "parameters": {"entrypoint_num_cpus": 1}}"#;
    let read = options::script(script(manifest)).unwrap();
    let simulation = simulation("");
    scripts(&simulation).launch(&read, &RecordingListener::default()).unwrap();
    let started = simulation.machine().started.borrow();
    assert_eq!(started[0].1.entrypoint, "exec python a.py");
    assert!(started[0].1.env.contains(&("A".to_owned(), "1".to_owned())));
}

fn cluster(holder: &str, options: &str) -> ClusterSpec {
    ClusterSpec {
        name: None,
        owner: Owner {
            deployment: String::new(),
            run_id: "r".to_owned(),
            step_key: None,
            resource_key: None,
            holder: holder.to_owned(),
        },
        image: None,
        labels: vec![("team".to_owned(), "x".to_owned())],
        env: Vec::new(),
        options: options.to_owned(),
    }
}

#[test]
fn a_cluster_starts_after_the_given_time_or_never() {
    let simulation = simulation(
        r#"[{"fault": "cluster-starts", "seconds": 45}, {"fault": "cluster-starts", "seconds": null}]"#,
    );
    let clusters = Clusters::new(simulation.clone());
    let listener = RecordingListener::default();
    let mut created = Vec::new();
    for holder in ["slow", "never", "quick"] {
        match clusters.create(&cluster(holder, "{}")).unwrap() {
            Creation::Created(cluster) => created.push(cluster),
            Creation::Joined(cluster) => panic!("{cluster:?}"),
        }
    }
    let before = simulation.now_ms();
    clusters.wait(&created[2], 600_000, &listener).unwrap();
    assert_eq!(simulation.now_ms(), before);
    clusters.wait(&created[0], 600_000, &listener).unwrap();
    assert_eq!(simulation.now_ms(), before + 45_000);
    assert_eq!(clusters.wait(&created[1], 600_000, &listener), Err(Error::Timeout(600_000)));
    assert_eq!(simulation.machine().waited.get(), 0);
    assert!(clusters.delete(&created[1]).unwrap() && !clusters.delete(&created[1]).unwrap());
}

#[test]
fn clusters_are_listed_by_equality_based_selectors() {
    let clusters = Clusters::new(simulation(""));
    clusters.create(&cluster("a", "{}")).unwrap();
    let listed = |selector: &str| {
        let selector = Some(selector.to_owned());
        clusters.list(&Query { namespace: None, labels: Vec::new(), selector, kind: None })
    };
    for (selector, count) in
        [("", 1), ("team=x", 1), ("team == x, other!=y", 1), ("team!=x", 0), ("other=", 0)]
    {
        assert_eq!(listed(selector).unwrap().len(), count, "{selector}");
    }
    for selector in ["team in (x, y)", "team", "=x"] {
        assert!(matches!(listed(selector), Err(Error::Unsupported(_))), "{selector}");
    }
}

#[test]
fn a_shared_cluster_is_joined_and_deleted_with_its_last_holder() {
    let clusters = Clusters::new(simulation(""));
    let options = r#"{"sharing": {"match_labels": {"team": "x"}, "delete_when_released": true}}"#;
    let Creation::Created(first) = clusters.create(&cluster("a", options)).unwrap() else { panic!("joined") };
    let Creation::Joined(second) = clusters.create(&cluster("b", options)).unwrap() else {
        panic!("created")
    };
    assert_eq!(first, second);
    assert_eq!(clusters.get(&first).unwrap().holders, ["a", "b"]);
    assert!(!clusters.release(&first, "a").unwrap());
    assert!(clusters.release(&first, "b").unwrap());
    assert!(matches!(clusters.get(&first), Err(Error::NotFound(_))));
}

#[test]
fn clusters_of_another_deployment_neither_expire_nor_are_joined() {
    let clusters = Clusters::new(simulation(""));
    let options = r#"{"sharing": {"match_labels": {"team": "x"}}}"#;
    let create = |deployment: &str, holder: &str| {
        let mut spec = cluster(holder, options);
        spec.owner.deployment = deployment.to_owned();
        match clusters.create(&spec).unwrap() {
            Creation::Created(cluster) => cluster.name,
            Creation::Joined(cluster) => panic!("{cluster:?}"),
        }
    };
    let ours = create("d", "a");
    create("other", "b");
    create("", "c");
    let expired = |deployment: &str| {
        let query = Query { namespace: None, labels: Vec::new(), selector: None, kind: None };
        let rule =
            Expiry { deployment: deployment.to_owned(), query, live_runs: Vec::new(), older_than_s: 0 };
        let found = clusters.expired(&rule).unwrap();
        assert_eq!(found.expired.len() + found.not_owned.len(), 3);
        found.expired.into_iter().map(|info| info.cluster.name).collect::<Vec<_>>()
    };
    assert_eq!(expired("d"), [ours]);
    assert!(expired("").is_empty());
}

#[test]
fn faults_are_read_from_the_configuration_and_then_from_the_bucket() {
    let keys = MemoryStore::default();
    let settings = BTreeMap::from([("faults".to_owned(), r#"[{"fault": "pending"}]"#.to_owned())]);
    assert!(Settings::get(&settings, "faults").unwrap().is_some());
    keys.set("faults", br#"[{"fault": "answer-lost", "run": "training"}]"#).unwrap();
    let all = faults::all(&settings, &keys).unwrap();
    assert!(matches!(all.as_slice(), [Fault::Pending { .. }, Fault::AnswerLost { .. }]));
    keys.set("faults", b"[{}]").unwrap();
    assert!(matches!(faults::all(&settings, &keys), Err(Error::InvalidConfig(_))));
}
