"""How long Ray may be unreachable before its jobs count as lost."""

import threading
import time
from dataclasses import dataclass

_DEFAULT_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class Outage:
    """A period in which Ray could not be reached."""

    seconds: float
    """Its duration so far."""
    began: bool
    """Whether this failure is its first."""
    is_final: bool
    """Whether it has exceeded `unreachable_timeout`."""

    def __str__(self) -> str:
        return f"Ray has been unreachable for {self.seconds:.0f} s"


class Reachability:
    """Measures outages of Ray. Thread-safe.

    An unreachable dashboard does not prove that a worker is dead, and a second worker must not run
    beside it. So a worker counts as lost only after `unreachable_timeout` (seconds).
    """

    def __init__(self, unreachable_timeout: float | None) -> None:
        self._timeout = (
            _DEFAULT_TIMEOUT_SECONDS if unreachable_timeout is None else unreachable_timeout
        )
        # When each outage began, in seconds of `time.monotonic`, by what was checked.
        self._since: dict[str, float] = {}
        self._lock = threading.Lock()

    def failed(self, checked: str = "") -> Outage:
        """Records that a check failed because Ray is unreachable. Returns the outage."""
        now = time.monotonic()
        with self._lock:
            began = checked not in self._since
            seconds = now - self._since.setdefault(checked, now)
        return Outage(seconds, began, seconds >= self._timeout)

    def succeeded(self, checked: str = "") -> None:
        """Records that a check succeeded."""
        with self._lock:
            self._since.pop(checked, None)


__all__ = ["Outage", "Reachability"]
