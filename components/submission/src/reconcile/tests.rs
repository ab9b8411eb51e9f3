use dagster_ray_jobs::RayJobs;
use dagster_ray_sdk::{
    bindings::{
        executor::StepSpec,
        launcher::{RunRef, RunSpec},
    },
    model::{JobRef, RunLife, RunState, WorkerCommand},
    reconciler::{Leftover, Outcome, Reconciliation, StepEnd},
    testing::{RecordingListener, VirtualClock},
};

use super::jobs::reconcile;
use crate::{executor::Executor, fake::FakeRay, launcher::Launcher, patience::Patience};

const NOW: u64 = 1_000_000;

fn rule(runs: &[(&str, RunState, Option<u64>)]) -> Reconciliation {
    let life = |(run_id, state, ended_at): &(&str, RunState, Option<u64>)| RunLife {
        run_id: (*run_id).to_owned(),
        state: *state,
        ended_at: *ended_at,
    };
    Reconciliation {
        deployment: "d".to_owned(),
        namespaces: Vec::new(),
        runs: runs.iter().map(life).collect(),
        ended_steps: Vec::new(),
        ended_grace_s: 60,
        unknown_grace_s: Some(3_600),
        dry_run: false,
    }
}

fn add(ray: &FakeRay, id: &str, deployment: &str, run_id: &str, step: &[(&str, &str)]) {
    let mut metadata = vec![("dagster-ray/deployment", deployment), ("dagster/run-id", run_id)];
    metadata.extend_from_slice(step);
    ray.add_with(id, "RUNNING", NOW - 100, &metadata);
}

fn step<'a>(key: &'a str, attempt: &'a str) -> [(&'a str, &'a str); 2] {
    [("dagster/op", key), ("dagster-ray/attempt", attempt)]
}

fn run(ray: &FakeRay, rule: &Reconciliation) -> Vec<Leftover> {
    reconcile(ray, &VirtualClock::default(), rule, NOW, &RecordingListener::default()).expect("leftovers")
}

fn names(found: &[Leftover], outcome: Outcome) -> Vec<&str> {
    found.iter().filter(|one| one.outcome == outcome).map(|one| one.name.as_str()).collect()
}

#[test]
fn jobs_of_ended_runs_are_stopped_and_those_of_live_recent_and_foreign_runs_are_left_alone() {
    let ray = FakeRay::default();
    for run_id in ["ended", "ending", "live", "unknown"] {
        add(&ray, &format!("dagster-step-{run_id}-s"), "d", run_id, &step("s", "0"));
    }
    ray.add_with("dagster-step-ended-done", "SUCCEEDED", 0, &[("dagster-ray/deployment", "d")]);
    add(&ray, "dagster-step-another-s", "other", "ended", &step("s", "0"));
    ray.add_with("dagster-step-none-s", "RUNNING", 0, &[("dagster/run-id", "ended")]);
    ray.add_with(
        "dagster-pipes-old-s",
        "PENDING",
        0,
        &[("dagster-ray/deployment", "d"), ("dagster/run-id", "deleted")],
    );
    ray.add("not-of-dagster", "RUNNING");
    let mut rule = rule(&[
        ("ended", RunState::Failed, Some(NOW - 60)),
        ("ending", RunState::Succeeded, Some(NOW - 59)),
        ("live", RunState::Live, None),
    ]);
    rule.dry_run = true;
    let leftovers = ["dagster-pipes-old-s", "dagster-step-ended-s"];
    let found = run(&ray, &rule);
    assert_eq!(names(&found, Outcome::WouldRemove), leftovers);
    assert_eq!(names(&found, Outcome::NotOwned), ["dagster-step-another-s", "dagster-step-none-s"]);
    assert_eq!(ray.calls(), ["list"]);

    rule.dry_run = false;
    let found = run(&ray, &rule);
    assert_eq!(names(&found, Outcome::Removed), leftovers);
    assert_eq!(ray.live().len(), 6);
    assert!(run(&ray, &rule).iter().all(|one| one.outcome == Outcome::NotOwned));
    // Without a deployment, nothing is owned.
    rule.deployment.clear();
    assert!(run(&ray, &rule).iter().all(|one| one.outcome == Outcome::NotOwned));
    assert_eq!(ray.live().len(), 6);
}

