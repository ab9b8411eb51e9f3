"""Remembers Ray jobs that were given up, and stops them when Ray can be reached again."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dagster_ray.contract import PendingCall
from dagster_ray.errors import DagsterRayError

T = TypeVar("T")

# How long after the first answer of Ray a lost submission may still arrive. Ray's head waits up to
# a minute for an agent before it answers a submission.
_ARRIVAL_SECONDS = 90.0


@dataclass
class _Job(Generic[T]):
    """A job that was given up."""

    stop: Callable[[], PendingCall[T]]
    is_missing: Callable[[T], bool]
    report: Callable[[str], object]
    may_arrive: bool
    call: PendingCall[T] | None = None
    # When Ray first answered that it does not have the job.
    missing_since: float | None = None

    def start(self) -> None:
        try:
            self.call = self.stop()
        except DagsterRayError:
            # The component cannot be called. The next contact tries again.
            self.call = None


class GivenUpJobs:
    """Ray jobs that were given up without proof that they have ended. Thread-safe.

    Such a job may still run, or a lost submission may still arrive, and must not run beside its
    successor. Each contact with Ray stops the jobs in the background, until their ends are
    confirmed. The jobs are forgotten with the process.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[str, _Job[Any]] = {}

    def __len__(self) -> int:
        with self._lock:
            return len(self._jobs)

    def add(
        self,
        job: str,
        stop: Callable[[], PendingCall[T]],
        *,
        is_missing: Callable[[T], bool],
        report: Callable[[str], object],
        may_arrive: bool = False,
    ) -> None:
        """Remembers a job by its submission id. `stop` starts the call that stops it.

        With `may_arrive`, a job that Ray does not have is looked for again, because its submission
        may still be on its way.
        """
        with self._lock:
            self._jobs.setdefault(job, _Job(stop, is_missing, report, may_arrive))

    def contact(self) -> None:
        """Stops the jobs, because Ray has answered. Does not wait for their ends."""
        with self._lock:
            for name, job in list(self._jobs.items()):
                if job.call is None:
                    job.start()
                elif job.call.done():
                    self._end(name, job, job.call)

    def wait(self, seconds: float) -> None:
        """Stops the jobs, and waits at most `seconds` for their ends."""
        deadline = self._clock() + seconds
        # A call that is in progress may have begun before Ray could be reached.
        for _ in range(2):
            self.contact()
            with self._lock:
                calls = [job.call for job in self._jobs.values() if job.call is not None]
            for call in calls:
                try:
                    call.result(max(deadline - self._clock(), 0.1))
                except (DagsterRayError, TimeoutError):
                    continue
        self.contact()

    def _end(self, name: str, job: _Job[Any], call: PendingCall[Any]) -> None:
        job.call = None
        try:
            answer = call.result()
        except DagsterRayError:
            job.start()
            return
        if job.is_missing(answer):
            now = self._clock()
            if job.missing_since is None:
                job.missing_since = now
            if job.may_arrive and now - job.missing_since < _ARRIVAL_SECONDS:
                job.start()
                return
        else:
            job.report(f"The Ray job {name}, which had been given up, has been stopped.")
        del self._jobs[name]


__all__ = ["GivenUpJobs"]
