"""The run launcher when no Ray listens at its address. Needs no Ray."""

import json
import socket
import time
from collections.abc import Sequence
from typing import Any

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.monitoring import RESUME_RUN_LOG_MESSAGE
from dagster_ray.contract import JobStatus, LauncherClient, RunPlacement, RunRef, RunSpec
from dagster_ray.errors import (
    BackendError,
    ComponentTrap,
    InvalidConfigError,
    UnavailableError,
)
from dagster_ray.launcher import RUN_REF_TAG, RayRunLauncher
from processes import free_port, wait_for


@pytest.fixture
def instance(home) -> dg.DagsterInstance:
    launcher = {
        "module": "dagster_ray",
        "class": "RayRunLauncher",
        "config": {
            "address": f"http://127.0.0.1:{free_port()}",
            "unreachable_timeout": 3,
            "backend_config": {"patience": {"request_seconds": 0.5}},
        },
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

    def is_given_up() -> bool:
        health = instance.run_launcher.check_run_worker_health(run)
        return health.status == WorkerStatus.UNKNOWN

    began = time.monotonic()
    wait_for("the end of the patience", is_given_up, 20)
    assert time.monotonic() - began > 2.5


def test_a_run_that_ended_during_an_outage_is_not_given_up(instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    instance.run_launcher.check_run_worker_health(run)
    success = dg.DagsterEventType.RUN_SUCCESS.value
    instance.report_dagster_event(dg.DagsterEvent(success, job_name=run.job_name), run.run_id)

    def verdict() -> WorkerStatus | None:
        status = instance.run_launcher.check_run_worker_health(run).status
        return None if status == WorkerStatus.RUNNING else status

    assert wait_for("a verdict", verdict, 30) == WorkerStatus.SUCCESS


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
        "missing_after_ms": None,
    }

    def check(self: LauncherClient, runs: Sequence[RunRef], **options: Any) -> list[JobStatus]:
        if errors:
            raise errors.pop(0)
        return [status]

    monkeypatch.setattr(LauncherClient, "check", check)
    messages: list[str] = []

    def has_ended() -> bool:
        health = instance.run_launcher.check_run_worker_health(run)
        assert health.status == WorkerStatus.RUNNING
        messages[:] = [entry.message for entry in instance.all_logs(run.run_id)]
        return any("checked again" in message for message in messages)

    wait_for("the end of the outage", has_ended, 20)
    began, ended = [message for message in messages if "be checked" in message]
    assert "Ray's jobs cannot be checked" in began and "it crashed" in began
    assert "Ray's jobs can be checked again" in ended


def test_a_run_counts_as_running_while_its_job_cannot_be_named(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(self: LauncherClient, run: RunSpec, **options: Any) -> RunPlacement:
        raise ComponentTrap("it crashed")

    monkeypatch.setattr(LauncherClient, "plan", plan)
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


def _submission_id(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    launcher = instance.run_launcher
    assert isinstance(launcher, RayRunLauncher)
    ref = launcher._reference(run)
    assert ref
    return ref["job"]["submission_id"]


def _reference_tag(run_id: str, attempt: int) -> dict[str, str]:
    ref = {"run_id": run_id, "attempt": attempt, "job": {"submission_id": "kept"}}
    return {RUN_REF_TAG: json.dumps(ref)}


def test_the_reference_in_the_tag_counts_for_its_run_and_attempt_only(
    instance: dg.DagsterInstance,
) -> None:
    run = create_run_for_test(instance)
    assert _submission_id(instance, run) == f"dagster-run-{run.run_id}"
    for tag, expected in [
        (_reference_tag(run.run_id, 0), "kept"),
        (_reference_tag(run.run_id, 1), f"dagster-run-{run.run_id}"),
        (_reference_tag("another run", 0), f"dagster-run-{run.run_id}"),
    ]:
        instance.add_run_tags(run.run_id, tag)
        assert _submission_id(instance, run) == expected
    instance.report_engine_event(RESUME_RUN_LOG_MESSAGE, run)
    assert _submission_id(instance, run) == f"dagster-run-{run.run_id}-1"


@pytest.mark.parametrize("tag", ["", "[]", "{}", '{"run_id": "r", "attempt": 0, "job": "j"}'])
def test_a_malformed_reference_is_reported_once_and_ignored(
    instance: dg.DagsterInstance, tag: str
) -> None:
    run = create_run_for_test(instance, tags={RUN_REF_TAG: tag})
    for _ in range(3):
        assert _submission_id(instance, run) == f"dagster-run-{run.run_id}"
    [message] = [entry.message for entry in instance.all_logs(run.run_id)]
    assert RUN_REF_TAG in message and "is ignored" in message


def test_a_job_counts_as_missing_after_the_time_of_the_component(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    name = f"dagster-run-{run.run_id}"
    doubtful: JobStatus = {
        "submission_id": name,
        "state": "unknown",
        "ended": False,
        "message": "the head was restarted",
        "error_type": None,
        "exit_code": None,
        "missing_after_ms": 500,
    }
    found: list[JobStatus] = []

    def check(self: LauncherClient, runs: Sequence[RunRef], **options: Any) -> list[JobStatus]:
        return [found[0]]

    def health() -> WorkerStatus:
        return instance.run_launcher.check_run_worker_health(run).status

    monkeypatch.setattr(LauncherClient, "check", check)
    found[:] = [doubtful]
    assert health() == WorkerStatus.RUNNING
    time.sleep(0.6)
    # The job is found again: its head was only unreachable behind another one.
    found[:] = [{**doubtful, "state": "running", "missing_after_ms": None}]
    assert health() == WorkerStatus.RUNNING
    found[:] = [doubtful]
    assert health() == WorkerStatus.RUNNING
    time.sleep(0.6)
    assert health() == WorkerStatus.NOT_FOUND
    messages = [entry.message for entry in instance.all_logs(run.run_id)]
    assert len([message for message in messages if "the head was restarted" in message]) == 2


def test_the_error_for_a_wrong_address_scheme_names_the_scheme(home) -> None:
    config = {"address": "ftp://head:8265"}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    instance = home({"run_launcher": launcher})
    run = create_run_for_test(instance)
    with pytest.raises(InvalidConfigError, match="ftp"):
        instance.run_launcher.get_run_worker_debug_info(run)


class Silent:
    """A listener that never answers, as a host behind a firewall that drops packets."""

    def __init__(self, *, accepts: bool) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64 if accepts else 0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._fillers: list[socket.socket] = []
        while not accepts and self._connects():
            assert len(self._fillers) < 100, "the backlog does not fill"

    def _connects(self) -> bool:
        filler = socket.socket()
        self._fillers.append(filler)
        filler.settimeout(0.5)
        return filler.connect_ex(self._listener.getsockname()) == 0

    def connections(self) -> int:
        """Accepts and counts the connections so far."""
        self._listener.setblocking(False)
        count = 0
        while True:
            try:
                self._fillers.append(self._listener.accept()[0])
            except BlockingIOError:
                return count
            count += 1

    def close(self) -> None:
        for one in [self._listener, *self._fillers]:
            one.close()


@pytest.mark.parametrize("accepts", [True, False])
def test_checks_of_many_runs_wait_once_for_a_listener_that_never_answers(
    home, accepts: bool
) -> None:
    silent = Silent(accepts=accepts)
    patience = {"check_seconds": 2, "connect_seconds": 1}
    launcher = {
        "module": "dagster_ray",
        "class": "RayRunLauncher",
        "config": {"address": silent.url, "backend_config": {"patience": patience}},
    }
    instance = home({"run_launcher": launcher})
    runs = [create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED) for _ in range(10)]
    began = time.monotonic()
    healths = [instance.run_launcher.check_run_worker_health(run) for run in runs]
    # Ten checks of two seconds each would take 20 s.
    assert time.monotonic() - began < 15
    messages = {health.msg for health in healths}
    assert all(health.status == WorkerStatus.RUNNING for health in healths)
    # The runs after a failed check have its error, which names the job of the checked run. On a
    # slow machine, the backoff passes before the last run.
    assert len(messages) <= 4, messages
    expected = "timed out while waiting for the response" if accepts else "the connection timed out"
    assert all(expected in str(message) and silent.url in str(message) for message in messages)
    if accepts:
        assert silent.connections() == len(messages)
    silent.close()
