"""Runs that go the whole way: through the run launcher, to a worker of their own."""

import time
from collections.abc import Callable

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext, WorkerStatus

from dagster_ray.errors import CallTimeoutError
from dagster_ray.testing.results import Result

_LOOK_SECONDS = 0.1
_HEALTH_SECONDS = 0.5
_LOST = {WorkerStatus.FAILED, WorkerStatus.NOT_FOUND, WorkerStatus.UNKNOWN}


class LaunchedRun:
    """A run that a `RayRunLauncher` has launched."""

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
        """The run as it is now."""
        run = self._instance.get_run_by_id(self.run_id)
        if run is None:
            raise LookupError(f"Dagster no longer knows the run {self.run_id}")
        return run

    def wait(self, timeout: float = 120.0) -> Result:
        """Waits for its end, in real seconds, and looks after its worker as the daemon does."""
        deadline = time.monotonic() + timeout
        look_at = time.monotonic() + _HEALTH_SECONDS
        while not self.run.is_finished:
            now = time.monotonic()
            if now >= deadline:
                raise CallTimeoutError(
                    f"the run {self.run_id} has not ended within {timeout:.0f} s: "
                    f"{Result(self._instance, self._job, self.run)!r}"
                )
            if now >= look_at:
                look_at = now + _HEALTH_SECONDS
                self._check()
            time.sleep(_LOOK_SECONDS)
        self._settle(self.run_id)
        return Result(self._instance, self._job, self.run)

    def wait_for_step(self, key: str, timeout: float = 120.0) -> None:
        """Waits until a step has begun, in real seconds."""
        deadline = time.monotonic() + timeout
        while not self._has_begun(key):
            if self.run.is_finished or time.monotonic() >= deadline:
                raise CallTimeoutError(
                    f"the step {key} has not begun: {Result(self._instance, self._job, self.run)!r}"
                )
            time.sleep(_LOOK_SECONDS)

    def terminate(self) -> Result:
        """Stops it, as a person does in Dagster, and returns once it has ended."""
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