#[test]
fn unknown_runs_are_kept_without_a_grace_period() {
    let ray = FakeRay::default();
    add(&ray, "dagster-step-r-s", "d", "r", &step("s", "0"));
    let mut rule = rule(&[]);
    rule.unknown_grace_s = None;
    assert!(run(&ray, &rule).is_empty());
    rule.unknown_grace_s = Some(0);
    assert_eq!(names(&run(&ray, &rule), Outcome::Removed), ["dagster-step-r-s"]);
}

#[test]
fn within_a_live_run_only_the_jobs_of_ended_or_superseded_attempts_are_stopped() {
    let ray = FakeRay::default();
    add(&ray, "dagster-run-r", "d", "r", &[("dagster-ray/attempt", "0")]);
    add(&ray, "dagster-run-r-1", "d", "r", &[("dagster-ray/attempt", "1")]);
    add(&ray, "superseded", "d", "r", &step("a", "0"));
    add(&ray, "current", "d", "r", &step("a", "1"));
    add(&ray, "script-of-ended", "d", "r", &step("b", "0"));
    add(&ray, "script-of-ending", "d", "r", &step("c", "0"));
    add(&ray, "retried", "d", "r", &step("e", "1"));
    ray.add_with(
        "dagster-step-r-f",
        "FAILED",
        NOW,
        &[
            ("dagster-ray/deployment", "d"),
            ("dagster/run-id", "r"),
            ("dagster/op", "f"),
            ("dagster-ray/attempt", "0"),
        ],
    );
    add(&ray, "script-without-worker", "d", "r", &step("f", "0"));
    add(&ray, "dagster-step-r-g", "d", "r", &step("g", "0"));
    add(&ray, "script-with-worker", "d", "r", &step("g", "0"));
    add(&ray, "earlier-version", "d", "r", &[("dagster/op", "b")]);
    let mut rule = rule(&[("r", RunState::Live, None)]);
    let end = |key: &str, ended_at| StepEnd {
        run_id: "r".to_owned(),
        step_key: key.to_owned(),
        attempt: 0,
        ended_at,
    };
    rule.ended_steps = vec![end("b", NOW - 60), end("c", NOW), end("e", NOW - 60)];
    assert_eq!(
        names(&run(&ray, &rule), Outcome::Removed),
        ["script-of-ended", "script-without-worker", "superseded"]
    );
}

#[test]
fn a_script_whose_worker_has_ended_is_stopped_although_its_run_is_live() {
    let ray = FakeRay::default();
    let owner = [("dagster-ray/deployment", "d"), ("dagster/run-id", "r"), ("dagster-ray/attempt", "0")];
    ray.add_with("dagster-run-r", "FAILED", 0, &owner);
    ray.add_with("dagster-run-r-1", "RUNNING", 0, &owner);
    for (id, worker) in
        [("of-dead", "dagster-run-r"), ("of-live", "dagster-run-r-1"), ("of-unknown", "other")]
    {
        add(
            &ray,
            id,
            "d",
            "r",
            &[("dagster/op", "s"), ("dagster-ray/attempt", "0"), ("dagster-ray/worker", worker)],
        );
    }
    let live = rule(&[("r", RunState::Live, None)]);
    assert_eq!(names(&run(&ray, &live), Outcome::Removed), ["of-dead"]);
}

