"""`RayRunLauncher` in a real deployment with run monitoring; runs are launched through GraphQL."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterEventType, DagsterRun, DagsterRunStatus
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.test_utils import create_run_for_test
from dagster_ray.errors import NotFoundError
from dagster_ray.launcher import RUN_REF_TAG
from deployment import LOCATION, Deployment
from fault_proxy import FaultProxy
from processes import command_lines, kill, wait_for
from ray_head import RayHead

# Quotes and commands, which neither a shell nor YAML may interpret.
PLANET = 'Mars\' "moon" $(touch injected) `touch injected`; touch injected'


@pytest.fixture(scope="module")
def front(ray_head: RayHead) -> Iterator[FaultProxy]:
    proxy = FaultProxy(ray_head.url)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def deployment(front: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    root = tmp_path_factory.mktemp("it's a place; touch injected") / "$(touch injected) x"
    root.mkdir()
    launcher = {
        "module": "dagster_ray",
        "class": "RayRunLauncher",
        "config": {
            "ray": {
                "address": front.url,
                "env_vars": [f"PLANET={PLANET}"],
                "metadata": {"build": "'123'"},
                "num_cpus": 1,
            }
        },
    }
    deployment = Deployment(
        root,
        {
            "telemetry": {"enabled": False},
            "run_launcher": launcher,
            "run_queue": {"max_concurrent_runs": 10},
            "run_monitoring": {
                "enabled": True,
                "poll_interval_seconds": 2,
                "max_resume_run_attempts": 1,
                "start_timeout_seconds": 300,
                "cancel_timeout_seconds": 300,
            },
        },
    )
    yield deployment
    deployment.stop()
    assert not list(root.rglob("injected")), "a shell has interpreted an argument"


def _marks(deployment: Deployment, name: str) -> Path:
    marks = deployment.root / name
    marks.mkdir()
    return marks


def test_a_run_is_launched_as_one_ray_job_and_succeeds(
    deployment: Deployment, ray_head: RayHead, front: FaultProxy
) -> None:
    marks = _marks(deployment, "success")
    front.reset()
    run_id = deployment.launch(
        "succeeds",
        {"works": {"config": {"marks": str(marks)}}},
        {"dagster-ray/config": json.dumps({"num_cpus": 0, "num_gpus": 0.5})},
    )
    deployment.wait_until(run_id, DagsterRunStatus.SUCCESS)

    # Quotes and shell expansions reach the worker unchanged.
    assert (marks / "worked").read_text() == f"succeeds {PLANET}"

    name = f"dagster-run-{run_id}"
    [job] = ray_head.jobs(run_id).values()
    assert job["submission_id"] == name
    storage_id = deployment.instance.run_storage.get_run_storage_id()  # type: ignore[attr-defined]
    assert job["metadata"]["dagster-ray/deployment"] == storage_id
    assert job["metadata"]["dagster/job"] == "succeeds"
    assert job["metadata"]["dagster/code-location"] == LOCATION
    assert job["metadata"]["build"] == "'123'"
    # The instance reference holds dagster.yaml, which Ray's list of jobs must not show.
    assert "instance_ref" not in job["entrypoint"]
    assert "run_launcher" not in job["entrypoint"]
    # The tag overrides the configuration field by field, also with 0.
    [submit] = front.recorded("POST", "/api/jobs/")
    assert not json.loads(submit.body).get("entrypoint_num_cpus")
    assert json.loads(submit.body)["entrypoint_num_gpus"] == 0.5
    # The session, which the reference names.
    assert len(front.recorded("GET", "/api/version")) == 1
    # Ray's default of three seconds is too short for a worker to stop its steps.
    assert int(job["runtime_env"]["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) >= 30

    run = deployment.instance.get_run_by_id(run_id)
    assert run and json.loads(run.tags[RUN_REF_TAG])["job"]["submission_id"] == name
    engine = deployment.instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT)
    [created] = [e.dagster_event for e in engine if "Ray run job created" in e.message]
    assert created
    assert created.engine_event_data.metadata["Ray Dashboard"].value == f"{front.url}/#/jobs/{name}"


def test_launch_is_idempotent_when_the_response_is_lost(
    deployment: Deployment, ray_head: RayHead, front: FaultProxy
) -> None:
    """Two launches of one run create one job, even if the first response is lost."""
    marks = _marks(deployment, "twice")
    with front.inject("POST", "/api/jobs/", "lost", times=1) as fault:
        run_id = deployment.launch(
            "survives", {"waits_for_word": {"config": {"marks": str(marks)}}}
        )
        deployment.wait_until(run_id, DagsterRunStatus.STARTED)
    assert fault.hits == 1
    launcher = deployment.instance.run_launcher
    run = deployment.instance.get_run_by_id(run_id)
    assert run
    launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    assert [n for n in ray_head.jobs(run_id) if n.startswith("dagster-run-")] == [
        f"dagster-run-{run_id}"
    ]

    # Errors of the dashboard do not prove that the worker is dead.
    with front.inject("GET", "/api/jobs/.*", 500):
        health = launcher.check_run_worker_health(run)
        assert (health.status, health.transient) == (WorkerStatus.RUNNING, True)
        # The daemon's run monitoring checks the run several times in these seconds.
        time.sleep(6)
    assert deployment.status(run_id) == DagsterRunStatus.STARTED
    assert not any("Resuming" in message for message in deployment.messages(run_id))

    (marks / "go").touch()
    deployment.wait_until(run_id, DagsterRunStatus.SUCCESS)


def test_a_failed_run_is_not_resumed(deployment: Deployment, ray_head: RayHead) -> None:
    run_id = deployment.launch("fails")
    deployment.wait_until(run_id, DagsterRunStatus.FAILURE)
    [failure] = deployment.instance.all_logs(run_id, of_type=DagsterEventType.STEP_FAILURE)
    assert failure.dagster_event
    error = failure.dagster_event.step_failure_data.error
    assert error and "this run cannot do it" in error.to_string()
    assert len(ray_head.jobs(run_id)) == 1, "a failed run is not a dead worker"


def test_debug_info_does_not_list_all_jobs(proxy: FaultProxy, home) -> None:
    """The debug info of one run needs no request for all jobs of Ray."""
    config = {"address": proxy.url}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    instance = home({"run_launcher": launcher})
    run = create_run_for_test(instance)
    try:
        debug = instance.run_launcher.get_run_worker_debug_info(run)
    except NotFoundError as error:
        debug = str(error)
    assert debug and f"dagster-run-{run.run_id}" in debug
    assert proxy.recorded("GET", f"/api/jobs/dagster-run-{run.run_id}")
    assert not proxy.recorded("GET", "/api/jobs/")


def test_terminating_a_run_stops_its_steps_after_their_cleanup(
    deployment: Deployment, ray_head: RayHead
) -> None:
    """The Ray jobs of run and steps are stopped, and the ops have time to clean up."""
    marks = _marks(deployment, "terminated")
    config = {"config": {"marks": str(marks)}}
    names = {"one", "two", "beside"}
    run_id = deployment.launch("long", dict.fromkeys(names, config))
    wait_for("all steps", lambda: len(list(marks.glob("*.started"))) == 3, 90)
    deployment.terminate(run_id)
    deployment.wait_until(run_id, DagsterRunStatus.CANCELED, 60)
    jobs = ray_head.jobs(run_id)
    assert len(jobs) == 3
    assert {job["status"] for job in jobs.values()} <= {"STOPPED", "FAILED", "SUCCEEDED"}
    assert {path.stem for path in marks.glob("*.cleaned")} == names


def test_a_run_with_enabled_false_uses_dagsters_default_launcher(
    deployment: Deployment, ray_head: RayHead
) -> None:
    """Only its steps are Ray jobs. Its health can be checked, and it can be terminated."""
    marks = _marks(deployment, "off-ray")
    tags = {"dagster-ray/config": json.dumps({"enabled": False})}
    config = {"config": {"marks": str(marks)}}
    run_id = deployment.launch("succeeds", {"works": config}, tags)
    deployment.wait_until(run_id, DagsterRunStatus.SUCCESS)
    assert (marks / "worked").read_text() == " ", "the launcher's variables are not set"
    assert not ray_head.jobs(run_id)

    run_id = deployment.launch("survives", {"waits_for_word": config}, tags)
    wait_for("the step", lambda: (marks / "starts").exists(), 90)
    [step] = ray_head.jobs(run_id)
    assert step.startswith("dagster-step-")
    run = deployment.instance.get_run_by_id(run_id)
    assert run
    health = deployment.instance.run_launcher.check_run_worker_health(run)
    assert health.status == WorkerStatus.RUNNING
    deployment.terminate(run_id)
    deployment.wait_until(run_id, DagsterRunStatus.CANCELED, 60)
    assert ray_head.jobs(run_id)[step]["status"] in ("STOPPED", "FAILED")


def test_a_tag_with_an_invalid_enabled_value_fails_the_run(
    deployment: Deployment, ray_head: RayHead
) -> None:
    run_id = deployment.launch("fails", tags={"dagster-ray/config": '{"enabled": "no"}'})
    deployment.wait_until(run_id, DagsterRunStatus.FAILURE)
    log = "\n".join(entry.to_json() for entry in deployment.instance.all_logs(run_id))
    assert "dagster-ray/config.enabled" in log and "write true or false" in log
    assert not ray_head.jobs(run_id)


def test_terminating_a_run_kills_its_pending_job(deployment: Deployment, ray_head: RayHead) -> None:
    """The run is canceled, and its job cannot start later."""
    tag = json.dumps({"num_cpus": 1000})
    run_id = deployment.launch("fails", tags={"dagster-ray/config": tag})
    name = f"dagster-run-{run_id}"
    wait_for("the job", lambda: name in ray_head.jobs(run_id), 30)
    # Dagster's GraphQL API would only mark a run that is still starting.
    assert deployment.instance.run_launcher.terminate(run_id)
    assert deployment.status(run_id) == DagsterRunStatus.CANCELED
    assert ray_head.jobs(run_id).get(name, {"status": "STOPPED"})["status"] in ("STOPPED", "FAILED")


def test_a_run_is_resumed_after_its_worker_is_killed(
    deployment: Deployment, ray_head: RayHead
) -> None:
    marks = _marks(deployment, "resumed")
    run_id = deployment.launch("survives", {"waits_for_word": {"config": {"marks": str(marks)}}})
    wait_for("the step", lambda: (marks / "starts").exists(), 90)
    workers = [
        pid for pid, line in command_lines().items() if "api execute_run" in line and run_id in line
    ]
    assert workers, "the run worker"
    for worker in workers:
        kill(worker)
    resumed = f"dagster-run-{run_id}-1"
    wait_for("the second worker", lambda: resumed in ray_head.jobs(run_id), 90)
    wait_for(
        "the second worker's start", lambda: ray_head.jobs(run_id)[resumed]["status"] == "RUNNING"
    )
    taken_over = "Checking on status of in-progress step"
    wait_for(
        "the second worker's look at the step",
        lambda: any(taken_over in message for message in deployment.messages(run_id)),
        90,
    )
    (marks / "go").touch()
    deployment.wait_until(run_id, DagsterRunStatus.SUCCESS)
    # The step of the killed worker kept running and was not started again.
    assert (marks / "starts").read_text() == "x"
    steps = [name for name in ray_head.jobs(run_id) if name.startswith("dagster-step-")]
    assert len(steps) == 1


def test_a_run_that_was_given_up_is_stopped_at_the_next_contact(
    home, ray_head: RayHead, front: FaultProxy
) -> None:
    from ray.job_submission import JobSubmissionClient

    config = {"address": front.url, "unreachable_timeout": 1}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    instance = home({"run_launcher": launcher})
    lost, other = (create_run_for_test(instance, status=DagsterRunStatus.STARTED) for _ in range(2))
    job = f"dagster-run-{lost.run_id}"
    submission = {"entrypoint": "sleep 600", "submission_id": job, "runtime_env": {}}
    token = {"Authorization": f"Bearer {ray_head.token}"}
    JobSubmissionClient(ray_head.url, headers=token).submit_job(**submission)
    wait_for("the job", lambda: ray_head.jobs()[job]["status"] == "RUNNING", 60)

    def check(run: DagsterRun) -> WorkerStatus:
        return instance.run_launcher.check_run_worker_health(run).status

    with front.inject("GET", ".*", 503):
        wait_for("the end of the patience", lambda: check(lost) == WorkerStatus.UNKNOWN, 30)
    assert ray_head.jobs()[job]["status"] == "RUNNING"

    def is_stopped() -> bool:
        # Ray answers the check of another run.
        check(other)
        return ray_head.jobs()[job]["status"] == "STOPPED"

    wait_for("the end of the job", is_stopped, 90)
