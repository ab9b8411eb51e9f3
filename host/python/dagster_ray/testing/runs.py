"""Runs that are launched through the run launcher and have their own run worker."""

import time
from collections.abc import Callable

import dagster as dg

from dagster_ray.dagster_internals import LaunchRunContext, ReconstructableJob, WorkerStatus
from dagster_ray.errors import CallTimeoutError
from dagster_ray.testing.results import Result

_POLL_SECONDS = 0.1
_HEALTH_SECONDS = 0.5
_LOST = {WorkerStatus.FAILED, WorkerStatus.NOT_FOUND, WorkerStatus.UNKNOWN}


class LaunchedRun:
    """A run that `RayRunLauncher` has launched."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        job: ReconstructableJob,
        run: dg.DagsterRun,
        settle: Callable[[str], None],
    ) -> None:
        self._instance = instance
        self._job = job
        self._settle = settle
        self.run_id = run.run_id
        instance.report_engine_event("Launching the run for a test.", run)
        instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))

    @property
    def run(self) -> dg.DagsterRun:
        """The current state of the run."""
        run = self._instance.get_run_by_id(self.run_id)
        if run is None:
            raise LookupError(f"the Dagster instance has no run {self.run_id}")
        return run

    def wait(self, timeout: float = 120.0) -> Result:
        """Waits at most `timeout` real seconds for the run's end, and monitors the run worker."""
        deadline = time.monotonic() + timeout
        check_at = time.monotonic() + _HEALTH_SECONDS
        while not self.run.is_finished:
            now = time.monotonic()
            if now >= deadline:
                raise CallTimeoutError(
                    f"the run {self.run_id} has not ended within {timeout:.0f} s: "
                    f"{Result(self._instance, self._job, self.run)!r}"
                )
            if now >= check_at:
                check_at = now + _HEALTH_SECONDS
                self._check()
            time.sleep(_POLL_SECONDS)
        self._settle(self.run_id)
        return Result(self._instance, self._job, self.run)

    def wait_for_step(self, key: str, timeout: float = 120.0) -> None:
        """Waits at most `timeout` real seconds until a step has begun."""
        deadline = time.monotonic() + timeout
        while not self._has_begun(key):
            if self.run.is_finished or time.monotonic() >= deadline:
                raise CallTimeoutError(
                    f"the step {key} has not begun: {Result(self._instance, self._job, self.run)!r}"
                )
            time.sleep(_POLL_SECONDS)

    def terminate(self) -> Result:
        """Terminates the run as Dagster's UI does, and waits until it has ended."""
        self._instance.run_launcher.terminate(self.run_id)
        return self.wait()

    def _has_begun(self, key: str) -> bool:
        started = self._instance.all_logs(self.run_id, of_type=dg.DagsterEventType.STEP_START)
        return any(entry.step_key == key for entry in started)

    def _check(self) -> None:
        health = self._instance.run_launcher.check_run_worker_health(self.run)
        run = self.run
        if health.status in _LOST and not run.is_finished:
            self._instance.report_run_failed(run, health.msg)
