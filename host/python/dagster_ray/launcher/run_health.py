"""Checks the workers of runs, and decides when a worker that cannot be checked is given up."""

from collections.abc import Callable

import dagster as dg

from dagster_ray.backend import Backend
from dagster_ray.contract import JobStatus, LauncherClient, RunRef
from dagster_ray.dagster_internals import CheckRunHealthResult, WorkerStatus
from dagster_ray.errors import DagsterRayError
from dagster_ray.missing_jobs import MissingJobs
from dagster_ray.patience import check_limit, unreachable_seconds
from dagster_ray.reachability import Reachability

# How many of a run's latest records are searched for one that its worker wrote.
_RECENT_RECORDS = 50
# Dagster's default of `run_monitoring.poll_interval_seconds`.
_INTERVAL_SECONDS = 120.0


class RunHealth:
    """Checks the workers of runs. Thread-safe."""

    def __init__(self, backend: Backend, component: LauncherClient) -> None:
        self._given_up = backend.given_up
        self._component = component
        self._limit = check_limit(backend.config)
        self._missing = MissingJobs()
        self._reachability = Reachability(
            unreachable_seconds(backend.config), interval=_INTERVAL_SECONDS
        )
        # By run, the storage id of the latest record that its worker wrote. Only for runs that
        # cannot be checked.
        self._written: dict[str, int] = {}

    def check(
        self, instance: dg.DagsterInstance, run: dg.DagsterRun, locate: Callable[[], RunRef | None]
    ) -> JobStatus | CheckRunHealthResult | None:
        """Returns the status of a run's job, or the health of a run that cannot be checked.

        `locate` returns the reference of the run's job, or `None` if Ray does not execute the run.
        Then this function returns `None`, too.
        """
        self._reachability.expect(instance.run_monitoring_poll_interval_seconds)

        def report(message: str) -> None:
            instance.report_engine_event(message, run, cls=type(instance.run_launcher))

        ref: RunRef | None = None
        try:
            ref = locate()
            if ref is None:
                return None
            refs = [ref]
            [status] = self._reachability.check(
                lambda: self._component.check(refs, timeout=self._limit)
            )
        except DagsterRayError as error:
            return self._unreachable(instance, run, ref, error, report)
        self._reachability.succeeded(report, _key(run, ref))
        self._written.pop(run.run_id, None)
        self._given_up.contact()
        return self._missing.settle(status, report)

    def _unreachable(
        self,
        instance: dg.DagsterInstance,
        run: dg.DagsterRun,
        ref: RunRef | None,
        error: DagsterRayError,
        report: Callable[[str], object],
    ) -> CheckRunHealthResult:
        key = _key(run, ref)
        submission_id = None if ref is None else ref["job"]["submission_id"]
        outage = self._reachability.failed(error, report, key)
        if self._has_written(instance, run.run_id):
            self._reachability.is_alive(key)
        elif outage.is_final:
            # The run may have ended since the caller read it.
            current = instance.get_run_by_id(run.run_id)
            if current is not None and current.is_finished:
                return CheckRunHealthResult(WorkerStatus.SUCCESS, run_worker_id=submission_id)
            self._give_up(key, ref, report)
            return CheckRunHealthResult(
                WorkerStatus.UNKNOWN, str(outage), run_worker_id=submission_id
            )
        return CheckRunHealthResult(
            WorkerStatus.RUNNING, str(outage), transient=True, run_worker_id=submission_id
        )

    def _give_up(self, key: str, ref: RunRef | None, report: Callable[[str], object]) -> None:
        # A resumed run has another job, whose outage is measured anew.
        self._reachability.forget(key)
        self._written.pop(key if ref is None else ref["run_id"], None)
        if ref is None:
            return
        self._given_up.add(
            ref["job"]["submission_id"],
            lambda: self._component.start_terminate(ref),
            is_missing=lambda termination: termination == "missing",
            report=report,
        )

    def _has_written(self, instance: dg.DagsterInstance, run_id: str) -> bool:
        """Whether the run's workers have written to the event log since the last failed check."""
        recent = instance.get_records_for_run(run_id, limit=_RECENT_RECORDS, ascending=False)
        # Launcher and daemon write engine events.
        written = [
            record.storage_id
            for record in recent.records
            if not (event := record.event_log_entry.dagster_event) or not event.is_engine_event
        ]
        latest = max(written, default=0)
        known = self._written.setdefault(run_id, latest)
        self._written[run_id] = max(known, latest)
        return latest > known


def _key(run: dg.DagsterRun, ref: RunRef | None) -> str:
    """Returns what an outage is measured for: one worker of a run."""
    return run.run_id if ref is None else ref["job"]["submission_id"]


__all__ = ["RunHealth"]