#[test]
fn a_few_leftovers_cost_one_list_and_many_are_polled_with_lists() {
    for (count, lists) in [(2, 1), (9, 2)] {
        let ray = FakeRay::default();
        for job in 0..count {
            add(&ray, &format!("job-{job}"), "d", "r", &[]);
        }
        let found = run(&ray, &rule(&[("r", RunState::Failed, None)]));
        assert_eq!(names(&found, Outcome::Removed).len(), count);
        let calls = ray.calls();
        assert_eq!(calls.iter().filter(|call| *call == "list").count(), lists, "{calls:?}");
    }
}

#[test]
fn an_error_of_one_job_does_not_stop_the_removal_of_the_others() {
    let ray = FakeRay::default();
    for id in ["a", "b", "c"] {
        add(&ray, id, "d", "r", &[]);
    }
    ray.reject_stops("b");
    let found = run(&ray, &rule(&[("r", RunState::Failed, None)]));
    assert_eq!(names(&found, Outcome::Removed), ["a", "c"]);
    assert_eq!(names(&found, Outcome::Failed), ["b"]);
    assert!(found[1].problem.as_deref().is_some_and(|text| text.contains("no permission to stop")));
    assert_eq!(ray.live(), ["b"]);
}

#[test]
fn a_submission_that_arrives_after_the_stop_is_found_later() {
    let ray = FakeRay::default();
    let rule = rule(&[("r", RunState::Failed, Some(0))]);
    assert!(run(&ray, &rule).is_empty());
    add(&ray, "dagster-step-r-late", "d", "r", &step("late", "0"));
    assert_eq!(names(&run(&ray, &rule), Outcome::Removed), ["dagster-step-r-late"]);
}

#[test]
fn kill_jobs_whose_targets_have_ended_are_stopped_and_deleted() {
    let ray = FakeRay::default();
    let waiting = FakeRay::default();
    add(&waiting, "dagster-run-r", "d", "r", &[]);
    let target = waiting.get("dagster-run-r").expect("a job");
    let kill = crate::kill_pending::kill_job(&[&target]);
    assert_eq!(kill.metadata["dagster-ray/deployment"], "d");
    for (id, status) in [("dagster-stop-1", "PENDING"), ("dagster-stop-2", "SUCCEEDED")] {
        let metadata: Vec<_> =
            kill.metadata.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
        ray.add_with(id, status, NOW - 100, &metadata);
        ray.set_entrypoint(id, &kill.entrypoint);
    }
    ray.add_with("dagster-stop-3", "SUCCEEDED", 0, &[]);
    add(&ray, "dagster-run-r", "d", "r", &[]);
    // The kill job that runs is needed while its target is live.
    let live = rule(&[("r", RunState::Live, None)]);
    assert_eq!(names(&run(&ray, &live), Outcome::Removed), ["dagster-stop-2"]);
    ray.stop_many(&["dagster-run-r".to_owned()]);
    assert_eq!(names(&run(&ray, &live), Outcome::Removed), ["dagster-stop-1"]);
    let left: Vec<_> = ray.list().expect("jobs").into_iter().filter_map(|job| job.submission_id).collect();
    assert_eq!(left, ["dagster-run-r", "dagster-stop-3"]);
}

fn command() -> WorkerCommand {
    WorkerCommand { argv: vec!["dagster".to_owned()], payload: None, env: Vec::new() }
}

fn step_spec(attempt: u32) -> StepSpec {
    StepSpec {
        deployment: "d".to_owned(),
        run_id: "r".to_owned(),
        step_key: "s".to_owned(),
        attempt,
        job_name: "j".to_owned(),
        code_location: None,
        command: command(),
        tags: Vec::new(),
        options: "{}".to_owned(),
    }
}

fn run_spec(attempt: u32) -> RunSpec {
    RunSpec {
        deployment: "d".to_owned(),
        run_id: "r".to_owned(),
        attempt,
        job_name: "j".to_owned(),
        code_location: None,
        command: command(),
        tags: Vec::new(),
        options: "{}".to_owned(),
    }
}

