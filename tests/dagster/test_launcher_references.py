"""The reference to a run's Ray job: kept before the submission, valid for one run and one Ray."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext, ResumeRunContext, WorkerStatus
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.monitoring import RESUME_RUN_LOG_MESSAGE
from dagster_ray.deployment import deployment_id
from dagster_ray.launcher import RUN_REF_TAG, RayRunLauncher
from fault_proxy import FaultProxy
from processes import wait_for
from ray_head import RayHead

JOBS = Path(__file__).parent / "code/steps.py"


@pytest.fixture
def instance(home) -> dg.DagsterInstance:
    return home({})


def _launcher(instance: dg.DagsterInstance, address: str) -> RayRunLauncher:
    """Returns a launcher as a new daemon would load it."""
    # Ray does not have so many CPUs: the jobs stay pending, and no worker changes the run.
    launcher = RayRunLauncher(address=address, num_cpus=1000)
    launcher.register_instance(instance)
    return launcher


def _run(instance: dg.DagsterInstance, tags: Mapping[str, str] | None = None) -> dg.DagsterRun:
    return create_run_for_test(
        instance,
        job_name="single",
        job_code_origin=ReconstructableJob.for_file(str(JOBS), "single").get_python_origin(),
        status=dg.DagsterRunStatus.STARTED,
        tags=tags,
    )


def _launch(launcher: RayRunLauncher, run: dg.DagsterRun) -> None:
    launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))


def _tag(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, Any]:
    current = instance.get_run_by_id(run.run_id)
    assert current
    return json.loads(current.tags[RUN_REF_TAG])


def _messages(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    return [entry.message for entry in instance.all_logs(run.run_id)]


def test_terminating_a_run_without_a_job_stops_the_steps_of_this_deployment(
    instance: dg.DagsterInstance, ray_head: RayHead
) -> None:
    run = _run(instance)
    launcher = _launcher(instance, ray_head.url)
    names = [f"dagster-step-{run.run_id}-{key}" for key in ("ours", "another")]
    for name, deployment in zip(names, (deployment_id(instance), "another"), strict=True):
        metadata = {"dagster/run-id": run.run_id, "dagster-ray/deployment": deployment}
        ray_head.submit({"entrypoint": "sleep 600", "submission_id": name, "metadata": metadata})
    jobs = ray_head.jobs
    wait_for("both jobs", lambda: all(jobs()[name]["status"] == "RUNNING" for name in names), 60)
    assert launcher.terminate(run.run_id)
    assert [jobs()[name]["status"] for name in names] == ["STOPPED", "RUNNING"]
    ended = instance.get_run_by_id(run.run_id)
    assert ended and ended.status == dg.DagsterRunStatus.CANCELED
    ray_head.stop_job(names[1])


class Killed(BaseException):
    """Ends the launch as a SIGKILL of the daemon would."""


def _fail_after_submission(
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    head: RayHead,
    job: str,
    error: BaseException,
) -> None:
    """Lets the first change of a run's tags after the submission of the job fail."""
    add = instance.add_run_tags

    def add_or_fail(run_id: str, new_tags: Mapping[str, str]) -> None:
        if job in head.jobs():
            monkeypatch.undo()
            raise error
        add(run_id, new_tags)

    monkeypatch.setattr(instance, "add_run_tags", add_or_fail)


