"""The run launcher when no Ray listens at its address. Needs no Ray."""

import time
from collections.abc import Sequence
from typing import Any

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._core.test_utils import create_run_for_test
from dagster_ray.contract import JobStatus, LauncherClient, RunRef
from dagster_ray.errors import BackendError, ComponentTrap, InvalidConfigError, UnavailableError
from dagster_ray.launcher import RUN_REF_TAG, RayRunLauncher
from processes import free_port


@pytest.fixture
def instance(home) -> dg.DagsterInstance:
    launcher = {
        "module": "dagster_ray",
        "class": "RayRunLauncher",
        "config": {"address": f"http://127.0.0.1:{free_port()}", "unreachable_timeout": 3},
    }
    return home({"run_launcher": launcher})


def test_the_error_for_an_unreachable_ray_contains_the_address(
    instance: dg.DagsterInstance,
) -> None:
    launcher = instance.run_launcher
    assert isinstance(launcher, RayRunLauncher)
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    with pytest.raises(UnavailableError) as raised:
        launcher.backend.call("launcher.check", {"runs": [launcher._reference(run)]})
    assert launcher.backend.url in str(raised.value)


def test_health_is_running_until_the_unreachable_timeout(instance: dg.DagsterInstance) -> None:
    """A second worker beside a live one is worse than waiting for the dashboard."""
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    health = instance.run_launcher.check_run_worker_health(run)
    assert health.status == WorkerStatus.RUNNING
    assert health.transient
    time.sleep(3)
    health = instance.run_launcher.check_run_worker_health(run)
    assert health.status == WorkerStatus.UNKNOWN


def test_failed_checks_of_a_run_are_one_event_at_the_beginning_and_one_at_the_end(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    errors = [ComponentTrap("it crashed"), BackendError("answered 401"), UnavailableError("reset")]
    status: JobStatus = {
        "submission_id": f"dagster-run-{run.run_id}",
        "state": "running",
        "ended": False,
        "message": None,
        "error_type": None,
        "exit_code": None,
    }

    def check(self: LauncherClient, runs: Sequence[RunRef], **options: Any) -> list[JobStatus]:
        if errors:
            raise errors.pop(0)
        return [status]

    monkeypatch.setattr(LauncherClient, "check", check)
    for _ in range(5):
        health = instance.run_launcher.check_run_worker_health(run)
        assert health.status == WorkerStatus.RUNNING
    messages = [entry.message for entry in instance.all_logs(run.run_id)]
    began, ended = [message for message in messages if "be checked" in message]
    assert "Ray's jobs cannot be checked" in began and "it crashed" in began
    assert "Ray's jobs can be checked again" in ended


def test_a_run_counts_as_running_while_its_job_cannot_be_named(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locate(self: LauncherClient, run_id: str, attempt: int, **options: Any) -> RunRef:
        raise ComponentTrap("it crashed")

    monkeypatch.setattr(LauncherClient, "locate", locate)
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    health = instance.run_launcher.check_run_worker_health(run)
    assert health.status == WorkerStatus.RUNNING
    assert "it crashed" in str(health.msg)


def test_a_run_that_cannot_be_stopped_stays_canceling(instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    assert instance.run_launcher.terminate(run.run_id) is False
    after = instance.get_run_by_id(run.run_id)
    assert after and after.status == dg.DagsterRunStatus.CANCELING
    assert any("could not be stopped" in entry.message for entry in instance.all_logs(run.run_id))


def test_terminating_an_ended_or_unknown_run_returns_false(instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.SUCCESS)
    assert instance.run_launcher.terminate(run.run_id) is False
    assert instance.run_launcher.terminate("no such run") is False


def test_the_job_reference_is_read_from_the_runs_tag(instance: dg.DagsterInstance) -> None:
    tag = '{"run_id": "r", "attempt": 2, "job": {"submission_id": "kept"}}'
    run = create_run_for_test(instance, tags={RUN_REF_TAG: tag})
    bare = create_run_for_test(instance)
    launcher = instance.run_launcher
    assert isinstance(launcher, RayRunLauncher)
    assert launcher._reference(run)["job"]["submission_id"] == "kept"
    assert launcher._reference(bare)["job"]["submission_id"] == f"dagster-run-{bare.run_id}"


def test_the_error_for_a_wrong_address_scheme_names_the_scheme(home) -> None:
    config = {"address": "ftp://head:8265"}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    instance = home({"run_launcher": launcher})
    run = create_run_for_test(instance)
    with pytest.raises(InvalidConfigError, match="ftp"):
        instance.run_launcher.get_run_worker_debug_info(run)
