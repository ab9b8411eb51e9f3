"""How long checks of Ray's jobs may fail before the jobs count as lost."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dagster_ray.errors import DagsterRayError

_DEFAULT_TIMEOUT_SECONDS = 600.0

Report = Callable[[str], object]
"""Receives the message of an event that the user sees."""


@dataclass(frozen=True)
class Outage:
    """A period in which every check of Ray's jobs failed."""

    seconds: float
    """Its duration so far."""
    is_final: bool
    """Whether it has exceeded `unreachable_timeout`."""
    error: str
    """The error of the latest check."""

    def __str__(self) -> str:
        return f"Ray's jobs could not be checked for {self.seconds:.0f} s: {self.error}"


class Reachability:
    """Measures outages of Ray, and reports the beginning and the end of each. Thread-safe.

    A failed check does not prove that a worker is dead, and a second worker must not run beside it.
    So a worker counts as lost only after `unreachable_timeout` (seconds). The reason of the failure
    does not matter: an unreachable dashboard, a rejected token and a trap are treated alike.
    """

    def __init__(self, unreachable_timeout: float | None) -> None:
        self._timeout = (
            _DEFAULT_TIMEOUT_SECONDS if unreachable_timeout is None else unreachable_timeout
        )
        # When each outage began, in seconds of `time.monotonic`, by what was checked.
        self._since: dict[str, float] = {}
        self._lock = threading.Lock()

    def failed(self, error: DagsterRayError, report: Report, checked: str = "") -> Outage:
        """Records that a check failed, and reports an outage that begins. Returns the outage."""
        now = time.monotonic()
        with self._lock:
            began = checked not in self._since
            seconds = now - self._since.setdefault(checked, now)
        if began:
            report(
                "Ray's jobs cannot be checked, so they count as running for at most "
                f"{self._timeout:g} s: {error}"
            )
        return Outage(seconds, seconds >= self._timeout, str(error))

    def succeeded(self, report: Report, checked: str = "") -> None:
        """Records that a check succeeded, and reports the end of an outage."""
        with self._lock:
            since = self._since.pop(checked, None)
        if since is not None:
            report(f"Ray's jobs can be checked again, after {time.monotonic() - since:.0f} s.")


__all__ = ["Outage", "Reachability", "Report"]