def test_a_daemon_killed_between_submission_and_tag_starts_no_second_worker(
    instance: dg.DagsterInstance, ray_head: RayHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher, run = _launcher(instance, ray_head.url), _run(instance)
    first, second = f"dagster-run-{run.run_id}", f"dagster-run-{run.run_id}-1"
    _launch(launcher, run)
    # The first worker dies.
    launcher.backend.call("launcher.terminate", {"run": _tag(instance, run)})
    assert launcher.check_run_worker_health(run).status == WorkerStatus.FAILED

    instance.report_engine_event(RESUME_RUN_LOG_MESSAGE, run)
    resume = ResumeRunContext(dagster_run=run, workspace=None, resume_attempt_number=1)
    _fail_after_submission(instance, monkeypatch, ray_head, second, Killed())
    with pytest.raises(Killed):
        launcher.resume_run(resume)

    restarted = _launcher(instance, ray_head.url)
    health = restarted.check_run_worker_health(run)
    assert (health.status, health.run_worker_id) == (WorkerStatus.RUNNING, second)
    restarted.resume_run(resume)
    assert set(ray_head.jobs(run.run_id)) == {first, second}
    assert restarted.terminate(run.run_id)
    assert ray_head.jobs(run.run_id)[second]["status"] in ("STOPPED", "FAILED")


def test_an_error_after_the_submission_does_not_fail_the_launch(
    instance: dg.DagsterInstance, ray_head: RayHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher, run = _launcher(instance, ray_head.url), _run(instance)
    job = f"dagster-run-{run.run_id}"
    _fail_after_submission(instance, monkeypatch, ray_head, job, OSError("the database is away"))
    _launch(launcher, run)
    assert any("could not be stored" in message for message in _messages(instance, run))
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
    assert launcher.terminate(run.run_id)


def test_a_retry_is_judged_and_terminated_by_its_own_job(
    instance: dg.DagsterInstance, ray_head: RayHead
) -> None:
    """Dagster copies the tags of a run into its automatic retries and re-executions."""
    launcher, parent = _launcher(instance, ray_head.url), _run(instance)
    _launch(launcher, parent)
    job = _tag(instance, parent)["job"]["submission_id"]
    retry = _run(instance, {RUN_REF_TAG: json.dumps(_tag(instance, parent))})

    health = launcher.check_run_worker_health(retry)
    assert health.run_worker_id == f"dagster-run-{retry.run_id}"
    assert launcher.terminate(retry.run_id)
    assert ray_head.jobs()[job]["status"] == "PENDING"
    assert launcher.terminate(parent.run_id)


@pytest.mark.nightly
def test_a_job_that_another_session_does_not_have_counts_as_running_for_some_time(
    instance: dg.DagsterInstance, ray_head: RayHead, unwatched_ray_head: RayHead
) -> None:
    """A second worker must not start while the first one may run without its head."""
    os.environ.update(ray_head.environment)
    with FaultProxy.start(ray_head.url) as front:
        run = _run(instance)
        _launch(_launcher(instance, front.url), run)
        session = ray_head.request("/api/version")["session_name"]
        assert json.loads(_tag(instance, run)["job"]["details"]) == {"session": session}

        # The head restarts at its address, without persistence.
        front.redirect(unwatched_ray_head.url)
        os.environ.update(unwatched_ray_head.environment)
        daemon = _launcher(instance, front.url)
        for _ in range(3):
            health = daemon.check_run_worker_health(run)
            assert health.status == WorkerStatus.RUNNING
            assert session in str(health.msg)
        assert len([one for one in _messages(instance, run) if "restarted" in one]) == 1

        # The address of the configuration changes to that of another Ray.
        moved = _launcher(instance, unwatched_ray_head.url)
        health = moved.check_run_worker_health(run)
        assert health.status == WorkerStatus.RUNNING
        assert front.url in str(health.msg)
        assert moved.terminate(run.run_id) is False
        assert any("could not be stopped" in message for message in _messages(instance, run))

        # It changes to another address of the same Ray.
        os.environ.update(ray_head.environment)
        direct = _launcher(instance, ray_head.url)
        assert direct.check_run_worker_health(run).status == WorkerStatus.RUNNING
        assert direct.terminate(run.run_id)
        name = f"dagster-run-{run.run_id}"
        wait_for("the end of the job", lambda: ray_head.jobs()[name]["status"] != "PENDING", 30)
        ray_head.request(f"/api/jobs/{name}", "DELETE")
        assert direct.check_run_worker_health(run).status == WorkerStatus.NOT_FOUND