#[test]
fn a_later_attempt_of_a_step_stops_what_earlier_attempts_left() {
    let executor = Executor::new(FakeRay::default(), VirtualClock::default(), Patience::default());
    let ray = &executor.jobs;
    add(ray, "script-0", "d", "r", &step("s", "0"));
    add(ray, "script-1", "d", "r", &step("s", "1"));
    add(ray, "script-of-t", "d", "r", &step("t", "0"));
    add(ray, "script-of-q", "d", "q", &step("s", "0"));
    add(ray, "of-another", "other", "r", &step("s", "0"));
    executor.launch(&step_spec(0)).expect("a placement");
    assert_eq!(ray.live().len(), 6);
    executor.launch(&step_spec(1)).expect("a placement");
    // A repeated launch keeps the script of its own attempt.
    executor.launch(&step_spec(1)).expect("a placement");
    assert_eq!(ray.live(), ["dagster-step-r-s-1", "of-another", "script-1", "script-of-q", "script-of-t"]);
}

#[test]
fn a_new_worker_of_the_same_attempt_stops_the_scripts_of_the_killed_one() {
    let executor = Executor::new(FakeRay::default(), VirtualClock::default(), Patience::default());
    let ray = &executor.jobs;
    executor.launch(&step_spec(0)).expect("a placement");
    add(ray, "script-0", "d", "r", &step("s", "0"));
    ray.stop_many(&["dagster-step-r-s".to_owned()]);
    executor.launch(&step_spec(0)).expect("a placement");
    assert_eq!(ray.live(), ["dagster-step-r-s-again1"]);
}

#[test]
fn a_resumed_run_stops_the_scripts_of_its_earlier_workers_before_its_new_worker_starts() {
    let launcher = Launcher::new(FakeRay::default(), VirtualClock::default(), Patience::default());
    let ray = &launcher.jobs;
    for (id, run_id, worker) in [
        ("of-first", "r", "dagster-run-r"),
        ("of-second", "r", "dagster-run-r-1"),
        ("of-step", "r", "dagster-step-r-s"),
        ("of-other", "q", "dagster-run-q"),
    ] {
        add(
            ray,
            id,
            "d",
            run_id,
            &[("dagster/op", "s"), ("dagster-ray/attempt", "0"), ("dagster-ray/worker", worker)],
        );
    }
    add(ray, "of-another", "other", "r", &[("dagster-ray/worker", "dagster-run-r")]);
    launcher.launch(&run_spec(0)).expect("a reference");
    assert!(!ray.calls().contains(&"list".to_owned()));
    launcher.launch(&run_spec(2)).expect("a reference");
    assert_eq!(ray.live(), ["dagster-run-r", "dagster-run-r-2", "of-another", "of-other", "of-step"]);
    let calls = ray.calls();
    let at = |start: &str| calls.iter().position(|call| call.starts_with(start)).expect("a call");
    assert!(at("stop of-first") < at("submit dagster-run-r-2"), "{calls:?}");
}

#[test]
fn terminating_a_run_stops_the_jobs_that_its_killed_worker_left() {
    let launcher = Launcher::new(FakeRay::default(), VirtualClock::default(), Patience::default());
    let ray = &launcher.jobs;
    let launched = launcher.launch(&run_spec(0)).expect("a reference");
    add(ray, "step", "d", "r", &step("s", "0"));
    add(ray, "of-another", "other", "r", &step("s", "0"));
    add(ray, "step-of-q", "d", "q", &step("s", "0"));
    let listener = RecordingListener::default();
    launcher.terminate(&launched, &listener).expect("an end");
    assert_eq!(ray.live(), ["of-another", "step-of-q"]);
    // The component does not know the deployment of a run without a job in Ray. The adapter reconciles it.
    let missing = RunRef { run_id: "q".to_owned(), attempt: 0, job: JobRef::new("dagster-run-q") };
    launcher.terminate(&missing, &listener).expect("an end");
    assert_eq!(ray.live(), ["of-another", "step-of-q"]);
}
