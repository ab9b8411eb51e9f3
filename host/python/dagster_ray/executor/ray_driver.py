"""Connects the process that executes a run to the Ray that executes its steps as tasks."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, cast
from urllib.parse import urlsplit

from dagster_ray import ray_access
from dagster_ray.address import CLIENT_PORT, known_address
from dagster_ray.backend import Backend
from dagster_ray.errors import InvalidConfigError, UnavailableError, UnsupportedError
from dagster_ray.ray_access import in_ray_job
from dagster_ray.ray_connection import CONNECT_SECONDS

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class RayDriver:
    """The connection of this process to Ray, while the context is open.

    A run worker in Ray uses the Ray of its own job. Any other process uses the configured Ray. A
    connection that this process already has is used, and is not closed.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._connected = False

    def __enter__(self) -> "RayDriver":
        # Without an address, the component starts Ray when it launches the first task.
        if in_ray_job() or self._url() is None or self._backend.address is not None:
            self.connect()
        return self

    def connect(self) -> None:
        """Connects this process, unless it is connected. Thread-safe."""
        import ray

        with self._lock:
            if self._connected or ray.is_initialized():
                return
            address = None if in_ray_job() else self._address()
            with _own_signal_handlers():
                try:
                    ray_access.current().connect(lambda: address, seconds=CONNECT_SECONDS)
                except (ConnectionError, RuntimeError, ValueError) as error:
                    raise UnavailableError(
                        "isolation: this process could not connect to "
                        f"{address or 'the Ray of its job'} to execute steps as Ray tasks: {error}."
                        " Launch the run with RayRunLauncher, or set `isolation: job`."
                    ) from error
            self._connected = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import ray

        if self._connected:
            with _own_signal_handlers():
                cast(Any, ray).shutdown()

    def _url(self) -> str | None:
        try:
            return self._backend.url
        except UnsupportedError:
            return None

    def _address(self) -> str:
        """Returns the address of the Ray that a process outside Ray's jobs connects to."""
        url, written = self._url(), self._backend.address
        if url is None:
            backend = self._backend.config.backend
            raise _invalid("backend", f"`{backend}` has no Ray outside the clusters that it makes")
        if written is not None and not written.lower().startswith(("http://", "https://")):
            return written
        found = _on_this_machine(url)
        if found is not None:
            return found
        if written is None:
            raise UnavailableError(
                f"isolation: no Ray on this machine has the dashboard {url}. Launch the run with "
                "RayRunLauncher, or set `isolation: job`."
            )
        _, origin = known_address(self._backend.config.address) or (written, "address")
        raise _invalid(origin, f"`{written}` accepts only jobs from this machine")


def _on_this_machine(url: str) -> str | None:
    """Returns the GCS address of the Ray on this machine whose dashboard has a URL."""
    from ray._private import services
    from ray.dashboard.utils import ray_address_to_api_server_url

    # `find_gcs_addresses` would not find a Ray that was started after its first call.
    addresses: set[str] = cast(Any, services)._find_address_from_flag("--gcs-address")
    for address in addresses:
        # It may be another user's Ray, or one that is ending.
        with suppress(Exception):
            if _authority(ray_address_to_api_server_url(address)) == _authority(url):
                return address
    return None


def _authority(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    return "localhost" if parts.hostname in _LOOPBACK else parts.hostname, parts.port


def _invalid(origin: str, problem: str) -> InvalidConfigError:
    problem += ", and this process is not in a Ray job"
    hint = (
        "launch the run with RayRunLauncher, or write the address as "
        f"ray://<head>:{CLIENT_PORT}, or set `isolation: job`"
    )
    return InvalidConfigError(
        f"isolation: {origin} {problem}; {hint}",
        fields=[{"path": origin, "problem": problem, "hint": hint}],
    )


@contextmanager
def _own_signal_handlers() -> Generator[None]:
    """Restores Dagster's handler of SIGTERM, which `ray.init` replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


__all__ = ["RayDriver"]
