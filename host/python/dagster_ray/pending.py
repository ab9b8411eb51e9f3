"""When an event says why a job is pending."""

import time

from dagster_ray.contract import JobStatus

# Shorter waits are normal: a Ray cluster or a worker starts.
_PATIENCE_SECONDS = 15.0


class PendingReason:
    """Why a job is pending, as far as the user knows."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._reported: str | None = None

    def changed(self, status: JobStatus) -> str | None:
        """Returns the reason to report: that of a job that is pending for long, once each."""
        if status["state"] != "pending":
            self._since = self._reported = None
            return None
        now = time.monotonic()
        if self._since is None:
            self._since = now
        reason = status["message"]
        if now - self._since < _PATIENCE_SECONDS or reason in (None, self._reported):
            return None
        self._reported = reason
        return reason


__all__ = ["PendingReason"]
