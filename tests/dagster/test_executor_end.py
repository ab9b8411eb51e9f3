"""What the executor stops and releases when a run ends, with the simulated backend."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._utils.interrupts import capture_interrupts
from dagster_ray.contract import ExecutorClient
from dagster_ray.errors import UnavailableError
from dagster_ray.executor.step_handler import RayStepHandler
from dagster_ray.testing import SimulatedRay
from dagster_ray.testing.code import load_job
from processes import wait_for

CODE = Path(__file__).parent / "code/runs.py"
LAUNCHER = {"module": "dagster_ray", "class": "RayRunLauncher", "config": {}}


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the ids of the runs whose shared resources were released."""
    runs: list[str] = []

    def finish(self: ExecutorClient, run_id: str, options: str, tags: Any, **more: Any) -> None:
        runs.append(run_id)

    monkeypatch.setattr(ExecutorClient, "finish", finish)
    return runs


def _execute(instance: dg.DagsterInstance, marks: Path, *, terminate: bool) -> None:
    """Executes a run whose step waits, and sends this process SIGTERM once the step runs."""

    def interrupt() -> None:
        wait_for("the step", (marks / "starts").exists, 90)
        os.kill(os.getpid(), signal.SIGTERM)

    if terminate:
        threading.Thread(target=interrupt, daemon=True).start()
    job, _ = load_job(CODE, "survives")
    config = {"ops": {"waits_for_word": {"config": {"marks": str(marks)}}}}
    try:
        with capture_interrupts():
            dg.execute_job(job, instance, config, raise_on_error=False)
    except DagsterExecutionInterruptedError:
        assert terminate


def _running(ray: SimulatedRay) -> list[str]:
    return [job.submission_id for job in ray.jobs if job.state in ("pending", "running")]


@pytest.mark.parametrize("stops", [True, False])
def test_an_interrupted_run_releases_what_its_steps_shared(
    simulated_ray: SimulatedRay,
    home,
    finished: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stops: bool,
) -> None:
    if not stops:
        # A step that could not be stopped ends with the cluster that it shares.
        def stop_all(self: RayStepHandler, instance: dg.DagsterInstance, run_id: str) -> list[str]:
            raise UnavailableError("the dashboard is unreachable")

        monkeypatch.setattr(RayStepHandler, "stop_all", stop_all)
    _execute(home({"run_launcher": LAUNCHER}), tmp_path, terminate=True)
    assert len(finished) == 1
    assert bool(_running(simulated_ray)) is not stops
    (tmp_path / "go").touch()


def test_a_run_that_fails_by_an_exception_releases_what_its_steps_shared(
    simulated_ray: SimulatedRay,
    home,
    finished: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launch_step = RayStepHandler.launch_step

    def launch_and_raise(self: RayStepHandler, context: Any) -> None:
        list(launch_step(self, context))
        raise RuntimeError("a defect")

    monkeypatch.setattr(RayStepHandler, "launch_step", launch_and_raise)
    _execute(home({"run_launcher": LAUNCHER}), tmp_path, terminate=False)
    assert len(finished) == 1
    assert not _running(simulated_ray)


def test_an_interrupted_run_that_will_be_resumed_keeps_its_steps_and_what_they_share(
    simulated_ray: SimulatedRay, home, finished: list[str], tmp_path: Path
) -> None:
    monitoring = {"enabled": True, "max_resume_run_attempts": 1}
    instance = home({"run_launcher": LAUNCHER, "run_monitoring": monitoring})
    _execute(instance, tmp_path, terminate=True)
    assert not finished
    assert len(_running(simulated_ray)) == 1
    (tmp_path / "go").touch()
    wait_for("the end of the step", lambda: not _running(simulated_ray), 60)
