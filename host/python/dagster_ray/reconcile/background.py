"""Reconciles in background threads of a process that launches or monitors runs."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from dagster import DagsterInstance

from dagster_ray import _library
from dagster_ray.backend import Backend
from dagster_ray.errors import DagsterRayError, UnsupportedError
from dagster_ray.reconcile.reconciliation import describe, reconcile, reconcile_run

_library.register()

# The first launches of a daemon that has just started come first.
_DELAY_SECONDS = 60.0
# Dagster marks a run as failed right after the check that found its worker dead.
_END_SECONDS = 60.0
_POLL_SECONDS = 1.0

_Target = Callable[..., None]

logger = logging.getLogger("dagster_ray")


class Launcher(Protocol):
    """The run launcher of a Dagster instance."""

    @property
    def instance(self) -> DagsterInstance:
        """The Dagster instance."""
        ...

    @property
    def backend(self) -> Backend:
        """The component that launches runs."""
        ...


class BackgroundReconciliation:
    """The reconciliation of a run launcher. Only `stop_run` waits for Ray."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._has_begun = False
        # The runs whose end a thread awaits.
        self._awaited: set[str] = set()

    def begin(self) -> None:
        """Reconciles once in this process, some time after its first launch or health check."""
        with self._lock:
            if self._has_begun or self._closed.is_set():
                return
            self._has_begun = True
        self._start(self._reconcile)

    def await_end(self, run_id: str) -> None:
        """Stops what a run left whose worker is dead, once Dagster has marked the run as ended."""
        with self._lock:
            if run_id in self._awaited or self._closed.is_set():
                return
            self._awaited.add(run_id)
        self._start(self._reconcile_run, run_id)

    def stop_run(self, run_id: str) -> None:
        """Stops what a run that has ended left, and waits for it. Problems are logged."""
        self._guarded(self._stop_leftovers, run_id)

    def close(self) -> None:
        """Ends the threads that wait."""
        self._closed.set()

    def _start(self, target: _Target, *arguments: str) -> None:
        threading.Thread(
            target=self._guarded,
            args=(target, *arguments),
            name="dagster-ray-reconcile",
            daemon=True,
        ).start()

    def _guarded(self, target: _Target, *arguments: str) -> None:
        try:
            target(*arguments)
        except UnsupportedError:
            logger.debug("the backend does not export `reconciler`")
        except DagsterRayError as error:
            logger.warning(f"What ended runs left on Ray could not be removed: {error}")
        except Exception:
            logger.exception("What ended runs left on Ray could not be removed")

    def _reconcile(self) -> None:
        if self._closed.wait(_DELAY_SECONDS):
            return
        instance = self._launcher.instance
        for leftover in reconcile(instance, self._launcher.backend):
            if leftover["outcome"] != "not-owned":
                logger.info(describe(leftover))

    def _reconcile_run(self, run_id: str) -> None:
        try:
            if self._has_ended(run_id):
                self._stop_leftovers(run_id)
        finally:
            with self._lock:
                self._awaited.discard(run_id)

    def _stop_leftovers(self, run_id: str) -> None:
        instance = self._launcher.instance
        for leftover in reconcile_run(instance, self._launcher.backend, run_id):
            logger.info(describe(leftover))

    def _has_ended(self, run_id: str) -> bool:
        """Waits until a run has ended. Returns `False` if it has not, as when it is resumed."""
        deadline = time.monotonic() + _END_SECONDS
        while not self._closed.wait(_POLL_SECONDS) and time.monotonic() < deadline:
            run = self._launcher.instance.get_run_by_id(run_id)
            if run is None or run.is_finished:
                return run is not None
        return False


__all__ = ["BackgroundReconciliation"]
