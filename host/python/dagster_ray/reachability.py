"""How long checks of Ray's jobs may fail before the jobs count as lost."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from dagster_ray.circuit_breaker import CircuitBreaker
from dagster_ray.errors import DagsterRayError

T = TypeVar("T")

Report = Callable[[str], object]
"""Receives the message of an event that the user sees."""

# A check is added to the time that is expected between two checks.
_CHECK_SECONDS = 60.0
# One failure, or two that happen to be far apart, do not make an outage.
_MIN_CHECKS = 3


@dataclass(frozen=True)
class Outage:
    """A period in which every check of Ray's jobs failed."""

    seconds: float
    """The time between the first and the latest failed check."""
    is_final: bool
    """Whether it has exceeded `unreachable_timeout`."""
    error: str
    """The error of the latest check."""

    def __str__(self) -> str:
        return f"Ray's jobs could not be checked for {self.seconds:.0f} s: {self.error}"


@dataclass
class _Failures:
    """Failed checks in a row. Times are those of the clock."""

    began: float
    """When the outage was reported."""
    first: float
    """The first check without a gap before the latest one."""
    latest: float
    count: int = 1


class Reachability:
    """Measures outages of Ray, and reports the beginning and the end of each. Thread-safe.

    A failed check does not prove that a worker is dead, and a second worker must not run beside it.
    So a worker counts as lost only after `unreachable_timeout` (seconds). The reason of the failure
    does not matter: an unreachable dashboard, a rejected token and a trap are treated alike. Only
    time counts in which checks were made: a gap, in which this process was suspended or busy, is
    no evidence, and the measurement begins again after it.

    One instance belongs to one address of Ray, whose circuit breaker it has.
    """

    def __init__(
        self,
        unreachable_timeout: float,
        *,
        interval: float,
        breaker: CircuitBreaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`interval` is the expected time between two checks, in seconds."""
        self._timeout = unreachable_timeout
        self._interval = interval
        self._breaker = breaker or CircuitBreaker(clock=clock)
        self._clock = clock
        # By what was checked.
        self._failures: dict[str, _Failures] = {}
        self._lock = threading.Lock()

    def expect(self, interval: float) -> None:
        """Sets the expected time between two checks, in seconds."""
        self._interval = interval

    def check(self, check: Callable[[], T]) -> T:
        """Makes a check, unless the address cannot be reached and was tried shortly before."""
        return self._breaker.call(check)

    def failed(self, error: DagsterRayError, report: Report, checked: str = "") -> Outage:
        """Records that a check failed, and reports an outage that begins. Returns the outage."""
        at = self._breaker.time_of(error)
        with self._lock:
            failures = self._failures.get(checked)
            began = failures is None
            if failures is None:
                failures = self._failures[checked] = _Failures(self._clock(), at, at)
            elif at > failures.latest:
                if at - failures.latest > 2 * self._interval + _CHECK_SECONDS:
                    failures.first, failures.count = at, 0
                failures.latest = at
                failures.count += 1
            seconds = failures.latest - failures.first
            is_final = failures.count >= _MIN_CHECKS and seconds >= self._timeout
        if began:
            report(
                "Ray's jobs cannot be checked, so they count as running for at least "
                f"{self._timeout:g} s: {error}"
            )
        return Outage(seconds, is_final, str(error))

    def is_alive(self, checked: str) -> None:
        """Records that a worker is known to run, although it cannot be checked."""
        with self._lock:
            failures = self._failures.get(checked)
            if failures is not None:
                failures.first, failures.count = failures.latest, 1

    def succeeded(self, report: Report, checked: str = "") -> None:
        """Records that Ray has answered, and reports the end of an outage."""
        self._breaker.close()
        with self._lock:
            failures = self._failures.pop(checked, None)
        if failures is not None:
            seconds = self._clock() - failures.began
            report(f"Ray's jobs can be checked again, after {seconds:.0f} s.")

    def forget(self, checked: str) -> None:
        """Ends the measurement for a worker that was given up."""
        with self._lock:
            self._failures.pop(checked, None)


__all__ = ["Outage", "Reachability", "Report"]
