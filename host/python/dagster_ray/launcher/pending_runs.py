"""Reports why launched runs have not started, in their event logs."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import dagster as dg

from dagster_ray.contract import JobStatus, RunRef
from dagster_ray.errors import DagsterRayError
from dagster_ray.pending import PendingReason

_INTERVAL_SECONDS = 10.0
# A run that is resumed has started, and its new worker can be pending.
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]

_logger = logging.getLogger("dagster_ray")


@dataclass
class _PendingRun:
    run: dg.DagsterRun
    ref: RunRef
    reason: PendingReason = field(default_factory=PendingReason)


class PendingRuns:
    """Checks the runs that this process launched until their workers start.

    Dagster checks only runs that have started. A run can be queued in Kubernetes for hours, and its
    user has to see why before a timeout ends it. The thread ends when no run is pending.
    """

    def __init__(
        self,
        check: Callable[[list[RunRef]], list[JobStatus]],
        report: Callable[[dg.DagsterRun, str, RunRef], None],
    ) -> None:
        self._check = check
        self._report = report
        # By run id.
        self._pending: dict[str, _PendingRun] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def add(self, instance: dg.DagsterInstance, run: dg.DagsterRun, ref: RunRef) -> None:
        """Reports why a launched run is pending until it starts."""
        with self._lock:
            self._pending[run.run_id] = _PendingRun(run, ref)
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(
                    target=self._run,
                    args=(instance,),
                    name="dagster-ray-pending-runs",
                    daemon=True,
                )
                self._thread.start()

    def stop(self) -> None:
        """Stops the thread without waiting for it."""
        self._stopped.set()

    def _run(self, instance: dg.DagsterInstance) -> None:
        while not self._stopped.wait(_INTERVAL_SECONDS):
            with self._lock:
                pending = dict(self._pending)
                if not pending:
                    self._thread = None
                    return
            try:
                self._forget_finished(instance, pending)
                self._report_reasons(list(pending.values()))
            except DagsterRayError as error:
                # Ray may be unreachable for a time. The next check tries again.
                _logger.debug("pending runs were not checked: %s", error)
            except Exception:
                # The instance may have been disposed, or its storage may be down.
                _logger.warning("pending runs were not checked", exc_info=True)

    def _forget_finished(
        self, instance: dg.DagsterInstance, pending: dict[str, _PendingRun]
    ) -> None:
        filters = dg.RunsFilter(run_ids=list(pending), statuses=_UNFINISHED)
        unfinished = set(instance.get_run_ids(filters))
        for run_id in [run_id for run_id in pending if run_id not in unfinished]:
            del pending[run_id]
            self._forget(run_id)

    def _report_reasons(self, pending: list[_PendingRun]) -> None:
        if not pending:
            return
        statuses = self._check([one.ref for one in pending])
        for one, status in zip(pending, statuses, strict=True):
            reason = one.reason.changed(status)
            if reason is not None:
                self._report(one.run, f"The Ray job is pending: {reason}", one.ref)
            if status["state"] == "running" or status["ended"]:
                self._forget(one.run.run_id)

    def _forget(self, run_id: str) -> None:
        with self._lock:
            self._pending.pop(run_id, None)


__all__ = ["PendingRuns"]
