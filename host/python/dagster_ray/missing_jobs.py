"""When a job that Ray does not have counts as missing."""

import threading
import time

from dagster_ray.contract import JobStatus
from dagster_ray.reachability import Report


class MissingJobs:
    """Measures for how long jobs may be missing, and reports the beginning. Thread-safe.

    A component reports such a job as unknown, and says how long its worker can still run
    (`missing_after_ms`). The component keeps no state, so the time is measured here. It starts
    again in a new process, which only makes the wait longer.
    """

    def __init__(self) -> None:
        # Since when each job may be missing, in seconds of `time.monotonic`, by submission id.
        self._since: dict[str, float] = {}
        self._lock = threading.Lock()

    def settle(self, status: JobStatus, report: Report) -> JobStatus:
        """Returns a job's status, as missing if it may be missing for long enough."""
        job, after_ms = status["submission_id"], status["missing_after_ms"]
        now = time.monotonic()
        with self._lock:
            if after_ms is None:
                self._since.pop(job, None)
                return status
            began = job not in self._since
            since = self._since.setdefault(job, now)
        if began:
            report(f"{status['message']}. The job counts as running for {after_ms / 1000:g} s.")
        if now - since < after_ms / 1000:
            return status
        return {**status, "state": "missing", "ended": True}


__all__ = ["MissingJobs"]
