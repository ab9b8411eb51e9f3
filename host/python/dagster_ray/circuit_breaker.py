"""Limits how often checks try to reach an address of Ray that does not answer."""

import copy
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from dagster_ray import ray_access
from dagster_ray.errors import CallTimeoutError, DagsterRayError, UnavailableError

T = TypeVar("T")

_MAX_BACKOFF_SECONDS = 30.0
# The longest wait that a service can ask for, as the default of `patience.retry_after_seconds`.
_MAX_RETRY_AFTER_SECONDS = 60.0


class CircuitBreaker:
    """Answers checks of one address without a request, while the address cannot be reached.

    After a failed check, further checks raise the same error at once, until a backoff has passed.
    Then one check at a time probes the address. The backoff doubles with each failed probe, up to
    30 s, and half of it is random. It is at least as long as the service asks for, up to 60 s. A
    check that Ray answers with an error does not count as failed: such an answer takes no time.
    Thread-safe.
    """

    def __init__(
        self,
        first_seconds: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`jitter` returns a number from 0 to 1."""
        self._first_seconds = (
            ray_access.current().check_backoff_seconds if first_seconds is None else first_seconds
        )
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        self._error: DagsterRayError | None = None
        self._failed_at = 0.0
        self._failures = 0
        self._retry_at = 0.0
        self._is_probing = False

    @staticmethod
    def counts(error: DagsterRayError) -> bool:
        """Whether an error means that the address cannot be reached."""
        return isinstance(error, UnavailableError | CallTimeoutError)

    def time_of(self, error: DagsterRayError) -> float:
        """Returns when the check ended whose error this is, by the breaker's clock."""
        with self._lock:
            is_known = self._error is not None and self.counts(error)
            return self._failed_at if is_known else self._clock()

    def call(self, check: Callable[[], T]) -> T:
        """Makes a check and returns its result, or raises the error of an earlier one."""
        known = self._begin()
        if known is not None:
            # Each raise adds to the traceback of its exception.
            raise copy.copy(known)
        try:
            result = check()
        except DagsterRayError as error:
            self._end(error if self.counts(error) else None)
            raise
        except BaseException:
            # An interrupt says nothing about the address.
            self._is_probing = False
            raise
        self._end(None)
        return result

    def close(self) -> None:
        """Records that the address has answered, also to another request than a check."""
        with self._lock:
            self._error = None
            self._failures = 0

    def _begin(self) -> DagsterRayError | None:
        with self._lock:
            if self._error is not None and (self._is_probing or self._clock() < self._retry_at):
                return self._error
            self._is_probing = True
            return None

    def _end(self, error: DagsterRayError | None) -> None:
        with self._lock:
            self._is_probing = False
            self._error = error
            if error is None:
                self._failures = 0
                return
            longest = min(self._first_seconds * 2.0**self._failures, _MAX_BACKOFF_SECONDS)
            self._failures = min(self._failures + 1, 32)
            self._failed_at = self._clock()
            backoff = longest / 2 * (1 + self._jitter())
            asked = error.retry_after if isinstance(error, UnavailableError) else None
            self._retry_at = self._failed_at + max(
                backoff, min(asked or 0.0, _MAX_RETRY_AFTER_SECONDS)
            )


__all__ = ["CircuitBreaker"]
